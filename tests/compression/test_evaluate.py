from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from couchside.compression.data import Target, split, targets
from couchside.compression.evaluate import (
    NEIGHBOURS,
    Judge,
    PerUser,
    bundle_scores,
    choose_popularity_weight,
    item_knn,
    quality_row,
    rolling_popularity,
)
from couchside.compression.fit import gather
from couchside.device.bundle import open_bundle
from couchside.device.features import DAY
from couchside.device.quality import ranks

TITLES = 7
few_values = st.sampled_from([0.0, 1.0, 2.0, -math.inf, math.inf, math.nan])


def target(interactions, row: int) -> Target:
    """The event in ``row`` as a target, its user's earlier events as history."""
    user = int(interactions.users[row])
    own = interactions.by_user[user]
    return Target(user, int(interactions.items[row]), own[own < row])


@st.composite
def judged(draw):
    rows = draw(
        st.lists(st.tuples(st.integers(0, 3), st.integers(0, TITLES - 1)), min_size=2, max_size=12)
    )
    places = draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=5, unique=True))
    line = st.lists(few_values | st.floats(width=32), min_size=TITLES, max_size=TITLES)
    scores = [draw(line) for _ in places]
    return rows, sorted(places), np.array(scores, np.float32)


def rank_by_counting(scores, item, seen):
    clean = [-math.inf if math.isnan(score) else score for score in scores]
    others = [o for o in range(len(clean)) if o != item and o not in seen]
    return 1 + sum(clean[other] >= clean[item] for other in others)


@given(judged())
def test_judge_ranks_as_the_tv_does_and_as_counting_one_by_one_does(made, case):
    rows, places, scores = case
    interactions = made([(u, i, 5, float(n)) for n, (u, i) in enumerate(rows)], TITLES)
    wanted = [target(interactions, row) for row in places]
    found = Judge(interactions, wanted).ranks(scores)
    for line, one, rank in zip(scores, wanted, found, strict=True):
        seen = interactions.items[one.history]
        assert rank == rank_by_counting(line.tolist(), one.item, set(seen.tolist()))
        assert rank == ranks(line, np.array([one.item]), seen)[0]


@pytest.fixture
def judge(made):
    """Three targets: two of user 0, one of user 4; 40 titles, of which few were seen."""
    events = [(0, 0, 5, 0.0), (4, 1, 5, 1.0), (0, 2, 5, 2.0), (0, 3, 5, 3.0), (4, 5, 5, 4.0)]
    interactions = made(events, 40)
    return Judge(interactions, [target(interactions, row) for row in (2, 3, 4)])


def first_choice(judge, place, items):
    """Scores that put ``items[row]`` at ``place`` of each target's list."""
    scores = np.zeros((len(judge.wanted), 40), np.float32)
    for row, item in enumerate(items):
        free = [t for t in range(10, 40) if t != item]
        scores[row, free[: place - 1]] = 9.0
        scores[row, item] = 5.0
    return scores


def test_household_counts_once_however_much_it_watches(judge):
    scores = first_choice(judge, 1, [2, 7, 7])  # right for the first target of user 0 only
    found = judge.per_user(scores)
    assert judge.users == 2
    assert found.ndcg.tolist() == [0.5, 0.0]
    assert found.hit_rate.tolist() == [0.5, 0.0]


@pytest.mark.parametrize(("place", "gain"), [(1, 1.0), (3, 0.5), (10, 1 / math.log2(11)), (11, 0)])
def test_gain_falls_with_the_place_and_ends_after_ten(judge, place, gain):
    found = judge.per_user(first_choice(judge, place, [2, 3, 5]))
    assert found.ndcg == pytest.approx([gain, gain])
    assert found.hit_rate.tolist() == [float(place <= 10)] * 2


def test_scorer_that_likes_everything_alike_gets_nothing(judge):
    for constant in (0.0, 3.5, -math.inf, math.nan):
        found = judge.per_user(judge.constant(np.full(40, constant)))
        assert not found.ndcg.any()
        assert not found.hit_rate.any()


def test_nan_scores_rank_last(judge):
    scores = first_choice(judge, 1, [2, 3, 5])
    scores[:, [2, 3, 5]] = np.nan
    unseen = [40 - len(set(judge.interactions.items[t.history])) for t in judge.wanted]
    assert judge.ranks(scores).tolist() == unseen


