"""``benchmark_latency`` as a person runs it: on real Bundles, by its exit codes and its JSON."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace

import numpy as np
import onnx
import pytest
from simulators.jetson import Jetson

from couchside.benchmarks.errors import ExitCode
from couchside.benchmarks.latency import _parser, main
from couchside.benchmarks.timing.flags import read_plan
from couchside.benchmarks.timing.workloads import rank
from couchside.device.bundle import FileRecord, open_bundle, write_manifest

SHORT = (
    *("--warmup-ms", "0", "--warmup-iters", "0", "--iterations", "100", "--duration", "0"),
    *("--percentiles", "50,90", "--power", "off"),
)
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
    total = document["cases"][0]["latency_ms"]["total"]
    assert total["n"] == 100
    assert 0 < total["min"] <= total["percentiles"]["p50"] <= total["percentiles"]["p90"]
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
        "start_ms",
        "cases",
        "mlperf",
        "noise",
        "memory",
        "server",
        "power",
        "quality",
        "board",
        "temperatures_after_c",
        "throttle",
        "slo",
        "comparison",
        "notes",
        "validity",
    ]
    assert document["schema"] == "couchside.bench/1"
    assert document["artefact"]["sha256"] == bundle.bundle_id
    assert document["artefact"]["flavour"] == bundle.flavour
    assert document["artefact"]["precision"] == {
        "table content": "int8",
        "table delta": "int8",
        "table projection": "float32",
        "table popularity": "float32",
        "user_model weights": "int8",
        "user_model border": "float32, int32",
    }
    assert document["config"]["in_flight"] == 1
    assert document["config"]["timer"]["resolution_ns"] > 0
    assert document["config"]["gc"] == "disabled while timed"
    assert document["config"]["seed"] == 3
    assert document["quality"]["ndcg_at_10"] == bundle.manifest.quality.ndcg_at_10
    assert document["start_ms"]["load"] > 0
    assert document["start_ms"]["first"] > 0
    assert document["memory"]["rss_bytes"] >= document["memory"]["anonymous_bytes"] > 10**6
    assert document["validity"]["valid"]
    assert document["validity"]["reasons"] == []


def test_rank_scores_the_whole_table(tiny_bundle, capsys):
    document = measured(capsys, tiny_bundle, "--scenario", "rank", "--k", "10")
    (case,) = document["cases"]
    assert case["titles"] == sum(1 for _ in open_bundle(tiny_bundle).titles())
    assert case["made"] == "the whole table"
    assert list(case["latency_ms"]) == ["total", "pre", "model", "post"]
    assert document["config"]["k"] == 10
    assert document["config"]["history"] == open_bundle(tiny_bundle).model.history_length
    assert document["parity"]["graph"] == "user_model"
    assert document["parity"]["top_10_overlap"] == 1.0


def test_person_reads_speed_quality_and_verdict_in_the_last_line(tiny_bundle, capsys):
    assert main([str(tiny_bundle), *SHORT]) == ExitCode.OK
    line = capsys.readouterr().out.splitlines()[-1]
    loss = round(100 * open_bundle(tiny_bundle).manifest.quality.ndcg_loss, 1) + 0.0
    for part in ("p50 ", "n=100, 1 in flight", "RSS ", f"NDCG loss {loss:.1f} %"):
        assert part in line
    assert "VALID" in line or "SUSPECT" in line


def test_board_is_read_below_the_given_root(tiny_bundle, tmp_path, capsys):
    document = measured(capsys, tiny_bundle, "--sysfs-root", Jetson(tmp_path).root)
    assert document["board"]["power_mode"] == "2 MAXN_SUPER"
    assert document["throttle"]["verdict"] == "clean"


@pytest.mark.parametrize("flavour", ["litert-int8", "onnx-float"])
def test_bare_model_file_is_timed_but_not_checked(bundles, flavour, capsys):
    file = next((bundles / flavour).glob("text_encoder.*"))
    document = measured(capsys, file)
    assert not document["parity"]["checked"]
    assert document["notes"] == ["answers NOT checked: a bare file has no golden vectors"]
    assert document["artefact"]["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert document["cases"][0]["latency_ms"]["total"]["n"] == 100


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


@pytest.mark.parametrize("backend", ["auto", "numpy"])
def test_ranking_without_golden_vectors_is_not_timed(copy, capsys, backend):
    opened = open_bundle(copy)
    golden = tuple(entry for entry in opened.manifest.golden if entry.graph != "user_model")
    write_manifest(copy, replace(opened.manifest, golden=golden))
    code, message = refused(capsys, copy, "--scenario", "rank", "--backend", backend)
    assert code == ExitCode.USAGE
    assert "no golden vectors for user_model" in message


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
            "litert-int8",
            ("--backend", "tflite"),
            "tflite_runtime",
            MISSING,
            "pip install 'couchside[tflite]'",
            id="no tflite-runtime",
        ),
        pytest.param(
            "litert-int8",
            ("--backend", "litert"),
            "ai_edge_litert",
            MISSING,
            "pip install 'couchside[litert]'",
            id="LiteRT by name",
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
        (("--duration", "inf"), "--duration must be 0 or more"),
        (("--idle-ms", "nan"), "--idle-ms must be 0 or more"),
        (("--settle", "nan"), "--settle must be 0 or more"),
        (("--baseline-idle", "nan"), "--baseline-idle must be 0 or more"),
        (("--power-hz", "nan"), "--power-hz must lie above 0"),
        (("--power-hz", "0"), "--power-hz must lie above 0"),
        (("--warmup-iters", "-1"), "--warmup-iters must not be negative"),
        (("--repeat", "0"), "--repeat must be at least 1"),
        (("--batch", "0"), "--batch must be at least 1"),
        (("--batch", "3"), "--batch 3: the shapes of a Bundle's graphs are fixed"),
        (("--streams", "0"), "--streams must be at least 1"),
        (("--streams", "5000"), "--streams 5000 on "),
        (("--history", "0"), "--history must be at least 1"),
        (("--history", "9"), "--history: --scenario graph has none"),
        (("--candidates", "200"), "--candidates is for --scenario rank"),
        (("--scenario", "rank", "--candidates", "many"), "whole numbers with commas"),
        (("--scenario", "rank", "--candidates", "0"), "each must be from 1 to"),
        (("--scenario", "rank", "--candidates", "5,5"), "appears twice"),
        (("--scenario", "rank", "--batch", "2"), "rank answers one household"),
        (("--scenario", "search", "--batch", "2"), "search answers one query"),
        (("--scenario", "learn", "--batch", "2"), "fixed in its graph"),
        (("--scenario", "learn", "--history", "1"), "give 2"),
        (("--scenario", "end-to-end", "--batch", "2"), "one shelf at a time"),
        (("--scenario", "end-to-end", "--backend", "onnxruntime"), "runs this Bundle on litert"),
        (("--scenario", "search", "--graph", "user_model"), "--graph is for --scenario graph"),
        (("--scenario", "encode-image"), "no image_encoder, so nothing for"),
        (("--scenario", "encode-audio"), "it has text_encoder, training_step, user_model"),
        (("--scenario", "encode-video"), "no video_encoder"),
        (("--backend", "numpy"), "--backend numpy runs no graph"),
        (("--scenario", "search", "--backend", "numpy"), "--backend numpy runs no graph"),
        (("--spin-wait",), "--spin-wait is a way to rest"),
        (("--mlperf", "--batch", "2"), "--mlperf is SingleStream"),
        (("--mode", "offline"), "invalid choice: 'offline'"),
        (("--cpu-affinity", "zero"), "--cpu-affinity zero: cores such as 0-3,5"),
        (("--cpu-affinity", "3-1"), "cores such as 0-3,5"),
        (("--cpu-affinity", "4095"), "this process may not use core 4095"),
        (("--cooldown-until", "cold"), "--cooldown-until cold: must be degrees"),
        (("--fail-on-noise", "nan"), "--fail-on-noise nan: a number and %"),
        (("--max-regression", "5%"), "need --compare FILE"),
        (("--compare-anyway",), "need --compare FILE"),
        (("--compare", "/nowhere.json"), "--compare /nowhere.json: No such file"),
        (("--slo", "speed=1ms"), "--slo speed=1ms: no such key"),
        (("--slo", "p99.9=1ms"), "raise it to 10,000"),
        (("--slo", "energy=1J", "--power", "off"), "--slo energy: no power meter"),
        (("--csv", "/nowhere/at.csv"), "--csv /nowhere/at.csv"),
        (("--markdown", "/nowhere/at.md"), "--markdown /nowhere/at.md"),
        (("--export-times", "/nowhere/at.json"), "--export-times /nowhere/at.json"),
        (("--json", "-", "--csv", "-"), "--json and --csv both go to -"),
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
    assert document["cases"][0]["latency_ms"]["total"]["n"] > 0


def test_interrupt_of_streams_keeps_what_each_has(tiny_bundle, tmp_path):
    times = tmp_path / "times.json"
    command = [sys.executable, "-m", "couchside.benchmarks.latency", tiny_bundle]
    cores = len(os.sched_getaffinity(0))
    long = ("--iterations", "100000000", "--duration", "60", "--streams", str(min(cores, 2)))
    with subprocess.Popen(
        [*command, *long, "--export-times", times], stderr=subprocess.PIPE, text=True
    ) as running:
        while "timing at least" not in running.stderr.readline():
            pass
        with pytest.raises(subprocess.TimeoutExpired):
            running.wait(1.0)
        running.send_signal(signal.SIGINT)
        assert running.wait(20) == ExitCode.INVALID
        assert "Traceback" not in running.stderr.read()
    document = json.loads(times.read_text())
    assert document["partial"]
    (streams,) = document["cases"][0]["repeats"]
    assert all(stream["total_ns"] for stream in streams)


def test_ctrl_c_in_a_terminal_leaves_the_daemon_to_answer_for_itself(tiny_bundle, tmp_path):
    out = tmp_path / "partial.json"
    command = [sys.executable, "-m", "couchside.benchmarks.latency", tiny_bundle, "--json", out]
    long = ("--scenario", "end-to-end", "--iterations", "100000000")
    with subprocess.Popen(
        [*command, *long], stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as running:
        while "timing at least" not in running.stderr.readline():
            pass
        with pytest.raises(subprocess.TimeoutExpired):
            running.wait(1.0)
        os.killpg(running.pid, signal.SIGINT)
        assert running.wait(20) == ExitCode.INVALID
        assert "Traceback" not in running.stderr.read()
    document = json.loads(out.read_text())
    assert document["validity"]["partial"]
    assert document["server"]["facts"]["daemon_rows_p50_ms"] > 0


def test_times_of_every_run_are_exported(tiny_bundle, tmp_path, capsys):
    times = tmp_path / "times.json"
    document = measured(
        capsys, tiny_bundle, "--scenario", "rank", "--repeat", "2", "--export-times", times
    )
    exported = json.loads(times.read_text())
    assert exported["artefact_sha256"] == document["artefact"]["sha256"]
    (case,) = exported["cases"]
    assert len(case["repeats"]) == 2
    for (stream,) in case["repeats"]:
        assert len(stream["total_ns"]) == len(stream["cpu_ns"]) == 100
        parts = zip(*stream["stages_ns"].values(), strict=True)
        assert [sum(run) for run in parts] == stream["total_ns"]


def test_candidate_counts_take_turns_and_say_where_titles_come_from(tiny_bundle, capsys):
    n = sum(1 for _ in open_bundle(tiny_bundle).titles())
    counts = f"20,{n},{3 * n}"
    document = measured(
        capsys, tiny_bundle, *("--scenario", "rank", "--candidates", counts, "--repeat", "2")
    )
    assert [(case["titles"], case["made"]) for case in document["cases"]] == [
        (20, "a part of the table"),
        (n, "the whole table"),
        (3 * n, "the table repeated"),
    ]
    for case in document["cases"]:
        assert [run["n"] for run in case["runs"]] == [100, 100]
        assert case["latency_ms"]["total"]["n"] == 200


def test_history_longer_than_is_read_says_so(tiny_bundle, capsys):
    document = measured(capsys, tiny_bundle, "--scenario", "rank", "--history", "500")
    assert document["config"]["history"] == 500
    assert "of 500 steps of history the user model reads the last" in document["notes"][0]


def test_numpy_scores_and_says_that_it_does_no_more(tiny_bundle, capsys):
    document = measured(capsys, tiny_bundle, "--scenario", "rank", "--backend", "numpy")
    assert document["config"]["backend"] == "numpy"
    assert document["config"]["graph"] == "none"
    assert "numpy runs no user model" in document["notes"][0]
    assert document["parity"]["cosine"] is None
    assert document["parity"]["top_10_overlap"] == 1.0


@pytest.mark.parametrize("batch", [1, 20])
@pytest.mark.parametrize("flavour", ["litert-int8", "onnx-float"])
def test_titles_are_encoded_words_and_all(bundles, flavour, batch, capsys):
    document = measured(
        capsys, bundles / flavour, "--scenario", "encode-text", "--batch", str(batch)
    )
    (case,) = document["cases"]
    assert case["items"] == batch
    assert case["items_per_second"] == pytest.approx(batch * case["queries_per_second"])
    assert list(case["latency_ms"]) == ["total", "pre", "model", "post"]
    assert document["parity"]["graph"] == "text_encoder"


def test_search_looks_through_the_bundles_titles(tiny_bundle, capsys):
    document = measured(capsys, tiny_bundle, "--scenario", "search")
    (case,) = document["cases"]
    assert case["titles"] == sum(1 for _ in open_bundle(tiny_bundle).titles())
    assert document["parity"]["checked"]


def test_training_step_is_timed_with_its_batch(tiny_bundle, capsys):
    document = measured(capsys, tiny_bundle, "--scenario", "learn")
    (case,) = document["cases"]
    batch = open_bundle(tiny_bundle).graph("training_step").inputs["target"].shape[0]
    assert case["items"] == batch
    assert list(case["latency_ms"]) == ["total", "pre", "model"]
    assert document["parity"]["graph"] == "training_step"


def test_daemon_answers_end_to_end(tiny_bundle, capsys):
    document = measured(capsys, tiny_bundle, "--scenario", "end-to-end")
    server = document["server"]
    assert server["memory"]["rss_bytes"] > 10**7
    assert server["memory"] != document["memory"]
    rows = document["cases"][0]["latency_ms"]["total"]["percentiles"]["p50"]
    assert 0 < server["facts"]["socket_p50_ms"] < rows
    assert server["facts"]["daemon_rows_p50_ms"] > 0
    assert document["cases"][0]["cpu_ms"]["mean"] > 0
    assert document["parity"]["checked"]


def test_daemon_is_gone_and_its_files_too(tiny_bundle, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    measured(capsys, tiny_bundle, "--scenario", "end-to-end", "--streams", "1")
    assert list(tmp_path.iterdir()) == []


def test_bare_file_with_an_open_dimension_takes_a_batch(tmp_path, capsys):
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 4])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", 4])
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "relu", [x], [y])
    opset = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    file = tmp_path / "relu.onnx"
    file.write_bytes(model.SerializeToString())
    document = measured(capsys, file, "--batch", "32")
    assert document["cases"][0]["items"] == 32


def test_bare_file_of_fixed_shapes_takes_no_batch(bundles, capsys):
    file = bundles / "onnx-float" / "text_encoder.onnx"
    code, message = refused(capsys, file, "--batch", "7")
    assert code == ExitCode.USAGE
    assert "leaves no dimension open" in message


def test_tflite_runtime_is_taken_when_it_is_named(tiny_bundle, tmp_path):
    """A package of that name that borrows LiteRT's interpreter: the real one wants old NumPy."""
    package = tmp_path / "tflite_runtime"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "interpreter.py").write_text(
        "import sys\n"
        "from ai_edge_litert.interpreter import Interpreter\n"
        "del sys.modules['ai_edge_litert.interpreter'], sys.modules['ai_edge_litert']\n"
    )
    command = [sys.executable, "-m", "couchside.benchmarks.latency", tiny_bundle, *SHORT]
    done = subprocess.run(
        [*command, "--backend", "tflite", "--json", "-"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == ExitCode.OK, done.stderr
    assert json.loads(done.stdout)["config"]["backend"] == "tflite"


@pytest.fixture
def any_cores():
    """Puts back what cores this process may run on."""
    cores = os.sched_getaffinity(0)
    yield cores
    os.sched_setaffinity(0, cores)


def test_only_the_named_cores_are_used(tiny_bundle, any_cores, capsys):
    core = max(any_cores)
    document = measured(capsys, tiny_bundle, "--cpu-affinity", str(core))
    assert document["config"]["cores"] == [core]


def test_one_core_has_no_room_for_two_streams(tiny_bundle, any_cores, capsys):
    os.sched_setaffinity(0, {min(any_cores)})
    code, message = refused(capsys, tiny_bundle, "--streams", "2")
    assert code == ExitCode.USAGE
    assert "--streams 2 on 1 core: callers would wait for each other" in message


def test_more_threads_than_cores_are_told(tiny_bundle, any_cores, capsys):
    os.sched_setaffinity(0, {min(any_cores)})
    assert main([str(tiny_bundle), *SHORT, "--threads", "2"]) == ExitCode.OK
    assert "more threads than the 1 core" in capsys.readouterr().err


def test_streams_are_two_callers_at_once(tiny_bundle, monkeypatch, capsys):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0, 1})
    document = measured(capsys, tiny_bundle, "--scenario", "rank", "--streams", "2")
    assert document["config"]["streams"] == 2
    assert document["config"]["in_flight"] == 1
    (case,) = document["cases"]
    assert case["latency_ms"]["total"]["n"] == 100
    assert case["cpu_ms"] is None


