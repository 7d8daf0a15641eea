"""Percentiles are times that were measured, and none is named that too few runs stand behind."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from couchside.benchmarks.errors import ExitCode, UsageError
from couchside.benchmarks.timing.percentiles import (
    check_enough,
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
