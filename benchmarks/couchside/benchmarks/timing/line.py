"""What a person reads: speed, what it costs, how good it is, and whether to believe it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from couchside.benchmarks.timing.report import TOTAL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from couchside.benchmarks.timing.compare import Change
    from couchside.benchmarks.timing.percentiles import Summary
    from couchside.benchmarks.timing.report import CaseReport, LatencyReport, Validity
    from couchside.benchmarks.timing.slo import Judgement

MB = 1e6
INTERVAL_FROM = 99.0
"""Percentiles whose interval is shown: those far out are uncertain."""


def human_lines(report: LatencyReport) -> list[str]:
    """Lines of detail, and last the one to quote."""
    speeds = [_speed(case, report) for case in report.cases]
    lines = [_details(case, report) for case in report.cases]
    if report.server is not None:
        facts = (f"{name} {value:.3f}" for name, value in report.server.facts.items())
        lines.append(f"daemon: {', '.join(facts)}")
    lines += [f"note: {note}" for note in report.notes]
    for name, milliseconds in (report.mlperf or {}).items():
        lines.append(f"{name} by MLPerf's SingleStream rule: p90 {_ms(milliseconds)} ms")
    lines += [_goal(judgement) for judgement in report.slo]
    lines += list(_comparison(report))
    if len(speeds) > 1:
        return [*lines, *speeds, _facts(report)]
    return [*lines, f"{speeds[0]}  {_facts(report)}"]


def _speed(case: CaseReport, report: LatencyReport) -> str:
    total, config = case.latency_ms.get(TOTAL), report.config
    if total is None:
        return f"{case.name} on {config.backend}: nothing timed"
    flight = f"{config.streams * config.in_flight} in flight"
    rate = f", {case.items_per_second:,.0f} /s" if config.streams > 1 or case.items > 1 else ""
    idle = f", {config.idle_ms:g} ms rest" if config.idle_ms else ""
    return (
        f"{case.name} on {config.backend}: {_times(total)}  (n={total.n:,}, {flight}{rate}{idle})"
    )


def _times(summary: Summary) -> str:
    """p50 1.8 ms  p90 2.0  p99 2.6 [2.5, 2.9]."""
    parts: list[str] = []
    for name, value in summary.percentiles.items():
        if value is None:
            continue
        interval = summary.intervals[name] if float(name[1:]) >= INTERVAL_FROM else None
        span = f" [{_ms(interval[0])}, {_ms(interval[1])}]" if interval else ""
        parts.append(f"{name} {_ms(value)}{'' if parts else ' ms'}{span}")
    return "  ".join(parts) or f"mean {_ms(summary.mean)} ms"


def _ms(value: float) -> str:
    """Three figures, never an exponent."""
    decimals = 1 if value >= 100 else 2 if value >= 10 else 3
    return f"{value:.{decimals}f}"


def _details(case: CaseReport, report: LatencyReport) -> str:
    total, start = case.latency_ms.get(TOTAL), report.start_ms
    parts = [f"{case.name}: load {start.load:.1f} ms, first {_ms(start.first)} ms"]
    stages = [
        f"{name} {_ms(middle)}"
        for name, summary in case.latency_ms.items()
        if name != TOTAL and (middle := summary.percentiles.get("p50")) is not None
    ]
    if len(stages) > 1:
        parts.append(f"p50 of stages: {', '.join(stages)} ms")
    if total is not None:
        parts.append(
            f"mean {_ms(total.mean)} ± {_ms(total.std)} ms (CV {total.cv:.0%}), "
            f"min {_ms(total.min)}, max {_ms(total.max)}, {total.outliers:,} outliers kept, "
            f"{_drift(total)}"
        )
    if case.cpu_ms is not None:
        parts.append(f"CPU {_times(case.cpu_ms)}")
    if len(case.runs) > 1 and all(run.p50 for run in case.runs):
        middles = sorted(run.p50 for run in case.runs if run.p50 is not None)
        parts.append(f"p50 of {len(case.runs)} measurements {_ms(middles[0])} … {_ms(middles[-1])}")
    return "; ".join(parts)


def _drift(summary: Summary) -> str:
    return "drift unknown" if summary.drift is None else f"drift {summary.drift:.2f}"


def _goal(one: Judgement) -> str:
    unit, size = ("MB", MB) if one.unit == "bytes" else (one.unit, 1.0)
    measured = "not measured" if one.measured is None else f"{one.measured / size:,.6g} {unit}"
    return f"SLO {one.key} {one.limit / size:,.6g} {unit}: {measured}, {one.verdict}"


def _comparison(report: LatencyReport) -> Iterator[str]:
    found = report.comparison
    if found is None:
        return
    for difference in found.differs:
        yield f"compared anyway: {difference}"
    for change in found.changes:
        yield _change(change)
    note = f" ({found.note})" if found.note else ""
    yield f"against {found.baseline}, at most {found.most:+.0%}: {found.verdict}{note}"


def _change(change: Change) -> str:
    return (
        f"{change.case} {change.what}: {_ms(change.before)} → {_ms(change.now)} ms, "
        f"{change.ratio - 1:+.1%} [{change.low - 1:+.1%}, {change.high - 1:+.1%}]: {change.verdict}"
    )


def _facts(report: LatencyReport) -> str:
    parts = (
        f"RSS {report.rss_bytes / MB:.0f} MB",
        _power(report),
        _clocks(report),
        f"throttle: {report.throttle.verdict}",
        _quality(report),
        "" if report.parity.checked else "answers NOT checked",
        _validity(report.validity),
    )
    return "  ".join(part for part in parts if part)


def _power(report: LatencyReport) -> str:
    power = report.power
    if power.verdict != "ok" or power.mean_w is None:
        return "power: too few readings" if power.verdict == "insufficient" else ""
    energy = "" if power.joules_per_run is None else f"  {power.joules_per_run * 1e3:.3g} mJ/inf"
    return f"{power.mean_w:.1f} W{energy}"


def _clocks(report: LatencyReport) -> str:
    mode, locked = report.board.power_mode, report.board.clocks_locked
    parts = [] if mode is None else [f"{mode.split(maxsplit=1)[-1]} mode"]
    if locked is not None:
        parts.append(f"clocks {'locked' if locked else 'floating'}")
    return ", ".join(parts)


def board_facts(report: LatencyReport) -> str:
    """The machine in a few words."""
    board, config = report.board, report.config
    parts = (board.model, board.cpu, board.architecture, _clocks(report) or None)
    threads = f"{config.threads} thread{'s' if config.threads > 1 else ''}"
    return ", ".join([part for part in parts if part] + [threads])


def _quality(report: LatencyReport) -> str:
    quality = report.quality
    if report.artefact.kind == "file":
        return ""
    if quality is None:
        return "quality never measured: a draft"
    shares = (quality.ndcg_loss, quality.ndcg_loss_low, quality.ndcg_loss_high)
    loss, low, high = (round(100 * share, 1) + 0.0 for share in shares)  # no -0.0
    return f"NDCG loss {loss:.1f} % [{low:+.1f}, {high:+.1f}]"


def _validity(validity: Validity) -> str:
    if validity.verdict == "valid":
        return "VALID"
    partial = "PARTIAL, " if validity.partial else ""
    why = "; ".join(validity.reasons or validity.doubts)
    return f"{partial}{validity.verdict.upper()}: {why}"
