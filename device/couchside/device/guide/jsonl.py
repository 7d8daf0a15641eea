"""JSON Lines catalogues: one title a line, with exactly the fields of ``records.Title``.

``external_ids`` is an object, ``{"imdb": "tt0068646"}``. Every line stands alone (jsonlines.org):
a line that is wrong is reported with its number and field, and the others count. A file may be
gzip. Memory: one line, and the identifiers seen so far.
"""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any, BinaryIO

from couchside.device.guide.files import DAMAGE, opened
from couchside.device.guide.problems import Problem
from couchside.device.records import Title
from couchside.device.strict import StrictError, from_json, loads, to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

LINE_BYTES = 64 * 1024
"""Longest line: a title with a long synopsis is 4 KB; more is a mistake or an attack."""
ID_CHARACTERS = 256
BOM = b"\xef\xbb\xbf"

RANGES: dict[str, tuple[float, float]] = {
    "season": (0, 100_000),  # daily shows number seasons by year
    "episode": (0, 1_000_000),
    "year": (1850, 2200),
    "duration_s": (0, 366 * 86_400.0),
    "maturity": (0, 21),
    "starts_at": (0, 2**33),  # POSIX seconds until the year 2242
    "ends_at": (0, 2**33),
    "available_from": (0, 2**33),
    "available_until": (0, 2**33),
}
"""Lowest and highest value of each number; also keeps them inside SQLite's 64 bits."""

_REMEDY = "correct this line; the other lines count"
_DEFAULTS = {field.name: field.default for field in fields(Title)}


def read_jsonl(path: Path, *, report: Callable[[Problem], None]) -> Iterator[Title]:
    """Read a catalogue, line by line.

    Args:
        path: a UTF-8 file of one JSON object per line, plain or gzip. Blank lines are skipped.
        report: called for each line that is refused, and once, with ``truncated``, if the file
            can't be read to its end.

    Yields:
        The titles of the good lines, in file order.

    Raises:
        CatalogueError: the file is missing, unreadable or not a regular file (on first use).
    """
    seen: set[str] = set()
    with opened(path) as file:
        for number, line in _lines(file, report):
            try:
                title = _title(line)
                _check_unseen(title.title_id, seen)
            except StrictError as error:
                report(Problem(f"line {number}", str(error), _REMEDY))
                continue
            seen.add(title.title_id)
            yield title


def write_jsonl(titles: Iterable[Title]) -> Iterator[str]:
    """The lines of a catalogue, each with its newline; fields at their default are left out.

    Raises:
        ValueError: a title that :func:`read_jsonl` would refuse; the message names the field.
    """
    for title in titles:
        record = {
            name: value
            for name, value in to_json(title).items()
            if name not in _DEFAULTS or value != to_json(_DEFAULTS[name])
        }
        if title.external_ids:
            record["external_ids"] = dict(title.external_ids)
            if len(record["external_ids"]) != len(title.external_ids):
                raise StrictError("external_ids", f"{title.title_id!r} names a scheme twice")
        line = json.dumps(record, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        _title(line.encode("utf-8"))
        yield line + "\n"


def _lines(file: BinaryIO, report: Callable[[Problem], None]) -> Iterator[tuple[int, bytes]]:
    """Numbered lines that are not blank; reports overlong lines and damage."""
    number = 0
    try:
        while line := file.readline(LINE_BYTES + len(b"\r\n")):
            number += 1
            if len(line.rstrip(b"\r\n")) > LINE_BYTES:
                _skip_line(file, line)
                what = f"is longer than {LINE_BYTES} bytes"
                report(Problem(f"line {number}", what, "shorten the synopsis, or " + _REMEDY))
            elif line := line.strip().removeprefix(BOM if number == 1 else b""):
                yield number, line
    except DAMAGE as error:
        what = f"can't be read further: {error}"
        remedy = "fetch the file again; the lines before count"
        report(Problem(f"file, after line {number}", what, remedy, truncated=True))


def _skip_line(file: BinaryIO, line: bytes) -> None:
    while line and not line.endswith(b"\n"):
        line = file.readline(LINE_BYTES)


def _check_unseen(title_id: str, seen: set[str]) -> None:
    if title_id in seen:
        raise StrictError("title_id", f"{title_id!r} stands on an earlier line")


def _title(line: bytes) -> Title:
    if len(line) > LINE_BYTES:
        raise StrictError("", f"is longer than {LINE_BYTES} bytes")
    try:
        value = loads(line.decode("utf-8"))
    except UnicodeError as error:
        raise StrictError("", f"is not UTF-8: {error}") from error
    if isinstance(value, dict) and "external_ids" in value:
        value["external_ids"] = _pairs(value["external_ids"])
    title = from_json(Title, value)
    _check(title)
    return title


def _pairs(value: Any) -> list[list[Any]]:
    if not isinstance(value, dict):
        raise StrictError("external_ids", 'must be an object such as {"imdb": "tt0068646"}')
    for scheme, identifier in value.items():
        if not isinstance(identifier, str):
            raise StrictError(f"external_ids.{scheme}", "must be a string")
    return [[scheme, identifier] for scheme, identifier in value.items()]


def _check(title: Title) -> None:
    """What types alone don't say.

    Raises:
        StrictError: names the field.
    """
    for field, value in (("title_id", title.title_id), ("channel_id", title.channel_id)):
        if value is not None and not (0 < len(value) <= ID_CHARACTERS and value.isprintable()):
            raise StrictError(field, f"must be 1 to {ID_CHARACTERS} printable characters")
    if not title.name.strip():
        raise StrictError("name", "must not be empty")
    for field, (lowest, highest) in RANGES.items():
        number = getattr(title, field)
        if number is not None and not lowest <= number <= highest:
            raise StrictError(
                field, f"must be between {lowest:g} and {highest:g}, not {number!s:.24}"
            )
    _in_order("ends_at", title.starts_at, title.ends_at)
    _in_order("available_until", title.available_from, title.available_until)


def _in_order(field: str, start: float | None, end: float | None) -> None:
    if start is not None and end is not None and end <= start:
        raise StrictError(field, "must be later than its start")
