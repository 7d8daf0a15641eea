"""A day of television on invented channels, as XMLTV: news, sport, films, series, children, nature.

The channels, series and sentences are made up; the films are the caller's, with their year and
genres, so that a guide and a Bundle have something in common, as in a real home.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from couchside.device.records import Title

DAY_S = 86_400.0
SLOT_S = 300.0
"""Programmes begin on the five minutes."""


@dataclass(frozen=True, slots=True)
class Format:
    """A sort of programme that a channel makes; the caller's films if it has no names."""

    category: str
    minutes: tuple[int, int]
    """Shortest and longest."""
    names: tuple[str, ...] = ()
    about: str = ""
    """The sentence of its synopsis."""
    numbered: bool = False
    """Whether programmes of one name are episodes, each following the one before."""
    age: int | None = None
    """Years; written as a rating."""


@dataclass(frozen=True, slots=True)
class Channel:
    """An invented channel."""

    channel_id: str
    name: str
    formats: tuple[tuple[Format, float], ...]
    """What it shows, with the share of its programmes."""


NEWS = Format(
    "News", (15, 45),
    ("The Hour", "Harbour Report", "Papers and Proof", "Weather Window"),
    "What happened today, and what it may mean tomorrow.", age=0,
)  # fmt: skip
SPORT = Format(
    "Sport", (60, 150),
    ("Cup Night", "Ring Road Relay", "Second Half", "Nine Lanes", "The Long Peloton"),
    "Live from the ground, with everything that led up to it.", age=0,
)  # fmt: skip
FILM = Format("Film", (90, 135))
DRAMA = Format(
    "Drama", (45, 60),
    ("Orchard Lane", "The Ferrymen", "Quiet Water", "Salt Assembly"),
    "A small town, an old promise, and somebody who comes back for it.", numbered=True, age=12,
)  # fmt: skip
CRIME = Format(
    "Crime", (45, 60),
    ("Cold Platform", "Inspector Vane", "The Ninth Witness"),
    "A case that nobody wanted is opened again.", numbered=True, age=16,
)  # fmt: skip
COMEDY = Format(
    "Comedy", (25, 30),
    ("Upstairs Neighbours", "Lost Luggage", "The Understudies"),
    "Everything goes wrong, and then the relatives arrive.", numbered=True, age=7,
)  # fmt: skip
KIDS = Format(
    "Kids", (10, 25),
    ("Pip and the Tide", "Number Garden", "Captain Thimble", "The Moss Family"),
    "Friends find out something new together.", numbered=True, age=0,
)  # fmt: skip
ANIMATION = Format(
    "Animation", (20, 30),
    ("Sky Cadets", "Robot Orchard", "The Lantern Riddle"),
    "An adventure with a riddle at its end.", numbered=True, age=6,
)  # fmt: skip
NATURE = Format(
    "Documentary", (45, 60),
    ("Field Notes", "The Deep Shelf", "Slow Rivers", "How It Was Built"),
    "Patient cameras in a place that few people see.", numbered=True, age=0,
)  # fmt: skip

CHANNELS = (
    Channel("one.harbour.example", "Harbour One",
            ((NEWS, 0.3), (DRAMA, 0.3), (COMEDY, 0.2), (FILM, 0.2))),
    Channel("two.harbour.example", "Harbour Two",
            ((NATURE, 0.4), (COMEDY, 0.3), (CRIME, 0.3))),
    Channel("kestrel.example", "Kestrel News", ((NEWS, 1.0),)),
    Channel("touchline.example", "Touchline", ((SPORT, 0.9), (NEWS, 0.1))),
    Channel("lantern.example", "Lantern Cinema", ((FILM, 1.0),)),
    Channel("saga.example", "Saga", ((DRAMA, 0.5), (CRIME, 0.5))),
    Channel("pebble.example", "Pebble", ((KIDS, 0.6), (ANIMATION, 0.4))),
    Channel("fieldnotes.example", "Fieldnotes", ((NATURE, 1.0),)),
)  # fmt: skip


