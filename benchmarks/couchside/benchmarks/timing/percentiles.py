"""Percentiles by nearest rank, and the refusal to name one that too few runs stand behind.

Nearest rank (the definition of NIST and MLPerf) returns a time that was really measured, where
interpolation makes one up between two runs. The tail needs runs in it: p99 of 200 runs is the
second worst of them, so ten runs must lie at or beyond a percentile before it is printed, which
makes 1,000 for p99 and 10,000 for p99.9. How sure a percentile is, its order statistics tell: of n
runs the number below the true percentile is binomial (Hahn and Meeker, Statistical Intervals,
1991), so two measured times enclose it. That counts runs as independent, which neighbours in time
on a shared machine are not: repeat the measurement to see how far one is from the next.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

import numpy as np

from couchside.benchmarks.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

TAIL = 10
"""Runs that must lie at or beyond a percentile."""
NS_PER_MS = 1e6
CONFIDENCE = 0.95
OUTLIER = 3.5
"""Modified z-score above which a run counts as an outlier (Iglewicz and Hoaglin, 1993)."""
MAD_TO_STD = 0.6745
"""Median absolute deviation of a normal distribution with standard deviation 1."""
DRIFT = 0.1
"""Share by which the end of a run may differ from its beginning before it is suspect."""
Trend = Literal["steady", "drifting", "unknown"]


@dataclass(frozen=True, slots=True)
class Summary:
    """A sample of durations, in milliseconds."""

    n: int
    mean: float
    std: float
    cv: float
    """Coefficient of variation: std / mean."""
    min: float
    max: float
    percentiles: Mapping[str, float | None]
    """By name, such as ``p99``; None where too few runs stand behind it."""
    intervals: Mapping[str, tuple[float, float] | None]
    """95 % confidence interval of each percentile; None where too few runs enclose it."""
    outliers: int
    """Runs far from the median, in median absolute deviations. Counted, never left out."""
    drift: float | None
    """Median of the last tenth of the runs / of the first; above 1 it grew slower (heat)."""
    trend: Trend
    """What the drift means."""


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


def summarize(
    durations_ns: Sequence[int] | NDArray[np.int64], percents: Sequence[float]
) -> Summary | None:
    """Describe durations in nanoseconds, in the order in which they were measured.

    Returns:
        None where there are none.
    """
    if not len(durations_ns):
        return None
    values = np.asarray(durations_ns, dtype=np.int64)
    ordered = np.sort(values)
    mean, std, drift = float(values.mean()), float(values.std()), _drift(values)
    return Summary(
        n=len(values),
        mean=mean / NS_PER_MS,
        std=std / NS_PER_MS,
        cv=std / mean if mean else 0.0,
        min=float(ordered[0]) / NS_PER_MS,
        max=float(ordered[-1]) / NS_PER_MS,
        percentiles={f"p{percent:g}": _carried(ordered, percent) for percent in percents},
        intervals={f"p{percent:g}": _interval(ordered, percent) for percent in percents},
        outliers=_outliers(values, ordered),
        drift=drift,
        trend=_trend(drift),
    )


def interval_ranks(n: int, percent: float) -> tuple[int, int] | None:
    """1-based ranks of the two order statistics that enclose a percentile with 95 % confidence.

    Returns:
        None where even the smallest and the largest of n values do not.
    """
    share = float(_fraction(percent))
    first, below = _binomial_cdf(n, share)
    tail = (1 - CONFIDENCE) / 2
    # P(X_(low) <= percentile < X_(high)) = P(low <= K < high) with K binomial.
    low = first + int(np.searchsorted(below, tail, side="right"))
    high = first + int(np.searchsorted(below, 1 - tail, side="left")) + 1
    return (low, high) if low >= 1 and high <= n else None


def _binomial_cdf(n: int, share: float) -> tuple[int, NDArray[np.float64]]:
    """P(K <= k) for k from the first returned on, as far as it is neither 0 nor 1 to speak of."""
    reach = int(10 * math.sqrt(n * share * (1 - share))) + 10
    k = np.arange(max(0, int(n * share) - reach), min(n, int(n * share) + reach) + 1)
    steps = np.log((n - k[:-1]) / (k[:-1] + 1)) + math.log(share / (1 - share))
    logs = np.concatenate([[0.0], np.cumsum(steps)])
    mass = np.exp(logs - logs.max())
    return int(k[0]), np.cumsum(mass) / mass.sum()


def _carried(ordered: NDArray[np.int64], percent: float) -> float | None:
    if len(ordered) < runs_needed(percent):
        return None
    return nearest_rank(ordered, percent) / NS_PER_MS


def _interval(ordered: NDArray[np.int64], percent: float) -> tuple[float, float] | None:
    ranks = interval_ranks(len(ordered), percent)
    if ranks is None or len(ordered) < runs_needed(percent):
        return None
    low, high = (float(ordered[place - 1]) / NS_PER_MS for place in ranks)
    return low, high


def _outliers(values: NDArray[np.int64], ordered: NDArray[np.int64]) -> int:
    away = np.abs(values - nearest_rank(ordered, 50))
    mad = nearest_rank(np.sort(away), 50)
    return int((MAD_TO_STD * away > OUTLIER * mad).sum())


def _trend(drift: float | None) -> Trend:
    if drift is None:
        return "unknown"
    return "drifting" if abs(drift - 1) > DRIFT else "steady"


def _drift(values: NDArray[np.int64]) -> float | None:
    tenth = len(values) // 10
    if not tenth:
        return None
    first = float(np.median(values[:tenth]))
    return float(np.median(values[-tenth:])) / first if first else None


def _fraction(percent: float) -> Fraction:
    """Exact, as 99.9 is not a binary number and a rank may hang on it."""
    return Fraction(str(percent)) / 100