def test_judge_leaves_the_scores_as_they_were(judge):
    scores = first_choice(judge, 1, [2, 3, 5])
    before = scores.copy()
    judge.per_user(scores)
    np.testing.assert_array_equal(scores, before)


@dataclass
class Told:
    """A judge that was told each user's NDCG under every weight."""

    ndcg: dict[float, list[float]]

    def per_user(self, scores):
        weight = round(float(scores[0]), 6)  # scores 0, popularity 1: the sum is the weight
        return PerUser(np.array(self.ndcg[weight]), np.zeros(4))


@pytest.mark.parametrize(
    ("ndcg", "chosen"),
    [
        # no weight tells: the middle is safest
        ({0.0: [0.5] * 4, 1.0: [0.5] * 4, 2.0: [0.5] * 4}, 1.0),
        # every user loses a little, all alike: that is no chance
        ({0.0: [0.1] * 4, 1.0: [0.5] * 4, 2.0: [0.49] * 4}, 1.0),
        # the shortfall is exactly its standard error: 0.1
        ({0.0: [0.4, 0.4, 0.4, 0.4], 1.0: [0.4, 0.4, 0.4, 0.0]}, 1.0),
        # just beyond it
        ({0.0: [0.4, 0.4, 0.4, 0.4], 1.0: [0.4, 0.4, 0.3, 0.0]}, 0.0),
        # a plateau between two cliffs
        ({0.0: [0.1] * 4, 1.0: [0.4] * 4, 2.0: [0.4] * 4, 3.0: [0.4] * 4, 4.0: [0.2] * 4}, 2.0),
        # of an even plateau the larger of the two in the middle
        ({0.0: [0.4] * 4, 1.0: [0.4] * 4, 2.0: [0.1] * 4}, 1.0),
        # the best is the largest
        ({0.0: [0.1] * 4, 0.5: [0.2] * 4, 3.0: [0.3] * 4}, 3.0),
        ({1.5: [0.1] * 4}, 1.5),
        # one user alone
        ({0.0: [0.1], 0.5: [0.3], 3.0: [0.2]}, 0.5),
    ],
)
def test_weight_is_the_middle_of_those_within_one_standard_error_of_the_best(ndcg, chosen):
    grid = sorted(ndcg, reverse=True)  # the order of the grid must not matter
    zero, one = np.zeros(1, np.float32), np.ones(1, np.float32)
    weight, means = choose_popularity_weight(Told(ndcg), zero, one, grid)
    assert weight == chosen
    assert means == pytest.approx({w: sum(users) / len(users) for w, users in ndcg.items()})


def knn_by_hand(interactions, until, wanted):
    """Dense cosines, one pair of titles at a time, all titles neighbours."""
    n = len(interactions.titles)
    watched = np.zeros((interactions.users.max() + 1, n))
    for user, item, time in zip(
        interactions.users, interactions.items, interactions.times, strict=True
    ):
        watched[user, item] += time < until
    norms = np.linalg.norm(watched, axis=0)
    near = np.zeros((n, n))
    for a in range(n):
        for b in range(n):
            if a != b and norms[a] and norms[b]:
                near[a, b] = watched[:, a] @ watched[:, b] / norms[a] / norms[b]
    return np.array([near[interactions.items[t.history]].sum(axis=0) for t in wanted])


def test_item_knn_of_a_hand_example(made):
    # users 0 and 1 share film 0; film 1 is user 0's, film 2 user 1's; film 3 comes after the cut
    events = [(0, 0, 5, 0.0), (0, 1, 5, 1.0), (1, 0, 5, 2.0), (1, 2, 5, 3.0), (2, 0, 5, 4.0)]
    events += [(2, 3, 5, 20.0), (0, 3, 5, 21.0)]
    interactions = made(events, 4)
    wanted = [target(interactions, 5)]  # user 2, who has seen film 0
    found = item_knn(interactions, 10.0, wanted)
    cosine = 1 / math.sqrt(3)  # of film 0's three viewers one saw film 1
    np.testing.assert_allclose(found, [[0.0, cosine, cosine, 0.0]], atol=1e-6)


@given(st.integers(0, 2**31))
def test_item_knn_equals_a_dense_one(made, seed):
    rng = np.random.default_rng(seed)
    rows = [(int(rng.integers(6)), int(rng.integers(9)), 5, float(n)) for n in range(40)]
    interactions = made(rows, 9)
    wanted = [target(interactions, row) for row in range(30, 40)]
    expected = knn_by_hand(interactions, 30.0, wanted)
    np.testing.assert_allclose(item_knn(interactions, 30.0, wanted), expected, atol=1e-5)


