"""One run after another, each on its own time: what an application on the TV would see.

The stop rule is trtexec's: a run goes on until *both* minimums are met, a number of iterations and
a duration. Unlike trtexec there is never more than one in flight, so a time is a latency and not a
share of a pipeline's throughput. The garbage collector is off while the clock runs: a collection
belongs to the benchmark's own objects, not to the model. CPU time stands beside wall time because
a shared machine can take the processor away, but can't make a run use more of it.
"""

from __future__ import annotations

import gc
import resource
import time
from array import array
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from couchside.benchmarks.timing.choice import Plan

MOST_RUNS = 10_000_000
"""Runs kept at most (160 MB of times): a bound for long durations of short runs."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """Monotonic nanoseconds: of the wall, and of this process's CPU time over all its threads."""

    wall: Callable[[], int] = time.perf_counter_ns
    cpu: Callable[[], int] = time.process_time_ns


@dataclass(slots=True)
class Samples:
    """Durations of the runs in nanoseconds, in order."""

    pairs: array[int] = field(default_factory=lambda: array("q"))
    """Wall, CPU, wall, CPU, …: one array, so that Ctrl-C can't come between the two of a run."""
    preemptions: int = 0
    """Times that the kernel took the processor away while the runs were timed."""
    partial: bool = False
    """Interrupted before the minimums were met."""

    def __len__(self) -> int:
        return len(self.pairs) // 2

    @property
    def wall(self) -> array[int]:
        """Wall time of each run."""
        return self.pairs[0::2]

    @property
    def cpu(self) -> array[int]:
        """CPU time of each run."""
        return self.pairs[1::2]


def measure(run: Callable[[], object], plan: Plan, clocks: Clocks | None = None) -> Samples:
    """Warm up, then time ``run`` until the plan is met; Ctrl-C keeps what there is."""
    clocks = clocks or Clocks()
    samples = Samples()
    try:
        _warm_up(run, plan, clocks)
        with no_collections(), _counting_preemptions(samples):
            _time(run, plan, clocks, samples)
    except KeyboardInterrupt:
        samples.partial = True
    return samples


def time_once(run: Callable[[], object], clocks: Clocks | None = None) -> int:
    """Nanoseconds of wall time that one call takes."""
    clocks = clocks or Clocks()
    before = clocks.wall()
    run()
    return clocks.wall() - before


def _warm_up(run: Callable[[], object], plan: Plan, clocks: Clocks) -> None:
    began = clocks.wall()
    while clocks.wall() - began < plan.warmup_ms * 1e6:
        run()


def _time(run: Callable[[], object], plan: Plan, clocks: Clocks, samples: Samples) -> None:
    wall, cpu = clocks.wall, clocks.cpu
    began = wall()
    while not _met(plan, len(samples), wall() - began):
        cpu_before, before = cpu(), wall()
        run()
        after, cpu_after = wall(), cpu()
        samples.pairs.extend((after - before, cpu_after - cpu_before))


@contextmanager
def _counting_preemptions(samples: Samples) -> Iterator[None]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
    try:
        yield
    finally:
        samples.preemptions = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw - before


def _met(plan: Plan, runs: int, elapsed_ns: int) -> bool:
    enough = runs >= plan.iterations and elapsed_ns >= plan.duration_s * 1e9
    return enough or runs >= MOST_RUNS


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
