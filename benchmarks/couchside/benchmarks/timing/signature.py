"""The border of a bare model file, as its runtime tells it: names, shapes, dtypes."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from couchside.benchmarks.errors import UsageError
from couchside.device.bundle import GraphRecord, PortRecord
from couchside.device.errors import RuntimeUnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from couchside.device.bundle import RuntimeName

ONNX_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}


Ports = dict[str, PortRecord]


def read_signature(path: Path, backend: RuntimeName, batch: int = 1) -> tuple[GraphRecord, bool]:
    """The record of a model file; a dimension that the file leaves open counts as ``batch``.

    Returns:
        The record, and whether it leaves any open.

    Raises:
        UsageError: the runtime can't read the file, or it takes what can't be invented (text).
        RuntimeUnavailableError: the runtime is not installed.
    """
    if backend == "litert":
        inputs, outputs = _litert_ports(path)
        return GraphRecord(path.name, "float32", inputs, outputs), False
    session = _onnx_session(path)
    inputs, outputs = (
        {node.name: _port(path, node, batch) for node in nodes}
        for nodes in (session.get_inputs(), session.get_outputs())
    )
    sizes = [size for node in session.get_inputs() for size in node.shape]
    is_open = not all(isinstance(size, int) for size in sizes)
    return GraphRecord(path.name, "float32", inputs, outputs), is_open


def _litert_ports(path: Path) -> tuple[Ports, Ports]:
    try:
        runner = _interpreter(path).get_signature_runner()
    except (RuntimeError, ValueError) as error:
        raise UsageError(f"{path}: LiteRT finds no model with one signature: {error}") from error

    def ports(details: dict[str, dict[str, Any]]) -> Ports:
        return {
            n: _record(path, n, d["shape"], np.dtype(d["dtype"]).name) for n, d in details.items()
        }

    return ports(runner.get_input_details()), ports(runner.get_output_details())


def _interpreter(path: Path) -> Any:
    for package in ("ai_edge_litert", "tflite_runtime"):
        try:
            module = import_module(f"{package}.interpreter")
        except ImportError:
            continue
        return module.Interpreter(model_path=str(path))
    raise RuntimeUnavailableError("LiteRT is not installed: pip install 'couchside[litert]'")


def _onnx_session(path: Path) -> Any:
    try:
        import onnxruntime  # noqa: PLC0415 - only where it is asked for
    except ImportError as error:
        raise RuntimeUnavailableError(
            "onnxruntime is not installed: pip install 'couchside[onnx]'"
        ) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise UsageError(f"{path}: onnxruntime can't load it: {error}") from error


def _port(path: Path, node: Any, batch: int) -> PortRecord:
    sizes = tuple(size if isinstance(size, int) else batch for size in node.shape)
    return _record(path, node.name, sizes, ONNX_DTYPES.get(node.type, node.type))


def _record(path: Path, name: str, sizes: Sequence[Any], dtype: str) -> PortRecord:
    if dtype not in ONNX_DTYPES.values():
        raise UsageError(f"{path}: {name!r} is {dtype}, for which no numbers can be invented")
    # A Bundle's ports are int32 or float32; a stranger's file may have others.
    return PortRecord(name, cast("Any", dtype), tuple(int(size) for size in sizes))
