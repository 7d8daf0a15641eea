"""ONNX graphs on TensorRT, through onnxruntime's TensorRT provider.

The provider builds the engine on the board at every load (engines depend on GPU and driver, so none
is shipped, and none is cached yet). Plain TensorRT would need CUDA buffers of our own for the same
result. Not run on a GPU so far: docs/decisions/005.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from couchside.device.errors import BundleError, RuntimeUnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from couchside.device.bundle import GraphRecord

PROVIDER = "TensorrtExecutionProvider"


class TensorRTBackend:
    """One session whose nodes all run in TensorRT."""

    def __init__(self, path: str, record: GraphRecord) -> None:
        self._session = _open_session(path)
        self._outputs = [port.tensor for port in record.outputs.values()]

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Compute every output; returns after the copy back to the host."""
        values = self._session.run(self._outputs, dict(feeds))
        return dict(zip(self._outputs, values, strict=True))


def _open_session(path: str) -> Any:
    try:
        import onnxruntime  # noqa: PLC0415
    except ImportError as error:
        raise RuntimeUnavailableError(
            "TensorRT needs onnxruntime-gpu: pip install 'couchside[tensorrt]'"
        ) from error
    if PROVIDER not in onnxruntime.get_available_providers():
        raise RuntimeUnavailableError(
            "this onnxruntime has no TensorRT provider: on a Jetson install NVIDIA's "
            "onnxruntime-gpu wheel, elsewhere pip install 'couchside[tensorrt]'"
        )
    try:
        session = onnxruntime.InferenceSession(
            path, providers=[PROVIDER, "CUDAExecutionProvider", "CPUExecutionProvider"]
        )
    except Exception as error:
        raise BundleError(f"{path}: TensorRT can't build it: {error}") from error
    if PROVIDER not in session.get_providers():
        raise RuntimeUnavailableError(
            "TensorRT did not start (no NVIDIA GPU, or the driver is too old for it)"
        )
    return session
