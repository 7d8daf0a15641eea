"""Events → what one profile did with each title: started, finished, liked, dismissed.

The rules are Google's for Watch Next (developer.android.com, "Watch Next program guidelines"): a
film is started after 3 % or 2 minutes, whichever comes first, an episode after 2 minutes; it is
finished when the end credits begin, or less than 3 minutes are left. Dismissing is not watching:
it hides a title until the household engages with it again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from couchside.device.features import Signal, signal_of
from couchside.device.records import EventKind, TitleKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from couchside.device.records import ViewingEvent

STARTED_S = 120.0
STARTED_FRACTION = 0.03
"""Of a film; an episode counts by minutes alone."""
CREDITS_S = 180.0
"""What is left when the credits begin, where the player does not tell."""
CREDITS_FRACTION = 0.15
"""No credits are longer than this part, so that a five-minute clip is not finished at two."""

PLAYBACK = frozenset(
    (EventKind.START, EventKind.PROGRESS, EventKind.PAUSE, EventKind.STOP, EventKind.TUNE)
)
OPINIONS = frozenset((EventKind.LIKE, EventKind.DISLIKE, EventKind.SKIP))


@dataclass(frozen=True, slots=True)
class Viewing:
    """One profile and one title, as of the last event."""

    title_id: str
    sequence: int = 0
    """Of the last playback; orders "continue watching"."""
    kind: EventKind | None = None
    """The last playback event."""
    position_s: float | None = None
    duration_s: float | None = None
    entered_s: float = 0.0
    """Where the last playback began: whoever tunes in late has not watched what came before."""
    started: bool = False
    finished: bool = False
    opinion: EventKind | None = None
    """LIKE, DISLIKE, SKIP or nothing."""
    listed: bool = False
    """On the watchlist."""
    dismissed: int = 0
    """Sequence of the event that hid it by hand; 0 if not hidden, or engaged with since."""
    taste_sequence: int = 0
    """Of the last event that says something new about taste; orders the model's history."""
    taste_at: float = 0.0
    """POSIX seconds of that event by the TV's clock, which may not have been set."""

    @property
    def fraction(self) -> float | None:
        """Watched part in [0, 1], if known."""
        if self.finished:
            return 1.0
        if self.position_s is None or not self.duration_s:
            return None
        return min(max(self.position_s / self.duration_s, 0.0), 1.0)

    @property
    def unfinished(self) -> bool:
        """Worth continuing."""
        return self.started and not self.finished

    @property
    def signal(self) -> Signal | None:
        """What the user model should read here; None if zapping is all that happened."""
        if self.opinion is not None:
            return signal_of(self.opinion)
        if self.finished:
            return signal_of(EventKind.COMPLETE)
        if self.started and self.kind is not None:
            return signal_of(self.kind, self.fraction)
        return signal_of(EventKind.WATCHLIST) if self.listed else None


def has_started(kind: TitleKind | None, watched_s: float, duration_s: float | None) -> bool:
    """Whether a title of ``kind`` counts as started after ``watched_s`` seconds of it."""
    if watched_s > STARTED_S:
        return True
    film = kind is not TitleKind.EPISODE
    return bool(film and duration_s and watched_s > STARTED_FRACTION * duration_s)


def has_finished(position_s: float, duration_s: float | None, credits_s: float | None) -> bool:
    """Whether the end credits have begun at ``position_s``, by the player's word or by length."""
    if credits_s is not None:
        return position_s >= credits_s
    if not duration_s:
        return False
    return duration_s - position_s <= min(CREDITS_S, CREDITS_FRACTION * duration_s)


def advance(
    viewing: Viewing | None,
    event: ViewingEvent,
    *,
    sequence: int,
    kind: TitleKind | None = None,
    duration_s: float | None = None,
) -> Viewing:
    """The viewing after ``event``.

    Args:
        viewing: before it; None if the profile never met the title.
        event: what happened.
        sequence: the event's place in the history; a TV's clock may stand in 1970.
        kind: what the title is, if the catalogue knows.
        duration_s: the catalogue's length, used where the event has none.
    """
    before = viewing or Viewing(event.title_id)
    after = _apply(before, event, sequence, kind, event.duration_s or duration_s)
    if after.signal is not before.signal:
        after = replace(after, taste_sequence=sequence, taste_at=event.at)
    return after


def _apply(
    before: Viewing,
    event: ViewingEvent,
    sequence: int,
    kind: TitleKind | None,
    duration_s: float | None,
) -> Viewing:
    match event.kind:
        case EventKind.COMPLETE:
            after = _complete(before, sequence, duration_s)
        case EventKind.DISMISS:
            after = replace(before, dismissed=sequence)
        case EventKind.WATCHLIST:
            after = replace(before, listed=True, dismissed=0)
        case EventKind.CLEAR:
            after = replace(before, opinion=None, listed=False, dismissed=0)
        case opinion if opinion in OPINIONS:
            hidden = 0 if opinion is EventKind.LIKE else before.dismissed
            after = replace(before, opinion=opinion, dismissed=hidden)
        case playback if playback in PLAYBACK:
            after = _play(before, event, sequence, kind, duration_s)
        case _:  # a search or a look at the details changes nothing here
            after = before
    return after


def _complete(before: Viewing, sequence: int, duration_s: float | None) -> Viewing:
    return replace(
        before,
        sequence=sequence,
        kind=EventKind.COMPLETE,
        position_s=duration_s,
        duration_s=duration_s or before.duration_s,
        started=True,
        finished=True,
        dismissed=0,
    )


def _play(
    before: Viewing,
    event: ViewingEvent,
    sequence: int,
    kind: TitleKind | None,
    duration_s: float | None,
) -> Viewing:
    duration = duration_s or before.duration_s
    position = event.position_s
    after = replace(before, sequence=sequence, kind=event.kind, duration_s=duration, dismissed=0)
    if position is None:
        return after
    begins = event.kind in (EventKind.START, EventKind.TUNE)
    entered = position if begins else before.entered_s
    started = has_started(kind, position - entered, duration)
    if before.finished and not started:
        return replace(after, entered_s=entered)  # a peek does not undo having seen it
    started = before.started or started
    finished = started and has_finished(position, duration, event.credits_s)
    return replace(
        after, position_s=position, entered_s=entered, started=started, finished=finished
    )


def fold(
    events: Iterable[tuple[int, ViewingEvent]],
    facts: Callable[[str], tuple[TitleKind | None, float | None]],
) -> dict[str, Viewing]:
    """Viewings by title_id after all ``events`` (pairs of sequence and event, in order).

    Args:
        events: of one profile.
        facts: title_id → kind and length in seconds, as far as the catalogue knows.
    """
    viewings: dict[str, Viewing] = {}
    for sequence, event in events:
        kind, duration = facts(event.title_id)
        viewings[event.title_id] = advance(
            viewings.get(event.title_id), event, sequence=sequence, kind=kind, duration_s=duration
        )
    return viewings
