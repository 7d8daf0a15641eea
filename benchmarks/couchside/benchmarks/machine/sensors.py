"""Where watts are read: a Jetson's INA3221 and INA238, a PC's RAPL, NVIDIA's tegrastats.

Kernel documentation of hwmon ``ina3221`` (mV, mA, labels), of hwmon ``ina238`` (µW; one is at the
input of Thor's developer kit) and of powercap ``intel-rapl`` (µJ, wraps at
``max_energy_range_uj``); tegrastats prints ``RAIL now mW/average mW``.
"""

from __future__ import annotations

import re
import subprocess
import threading
import time
from math import prod
from typing import TYPE_CHECKING, Protocol

from couchside.benchmarks.errors import UsageError
from couchside.benchmarks.machine.board import read_int, read_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BOARD_RAILS = ("VDD_IN", "VIN")
"""What the whole board takes: Orin Nano and NX, Thor's developer kit. Without one the rails are
added, which on AGX Orin are the module's, without the carrier board."""
TEGRASTATS_RAIL = re.compile(r"(\w+) (\d+)mW/\d+mW")
STOP_LIMIT_S = 5.0


class Sensor(Protocol):
    """Reads power now."""

    name: str

    def watts(self) -> dict[str, float]:
        """Power of each rail; the board's under one of :data:`BOARD_RAILS` where it is known."""

    def close(self) -> None:
        """End whatever it started."""


class Ina3221:
    """A Jetson's rails, by hwmon ``ina3221`` and ``ina238`` wherever the kernel has put them."""

    name = "ina3221"

    def __init__(self, root: Path) -> None:
        hwmons = sorted((root / "sys/class/hwmon").glob("hwmon*"))
        self._rails = dict(rail for hwmon in hwmons for rail in _ina_rails(hwmon))
        if not self._rails:
            raise UsageError("no INA3221 power sensor here; try --power tegrastats or off")

    def watts(self) -> dict[str, float]:
        """Power of each rail that can be read now."""
        read = {rail: [read_int(file) for file in files] for rail, files in self._rails.items()}
        return {
            rail: prod(known) / 1e6
            for rail, values in read.items()
            if len(known := [value for value in values if value is not None]) == len(values)
        }

    def close(self) -> None:
        """Nothing was started."""


def _ina_rails(hwmon: Path) -> Iterator[tuple[str, tuple[Path, ...]]]:
    """Rails, and the files whose product is their power in µW."""
    kind = read_text(hwmon / "name")
    if kind == "ina238":
        yield "VIN", (hwmon / "power1_input",)
    if kind != "ina3221":
        return
    for label in sorted(hwmon.glob("in*_label")):
        number = label.name.removeprefix("in").removesuffix("_label")
        rail, ampere = read_text(label), hwmon / f"curr{number}_input"
        # The sum of shunt voltages has a label, too, but no current.
        if rail and ampere.exists():
            yield rail, (hwmon / f"in{number}_input", ampere)


class Rapl:
    """A PC's packages, by powercap ``intel-rapl``: energy since the last look."""

    name = "rapl"

    def __init__(self, root: Path, clock: Callable[[], float] = time.monotonic) -> None:
        zones = sorted((root / "sys/class/powercap").glob("intel-rapl:[0-9]*"))
        self._zones = [zone for zone in zones if zone.name.count(":") == 1]
        if not self._zones:
            raise UsageError("no RAPL counters here (virtual machines have none); use --power off")
        self._clock = clock
        self._last = (clock(), [self._read(zone) for zone in self._zones])

    def watts(self) -> dict[str, float]:
        """Mean power of each package since the last call."""
        now, values = self._clock(), [self._read(zone) for zone in self._zones]
        (before, old), self._last = self._last, (now, values)
        if now <= before:
            return {}
        return {
            read_text(zone / "name") or zone.name: self._used(zone, was, is_) / (now - before) / 1e6
            for zone, was, is_ in zip(self._zones, old, values, strict=True)
        }

    def close(self) -> None:
        """Nothing was started."""

    def _used(self, zone: Path, before: int, after: int) -> int:
        if after >= before:
            return after - before
        return after - before + (read_int(zone / "max_energy_range_uj") or 0)

    def _read(self, zone: Path) -> int:
        file = zone / "energy_uj"
        try:
            return int(file.read_text())
        except PermissionError as error:
            raise UsageError(
                f"{file}: only root may read it since Linux 5.10; run as root, or let your group "
                "read it with a udev rule"
            ) from error
        except (OSError, ValueError) as error:
            raise UsageError(f"{file}: can't be read: {error}") from error


class Tegrastats:
    """NVIDIA's own tool, for boards whose sensors the kernel does not show."""

    name = "tegrastats"

    def __init__(self, command: str = "tegrastats", interval_ms: int = 100) -> None:
        try:
            self._tool = subprocess.Popen(
                [command, "--interval", str(interval_ms)],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            )  # fmt: skip
        except OSError as error:
            raise UsageError(
                f"{command}: {error.strerror}; it comes with Jetson Linux; elsewhere --power off"
            ) from error
        self._now: dict[str, float] = {}
        threading.Thread(target=self._listen, daemon=True).start()

    def watts(self) -> dict[str, float]:
        """As the last line said."""
        return dict(self._now)

    def close(self) -> None:
        """End the tool."""
        self._tool.terminate()
        try:
            self._tool.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._tool.kill()
            self._tool.wait()
        if self._tool.stdout is not None:
            self._tool.stdout.close()

    def _listen(self) -> None:
        try:
            for line in self._tool.stdout or ():
                self._now = parse_tegrastats(line)
        except ValueError:  # closed while it was read
            return


def parse_tegrastats(line: str) -> dict[str, float]:
    """Watts of each rail in a line of tegrastats."""
    return {rail: int(milli) / 1000 for rail, milli in TEGRASTATS_RAIL.findall(line)}


def _tegrastats(root: Path) -> Tegrastats:
    command = next((c for c in ("usr/bin/tegrastats", "usr/local/bin/tegrastats")
                    if (root / c).exists()), None)  # fmt: skip
    if command is None:
        raise UsageError("no tegrastats here: it comes with Jetson Linux; elsewhere --power off")
    return Tegrastats(str(root / command))


OPENERS: dict[str, Callable[[Path], Sensor]] = {
    "ina3221": Ina3221,
    "rapl": Rapl,
    "tegrastats": _tegrastats,
}
"""By the name that ``--power`` takes."""
