from __future__ import annotations

import json
import re

import pytest
import torch
from torch import nn

from couchside.compression.errors import ParityError
from couchside.compression.export import QUANTIZED, Exportable, exportables
from couchside.compression.fit import new_ranker
from couchside.compression.parity import LEAST_COSINE, MOST_ERROR, check_parity
from couchside.compression.student import Models
from couchside.compression.teacher import new_text_tower
from couchside.device.errors import BundleError

FILES = [
    (family, kind, graph)
    for family in ("onnx", "tflite")
    for kind, graphs in (
        ("float", ("text_encoder", "user_model", "training_step")),
        ("int8", QUANTIZED),
    )
    for graph in graphs
]


@pytest.fixture(scope="module")
def items(tiny, student):
    return {item.name: item for item in exportables(tiny, student)}


@pytest.fixture(scope="module")
def strangers(tiny, student):
    """The same graphs with weights of another student."""
    torch.manual_seed(99)
    ranker = new_ranker(tiny, tiny.student_user, student.ranker.table.content)
    other = Models(new_text_tower(tiny, tiny.student_text), ranker)
    return {item.name: item for item in exportables(tiny, other)}


@pytest.fixture
def exported(compressed):
    def path(family, kind, graph):
        return compressed / "work" / "graphs" / family / kind / f"{graph}.{family}"

    return path


@pytest.mark.parametrize(("family", "kind", "graph"), FILES)
def test_exported_file_computes_what_torch_computes(items, exported, family, kind, graph):
    path = exported(family, kind, graph)
    found = check_parity(items[graph], path, family, quantized=kind == "int8")
    assert found.graph == graph
    assert found.cosine >= LEAST_COSINE["int8" if kind == "int8" else "float32"]
    assert found.relative_error < (0.05 if kind == "int8" else 1e-5)
    assert found.answers.keys() == items[graph].answers().keys()


@pytest.mark.parametrize(("family", "kind", "graph"), FILES)
def test_file_of_other_weights_is_refused_by_path(strangers, exported, family, kind, graph):
    path = exported(family, kind, graph)
    # The training step is fed its weights, all of them: it has none of its own to be wrong.
    if graph == "training_step":
        check_parity(strangers[graph], path, family, quantized=False)
        return
    weights = "int8" if kind == "int8" else "float32"
    words = rf"{re.escape(str(path))}: cosine .* is asked of {weights} weights.*leave this flavour"
    with pytest.raises(ParityError, match=words):
        check_parity(strangers[graph], path, family, quantized=kind == "int8")


class Skewed(nn.Module):
    """A graph with one answer changed."""

    def __init__(self, module, change):
        super().__init__()
        self.module = module
        self.change = change

    def forward(self, *inputs):
        return self.change(inputs, self.module(*inputs))


@pytest.mark.parametrize(
    ("graph", "change"),
    [
        ("user_model", lambda _, user: 1.5 * user),
        ("text_encoder", lambda _, content: content / 2),
        ("training_step", lambda _, out: (1.1 * out[0], out[1])),
        ("training_step", lambda i, out: (out[0], i[0])),
        ("training_step", lambda i, out: (out[0], i[0] + 0.9 * (out[1] - i[0]))),
    ],
    ids=["longer user", "shorter content", "other loss", "learns nothing", "learns too little"],
)
def test_answer_of_another_size_is_refused_though_it_points_the_same_way(
    items, exported, graph, change
):
    item = items[graph]
    skewed = Exportable(graph, Skewed(item.module, change), item.inputs, item.outputs)
    with pytest.raises(ParityError, match=r"relative error .* \(at most 0\.005\)"):
        check_parity(skewed, exported("onnx", "float", graph), "onnx", quantized=False)


@pytest.mark.parametrize(
    ("bounds", "bound"), [(LEAST_COSINE, 1.01), (MOST_ERROR, 0.0)], ids=["cosine", "error"]
)
def test_both_bounds_are_kept(items, exported, monkeypatch, bounds, bound):
    monkeypatch.setitem(bounds, "float32", bound)
    with pytest.raises(ParityError, match=rf"{bound}"):
        check_parity(
            items["user_model"], exported("onnx", "float", "user_model"), "onnx", quantized=False
        )


def test_file_that_is_not_there_or_another_graph_is_refused_by_path(items, exported, tmp_path):
    with pytest.raises(BundleError, match=r"none\.onnx: onnxruntime can't load it|can't load"):
        check_parity(items["user_model"], tmp_path / "none.onnx", "onnx", quantized=False)
    other = exported("tflite", "float", "text_encoder")
    with pytest.raises(BundleError, match="the graph has"):
        check_parity(items["user_model"], other, "tflite", quantized=False)


def test_parity_of_every_flavour_is_reported(compressed, tiny):
    report = json.loads((compressed / "parity.json").read_text())
    assert report.keys() == set(tiny.flavours)
    for flavour, graphs in report.items():
        assert graphs.keys() == {"text_encoder", "user_model", "training_step"}
        for graph, found in graphs.items():
            quantized = flavour.endswith("int8") and graph in QUANTIZED
            assert found["cosine"] >= LEAST_COSINE["int8" if quantized else "float32"]
            assert (found["relative_error"] > 1e-4) == quantized
