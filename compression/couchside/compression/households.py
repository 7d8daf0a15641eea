"""One simulated household: a programme guide to choose from, and an evening in front of the TV.

No public log of a household's viewing exists, so demos and tests use this one. Everything follows
from the seed:

    >>> from couchside.device.records import Title, TitleKind
    >>> films = [Title(f"f{n}", TitleKind.MOVIE, f"Film {n}", genres=("Drama",)) for n in range(9)]
    >>> guide = make_guide(films, day_start=1_786_345_200.0, seed=1)
    >>> guide.count("<channel "), guide.count("<programme ") > 150
    (8, True)
    >>> events = evening(FAMILY, films, start=1_786_384_800.0, seed=1)
    >>> [str(event.kind) for event in events if event.kind != "progress"][:4]
    ['select', 'start', 'stop', 'dislike']

What is real about it: dwell times of zapping (below 3 minutes), a heartbeat every 60 s as players
send it, films left half way, one person's taste at a time, children before nine and inside their
fence. What is not: tastes are a few genre weights and do not drift, and every evening has the same
scenes, so that each row of the shelf has something to do. Nothing learnt here says how good a
ranking is; quality is measured on real ratings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from couchside.compression.invented_guide import CHANNELS, make_guide
from couchside.device.records import EventKind, TitleKind, ViewingEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from couchside.device.records import Title

__all__ = ["CHANNELS", "FAMILY", "Household", "Member", "evening", "make_guide"]

HEARTBEAT_S = 60.0
"""Fire TV and most players report the position this often while they play."""
LENGTH_S = {TitleKind.MOVIE: 6300.0, TitleKind.EPISODE: 2700.0}
"""Of titles whose catalogue gives no duration; other kinds last half an hour."""
CREDITS_FRACTION = 0.95
"""People leave when the credits begin."""
CATCH_S = (600.0, 1200.0)
"""An episode on air is joined up to 10 minutes late; one that starts within 20 is awaited."""
SETTLE_S = 900.0
"""Nobody settles on a live programme that ends within a quarter of an hour."""


@dataclass(frozen=True, slots=True)
class Member:
    """Somebody in front of the TV."""

    profile_id: str
    tastes: tuple[tuple[str, float], ...]
    """Weight per genre, in any case: 1 likes, -1 avoids, 0 (not named) does not care."""
    hours: tuple[float, float] = (0.0, 24.0)
    """Local hours of the day in which this one watches; the first may be the later one."""
    max_maturity: int | None = None
    """Years; chooses only among titles known to be at or below it."""

    def watches_at(self, hour: float) -> bool:
        """Whether ``hour`` (0 to 24, local) lies in this one's hours."""
        first, last = self.hours
        return first <= hour < last if first < last else hour >= first or hour < last

    def may(self, title: Title) -> bool:
        """Whether the title is inside the fence."""
        return self.max_maturity is None or (
            title.maturity is not None and title.maturity <= self.max_maturity
        )

    def liking(self, title: Title) -> float:
        """Mean weight of the title's genres."""
        tastes = {genre.casefold(): weight for genre, weight in self.tastes}
        weights = [tastes.get(genre.casefold(), 0.0) for genre in title.genres]
        return sum(weights) / len(weights) if weights else 0.0


@dataclass(frozen=True, slots=True)
class Household:
    """People who share a TV."""

    members: tuple[Member, ...]
    utc_offset_h: float = 0.0
    """Hours that the local clock is ahead of UTC."""

    def __post_init__(self) -> None:
        if not self.members:
            raise ValueError("a household needs at least one member")

    def hour(self, at: float) -> float:
        """Local hour of the day, 0 to 24, at POSIX seconds ``at``."""
        return (at / 3600.0 + self.utc_offset_h) % 24.0


