"""A latency run from the first look at the artefact to the report."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from couchside.benchmarks.machine.board import read_board
from couchside.benchmarks.machine.clocks import cool_down
from couchside.benchmarks.machine.power import none_reading, open_meter
from couchside.benchmarks.machine.throttle import ThrottleWatch
from couchside.benchmarks.timing.choice import MLPERF_PERCENT
from couchside.benchmarks.timing.compare import compare
from couchside.benchmarks.timing.overheard import overhear
from couchside.benchmarks.timing.percentiles import NS_PER_MS
from couchside.benchmarks.timing.preflight import check_baseline, check_before, check_metered
from couchside.benchmarks.timing.report import (
    TOTAL,
    CaseReport,
    Config,
    LatencyReport,
    ServerReport,
    Start,
    Timer,
)
from couchside.benchmarks.timing.slo import judge_slo
from couchside.benchmarks.timing.stopwatch import measure_streams, time_once
from couchside.benchmarks.timing.summary import (
    add_up,
    describe_case,
    describe_noise,
    judge_run,
    read_timer,
)
from couchside.benchmarks.timing.workloads.scenarios import open_workload
from couchside.device.process import memory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from couchside.benchmarks.machine.board import Board
    from couchside.benchmarks.machine.power import Power, PowerMeter
    from couchside.benchmarks.machine.throttle import Throttling
    from couchside.benchmarks.timing.artefact import Parity
    from couchside.benchmarks.timing.choice import Plan
    from couchside.benchmarks.timing.outputs import Times
    from couchside.benchmarks.timing.preflight import Asked
    from couchside.benchmarks.timing.stopwatch import Samples
    from couchside.benchmarks.timing.workload import Case, Workload

STATUS = Path("/proc/self/status")
"""This process's memory; not below the root that a test may set, as it is about ourselves."""
COOL_LIMIT_S = 600.0
"""Patience for ``--cooldown-until``."""
NEVER_S = 1e6


@dataclass(slots=True)
class Measured:
    """What the timed part of a session brought."""

    throttling: Throttling
    power: Power
    times: Times = field(default_factory=dict)
    partial: bool = False

    @property
    def samples(self) -> list[Samples]:
        """Of all measurements and streams."""
        return [one for each in self.times.values() for streams in each for one in streams]


def run_session(asked: Asked, tell: Callable[[str], None]) -> tuple[LatencyReport, Times]:
    """Load, ask once, check the answers, then time.

    Args:
        asked: what, how long, on what terms.
        tell: called with what begins now, for whoever waits.

    Returns:
        The report, and the time of every run.

    Raises:
        UsageError: something asked for is wrong, or does not fit the artefact.
        InvalidRunError: the machine is not as required.
        BundleError: the Bundle is damaged, or computes something else than the lab.
        RuntimeUnavailableError: the backend does not run here.
    """
    check_before(asked, tell)
    with ExitStack() as stack:
        meter = open_meter(asked.root, asked.conditions.power, asked.conditions.power_hz)
        if meter is not None:
            stack.callback(meter.close)
        check_metered(asked.goals, meter)
        workload = stack.enter_context(closing(open_workload(asked.path, asked.choice)))
        board, timer = read_board(asked.root), read_timer()
        with overhear() as said:
            start, callers = _load(workload, asked.choice.streams)
        config = _config(workload, asked, timer)
        names = [case.size.name for case in callers[0]]
        differs = check_baseline(asked, config, board, workload.subject.artefact, names)
        parity = workload.check()
        measured = _measure(workload, callers, meter, asked, tell)
        cases = tuple(
            describe_case(case.size, measured.times[case.size.name], asked.plan)
            for case in callers[0]
        )
        report = _report(workload, config, board, parity, start, cases, measured, asked)
        report = replace(report, notes=(*report.notes, *said))
        if asked.baseline is not None:
            found = compare(asked.baseline, cases, differs, asked.most_regression)
            report = replace(report, comparison=found)
    return report, measured.times


def _load(workload: Workload, streams: int) -> tuple[Start, list[tuple[Case, ...]]]:
    """What opening takes and what the first query takes; the cases of each caller."""
    callers: list[tuple[Case, ...]] = []
    load = time_once(lambda: callers.append(workload.load()))
    first = time_once(callers[0][0].query.run)
    callers += [workload.load() for _ in range(streams - 1)]
    return Start(load / NS_PER_MS, first / NS_PER_MS), callers


def _measure(
    workload: Workload,
    callers: Sequence[tuple[Case, ...]],
    meter: PowerMeter | None,
    asked: Asked,
    tell: Callable[[str], None],
) -> Measured:
    conditions = asked.conditions
    times: Times = {case.size.name: [] for case in callers[0]}
    seen: list[Throttling] = []
    done = False
    try:
        if meter is not None and conditions.baseline_idle_s:
            tell(f"measuring the power at rest for {conditions.baseline_idle_s:g} s")
            meter.idle(conditions.baseline_idle_s)
        if conditions.settle_s:
            tell(f"resting for {conditions.settle_s:g} s")
            time.sleep(conditions.settle_s)
        tell(_plan_told(asked.plan, len(times)))
        with meter or nullcontext():
            done = _take_turns(workload, callers, asked, times, seen, tell)
    except KeyboardInterrupt:
        tell("interrupted; what there is is kept")
    power = none_reading(conditions.power) if meter is None else meter.reading(_asked_for(times))
    return Measured(add_up(seen), power, times, partial=not done)


