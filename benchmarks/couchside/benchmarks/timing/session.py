"""A latency run from the first look at the artefact to the report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from couchside.benchmarks.machine.board import read_board
from couchside.benchmarks.machine.throttle import judge, read_counters
from couchside.benchmarks.timing.artefact import open_workload
from couchside.benchmarks.timing.percentiles import NS_PER_MS, check_enough, summarize
from couchside.benchmarks.timing.report import Config, Latency, LatencyReport, Validity
from couchside.benchmarks.timing.stopwatch import measure, time_once
from couchside.device.process import memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from couchside.benchmarks.machine.throttle import Throttling
    from couchside.benchmarks.timing.artefact import Workload
    from couchside.benchmarks.timing.choice import Choice, Plan
    from couchside.benchmarks.timing.stopwatch import Samples

STATUS = Path("/proc/self/status")
"""This process's memory; not below the root that a test may set, as it is about ourselves."""


def run_session(
    path: Path, choice: Choice, plan: Plan, *, root: Path, tell: Callable[[str], None]
) -> LatencyReport:
    """Load, run once, check the answers, then time.

    Args:
        path: a Bundle folder or a model file.
        choice: what to run, and on what.
        plan: for how long.
        root: where the board's files are, ``/`` but in tests.
        tell: called with what begins now, for whoever waits.

    Raises:
        UsageError: path, choice or plan is wrong.
        BundleError: the Bundle is damaged, or computes something else than the lab.
        RuntimeUnavailableError: the backend does not run here.
    """
    check_enough(plan.percentiles, plan.iterations)
    workload = open_workload(path, choice)
    load_ms, run = _load(workload)
    first_ms = time_once(run) / NS_PER_MS
    parity = workload.check()
    tell(f"timing at least {plan.iterations:,} runs and {plan.duration_s:g} s; Ctrl-C ends it")
    counters = read_counters(root)
    samples = measure(run, plan)
    throttling = judge(counters, read_counters(root))
    return LatencyReport(
        artefact=workload.artefact,
        config=_config(workload, choice, plan),
        parity=parity,
        latency_ms=Latency(load_ms, first_ms, summarize(samples.wall, plan.percentiles)),
        cpu_ms=summarize(samples.cpu, plan.percentiles),
        preemptions=samples.preemptions,
        memory=memory(STATUS),
        quality=workload.quality,
        board=read_board(root),
        throttle=throttling,
        validity=judge_run(samples, throttling),
    )


def judge_run(samples: Samples, throttling: Throttling) -> Validity:
    """Whether the numbers may be quoted, and why not."""
    reasons = []
    if samples.partial:
        reasons.append(f"interrupted after {len(samples):,} runs")
    if throttling.verdict == "throttled":
        reasons.append(f"the machine was throttled: {', '.join(throttling.rose)} rose")
    return Validity(valid=not reasons, partial=samples.partial, reasons=tuple(reasons))


def _load(workload: Workload) -> tuple[float, Callable[[], object]]:
    """Milliseconds that opening the model takes, and one run of it."""
    loaded: list[Callable[[], object]] = []
    nanoseconds = time_once(lambda: loaded.append(workload.load()))
    return nanoseconds / NS_PER_MS, loaded[0]


def _config(workload: Workload, choice: Choice, plan: Plan) -> Config:
    return Config(
        scenario=workload.scenario,
        graph=workload.graph,
        backend=workload.backend,
        threads=choice.threads,
        warmup_ms=plan.warmup_ms,
        iterations=plan.iterations,
        duration_s=plan.duration_s,
        titles=workload.titles,
        k=choice.k if workload.scenario == "rank" else None,
        seed=choice.seed,
    )
