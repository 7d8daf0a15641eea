"""Public rating files → events in a stable order.

- ``ratings.dat``: MovieLens-1M, MovieTweetings: ``user::title::rating::seconds``, no header
- ``ratings.csv``: newer MovieLens, ``userId,movieId,rating,timestamp``
- ``ratings.csv``: this package's sample, ``user,imdb,rating,time``
- ``sequences.csv``: ``userId,pos,movieId``, each user's events in order, pos from 0, no clock

A ``.csv`` may end in ``.gz``. Order is (time, order in the file): ratings tie massively in time,
and a sort that isn't stable changes a quarter of MovieLens-1M's test titles.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from couchside.compression.data import sample_files
from couchside.compression.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

SEQUENCES = ("userId", "pos", "movieId")
HEADERS = (
    ("userId", "movieId", "rating", "timestamp"),
    ("user", "movieId", "rating", "timestamp"),
    ("user", "imdb", "rating", "time"),
    SEQUENCES,
)
FILES = ("ratings.dat", "ratings.csv", "ratings.csv.gz", "sequences.csv", "sequences.csv.gz")
"""Looked for in a folder, in this order."""
TITLE_FILES = ("movies.dat", "movies.csv", "titles.csv", "titles.csv.gz", "items.csv.gz")

Row = tuple[str, int, float]
"""User, title, and time, or place where there is no clock."""


@dataclass(frozen=True)
class Ratings:
    """Events [n], oldest first; without a clock, user by user."""

    users: NDArray[np.int64]
    """From 0, in order of first appearance in the file."""
    items: NDArray[np.int64]
    """Rows into ``item_ids``."""
    times: NDArray[np.float64] | None
    """POSIX seconds; None: the file has an order and no clock."""
    item_ids: NDArray[np.int64]
    """The file's own numbers of the titles [titles], ascending."""
    user_names: tuple[str, ...]
    """The file's own names of the users."""

    def sequences(self) -> list[NDArray[np.int64]]:
        """Items of each user, oldest first."""
        order = np.argsort(self.users, kind="stable")
        starts = np.searchsorted(self.users[order], np.arange(1, len(self.user_names)))
        return np.split(self.items[order], starts)


def find_ratings(source: str) -> Path:
    """The rating file that ``source`` means: ``sample``, a folder, or the file itself.

    Raises:
        DataError: there is none.
    """
    if source == "sample":
        return sample_files()[0]
    path = Path(source)
    if path.is_file():
        return path
    for name in FILES:
        if (path / name).is_file():
            return path / name
    raise DataError(f"{source}: no rating file; a folder needs one of {', '.join(FILES)}")


def read_ratings(path: Path) -> Ratings:
    """Read a rating file of any shape above.

    Raises:
        DataError: it can't be read, a row is malformed or says what another row has said (file and
            line are named), or nobody and nothing is left to rank.
    """
    with _reading(path) as stream:
        if path.suffix == ".dat":
            return _ratings(path, _numbered(path, _dat(stream), 4, (0, 1, 3), 1), clock=True)
        reader = csv.reader(stream)
        header = tuple(next(reader, []))
        if header not in HEADERS:
            known = "; ".join(",".join(columns) for columns in HEADERS)
            raise DataError(
                f"{path}: the first line is {','.join(header)!r}, must be one of {known}"
            )
        clock = header != SEQUENCES
        places = (0, 1, 3) if clock else (0, 2, 1)
        return _ratings(path, _numbered(path, reader, len(header), places, 2), clock=clock)


@contextmanager
def _reading(path: Path) -> Iterator[IO[str]]:
    opener = gzip.open if path.suffix == ".gz" else open
    # MovieLens-1M's movies.dat is in Latin-1; its other files are ASCII, the newer ones UTF-8.
    encoding = "latin-1" if path.suffix == ".dat" else "utf-8"
    try:
        with opener(path, "rt", encoding=encoding, newline="") as stream:
            yield stream
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, zlib.error) as error:
        raise DataError(f"{path}: can't read it: {error}; download it again") from error


def _dat(stream: IO[str]) -> Iterator[list[str]]:
    for line in stream:
        yield line.rstrip("\r\n").split("::")


