"""Percentiles by nearest rank, and the refusal to name one that too few runs stand behind.

Nearest rank (the definition of NIST and MLPerf) returns a time that was really measured, where
interpolation makes one up between two runs. The tail needs runs in it: p99 of 200 runs is the
second worst of them, so ten runs must lie at or beyond a percentile before it is printed, which
makes 1,000 for p99 and 10,000 for p99.9.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from couchside.benchmarks.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

TAIL = 10
"""Runs that must lie at or beyond a percentile."""
NS_PER_MS = 1e6


@dataclass(frozen=True, slots=True)
class Summary:
    """A sample of durations, in milliseconds."""

    n: int
    mean: float
    std: float
    min: float
    max: float
    percentiles: Mapping[str, float | None]
    """By name, such as ``p99``; None where too few runs stand behind it."""
    drift: float | None
    """Median of the last tenth of the runs / of the first; above 1 it grew slower (heat)."""


def rank(n: int, percent: float) -> int:
    """1-based nearest rank of a percentile among ``n`` sorted values: ceil(percent/100 × n)."""
    return max(1, math.ceil(_fraction(percent) * n))


def runs_needed(percent: float) -> int:
    """Fewest runs that leave ``TAIL`` of them at or beyond the percentile."""
    return math.ceil(TAIL / (1 - _fraction(percent)))


def nearest_rank(ordered: NDArray[np.int64] | Sequence[float], percent: float) -> float:
    """The percentile of values that are sorted already; one of them, never between two."""
    return float(ordered[rank(len(ordered), percent) - 1])


def parse_percentiles(text: str) -> tuple[float, ...]:
    """Read a flag such as ``50,90,99.9``.

    Raises:
        UsageError: something in it is not a number above 0 and below 100, or appears twice.
    """
    try:
        percents = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--percentiles {text}: numbers with commas between, please") from None
    for percent in percents:
        if not 0 < percent < 100:
            raise UsageError(f"--percentiles: {percent:g} must lie between 0 and 100")
    if len(set(percents)) < len(percents):
        raise UsageError(f"--percentiles {text}: one of them appears twice")
    return percents


def check_enough(percents: Sequence[float], runs: int) -> None:
    """Refuse percentiles that ``runs`` runs can't carry.

    Raises:
        UsageError: names the percentiles and the runs that they need.
    """
    refused = [percent for percent in percents if runs < runs_needed(percent)]
    if refused:
        names = ", ".join(f"p{percent:g}" for percent in refused)
        raise UsageError(
            f"--iterations {runs:,} can't carry {names}, as {TAIL} runs must lie at or beyond a "
            f"percentile: raise it to {max(map(runs_needed, refused)):,}, or change --percentiles"
        )


def summarize(durations_ns: Sequence[int], percents: Sequence[float]) -> Summary | None:
    """Describe durations in nanoseconds, in the order in which they were measured.

    Returns:
        None where there are none.
    """
    if not len(durations_ns):
        return None
    values = np.asarray(durations_ns, dtype=np.int64)
    ordered = np.sort(values)
    return Summary(
        n=len(values),
        mean=float(values.mean()) / NS_PER_MS,
        std=float(values.std()) / NS_PER_MS,
        min=float(ordered[0]) / NS_PER_MS,
        max=float(ordered[-1]) / NS_PER_MS,
        percentiles={f"p{percent:g}": _carried(ordered, percent) for percent in percents},
        drift=_drift(values),
    )


def _carried(ordered: NDArray[np.int64], percent: float) -> float | None:
    if len(ordered) < runs_needed(percent):
        return None
    return nearest_rank(ordered, percent) / NS_PER_MS


def _drift(values: NDArray[np.int64]) -> float | None:
    tenth = len(values) // 10
    if not tenth:
        return None
    first = float(np.median(values[:tenth]))
    return float(np.median(values[-tenth:])) / first if first else None


def _fraction(percent: float) -> Fraction:
    """Exact, as 99.9 is not a binary number and a rank may hang on it."""
    return Fraction(str(percent)) / 100
