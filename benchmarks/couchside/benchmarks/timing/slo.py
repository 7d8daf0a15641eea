"""Limits that a measurement must keep: ``--slo p99=50ms,rss=150MB,energy=0.05J``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from couchside.benchmarks.errors import UsageError
from couchside.benchmarks.timing.report import TOTAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from couchside.benchmarks.timing.report import CaseReport, LatencyReport

UNITS: dict[str, dict[str, float]] = {
    "ms": {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3},
    "bytes": {"B": 1.0, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2**10, "MiB": 2**20},
    "J": {"uJ": 1e-6, "µJ": 1e-6, "mJ": 1e-3, "J": 1.0},
    "W": {"mW": 1e-3, "W": 1.0},
    "/s": {"/s": 1.0},
}
"""What may follow a number, by the unit in which it is kept."""
KEYS: dict[str, str] = {
    "mean": "ms",
    "max": "ms",
    "load": "ms",
    "first": "ms",
    "rss": "bytes",
    "peak-rss": "bytes",
    "energy": "J",
    "power": "W",
    "throughput": "/s",
}
"""Besides any percentile, such as p99. Throughput is the least, everything else the most."""
METERED = frozenset(("energy", "power"))
Verdict = Literal["kept", "missed", "unknown"]


@dataclass(frozen=True, slots=True)
class Goal:
    """One limit."""

    key: str
    limit: float
    unit: str

    @property
    def percent(self) -> float | None:
        """Of a percentile; None for another key."""
        return None if self.key in KEYS else float(self.key[1:])


@dataclass(frozen=True, slots=True)
class Judgement:
    """A limit beside what was measured; the worst of all cases."""

    key: str
    limit: float
    unit: str
    measured: float | None
    verdict: Verdict


def parse_slo(text: str | None) -> tuple[Goal, ...]:
    """Read the flag.

    Raises:
        UsageError: an unknown key, a key twice, or no number with its unit.
    """
    if text is None:
        return ()
    goals = tuple(_goal(part.strip()) for part in text.split(","))
    if len({goal.key for goal in goals}) < len(goals):
        raise UsageError(f"--slo {text}: one of the keys appears twice")
    return goals


def _goal(part: str) -> Goal:
    key, _, value = part.partition("=")
    is_percentile = re.fullmatch(r"p\d{1,2}(\.\d+)?", key) and float(key[1:]) > 0
    unit = "ms" if is_percentile else KEYS.get(key)
    if unit is None:
        raise UsageError(
            f"--slo {part}: no such key; it takes p50, p99 and so on, {', '.join(KEYS)}"
        )
    found = re.fullmatch(r"(\d+(?:\.\d+)?(?:[eE]-?\d+)?)\s*(\S+)", value.strip())
    if found is None or found[2] not in UNITS[unit]:
        raise UsageError(f"--slo {part}: {key} takes a number and one of {', '.join(UNITS[unit])}")
    name = f"p{float(key[1:]):g}" if is_percentile else key
    return Goal(name, float(found[1]) * UNITS[unit][found[2]], unit)


def judge_slo(goals: Sequence[Goal], report: LatencyReport) -> tuple[Judgement, ...]:
    """Compare each goal with the report."""
    return tuple(_judge(goal, _measured(goal, report)) for goal in goals)


def _judge(goal: Goal, measured: float | None) -> Judgement:
    if measured is None:
        verdict: Verdict = "unknown"
    elif goal.key == "throughput":
        verdict = "kept" if measured >= goal.limit else "missed"
    else:
        verdict = "kept" if measured <= goal.limit else "missed"
    return Judgement(goal.key, goal.limit, goal.unit, measured, verdict)


def _measured(goal: Goal, report: LatencyReport) -> float | None:
    memory = report.server.memory if report.server else report.memory
    metered = report.power.verdict == "ok"
    once = {
        "load": report.start_ms.load,
        "first": report.start_ms.first,
        "rss": float(report.rss_bytes),
        "peak-rss": float(memory.get("peak_rss_bytes", report.rss_bytes)),
        "energy": report.power.joules_per_run if metered else None,
        "power": report.power.mean_w if metered else None,
    }
    if goal.key in once:
        return once[goal.key]
    values = [_of_case(goal.key, case) for case in report.cases]
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return None
    return min(known) if goal.key == "throughput" else max(known)


def _of_case(key: str, case: CaseReport) -> float | None:
    total = case.latency_ms.get(TOTAL)
    if total is None:
        return None
    others = {"mean": total.mean, "max": total.max, "throughput": case.items_per_second}
    return others[key] if key in others else total.percentiles[key]
