from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from couchside.device.bundle import MANIFEST, Bundle, open_bundle
from couchside.device.errors import BundleError, RuntimeUnavailableError
from couchside.device.runtime.graph import check_golden, compare, load_graph, open_graph

if TYPE_CHECKING:
    from pathlib import Path

FLAVOURS = ("litert-float", "litert-int8", "onnx-float", "onnx-int8")
RUNTIMES = ("litert-int8", "onnx-int8")


@pytest.fixture(params=RUNTIMES)
def bundle(request, bundles) -> Bundle:
    return open_bundle(bundles / request.param)


@pytest.fixture(params=RUNTIMES)
def copied(request, bundles, tmp_path) -> Path:
    """A Bundle of its own, to be damaged."""
    return shutil.copytree(bundles / request.param, tmp_path / request.param)


def sound_feeds(bundle: Bundle, graph: str) -> dict[str, Any]:
    golden = next(golden for golden in bundle.manifest.golden if golden.graph == graph)
    return {name: np.array(bundle.tensor(tensor)) for name, tensor in golden.inputs.items()}


def rewrite(folder: Path, change) -> Bundle:
    """Change the manifest, own up to every file as it is now, and open it again."""
    manifest = json.loads((folder / MANIFEST).read_bytes())
    change(manifest)
    for name in manifest["files"]:
        content = (folder / name).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        manifest["files"][name] = {"bytes": len(content), "sha256": digest}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return open_bundle(folder)


def as_it_is(_: object) -> None:
    """Leave the manifest alone."""


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_every_flavour_computes_what_the_lab_computed(bundles, flavour):
    bundle = open_bundle(bundles / flavour)
    cosines = check_golden(bundle)
    assert cosines.keys() == bundle.manifest.graphs.keys()
    assert min(cosines.values()) >= 0.9999


def test_graph_speaks_the_names_and_shapes_of_the_manifest(bundle):
    for name, record in bundle.manifest.graphs.items():
        answers = open_graph(bundle, name).run(sound_feeds(bundle, name))
        shapes = {port: (value.dtype.name, value.shape) for port, value in answers.items()}
        assert shapes == {port: (r.dtype, r.shape) for port, r in record.outputs.items()}


def test_answers_are_copies_and_the_same_each_time(bundle):
    graph, feeds = open_graph(bundle, "user_model"), sound_feeds(bundle, "user_model")
    first = graph.run(feeds)["user"]
    kept = first.copy()
    other = graph.run(feeds | {"vectors": -feeds["vectors"]})["user"]
    assert not np.array_equal(other, kept)
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(graph.run(feeds)["user"], kept)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda f: {"vectors": f["vectors"]},
            r"takes \['gaps', 'mask', .* was given \['vectors'\]",
        ),
        (lambda f: f | {"moods": f["gaps"]}, r"was given .*'moods'"),
        (lambda f: f | {"gaps": f["gaps"][:, :-1]}, r"'gaps' is int32 \(1, 11\), takes int32"),
        (lambda f: f | {"gaps": f["gaps"][0]}, r"'gaps' is int32 \(12,\), takes int32 \(1, 12\)"),
        (lambda f: f | {"gaps": f["gaps"] + 0.7}, "'gaps' is float64 .* takes int32"),
        (lambda f: f | {"mask": f["mask"].astype("U1")}, "'mask' is <U1 .* takes float32"),
        (lambda f: f | {"vectors": f["vectors"] * np.nan}, "output 'user' is not finite"),
    ],
    ids=["missing", "unknown", "short", "flat", "float for whole", "text", "NaN"],
)
def test_wrong_feed_is_refused_alike_on_every_runtime(bundle, change, words):
    graph, feeds = open_graph(bundle, "user_model"), sound_feeds(bundle, "user_model")
    with pytest.raises(BundleError, match=rf"user_model\.\w+.*{words}"):
        graph.run(change(feeds))
    graph.run(feeds)  # and the graph lives on


