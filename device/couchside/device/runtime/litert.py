"""TFLite graphs on LiteRT, or on tflite-runtime 2.14 where a TV is 32-bit (no LiteRT wheel there).

Both offer the same ``Interpreter``. tflite-runtime misreads per-channel dynamic int8 without an
error, which is why a Bundle's golden vectors are checked on the TV itself.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from couchside.device.errors import BundleError, RuntimeUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from couchside.device.bundle import GraphRecord


class LiteRTBackend:
    """One interpreter, one signature."""

    def __init__(self, path: str, record: GraphRecord, *, threads: int) -> None:
        interpreter_class = _interpreter_class()
        with _quiet_stderr():
            self._interpreter = interpreter_class(model_path=path, num_threads=threads)
            self._interpreter.allocate_tensors()
        wanted = {port.tensor for port in (*record.inputs.values(), *record.outputs.values())}
        runner = self._interpreter.get_signature_runner()
        have = {*runner.get_input_details(), *runner.get_output_details()}
        if wanted != have:
            raise BundleError(f"{path}: the graph has {sorted(have)}, not {sorted(wanted)}")
        self._run = runner

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Compute every output; the arrays are copies."""
        return self._run(**feeds)  # type: ignore[no-any-return]


def _interpreter_class() -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415
    except ImportError:
        try:
            from tflite_runtime.interpreter import Interpreter  # noqa: PLC0415
        except ImportError as error:
            raise RuntimeUnavailableError(
                "this Bundle needs LiteRT: pip install 'couchside[litert]' "
                "(32-bit ARM: 'couchside[tflite]'), or take an onnx flavour"
            ) from error
    return Interpreter


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Keep the delegate's greeting out of the TV's log: it writes to file descriptor 2 itself."""
    saved = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)
