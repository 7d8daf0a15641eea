"""Viewings as a TV sees them: what a player sends, without a word about who sat there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from couchside.compression.homes.diary import CREDITS, Viewing, Why
from couchside.device.records import EventKind, TitleKind, ViewingEvent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HEARTBEAT_S = 60.0
"""Fire TV and most players report the position this often while they play."""
SHARED = "household"
"""The profile of a TV that nobody told who is watching."""


def events(viewings: Iterable[Viewing], *, own_profiles: bool = False) -> Iterator[ViewingEvent]:
    """Events in order of time; identifiers are the home's name and a number.

    Args:
        viewings: of one home, in order.
        own_profiles: file each under its chooser instead of one profile for all.
    """
    number = 0
    for viewing in viewings:
        for kind, at, position in _moments(viewing):
            number += 1
            yield ViewingEvent(
                event_id=f"{viewing.home}-{number:06}",
                profile_id=viewing.members[0] if own_profiles else SHARED,
                title_id=viewing.title.title_id,
                kind=kind,
                at=round(at, 3),
                position_s=None if position is None else round(position, 3),
                duration_s=None if position is None else viewing.length_s,
                credits_s=_credits(viewing) if position is not None else None,
            )


def _moments(viewing: Viewing) -> Iterator[tuple[EventKind, float, float | None]]:
    """(kind, when, position or None)."""
    live = viewing.why in (Why.LIVE, Why.ZAPPED)
    if not live:
        yield EventKind.SELECT, viewing.at, None
    yield (EventKind.TUNE if live else EventKind.START), viewing.at, viewing.began_s
    beat = viewing.at + HEARTBEAT_S
    while beat < viewing.until:
        yield EventKind.PROGRESS, beat, viewing.began_s + beat - viewing.at
        beat += HEARTBEAT_S
    if viewing.why is Why.ZAPPED:
        return
    over = viewing.completion >= CREDITS - 1e-9
    yield (EventKind.COMPLETE if over else EventKind.STOP), viewing.until, viewing.seen_s
    if viewing.pressed:
        yield EventKind(viewing.pressed), viewing.until, None


def _credits(viewing: Viewing) -> float | None:
    on_demand = viewing.title.kind is TitleKind.MOVIE and viewing.title.starts_at is None
    return CREDITS * viewing.length_s if on_demand else None
