from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from couchside.device.bundle import open_bundle
from couchside.device.ranker import SAMPLE, UserModel, score, similarity, top_k


def sorted_whole(scores, k, mask=None):
    """The oracle: sort everything, stably, NaN last."""
    allowed = np.arange(len(scores)) if mask is None else np.flatnonzero(mask)
    return allowed[np.argsort(-scores[allowed], kind="stable")][:k]


few_values = st.sampled_from([-np.inf, -1.0, -0.0, 0.0, 1.0, np.nan, np.inf])
score_values = st.floats(width=32) | few_values


@given(
    st.integers(0, 40).flatmap(
        lambda n: st.tuples(
            hnp.arrays(np.float32, n, elements=score_values),
            st.none() | hnp.arrays(np.bool_, n),
        )
    ),
    st.integers(-1, 50),
)
def test_top_k_equals_a_whole_stable_sort(scores_and_mask, k):
    scores, mask = scores_and_mask
    best = top_k(scores, k, mask)
    assert best.dtype == np.int64
    np.testing.assert_array_equal(best, sorted_whole(scores, max(0, k), mask))


SHAPES = {
    "smooth": lambda rng, n: rng.normal(size=n),
    "tied": lambda rng, n: rng.integers(0, 3, n),
    "all alike": lambda _, n: np.zeros(n),
    "rising": lambda _, n: np.arange(n),
    "falling": lambda _, n: -np.arange(n),
    "best hidden from the sample": lambda _, n: np.where(np.arange(n) % 7 == 3, 9.0, 0.0),
    "sample sees only the best": lambda _, n: np.where(np.arange(n) % (n // SAMPLE) == 0, 9.0, 0),
    "mostly minus infinity": lambda rng, n: np.where(rng.random(n) < 0.999, -np.inf, 1.0),
    "mostly NaN": lambda rng, n: np.where(rng.random(n) < 0.99, np.nan, rng.normal(size=n)),
}


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(sorted(SHAPES)),
    st.integers(2 * SAMPLE, 8 * SAMPLE),
    st.sampled_from([1, 10, 25, 300, 2 * SAMPLE, 100_000]),
    st.sampled_from([None, 0.0, 0.001, 0.5]),
    st.integers(0, 2**32 - 1),
)
def test_top_k_is_exact_where_it_samples_its_threshold(shape, n, k, share, seed):
    rng = np.random.default_rng(seed)
    scores = SHAPES[shape](rng, n).astype(np.float32)
    mask = None if share is None else rng.random(n) < share
    np.testing.assert_array_equal(top_k(scores, k, mask), sorted_whole(scores, k, mask))


def test_top_k_of_nothing_allowed_is_empty():
    scores = np.ones(5, np.float32)
    assert top_k(scores, 3, np.zeros(5, bool)).tolist() == []
    assert top_k(scores, 0).tolist() == []
    assert top_k(np.empty(0, np.float32), 3).tolist() == []


def test_score_adds_weighted_popularity_to_the_product():
    vectors = np.array([[1.0, 0.0], [0.0, 2.0]], np.float32)
    popularity = np.array([0.0, 4.0], np.float32)
    scores = score(np.array([3.0, 1.0], np.float32), vectors, popularity, 0.25)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, [3.0, 3.0])


def test_household_without_history_gets_popularity_alone():
    vectors = np.ones((3, 4), np.float32)
    popularity = np.array([1.0, 3.0, 2.0], np.float32)
    scores = score(np.zeros(4, np.float32), vectors, popularity, 0.5)
    assert top_k(scores, 3).tolist() == [1, 2, 0]


def test_similarity_is_the_cosine_to_the_seed():
    vectors = np.array([[2.0, 0.0], [0.0, 5.0], [-1.0, 0.0], [3.0, 3.0], [0.0, 0.0]], np.float32)
    near = similarity(vectors[0], vectors)
    np.testing.assert_allclose(near, [1.0, 0.0, -1.0, np.sqrt(0.5), 0.0], atol=1e-6)


@pytest.fixture(scope="module", params=["litert-float", "onnx-float"])
def model(request, bundles):
    return UserModel(open_bundle(bundles / request.param))


def history(model, steps, seed=3):
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(steps, model.d)).astype(np.float32),
        rng.integers(0, 4, steps).astype(np.int32),
        rng.integers(0, 8, steps).astype(np.int32),
    )


def test_user_of_no_history_is_the_zero_vector(model):
    assert not model.user(*history(model, 0)).any()


def test_user_is_made_of_the_last_events_only(model):
    vectors, signals, gaps = history(model, model.length + 5)
    user = model.user(vectors, signals, gaps)
    assert user.shape == (model.d,)
    assert user.dtype == np.float32
    last = slice(-model.length, None)
    np.testing.assert_array_equal(user, model.user(vectors[last], signals[last], gaps[last]))
    other = vectors.copy()
    other[-1] = -other[-1]
    assert np.abs(model.user(other, signals, gaps) - user).max() > 1e-3


def test_user_vector_stays_when_the_model_is_asked_again(model):
    first = model.user(*history(model, 3, seed=1))
    before = first.copy()
    assert not np.array_equal(model.user(*history(model, 3, seed=2)), before)
    np.testing.assert_array_equal(first, before)  # a copy, not the runtime's own memory


def test_user_changes_with_signal_and_gap(model):
    vectors, signals, gaps = history(model, 4)
    user = model.user(vectors, signals, gaps)
    assert np.abs(model.user(vectors, (signals + 1) % 4, gaps) - user).max() > 1e-4
    assert np.abs(model.user(vectors, signals, (gaps + 1) % 8) - user).max() > 1e-4


def test_user_changes_with_what_is_personal(model, bundles):
    vectors, signals, gaps = history(model, 4)
    user = model.user(vectors, signals, gaps)
    shipped = open_bundle(bundles / "litert-float").shipped_personal
    np.testing.assert_array_equal(user, model.user(vectors, signals, gaps, shipped))
    assert np.abs(model.user(vectors, signals, gaps, shipped * 1.1) - user).max() > 1e-3
