"""Power while something runs: from a Jetson's INA3221, from RAPL, or from tegrastats.

Energy is the mean power, by trapezoids over the monotonic clock, times the length of the run. What
an inference costs is that energy less what the idle board needs in the same time. Fewer than ten
samples are called insufficient, not rounded up to a number.

Sensors: kernel documentation of hwmon ``ina3221`` (mV, mA, labels), of hwmon ``ina238`` (µW; Thor's
developer kit has one at its input) and of powercap ``intel-rapl`` (µJ, wraps at
``max_energy_range_uj``); NVIDIA's tegrastats prints ``RAIL now mW/average mW``.
"""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Mapping  # noqa: TC003 - strict reads the types of these records
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path  # noqa: TC003 - as above
from typing import TYPE_CHECKING, Literal, Protocol, Self, get_args

from couchside.benchmarks.errors import UsageError
from couchside.benchmarks.machine.board import read_int, read_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

Source = Literal["auto", "off", "ina3221", "rapl", "tegrastats"]
SOURCES: tuple[Source, ...] = get_args(Source)
PowerVerdict = Literal["ok", "insufficient", "off", "unknown"]

FEWEST_SAMPLES = 10
BOARD_RAILS = ("VDD_IN", "VIN")
"""What the whole board takes: Orin Nano and NX, Thor's developer kit. Without one the rails are
added, which on AGX Orin are the module's, without the carrier board."""
TOTAL = "total"
TEGRASTATS_RAIL = re.compile(r"(\w+) (\d+)mW/\d+mW")
STOP_LIMIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Power:
    """What a run took."""

    verdict: PowerVerdict
    source: str
    """Which sensor; ``none`` where there is none."""
    samples: int = 0
    seconds: float = 0.0
    mean_w: float | None = None
    idle_w: float | None = None
    """Of the idle board just before; None if that was not measured."""
    joules: float | None = None
    joules_per_run: float | None = None
    """Above idle if idle was measured, otherwise all of it."""
    rails_w: Mapping[str, float] | None = None
    """Mean of each rail, where the sensor has several."""


class Sensor(Protocol):
    """Reads power now."""

    name: str

    def watts(self) -> dict[str, float]:
        """Power of each rail; the board's under one of :data:`BOARD_RAILS` where it is known."""

    def close(self) -> None:
        """End whatever it started."""


class PowerMeter:
    """Samples a sensor in the background while the block runs.

    Args:
        sensor: what to read.
        hz: how often.
        clock: monotonic seconds.
    """

    def __init__(
        self, sensor: Sensor, hz: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._sensor, self._period, self._clock = sensor, 1.0 / hz, clock
        self._samples: list[tuple[float, dict[str, float]]] = []
        self._idle_w: float | None = None
        self._began = self._ended = 0.0
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._over.clear()
        self._samples = []
        self._sensor.watts()  # RAPL tells the mean since the last call, which may be long ago
        self._began = self._clock()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        self._ended = self._clock()

    def idle(self, seconds: float) -> None:
        """Measure the idle board for a while."""
        with self:
            time.sleep(seconds)
        self._idle_w = _mean(_told(self._samples))

    def reading(self, runs: int) -> Power:
        """What the last block took; per run if there were any."""
        samples = _told(self._samples)
        mean_w = _mean(samples)
        if len(samples) < FEWEST_SAMPLES or mean_w is None:
            return Power("insufficient", self._sensor.name, len(samples), idle_w=self._idle_w)
        seconds, span = self._ended - self._began, samples[-1][0] - samples[0][0]
        above = mean_w - (self._idle_w or 0.0)
        rails = sorted({rail for _, watts in samples for rail in watts} - {TOTAL})
        return Power(
            verdict="ok",
            source=self._sensor.name,
            samples=len(samples),
            seconds=seconds,
            mean_w=mean_w,
            idle_w=self._idle_w,
            joules=mean_w * seconds,
            joules_per_run=above * seconds / runs if runs else None,
            rails_w={rail: _integral(samples, rail) / span for rail in rails},
        )

    def close(self) -> None:
        """End the sensor's own process, if it has one."""
        self._sensor.close()

    def _sample(self) -> None:
        while not self._over.wait(self._period):
            self._samples.append((self._clock(), self._sensor.watts()))


def open_meter(root: Path, source: Source, hz: float) -> PowerMeter | None:
    """A meter for the machine below ``root``; None for ``off``, and for ``auto`` without a sensor.

    Raises:
        UsageError: the sensor that was asked for is not there or may not be read.
    """
    if not 0.1 <= hz <= 1000:
        raise UsageError(f"--power-hz {hz:g}: must be from 0.1 to 1000")
    if source == "off":
        return None
    kinds = (source,) if source != "auto" else ("ina3221", "rapl", "tegrastats")
    for kind in kinds:
        try:
            return PowerMeter(_OPENERS[kind](root), hz)
        except UsageError:
            if source != "auto":
                raise
    return None


def none_reading(source: Source) -> Power:
    """What is said of a run without a meter."""
    return Power("off" if source == "off" else "unknown", "none")


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


_OPENERS: dict[str, Callable[[Path], Sensor]] = {
    "ina3221": Ina3221,
    "rapl": Rapl,
    "tegrastats": _tegrastats,
}


Samples = list[tuple[float, dict[str, float]]]


def _told(samples: Samples) -> Samples:
    """Samples with every rail that was ever read, and their total: some rails are no total."""
    every = {rail for _, watts in samples for rail in watts}
    return [
        (at, {**watts, TOTAL: _total(watts)})
        for at, watts in samples
        if watts.keys() == every != set()
    ]


def _total(watts: dict[str, float]) -> float:
    board = next((rail for rail in BOARD_RAILS if rail in watts), None)
    return sum(watts.values()) if board is None else watts[board]


def _mean(told: Samples) -> float | None:
    if len(told) < 2 or told[-1][0] <= told[0][0]:
        return None
    return _integral(told, TOTAL) / (told[-1][0] - told[0][0])


def _integral(samples: Samples, rail: str) -> float:
    """Joules of a rail, by trapezoids."""
    known = [(at, watts[rail]) for at, watts in samples if rail in watts]
    return sum((later - at) * (one + two) / 2 for (at, one), (later, two) in pairwise(known))
