"""Make the sample of MovieTweetings facts that this package ships.

    python make_sample.py RATINGS TITLES [--out FOLDER]

Reads either the public repository's own files (``ratings.dat``, ``movies.dat``: fields split by
``::``) or CSV with headers (``user,imdbId,rating,timestamp`` and ``imdbId,title,genres``); both
may be gzipped. Users are renumbered in order of their first rating, Twitter ids are dropped,
users with fewer than ``--min-ratings`` are left out, and rows are sorted by time (ties in file
order), so the same input always gives the same bytes.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import re
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

NAME_AND_YEAR = re.compile(r"(?P<name>.*) \((?P<year>\d{4})\)")


def _rows(path: Path, dat_fields: list[str]) -> Iterator[dict[str, str]]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as stream:
        if ".dat" in path.suffixes:
            for line in stream:
                yield dict(zip(dat_fields, line.rstrip("\n").split("::"), strict=True))
        else:
            yield from csv.DictReader(stream)


def ratings(path: Path, *, min_ratings: int) -> list[tuple[int, str, int, int]]:
    """(user, imdb id, rating, time) by time, users renumbered, small users left out."""
    rows = list(_rows(path, ["user", "imdbId", "rating", "timestamp"]))
    rows.sort(key=lambda row: int(row["timestamp"]))
    counts = Counter(row["user"] for row in rows)
    numbers: dict[str, int] = {}
    kept = []
    for row in rows:
        if counts[row["user"]] >= min_ratings:
            user = numbers.setdefault(row["user"], len(numbers))
            imdb = row["imdbId"].removeprefix("tt").zfill(7)
            kept.append((user, imdb, int(row["rating"]), int(row["timestamp"])))
    return kept


def titles(path: Path, wanted: set[str]) -> list[tuple[str, str, str, str]]:
    """(imdb id, name, year, genres) of the wanted films, by id."""
    found = {}
    for row in _rows(path, ["imdbId", "title", "genres"]):
        imdb = row["imdbId"].removeprefix("tt").zfill(7)
        match = NAME_AND_YEAR.fullmatch(row["title"].strip())
        if imdb in wanted and match:
            found[imdb] = (imdb, match["name"], match["year"], row["genres"])
    return [found[imdb] for imdb in sorted(found)]


def write(path: Path, header: list[str], rows: Iterable[tuple[object, ...]]) -> None:
    """Write gzipped CSV with no name and no time in it, so that equal rows are equal bytes."""
    with (
        path.open("wb") as file,
        gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0) as packed,
    ):
        text: TextIO = io.TextIOWrapper(packed, encoding="utf-8", newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
        text.flush()


def main() -> int:
    """Make both files and say what is in them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("ratings", type=Path)
    parser.add_argument("titles", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--min-ratings", type=int, default=5)
    args = parser.parse_args()
    events = ratings(args.ratings, min_ratings=args.min_ratings)
    films = titles(args.titles, {imdb for _, imdb, _, _ in events})
    known = {imdb for imdb, *_ in films}
    events = [event for event in events if event[1] in known]
    write(args.out / "ratings.csv.gz", ["user", "imdb", "rating", "time"], events)
    write(args.out / "titles.csv.gz", ["imdb", "name", "year", "genres"], films)
    users = len({user for user, *_ in events})
    sys.stdout.write(f"{len(events)} ratings, {users} users, {len(films)} films\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
