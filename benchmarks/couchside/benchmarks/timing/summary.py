"""Times of runs → what may be said about them."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from couchside.benchmarks.machine.throttle import Throttling
from couchside.benchmarks.timing.percentiles import NS_PER_MS, summarize
from couchside.benchmarks.timing.report import (
    TOTAL,
    CaseReport,
    Noise,
    Run,
    Timer,
    Validity,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from couchside.benchmarks.machine.throttle import Verdict
    from couchside.benchmarks.timing.choice import Conditions, Plan
    from couchside.benchmarks.timing.percentiles import Summary
    from couchside.benchmarks.timing.stopwatch import Samples
    from couchside.benchmarks.timing.workload import Size

WORSE: tuple[Verdict, ...] = ("clean", "unknown", "suspect", "throttled")
LOOKS = 1001
"""Empty times that tell what a look at the clock costs."""
NOISY = 0.05
"""Share of time without a core from which a run is suspect."""
SPREAD = 0.1
"""Share by which medians of repeated measurements may differ before they are suspect."""
WORTH = 20
"""Looks at the clock that a median must be worth, or the clock is a part of it."""


def describe_case(size: Size, repeats: Sequence[Sequence[Samples]], plan: Plan) -> CaseReport:
    """Describe one case.

    Args:
        size: of the case.
        repeats: of each measurement, the samples of each stream.
        plan: names the percentiles.
    """
    streams = [samples for each in repeats for samples in each if len(samples)]
    per_second = _rate(repeats)
    return CaseReport(
        name=size.name,
        items=size.items,
        titles=size.titles,
        made=size.made,
        latency_ms=_stages(streams, plan),
        cpu_ms=_cpu(streams, plan),
        runs=tuple(_run([s for s in each if len(s)]) for each in repeats if any(map(len, each))),
        queries_per_second=per_second,
        items_per_second=per_second * size.items,
    )


def _stages(streams: Sequence[Samples], plan: Plan) -> dict[str, Summary]:
    if not streams:
        return {}
    names = streams[0].stages
    found = {TOTAL: summarize(_in_time([s.wall for s in streams]), plan.percentiles)}
    if len(names) > 1:
        for name in names:
            found[name] = summarize(_in_time([s.stage(name) for s in streams]), plan.percentiles)
    return {name: summary for name, summary in found.items() if summary is not None}


def _cpu(streams: Sequence[Samples], plan: Plan) -> Summary | None:
    columns = [s.cpu for s in streams]
    if not columns or any(column[0] < 0 for column in columns):
        return None
    return summarize(_in_time(columns), plan.percentiles)


def _run(streams: Sequence[Samples]) -> Run:
    summary = summarize(_in_time([s.wall for s in streams]), (50.0, 99.0))
    if summary is None:
        raise ValueError("a measurement without runs is none")
    points = summary.percentiles
    return Run(summary.n, summary.mean, points["p50"], points["p99"])


def _in_time(columns: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Runs of several measurements, ordered by how far each was: a drift shows in all of them."""
    places = np.concatenate([np.arange(len(column)) / len(column) for column in columns])
    values = np.concatenate([np.asarray(column, dtype=np.int64) for column in columns])
    return values[np.argsort(places, kind="stable")]


def _rate(repeats: Sequence[Sequence[Samples]]) -> float:
    """Queries a second of all streams, mean over the measurements."""
    rates = [
        sum(len(s) / s.elapsed_ns * 1e9 for s in each if s.elapsed_ns)
        for each in repeats
        if any(map(len, each))
    ]
    return sum(rates) / len(rates) if rates else 0.0


def describe_noise(all_samples: Sequence[Samples]) -> Noise:
    """What the rest of the machine did."""
    preempted = [s.preemptions for s in all_samples if s.preemptions is not None]
    waited = [s.waited_ns for s in all_samples if s.waited_ns is not None]
    elapsed = sum(s.elapsed_ns for s in all_samples)
    counted = len(waited) == len(all_samples) and elapsed
    return Noise(sum(preempted) if preempted else None, sum(waited) / elapsed if counted else None)


def add_up(seen: Sequence[Throttling]) -> Throttling:
    """One verdict for several stretches of work: the worst, with everything that was seen."""
    rose: dict[str, int] = {}
    for one in seen:
        for name, by in one.rose.items():
            rose[name] = rose.get(name, 0) + by
    verdicts: list[Verdict] = [one.verdict for one in seen]
    verdict: Verdict = max(verdicts, key=WORSE.index, default="unknown")
    return Throttling(
        verdict, rose, tuple(dict.fromkeys(why for one in seen for why in one.reasons))
    )


def read_timer(clock: Callable[[], int] = time.perf_counter_ns) -> Timer:
    """How fine the clock is, found by looking at it."""
    looks = [clock() for _ in range(LOOKS)]
    steps = sorted(after - before for before, after in pairwise(looks))
    resolution = time.get_clock_info("perf_counter").resolution * 1e9
    return Timer("perf_counter_ns", resolution, float(steps[len(steps) // 2]))


def judge_run(
    cases: Sequence[CaseReport],
    *,
    partial: bool,
    throttling: Throttling,
    noise: Noise,
    timer: Timer,
    conditions: Conditions,
) -> Validity:
    """Whether the numbers may be quoted, and why not."""
    reasons = []
    if partial:
        runs = sum(case.latency_ms[TOTAL].n for case in cases if TOTAL in case.latency_ms)
        reasons.append(f"interrupted after {runs:,} runs")
    verdict = throttling.verdict
    if verdict == "throttled" or (conditions.fail_on_throttle and verdict != "clean"):
        why = ", ".join((*(f"{name} rose" for name in throttling.rose), *throttling.reasons))
        reasons.append(f"throttle: {verdict}{f' ({why})' if why else ''}")
    reasons += _too_noisy(noise, conditions)
    doubts = [] if verdict != "suspect" else [f"throttle: {_risen(throttling.rose)}"]
    doubts += [doubt for case in cases for doubt in _doubts(case, timer)]
    if noise.waiting is not None and noise.waiting > NOISY:
        doubts.append(f"{noise.waiting:.0%} of the time went by waiting for a core")
    said = "invalid" if reasons else "suspect" if doubts else "valid"
    return Validity(said, not reasons, partial, tuple(reasons), tuple(doubts))  # type: ignore[arg-type]


def _risen(rose: Mapping[str, int]) -> str:
    return ", ".join(f"{name} rose" for name in rose) or "suspect"


def _too_noisy(noise: Noise, conditions: Conditions) -> list[str]:
    most = conditions.most_waiting
    if most is None:
        return []
    if noise.waiting is None:
        return ["noise: this kernel does not count how long a thread waits for a core"]
    if noise.waiting > most:
        return [f"noise: {noise.waiting:.1%} of the time went by waiting for a core"]
    return []


def _doubts(case: CaseReport, timer: Timer) -> list[str]:
    total = case.latency_ms.get(TOTAL)
    if total is None:
        return []
    found = []
    if total.trend == "drifting" and total.drift is not None:
        found.append(f"{case.name} drifted by {total.drift - 1:+.0%}")
    middles = [run.p50 for run in case.runs if run.p50]
    if len(middles) > 1 and max(middles) > (1 + SPREAD) * min(middles):
        found.append(f"{case.name}: medians differ by {max(middles) / min(middles) - 1:.0%}")
    if total.mean * NS_PER_MS < WORTH * timer.overhead_ns:
        found.append(f"{case.name} is hardly longer than a look at the clock")
    return found
