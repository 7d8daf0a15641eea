"""What a home watches, viewing by viewing, and the truth about each: who, whose choice, and why.

Time goes by in sittings. A sitting belongs to the member who began it; who sits down meanwhile
joins. In it one viewing follows the other until its time is over: a film that was left half way,
an episode of a series that somebody follows, the next film of the chooser's own ratings, or what is
on.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from couchside.compression.homes.people import inside

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from couchside.compression.data import Interactions
    from couchside.compression.homes.people import Home, Member
    from couchside.device.records import Title

HOUR_S, DAY_S = 3600.0, 86_400.0
SITTING_MIN = (75.0, 0.6)
"""Length of a sitting in minutes: median, and sigma of its logarithm."""
LONGEST_SITTING_S = 6 * HOUR_S
FILM_S = 6300.0
"""A film whose length nobody gives."""
ENOUGH_S = 600.0
"""With less of a sitting left, nobody begins anything."""
CONTINUES = 0.6
"""Chance that a film of the chooser's that was left half way is taken up first."""
CATCH_UP_S = 7 * DAY_S
"""How long an episode can be seen after it was on air."""
SERIES_FOLLOWED = 3
LOYAL = 0.85
"""Chance that a follower of a series takes its episode, where it is to be a series."""
CREDITS = 0.95
"""Share of a title after which it counts as seen."""
ZAPS = (0.35, 4)
"""Chance that a live choice begins with zapping, and channels passed at most."""
LIVE_LEFT_S = 900.0
"""Nobody settles on a programme that ends within a quarter of an hour."""
TASTE = 4.0
"""Weight of genres in the choice of what is on: a softmax over the share of a programme's genres
that the chooser's well rated films have."""
LIKED, HATED = 8, 4
"""Ratings (0 to 10) from which a film is pressed as liked at times, and up to which it is left."""
PRESSES = 0.3
"""Chance that an opinion is pressed on the remote."""


class Why(StrEnum):
    """Why something was watched."""

    RATED = "rated"  # the chooser's next film in the ratings
    CONTINUED = "continued"
    FOLLOWED = "followed"  # the next episode of a series
    LIVE = "live"
    ZAPPED = "zapped"  # passed on the way to something


@dataclass(frozen=True, slots=True)
class Viewing:
    """The truth about one thing that was watched."""

    home: str
    sitting: int
    """Counts from 1 within the home."""
    title: Title
    at: float
    """POSIX seconds."""
    until: float
    members: tuple[str, ...]
    """Who sat there, whose choice it was first."""
    why: Why
    began_s: float
    """Position in the title at ``at``; of a live programme how long it had been on."""
    seen_s: float
    """Position at ``until``."""
    length_s: float
    rating: int | None = None
    """What the chooser's real user gave the film, 0 to 10."""
    pressed: str | None = None
    """like or dislike, if the remote was used to say so."""

    @property
    def completion(self) -> float:
        """Share of the title that was reached."""
        return min(self.seen_s / self.length_s, 1.0)


@dataclass(frozen=True)
class World:
    """What there is to watch, the same for every home."""

    interactions: Interactions
    programmes: tuple[Title, ...]
    """Of the guide, with ``starts_at`` and ``ends_at``, by start."""

    @cached_property
    def series(self) -> dict[str, list[Title]]:
        """Episodes of each series by number, the first showing of each."""
        found: dict[str, dict[tuple[int, int], Title]] = {}
        for title in self.programmes:
            if title.series_id and title.episode is not None:
                found.setdefault(title.series_id, {}).setdefault(_number(title), title)
        return {name: [shown[n] for n in sorted(shown)] for name, shown in found.items()}


@dataclass(frozen=True, slots=True)
class _Film:
    """A film on somebody's mind."""

    title: Title
    rating: int
    length_s: float
    wanted_s: float
    """As far as it will be watched: to the credits, or until this one has enough of it."""
    position_s: float = 0.0