def test_wider_numbers_of_the_same_kind_are_taken(bundle):
    graph, feeds = open_graph(bundle, "user_model"), sound_feeds(bundle, "user_model")
    wide = {
        name: value.astype(np.int64 if value.dtype == np.int32 else np.float64)
        for name, value in feeds.items()
    }
    np.testing.assert_array_equal(graph.run(wide)["user"], graph.run(feeds)["user"])


def damage_golden(folder: Path, graph: str, port: str, change) -> Bundle:
    """Another answer in the golden vectors, with every hash rebuilt."""
    bundle = open_bundle(folder)
    tensor = bundle.manifest.tensors[f"golden/{graph}/out/{port}"]
    content = bytearray((folder / tensor.file).read_bytes())
    size = 4 * int(np.prod(tensor.shape))
    place = slice(tensor.offset, tensor.offset + size)
    answer = np.frombuffer(bytes(content[place]), "<f4").reshape(tensor.shape)
    content[place] = change(answer).astype("<f4").tobytes()
    (folder / tensor.file).write_bytes(content)
    return rewrite(folder, as_it_is)


def one_row_wrong(answer):
    changed = answer.copy()
    changed[-1] = changed[-1, ::-1]
    return changed


@pytest.mark.parametrize(
    ("graph", "port", "change"),
    [
        ("user_model", "user", lambda a: -a),
        ("user_model", "user", lambda a: a * 1.2),  # the cosine is blind to it
        ("text_encoder", "content", one_row_wrong),
        ("training_step", "loss", lambda a: a * 1.02),
        ("training_step", "theta_after", lambda a: a[::-1]),
    ],
)
def test_wrong_answer_to_a_golden_vector_is_refused_by_graph_and_output(
    copied, graph, port, change
):
    bundle = damage_golden(copied, graph, port, change)
    words = rf"graph '{graph}' computes another '{port}' than the lab on {bundle.runtime}: cosine"
    with pytest.raises(BundleError, match=words):
        check_golden(bundle)


def test_golden_vectors_notice_a_training_step_that_learns_a_tenth_too_little(copied):
    bundle = open_bundle(copied)
    theta = np.array(bundle.tensor("golden/training_step/in/theta"))
    bundle = damage_golden(
        copied, "training_step", "theta_after", lambda after: theta + 0.9 * (after - theta)
    )
    with pytest.raises(BundleError, match="computes another 'theta_after'"):
        check_golden(bundle)


@pytest.mark.parametrize(
    "bounds",
    [{"min_cosine": 1.01, "max_relative_error": 9.0}, {"max_relative_error": -1.0}],
    ids=["cosine", "error"],
)
def test_both_bounds_of_a_golden_vector_are_kept(copied, bounds):
    def change(manifest):
        manifest["golden"][1] |= bounds

    graph = open_bundle(copied).manifest.golden[1].graph
    with pytest.raises(BundleError, match=f"graph '{graph}' computes another"):
        check_golden(rewrite(copied, change))


@pytest.mark.parametrize("graph", ["text_encoder", "user_model", "training_step"])
def test_bundle_without_golden_vectors_of_a_graph_is_refused(copied, graph):
    def change(manifest):
        manifest["golden"] = [g for g in manifest["golden"] if g["graph"] != graph]

    with pytest.raises(BundleError, match=f"no golden vectors of '{graph}'; refuse it"):
        check_golden(rewrite(copied, change))


def test_golden_vectors_that_leave_out_an_answer_are_refused(copied):
    def change(manifest):
        step = next(g for g in manifest["golden"] if g["graph"] == "training_step")
        del step["outputs"]["theta_after"]

    with pytest.raises(BundleError, match="golden vectors miss outputs of 'training_step'"):
        rewrite(copied, change)


def port(side: str, name: str, **fields: object):
    def change(manifest):
        manifest["graphs"]["user_model"][side][name] |= fields

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (port("inputs", "mask", tensor="nothing"), r"the graph has .*not .*'nothing'"),
        (port("outputs", "user", tensor="nothing"), r"the graph has .*not .*'nothing'"),
        (port("inputs", "mask", shape=[1, 11]), r"'mask' is float32 \(1, 12\), takes"),
        (port("inputs", "mask", dtype="int32"), "'mask' is float32 .*, takes int32"),
        (port("inputs", "gaps", dtype="float32"), "the runtime can't run it"),
    ],
    ids=["input name", "output name", "shape", "narrower type", "wider type"],
)
def test_border_that_is_not_the_graphs_is_refused(copied, change, words):
    with pytest.raises(BundleError, match=words):
        check_golden(rewrite(copied, change))


