from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

from couchside.compression.errors import CompressionError
from couchside.compression.study.baselines import (
    choose_prior,
    ease,
    fit_baseline,
    matrix,
    watchers,
    with_prior,
)
from couchside.compression.study.measures import judge, per_case
from couchside.compression.study.ratings import read_ratings
from couchside.compression.study.split import make_split


def quality(baseline, split):
    return per_case(judge(baseline.score, split.test))["ndcg@10"].mean()


def test_matrix_counts_a_title_once_per_user():
    got = matrix([np.array([2, 0, 2]), np.array([], dtype=np.int64), np.array([1])], 3)
    assert got.toarray().tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert watchers((np.array([2, 2]), np.array([2])), 3).tolist() == [0, 0, 2]


@pytest.mark.parametrize("users", [40, 5], ids=["more users than titles", "fewer"])
def test_ease_solves_its_own_problem(users):
    """min ‖X - XB‖² + λ‖B‖² with a zero diagonal: no column has a better one nearby."""
    rng = np.random.default_rng(3)
    watched = matrix([np.flatnonzero(rng.random(8) < 0.5) for _ in range(users)], 8)
    weights = ease(watched, 5.0)([np.array([title]) for title in range(8)])
    dense = watched.toarray()
    assert np.diag(weights) == pytest.approx(np.zeros(8), abs=1e-6)
    for title in range(8):
        others = np.delete(np.arange(8), title)
        gram = dense[:, others].T @ dense[:, others] + 5.0 * np.eye(7)
        ridge = np.linalg.solve(gram, dense[:, others].T @ dense[:, title])
        assert weights[others, title] == pytest.approx(ridge, abs=1e-4)


@pytest.mark.parametrize("name", ["item-knn", "ease"])
def test_neighbours_beat_popularity_where_titles_go_together(ring, name):
    popular = quality(fit_baseline("popularity", ring, 0), ring)
    assert quality(fit_baseline(name, ring, 0), ring) > popular + 0.1


def test_popularity_7d_knows_the_last_week_before_the_cut_only(ring_file):
    split = make_split(read_ratings(ring_file), "temporal")
    scores = fit_baseline("popularity-7d", split, 0).score(split.test.histories[:2])
    assert scores.tolist() == [split.recent.tolist()] * 2


def test_popularity_7d_without_a_cut_in_time_says_which_split_has_one(ring):
    with pytest.raises(CompressionError, match="--split temporal"):
        fit_baseline("popularity-7d", ring, 0)


def test_a_prior_that_is_right_gets_weight_and_one_that_is_wrong_gets_none(ring_file):
    split = make_split(read_ratings(ring_file), "temporal")
    cases = split.validation
    mine = {h.tobytes(): i for h, i in zip(cases.histories, cases.items, strict=True)}

    def knows(histories):
        scores = np.zeros((len(histories), split.titles), dtype=np.float32)
        scores[range(len(histories)), [mine[h.tobytes()] for h in histories]] = 0.5
        return scores

    def nothing(histories):
        return np.zeros((len(histories), split.titles), dtype=np.float32)

    assert choose_prior(knows, split) == 0.0
    best = np.bincount(cases.items, minlength=split.titles).astype(np.float64)
    assert choose_prior(nothing, replace(split, recent_development=best)) > 0.0
    assert with_prior(nothing, best, 2.0)([cases.histories[0]])[0] == pytest.approx(
        2 * np.log1p(best), rel=1e-6
    )


def test_ials_without_implicit_says_how_to_go_on(ring, monkeypatch):
    monkeypatch.setitem(sys.modules, "implicit.als", None)
    with pytest.raises(CompressionError, match="pip install implicit"):
        fit_baseline("ials", ring, 0)
