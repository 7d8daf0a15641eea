"""XMLTV programme guides → titles, strictly: what can't be trusted is reported, the rest counts.

The format is the one of xmltv.dtd (XMLTV project). Three degrees of wrong:

- The file is no guide (missing, not XML, another root element, a document type that declares
  entities): :class:`~couchside.device.errors.CatalogueError`, and nothing was read.
- The file breaks after ``<tv>`` has opened (not well-formed, cut off, hostile size): everything
  before the break counts, then one Problem whose ``where`` begins with "file" and which is marked
  ``truncated``. A guide cut off by a lost signal still fills this evening; the caller may refuse.
- A programme is wrong (times, channel, no title): it is reported and skipped. Where only a detail
  is wrong (rating, date, episode number), the detail is dropped and reported once per text, and
  the programme counts: with no known age a kids' fence hides it.
"""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from couchside.device.errors import CatalogueError
from couchside.device.guide.files import opened
from couchside.device.guide.problems import Problem
from couchside.device.guide.ratings import age
from couchside.device.guide.xmltv_stream import XmlBreakError, elements
from couchside.device.guide.xmltv_values import (
    imdb_id,
    instant,
    language,
    season_and_episode,
    year,
)
from couchside.device.records import Title, TitleKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from couchside.device.guide.xmltv_stream import Element

T = TypeVar("T")

LONGEST_S = 7 * 86_400.0
"""A programme beyond a week is a mistyped date, which would be "on now" for ever."""
CHANNELS = 20_000
ID_CHARACTERS = 200
ENTRIES = 32
"""Genres or people kept of one programme."""
DETAILS = 1000
"""Wrong details reported, each text once."""

_REMEDY = "correct it in the guide; the other programmes count"
_DETAIL_REMEDY = "correct it in the guide; the programme counts without this detail"


def read_xmltv(path: Path, *, report: Callable[[Problem], None]) -> Iterator[Title]:
    """Read a guide as a stream; memory does not grow with its length.

    A programme without ``stop`` (the DTD allows it) ends when the next one on its channel starts,
    and is yielded then. ``title_id`` is ``xmltv:{channel}:{start}`` (POSIX seconds), so that a
    newer guide replaces an older one; if a file has two for one slot, both are yielded and the
    later should win.

    Args:
        path: an XMLTV file, plain or gzip.
        report: called for each part that is wrong.

    Yields:
        Programmes, and episodes where an ``episode-num`` says so, in file order.

    Raises:
        CatalogueError: the file is no guide (on first use).
    """
    guide = _Guide(report)
    with opened(path) as file:
        try:
            for element in elements(file):
                yield from guide.take(element)
        except XmlBreakError as error:
            if not error.begun:
                raise CatalogueError(
                    f"{path}, line {error.line}, column {error.column}: {error}; give an XMLTV file"
                ) from error
            where = f"file, line {error.line}, column {error.column}"
            remedy = "fetch the guide again; the programmes before this place count"
            report(Problem(where, str(error), remedy, truncated=True))
    guide.end()


