"""The stop rule, the garbage collector, and Ctrl-C, on a clock that the tests wind."""

import gc

import pytest

from couchside.benchmarks.timing.choice import Plan
from couchside.benchmarks.timing.stopwatch import (
    Clocks,
    Query,
    Stage,
    measure,
    measure_streams,
    one_stage,
    time_once,
)

MS = 1_000_000


class Machine:
    """A model whose runs take a known time: wall time passes, a part of it on the CPU."""

    def __init__(self, wall_ms, cpu_ms=0, interrupt_at=None):
        self.wall_ms, self.cpu_ms = wall_ms, cpu_ms
        self.interrupt_at = interrupt_at
        self.wall = self.cpu = self.runs = self.slept = self.tick_ns = 0
        self.collecting = []

    def run(self):
        self.runs += 1
        if self.runs == self.interrupt_at:
            raise KeyboardInterrupt
        self.wall += self.wall_ms * MS
        self.cpu += self.cpu_ms * MS
        self.collecting.append(gc.isenabled())

    def sleep(self, seconds):
        self.slept += seconds
        self.wall += int(seconds * 1e9)

    def look(self):
        """Looking at the clock takes a microsecond, so that whoever spins gets somewhere."""
        self.wall += self.tick_ns
        return self.wall

    @property
    def clocks(self):
        return Clocks(wall=self.look, cpu=lambda: self.cpu, sleep=self.sleep)


SHORTEST = {"warmup_ms": 0.0, "warmup_iters": 0, "iterations": 1, "duration_s": 0.0}


def timed(machine, **plan):
    return measure(one_stage(machine.run), Plan(**SHORTEST | plan), machine.clocks)


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


def test_warm_up_goes_on_until_both_of_its_minimums_are_met():
    machine = Machine(wall_ms=20)
    samples = timed(machine, warmup_ms=100.0, warmup_iters=8, iterations=5)
    assert (samples.warmups, machine.runs) == (8, 13)


def test_stages_are_timed_apart_and_hand_their_results_on():
    machine, seen = Machine(wall_ms=20), []

    def stage(name, wall_ms):
        def call(value):
            seen.append(value)
            machine.wall += wall_ms * MS
            return name

        return Stage(name, call)

    query = Query((stage("pre", 1), stage("model", 5), stage("post", 2)))
    samples = measure(query, Plan(**SHORTEST | {"iterations": 2}), machine.clocks)
    assert seen == [None, "pre", "model"] * 2
    assert list(samples.wall) == [8 * MS] * 2
    assert [list(samples.stage(name)) for name in ("pre", "model", "post")] == [
        [1 * MS] * 2,
        [5 * MS] * 2,
        [2 * MS] * 2,
    ]


def test_what_comes_before_a_query_is_on_nobodys_time():
    machine = Machine(wall_ms=20)
    query = Query((Stage("rows", lambda _: machine.run()),), before=lambda: machine.sleep(1.0))
    samples = measure(query, Plan(**SHORTEST | {"iterations": 3}), machine.clocks)
    assert list(samples.wall) == [20 * MS] * 3
    assert machine.slept == 3.0


def test_rest_between_runs_is_not_timed():
    machine = Machine(wall_ms=20)
    samples = timed(machine, iterations=5, idle_ms=100.0)
    assert list(samples.wall) == [20 * MS] * 5
    assert machine.slept == pytest.approx(0.5)
    assert samples.elapsed_ns == pytest.approx(600 * MS)


def test_spinning_rests_without_sleep():
    machine = Machine(wall_ms=20)
    machine.tick_ns = 1000
    samples = timed(machine, iterations=5, idle_ms=1.0, spin_wait=True)
    assert machine.slept == 0
    assert samples.elapsed_ns >= 5 * (20 + 1) * MS


def test_streams_share_the_runs_and_are_kept_apart():
    plan = Plan(**SHORTEST | {"iterations": 101})
    queries = [one_stage(lambda: sum(range(100))) for _ in range(2)]
    samples = measure_streams(queries, plan, Clocks(cpu=None))
    assert [len(one) for one in samples] == [51, 51]
    assert set(samples[0].cpu) == {-1}


def test_stream_that_fails_stops_the_others():
    def fail():
        raise ValueError("the model broke")

    plan = Plan(**SHORTEST | {"iterations": 10**9})
    queries = [one_stage(lambda: None), one_stage(fail)]
    with pytest.raises(ValueError, match="broke"):
        measure_streams(queries, plan, Clocks(cpu=None))
    assert gc.isenabled()


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
        measure(one_stage(fail), Plan(warmup_ms=0.0, warmup_iters=0))
    assert gc.isenabled()


def test_real_clocks_tick_in_nanoseconds():
    assert 0 < time_once(lambda: sum(range(1000))) < 1e9
