"""Who lives in a home: real users, each with invented hours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from couchside.compression.errors import DataError
from couchside.device.records import TitleKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from couchside.compression.data import Interactions
    from couchside.device.records import Title

T = TypeVar("T")
FEWEST_FILMS = 15
"""A member with fewer rated films would have nothing of its own to watch within a month."""
FAMILY = frozenset({"animation", "family", "children", "kids"})
"""Genres, in lower case, that stand for a missing age rating of a film."""
SIZES = ((2, 0.45), (3, 0.3), (4, 0.25))
"""Members of a home with their shares: homes of one need no telling apart."""


@dataclass(frozen=True, slots=True)
class Rhythm:
    """When somebody sits down in front of the TV. Invented shapes, not measured ones."""

    name: str
    weekday: tuple[tuple[float, float, float], ...]
    """Humps of the day: (middle in local hours, width in hours, weight)."""
    weekend: tuple[tuple[float, float, float], ...]
    sittings: tuple[float, float]
    """Mean sittings on a weekday and on a day of the weekend."""
    max_maturity: int | None = None
    """Years: the fence around this one, and around all who sit with it."""
    share: float = 1.0
    """How often a home gets such a member, beside the others."""

    def hours(self, *, weekend: bool) -> NDArray[np.float64]:
        """Chance that a sitting begins in each of the 24 local hours; they sum to 1."""
        middle = np.arange(24) + 0.5
        weights = np.zeros(24)
        for at, width, weight in self.weekend if weekend else self.weekday:
            distance = np.minimum(np.abs(middle - at), 24 - np.abs(middle - at))
            weights += weight * np.exp(-0.5 * (distance / width) ** 2)
        shares: NDArray[np.float64] = weights / weights.sum()
        return shares


RHYTHMS = (
    Rhythm("worker", ((7.0, 0.7, 0.15), (20.8, 1.3, 1.0)), ((11.0, 1.5, 0.3), (20.8, 1.8, 1.0)),
           (0.9, 1.5), share=3.0),
    Rhythm("at home", ((10.0, 1.5, 0.5), (15.0, 2.0, 0.6), (20.0, 1.5, 1.0)),
           ((14.0, 2.5, 0.6), (20.0, 1.8, 1.0)), (1.8, 1.8), share=1.5),
    Rhythm("night owl", ((22.8, 1.4, 1.0),), ((15.0, 2.0, 0.3), (23.3, 1.5, 1.0)),
           (0.9, 1.3), share=1.0),
    Rhythm("teenager", ((16.5, 1.2, 0.7), (21.0, 1.2, 0.6)), ((13.0, 2.0, 0.6), (21.5, 1.6, 1.0)),
           (0.9, 1.6), share=1.0),
    Rhythm("child", ((7.2, 0.5, 0.3), (17.2, 1.0, 1.0)), ((8.5, 1.2, 1.0), (17.0, 1.5, 0.8)),
           (1.0, 1.8), max_maturity=7, share=0.8),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Member:
    """A real user with an invented rhythm."""

    member_id: str
    user: int
    """Of the ratings."""
    rhythm: Rhythm
    films: tuple[int, ...]
    """Event rows of the ratings, oldest first: what this one watches, in this order."""
    habits: tuple[float, float, float]
    """Shares of films, series and live programmes in what this one chooses."""


@dataclass(frozen=True, slots=True)
class Home:
    """Two to four members with one TV."""

    number: int
    members: tuple[Member, ...]
    utc_offset_h: float
    """Hours that the local clock is ahead of UTC."""

    @property
    def name(self) -> str:
        """Such as ``home-0007``."""
        return f"home-{self.number:04}"


def pick_users(interactions: Interactions, seed: int) -> NDArray[np.int64]:
    """Users with enough films, in a random order that the seed decides.

    Raises:
        DataError: there are fewer than a home needs.
    """
    users = [u for u, rows in interactions.by_user.items() if len(rows) >= FEWEST_FILMS]
    if len(users) < SIZES[0][0]:
        raise DataError(
            f"{len(users)} users have {FEWEST_FILMS} ratings or more; a home needs {SIZES[0][0]}"
        )
    return np.random.default_rng([seed, 0]).permutation(np.array(sorted(users), dtype=np.int64))


def make_homes(interactions: Interactions, count: int, seed: int) -> list[Home]:
    """Homes 1 to ``count``; nobody lives in two.

    A home does not change when ``count`` does.

    Args:
        interactions: real ratings.
        count: of homes.
        seed: decides everything.

    Raises:
        DataError: there are not enough users for that many homes.
    """
    users = pick_users(interactions, seed)
    homes, taken = [], 0
    for number in range(1, count + 1):
        rng = np.random.default_rng([seed, number])
        size = _draw(rng, [size for size, _ in SIZES], [share for _, share in SIZES])
        if taken + size > len(users):
            raise DataError(
                f"{len(users)} users are enough for {number - 1} homes, not {count}; ask for fewer"
            )
        lodgers = users[taken : taken + size]
        taken += size
        homes.append(_home(interactions, number, lodgers, rng))
    return homes


def _home(
    interactions: Interactions, number: int, users: NDArray[np.int64], rng: np.random.Generator
) -> Home:
    members = []
    for place, user in enumerate(users.tolist()):
        # Somebody grown up lives everywhere: the first member always is.
        rhythms = [r for r in RHYTHMS if place or r.max_maturity is None]
        rhythm = _draw(rng, rhythms, [r.share for r in rhythms])
        members.append(
            Member(
                member_id=f"m{place + 1}",
                user=user,
                rhythm=rhythm,
                films=_films(interactions, user, rhythm),
                habits=tuple(rng.dirichlet((4.0, 3.0, 3.0)).tolist()),
            )
        )
    return Home(number, tuple(members), float(rng.integers(-1, 3)))


def _films(interactions: Interactions, user: int, rhythm: Rhythm) -> tuple[int, ...]:
    """Of a real grown-up, what a child would watch too."""
    rows: list[int] = interactions.by_user[user].tolist()
    titles, items = interactions.titles, interactions.items
    return tuple(row for row in rows if inside(titles[items[row]], rhythm.max_maturity))


def inside(title: Title, fence: int | None) -> bool:
    """Whether a title is inside a fence; where nobody says so, a film for families is."""
    if fence is None:
        return True
    if title.maturity is None:
        return title.kind is TitleKind.MOVIE and not FAMILY.isdisjoint(
            genre.casefold() for genre in title.genres
        )
    return title.maturity <= fence


def _draw(rng: np.random.Generator, options: Sequence[T], weights: Sequence[float]) -> T:
    shares = np.array(weights) / np.sum(weights)
    return options[int(rng.choice(len(options), p=shares))]
