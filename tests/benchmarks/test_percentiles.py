"""Percentiles are times that were measured, and none is named that too few runs stand behind."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from couchside.benchmarks.errors import ExitCode, UsageError
from couchside.benchmarks.timing.percentiles import (
    check_enough,
    interval_ranks,
    nearest_rank,
    parse_percentiles,
    runs_needed,
    summarize,
)

TENTHS = st.integers(1, 999).map(lambda tenths: tenths / 10)


def by_definition(values, percent):
    """The smallest value that at least ``percent`` of the values do not exceed."""
    share = Fraction(str(percent)) / 100
    return min(v for v in values if Fraction(sum(x <= v for x in values), len(values)) >= share)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60), TENTHS)
def test_nearest_rank_is_the_definition(values, percent):
    assert nearest_rank(sorted(values), percent) == by_definition(values, percent)


@given(st.lists(st.integers(0, 10**9), min_size=1), TENTHS)
def test_percentile_was_really_measured(values, percent):
    assert nearest_rank(sorted(values), percent) in values


@pytest.mark.parametrize(
    ("percent", "runs"), [(50, 20), (90, 100), (95, 200), (99, 1000), (99.9, 10_000)]
)
def test_ten_runs_must_lie_at_or_beyond_a_percentile(percent, runs):
    assert runs_needed(percent) == runs
    check_enough([percent], runs)
    with pytest.raises(UsageError, match=f"p{percent:g}.*raise it to {runs:,}") as refused:
        check_enough([percent], runs - 1)
    assert refused.value.code == ExitCode.USAGE


def test_refusal_names_only_what_can_not_be_carried():
    with pytest.raises(UsageError, match=r"can't carry p99, p99\.9, as .* raise it to 10,000"):
        check_enough([50.0, 99.0, 99.9], 999)


@pytest.mark.parametrize("text", ["", "fast", "50,,99", "0", "100", "-1", "nan", "50,50"])
def test_percentiles_that_are_none_are_refused(text):
    with pytest.raises(UsageError, match="--percentiles"):
        parse_percentiles(text)


def test_summary_of_too_few_runs_leaves_the_tail_out():
    summary = summarize(range(1_000_000, 1_000_999), (50.0, 99.0))
    assert summary.n == 999
    assert summary.percentiles["p50"] == pytest.approx(1.000499)
    assert summary.percentiles["p99"] is None


def test_summary_is_in_milliseconds():
    summary = summarize([2_000_000] * 5 + [4_000_000] * 5, (50.0,))
    assert (summary.mean, summary.std, summary.min, summary.max) == (3.0, 1.0, 2.0, 4.0)


def test_summary_of_nothing_is_none():
    assert summarize([], (50.0,)) is None


def test_drift_shows_a_machine_that_slows_down():
    assert summarize([100] * 50 + [150] * 50, ()).drift == 1.5
    assert summarize([100] * 100, ()).drift == 1.0
    assert summarize([100] * 9, ()).drift is None


def exact_coverage(n, percent, low, high):
    """P(low <= K < high) of a binomial K, in whole numbers."""
    share = Fraction(str(percent)) / 100
    return float(sum(math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(low, high)))


@pytest.mark.parametrize(("n", "percent"), [(20, 50), (100, 50), (100, 90), (400, 95), (1000, 99)])
def test_interval_covers_the_percentile_and_no_narrower_one_does(n, percent):
    low, high = interval_ranks(n, percent)
    assert exact_coverage(n, percent, low, high) >= 0.95
    tail = 0.025
    assert exact_coverage(n, percent, 0, low + 1) > tail
    assert exact_coverage(n, percent, high - 1, n + 1) > tail


@pytest.mark.parametrize(("n", "percent"), [(5, 50), (200, 99), (1, 50)])
def test_too_few_runs_enclose_nothing(n, percent):
    assert interval_ranks(n, percent) is None


def test_interval_of_many_runs_is_narrow_and_found_at_once():
    low, high = interval_ranks(5_000_000, 99)
    assert low < 4_950_000 < high
    assert high - low < 1000


def test_interval_contains_the_true_percentile_as_often_as_it_says():
    rng = np.random.default_rng(5)
    truth = -math.log(1 - 0.99)
    ranks = interval_ranks(2000, 99)
    runs = np.sort(rng.exponential(size=(2000, 2000)), axis=1)
    inside = (runs[:, ranks[0] - 1] <= truth) & (truth <= runs[:, ranks[1] - 1])
    assert 0.94 <= inside.mean() <= 0.98


def test_summary_gives_each_percentile_an_interval():
    summary = summarize([1_000_000 + i for i in range(1000)], (50.0, 99.0))
    for name in ("p50", "p99"):
        low, high = summary.intervals[name]
        assert low < summary.percentiles[name] < high


def test_percentile_that_is_not_carried_has_no_interval():
    assert summarize(range(1, 1000), (99.0,)).intervals["p99"] is None


def test_outliers_are_counted_and_kept():
    summary = summarize([100, 101, 99, 100, 102, 98] * 20 + [5000], (50.0,))
    assert summary.outliers == 1
    assert summary.max == 5000 / 1e6
    assert summary.n == 121


def test_runs_that_hardly_differ_have_outliers_too():
    assert summarize([100] * 99 + [200], ()).outliers == 1


@pytest.mark.parametrize(
    ("late", "trend"), [(100, "steady"), (109, "steady"), (120, "drifting"), (80, "drifting")]
)
def test_drift_has_a_verdict(late, trend):
    assert summarize([100] * 50 + [late] * 50, ()).trend == trend


def test_trend_of_a_few_runs_is_unknown():
    assert summarize([100] * 9, ()).trend == "unknown"


def test_variation_is_relative_to_the_mean():
    assert summarize([2_000_000] * 5 + [4_000_000] * 5, ()).cv == pytest.approx(1 / 3)