def test_mlperf_has_its_minimums_and_its_metric():
    options = _parser().parse_args(["bundle", "--mlperf", "--percentiles", "50,99"])
    plan = read_plan(options, (50.0, 99.0))
    assert (plan.iterations, plan.duration_s) == (1024, 60.0)
    assert plan.percentiles == (50.0, 90.0, 99.0)


def test_mlperf_result_is_the_90th_percentile(tiny_bundle, monkeypatch, capsys):
    monkeypatch.setattr("couchside.benchmarks.timing.flags.MLPERF_S", 0.0)
    monkeypatch.setattr("couchside.benchmarks.timing.flags.MLPERF_QUERIES", 1)
    document = measured(capsys, tiny_bundle, "--mlperf")
    p90 = document["cases"][0]["latency_ms"]["total"]["percentiles"]["p90"]
    assert document["mlperf"] == {"user_model": p90}


def test_more_titles_than_there_is_room_for_are_refused(tiny_bundle, tmp_path, monkeypatch, capsys):
    (tmp_path / "meminfo").write_text("MemTotal: 1000000 kB\nMemAvailable: 50000 kB\n")
    monkeypatch.setattr(rank, "MEMINFO", tmp_path / "meminfo")
    flags = ("--scenario", "rank", "--candidates", "1000000")
    code, message = refused(capsys, tiny_bundle, *flags)
    assert code == ExitCode.USAGE
    assert "--candidates: 1,000,000 titles take" in message


