"""ONNX graphs on TensorRT, through onnxruntime's TensorRT provider.

The provider builds the engine on the board, as engines depend on GPU and driver and none can be
shipped; what it built is kept (:mod:`.engines`), so that only the first start takes that long.
Nodes that TensorRT does not take run on CUDA or the CPU; ``share`` tells how many it took, where
onnxruntime is new enough to say. Not run on a GPU so far: docs/decisions/005.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from couchside.device.errors import BundleError, RuntimeUnavailableError
from couchside.device.process import memory
from couchside.device.runtime.engines import EngineCache, EngineKey, cache_folder
from couchside.device.runtime.gpu import read_gpu

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from couchside.device.bundle import GraphRecord
    from couchside.device.runtime.gpu import Gpu

PROVIDER = "TensorrtExecutionProvider"
OTHERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
PREFIX = "couchside"
"""First part of an engine file's name."""
WHO_RUNS_WHAT = "session.record_ep_graph_assignment_info"
"""Session option since onnxruntime 1.24; older ones ignore it."""
STATUS = Path("/proc/self/status")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Opened:
    """What opening a graph took."""

    session: Any
    built: bool
    """Whether the engine was built now; otherwise it was kept from before."""
    seconds: float
    engine_bytes: int | None
    """None where engines can't be kept."""
    grown_bytes: int
    """By how much the process's peak of resident memory rose, without what only the GPU sees."""


class TensorRTBackend:
    """One session.

    Args:
        path: of the ONNX file.
        record: what its border is.
        gpu: asks what there is; nothing is kept if that can't be told. None asks the libraries.
        cache: folder to keep engines in; None is the one that the environment names.

    Raises:
        BundleError: TensorRT can't build an engine.
        RuntimeUnavailableError: it is not installed, or there is no GPU for it.
    """

    def __init__(
        self,
        path: str,
        record: GraphRecord,
        *,
        gpu: Callable[[], Gpu | None] | None = None,
        cache: Path | None = None,
    ) -> None:
        onnxruntime = _import()
        self.opened = _open(
            onnxruntime, path, (gpu or read_gpu)(), cache or cache_folder(os.environ)
        )
        self._session = self.opened.session
        self._outputs = [port.tensor for port in record.outputs.values()]
        self.share = _share(self._session)
        _tell(path, self.opened, self.share)

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Compute every output; returns after the copy back to the host."""
        values = self._session.run(self._outputs, dict(feeds))
        return dict(zip(self._outputs, values, strict=True))


def _import() -> Any:
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
    return onnxruntime


def _open(onnxruntime: Any, path: str, gpu: Gpu | None, folder: Path) -> Opened:
    """Open with an engine that was kept, or build it and keep it; built once more if it is bad."""
    began, before = time.monotonic(), _peak()
    cache = None if gpu is None else _cache(folder)
    if cache is None or gpu is None:
        session = _session(onnxruntime, path, {})
        seconds, grown = time.monotonic() - began, _peak() - before
        return Opened(session, built=True, seconds=seconds, engine_bytes=None, grown_bytes=grown)
    key = EngineKey(
        _model_sha256(path),
        gpu.tensorrt,
        gpu.compute_capability,
        gpu.driver,
        str(onnxruntime.__version__),
    )
    with cache.alone():
        session, built = _kept_or_built(onnxruntime, path, cache, key)
        size = cache.seal(key) if built else cache.opened(key)
    return Opened(session, built, time.monotonic() - began, size, _peak() - before)


def _kept_or_built(
    onnxruntime: Any, path: str, cache: EngineCache, key: EngineKey
) -> tuple[Any, bool]:
    place, whole = cache.find(key)
    if whole:
        try:
            return _session(onnxruntime, path, _keep_in(place)), False
        except BundleError as error:
            # Whole, and yet refused: something it depends on is not in the key.
            log.warning("engine of %s refused, built anew: %s", Path(path).name, error)
            cache.forget(key)
            place, _ = cache.find(key)
    return _session(onnxruntime, path, _keep_in(place)), True


def _keep_in(place: Path) -> dict[str, str]:
    return {
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": str(place),
        "trt_engine_cache_prefix": PREFIX,
    }


def _session(onnxruntime: Any, path: str, keep: dict[str, str]) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry(WHO_RUNS_WHAT, "1")
    try:
        # Without enable_fallback=0 a failure ends in a session on the CPU, and words on stdout.
        session = onnxruntime.InferenceSession(
            path, options, providers=[(PROVIDER, keep), *OTHERS], enable_fallback=0
        )
    except Exception as error:
        raise BundleError(f"{path}: TensorRT can't build it: {error}") from error
    if PROVIDER not in session.get_providers():
        raise RuntimeUnavailableError(
            "TensorRT did not start (no NVIDIA GPU, or the driver is too old for it)"
        )
    return session


def _cache(folder: Path) -> EngineCache | None:
    """None, with a word, if it can't be used: a board without a cache still answers."""
    try:
        return EngineCache(folder)
    except OSError as error:
        log.warning("engines are not kept and are built at every start: %s", error)
        return None


def _share(session: Any) -> float | None:
    """Share of the graph's nodes that TensorRT took; None if onnxruntime does not tell."""
    try:
        parts = session.get_provider_graph_assignment_info()
    except (AttributeError, RuntimeError):
        return None
    nodes = [(part.ep_name, len(part.get_nodes())) for part in parts]
    every = sum(count for _, count in nodes)
    return sum(count for name, count in nodes if name == PROVIDER) / every if every else None


def _tell(path: str, opened: Opened, share: float | None) -> None:
    how = "built" if opened.built else "kept from before"
    size = "not kept" if opened.engine_bytes is None else f"{opened.engine_bytes:,} bytes on disk"
    took = "unknown" if share is None else f"{share:.0%}"
    log.info(
        "engine of %s %s: %.1f s, %s, peak memory +%d MB, nodes in TensorRT: %s",
        Path(path).name, how, opened.seconds, size, opened.grown_bytes // 1_000_000, took,
    )  # fmt: skip


def _model_sha256(path: str) -> str:
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _peak() -> int:
    return memory(STATUS).get("peak_rss_bytes", 0)
