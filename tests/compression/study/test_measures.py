from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from couchside.compression.study.measures import (
    NOBODY,
    Judged,
    by_user,
    estimate,
    judge,
    per_case,
    per_case_lists,
    whole_lists,
)
from couchside.compression.study.split import Cases
from couchside.device import quality


def cases(*rows):
    """Cases of (user, history, target)."""
    return Cases(
        users=np.array([user for user, _, _ in rows]),
        items=np.array([item for _, _, item in rows]),
        histories=tuple(np.array(history) for _, history, _ in rows),
    )


def constant(scores):
    row = np.array(scores, dtype=np.float32)
    return lambda histories: np.broadcast_to(row, (len(histories), len(row)))


def test_equal_scores_count_against_the_model():
    judged = judge(constant([1.0] * 6), cases((0, [0], 3)))
    assert judged.ranks.tolist() == [5]
    assert judged.candidates.tolist() == [5]


def test_seen_titles_do_not_compete_and_are_not_shown():
    judged = judge(constant([9.0, 8.0, 1.0, 2.0]), cases((0, [0, 1], 2)))
    assert judged.ranks.tolist() == [2]
    assert judged.lists[0].tolist() == [3, 2] + [NOBODY] * 8


def test_a_score_of_nan_is_worse_than_every_number():
    judged = judge(constant([np.nan, -1e30, 0.0, np.nan]), cases((0, [2], 0), (1, [2], 1)))
    assert judged.ranks.tolist() == [3, 1]


@given(st.integers(0, 2**32 - 1))
def test_ranks_agree_with_the_tv_s_own(seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 5, (8, 30)).astype(np.float32)
    rows = []
    for user in range(8):
        order = rng.permutation(30)
        rows.append((user, order[: 1 + user], int(order[-1])))
    wanted = cases(*rows)
    judged = judge(lambda histories: scores[[len(h) - 1 for h in histories]], wanted)
    for row in range(8):
        theirs = quality.ranks(scores[row], wanted.items[row : row + 1], wanted.histories[row])
        assert judged.ranks[row] == theirs[0]
        measures = {name: value[row] for name, value in per_case(judged).items()}
        assert measures["ndcg@10"] == pytest.approx(quality.ndcg(theirs))
        assert measures["hr@10"] == quality.hit_rate(theirs)


@given(st.integers(0, 2**32 - 1))
def test_lists_are_the_best_titles_in_order(seed):
    rng = np.random.default_rng(seed)
    scores = rng.random((3, 25)).astype(np.float32)
    wanted = cases(*((user, rng.permutation(25)[: 1 + user], 24) for user in range(3)))
    judged = judge(lambda histories: scores[[len(h) - 1 for h in histories]], wanted)
    for row in range(3):
        seen = set(wanted.histories[row].tolist()) - {24}
        best = [t for t in np.argsort(-scores[row]).tolist() if t not in seen]
        assert judged.lists[row].tolist() == best[:10]


def test_measures_of_known_places():
    judged = Judged(
        ranks=np.array([1, 10, 11, 20, 21]),
        candidates=np.full(5, 21),
        lists=np.zeros((5, 10), dtype=np.int64),
    )
    got = {name: values.tolist() for name, values in per_case(judged).items()}
    assert got["hr@10"] == got["recall@10"] == [1, 1, 0, 0, 0]
    assert got["recall@20"] == [1, 1, 1, 1, 0]
    assert got["mrr"] == pytest.approx([1, 0.1, 1 / 11, 0.05, 1 / 21])
    assert got["map@10"] == pytest.approx([1, 0.1, 0, 0, 0])
    assert got["precision@10"] == pytest.approx([0.1, 0.1, 0, 0, 0])
    assert got["f1@10"] == pytest.approx([2 * 0.1 / 1.1] * 2 + [0] * 3)
    assert got["auc"] == pytest.approx([1, 0.55, 0.5, 0.05, 0])


def test_novelty_diversity_and_popularity_are_means_over_what_was_shown():
    lists = np.full((1, 10), NOBODY)
    lists[0, :3] = (0, 1, 2)
    genres = np.array([[1, 0, 0], [0, 1, 1], [1, 1, 0], [0, 0, 0]], dtype=bool)
    judged = Judged(np.array([1]), np.array([3]), lists)
    got = per_case_lists(judged, np.array([4.0, 2.0, 1.0, 9.0]), 4, genres)
    assert got["novelty@10"] == pytest.approx([(0 + 1 + 2) / 3])
    assert got["popularity@10"] == pytest.approx([7 / 3])
    assert got["diversity@10"] == pytest.approx([(3 + 1 + 2) / 3])


def test_coverage_and_gini_tell_one_list_for_all_from_a_fair_share():
    same = Judged(np.ones(4), np.ones(4), np.tile(np.arange(10), (4, 1)))
    fair = Judged(np.ones(4), np.ones(4), np.arange(40).reshape(4, 10))
    assert whole_lists(same, 40) == {"coverage@10": 0.25, "gini@10": pytest.approx(0.75)}
    assert whole_lists(fair, 40) == {"coverage@10": 1.0, "gini@10": pytest.approx(0.0)}


def test_a_busy_user_counts_once():
    assert by_user(np.array([1.0, 0.0, 0.0, 1.0]), np.array([5, 7, 7, 7])) == pytest.approx(
        [1.0, 1 / 3]
    )


def test_an_interval_covers_its_mean_and_narrows_with_users():
    rng = np.random.default_rng(1)
    few, many = estimate(rng.random(50)), estimate(rng.random(5000))
    assert few.low < few.value < few.high
    assert many.high - many.low < (few.high - few.low) / 3
