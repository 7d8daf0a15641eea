"""``benchmark_latency --backend tensorrt`` tells what opening took; the GPU is simulated."""

import json
import logging
import sys

import pytest
from simulators.tensorrt import ORIN, FakeOnnxruntime

from couchside.benchmarks import latency
from couchside.benchmarks.errors import ExitCode

SHORT = (
    *("--warmup-ms", "0", "--warmup-iters", "0", "--iterations", "100", "--duration", "0"),
    *("--percentiles", "50,90", "--power", "off"),
)


@pytest.fixture
def run(bundles, tmp_path, monkeypatch, capsys):
    real = pytest.importorskip("onnxruntime")
    monkeypatch.setitem(sys.modules, "onnxruntime", FakeOnnxruntime(real))
    monkeypatch.setattr("couchside.device.runtime.tensorrt.read_gpu", lambda: ORIN)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CACHE_DIRECTORY", raising=False)

    def once(*flags):
        code = latency.main([str(bundles / "onnx-float"), *SHORT, "--json", "-", *flags])
        return code, json.loads(capsys.readouterr().out)

    return once


def test_first_run_tells_of_the_build_and_the_second_of_the_kept_engine(run):
    for told in ("built: ", "kept from before: "):
        code, document = run("--backend", "tensorrt")
        assert code == ExitCode.OK
        assert document["parity"]["checked"]
        (note,) = document["notes"]
        assert note.startswith(f"engine of user_model.onnx {told}")
        assert "nodes in TensorRT: 75%" in note


def test_listening_leaves_logging_as_it_was(run):
    logger = logging.getLogger("couchside.device.runtime")
    before = (logger.level, list(logger.handlers))
    run("--backend", "tensorrt")
    assert (logger.level, list(logger.handlers)) == before
