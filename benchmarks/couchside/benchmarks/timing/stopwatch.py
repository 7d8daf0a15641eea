"""One run after another, each on its own time: what an application on the TV would see.

The stop rule is trtexec's: a run goes on until *both* minimums are met, a number of iterations and
a duration. Unlike trtexec a caller never has more than one in flight, so a time is a latency and
not a share of a pipeline's throughput; several streams are several callers. The garbage collector
is off while the clock runs: a collection belongs to the benchmark's own objects, not to the model.
CPU time stands beside wall time because a shared machine can take the processor away, but can't
make a run use more of it; the kernel's own count of that waiting (schedstat) says how noisy it was.
"""

from __future__ import annotations

import gc
import math
import resource
import threading
import time
from array import array
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from couchside.benchmarks.timing.choice import Plan

MOST_RUNS = 10_000_000
"""Runs kept at most (160 MB of times): a bound for long durations of short runs."""
SCHEDSTAT = Path("/proc/thread-self/schedstat")
FIXED = 2
"""Columns of a run before those of its stages."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a query."""

    name: str
    call: Callable[[Any], Any]
    """Takes what the stage before it returned, the first one None."""


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked again and again."""

    stages: tuple[Stage, ...]
    before: Callable[[], object] | None = None
    """Done before each run, on nobody's time."""

    def run(self) -> None:
        """Ask once."""
        if self.before is not None:
            self.before()
        value = None
        for stage in self.stages:
            value = stage.call(value)


def one_stage(call: Callable[[], object], name: str = "model") -> Query:
    """A query that is not looked into."""
    return Query((Stage(name, lambda _: call()),))


def _waited_ns() -> int | None:
    """Nanoseconds that this thread wanted a core and had none; None if the kernel counts none."""
    try:
        return int(SCHEDSTAT.read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return None


@dataclass(frozen=True, slots=True)
class Clocks:
    """Monotonic nanoseconds, and how to let them pass."""

    wall: Callable[[], int] = time.perf_counter_ns
    cpu: Callable[[], int] | None = time.process_time_ns
    """CPU time of all threads of whoever answers; None where it can't be told apart."""
    waited: Callable[[], int | None] = _waited_ns
    sleep: Callable[[float], None] = time.sleep


@dataclass(slots=True)
class Samples:
    """Durations of the runs in nanoseconds, in order."""

    stages: tuple[str, ...] = ("model",)
    rows: array[int] = field(default_factory=lambda: array("q"))
    """Wall, CPU and each stage of a run, then the next: one array, so that Ctrl-C can't come
    between the columns of a run."""
    warmups: int = 0
    elapsed_ns: int = 0
    """From the first timed run to the end of the last, rests included."""
    preemptions: int | None = 0
    """Times that the kernel took the processor away while the runs were timed."""
    waited_ns: int | None = None
    """Time without a core though the caller wanted one; None if the kernel does not count it."""
    partial: bool = False
    """Interrupted before the minimums were met."""

    def __len__(self) -> int:
        return len(self.rows) // self._width

    @property
    def _width(self) -> int:
        return FIXED + len(self.stages)

    @property
    def wall(self) -> array[int]:
        """Wall time of each run."""
        return self.rows[0 :: self._width]

    @property
    def cpu(self) -> array[int]:
        """CPU time of each run; -1 where there is none."""
        return self.rows[1 :: self._width]

    def stage(self, name: str) -> array[int]:
        """Wall time of one stage of each run."""
        return self.rows[FIXED + self.stages.index(name) :: self._width]


def measure(query: Query, plan: Plan, clocks: Clocks | None = None) -> Samples:
    """Warm up, then time ``query`` until the plan is met; Ctrl-C keeps what there is."""
    return _measure(query, plan, clocks or Clocks(), threading.Event(), alone=True)


def measure_streams(queries: Sequence[Query], plan: Plan, clocks: Clocks) -> list[Samples]:
    """Let every query be asked by a caller of its own, all at once.

    The fewest iterations are those of all together. CPU time is each caller's own.

    Raises:
        CouchsideError: a query failed; the other callers are stopped.
    """
    if len(queries) == 1:
        return [measure(queries[0], plan, clocks)]
    stop = threading.Event()
    share = replace(plan, iterations=math.ceil(plan.iterations / len(queries)))
    with no_collections(), ThreadPoolExecutor(len(queries)) as pool:
        jobs = [pool.submit(_measure, query, share, clocks, stop) for query in queries]
        try:
            for job in jobs:
                job.result()
        except KeyboardInterrupt:
            stop.set()
        except BaseException:
            stop.set()
            raise
    return [job.result() for job in jobs]


def time_once(run: Callable[[], object], clocks: Clocks | None = None) -> int:
    """Nanoseconds of wall time that one call takes."""
    clocks = clocks or Clocks()
    before = clocks.wall()
    run()
    return clocks.wall() - before


def _measure(
    query: Query, plan: Plan, clocks: Clocks, stop: threading.Event, *, alone: bool = False
) -> Samples:
    samples = Samples(tuple(stage.name for stage in query.stages))
    try:
        _warm_up(query, plan, clocks, samples, stop)
        with no_collections(), _counting(samples, clocks, alone=alone):
            _time(query, plan, clocks, samples, stop)
    except KeyboardInterrupt:
        samples.partial = True
    samples.partial |= stop.is_set()
    return samples


def _warm_up(
    query: Query, plan: Plan, clocks: Clocks, samples: Samples, stop: threading.Event
) -> None:
    began = clocks.wall()
    while not stop.is_set() and (
        clocks.wall() - began < plan.warmup_ms * 1e6 or samples.warmups < plan.warmup_iters
    ):
        query.run()
        samples.warmups += 1


def _time(
    query: Query, plan: Plan, clocks: Clocks, samples: Samples, stop: threading.Event
) -> None:
    wall, cpu = clocks.wall, clocks.cpu or _no_cpu
    calls = [stage.call for stage in query.stages]
    began = wall()
    try:
        while not stop.is_set() and not _met(plan, len(samples), wall() - began):
            if plan.idle_ms:
                _rest(plan, clocks)
            if query.before is not None:
                query.before()
            value, spent, before = None, cpu(), wall()
            marks = [before]
            for call in calls:
                value = call(value)
                marks.append(wall())
            spent = cpu() - spent if clocks.cpu else -1
            parts = (after - mark for mark, after in pairwise(marks))
            samples.rows.extend((marks[-1] - before, spent, *parts))
    finally:
        samples.elapsed_ns = wall() - began


def _no_cpu() -> int:
    return 0


def _rest(plan: Plan, clocks: Clocks) -> None:
    if not plan.spin_wait:
        clocks.sleep(plan.idle_ms / 1e3)
        return
    until = clocks.wall() + plan.idle_ms * 1e6
    while clocks.wall() < until:
        pass


@contextmanager
def _counting(samples: Samples, clocks: Clocks, *, alone: bool) -> Iterator[None]:
    """Count what the kernel did to the runs; alone, all threads of this process are theirs."""
    who = resource.RUSAGE_SELF if alone else resource.RUSAGE_THREAD
    preempted, waited = resource.getrusage(who).ru_nivcsw, clocks.waited()
    try:
        yield
    finally:
        after = clocks.waited()
        samples.preemptions = resource.getrusage(who).ru_nivcsw - preempted
        if waited is not None and after is not None:
            # A thread that ended meanwhile takes its count with it.
            samples.waited_ns = max(after - waited, 0)


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
