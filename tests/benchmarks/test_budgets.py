"""Promises are data; a verdict needs runs that agree."""

from dataclasses import replace

import pytest

from couchside.benchmarks.promises.budgets import (
    Budget,
    Verdict,
    judge,
    parse_promises,
    read_promises,
)
from couchside.device.strict import StrictError

RSS = Budget("daemon_rss", "memory", "MB", at_most=66.0)
P99 = Budget("rows_p99", "rows", "ms", at_most=10.0, witness="rows_undisturbed_p99")
GAIN = Budget("gain", "gain", "%", at_least=0.0, recipe="tv-small")


def line(budget, recipe="tv-small", **measured):
    return judge([budget], measured, recipe=recipe)[0]


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ((60.0, 61.0, 65.9), Verdict.PASS),
        ((66.0,), Verdict.PASS),
        ((66.1, 70.0), Verdict.MISS),
        ((65.0, 67.0, 68.0), Verdict.UNCLEAR),
        ((), Verdict.NOT_MEASURED),
    ],
)
def test_verdict_needs_every_run_to_agree(values, verdict):
    assert line(RSS, daemon_rss=values).verdict is verdict


@pytest.mark.parametrize(
    ("witness", "verdict"),
    [
        pytest.param((4.0, 5.0), Verdict.UNCLEAR, id="others had the processor"),
        pytest.param((11.0, 12.0), Verdict.MISS, id="it really needs that long"),
        pytest.param((4.0, 12.0), Verdict.UNCLEAR, id="the witness is not sure"),
        pytest.param((), Verdict.MISS, id="no witness"),
    ],
)
def test_missed_wall_time_is_unclear_where_its_witness_keeps_the_budget(witness, verdict):
    assert line(P99, rows_p99=(14.0, 15.0), rows_undisturbed_p99=witness).verdict is verdict


@pytest.mark.parametrize("witness", [3.0, 30.0])
def test_witness_never_turns_a_pass(witness):
    assert line(P99, rows_p99=(8.0,), rows_undisturbed_p99=(witness,)).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ((60.0, 61.0), Verdict.PASS),
        ((65.5, 65.5), Verdict.UNCLEAR),
        ((66.5, 66.5), Verdict.UNCLEAR),
        ((68.0, 69.0), Verdict.MISS),
    ],
)
def test_two_runs_within_the_noise_never_say_pass_and_miss(values, verdict):
    noisy = replace(RSS, noise=0.02)
    assert line(noisy, daemon_rss=values).verdict is verdict


@pytest.mark.parametrize("noise", [-0.1, 1.0, float("nan")])
def test_noise_that_is_no_share_is_refused(noise):
    with pytest.raises(ValueError, match="noise"):
        replace(RSS, noise=noise)


def test_what_is_left_is_counted_from_the_median():
    assert line(RSS, daemon_rss=(60.0, 61.0, 65.0)).left == pytest.approx(5.0)
    assert line(RSS, daemon_rss=(70.0,)).left == pytest.approx(-4.0)
    assert line(GAIN, gain=(1.5,)).left == pytest.approx(1.5)


def test_lower_bound_is_kept_from_above():
    assert line(GAIN, gain=(0.1,)).verdict is Verdict.PASS
    assert line(GAIN, gain=(-0.1,)).verdict is Verdict.MISS


def test_promise_of_another_recipe_is_not_judged():
    assert judge([GAIN], {"gain": (-5.0,)}, recipe="tv-tiny") == []


def test_shipped_promises_are_those_of_the_issue():
    promises = read_promises()
    limits = {budget.name: budget.limit for budget in promises.budget}
    assert (promises.conditions.titles, promises.conditions.rows) == (5000, 1000)
    assert limits["daemon_rss"] == 66.0
    assert limits["daemon_anonymous"] == 32.0
    assert limits["events_missed"] == 0.0
    assert limits["first_answer"] == 0.8
    assert limits["rows_p99"] == 10.0


HEAD = '[conditions]\nflavour = "f"\ntitles = 1\nrows = 1\n[[budget]]\nname = "a"\nwhat = "b"\n'


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ('unit = "s"\nat_most = 1.0\nat_least = 1.0\n', "not both"),
        ('unit = "s"\n', "needs at_most or at_least"),
        ('unit = "s"\nat_moist = 1.0\n', "at_moist"),
        ("at_most = 1.0\n", "unit"),
    ],
)
def test_promise_that_is_not_one_is_refused(rest, message):
    with pytest.raises((StrictError, ValueError), match=message):
        parse_promises(HEAD + rest)