@pytest.mark.parametrize("content", [b"", b"not a model " * 500], ids=["empty", "garbage"])
def test_file_that_is_no_model_is_refused_with_runtime_and_path(copied, content):
    name = open_bundle(copied).graph("user_model").file
    (copied / name).write_bytes(content)
    bundle = rewrite(copied, as_it_is)
    with pytest.raises(BundleError, match=rf"{name}: {bundle.runtime} can't load it"):
        check_golden(bundle)


def test_broken_off_model_is_refused(copied):
    name = open_bundle(copied).graph("user_model").file
    content = (copied / name).read_bytes()
    (copied / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(BundleError, match=f"{name}.*can't load it"):
        check_golden(rewrite(copied, as_it_is))


def test_graph_of_another_bundle_is_refused_by_its_border(copied):
    bundle = open_bundle(copied)
    record = replace(bundle.graph("user_model"), file=bundle.graph("text_encoder").file)
    with pytest.raises(BundleError, match="the graph has"):
        load_graph(bundle.runtime, bundle.file(record.file), record)


@pytest.mark.parametrize(
    ("flavour", "absent", "words"),
    [
        (
            "litert-int8",
            ("ai_edge_litert.interpreter", "tflite_runtime.interpreter"),
            r"needs LiteRT: pip install 'couchside\[litert\]'.*or take an onnx flavour",
        ),
        (
            "onnx-int8",
            ("onnxruntime",),
            r"needs onnxruntime: pip install 'couchside\[onnx\]'.*or take a litert flavour",
        ),
    ],
)
def test_missing_runtime_says_what_to_install(bundles, monkeypatch, flavour, absent, words):
    for module in absent:
        monkeypatch.setitem(sys.modules, module, None)  # what Python does for "not there"
    with pytest.raises(RuntimeUnavailableError, match=words):
        open_graph(open_bundle(bundles / flavour), "user_model")


def test_tensorrt_without_a_gpu_says_what_to_install(bundles):
    onnxruntime = pytest.importorskip("onnxruntime")
    if "TensorrtExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has TensorRT")
    bundle = open_bundle(bundles / "onnx-float")
    record = bundle.graph("user_model")
    with pytest.raises(RuntimeUnavailableError, match="no TensorRT provider: on a Jetson install"):
        load_graph("tensorrt", bundle.file(record.file), record)


@pytest.mark.parametrize("flavour", RUNTIMES)
def test_models_load_in_silence_and_without_the_lab(bundles, flavour):
    program = (
        "import sys; from pathlib import Path\n"
        "from couchside.device.bundle import open_bundle\n"
        "from couchside.device.runtime.graph import check_golden\n"
        f"check_golden(open_bundle(Path({str(bundles / flavour)!r})))\n"
        "heavy = {'torch', 'onnx', 'scipy', 'asyncio', 'urllib.request', 'couchside.compression'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_compare_sees_direction_scale_and_what_is_not_finite():
    rows = np.array([[1.0, 0.0], [0.0, 2.0]], np.float32)
    assert compare(rows, rows) == (1.0, 0.0)
    assert compare(2 * rows, rows) == (1.0, 1.0)
    assert compare(rows[::-1], rows)[0] == 0.0
    assert compare(-rows, rows) == (-1.0, 2.0)
    assert compare(rows * np.nan, rows) == (-1.0, float("inf"))
    assert compare(rows[0], rows) == (-1.0, float("inf"))
    assert compare(np.zeros(3), np.zeros(3)) == (1.0, 0.0)
    assert compare(np.float32(2.0), np.float32(2.0)) == (1.0, 0.0)
    assert compare(np.zeros(3), np.ones(3))[0] == 0.0