def make_guide(
    films: Sequence[Title],
    *,
    day_start: float,
    channels: Sequence[Channel] = CHANNELS,
    days: int = 1,
    seed: int,
) -> str:
    """A gapless schedule as XMLTV text.

    Args:
        films: what the film programmes show, each at most once until all were shown; a rating and
            a link to IMDb are written where a film has ``maturity`` or an ``imdb`` identifier.
        day_start: POSIX seconds of the first programme; rounded down to five minutes.
        channels: the channels to fill.
        days: how many days of 24 hours.
        seed: the same arguments and seed give the same text.

    Raises:
        ValueError: no channels or days, or a channel that shows films when there are none.
    """
    if not channels or days < 1:
        raise ValueError(f"a guide needs channels and days, not {len(channels)} and {days}")
    if not films and any(not format_.names for c in channels for format_, _ in c.formats):
        raise ValueError("some channels show films, give at least one")
    tv = ET.Element("tv", {"generator-info-name": "couchside invented guide"})
    for channel in channels:
        ET.SubElement(
            ET.SubElement(tv, "channel", id=channel.channel_id), "display-name"
        ).text = channel.name
    begin = day_start - day_start % SLOT_S
    studio = _Studio(films, np.random.default_rng(seed))
    for channel in channels:
        tv.extend(studio.schedule(channel, begin, begin + days * DAY_S))
    ET.indent(tv)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(tv, encoding="unicode") + "\n"


class _Studio:
    """Makes programmes; remembers which film and which episode come next."""

    def __init__(self, films: Sequence[Title], rng: np.random.Generator) -> None:
        self._films = films
        self._rng = rng
        self._reel: Iterator[int] = iter(())
        self._next: dict[str, tuple[int, int]] = {}  # series: season and episode, from 0

    def schedule(self, channel: Channel, begin: float, end: float) -> Iterator[ET.Element]:
        """Programmes of one channel, without gaps, the last cut at ``end``."""
        formats = [format_ for format_, _ in channel.formats]
        shares = np.array([share for _, share in channel.formats])
        while begin < end:
            format_ = formats[self._rng.choice(len(formats), p=shares / shares.sum())]
            film = None if format_.names else self._film()
            stop = min(begin + self._length(format_, film), end)
            span = {"start": _time(begin), "stop": _time(stop), "channel": channel.channel_id}
            programme = ET.Element("programme", span)
            if film is None:
                self._fill_own(programme, format_)
            else:
                _fill_film(programme, film)
            yield programme
            begin = stop

    def _length(self, format_: Format, film: Title | None) -> float:
        shortest, longest = format_.minutes
        seconds = 60.0 * int(self._rng.integers(shortest, longest, endpoint=True))
        if film is not None and film.duration_s:
            seconds = film.duration_s
        return max(math.ceil(seconds / SLOT_S), 1) * SLOT_S

    def _film(self) -> Title:
        index = next(self._reel, None)
        if index is None:
            self._reel = iter(self._rng.permutation(len(self._films)).tolist())
            index = next(self._reel)
        return self._films[index]

    def _fill_own(self, programme: ET.Element, format_: Format) -> None:
        name = format_.names[self._rng.integers(len(format_.names))]
        _add(programme, "title", name, lang="en")
        _add(programme, "desc", format_.about, lang="en")
        _add(programme, "category", format_.category, lang="en")
        if format_.numbered:
            first = (int(self._rng.integers(5)), int(self._rng.integers(8)))
            season, episode = self._next.get(name, first)
            self._next[name] = (season, episode + 1)
            _add(programme, "episode-num", f"{season}.{episode}.", system="xmltv_ns")
        _rate(programme, format_.age)


def _fill_film(programme: ET.Element, film: Title) -> None:
    """In the order of the DTD."""
    _add(programme, "title", film.name)
    _add(programme, "desc", film.synopsis)
    if film.year is not None:
        _add(programme, "date", str(film.year))
    for genre in film.genres:
        _add(programme, "category", genre, lang="en")
    for scheme, identifier in film.external_ids:
        if scheme == "imdb":
            _add(programme, "url", f"https://www.imdb.com/title/{identifier}/")
    _rate(programme, film.maturity)


def _rate(programme: ET.Element, age: int | None) -> None:
    if age is not None:
        _add(ET.SubElement(programme, "rating", system="DVB"), "value", f"{age}+")


def _add(parent: ET.Element, tag: str, text: str, **attributes: str) -> None:
    """A child with text; control characters, which XML can't carry, become spaces."""
    clean = "".join(c if c.isprintable() else " " for c in text).strip()
    if clean:
        ET.SubElement(parent, tag, attributes).text = clean


def _time(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y%m%d%H%M%S} +0000"