def _asked_for(times: Times) -> int:
    """Queries that took power: those that warmed up, too."""
    every = [one for each in times.values() for streams in each for one in streams]
    return sum(len(one) + one.warmups for one in every)


def _plan_told(plan: Plan, cases: int) -> str:
    times = f", {plan.repeat} times" if plan.repeat > 1 else ""
    each = f" of each of {cases} cases" if cases > 1 else ""
    return (
        f"timing at least {plan.iterations:,} runs and {plan.duration_s:g} s{each}{times}; "
        "Ctrl-C ends it"
    )


def _take_turns(
    workload: Workload,
    callers: Sequence[tuple[Case, ...]],
    asked: Asked,
    times: Times,
    seen: list[Throttling],
    tell: Callable[[str], None],
) -> bool:
    """Every case once, then all again: what drifts meanwhile is in all of them alike.

    The machine is watched while it is busy only: clocks of one that rests say nothing.

    Returns:
        False if it was interrupted.
    """
    clocks = workload.clocks(len(callers))
    for _ in range(asked.plan.repeat):
        for cases in zip(*callers, strict=True):
            wanted = asked.conditions.cooldown_c
            if wanted is not None:
                cool_down(asked.root, wanted, limit_s=COOL_LIMIT_S, tell=tell)
            with _watching(asked) as watch:
                samples = measure_streams([case.query for case in cases], asked.plan, clocks)
            seen.append(watch.verdict())
            times[cases[0].size.name].append(samples)
            if any(one.partial for one in samples):
                return False
    return True


def _watching(asked: Asked) -> ThrottleWatch:
    """With rests between the queries only the counters are looked at, before and after."""
    if asked.plan.idle_ms and not asked.plan.spin_wait:
        return ThrottleWatch(asked.root, period_s=NEVER_S)
    return ThrottleWatch(asked.root)


def _report(
    workload: Workload,
    config: Config,
    board: Board,
    parity: Parity,
    start: Start,
    cases: tuple[CaseReport, ...],
    measured: Measured,
    asked: Asked,
) -> LatencyReport:
    subject, server = workload.subject, workload.server
    noise = describe_noise(measured.samples)
    validity = judge_run(
        cases,
        partial=measured.partial,
        throttling=measured.throttling,
        noise=noise,
        timer=config.timer,
        conditions=asked.conditions,
    )
    report = LatencyReport(
        artefact=subject.artefact,
        config=config,
        parity=parity,
        start_ms=start,
        cases=cases,
        mlperf=_mlperf(cases, asked.plan),
        noise=noise,
        memory=memory(STATUS),
        server=None if server is None else ServerReport(server.memory(), server.facts()),
        power=measured.power,
        quality=subject.quality,
        board=board,
        temperatures_after_c=read_board(asked.root).temperatures_c,
        throttle=measured.throttling,
        slo=(),
        comparison=None,
        notes=subject.notes,
        validity=validity,
    )
    return _judged(report, asked)


def _judged(report: LatencyReport, asked: Asked) -> LatencyReport:
    """The report with its limits; one that could not be measured makes it invalid."""
    slo = judge_slo(asked.goals, report)
    unknown = tuple(f"SLO {one.key} was not measured" for one in slo if one.verdict == "unknown")
    if not unknown:
        return replace(report, slo=slo)
    reasons = (*report.validity.reasons, *unknown)
    validity = replace(report.validity, verdict="invalid", valid=False, reasons=reasons)
    return replace(report, slo=slo, validity=validity)


def _mlperf(cases: Sequence[CaseReport], plan: Plan) -> dict[str, float] | None:
    if not plan.mlperf:
        return None
    name = f"p{MLPERF_PERCENT:g}"
    totals = {case.name: case.latency_ms.get(TOTAL) for case in cases}
    found = {case: total.percentiles[name] for case, total in totals.items() if total is not None}
    return {case: value for case, value in found.items() if value is not None}


def _config(workload: Workload, asked: Asked, timer: Timer) -> Config:
    choice, plan, subject = asked.choice, asked.plan, workload.subject
    return Config(
        scenario=subject.scenario,
        graph=subject.graph,
        backend=workload.backend,
        threads=choice.threads,
        batch=choice.batch,
        streams=choice.streams,
        history=subject.history,
        k=choice.k if subject.scenario == "rank" else None,
        seed=choice.seed,
        warmup_ms=plan.warmup_ms,
        warmup_iters=plan.warmup_iters,
        iterations=plan.iterations,
        duration_s=plan.duration_s,
        repeat=plan.repeat,
        idle_ms=plan.idle_ms,
        spin_wait=plan.spin_wait,
        cores=tuple(sorted(os.sched_getaffinity(0))),
        timer=timer,
    )
