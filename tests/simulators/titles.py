"""Titles without files, and a household that watches them.

titles = catalogue([Title("a", TitleKind.MOVIE, "A")])
viewings = watched([event("a", "complete")], titles)
"""

from __future__ import annotations

import itertools
from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np

from couchside.device.catalogue.arrays import Catalogue, Facts, arrange
from couchside.device.catalogue.intake import text_digest
from couchside.device.household.store import HOUSEHOLD
from couchside.device.records import EventKind, Title, ViewingEvent
from couchside.device.shelf.watching import Viewing, fold

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

NOW = 1_790_000_000.0
"""A moment in September 2026."""
DAY = 86_400.0
_numbers = itertools.count(1)


def catalogue(
    titles: Sequence[Title],
    vectors: NDArray[np.float32] | None = None,
    *,
    popularity: Sequence[float] | None = None,
    added_at: float | None = None,
    source: str | None = "films",
) -> Catalogue:
    """Titles as arrays; without ``vectors`` each gets a random one of width 8."""
    if vectors is None:
        vectors = np.random.default_rng(0).standard_normal((len(titles), 8)).astype(np.float32)
    result = arrange(
        (_facts(title, added_at, source) for title in titles), n=len(titles), d=vectors.shape[1]
    )
    result.vectors[:] = vectors
    if popularity is not None:
        result.popularity[:] = popularity
    return result


def _facts(title: Title, added_at: float | None, source: str | None) -> Facts:
    known = {field.name for field in fields(Facts)} & {field.name for field in fields(Title)}
    values = {name: getattr(title, name) for name in known}
    return Facts(**values, digest=text_digest(title), source=source, added_at=added_at)


def event(
    title_id: str,
    kind: str,
    position_s: float | None = None,
    *,
    duration_s: float | None = None,
    credits_s: float | None = None,
    at: float = NOW,
    profile_id: str = HOUSEHOLD,
    event_id: str | None = None,
) -> ViewingEvent:
    """An event with an id of its own."""
    return ViewingEvent(
        event_id or f"event-{next(_numbers)}",
        profile_id,
        title_id,
        EventKind(kind),
        at,
        position_s,
        duration_s,
        credits_s,
    )


def watched(events: Iterable[ViewingEvent], titles: Catalogue) -> dict[str, Viewing]:
    """What the household did after ``events``, in order."""
    return fold(enumerate(events, start=1), titles.facts)
