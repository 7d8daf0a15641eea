"""``benchmark_latency`` as a person runs it: on real Bundles, by its exit codes and its JSON."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from simulators.jetson import Jetson

from couchside.benchmarks.errors import ExitCode
from couchside.benchmarks.latency import main
from couchside.benchmarks.machine.throttle import Throttling
from couchside.benchmarks.timing.session import judge_run
from couchside.benchmarks.timing.stopwatch import Samples
from couchside.device.bundle import FileRecord, open_bundle, write_manifest

SHORT = ("--warmup-ms", "0", "--iterations", "100", "--duration", "0", "--percentiles", "50,90")
FLAVOURS = ("litert-float", "litert-int8", "onnx-float", "onnx-int8")
GRAPHS = ("user_model", "text_encoder", "training_step")


def measured(capsys, *arguments):
    """The JSON document of a run that went well."""
    code = main([*map(str, arguments), *SHORT, "--json", "-"])
    printed = capsys.readouterr()
    assert code == ExitCode.OK, printed.err
    return json.loads(printed.out)


def refused(capsys, *arguments):
    """Exit code and message of a run that did not take place."""
    try:
        code = main([*map(str, arguments)])
    except SystemExit as wrong_flag:
        code = wrong_flag.code
    printed = capsys.readouterr()
    assert printed.out == ""
    return code, printed.err


def rewrite(bundle, name, change):
    """Change a file of a Bundle and its record, as a careful forger would."""
    opened = open_bundle(bundle)
    file = bundle / name
    file.write_bytes(change(file.read_bytes()))
    raw = file.read_bytes()
    record = FileRecord(len(raw), hashlib.sha256(raw).hexdigest())
    files = {**opened.manifest.files, name: record}
    write_manifest(bundle, replace(opened.manifest, files=files))


@pytest.fixture
def copy(tiny_bundle, tmp_path):
    """A Bundle to damage."""
    return shutil.copytree(tiny_bundle, tmp_path / "bundle")


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_every_graph_of_every_flavour_is_checked_and_timed(bundles, flavour, graph, capsys):
    document = measured(capsys, bundles / flavour, "--graph", graph)
    assert document["parity"]["checked"]
    assert document["parity"]["cosine"] > 0.99
    steady = document["latency_ms"]["steady"]
    assert steady["n"] == 100
    assert 0 < steady["min"] <= steady["percentiles"]["p50"] <= steady["percentiles"]["p90"]
    assert document["config"]["backend"] == open_bundle(bundles / flavour).runtime


def test_document_says_what_was_measured_where_and_how(tiny_bundle, capsys):
    document = measured(capsys, tiny_bundle, "--seed", "3")
    bundle = open_bundle(tiny_bundle)
    assert list(document) == [
        "schema",
        "kind",
        "artefact",
        "config",
        "parity",
        "latency_ms",
        "cpu_ms",
        "preemptions",
        "memory",
        "quality",
        "board",
        "throttle",
        "validity",
    ]
    assert document["schema"] == "couchside.bench/1"
    assert document["artefact"]["sha256"] == bundle.bundle_id
    assert document["artefact"]["flavour"] == bundle.flavour
    assert document["config"]["in_flight"] == 1
    assert document["config"]["gc"] == "disabled while timed"
    assert document["config"]["seed"] == 3
    assert document["quality"]["ndcg_at_10"] == bundle.manifest.quality.ndcg_at_10
    assert document["latency_ms"]["load"] > 0
    assert document["latency_ms"]["first"] > 0
    assert document["memory"]["rss_bytes"] >= document["memory"]["anonymous_bytes"] > 10**6
    assert document["validity"] == {"valid": True, "partial": False, "reasons": []}


def test_rank_scores_the_whole_table(tiny_bundle, capsys):
    document = measured(capsys, tiny_bundle, "--scenario", "rank", "--k", "10")
    assert document["config"]["titles"] == sum(1 for _ in open_bundle(tiny_bundle).titles())
    assert document["config"]["k"] == 10
    assert document["parity"]["graph"] == "user_model"


def test_person_reads_speed_quality_and_verdict_in_one_line(tiny_bundle, capsys):
    assert main([str(tiny_bundle), *SHORT]) == ExitCode.OK
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    quality = open_bundle(tiny_bundle).manifest.quality
    for part in ("p50 ", "n=100, 1 in flight", f"NDCG@10 {quality.ndcg_at_10:.4f}", "VALID"):
        assert part in line


def test_board_is_read_below_the_given_root(tiny_bundle, tmp_path, capsys):
    document = measured(capsys, tiny_bundle, "--sysfs-root", Jetson(tmp_path).root)
    assert document["board"]["power_mode"] == "2 MAXN_SUPER"
    assert document["throttle"]["verdict"] == "clean"


@pytest.mark.parametrize("flavour", ["litert-int8", "onnx-float"])
def test_bare_model_file_is_timed_but_not_checked(bundles, flavour, capsys):
    file = next((bundles / flavour).glob("text_encoder.*"))
    document = measured(capsys, file)
    assert document["parity"] == {"checked": False, "graph": "text_encoder", "cosine": None}
    assert document["artefact"]["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert document["latency_ms"]["steady"]["n"] == 100


def test_bare_model_file_says_that_its_answers_were_not_checked(bundles, capsys):
    main([str(bundles / "litert-int8" / "user_model.tflite"), *SHORT])
    assert "answers NOT checked" in capsys.readouterr().out


def test_wrong_golden_vector_is_not_timed(copy, capsys):
    answer = open_bundle(copy).manifest.tensors["golden/user_model/out/user"]
    end = answer.offset + 4 * int(np.prod(answer.shape))

    def negate(raw):
        wrong = -np.frombuffer(raw[answer.offset : end], dtype="<f4")
        return raw[: answer.offset] + wrong.tobytes() + raw[end:]

    rewrite(copy, answer.file, negate)
    code, message = refused(capsys, copy)
    assert code == ExitCode.USAGE
    assert "graph 'user_model' computes another 'user' than the lab" in message


def test_flipped_byte_is_named(copy, capsys):
    file = copy / "user_model.tflite"
    raw = bytearray(file.read_bytes())
    raw[1000] ^= 1
    file.write_bytes(raw)
    code, message = refused(capsys, copy)
    assert code == ExitCode.USAGE
    assert "user_model.tflite: its SHA-256 is not the manifest's" in message


def test_graph_without_golden_vectors_is_not_timed(copy, capsys):
    opened = open_bundle(copy)
    golden = tuple(entry for entry in opened.manifest.golden if entry.graph != "text_encoder")
    write_manifest(copy, replace(opened.manifest, golden=golden))
    code, message = refused(capsys, copy, "--graph", "text_encoder")
    assert code == ExitCode.USAGE
    assert "no golden vectors for text_encoder" in message


def test_draft_without_measured_quality_says_so(copy, capsys):
    write_manifest(copy, replace(open_bundle(copy).manifest, quality=None))
    assert main([str(copy), *SHORT]) == ExitCode.OK
    assert "quality never measured" in capsys.readouterr().out


MISSING = "raise ImportError('not on this TV')\n"
WITHOUT_TENSORRT = "def get_available_providers():\n    return ['CPUExecutionProvider']\n"


@pytest.mark.parametrize(
    ("flavour", "flags", "module", "content", "message"),
    [
        pytest.param(
            "litert-int8", (), "ai_edge_litert", MISSING, "couchside[litert]", id="no LiteRT"
        ),
        pytest.param(
            "onnx-int8", (), "onnxruntime", MISSING, "couchside[onnx]", id="no onnxruntime"
        ),
        pytest.param(
            "onnx-float",
            ("--backend", "tensorrt"),
            "onnxruntime",
            WITHOUT_TENSORRT,
            "no TensorRT provider",
            id="onnxruntime without TensorRT",
        ),
    ],
)
def test_missing_backend_is_told_with_its_remedy(
    bundles, tmp_path, monkeypatch, flavour, flags, module, content, message
):
    (tmp_path / f"{module}.py").write_text(content)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    command = [sys.executable, "-m", "couchside.benchmarks.latency", bundles / flavour, *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == ExitCode.UNAVAILABLE
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--iterations", "999"), "--iterations 999 can't carry p99"),
        (("--percentiles", "99.9"), "raise it to 10,000"),
        (("--percentiles", "ninety"), "--percentiles ninety"),
        (("--iterations", "0"), "--iterations must be at least 1"),
        (("--duration", "nan"), "--duration must be 0 or more"),
        (("--warmup-ms", "-1"), "--warmup-ms must be 0 or more"),
        (("--threads", "0"), "--threads must be from 1"),
        (("--k", "0"), "--k must be at least 1"),
        (("--seed", "-1"), "--seed must not be negative"),
        (("--backend", "onnxruntime"), "reads .onnx files, user_model.tflite is none"),
        (("--backend", "tensorrt"), "reads .onnx files"),
        (("--scenario", "rank", "--graph", "text_encoder"), "leave out --graph"),
        (("--json", "/nowhere/at/all.json"), "--json /nowhere/at/all.json"),
        (("--sysfs-root", "/nowhere"), "--sysfs-root /nowhere"),
        (("--quick",), "unrecognized arguments: --quick"),
        (("--graph", "poster"), "invalid choice: 'poster'"),
    ],
)
def test_wrong_flag_is_refused_before_anything_is_timed(tiny_bundle, capsys, flags, message):
    code, told = refused(capsys, tiny_bundle, *flags)
    assert code == ExitCode.USAGE
    assert message in told
    assert "timing at least" not in told


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "no such file or folder"),
        ("", "a Bundle is a folder with a manifest.json in it"),
        ("titles.txt", "model files end in .tflite or .onnx"),
        ("garbage.tflite", "garbage.tflite"),
        ("garbage.onnx", "garbage.onnx"),
    ],
)
def test_what_is_no_artefact_is_refused(tmp_path, capsys, name, message):
    for file in ("titles.txt", "garbage.tflite", "garbage.onnx"):
        (tmp_path / file).write_bytes(b"no model " * 20)
    code, told = refused(capsys, tmp_path / name)
    assert code == ExitCode.USAGE
    assert message in told


def test_bare_file_has_no_other_graph(bundles, capsys):
    file = bundles / "litert-int8" / "user_model.tflite"
    code, message = refused(capsys, file, "--scenario", "rank")
    assert code == ExitCode.USAGE
    assert "need a Bundle" in message


def test_interrupt_keeps_a_partial_result(tiny_bundle, tmp_path):
    out = tmp_path / "partial.json"
    command = [sys.executable, "-m", "couchside.benchmarks.latency", tiny_bundle, "--json", out]
    long = ("--iterations", "100000000", "--duration", "60", "--warmup-ms", "0")
    with subprocess.Popen([*command, *long], stderr=subprocess.PIPE, text=True) as running:
        assert "timing at least" in running.stderr.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            running.wait(0.5)
        running.send_signal(signal.SIGINT)
        assert running.wait(20) == ExitCode.INVALID
        assert "Traceback" not in running.stderr.read()
    document = json.loads(out.read_text())
    assert document["validity"]["partial"]
    assert not document["validity"]["valid"]
    assert document["latency_ms"]["steady"]["n"] > 0


def test_throttled_run_is_not_valid():
    validity = judge_run(Samples(), Throttling("throttled", {"oc1": 2}))
    assert not validity.valid
    assert validity.reasons == ("the machine was throttled: oc1 rose",)


@pytest.mark.parametrize("verdict", ["clean", "suspect", "unknown"])
def test_run_that_was_not_throttled_for_sure_is_valid(verdict):
    assert judge_run(Samples(), Throttling(verdict, {})).valid
