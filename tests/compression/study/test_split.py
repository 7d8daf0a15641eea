from __future__ import annotations

import numpy as np
import pytest

from couchside.compression.errors import DataError
from couchside.compression.study.ratings import read_ratings
from couchside.compression.study.split import make_split


@pytest.fixture
def ratings(write):
    def make(*rows: tuple[int, int, int]):
        return read_ratings(write("ratings.dat", *(f"{u}::{i}::5::{t}" for u, i, t in rows)))

    return make


def test_leave_one_out_tests_the_last_title_and_validates_the_one_before(ratings):
    split = make_split(ratings((1, 10, 1), (1, 11, 2), (1, 12, 3), (1, 13, 4)), "leave-one-out")
    assert split.train[0].tolist() == [0, 1]
    assert split.validation.items.tolist() == [2]
    assert split.validation.histories[0].tolist() == [0, 1]
    assert split.test.items.tolist() == [3]
    assert split.test.histories[0].tolist() == [0, 1, 2]
    assert not split.refit


def test_leave_one_out_learns_from_short_histories_but_asks_them_nothing(ratings):
    split = make_split(
        ratings((1, 10, 1), (2, 10, 1), (2, 11, 2), (3, 10, 1), (3, 11, 2), (3, 12, 3)),
        "leave-one-out",
    )
    assert [items.tolist() for items in split.train] == [[0], [0, 1], [0]]
    assert split.test.users.tolist() == [2]
    assert split.left_out == 2


def test_leave_one_out_of_one_event_users_is_refused(ratings):
    with pytest.raises(DataError, match="no user has 3 events"):
        make_split(ratings((1, 10, 1), (2, 11, 1)), "leave-one-out")


def test_temporal_targets_are_warm_later_than_the_cut_and_see_growing_histories(ratings):
    early = [(user, 10 + (2 * user + k) % 12, 8 * user + k) for user in range(4) for k in range(8)]
    validation = [(0, 18, 32), (1, 20, 33), (2, 10, 34), (3, 14, 35)]
    # 99 is new and user 9 has no history: neither can be asked for.
    late = [(1, 10, 36), (1, 99, 37), (1, 11, 38), (9, 10, 39)]
    split = make_split(ratings(*early, *validation, *late), "temporal")
    assert split.validation.items.tolist() == [8, 10, 0, 4]
    assert split.test.users.tolist() == [1, 1]
    assert split.test.items.tolist() == [0, 1]
    assert [len(history) for history in split.test.histories] == [9, 11]
    assert split.left_out == 2
    assert split.refit
    assert [len(items) for items in split.development] == [8, 8, 8, 8, 0]
    assert [len(items) for items in split.train] == [9, 9, 9, 9, 0]


def test_temporal_train_holds_nothing_from_after_the_cut(ring_file):
    ratings = read_ratings(ring_file)
    split = make_split(ratings, "temporal")
    cut = np.quantile(ratings.times, 0.9)
    assert sum(map(len, split.train)) == (ratings.times < cut).sum()
    week = (ratings.times < cut) & (ratings.times >= cut - 7 * 86400)
    assert split.recent.sum() == week.sum() < sum(map(len, split.train))


def test_temporal_without_a_clock_is_refused(write):
    path = write("sequences.csv", "userId,pos,movieId", "a,0,1", "a,1,2", "a,2,3")
    with pytest.raises(DataError, match="only an order"):
        make_split(read_ratings(path), "temporal")


def test_hash_names_the_split_and_changes_with_any_event(ratings):
    rows = [(1, 10, 1), (1, 11, 2), (1, 12, 3)]
    same = make_split(ratings(*rows), "leave-one-out")
    assert same.sha256 == make_split(ratings(*reversed(rows)), "leave-one-out").sha256
    swapped = [(1, 11, 1), (1, 10, 2), (1, 12, 3)]
    assert same.sha256 != make_split(ratings(*swapped), "leave-one-out").sha256


def test_hash_does_not_depend_on_clock_or_order_alone(write):
    clock = write("ratings.dat", "a::10::5::1", "a::11::5::2", "a::12::5::3")
    order = write("sequences.csv", "userId,pos,movieId", "a,0,10", "a,1,11", "a,2,12")
    hashes = {make_split(read_ratings(path), "leave-one-out").sha256 for path in (clock, order)}
    assert len(hashes) == 1
