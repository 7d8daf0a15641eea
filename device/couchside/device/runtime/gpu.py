"""What an engine depends on: the GPU's compute capability, the driver, TensorRT's version.

Asked of the libraries themselves through ctypes (libcuda: ``cuInit``, ``cuDeviceGet``,
``cuDeviceGetAttribute``; libnvinfer: ``getInferLibVersion``), as no Python package for it is on
every Jetson. What can't be found is None, and then nothing is kept. Not run on a GPU so far.
"""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CUDA = "libcuda.so.1"
NVINFER = tuple(f"libnvinfer.so.{major}" for major in (11, 10, 8))
"""TensorRT's library, newest first."""
MAJOR, MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR."""
TEN = 10_000
"""Since TensorRT 10 a version is major · 10000 + minor · 100 + patch; before, major · 1000 + …"""


@dataclass(frozen=True, slots=True)
class Gpu:
    """The first GPU and what runs on it."""

    compute_capability: str
    driver: str
    tensorrt: str


def read_gpu(root: Path = Path("/")) -> Gpu | None:
    """Facts of the first GPU; None if one of them can't be found.

    Args:
        root: of the kernel's files, ``/`` but in tests.
    """
    cuda, nvinfer = _load(CUDA), next(filter(None, map(_load, NVINFER)), None)
    if cuda is None or nvinfer is None:
        return None
    capability, driver = compute_capability(cuda), driver_version(cuda, root)
    if capability is None or driver is None:
        return None
    return Gpu(capability, driver, tensorrt_version(nvinfer))


def compute_capability(cuda: Any) -> str | None:
    """Such as 8.7; None if CUDA doesn't start.

    Args:
        cuda: libcuda, as ctypes opens it.
    """
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    failed = (
        cuda.cuInit(0)
        or cuda.cuDeviceGet(ctypes.byref(device), 0)
        or cuda.cuDeviceGetAttribute(ctypes.byref(major), MAJOR, device)
        or cuda.cuDeviceGetAttribute(ctypes.byref(minor), MINOR, device)
    )
    return None if failed else f"{major.value}.{minor.value}"


def driver_version(cuda: Any, root: Path) -> str | None:
    """The kernel module's version, or the Jetson Linux it is part of, and the CUDA it speaks."""
    speaks = ctypes.c_int()
    if cuda.cuDriverGetVersion(ctypes.byref(speaks)):
        return None
    for name, pattern in (
        ("proc/driver/nvidia/version", r"\b(\d+\.\d+(?:\.\d+)?)\b"),
        ("etc/nv_tegra_release", r"(R\d+ \(release\), REVISION: [\d.]+)"),
    ):
        try:
            found = re.search(pattern, (root / name).read_text(encoding="utf-8"))
        except OSError:
            continue
        if found:
            return f"{found[1]} CUDA {speaks.value}"
    return None


def tensorrt_version(nvinfer: Any) -> str:
    """Such as 10.3.0.

    Args:
        nvinfer: libnvinfer, as ctypes opens it.
    """
    number = int(nvinfer.getInferLibVersion())
    unit = TEN if number >= TEN else 1000
    return f"{number // unit}.{number % unit // 100}.{number % 100}"


def _load(name: str) -> Any:
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None
