from __future__ import annotations

import math

import onnx
import pytest
from ai_edge_litert import schema_py_generated as tflite

from couchside.compression.export import OPSET, QUANTIZED, exportables
from couchside.device.bundle import open_bundle

GRAPHS = ("text_encoder", "user_model", "training_step")
LARGE = 16 * 16
"""Values in the smallest weight matrix of the tiny recipe."""
BUILTIN = {code: name for name, code in vars(tflite.BuiltinOperator).items() if name[0] != "_"}


@pytest.fixture(scope="module")
def items(tiny, student):
    return {item.name: item for item in exportables(tiny, student)}


def read_onnx(bundles, flavour, graph):
    return onnx.load(bundles / flavour / f"{graph}.onnx", load_external_data=False)


def read_tflite(bundles, flavour, graph):
    content = (bundles / flavour / f"{graph}.tflite").read_bytes()
    return tflite.ModelT.InitFromPackedBuf(bytearray(content), 0)


@pytest.mark.parametrize("graph", QUANTIZED)
@pytest.mark.parametrize("family", ["litert", "onnx"])
def test_int8_file_is_smaller_than_the_float_one(bundles, family, graph):
    sizes = {
        kind: next((bundles / f"{family}-{kind}").glob(f"{graph}.*")).stat().st_size
        for kind in ("float", "int8")
    }
    assert sizes["int8"] < 0.9 * sizes["float"]


@pytest.mark.parametrize("graph", QUANTIZED)
def test_int8_onnx_file_holds_no_large_tensor_in_floats(bundles, graph):
    eight_bits = {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}
    sizes = {True: [0], False: [0]}
    for value in read_onnx(bundles, "onnx-int8", graph).graph.initializer:
        sizes[value.data_type in eight_bits].append(math.prod(value.dims))
    assert max(sizes[False]) < LARGE <= max(sizes[True])
    assert open_bundle(bundles / "onnx-int8").graph(graph).weights == "int8"


@pytest.mark.parametrize("graph", QUANTIZED)
def test_int8_tflite_file_holds_no_large_tensor_in_floats(bundles, graph):
    model = read_tflite(bundles, "litert-int8", graph)
    sizes = {True: [0], False: [0]}
    for tensor in model.subgraphs[0].tensors:
        if model.buffers[tensor.buffer].data is not None:
            sizes[tensor.type == tflite.TensorType.INT8].append(math.prod(tensor.shape))
    assert max(sizes[False]) < LARGE <= max(sizes[True])
    assert open_bundle(bundles / "litert-int8").graph(graph).weights == "int8"


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("flavour", ["onnx-float", "onnx-int8"])
def test_onnx_file_is_whole_static_and_of_standard_operators(bundles, flavour, graph):
    path = bundles / flavour / f"{graph}.onnx"
    onnx.checker.check_model(path, full_check=True)
    model = read_onnx(bundles, flavour, graph)
    assert {o.domain: o.version for o in model.opset_import}[""] == OPSET == 18
    assert {node.domain for node in model.graph.node} == {""}
    assert not model.functions
    external = onnx.TensorProto.EXTERNAL
    assert all(value.data_location != external for value in model.graph.initializer)
    for value in (*model.graph.input, *model.graph.output):
        assert all(d.HasField("dim_value") for d in value.type.tensor_type.shape.dim)


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("flavour", ["litert-float", "litert-int8"])
def test_tflite_file_is_of_builtin_operators(bundles, flavour, graph):
    model = read_tflite(bundles, flavour, graph)
    assert len(model.subgraphs) == 1
    for code in model.operatorCodes:
        assert code.customCode is None
        assert code.builtinCode != tflite.BuiltinOperator.CUSTOM


def test_training_step_has_no_scatter_and_no_random_operator(bundles):
    names = {node.op_type for node in read_onnx(bundles, "onnx-float", "training_step").graph.node}
    step = read_tflite(bundles, "litert-float", "training_step")
    names |= {BUILTIN[code.builtinCode] for code in step.operatorCodes}
    assert "MatMul" in names
    assert "BATCH_MATMUL" in names
    assert [n for n in names if "scatter" in n.lower() or "random" in n.lower()] == []


def test_user_model_has_no_dropout_left(bundles):
    for flavour in ("onnx-float", "onnx-int8"):
        names = {node.op_type for node in read_onnx(bundles, flavour, "user_model").graph.node}
        assert "Dropout" not in names


@pytest.mark.parametrize("flavour", ["litert-float", "litert-int8", "onnx-float", "onnx-int8"])
def test_border_of_every_graph_follows_the_recipe(bundles, tiny, student, flavour):
    length, d, content_d = tiny.history_length, tiny.d, tiny.content_d
    b, k = tiny.step_batch, tiny.step_candidates
    width, layers = tiny.student_user.width, tiny.student_user.layers
    personal = (2 * layers + 1) * 2 * width  # gains and biases of every norm
    theta = sum(p.numel() for p in student.ranker.tower.parameters()) + content_d * d
    expected = {
        "text_encoder": (
            {"tokens": ("int32", (tiny.text_batch, tiny.text_tokens))},
            {"content": ("float32", (tiny.text_batch, content_d))},
        ),
        "user_model": (
            {
                "vectors": ("float32", (1, length, d)),
                "signals": ("int32", (1, length)),
                "gaps": ("int32", (1, length)),
                "mask": ("float32", (1, length)),
                "personal": ("float32", (personal,)),
            },
            {"user": ("float32", (1, d))},
        ),
        "training_step": (
            {
                "theta": ("float32", (theta,)),
                "rate": ("float32", (1,)),
                "content": ("float32", (b, length, content_d)),
                "delta": ("float32", (b, length, d)),
                "signals": ("int32", (b, length)),
                "gaps": ("int32", (b, length)),
                "mask": ("float32", (b, length)),
                "candidate_content": ("float32", (k, content_d)),
                "candidate_delta": ("float32", (k, d)),
                "candidate_prior": ("float32", (k,)),
                "target": ("int32", (b, length)),
            },
            {"loss": ("float32", ()), "theta_after": ("float32", (theta,))},
        ),
    }
    graphs = open_bundle(bundles / flavour).manifest.graphs
    found = {
        name: tuple(
            {port: (record.dtype, record.shape) for port, record in ports.items()}
            for ports in (graph.inputs, graph.outputs)
        )
        for name, graph in graphs.items()
    }
    assert found == expected


def test_sample_inputs_are_the_same_each_time(tiny, student, items):
    for item in exportables(tiny, student):
        for name, value in item.inputs.items():
            assert value.equal(items[item.name].inputs[name])
        for name, value in item.answers().items():
            assert value.equal(items[item.name].answers()[name])
