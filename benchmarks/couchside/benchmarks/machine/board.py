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

JETPACKS = {
    "R35": "5",
    "R36": "6",
    "R36.3.0": "6.0",
    "R36.4.0": "6.1",
    "R36.4.3": "6.2",
    "R36.4.4": "6.2.1",
    "R38": "7",
    "R38.2.0": "7.0",
    "R38.2.1": "7.0",
    "R38.4.0": "7.1",
    "R39": "7",
    "R39.2.0": "7.2",
}
"""Jetson Linux → JetPack: NVIDIA's archives of both (docs.nvidia.com/jetson/archives,
developer.nvidia.com/embedded/jetpack-archive) up to R38.4; R39.2 as owners of JetPack 7.2 read it.
One that is not named is known by its first number only."""
CHECKOUT = Path(__file__).resolve().parents[4]
"""Where this file is benchmarks/couchside/benchmarks/machine/board.py; elsewhere once installed."""
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
    """Release that this Jetson Linux belongs to; of one that is not known only its first number."""
    cuda: str | None
    """Version of the toolkit below /usr/local/cuda; None if it is elsewhere or not there."""
    power_mode: str | None
    """Jetson: id and name of the power model."""
    gpu_mhz: Mapping[str, float]
    """Of an integrated GPU: min, cur, max; empty where the kernel shows none."""
    clocks_locked: bool | None
    """Whether CPU and GPU are pinned to one frequency; None where none is shown."""
    gpu: str | None
    """NVIDIA's name of a discrete GPU and its driver; None where there is no nvidia-smi."""
    container: str | None
    """What gives away that this runs in one; None if nothing does."""
    memory_limit_bytes: int | None
    """Of the cgroup; None if there is none."""
    cpu_limit: float | None
    """Cores' worth of time that the cgroup may use; None if there is no limit."""
    commit: str | None
    """Of the checkout that this ran from; None if it was installed or git does not tell."""
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
        cuda=_cuda(root),
        power_mode=power_mode(root),
        gpu_mhz=_gpu_mhz(root),
        clocks_locked=locked_clocks(root),
        gpu=_gpu(root),
        container=_container(root),
        memory_limit_bytes=read_int(root / "sys/fs/cgroup/memory.max"),
        cpu_limit=_cpu_limit(root),
        commit=_commit(CHECKOUT),
        python=platform.python_version(),
        runtimes=_runtimes(),
        load_average=_load_average(root),
        temperatures_c=temperatures(root),
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
    limits = [(read_int(p / "scaling_min_freq"), read_int(p / "scaling_max_freq")) for p in cpus]
    limits += [(read_int(gpu / "min_freq"), read_int(gpu / "max_freq")) for gpu in _gpus(root)]
    known = [(low, high) for low, high in limits if low is not None and high is not None]
    return all(low == high for low, high in known) if known else None


def _gpus(root: Path) -> list[Path]:
    """17000000.gpu (Orin, R36), 17000000.ga10b (R35), gpu-gpc-0 (Thor)."""
    folder = root / "sys/class/devfreq"
    return sorted(path for kind in ("*gpu*", "*.ga10b") for path in folder.glob(kind))


def _gpu_mhz(root: Path) -> dict[str, float]:
    for gpu in _gpus(root):
        known = {name: read_int(gpu / f"{name}_freq") for name in ("min", "cur", "max")}
        return {name: hertz / 1e6 for name, hertz in known.items() if hertz is not None}
    return {}


def _cuda(root: Path) -> str | None:
    found = re.search(
        r'"cuda"\s*:\s*{[^}]*"version"\s*:\s*"([\d.]+)"',
        read_text(root / "usr/local/cuda/version.json") or "",
    )
    return found[1] if found else None


def _cpu_limit(root: Path) -> float | None:
    found = re.fullmatch(r"(\d+) (\d+)", read_text(root / "sys/fs/cgroup/cpu.max") or "")
    return int(found[1]) / int(found[2]) if found else None


def _commit(checkout: Path) -> str | None:
    """Read from .git, as a board has no git; None for a branch that git has packed away."""
    head = read_text(checkout / ".git/HEAD")
    if head is None or not head.startswith("ref: "):
        return head
    return read_text(checkout / ".git" / head.removeprefix("ref: "))


def _model(root: Path) -> str | None:
    # The link in proc leads out of a root that is not /.
    tree = read_text(root / "proc/device-tree/model") or read_text(
        root / "sys/firmware/devicetree/base/model"
    )
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
    return (JETPACKS.get(l4t) or JETPACKS.get(l4t.split(".")[0])) if l4t else None


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
    # Its own root, too: a container is given the board's files below another one.
    for place in (root, Path("/")):
        for sign in (".dockerenv", "run/.containerenv", "run/systemd/container"):
            if (place / sign).exists():
                return f"/{sign}"
    return None


def power_mode(root: Path) -> str | None:
    """Id and name of a Jetson's power mode, such as ``2 MAXN_SUPER``."""
    found = re.search(r"pmode:(\d+)", read_text(root / "var/lib/nvpmodel/status") or "")
    if not found:
        return None
    number = int(found[1])
    names = power_modes(root)
    return f"{number} {names[number]}" if number in names else str(number)


def power_modes(root: Path) -> dict[int, str]:
    """Names of a Jetson's power modes by id."""
    text = read_text(root / "etc/nvpmodel.conf") or ""
    found = re.findall(r"^\s*< *POWER_MODEL +ID=(\d+) +NAME=(\S+) *>", text, re.MULTILINE)
    return {int(number): name for number, name in found}


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


def temperatures(root: Path) -> dict[str, float]:
    """Degrees Celsius by thermal zone, of the zones that can be read now."""
    zones = {}
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        milli = read_int(zone / "temp")  # unreadable while a Jetson's GPU sleeps
        if milli is not None:
            zones[read_text(zone / "type") or zone.name] = milli / 1000
    return zones
