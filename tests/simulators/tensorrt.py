"""A GPU and an onnxruntime that has a TensorRT provider, without either.

    monkeypatch.setitem(sys.modules, "onnxruntime", FakeOnnxruntime())
    backend = TensorRTBackend(path, record, gpu=lambda: ORIN, cache=tmp_path)

The provider keeps its engines as the real one does (options ``trt_engine_cache_enable``, ``_path``
and ``_prefix``): a file that is there is opened, otherwise one is built and written. An engine of
other bytes than it wrote is refused. What the graph computes, the real onnxruntime computes on
the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from couchside.device.runtime.gpu import Gpu

if TYPE_CHECKING:
    import ctypes

ORIN = Gpu(compute_capability="8.7", driver="R36 (release), REVISION: 4.3 CUDA 12060",
           tensorrt="10.3.0")  # fmt: skip
ENGINE = b"an engine of "


@dataclass(frozen=True)
class Part:
    """Nodes that one provider runs."""

    ep_name: str
    nodes: int

    def get_nodes(self) -> list[int]:
        """So many as there are."""
        return list(range(self.nodes))


class FakeSession:
    """What ``InferenceSession`` is with the TensorRT provider."""

    def __init__(self, owner: FakeOnnxruntime, path: str, providers: list[Any]) -> None:
        self._owner, self._path = owner, path
        self._real: Any = None
        (_, keep), *_ = providers
        if owner.refuses:
            raise RuntimeError("node 9 [DynamicQuantizeLinear] is not supported")
        if keep.get("trt_engine_cache_enable") == "True":
            file = Path(
                keep["trt_engine_cache_path"], f"{keep['trt_engine_cache_prefix']}_0.engine"
            )
            if file.exists():
                self._load(file)
                return
            file.write_bytes(ENGINE + Path(path).name.encode())
        owner.built += 1

    def _load(self, file: Path) -> None:
        self._owner.loaded += 1
        if self._owner.crash_on_load:
            raise SystemExit("segmentation fault")  # nothing catches it, as with the real one
        if self._owner.refuse_next or not file.read_bytes().startswith(ENGINE):
            self._owner.refuse_next = False
            raise RuntimeError("could not deserialize engine")

    def get_providers(self) -> list[str]:
        """Those that started."""
        return self._owner.started

    def get_provider_graph_assignment_info(self) -> list[Part]:
        """TensorRT takes all nodes but one."""
        return [Part("TensorrtExecutionProvider", 3), Part("CPUExecutionProvider", 1)]

    def run(self, outputs: list[str], feeds: dict[str, Any]) -> list[Any]:
        """On the CPU."""
        if self._real is None:
            self._real = self._owner.real.InferenceSession(
                self._path, providers=["CPUExecutionProvider"]
            )
        return self._real.run(outputs, feeds)


class Options:
    """What ``SessionOptions`` is."""

    log_severity_level = 2

    def add_session_config_entry(self, key: str, value: str) -> None:
        """Nothing comes of it."""


class FakeOnnxruntime:
    """The module ``onnxruntime``.

    Args:
        real: the real one, for tests that compute something.
    """

    SessionOptions = Options

    def __init__(self, real: Any = None) -> None:
        self.real = real
        self.__version__ = "1.32.0"
        self.started = ["TensorrtExecutionProvider", "CPUExecutionProvider"]
        self.built = self.loaded = 0
        self.refuses = self.refuse_next = self.crash_on_load = False

    def get_available_providers(self) -> list[str]:
        """Those it was built with."""
        return ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]

    def InferenceSession(  # noqa: N802 - onnxruntime's name
        self, path: str, options: Options, *, providers: list[Any], enable_fallback: int
    ) -> FakeSession:
        """Open a model; a failure is told and not papered over."""
        assert enable_fallback == 0
        assert isinstance(options, Options)
        return FakeSession(self, path, providers)


class FakeCuda:
    """libcuda on an Orin; each call but the one in ``fails`` returns CUDA_SUCCESS."""

    def __init__(self, fails: str = "") -> None:
        self._fails = fails

    def cuInit(self, _flags: int) -> int:  # noqa: N802
        """Start."""
        return int(self._fails == "cuInit")

    def cuDeviceGet(self, device: Any, _ordinal: int) -> int:  # noqa: N802
        """The first one."""
        device._obj.value = 0
        return int(self._fails == "cuDeviceGet")

    def cuDeviceGetAttribute(self, value: Any, what: int, device: ctypes.c_int) -> int:  # noqa: N802
        """8.7, by two attributes."""
        assert device.value == 0
        value._obj.value = {75: 8, 76: 7}[what]
        return int(self._fails == "cuDeviceGetAttribute")

    def cuDriverGetVersion(self, value: Any) -> int:  # noqa: N802
        """CUDA 12.6."""
        value._obj.value = 12060
        return int(self._fails == "cuDriverGetVersion")
