from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from couchside.device.quality import Interval, hit_rate, ndcg, paired_difference, ranks

few_values = st.sampled_from([0.0, 1.0, 2.0, -math.inf, math.inf, math.nan])


def rank_by_counting(scores, targets, exclude):
    """The oracle, O(n²): compare each target with each other title."""
    clean = [-math.inf if math.isnan(score) else score for score in scores]
    found = []
    for place, target in enumerate(targets):
        rank = 1
        for other in range(len(clean)):
            if other not in targets and other not in exclude:
                rank += clean[other] >= clean[target]
        for place2, other in enumerate(targets):
            ahead = clean[other] == clean[target] and place2 < place
            rank += clean[other] > clean[target] or ahead
        found.append(rank)
    return found


@st.composite
def judged(draw):
    n = draw(st.integers(1, 12))
    scores = draw(st.lists(few_values | st.floats(width=32), min_size=n, max_size=n))
    rows = st.integers(0, n - 1)
    targets = draw(st.lists(rows, min_size=1, max_size=n, unique=True))
    exclude = draw(st.lists(rows, max_size=n))
    return np.array(scores, np.float32), targets, exclude


@given(judged())
def test_ranks_equal_counting_one_by_one(case):
    scores, targets, exclude = case
    found = ranks(scores, np.array(targets, np.int64), np.array(exclude, np.int64))
    assert found.dtype == np.int64
    assert found.tolist() == rank_by_counting(scores.tolist(), targets, set(exclude))


def test_scorer_that_likes_everything_alike_ranks_the_target_last():
    nothing = np.empty(0, np.int64)
    assert ranks(np.zeros(50, np.float32), np.array([7]), nothing).tolist() == [50]


def test_nan_scores_rank_last():
    scores = np.array([np.nan, 1.0, 2.0, np.nan], np.float32)
    assert ranks(scores, np.array([0]), np.array([1])).tolist() == [3]
    assert ranks(scores, np.array([1]), np.empty(0, np.int64)).tolist() == [2]


def test_seen_titles_do_not_compete():
    scores = np.array([5.0, 4.0, 3.0], np.float32)
    assert ranks(scores, np.array([2]), np.array([0])).tolist() == [2]


@pytest.mark.parametrize(
    ("target_ranks", "k", "expected"),
    [
        ([1], 10, 1.0),
        ([10], 10, 1 / math.log2(11)),
        ([11], 10, 0.0),
        ([1, 2, 3], 10, 1.0),
        ([1, 3], 10, (1 + 0.5) / (1 + 1 / math.log2(3))),
        ([1, 2, 3], 2, 1.0),
        ([], 10, 0.0),
    ],
)
def test_ndcg_is_the_gain_over_the_best_possible(target_ranks, k, expected):
    assert ndcg(np.array(target_ranks, np.int64), k) == pytest.approx(expected)


def test_hit_rate_asks_only_whether_one_target_is_near_the_top():
    assert hit_rate(np.array([40, 10])) == 1.0
    assert hit_rate(np.array([40, 11])) == 0.0
    assert hit_rate(np.array([3]), k=2) == 0.0


def test_paired_difference_is_the_same_every_time():
    rng = np.random.default_rng(0)
    ours, theirs = rng.random(40), rng.random(40)
    first = paired_difference(ours, theirs, seed=5)
    assert first == paired_difference(ours, theirs, seed=5)
    assert first != paired_difference(ours, theirs, seed=6)
    assert first.low < first.mean < first.high
    assert first.mean == pytest.approx((ours - theirs).mean())


def test_paired_difference_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(300):
        theirs = rng.random(60)  # users differ far more than the rankings do: pairing matters
        ours = theirs + rng.normal(0.02, 0.1, 60)
        interval = paired_difference(ours, theirs, resamples=400, seed=trial)
        covered += interval.low <= 0.02 <= interval.high
        assert interval.high - interval.low < 0.1
    assert 0.90 <= covered / 300 <= 0.98


def test_paired_difference_of_equal_rankings_is_exactly_nothing():
    metric = np.random.default_rng(2).random(30)
    assert paired_difference(metric, metric, relative=True) == Interval(0.0, 0.0, 0.0)


def test_relative_difference_does_not_depend_on_the_scale():
    rng = np.random.default_rng(3)
    theirs = rng.random(50) + 0.1
    ours = theirs * 1.25
    interval = paired_difference(ours, theirs, relative=True)
    assert [interval.low, interval.mean, interval.high] == pytest.approx([0.25] * 3)


def test_relative_difference_to_a_ranking_that_finds_nothing_stays_finite():
    interval = paired_difference(np.full(5, 0.5), np.zeros(5), relative=True)
    assert all(math.isfinite(value) for value in (interval.low, interval.mean, interval.high))
