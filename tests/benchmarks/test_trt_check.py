"""TensorRT's verdict on each graph, in its own words; its parser is a fake, the Bundles are not.

With ``COUCHSIDE_TENSORRT_PYTHON`` set to a Python that has tensorrt or tensorrt_rtx, that one is
asked too. It is not collected otherwise: CI has none, and allows no skips.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest

import couchside
from couchside.benchmarks.errors import ExitCode
from couchside.benchmarks.machine.trt_check import main

REAL = os.environ.get("COUCHSIDE_TENSORRT_PYTHON")


class Logger:
    ERROR, INTERNAL_ERROR, WARNING = "error", "internal error", "warning"


class Network:
    file = ""


class FakeParser:
    """Refuses what is named in ``refused``: kind of node → nodes."""

    refused: ClassVar[dict] = {}

    def __init__(self, network, log):
        self._network, self._log = network, log
        self._errors = [
            SimpleNamespace(
                node_operator=lambda kind=kind: kind,
                node_name=lambda name=name: name,
                desc=lambda: "false",
            )
            for kind, names in self.refused.items()
            for name in names
        ]

    def parse_from_file(self, path):
        self._network.file = path
        return not self._errors

    @property
    def num_errors(self):
        return len(self._errors)

    def get_error(self, number):
        return self._errors[number]


class FakeBuilder:
    """Builds an engine as large as the file; none of ``unbuildable``."""

    unbuildable = ""

    def __init__(self, log):
        self._log = log

    def create_network(self, _flags):
        return Network()

    def create_builder_config(self):
        return object()

    def build_serialized_network(self, network, _config):
        if self.unbuildable and self.unbuildable in network.file:
            self._log.log(Logger.WARNING, "slow")
            self._log.log(Logger.ERROR, "no kernel for Attention")
            return None
        return memoryview(Path(network.file).read_bytes())


@pytest.fixture
def tensorrt(monkeypatch):
    parser, builder = (type(kind.__name__, (kind,), {}) for kind in (FakeParser, FakeBuilder))
    fake = SimpleNamespace(
        __name__="tensorrt", __version__="10.3.0", ILogger=Logger, Builder=builder,
        OnnxParser=parser,
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    return fake


@pytest.fixture
def asked(tensorrt, bundles, capsys):
    def once(flavour="onnx-float", *flags):
        code = main([str(bundles / flavour), *flags])
        return code, capsys.readouterr().out

    return once


def test_graphs_that_are_built_are_told_with_their_size(asked):
    code, said = asked()
    assert code == ExitCode.OK
    lines = said.splitlines()
    assert lines[0] == "asked: tensorrt 10.3.0"
    assert {line.split(":")[0] for line in lines[1:]} == {
        "text_encoder", "user_model", "training_step",
    }  # fmt: skip
    assert "user_model: built in " in said


def test_refused_int8_says_which_nodes_and_which_flavour_to_take(asked, tensorrt):
    tensorrt.OnnxParser.refused = {"DynamicQuantizeLinear": ["a", "b", "b"], "MatMulInteger": ["c"]}
    code, said = asked("onnx-int8")
    assert code == ExitCode.MISSED
    assert "2 x DynamicQuantizeLinear, first a: false" in said
    assert "1 x MatMulInteger, first c: false" in said
    assert "take the float flavour" in said


def test_refused_node_of_another_kind_is_not_called_int8(asked, tensorrt):
    tensorrt.OnnxParser.refused = {"LayerNormalization": ["norm"]}
    assert "runs on the CPU" in asked()[1]


def test_graph_that_is_parsed_but_not_built_says_why(asked, tensorrt):
    tensorrt.Builder.unbuildable = "training_step"
    code, said = asked("onnx-float", "--json")
    assert code == ExitCode.MISSED
    verdicts = {one["graph"]: one for one in json.loads(said)["graphs"]}
    assert verdicts["training_step"]["verdict"] == "not built"
    assert verdicts["training_step"]["reasons"] == ["no kernel for Attention"]
    assert verdicts["user_model"]["verdict"] == "built"
    assert verdicts["user_model"]["engine_bytes"] > 0


def test_bare_file_is_checked_too(tensorrt, tmp_path, capsys):
    file = tmp_path / "mine.onnx"
    file.write_bytes(b"graph")
    assert main([str(file)]) == ExitCode.OK
    assert "mine: built" in capsys.readouterr().out


@pytest.mark.parametrize("flavour", ["litert-int8", "nothing.onnx"])
def test_what_tensorrt_can_not_read_is_refused(tensorrt, bundles, capsys, flavour):
    assert main([str(bundles / flavour)]) == ExitCode.USAGE
    assert "no ONNX file in it" in capsys.readouterr().err


def test_machine_without_tensorrt_says_where_it_comes_from(bundles, monkeypatch, capsys):
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    assert main([str(bundles / "onnx-float")]) == ExitCode.UNAVAILABLE
    assert "pip install tensorrt-rtx" in capsys.readouterr().err


if REAL:

    @pytest.mark.parametrize(
        ("flavour", "built"),
        [("onnx-float", {"text_encoder", "user_model"}), ("onnx-int8", set())],
    )
    def test_real_tensorrt_takes_float_graphs_and_refuses_int8_for_a_cpu(bundles, flavour, built):
        path = os.pathsep.join(str(Path(folder).parent) for folder in couchside.__path__)
        done = subprocess.run(
            [REAL, "-m", "couchside.benchmarks.machine.trt_check", bundles / flavour, "--json"],
            capture_output=True, text=True, timeout=200, check=False,
            env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
        graphs = json.loads(done.stdout)["graphs"]
        assert {one["graph"] for one in graphs if one["verdict"] == "built"} == built