FAMILY = Household(
    members=(
        Member("ines", (("Drama", 1.0), ("Documentary", 0.8), ("Crime", 0.5), ("Horror", -1.0))),
        Member("tom", (("Action", 1.0), ("Sci-Fi", 1.0), ("Sport", 0.6), ("Romance", -0.8))),
        Member("mila", (("Animation", 1.0), ("Kids", 1.0), ("Family", 0.7)), (6.0, 20.5), 7),
    )
)
"""Two adults of different taste and a child of seven."""


def evening(
    household: Household, titles: Iterable[Title], *, start: float, seed: int
) -> list[ViewingEvent]:
    """One evening of about five hours, scene by scene.

    Somebody zaps and settles on a live programme; somebody sees an episode to its end, if possible
    one with a next; a film is tried, stopped and disliked; one is paused and left half way; one is
    seen to the credits and liked. A scene for which nobody finds a title is left out.

    Args:
        household: who is at home.
        titles: what there is: on demand, and programmes with ``starts_at`` and ``ends_at``.
        start: POSIX seconds.
        seed: the same arguments and seed give the same events, identifiers included.

    Returns:
        Events in order of time; ``profile_id`` is the one who really watched.
    """
    scene = _Evening(household, tuple(titles), start, seed)
    for play in (scene.zap, scene.episode, scene.rejected, scene.half, scene.finished):
        play()
    return scene.events


