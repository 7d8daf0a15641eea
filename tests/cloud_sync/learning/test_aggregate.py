"""The sum, its journal and the steps of a Round, without any process."""

from __future__ import annotations

import os
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from couchside.cloud_sync.errors import RoundError
from couchside.cloud_sync.learning.journal import Journal
from couchside.cloud_sync.learning.optimiser import stepped
from couchside.cloud_sync.learning.rounds import Refusal, State, move
from couchside.cloud_sync.learning.summing.aggregate import Accumulator, unmasked
from couchside.device.errors import StoreError
from couchside.device.learning import masking

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

N = 300


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "rounds.db")
    journal.open(1, "stable", b"signed", N)
    yield journal
    journal.close()


def vector(value: int) -> np.ndarray:
    return np.full(N, value, dtype=np.uint16)


@given(
    tvs=st.integers(2, 40),
    dropped=st.floats(0, 0.9),
    noise=st.integers(-3000, 3000),
    seed=st.integers(0, 2**32),
)
def test_sum_is_exact_whoever_drops_out(tvs: int, dropped: float, noise: int, seed: int) -> None:
    """Masks cancel bit for bit; what is left is the sum and the noise."""
    rng = np.random.default_rng(seed)
    values = rng.integers(-700, 701, size=(tvs, N))
    seeds = [os.urandom(32) for _ in range(tvs)]
    here = [n for n in range(tvs) if rng.random() >= dropped]
    vectors = [masking.masked(values[n], seeds[n]) for n in here]
    total = Accumulator.empty(N).with_all(vectors)
    masks = np.zeros(N, dtype=np.uint16)
    for n in here:
        masks += masking.mask(seeds[n], N)
    answer = masks - np.full(N, noise % (1 << 16), dtype=np.uint16)
    assert total.folded == len(here)
    np.testing.assert_array_equal(unmasked(total.total, answer), values[here].sum(axis=0) + noise)


def test_order_and_batches_do_not_matter() -> None:
    rng = np.random.default_rng(1)
    vectors = list(rng.integers(0, 1 << 16, size=(9, N), dtype=np.uint16))
    whole = Accumulator.empty(N).with_all(vectors)
    parts = Accumulator.empty(N).with_all(vectors[5:][::-1]).with_all(vectors[:5])
    np.testing.assert_array_equal(whole.total, parts.total)
    again = Accumulator.loaded(whole.dumped(), whole.folded)
    np.testing.assert_array_equal(again.total, whole.total)


def test_vector_of_another_length_is_never_added() -> None:
    with pytest.raises(ValueError, match="can't be added"):
        Accumulator.empty(N).with_all([np.zeros(1, dtype=np.uint16)])
    with pytest.raises(RoundError, match="answered 3 values"):
        unmasked(vector(0), vector(0)[:3])


def test_fold_is_on_the_disk_with_its_names(journal: Journal, tmp_path: Path) -> None:
    after = Accumulator.empty(N).with_all([vector(5), vector(6)])
    journal.fold(1, 0, after, [(b"a" * 16, "tv-1"), (b"b" * 16, "tv-2")])
    again = Journal(tmp_path / "rounds.db")
    assert again.total(1).folded == 2
    assert set(again.total(1).total) == {11}
    assert again.update_ids(1) == (b"a" * 16, b"b" * 16)
    assert again.holds(1, b"a" * 16, "tv-9") == "it was counted"
    assert "another Update" in again.holds(1, b"x" * 16, "tv-2")
    assert again.holds(1, b"x" * 16, "tv-9") == ""
    again.close()


@pytest.mark.parametrize("twice", [(b"a" * 16, "tv-2"), (b"b" * 16, "tv-1")])
def test_nothing_counts_twice_whatever_the_aggregator_believes(
    journal: Journal, twice: tuple[bytes, str]
) -> None:
    first = Accumulator.empty(N).with_all([vector(5)])
    journal.fold(1, 0, first, [(b"a" * 16, "tv-1")])
    with pytest.raises(RoundError, match="twice"):
        journal.fold(1, 1, first.with_all([vector(6)]), [twice])
    assert journal.total(1).folded == 1
    assert set(journal.total(1).total) == {5}


def test_second_aggregator_with_an_old_sum_changes_nothing(journal: Journal) -> None:
    first = Accumulator.empty(N).with_all([vector(5)])
    journal.fold(1, 0, first, [(b"a" * 16, "tv-1")])
    stale = Accumulator.empty(N).with_all([vector(7)])
    with pytest.raises(RoundError, match="moved on"):
        journal.fold(1, 0, stale, [(b"b" * 16, "tv-2")])
    assert set(journal.total(1).total) == {5}


def test_sealed_round_takes_nothing_more(journal: Journal) -> None:
    journal.move(1, State.SEALED, 99)
    with pytest.raises(RoundError, match="moved on"):
        journal.fold(1, 0, Accumulator.empty(N).with_all([vector(5)]), [(b"a" * 16, "tv-1")])
    assert journal.update_ids(1) == ()


def test_one_round_of_a_channel_at_a_time(journal: Journal) -> None:
    with pytest.raises(RoundError, match="first: couchside-cloud round close"):
        journal.open(2, "stable", b"signed", N)
    journal.open(2, "beta", b"signed", N)
    journal.move(1, State.SEALED, 5)
    with pytest.raises(RoundError, match="not over"):
        journal.open(3, "stable", b"signed", N)
    journal.move(1, State.VOID, 6)
    assert journal.next_id() == 3
    journal.open(3, "stable", b"signed", N)
    live = journal.live("stable")
    assert live is not None
    assert (live.round_id, live.state) == (3, State.OPEN)


def test_moves_that_make_no_sense_are_errors() -> None:
    good = {
        (State.OPEN, State.SEALED),
        (State.SEALED, State.CLOSED),
        (State.SEALED, State.VOID),
    }
    for state in State:
        for to in State:
            if (state, to) in good:
                assert move(1, state, to) == to
            else:
                with pytest.raises(RoundError, match=f"is {state} and can't become {to}"):
                    move(1, state, to)
    assert all(a != b for a, b in pairwise(State))


def test_refusals_add_up(journal: Journal) -> None:
    journal.count_refused(1, {Refusal.LATE: 2, Refusal.SEED: 1})
    journal.count_refused(1, {Refusal.LATE: 3})
    assert journal.refused(1) == {"late": 5, "seed": 1}


def test_file_that_is_no_journal_is_named(tmp_path: Path) -> None:
    (tmp_path / "rounds.db").write_bytes(b"not SQLite" * 100)
    with pytest.raises(StoreError, match=r"rounds\.db"):
        Journal(tmp_path / "rounds.db")


def test_step_moves_only_the_coordinates() -> None:
    theta = np.arange(6, dtype=np.float32)
    after = stepped(theta, np.array([1, 4]), np.array([0.5, -2.0]), 2.0)
    np.testing.assert_array_equal(after, [0, 2, 2, 3, 0, 5])
    with pytest.raises(RoundError, match="--server-rate"):
        stepped(theta, np.array([1]), np.array([1e38]), 1e10)
