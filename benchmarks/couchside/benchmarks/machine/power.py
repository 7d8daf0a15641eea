"""Power while something runs: from a Jetson's INA3221, from RAPL, or from tegrastats.

Energy is the mean power, by trapezoids over the monotonic clock, times the length of the run. What
an inference costs is that energy less what the idle board needs in the same time. Fewer than ten
samples are called insufficient, not rounded up to a number.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping  # noqa: TC003 - strict reads the types of these records
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, Self, get_args

from couchside.benchmarks.errors import UsageError
from couchside.benchmarks.machine.sensors import BOARD_RAILS, OPENERS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    from couchside.benchmarks.machine.sensors import Sensor

Source = Literal["auto", "off", "ina3221", "rapl", "tegrastats"]
SOURCES: tuple[Source, ...] = get_args(Source)
PowerVerdict = Literal["ok", "insufficient", "off", "unknown"]

FEWEST_SAMPLES = 10
TOTAL = "total"


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
            try:
                self._samples.append((self._clock(), self._sensor.watts()))
            except UsageError:  # gone while it was read: what there is may still be enough
                return


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
            return PowerMeter(OPENERS[kind](root), hz)
        except UsageError:
            if source != "auto":
                raise
    return None


def none_reading(source: Source) -> Power:
    """What is said of a run without a meter."""
    return Power("off" if source == "off" else "unknown", "none")


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
