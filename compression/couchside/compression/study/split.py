"""Ratings → what models learn from and what they must predict.

*leave-one-out*: each user's last title is tested, the one before it is validation, the rest is
learned from. It is how the literature compares models on MovieLens. It lets a model learn from
events after the ones it predicts, so its numbers are about twice those of a cut in time.

*temporal*: two cuts in time for everybody. Every event after the second cut whose title was seen
before it, and whose user has a history, is tested; histories grow, models are frozen. The number of
epochs comes from a model that learns up to the first cut; the tested one learns up to the second.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from couchside.compression.data import BASELINE_WINDOW_DAYS
from couchside.compression.errors import DataError
from couchside.device.features import DAY

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from couchside.compression.study.ratings import Ratings

SplitName = Literal["leave-one-out", "temporal"]
LEAST_EVENTS = 3
"""A user with fewer has nothing to learn from beside validation and test."""
VALIDATION_QUANTILE, TEST_QUANTILE = 0.8, 0.9

Sequences = tuple["NDArray[np.int64]", ...]


@dataclass(frozen=True)
class Cases:
    """What is to be predicted: arrays are [cases], ordered by user."""

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    histories: Sequences
    """Items before each target, oldest first, never empty."""

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True)
class Split:
    """One division of one data set."""

    name: SplitName
    titles: int
    """The whole catalogue competes."""
    development: Sequences
    """Each user's events for the model that validation judges."""
    validation: Cases
    train: Sequences
    """Each user's events for the model that is tested; of leave-one-out, the same."""
    test: Cases
    recent: NDArray[np.float64] | None
    """Events per title in the 7 days before the test cut; None where time is not cut."""
    recent_development: NDArray[np.float64] | None
    """The same before the validation cut."""
    left_out: int
    """Users (leave-one-out) or events (temporal) that could not be targets."""
    sha256: str
    """Of the users, titles and roles of all events: equal hashes are equal splits."""

    @property
    def refit(self) -> bool:
        """Whether the tested model learns from more than the validated one."""
        return self.train is not self.development


def make_split(ratings: Ratings, name: SplitName) -> Split:
    """Divide ``ratings``.

    Raises:
        DataError: a cut in time is asked of data without a clock, or nothing is left to predict.
    """
    return _leave_one_out(ratings) if name == "leave-one-out" else _temporal(ratings)


def _leave_one_out(ratings: Ratings) -> Split:
    sequences = ratings.sequences()
    judged = [user for user, items in enumerate(sequences) if len(items) >= LEAST_EVENTS]
    if not judged:
        raise DataError(f"no user has {LEAST_EVENTS} events, which leave-one-out needs")
    train = tuple(items[:-2] if len(items) >= LEAST_EVENTS else items for items in sequences)
    roles = [np.zeros(len(items), dtype=np.int64) for items in sequences]
    for user in judged:
        roles[user][-2:] = (1, 2)
    return Split(
        name="leave-one-out",
        titles=len(ratings.item_ids),
        development=train,
        validation=_cases((user, sequences[user][:-1]) for user in judged),
        train=train,
        test=_cases((user, sequences[user]) for user in judged),
        recent=None,
        recent_development=None,
        left_out=len(sequences) - len(judged),
        sha256=_digest(ratings, sequences, roles),
    )


def _temporal(ratings: Ratings) -> Split:
    if ratings.times is None:
        raise DataError("a cut in time needs times, and these ratings have only an order")
    cuts = np.quantile(ratings.times, (VALIDATION_QUANTILE, TEST_QUANTILE))
    order = np.argsort(ratings.users, kind="stable")
    starts = np.searchsorted(ratings.users[order], np.arange(1, len(ratings.user_names)))
    sequences = ratings.sequences()
    times = np.split(ratings.times[order], starts)
    titles = len(ratings.item_ids)
    validation, _ = _after(titles, sequences, times, float(cuts[0]), float(cuts[1]))
    test, cold = _after(titles, sequences, times, float(cuts[1]), np.inf)
    return Split(
        name="temporal",
        titles=titles,
        development=_before(sequences, times, float(cuts[0])),
        validation=validation,
        train=_before(sequences, times, float(cuts[1])),
        test=test,
        recent=_week(ratings.items, ratings.times, float(cuts[1]), titles),
        recent_development=_week(ratings.items, ratings.times, float(cuts[0]), titles),
        left_out=cold,
        sha256=_digest(ratings, sequences, [np.searchsorted(cuts, t, side="right") for t in times]),
    )


def _week(
    items: NDArray[np.int64], times: NDArray[np.float64], cut: float, titles: int
) -> NDArray[np.float64]:
    inside = (times >= cut - BASELINE_WINDOW_DAYS * DAY) & (times < cut)
    return np.bincount(items[inside], minlength=titles).astype(np.float64)


def _before(
    sequences: Sequence[NDArray[np.int64]], times: Sequence[NDArray[np.float64]], cut: float
) -> Sequences:
    return tuple(items[when < cut] for items, when in zip(sequences, times, strict=True))


def _after(
    titles: int,
    sequences: Sequence[NDArray[np.int64]],
    times: Sequence[NDArray[np.float64]],
    start: float,
    end: float,
) -> tuple[Cases, int]:
    """Cases with start ≤ time < end, and how many such events could be none."""
    warm = np.zeros(titles, dtype=bool)
    for known in _before(sequences, times, start):
        warm[known] = True
    found: list[tuple[int, NDArray[np.int64]]] = []
    events = 0
    for user, (items, when) in enumerate(zip(sequences, times, strict=True)):
        inside = np.flatnonzero((when >= start) & (when < end))
        events += len(inside)
        found.extend((user, items[: place + 1]) for place in inside if place and warm[items[place]])
    return _cases(found), events - len(found)


def _cases(found: Iterable[tuple[int, NDArray[np.int64]]]) -> Cases:
    """Of (user, history and then its target)."""
    listed = list(found)
    if not listed:
        raise DataError("the split leaves nothing to predict; more ratings are needed")
    return Cases(
        users=np.array([user for user, _ in listed]),
        items=np.array([items[-1] for _, items in listed]),
        histories=tuple(items[:-1] for _, items in listed),
    )


def _digest(
    ratings: Ratings,
    sequences: Sequence[NDArray[np.int64]],
    roles: Sequence[NDArray[np.int64]],
) -> str:
    digest = hashlib.sha256()
    for name, items, role in zip(ratings.user_names, sequences, roles, strict=True):
        numbers = np.stack([ratings.item_ids[items], role]).astype("<i8")
        digest.update(f"{name}\n{len(items)}\n".encode())
        digest.update(numbers.tobytes())
    return digest.hexdigest()
