"""The demo's evening: films with links, a guide around now, and a household that just watched.

The clock of the household is set so that it is late evening there whenever the demo runs; the
events keep the times at which they happened, and end shortly before now.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from couchside.benchmarks.errors import BenchmarkError
from couchside.benchmarks.page import words
from couchside.benchmarks.page.report import Scene
from couchside.compression.households import CHANNELS, Household, evening
from couchside.device.records import EventKind, TitleKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from couchside.benchmarks.page.report import Outcome
    from couchside.device.records import Title, ViewingEvent

HOUR, DAY = 3600.0, 86_400.0
BEDTIME_H = 23.25
"""What the household's clock says now; its evening of about five hours began around six."""
GUIDE_BEFORE_S = 14 * HOUR
"""The guide's day begins this long before now, so that now lies well inside it."""
ARRIVALS = 40
"""Films that the app is said to have taken in lately."""
ARRIVAL_DAYS = 10.0
EARLIEST_S, LATEST_S, STEP_S = 6.5 * HOUR, 3.5 * HOUR, 600.0
"""When the evening may have begun, before now."""
ENDED_WITHIN_S = 1800.0
ENDINGS: Mapping[EventKind, Outcome] = {
    EventKind.COMPLETE: "finished",
    EventKind.STOP: "stopped",
}


@dataclass(frozen=True, slots=True)
class Evening:
    """What happened, and to whom it mattered most."""

    household: Household
    events: tuple[ViewingEvent, ...]
    viewers: tuple[str, ...]
    """Profile ids, the one with the most to show for it first."""


@dataclass(frozen=True, slots=True)
class World:
    """The TV's surroundings in this run."""

    now: float
    titles: Mapping[str, Title]
    """By title_id, films and programmes."""
    programmes: int
    evening: Evening

    @property
    def offset(self) -> float:
        """Hours that the household's clock is ahead of UTC."""
        return self.evening.household.utc_offset_h

    @property
    def scenes(self) -> tuple[Scene, ...]:
        """The evening as scenes."""
        return scenes(self.evening.events, self.titles)

    def note(self, viewer: str) -> str:
        """A sentence on what made a viewer's shelf."""
        member = next(one for one in self.evening.household.members if one.profile_id == viewer)
        mine = [scene for scene in self.scenes if scene.viewer == viewer.title()]
        seen = dict.fromkeys(scene.name for scene in mine if scene.outcome != "zapped")
        watched = f"Tonight: {words.joined(list(seen))}" if seen else "Nothing watched tonight"
        if member.max_maturity is None:
            return watched
        fence = f"Only titles known to suit age {member.max_maturity} or younger"
        return f"{fence}; what nobody rated stays hidden. {watched}"


def at_bedtime(household: Household, now: float) -> Household:
    """The same people, living where it is late evening now, to the quarter of an hour."""
    utc = datetime.fromtimestamp(now, UTC)
    ahead = BEDTIME_H - (utc.hour + utc.minute / 60)
    return replace(household, utc_offset_h=round(4 * ((ahead + 12) % 24 - 12)) / 4)


def stocked(films: Iterable[Title], *, now: float, seed: int) -> list[Title]:
    """Films as an app on this TV would list them: with a link each, a few newly arrived."""
    listed = list(films)
    rng = np.random.default_rng(seed)
    newest = sorted(range(len(listed)), key=lambda row: -(listed[row].year or 0))
    arrived = set(rng.choice(newest[: 5 * ARRIVALS], min(ARRIVALS, len(listed)), replace=False))
    return [
        replace(
            film,
            deep_link=f"films://watch/{film.title_id}",
            available_from=now - rng.uniform(0, ARRIVAL_DAYS) * DAY if row in arrived else None,
        )
        for row, film in enumerate(listed)
    ]


def find_evening(
    household: Household, titles: Sequence[Title], *, now: float, seeds: Iterable[int]
) -> Evening:
    """Among possible evenings that ended lately, the one that gave one adult the most to do.

    Raises:
        BenchmarkError: no evening ended in time; ``titles`` offer nothing to watch.
    """
    best: tuple[float, Evening] | None = None
    for seed in seeds:
        for start in np.arange(now - EARLIEST_S, now - LATEST_S, STEP_S).tolist():
            events = evening(household, titles, start=start, seed=seed)
            if events and now - ENDED_WITHIN_S <= events[-1].at <= now:
                rank = _richness(household, events)
                if best is None or max(rank.values()) > best[0]:
                    viewers = tuple(sorted(rank, key=lambda viewer: -rank[viewer]))
                    best = max(rank.values()), Evening(household, tuple(events), viewers)
    if best is None:
        raise BenchmarkError("nobody found anything to watch this evening; try another --seed")
    return best[1]


def _richness(household: Household, events: Sequence[ViewingEvent]) -> dict[str, float]:
    """What each viewer's shelf will have to show for the evening, in things it can react to."""
    done: dict[str, set[EventKind]] = {one.profile_id: set() for one in household.members}
    fenced = {one.profile_id for one in household.members if one.max_maturity is not None}
    for event in events:
        # Broadcasts have no credits mark, and a shelf can't go on with them.
        if event.credits_s is not None or event.kind in (EventKind.LIKE, EventKind.DISLIKE):
            done[event.profile_id].add(event.kind)
    return {who: len(kinds) - (0.5 if who in fenced else 0.0) for who, kinds in done.items()}


def scenes(events: Iterable[ViewingEvent], titles: Mapping[str, Title]) -> tuple[Scene, ...]:
    """Events of one viewer and title in a row, as one scene each."""
    grouped = groupby(events, key=lambda event: (event.profile_id, event.title_id))
    stretches = [tuple(stretch) for _, stretch in grouped]
    nexts = [stretch[0].at for stretch in stretches[1:]] + [float("inf")]
    return tuple(
        _scene(titles[stretch[0].title_id], stretch, before)
        for stretch, before in zip(stretches, nexts, strict=False)
    )


def _scene(title: Title, events: Sequence[ViewingEvent], before: float) -> Scene:
    """``before`` is when the next one begins: who only tunes past leaves no event on leaving."""
    live = title.starts_at is not None
    played = [event for event in events if event.position_s is not None] or list(events)
    last, opinion = played[-1], events[-1].kind
    outcome = ENDINGS.get(last.kind, "zapped")
    length = last.duration_s or title.duration_s
    return Scene(
        viewer=last.profile_id.title(),
        name=title.name,
        began_at=events[0].at,
        ended_at=before if outcome == "zapped" and before < float("inf") else last.at,
        outcome="left" if live and outcome == "stopped" else outcome,
        genres=title.genres,
        channel=channel_name(title),
        fraction=None if live or not length else (last.position_s or 0.0) / length,
        opinion=opinion.value if opinion in (EventKind.LIKE, EventKind.DISLIKE) else None,
    )


def channel_name(title: Title) -> str | None:
    """What a viewer calls the channel."""
    names = {channel.channel_id: channel.name for channel in CHANNELS}
    return names.get(title.channel_id or "", title.channel_id)


def episode_name(title: Title) -> str | None:
    """For example "S2 E7"; None for anything but a numbered episode."""
    if title.kind is not TitleKind.EPISODE or title.episode is None:
        return None
    return f"S{title.season} E{title.episode}" if title.season is not None else f"E{title.episode}"
