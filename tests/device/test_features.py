from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from couchside.device.features import (
    CLOCK_FLOOR,
    DAY,
    GAP_EDGES,
    GAPS,
    UNKNOWN_GAP,
    Signal,
    gap_buckets,
    signal_of,
    signal_of_rating,
    user_model_inputs,
)
from couchside.device.records import EventKind

FRACTIONS = (None, 0.0, 0.05, 0.5, 0.7, 1.0)


@pytest.mark.parametrize(
    ("kind", "fraction", "signal"),
    [
        (EventKind.LIKE, 0.01, Signal.POSITIVE),
        (EventKind.DISLIKE, 1.0, Signal.NEGATIVE),
        (EventKind.SKIP, None, Signal.NEGATIVE),
        (EventKind.COMPLETE, None, Signal.POSITIVE),
        (EventKind.WATCHLIST, None, Signal.POSITIVE),
        (EventKind.STOP, 0.05, Signal.NEGATIVE),
        (EventKind.STOP, 0.1, Signal.NEUTRAL),
        (EventKind.STOP, 0.69, Signal.NEUTRAL),
        (EventKind.STOP, 0.7, Signal.POSITIVE),
        (EventKind.STOP, None, Signal.UNKNOWN),
        (EventKind.PROGRESS, 0.05, Signal.NEUTRAL),  # it has only begun
        (EventKind.START, None, Signal.UNKNOWN),
    ],
)
def test_signal_says_what_the_event_says_about_taste(kind, fraction, signal):
    assert signal_of(kind, fraction) is signal


@pytest.mark.parametrize("kind", EventKind)
def test_every_event_has_a_signal_that_only_rises_with_the_watched_fraction(kind):
    known = [signal_of(kind, fraction) for fraction in FRACTIONS[1:]]
    assert known == sorted(known)
    assert Signal.UNKNOWN not in known


def test_ratings_fall_into_three_bands():
    assert signal_of_rating(np.arange(1, 11)).tolist() == [1] * 4 + [2] * 3 + [3] * 3


def test_gap_buckets_follow_the_edges():
    gaps = np.array([0.0, 1.0, *GAP_EDGES, 1e9])
    at = CLOCK_FLOOR + np.cumsum(gaps)
    assert gap_buckets(at).tolist() == [UNKNOWN_GAP, 1, 2, 3, 4, 5, 6, 7, 7]
    assert GAPS == 8


def test_clock_that_was_never_set_gives_no_gap_on_either_side():
    good = CLOCK_FLOOR + 100 * DAY
    at = np.array([good, good + 60, 12.0, 90.0, good + DAY, good + DAY + 60])
    assert gap_buckets(at).tolist() == [UNKNOWN_GAP, 1, 0, 0, 0, 1]


def test_clock_that_steps_back_counts_as_no_time_passed():
    assert gap_buckets(CLOCK_FLOOR + np.array([DAY, 0.0])).tolist() == [UNKNOWN_GAP, 1]


@given(st.lists(st.floats(0, 2**33), max_size=20))
def test_any_times_have_a_bucket_each_that_the_model_knows(times):
    buckets = gap_buckets(np.array(times, np.float64))
    assert buckets.shape == (len(times),)
    assert buckets.dtype == np.int32
    assert ((buckets >= 0) & (buckets < GAPS)).all()
    assert not len(times) or buckets[0] == UNKNOWN_GAP


@given(st.integers(0, 12), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_history_is_left_padded_and_only_its_end_is_read(steps, length, seed):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(steps, 3)).astype(np.float32)
    signals = rng.integers(0, 4, steps).astype(np.int32)
    gaps = rng.integers(0, GAPS, steps).astype(np.int32)
    feeds = user_model_inputs(vectors, signals, gaps, length=length)
    n = min(steps, length)
    assert {name: (value.dtype.name, value.shape) for name, value in feeds.items()} == {
        "vectors": ("float32", (1, length, 3)),
        "signals": ("int32", (1, length)),
        "gaps": ("int32", (1, length)),
        "mask": ("float32", (1, length)),
    }
    assert feeds["mask"][0].tolist() == [0.0] * (length - n) + [1.0] * n
    if n:
        gaps[-n] = UNKNOWN_GAP  # what came before the window is out of sight
    for name, whole in (("vectors", vectors), ("signals", signals), ("gaps", gaps)):
        assert not feeds[name][0, : length - n].any()
        np.testing.assert_array_equal(feeds[name][0, length - n :], whole[steps - n :])