def test_full_disk_leaves_the_line_for_people(tiny_bundle, capsys):
    code = main([str(tiny_bundle), *SHORT, "--json", "/dev/full"])
    printed = capsys.readouterr()
    assert code == ExitCode.USAGE
    assert "No space left on device" in printed.err
    assert "user_model on litert: p50" in printed.out


def test_missed_limit_ends_with_two(tiny_bundle, capsys):
    code = main([str(tiny_bundle), *SHORT, "--slo", "p50=1us,rss=10GB"])
    told = capsys.readouterr().out
    assert code == ExitCode.MISSED
    assert "SLO p50 0.001 ms:" in told
    assert "missed" in told
    assert "SLO rss 10,000 MB:" in told


def test_kept_limits_end_with_zero(tiny_bundle, capsys):
    document = measured(capsys, tiny_bundle, "--slo", "p50=10s,rss=10GB,throughput=0.01/s")
    assert [one["verdict"] for one in document["slo"]] == ["kept"] * 3


def slowed(document, times):
    """The document of a machine that was so many times faster."""
    for case in document["cases"]:
        total = case["latency_ms"]["total"]
        for name, value in total["percentiles"].items():
            total["percentiles"][name] = value / times
            total["intervals"][name] = [value / times] * 2
        for run in case["runs"]:
            run["p50"] = run["p50"] / times
    return document


