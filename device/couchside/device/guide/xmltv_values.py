"""The little notations inside XMLTV: times, episode numbers, dates, languages, identifiers.

Source: the comments of xmltv.dtd (XMLTV project, version 1.x). Text in, value out; a ValueError
says what is wrong in words a sender understands.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

ZONES = {
    "": 0, "Z": 0, "UTC": 0, "GMT": 0, "UT": 0, "WET": 0, "WEST": 1, "BST": 1,
    "CET": 1, "MET": 1, "CEST": 2, "MEST": 2, "EET": 2, "EEST": 3, "MSK": 3,
    "EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7,
}  # fmt: skip
"""Hours east of UTC. Only RFC 822's names, the DTD's own example (BST) and Europe's: others, such
as IST, mean different times in different countries."""
FURTHEST_MINUTES = 14 * 60
"""Kiribati; no zone is further from UTC."""
EARLIEST_YEAR = 1990

_TIME = re.compile(r"(\d{14}|\d{12}|\d{10})(?!\d)\s*(.*)", re.ASCII)
_OFFSET = re.compile(r"([+-])(\d{2}):?(\d{2})", re.ASCII)
_PART = re.compile(r"(\d{1,6})?(?:/\d{1,6})?")
_SEASON_EPISODE = re.compile(
    r"(?:S(?:eason|eries)?\s*(\d{1,6}))?[\s,.:x-]*(?:E(?:p(?:isode)?)?\.?\s*(\d{1,6}))?(?:\s*/\s*\d+)?",
    re.IGNORECASE,
)
_YEAR = re.compile(r"(1[89]\d\d|2[01]\d\d)(?:-?\d\d){0,2}(?:\D.*)?")
_LANGUAGE = re.compile(r"([A-Za-z]{2,3})((?:[-_][A-Za-z0-9]{2,8})*)")
_IMDB = re.compile(r"tt\d{7,9}")


def instant(text: str) -> float:
    """POSIX seconds of an XMLTV time: ``YYYYMMDDhhmmss +hhmm``; UTC where no zone is given.

    The DTD allows any initial part of the digits. From the hour on it is a time, with what is
    missing zero; a day or less can't place a programme.

    Raises:
        ValueError: not a time, of a day that does not exist, or in an unknown zone.
    """
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text:.40} is not a time such as 20260810203000 +0100")
    digits = match[1].ljust(14, "0")
    try:
        moment = datetime.fromisoformat(f"{digits[:8]}T{digits[8:]}").replace(
            tzinfo=_zone(match[2])
        )
    except ValueError as error:
        raise ValueError(f"{text:.40} is not a time: {error}") from error
    if moment.year < EARLIEST_YEAR:
        raise ValueError(f"{text:.40} is before any guide was written, the sender's clock was off")
    return moment.timestamp()


def _zone(text: str) -> timezone:
    match = _OFFSET.fullmatch(text)
    if match is not None:
        minutes = 60 * int(match[2]) + int(match[3])
        if minutes > FURTHEST_MINUTES or int(match[3]) > 59:
            raise ValueError(f"no zone is {text} from UTC")
        return timezone(timedelta(minutes=-minutes if match[1] == "-" else minutes))
    if text.upper() not in ZONES:
        raise ValueError(f"time zone {text:.20} is not known, write an offset such as +0100")
    return timezone(timedelta(hours=ZONES[text.upper()]))


def season_and_episode(system: str, text: str) -> tuple[int | None, int | None]:
    """Season and episode, counted from 1, of one ``episode-num``; None for what it doesn't say.

    ``xmltv_ns`` is "season.episode.part", each counted from 0, each optional, each perhaps with
    "/total"; ``onscreen`` is free text, of which S01E02 and its relatives are understood.

    Raises:
        ValueError: an ``xmltv_ns`` number of another form.
    """
    if system == "xmltv_ns":
        parts = [_PART.fullmatch(part.replace(" ", "")) for part in text.split(".")]
        if len(parts) > 3 or None in parts:
            raise ValueError(f"episode-num {text:.40} is not season.episode.part, as in 0.4.0/2")
        season, episode, *_ = (*(_number(part and part[1], first=1) for part in parts), None)
        return season, episode
    if system == "onscreen":
        match = _SEASON_EPISODE.fullmatch(text.strip())
        if match:
            return _number(match[1]), _number(match[2])
    return None, None


def _number(digits: str | None, first: int = 0) -> int | None:
    return int(digits) + first if digits else None


def year(text: str) -> int | None:
    """The year of a ``date`` such as 1972, 19720324 or 1972-03-24.

    Raises:
        ValueError: it begins otherwise.
    """
    match = _YEAR.fullmatch(text)
    if match is None:
        raise ValueError(f"date {text:.40} does not begin with a year")
    return int(match[1])


def language(text: str) -> str | None:
    """The BCP 47 tag in ``text``, or None: the DTD also allows names ("English")."""
    match = _LANGUAGE.fullmatch(text.strip())
    return match[1].lower() + match[2].replace("_", "-") if match else None


def imdb_id(text: str) -> str | None:
    """The IMDb identifier inside a link or an ``episode-num`` of system imdb.com."""
    match = _IMDB.search(text)
    return match[0] if match else None
