"""Which machine measured: a number without its board, power mode and governor is a rumour.

Everything is read from the kernel's files below one root, so that a test can lay out a Jetson in a
folder. What a machine does not tell is None, never a guess. On a Jetson the power mode is the one
that ``nvpmodel`` wrote to ``/var/lib/nvpmodel/status``, named by ``/etc/nvpmodel.conf``.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from collections.abc import Mapping  # noqa: TC003 - strict reads the types of a Board's fields
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

JETPACKS = {"R35": "5", "R36": "6", "R38": "7"}
"""Jetson Linux release → JetPack, as NVIDIA's Jetson Linux archive lists them."""
RUNTIMES = (
    "numpy",
    "ai-edge-litert",
    "tflite-runtime",
    "onnxruntime",
    "onnxruntime-gpu",
    "tensorrt",
)
"""Distributions whose versions decide about speed."""


@dataclass(frozen=True, slots=True)
class Board:
    """Facts that do not change during a run, but for the last two."""

    model: str | None
    """As the device tree (ARM) or the firmware (PC) calls it."""
    cpu: str | None
    architecture: str
    cores: int
    """Online."""
    governors: tuple[str, ...]
    """Of the CPU's frequency, each named once; empty where the system shows none (VMs)."""
    max_mhz: float | None
    """Highest frequency that the current limits allow."""
    memory_bytes: int | None
    kernel: str | None
    l4t: str | None
    """Jetson Linux release."""
    jetpack: str | None
    """Release that this Jetson Linux belongs to, by its first number."""
    power_mode: str | None
    """Jetson: id and name of the power model."""
    clocks_locked: bool | None
    """Whether CPU and GPU are pinned to one frequency; None where none is shown."""
    gpu: str | None
    """NVIDIA's name of a discrete GPU and its driver; None where there is no nvidia-smi."""
    container: str | None
    """What gives away that this runs in one; None if nothing does."""
    memory_limit_bytes: int | None
    """Of the cgroup; None if there is none."""
    python: str
    runtimes: Mapping[str, str]
    """Version of each installed distribution that decides about speed."""
    load_average: tuple[float, ...]
    """1, 5 and 15 minutes; more than ``cores`` means that others wanted the processor too."""
    temperatures_c: Mapping[str, float]
    """By thermal zone."""


def read_board(root: Path) -> Board:
    """Read the facts below ``root``, which is ``/`` but in tests."""
    cpuinfo = read_text(root / "proc/cpuinfo") or ""
    return Board(
        model=_model(root),
        cpu=_cpu(cpuinfo),
        architecture=platform.machine(),
        cores=len(re.findall(r"^processor\s*:", cpuinfo, re.MULTILINE)),
        governors=_governors(root),
        max_mhz=_max_mhz(root),
        memory_bytes=_memory_bytes(root),
        kernel=read_text(root / "proc/sys/kernel/osrelease"),
        l4t=_l4t(root),
        jetpack=_jetpack(root),
        power_mode=_power_mode(root),
        clocks_locked=locked_clocks(root),
        gpu=_gpu(root),
        container=_container(root),
        memory_limit_bytes=read_int(root / "sys/fs/cgroup/memory.max"),
        python=platform.python_version(),
        runtimes=_runtimes(),
        load_average=_load_average(root),
        temperatures_c=_temperatures(root),
    )


def read_text(file: Path) -> str | None:
    """A small file of the kernel without its end; None if it is not there or not readable."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text.strip("\0 \n\t") or None


def read_int(file: Path) -> int | None:
    """A file with one whole number in it; None if it is not that."""
    text = read_text(file)
    return int(text) if text is not None and re.fullmatch(r"-?\d+", text) else None


def locked_clocks(root: Path) -> bool | None:
    """Whether the frequencies of CPU and GPU are pinned; None if the machine shows none."""
    cpus = (root / "sys/devices/system/cpu/cpufreq").glob("policy*")
    gpus = (root / "sys/class/devfreq").glob("*gpu*")
    limits = [(read_int(p / "scaling_min_freq"), read_int(p / "scaling_max_freq")) for p in cpus]
    limits += [(read_int(gpu / "min_freq"), read_int(gpu / "max_freq")) for gpu in gpus]
    known = [(low, high) for low, high in limits if low is not None and high is not None]
    return all(low == high for low, high in known) if known else None


def _model(root: Path) -> str | None:
    tree = read_text(root / "proc/device-tree/model")
    return tree or read_text(root / "sys/class/dmi/id/product_name")


def _cpu(cpuinfo: str) -> str | None:
    """Name of the CPU; ARM kernels give numbers instead (implementer and part)."""
    pairs = re.finditer(r"^([^:\n]+?)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    fields = {pair[1]: pair[2] for pair in pairs}
    if "model name" in fields:
        return fields["model name"]
    if "CPU part" in fields:
        return f"ARM implementer {fields.get('CPU implementer', '?')} part {fields['CPU part']}"
    return fields.get("Hardware")


def _governors(root: Path) -> tuple[str, ...]:
    files = (root / "sys/devices/system/cpu/cpufreq").glob("policy*/scaling_governor")
    return tuple(sorted({name for file in files if (name := read_text(file))}))


def _max_mhz(root: Path) -> float | None:
    files = (root / "sys/devices/system/cpu/cpufreq").glob("policy*/scaling_max_freq")
    return max((khz / 1000 for file in files if (khz := read_int(file)) is not None), default=None)


def _memory_bytes(root: Path) -> int | None:
    found = re.search(
        r"^MemTotal:\s*(\d+) kB", read_text(root / "proc/meminfo") or "", re.MULTILINE
    )
    return int(found[1]) * 1024 if found else None


def _l4t(root: Path) -> str | None:
    """``# R36 (release), REVISION: 4.3, …`` → ``R36.4.3``."""
    text = read_text(root / "etc/nv_tegra_release") or ""
    found = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", text)
    return f"R{found[1]}.{found[2]}" if found else None


def _jetpack(root: Path) -> str | None:
    l4t = _l4t(root)
    return JETPACKS.get(l4t.split(".")[0]) if l4t else None


def _gpu(root: Path) -> str | None:
    """Asked once, and not below a made-up root."""
    if root != Path("/") or shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return said.strip().splitlines()[0] if said.strip() else None


def _container(root: Path) -> str | None:
    for sign in (".dockerenv", "run/.containerenv"):
        if (root / sign).exists():
            return f"/{sign}"
    return None


def _power_mode(root: Path) -> str | None:
    found = re.search(r"pmode:(\d+)", read_text(root / "var/lib/nvpmodel/status") or "")
    if not found:
        return None
    number = int(found[1])
    models = read_text(root / "etc/nvpmodel.conf") or ""
    name = re.search(rf"^< POWER_MODEL ID={number} NAME=(\S+) >", models, re.MULTILINE)
    return f"{number} {name[1]}" if name else str(number)


def _runtimes() -> dict[str, str]:
    found = {}
    for name in RUNTIMES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _load_average(root: Path) -> tuple[float, ...]:
    text = read_text(root / "proc/loadavg") or ""
    return tuple(float(word) for word in text.split()[:3])


def _temperatures(root: Path) -> dict[str, float]:
    zones = {}
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        milli = read_int(zone / "temp")  # unreadable while a Jetson's GPU sleeps
        if milli is not None:
            zones[read_text(zone / "type") or zone.name] = milli / 1000
    return zones