def _numbered(
    path: Path, rows: Iterable[list[str]], width: int, places: tuple[int, int, int], first: int
) -> Iterator[tuple[int, Row]]:
    """(line, row) of each row; ``places`` says where user, title and time stand."""
    user, title, time = places
    for line, row in enumerate(rows, start=first):
        if len(row) != width:
            raise DataError(f"{path}, line {line}: {len(row)} fields, must be {width}")
        try:
            event = (row[user], int(row[title]), float(row[time]))
        except ValueError as error:
            raise DataError(
                f"{path}, line {line}: {error}; title and time must be numbers"
            ) from error
        if not event[0] or not (0 <= event[1] < 2**53 and 0 <= event[2] < 2**33):
            raise DataError(f"{path}, line {line}: needs a user, a title's number, POSIX seconds")
        yield line, event


def _ratings(path: Path, rows: Iterable[tuple[int, Row]], *, clock: bool) -> Ratings:
    names: dict[str, int] = {}
    said: dict[tuple[int, int], int] = {}
    events: list[tuple[int, int, float]] = []
    for line, (name, title, time) in rows:
        user = names.setdefault(name, len(names))
        before = said.setdefault((user, title), line)
        if before != line:
            raise DataError(
                f"{path}, line {line}: user {name} has title {title} in line {before} already; "
                "keep one of them"
            )
        events.append((user, title, time))
    if not events:
        raise DataError(f"{path}: no ratings in it")
    users, ids, times = (np.array(column) for column in zip(*events, strict=True))
    item_ids, items = np.unique(ids, return_inverse=True)
    if len(item_ids) < 2:
        raise DataError(f"{path}: only one title in it, so there is nothing to rank")
    order = np.argsort(times, kind="stable") if clock else np.lexsort((times, users))
    if not clock:
        _check_places(path, users[order], times[order], tuple(names))
    return Ratings(
        users=users[order],
        items=items[order],
        times=times[order] if clock else None,
        item_ids=item_ids,
        user_names=tuple(names),
    )


def _check_places(
    path: Path, users: NDArray[np.int64], places: NDArray[np.float64], names: tuple[str, ...]
) -> None:
    """Each user's places must be 0, 1, 2 …: a missing one is a lost row."""
    starts = np.searchsorted(users, users)
    wrong = np.flatnonzero(places != np.arange(len(users)) - starts)
    if len(wrong):
        first = int(wrong[0])
        raise DataError(
            f"{path}: user {names[users[first]]} has no event at place {first - starts[first]}; "
            "places must go 0, 1, 2 …"
        )


def find_titles(source: str) -> Path | None:
    """The file of titles beside the ratings; None if there is none."""
    if source == "sample":
        return sample_files()[1]
    folder = Path(source) if Path(source).is_dir() else Path(source).parent
    return next((folder / name for name in TITLE_FILES if (folder / name).is_file()), None)


def read_genres(path: Path, item_ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which genres each title has: bool [titles, genres]; a title that isn't listed has none.

    Raises:
        DataError: it can't be read, or it lists none of the titles.
    """
    with _reading(path) as stream:
        listed = dict(_dat_genres(path, stream) if path.suffix == ".dat" else _genres(path, stream))
    names = sorted({genre for genres in listed.values() for genre in genres})
    column = {name: place for place, name in enumerate(names)}
    table = np.zeros((len(item_ids), len(names)), dtype=bool)
    for row, number in enumerate(item_ids.tolist()):
        table[row, [column[genre] for genre in listed.get(number, ())]] = True
    if not table.any():
        raise DataError(f"{path}: no genres of the rated titles in it; is it of another data set?")
    return table


def _dat_genres(path: Path, stream: IO[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    for line, row in enumerate(_dat(stream), start=1):
        if len(row) != 3:
            raise DataError(f"{path}, line {line}: must be title::name::genres")
        yield _listed(path, line, row[0], row[2])


def _genres(path: Path, stream: IO[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    reader = csv.DictReader(stream)
    columns = reader.fieldnames or ()
    number = next((name for name in ("movieId", "imdb") if name in columns), None)
    if number is None or "genres" not in columns:
        raise DataError(f"{path}: needs columns movieId (or imdb) and genres")
    for row in reader:
        yield _listed(path, reader.line_num, row[number] or "", row["genres"] or "")


def _listed(path: Path, line: int, number: str, genres: str) -> tuple[int, tuple[str, ...]]:
    try:
        title = int(number)
    except ValueError as error:
        raise DataError(f"{path}, line {line}: title {number!r} is not a number") from error
    return title, tuple(g for g in genres.split("|") if g and not g.startswith("("))