class _Guide:
    """What one pass remembers: the channels, and programmes that wait for their end."""

    def __init__(self, report: Callable[[Problem], None]) -> None:
        self._report = report
        self._channels: set[str] = set()
        self._endless: dict[str, tuple[Title, str]] = {}  # by channel: the title, and where it is
        self._told: set[str] = set()  # complaints about details

    def take(self, element: Element) -> Iterator[Title]:
        """The titles that are complete with this element."""
        where = f"line {element.line}, {element.tag:.40}"
        if element.tag == "channel":
            self._channel(element, where)
        elif element.tag == "programme":
            channel, start = element.attributes.get("channel"), element.attributes.get("start")
            where = f"{where} on {channel or '?':.80} at {start or '?':.40}"
            try:
                title = self._programme(element, where)
            except ValueError as error:
                self._report(Problem(where, str(error), _REMEDY))
            else:
                yield from self._complete(title, where)

    def end(self) -> None:
        """Report the programmes whose end never came."""
        for _, where in self._endless.values():
            what = "has no stop, and no later programme follows on its channel"
            self._report(Problem(where, what, _REMEDY))

    def _channel(self, element: Element, where: str) -> None:
        channel = element.attributes.get("id", "")
        if not (0 < len(channel) <= ID_CHARACTERS and channel.isprintable()):
            what = f"its id must be 1 to {ID_CHARACTERS} printable characters"
            self._report(Problem(where, what, _REMEDY))
        elif len(self._channels) >= CHANNELS and channel not in self._channels:
            remedy = "split the guide; programmes on the channels before count"
            self._report(Problem(where, f"there are more than {CHANNELS} channels", remedy))
        else:
            self._channels.add(channel)

    def _complete(self, title: Title, where: str) -> Iterator[Title]:
        """Yield ``title`` if it has an end, and the one before it that waited for a start."""
        channel = title.channel_id or ""
        waiting = self._endless.pop(channel, None)
        if waiting:
            try:
                yield _ending(waiting[0], title.starts_at or 0.0)
            except ValueError as error:
                self._report(
                    Problem(
                        waiting[1],
                        f"has no stop, and by the next start on its channel {error}",
                        _REMEDY,
                    )
                )
        if title.ends_at is not None:
            yield title
        else:
            self._endless[channel] = (title, where)

    def _programme(self, element: Element, where: str) -> Title:
        """The title of a programme; without ``ends_at`` if it has no stop.

        Raises:
            ValueError: what is wrong with it.
        """
        if element.fault:
            raise ValueError(element.fault)
        channel = element.attributes.get("channel", "")
        if channel not in self._channels:
            raise ValueError(f"channel {channel:.80} is not declared in a channel element above")
        if "start" not in element.attributes:
            raise ValueError("has no start")
        names = element.texts("title")
        if not names:
            raise ValueError("has no title")
        title = self._described(element, names[0], channel, where)
        if "stop" not in element.attributes:
            return title
        return _ending(title, instant(element.attributes["stop"]))

    def _described(self, element: Element, name: str, channel: str, where: str) -> Title:
        start = instant(element.attributes["start"])
        season, episode, is_episode = self._numbers(element, where)
        years = self._details(element.texts("date")[:1], year, where)
        return Title(
            title_id=f"xmltv:{channel}:{start:.0f}{_clump(element)}",
            kind=TitleKind.EPISODE if is_episode else TitleKind.PROGRAMME,
            name=name,
            series_id=series_id(name) if is_episode else None,
            season=season,
            episode=episode,
            synopsis=". ".join(element.texts("sub-title")[:1] + element.texts("desc")[:1]),
            genres=_distinct(element.texts("category")),
            people=_distinct(
                [person for part in element.all("credits") for person in _names(part)]
            ),
            language=_language(element),
            year=years[0] if years else None,
            maturity=self._maturity(element, where),
            channel_id=channel,
            starts_at=start,
            artwork=_artwork(element),
            external_ids=_external_ids(element),
        )

    def _numbers(self, element: Element, where: str) -> tuple[int | None, int | None, bool]:
        """Season, episode, and whether this is an episode at all."""
        season, episode, is_episode = None, None, False
        for number in element.all("episode-num"):
            system, text = number.attributes.get("system", "onscreen"), number.text.strip()
            for found in self._details([text], partial(season_and_episode, system), where):
                season = found[0] if season is None else season
                episode = found[1] if episode is None else episode
            is_episode |= system == "dd_progid" and text.startswith("EP")
        return season, episode, is_episode or season is not None or episode is not None

    def _maturity(self, element: Element, where: str) -> int | None:
        """The strictest of its ratings that name an age."""
        ages: list[int | None] = []
        for rating in element.all("rating"):
            system = rating.attributes.get("system", "")
            ages += self._details(rating.texts("value")[:1], partial(age, system), where)
        return max((age_ for age_ in ages if age_ is not None), default=None)

    def _details(self, texts: list[str], parse: Callable[[str], T], where: str) -> list[T]:
        """What can be parsed of ``texts``; the others are reported, the same complaint once."""
        parsed: list[T] = []
        for text in texts:
            try:
                parsed.append(parse(text))
            except ValueError as error:
                if str(error) not in self._told and len(self._told) < DETAILS:
                    self._told.add(str(error))
                    self._report(Problem(where, str(error), _DETAIL_REMEDY))
        return parsed


def series_id(name: str) -> str:
    """Episodes belong together when their titles are equal but for case, width and spaces."""
    return "xmltv:series:" + " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def _ending(title: Title, end: float) -> Title:
    start = title.starts_at or 0.0
    if end <= start:
        raise ValueError("stops before it starts, or at once")
    if end - start > LONGEST_S:
        raise ValueError(f"lasts more than {LONGEST_S / 86_400:.0f} days")
    return replace(title, ends_at=end, duration_s=end - start)


def _clump(element: Element) -> str:
    """Tells programmes apart that share a slot: ``clumpidx`` is "which/of how many", from 0."""
    which = element.attributes.get("clumpidx", "0").partition("/")[0]
    if not which.isdecimal():
        raise ValueError(f"clumpidx {which:.20} is not of the form 0/2")
    return f":{int(which)}" if int(which) else ""


def _names(credits_: Element) -> list[str]:
    names = (" ".join(person.text.split()) for person in credits_.children)
    return [name for name in names if name]


def _distinct(texts: list[str]) -> tuple[str, ...]:
    first = {text.casefold(): text for text in reversed(texts)}
    return tuple(text for text in dict.fromkeys(texts) if first[text.casefold()] == text)[:ENTRIES]


def _language(element: Element) -> str | None:
    """Of the programme; else of its title, which is a good guess."""
    titles = [title.attributes.get("lang", "") for title in element.all("title")]
    return next(filter(None, map(language, element.texts("language") + titles)), None)


def _artwork(element: Element) -> str | None:
    links = (icon.attributes.get("src", "") for icon in element.all("icon"))
    return next((link for link in links if link.startswith(("https://", "http://"))), None)


def _external_ids(element: Element) -> tuple[tuple[str, str], ...]:
    numbers = element.all("episode-num")
    texts = [number.text for number in numbers if number.attributes.get("system") == "imdb.com"]
    texts += [link for link in element.texts("url") if "imdb.com/title/" in link]
    found = next(filter(None, map(imdb_id, texts)), None)
    return (("imdb", found),) if found else ()
