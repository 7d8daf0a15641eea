"""ONNX graphs on onnxruntime's CPU provider."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from couchside.device.errors import BundleError, RuntimeUnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from couchside.device.bundle import GraphRecord


class OnnxRuntimeBackend:
    """One session."""

    def __init__(self, path: str, record: GraphRecord, *, threads: int) -> None:
        try:
            import onnxruntime  # noqa: PLC0415
        except ImportError as error:
            raise RuntimeUnavailableError(
                "this Bundle needs onnxruntime: pip install 'couchside[onnx]', "
                "or take a litert flavour"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False  # a TV wants the memory back
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise BundleError(f"{path}: onnxruntime can't load it: {error}") from error
        wanted = {port.tensor for port in (*record.inputs.values(), *record.outputs.values())}
        self._outputs = [port.name for port in self._session.get_outputs()]
        have = {*(port.name for port in self._session.get_inputs()), *self._outputs}
        if wanted != have:
            raise BundleError(f"{path}: the graph has {sorted(have)}, not {sorted(wanted)}")

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Compute every output."""
        values = self._session.run(self._outputs, dict(feeds))
        return dict(zip(self._outputs, values, strict=True))
