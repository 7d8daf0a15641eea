"""One run after another, each on its own time: what an application on the TV would see.

The stop rule is trtexec's: a run goes on until *both* minimums are met, a number of iterations and
a duration. Unlike trtexec there is never more than one in flight, so a time is a latency and not a
share of a pipeline's throughput. The garbage collector is off while the clock runs: a collection
belongs to the benchmark's own objects, not to the model. CPU time stands beside wall time because
a shared machine can take the processor away, but can't make a run use more of it.
"""

from __future__ import annotations

import gc
import time
from array import array
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MOST_RUNS = 10_000_000
"""Runs kept at most (160 MB of times): a bound for long durations of short runs."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """Monotonic nanoseconds: of the wall, and of this process's CPU time over all its threads."""

    wall: Callable[[], int] = time.perf_counter_ns
    cpu: Callable[[], int] = time.process_time_ns


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to run."""

    warmup_ns: int
    iterations: int
    """Fewest timed runs."""
    duration_ns: int
    """Shortest time for the timed runs together."""

    def met(self, runs: int, elapsed_ns: int) -> bool:
        """Whether both minimums are met."""
        enough = runs >= self.iterations and elapsed_ns >= self.duration_ns
        return enough or runs >= MOST_RUNS


@dataclass(slots=True)
class Samples:
    """Durations in nanoseconds, in order."""

    wall: array[int] = field(default_factory=lambda: array("q"))
    cpu: array[int] = field(default_factory=lambda: array("q"))
    partial: bool = False
    """Interrupted before the minimums were met."""


def measure(run: Callable[[], object], plan: Plan, clocks: Clocks | None = None) -> Samples:
    """Warm up, then time ``run`` until the plan is met; Ctrl-C keeps what there is."""
    clocks = clocks or Clocks()
    samples = Samples()
    try:
        _warm_up(run, plan, clocks)
        with no_collections():
            _time(run, plan, clocks, samples)
    except KeyboardInterrupt:
        samples.partial = True
        del samples.wall[len(samples.cpu) :]
    return samples


def time_once(run: Callable[[], object], clocks: Clocks | None = None) -> int:
    """Nanoseconds of wall time that one call takes."""
    clocks = clocks or Clocks()
    before = clocks.wall()
    run()
    return clocks.wall() - before


def _warm_up(run: Callable[[], object], plan: Plan, clocks: Clocks) -> None:
    began = clocks.wall()
    while clocks.wall() - began < plan.warmup_ns:
        run()


def _time(run: Callable[[], object], plan: Plan, clocks: Clocks, samples: Samples) -> None:
    wall, cpu = clocks.wall, clocks.cpu
    began = wall()
    while not plan.met(len(samples.cpu), wall() - began):
        cpu_before, before = cpu(), wall()
        run()
        after, cpu_after = wall(), cpu()
        samples.wall.append(after - before)
        samples.cpu.append(cpu_after - cpu_before)


@contextmanager
def no_collections() -> Iterator[None]:
    """Collect now, and not again until the end of the block."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
