"""The words of Couchside, as frozen records that every package shares.

Times are POSIX seconds (float, UTC), durations are seconds, identifiers are opaque strings.
The event schema is a superset of Firebolt ``Discovery.watched`` and of Fire TV Watch Activity;
caps on rows and cards default to Google Engage's (7 rows of 25 cards, continue watching of 10).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class TitleKind(StrEnum):
    """What a title is."""

    MOVIE = "movie"
    SERIES = "series"
    EPISODE = "episode"
    PROGRAMME = "programme"
    CLIP = "clip"
    RECORDING = "recording"


class EventKind(StrEnum):
    """What the household did."""

    START = "start"
    PROGRESS = "progress"
    PAUSE = "pause"
    STOP = "stop"
    COMPLETE = "complete"
    TUNE = "tune"
    SEARCH = "search"
    SELECT = "select"
    LIKE = "like"
    DISLIKE = "dislike"
    SKIP = "skip"
    DISMISS = "dismiss"
    WATCHLIST = "watchlist"
    CLEAR = "clear"  # takes back like, dislike, dismiss and watchlist


class RowCode(StrEnum):
    """Which row of the shelf; the launcher owns the words that a viewer reads."""

    CONTINUE_WATCHING = "continue_watching"
    FOR_YOU = "for_you"
    BECAUSE_YOU_WATCHED = "because_you_watched"
    LIVE_NOW = "live_now"
    NEW = "new"
    POPULAR = "popular"


class ReasonCode(StrEnum):
    """Why a card stands where it stands."""

    UNFINISHED = "unfinished"  # the household stopped in the middle of it
    NEXT_EPISODE = "next_episode"  # evidence: the episode just finished
    WATCHED = "watched"  # counterfactual: without the evidence the card falls furthest
    SIMILAR_TO = "similar_to"  # evidence: the title that seeds the row
    ON_NOW = "on_now"  # on air at this moment
    NEW_HERE = "new_here"  # became available lately
    POPULAR = "popular"  # watched by many when the Bundle was made


@dataclass(frozen=True, slots=True)
class Title:
    """Something this TV can show, or that the household once watched."""

    title_id: str
    kind: TitleKind
    name: str
    series_id: str | None = None
    season: int | None = None
    episode: int | None = None
    synopsis: str = ""
    genres: tuple[str, ...] = ()
    people: tuple[str, ...] = ()
    language: str | None = None
    """BCP 47."""
    year: int | None = None
    duration_s: float | None = None
    maturity: int | None = None
    """Lowest age in years that may watch; None is unknown, which a kids' fence treats as adult."""
    channel_id: str | None = None
    starts_at: float | None = None
    ends_at: float | None = None
    available_from: float | None = None
    available_until: float | None = None
    artwork: str | None = None
    deep_link: str | None = None
    external_ids: tuple[tuple[str, str], ...] = ()
    """Pairs (scheme, id), schemes imdb, tmdb, eidr, crid; ties a local title to a Bundle's row."""


@dataclass(frozen=True, slots=True)
class ViewingEvent:
    """One thing the household did. ``event_id`` makes it idempotent."""

    event_id: str
    profile_id: str
    title_id: str
    kind: EventKind
    at: float
    """When, by the TV's clock; before 2020 the clock was not set and only the sequence counts."""
    position_s: float | None = None
    duration_s: float | None = None
    credits_s: float | None = None
    """Where the end credits begin."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A household member."""

    profile_id: str
    name: str
    max_maturity: int | None = None
    """Hard fence in years: only titles known to be at or below it; None is no fence."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why, with the titles that prove it."""

    code: ReasonCode
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Card:
    """One place in a row."""

    title_id: str
    name: str
    reason: Reason | None = None
    """None until a true reason is known: no reason is better than a false one."""
    progress: float | None = None
    """Watched fraction in [0, 1]."""
    expires_at: float | None = None
    deep_link: str | None = None
    artwork: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """Cards in order, with what the launcher needs for the heading."""

    code: RowCode
    cards: tuple[Card, ...]
    params: tuple[tuple[str, str], ...] = ()
    """For example (("title_id", …), ("name", …)) of the film in "because you watched"."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """The shelf."""

    rows: tuple[Row, ...]
    bundle_version: int
    generation: int
    """Grows with every durable event: equal generations show equal history."""