def test_item_knn_looks_at_the_nearest_titles_only(made):
    rng = np.random.default_rng(4)
    n = NEIGHBOURS + 30
    rows = [(int(rng.integers(25)), int(rng.integers(n)), 5, float(t)) for t in range(2000)]
    # newcomers with one film each: their scores are that film's nearest titles
    rows += [(30 + film, film, 5, 3000.0 + 2 * film + t) for film in range(20) for t in range(2)]
    interactions = made(rows, n)
    wanted = [target(interactions, 2001 + 2 * film) for film in range(20)]
    whole = knn_by_hand(interactions, 3000.0, wanted)
    found = item_knn(interactions, 3000.0, wanted)
    kept = found > 0
    np.testing.assert_allclose(found[kept], whole[kept], atol=1e-5)
    for line, near in zip(kept, whole, strict=True):
        assert NEIGHBOURS <= line.sum() <= NEIGHBOURS + 3  # ties of the last stay
        assert near[~line].max() <= near[line].min() + 1e-6


@given(st.integers(0, 2**31))
def test_rolling_popularity_counts_the_seven_days_before_the_day(made, seed):
    rng = np.random.default_rng(seed)
    rows = [
        (int(rng.integers(3)), int(rng.integers(4)), 5, 20_000 * DAY + float(t) * DAY / 3)
        for t in rng.integers(0, 60, 40)
    ]
    interactions = made(rows, 4)
    wanted = [target(interactions, row) for row in range(20, 40)]
    found = rolling_popularity(interactions, wanted)
    for row, line in enumerate(found):
        midnight = interactions.times[20 + row] // DAY * DAY
        earlier = (interactions.times < midnight) & (interactions.times >= midnight - 7 * DAY)
        counts = np.bincount(interactions.items[earlier], minlength=4)
        np.testing.assert_array_equal(line, counts)


def test_quality_row_tells_gain_over_popularity_and_loss_to_the_student():
    popularity = PerUser(np.array([0.2, 0.4]), np.array([1.0, 1.0]))
    student = PerUser(np.array([0.4, 0.8]), np.array([1.0, 1.0]))
    ours = PerUser(np.array([0.3, 0.6]), np.array([1.0, 0.0]))
    row = quality_row("int8", ours, popularity, student)
    assert (row.name, row.ndcg_at_10, row.hr_at_10) == ("int8", pytest.approx(0.45), 0.5)
    gain, loss = row.over_popularity, row.loss
    assert [gain.low, gain.mean, gain.high] == pytest.approx([0.5] * 3)
    assert [loss.low, loss.mean, loss.high] == pytest.approx([0.25] * 3)
    assert quality_row("student", student, popularity).loss is None


def test_loss_interval_is_in_order_when_users_differ():
    rng = np.random.default_rng(0)
    student = PerUser(rng.random(50), np.zeros(50))
    ours = PerUser(student.ndcg * 0.9 + 0.02 * rng.random(50), np.zeros(50))
    loss = quality_row("int8", ours, student, student).loss
    assert loss.low < loss.mean < loss.high
    assert 0.0 < loss.mean < 0.1


@pytest.fixture(scope="module")
def after_the_cut(interactions, tiny):
    return targets(interactions, split(interactions, tiny.data).test_from, math.inf)[:80]


def test_bundle_is_scored_by_what_it_holds(bundles, interactions, tiny, student, after_the_cut):
    bundle = open_bundle(bundles / "onnx-float")
    vectors = torch.from_numpy(bundle.item_vectors())
    rows = [one.history for one in after_the_cut]
    batch = gather(interactions, rows, tiny.history_length)
    with torch.no_grad():
        users = student.ranker.users(vectors, batch)[:, -1]
        expected = (users @ vectors.T).numpy()
    found = bundle_scores(bundle, interactions, after_the_cut)
    assert found.shape == (80, len(interactions.titles))
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("flavour", ["litert-float", "litert-int8", "onnx-float", "onnx-int8"])
def test_every_flavour_orders_titles_nearly_as_the_float_student_does(
    bundles, interactions, student, after_the_cut, flavour
):
    expected = student.ranker.scores(interactions, after_the_cut)
    found = bundle_scores(open_bundle(bundles / flavour), interactions, after_the_cut)
    together = [np.corrcoef(a, b)[0, 1] for a, b in zip(found, expected, strict=True)]
    assert min(together) > 0.99