def test_clear_regression_ends_with_two(tiny_bundle, tmp_path, capsys):
    baseline = tmp_path / "baseline.json"
    baseline.write_text(json.dumps(slowed(measured(capsys, tiny_bundle), 1000)))
    code = main([str(tiny_bundle), *SHORT, "--compare", str(baseline)])
    assert code == ExitCode.MISSED
    assert f"against {baseline}, at most +5%: regression" in capsys.readouterr().out


def test_faster_than_the_baseline_is_no_regression(tiny_bundle, tmp_path, capsys):
    baseline = tmp_path / "baseline.json"
    baseline.write_text(json.dumps(slowed(measured(capsys, tiny_bundle), 0.001)))
    document = measured(capsys, tiny_bundle, "--compare", baseline, "--max-regression", "10%")
    assert document["comparison"]["verdict"] == "no regression"
    assert document["comparison"]["most"] == pytest.approx(0.1)


def test_other_scenario_is_only_compared_anyway(tiny_bundle, tmp_path, capsys):
    baseline = tmp_path / "baseline.json"
    baseline.write_text(json.dumps(slowed(measured(capsys, tiny_bundle), 0.001)))
    flags = ("--compare", str(baseline), "--threads", "2")
    code, message = refused(capsys, tiny_bundle, *SHORT, *flags)
    assert code == ExitCode.USAGE
    assert "not the same measurement: config threads was 1, is 2" in message
    document = measured(capsys, tiny_bundle, *flags, "--compare-anyway")
    assert document["comparison"]["differs"] == ["config threads was 1, is 2"]


def test_baseline_without_one_of_the_cases_is_refused_before_anything_is_timed(
    tiny_bundle, tmp_path, capsys
):
    baseline = tmp_path / "baseline.json"
    rank_of = ("--scenario", "rank", "--candidates")
    baseline.write_text(json.dumps(measured(capsys, tiny_bundle, *rank_of, "20")))
    flags = (*SHORT, *rank_of, "30", "--compare", str(baseline))
    code, message = refused(capsys, tiny_bundle, *flags)
    assert code == ExitCode.USAGE
    assert "it has rank of 20 titles, this run rank of 30 titles" in message
    assert "timing at least" not in message


def test_spreadsheet_and_table_are_written(tiny_bundle, tmp_path, capsys):
    table, sheet = tmp_path / "out.md", tmp_path / "out.csv"
    measured(capsys, tiny_bundle, "--markdown", table, "--csv", sheet)
    assert sheet.read_text().startswith("scenario,case,stage,")
    assert "| user_model | total | 100 |" in table.read_text()