@dataclass(slots=True)
class _Self:
    """What a member has on its mind."""

    member: Member
    tastes: dict[str, float]
    """Share of its well rated films that have a genre, by genre in lower case."""
    series: tuple[str, ...]
    next_film: int = 0
    half: list[_Film] = field(default_factory=list)
    """Left half way."""
    seen: set[str] = field(default_factory=set)
    """Films."""
    reached: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Season and episode that it saw last, by series: nobody goes back."""


def live(home: Home, world: World, *, start: float, days: int, seed: int) -> Iterator[Viewing]:
    """A home's viewings in order of time.

    Args:
        home: who lives there.
        world: what there is.
        start: POSIX seconds of the first midnight UTC.
        days: how many.
        seed: with the home's number it decides everything.
    """
    rng = np.random.default_rng([seed, home.number, 1])
    selves = {m.member_id: _mind(m, world, rng) for m in home.members}
    for number, (members, begin, end) in enumerate(_sittings(home, start, days, rng), 1):
        diary = _Sitting(home, world, selves, members, number, rng)
        yield from diary.watch(begin, end)


def _mind(member: Member, world: World, rng: np.random.Generator) -> _Self:
    interactions = world.interactions
    good = [row for row in member.films if interactions.ratings[row] >= LIKED]
    tastes: dict[str, float] = {}
    for row in good:
        for genre in interactions.titles[interactions.items[row]].genres:
            tastes[genre.casefold()] = tastes.get(genre.casefold(), 0.0) + 1 / len(good)
    shown = [(name, episodes[0]) for name, episodes in sorted(world.series.items())]
    allowed = [(name, title) for name, title in shown if inside(title, member.rhythm.max_maturity)]
    liking = np.array([TASTE * _liking(tastes, title) for _, title in allowed])
    order = np.argsort(-(liking + rng.gumbel(size=len(allowed))), kind="stable")
    return _Self(member, tastes, tuple(allowed[i][0] for i in order[:SERIES_FOLLOWED]))


def _sittings(
    home: Home, start: float, days: int, rng: np.random.Generator
) -> Iterator[tuple[tuple[Member, ...], float, float]]:
    """(who, from, to), in order and apart; who comes while the TV is on joins in."""
    wishes = []
    for member in home.members:
        for day in range(days):
            weekend = int((start + day * DAY_S) // DAY_S + 3) % 7 >= 5  # 1970 began on a Thursday
            hours = member.rhythm.hours(weekend=weekend)
            for _ in range(rng.poisson(member.rhythm.sittings[weekend])):
                local = rng.choice(24, p=hours) + rng.random()
                at = start + day * DAY_S + (local - home.utc_offset_h) * HOUR_S
                minutes = SITTING_MIN[0] * np.exp(SITTING_MIN[1] * rng.standard_normal())
                wishes.append((at, at + min(60.0 * minutes, LONGEST_SITTING_S), member))
    wishes.sort(key=lambda wish: wish[0])
    while wishes:
        begin, end, first = wishes.pop(0)
        members = [first]
        while wishes and wishes[0][0] < end:
            _, later, member = wishes.pop(0)
            if member not in members:
                members.append(member)
                end = max(end, min(later, begin + LONGEST_SITTING_S))
        yield tuple(members), begin, end


class _Sitting:
    """One sitting: a clock that runs through viewings."""

    def __init__(
        self,
        home: Home,
        world: World,
        selves: dict[str, _Self],
        members: Sequence[Member],
        number: int,
        rng: np.random.Generator,
    ) -> None:
        self._home, self._world, self._rng = home, world, rng
        self._selves, self._number = selves, number
        # The youngest decides what is too much for it.
        fences = [m.rhythm.max_maturity for m in members if m.rhythm.max_maturity is not None]
        self._fence = min(fences, default=None)
        self._members = members

    def watch(self, begin: float, end: float) -> Iterator[Viewing]:
        """Viewings from ``begin`` until about ``end``."""
        now = begin
        while end - now > ENOUGH_S:
            first = self._members[int(self._rng.integers(len(self._members)))]
            chooser = self._selves[first.member_id]
            order = [chooser.member, *(m for m in self._members if m is not chooser.member)]
            who = tuple(member.member_id for member in order)
            seen = list(self._choose(chooser, who, now, end))
            yield from seen
            now = seen[-1].until + self._rng.uniform(20.0, 240.0) if seen else now + ENOUGH_S

    def _choose(
        self, chooser: _Self, who: tuple[str, ...], now: float, end: float
    ) -> Iterator[Viewing]:
        left = next((film for film in chooser.half if self._may(film.title)), None)
        if left is not None and self._rng.random() < CONTINUES:
            chooser.half.remove(left)
            return self._film(chooser, who, now, end, left, Why.CONTINUED)
        film, series, _ = chooser.member.habits
        dice = self._rng.random()
        if dice < film and (unseen := self._next_film(chooser)):
            return self._film(chooser, who, now, end, unseen, Why.RATED)
        if dice < film + series and (episode := self._next_episode(chooser, now)):
            return self._episode(who, now, end, episode)
        return self._live(chooser, who, now, end)

    def _next_film(self, chooser: _Self) -> _Film | None:
        interactions = self._world.interactions
        while chooser.next_film < len(chooser.member.films):
            row = chooser.member.films[chooser.next_film]
            title = interactions.titles[interactions.items[row]]
            if not self._may(title):  # not with a child here
                return None
            chooser.next_film += 1
            if title.title_id not in chooser.seen:
                return self._new(title, int(interactions.ratings[row]))
        return None

    def _new(self, title: Title, rating: int) -> _Film:
        """A bad one is left early; a good one is seen as far as sittings go."""
        length = title.duration_s or FILM_S
        share = self._rng.uniform(0.04, 0.4) if rating <= HATED else CREDITS
        return _Film(title, rating, length, share * length)

    def _film(
        self, chooser: _Self, who: tuple[str, ...], now: float, end: float, film: _Film, why: Why
    ) -> Iterator[Viewing]:
        reached = min(film.wanted_s, film.position_s + max(end - now, ENOUGH_S))
        over = reached >= film.wanted_s
        if over:
            chooser.seen.add(film.title.title_id)
        else:
            chooser.half.append(replace(film, position_s=reached))
        pressed = self._press(film.rating) if over else None
        span = (now, now + reached - film.position_s)
        positions = (film.position_s, reached, film.length_s)
        yield self._viewing(film.title, who, why, span, positions, film.rating, pressed)

    def _press(self, rating: int) -> str | None:
        if HATED < rating < LIKED or self._rng.random() > PRESSES:
            return None
        return "like" if rating >= LIKED else "dislike"

    def _next_episode(self, chooser: _Self, now: float) -> Title | None:
        """The one after the last that this one saw, of a series it follows, if it can be seen."""
        for name in chooser.series:
            for title in self._world.series[name]:
                there = (title.starts_at or 0.0) <= now <= (title.ends_at or 0.0) + CATCH_UP_S
                later = _number(title) > chooser.reached.get(name, (-1, -1))
                if there and later and self._may(title):
                    return title if self._rng.random() < LOYAL else None
        return None

    def _episode(
        self, who: tuple[str, ...], now: float, end: float, title: Title
    ) -> Iterator[Viewing]:
        length = (title.ends_at or 0.0) - (title.starts_at or 0.0)
        reached = min(length * CREDITS, max(end - now, ENOUGH_S))
        for member in who:  # all have seen it now
            mind = self._selves[member].reached
            mind[title.series_id or ""] = max(
                mind.get(title.series_id or "", (-1, -1)), _number(title)
            )
        yield self._viewing(title, who, Why.FOLLOWED, (now, now + reached), (0.0, reached, length))

    def _live(
        self, chooser: _Self, who: tuple[str, ...], now: float, end: float
    ) -> Iterator[Viewing]:
        on = [t for t in self._world.programmes if _on_air(t, now) and self._may(t)]
        stays = [t for t in on if (t.ends_at or 0.0) - now > LIVE_LEFT_S]
        if not stays:
            return
        liking = np.array([TASTE * _liking(chooser.tastes, title) for title in stays])
        title = stays[int(np.argmax(liking + self._rng.gumbel(size=len(stays))))]
        if self._rng.random() < ZAPS[0]:
            others = [other for other in on if other is not title]
            count = int(self._rng.integers(1, ZAPS[1], endpoint=True))
            for place in self._rng.permutation(len(others))[:count]:
                until = now + self._rng.uniform(8.0, 90.0)
                yield self._on(others[place], who, Why.ZAPPED, now, until)
                now = until
        until = min(title.ends_at or now, max(end, now + ENOUGH_S))
        yield self._on(title, who, Why.LIVE, now, max(until, now + 1.0))

    def _on(
        self, title: Title, who: tuple[str, ...], why: Why, now: float, until: float
    ) -> Viewing:
        start = title.starts_at or 0.0
        length = (title.ends_at or 0.0) - start
        reached = min(until - start, length)
        return self._viewing(title, who, why, (now, until), (now - start, reached, length))

    def _may(self, title: Title) -> bool:
        return inside(title, self._fence)

    def _viewing(
        self,
        title: Title,
        who: tuple[str, ...],
        why: Why,
        span: tuple[float, float],
        positions: tuple[float, float, float],
        rating: int | None = None,
        pressed: str | None = None,
    ) -> Viewing:
        began, seen, length = positions
        return Viewing(
            home=self._home.name,
            sitting=self._number,
            title=title,
            at=float(span[0]),
            until=float(span[1]),
            members=who,
            why=why,
            began_s=float(began),
            seen_s=float(seen),
            length_s=float(length),
            rating=rating,
            pressed=pressed,
        )


def _number(title: Title) -> tuple[int, int]:
    return title.season or 0, title.episode or 0


def _on_air(title: Title, now: float) -> bool:
    return (title.starts_at or now + 1.0) <= now < (title.ends_at or 0.0)


def _liking(tastes: dict[str, float], title: Title) -> float:
    shares = [tastes.get(genre.casefold(), 0.0) for genre in title.genres]
    return sum(shares) / len(shares) if shares else 0.0
