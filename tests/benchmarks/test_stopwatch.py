"""The stop rule, the garbage collector, and Ctrl-C, on a clock that the tests wind."""

import gc

import pytest

from couchside.benchmarks.timing.choice import Plan
from couchside.benchmarks.timing.stopwatch import Clocks, measure, time_once

MS = 1_000_000


class Machine:
    """A model whose runs take a known time: wall time passes, a part of it on the CPU."""

    def __init__(self, wall_ms, cpu_ms=0, interrupt_at=None):
        self.wall_ms, self.cpu_ms = wall_ms, cpu_ms
        self.interrupt_at = interrupt_at
        self.wall = self.cpu = self.runs = 0
        self.collecting = []

    def run(self):
        self.runs += 1
        if self.runs == self.interrupt_at:
            raise KeyboardInterrupt
        self.wall += self.wall_ms * MS
        self.cpu += self.cpu_ms * MS
        self.collecting.append(gc.isenabled())

    @property
    def clocks(self):
        return Clocks(wall=lambda: self.wall, cpu=lambda: self.cpu)


def timed(machine, **plan):
    defaults = {"warmup_ms": 0.0, "iterations": 1, "duration_s": 0.0}
    return measure(machine.run, Plan(**defaults | plan), machine.clocks)


@pytest.mark.parametrize(
    ("iterations", "duration_s", "runs"),
    [
        pytest.param(10, 1.0, 50, id="iterations met first, duration decides"),
        pytest.param(100, 1.0, 100, id="duration met first, iterations decide"),
        pytest.param(7, 0.0, 7, id="no duration"),
    ],
)
def test_run_goes_on_until_both_minimums_are_met(iterations, duration_s, runs):
    samples = timed(Machine(wall_ms=20), iterations=iterations, duration_s=duration_s)
    assert len(samples.wall) == len(samples.cpu) == runs
    assert not samples.partial


def test_wall_and_cpu_time_are_kept_apart():
    samples = timed(Machine(wall_ms=20, cpu_ms=3), iterations=5)
    assert list(samples.wall) == [20 * MS] * 5
    assert list(samples.cpu) == [3 * MS] * 5


def test_warm_up_is_not_timed():
    machine = Machine(wall_ms=20)
    samples = timed(machine, warmup_ms=200.0, iterations=5)
    assert (machine.runs, len(samples.wall)) == (15, 5)


def test_interrupt_keeps_what_was_timed():
    samples = timed(Machine(wall_ms=20, interrupt_at=8), iterations=100)
    assert samples.partial
    assert len(samples.wall) == len(samples.cpu) == 7


def test_interrupt_while_warming_up_leaves_nothing():
    samples = timed(Machine(wall_ms=20, interrupt_at=2), warmup_ms=200.0)
    assert samples.partial
    assert len(samples) == 0


def test_garbage_is_not_collected_while_the_clock_runs():
    machine = Machine(wall_ms=20)
    timed(machine, iterations=5)
    assert machine.collecting == [False] * 5
    assert gc.isenabled()


def test_collector_is_back_after_a_run_that_fails():
    def fail():
        raise ValueError("the model broke")

    with pytest.raises(ValueError, match="broke"):
        measure(fail, Plan(warmup_ms=0.0))
    assert gc.isenabled()


def test_real_clocks_tick_in_nanoseconds():
    assert 0 < time_once(lambda: sum(range(1000))) < 1e9