class _Evening:
    """A clock that runs through scenes and leaves events behind."""

    def __init__(
        self, household: Household, titles: Sequence[Title], start: float, seed: int
    ) -> None:
        self.events: list[ViewingEvent] = []
        self._household = household
        self._titles = titles
        self._rng = np.random.default_rng([seed, int(start)])
        self._prefix = f"evening-{seed}-{start:.0f}"
        self._now = float(start)
        self._seen: set[str] = set()
        self._starts = {_number(title): title.starts_at or np.inf for title in titles}

    def zap(self) -> None:
        """Two or three channels for less than a minute or two each, then stay with one."""
        member, title = self._choose(
            lambda t: self._on_air(t) and (t.ends_at or 0.0) > self._now + SETTLE_S
        )
        if member is None or title is None:
            return
        others = [t for t in self._titles if self._on_air(t) and member.may(t) and t != title]
        order = self._rng.permutation(len(others))[: self._rng.integers(2, 4)]
        for passing in (others[i] for i in order):
            self._say(EventKind.TUNE, member, passing)
            self._now += self._rng.uniform(8.0, 90.0)
        self._say(EventKind.TUNE, member, title)
        stay = self._now + self._rng.uniform(600.0, 1500.0)
        self._play(member, title, min(stay, title.ends_at or stay))
        self._say(EventKind.STOP, member, title)
        self._rest()

    def episode(self) -> None:
        """An episode to its end; the next one is what the shelf should offer."""
        member, title = self._choose(lambda t: self._episode_in_reach(t) and self._has_next(t))
        if member is None or title is None:
            member, title = self._choose(self._episode_in_reach)
        if member is None or title is None:
            return
        if title.starts_at is None:
            self._watch(member, title, 1.0)
            return
        self._now = max(self._now, title.starts_at)
        self._say(EventKind.TUNE, member, title)
        self._play(member, title, title.ends_at or self._now)
        self._say(EventKind.COMPLETE, member, title)
        self._rest()

    def rejected(self) -> None:
        """Tried for a few minutes, and told so."""
        member, title = self._choose(self._film)
        if member and title:
            self._watch(member, title, self._rng.uniform(0.03, 0.07))
            self._say(EventKind.DISLIKE, member, title, position=False)

    def half(self) -> None:
        """Paused for a while, and left half way."""
        member, title = self._choose(self._film)
        if member and title:
            self._watch(member, title, self._rng.uniform(0.4, 0.6), pause_at=0.25)

    def finished(self) -> None:
        """Seen to the credits, and liked."""
        member, title = self._choose(self._film)
        if member and title:
            self._watch(member, title, 1.0)
            self._say(EventKind.LIKE, member, title, position=False)

    def _choose(self, wanted: Callable[[Title], bool]) -> tuple[Member, Title] | tuple[None, None]:
        """Somebody who is here and a title to their taste (Gumbel-max, so a softmax choice)."""
        hour = self._household.hour(self._now)
        here = [member for member in self._household.members if member.watches_at(hour)]
        offers = [t for t in self._titles if t.title_id not in self._seen and wanted(t)]
        for index in self._rng.permutation(len(here)):
            member = here[index]
            allowed = [title for title in offers if member.may(title)]
            if allowed:
                liking = np.array([member.liking(title) for title in allowed])
                best = int(np.argmax(6.0 * liking + self._rng.gumbel(size=len(allowed))))
                self._seen.add(allowed[best].title_id)
                return member, allowed[best]
        return None, None

    def _on_air(self, title: Title) -> bool:
        return title.starts_at is not None and title.starts_at <= self._now < (title.ends_at or 0.0)

    def _film(self, title: Title) -> bool:
        return title.kind is TitleKind.MOVIE and self._on_demand(title)

    def _on_demand(self, title: Title) -> bool:
        first = title.available_from or self._now
        last = title.available_until or self._now
        return title.starts_at is None and first <= self._now <= last

    def _episode_in_reach(self, title: Title) -> bool:
        if title.kind is not TitleKind.EPISODE:
            return False
        if title.starts_at is None:
            return self._on_demand(title)
        late, early = CATCH_S
        return -late <= title.starts_at - self._now <= early and title.ends_at is not None

    def _has_next(self, title: Title) -> bool:
        """Whether the one after it can still be seen when this one is over."""
        series, season, episode = _number(title)
        if episode is None:
            return False
        return self._starts.get((series, season, episode + 1), 0.0) > (title.starts_at or 0.0)

    def _watch(
        self, member: Member, title: Title, fraction: float, pause_at: float | None = None
    ) -> None:
        """On demand, from the beginning to ``fraction`` of its length, or to the credits."""
        length = _length(title)
        began = self._now
        self._say(EventKind.SELECT, member, title, position=False)
        self._say(EventKind.START, member, title, began=began)
        if pause_at is not None:
            self._play(member, title, began + pause_at * length, began=began)
            self._say(EventKind.PAUSE, member, title, began=began)
            absent = self._rng.uniform(180.0, 720.0)
            self._now += absent
            began += absent
            self._say(EventKind.START, member, title, began=began)
        self._play(member, title, began + min(fraction, CREDITS_FRACTION) * length, began=began)
        last = EventKind.COMPLETE if fraction >= CREDITS_FRACTION else EventKind.STOP
        self._say(last, member, title, began=began)
        self._rest()

    def _play(self, member: Member, title: Title, until: float, began: float | None = None) -> None:
        """Let the clock run to ``until``, with heartbeats on the way."""
        while self._now + HEARTBEAT_S < until:
            self._now += HEARTBEAT_S
            self._say(EventKind.PROGRESS, member, title, began=began)
        self._now = max(self._now, until)

    def _rest(self) -> None:
        self._now += self._rng.uniform(20.0, 240.0)

    def _say(
        self,
        kind: EventKind,
        member: Member,
        title: Title,
        *,
        began: float | None = None,
        position: bool = True,
    ) -> None:
        """Leave an event; live programmes began when they went on air."""
        zero = title.starts_at if began is None else began
        length = _length(title)
        known = position and zero is not None
        self.events.append(
            ViewingEvent(
                event_id=f"{self._prefix}-{len(self.events):04}",
                profile_id=member.profile_id,
                title_id=title.title_id,
                kind=kind,
                at=self._now,
                position_s=min(max(self._now - (zero or 0.0), 0.0), length) if known else None,
                duration_s=length if known else None,
                credits_s=CREDITS_FRACTION * length if known and title.starts_at is None else None,
            )
        )


def _length(title: Title) -> float:
    return title.duration_s or LENGTH_S.get(title.kind, 1800.0)


def _number(title: Title) -> tuple[str | None, int | None, int | None]:
    return title.series_id, title.season, title.episode
