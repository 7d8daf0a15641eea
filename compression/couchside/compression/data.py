"""Ratings and titles → a global temporal split, sequences and popularity.

Rows are sorted by (time, file order): MovieLens-style data ties massively, and an unstable sort
moves a quarter of the targets (docs of the HSTU reproduction). Targets of the test part are
*every warm event after the cut*: the title was seen in training, the user has a history, and the
model is frozen while the history grows, as it is on a TV between two Bundles.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import zlib
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from couchside.compression.errors import DataError
from couchside.device.features import DAY, gap_buckets, signal_of_rating
from couchside.device.guide.jsonl import write_jsonl
from couchside.device.records import Title, TitleKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from couchside.compression.recipe import DataRecipe

BASELINE_WINDOW_DAYS = 7.0


@dataclass(frozen=True)
class Interactions:
    """Events in stable time order; all arrays are [n]."""

    titles: tuple[Title, ...]
    users: NDArray[np.int64]
    items: NDArray[np.int64]
    """Rows into ``titles``."""
    ratings: NDArray[np.int64]
    """0 to 10."""
    times: NDArray[np.float64]
    """POSIX seconds."""

    @cached_property
    def by_user(self) -> dict[int, NDArray[np.int64]]:
        """Event rows of each user, in time order."""
        order = np.argsort(self.users, kind="stable")
        users, starts = np.unique(self.users[order], return_index=True)
        return dict(zip(users.tolist(), np.split(order, starts[1:]), strict=True))

    @cached_property
    def signals(self) -> NDArray[np.int32]:
        """Signal of each event."""
        return signal_of_rating(self.ratings)

    @cached_property
    def gaps(self) -> NDArray[np.int32]:
        """Gap bucket of each event within its user's history."""
        # Ratings of before 2020 have a good clock: the floor is for TVs.
        gaps = np.zeros(len(self.times), dtype=np.int32)
        for rows in self.by_user.values():
            gaps[rows] = gap_buckets(self.times[rows], clock_floor=0.0)
        return gaps

    def counts(self, start: float, end: float) -> NDArray[np.float64]:
        """Events per title with start ≤ time < end: [titles]."""
        chosen = (self.times >= start) & (self.times < end)
        return np.bincount(self.items[chosen], minlength=len(self.titles)).astype(np.float64)

    def popularity(self, at: float, half_life_days: float) -> NDArray[np.float32]:
        """log(1 + events before ``at`` that fade with the half-life): float32 [titles]."""
        before = self.times < at
        age = (at - self.times[before]) / DAY
        weights = np.exp2(-age / half_life_days)
        count = np.bincount(self.items[before], weights=weights, minlength=len(self.titles))
        return np.log1p(count).astype(np.float32)

    def daily_popularity(
        self, half_life_days: float
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """What popularity was on the morning of each event.

        Returns:
            (day of each event [n], popularity of each day float32 [days, titles]).
        """
        day = ((self.times - self.times.min()) // DAY).astype(np.int64)
        seen = np.zeros((int(day.max()) + 1, len(self.titles)), dtype=np.float32)
        np.add.at(seen, (day, self.items), 1.0)
        fade = np.float32(np.exp2(-1.0 / half_life_days))
        faded = np.zeros_like(seen)
        for d in range(1, len(seen)):
            faded[d] = (faded[d - 1] + seen[d - 1]) * fade
        return day, np.log1p(faded)


@dataclass(frozen=True)
class Split:
    """The two cuts in time, and what identifies them."""

    validation_from: float
    test_from: float
    sha256: str
    """Of every sorted event and both cuts: equal hashes are equal splits."""


@dataclass(frozen=True)
class Target:
    """One event to be predicted from all events of its user before it."""

    user: int
    item: int
    history: NDArray[np.int64]
    """Event rows, oldest first."""


def load_interactions(recipe: DataRecipe) -> Interactions:
    """Read ratings and titles of ``recipe.source``.

    Raises:
        DataError: a file is missing, a row is malformed (file and line are named), or nothing
            is left.
    """
    ratings, titles = _files(recipe.source)
    table = tuple(_titles(titles))
    rows = {title.title_id: row for row, title in enumerate(table)}
    events = np.array(list(_events(ratings, rows)), dtype=np.int64).reshape(-1, 4)
    events = events[np.argsort(events[:, 3], kind="stable")]
    events[:, 0] = np.unique(events[:, 0], return_inverse=True)[1]  # users by number, from 0
    if recipe.max_users:
        events = events[events[:, 0] < recipe.max_users]
    if len(events) < 100:
        raise DataError(f"{ratings}: {len(events)} ratings are too few to learn from")
    kept = np.unique(events[:, 1])
    items = np.searchsorted(kept, events[:, 1])
    return Interactions(
        titles=tuple(table[row] for row in kept),
        users=events[:, 0],
        items=items,
        ratings=events[:, 2],
        times=events[:, 3].astype(np.float64),
    )


def sample_files() -> tuple[Path, Path]:
    """Ratings and titles of the sample in this package."""
    folder = Path(str(resources.files("couchside.compression") / "sample"))
    return folder / "ratings.csv.gz", folder / "titles.csv.gz"


def _files(source: str) -> tuple[Path, Path]:
    if source == "sample":
        return sample_files()
    found = []
    for name in ("ratings", "titles"):
        choices = [Path(source) / f"{name}.csv", Path(source) / f"{name}.csv.gz"]
        present = [path for path in choices if path.is_file()]
        if not present:
            raise DataError(f"{source}: no {name}.csv or {name}.csv.gz there")
        found.append(present[0])
    return found[0], found[1]


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8", newline="") as stream:
            reader = csv.reader(stream)
            header = next(reader, [])
            if tuple(header) != columns:
                raise DataError(f"{path}: columns are {header}, must be {list(columns)}")
            for row in reader:
                if len(row) != len(columns):
                    raise DataError(f"{path}, line {reader.line_num}: {len(row)} fields")
                yield reader.line_num, row
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, zlib.error) as error:
        raise DataError(f"{path}: can't read it: {error}") from error


def _titles(path: Path) -> Iterator[Title]:
    seen: set[str] = set()
    for line, (imdb, name, year, genres) in _rows(path, ("imdb", "name", "year", "genres")):
        if imdb in seen or not imdb or not name or not (year.isdecimal() or not year):
            raise DataError(f"{path}, line {line}: needs a new imdb id, a name and a year")
        seen.add(imdb)
        title = Title(
            title_id=f"imdb:tt{imdb}",
            kind=TitleKind.MOVIE,
            name=name,
            year=int(year) if year else None,
            genres=tuple(genre for genre in genres.split("|") if genre),
            external_ids=(("imdb", f"tt{imdb}"),),
        )
        try:
            "".join(write_jsonl([title]))  # now, and not when a Bundle is packed
        except ValueError as error:
            raise DataError(f"{path}, line {line}: {error}") from error
        yield title


def _events(path: Path, rows: dict[str, int]) -> Iterator[tuple[int, int, int, int]]:
    for line, (user, imdb, rating, time) in _rows(path, ("user", "imdb", "rating", "time")):
        try:
            event = (int(user), rows[f"imdb:tt{imdb}"], int(rating), int(time))
        except (ValueError, KeyError) as error:
            raise DataError(
                f"{path}, line {line}: {error}; needs whole numbers and a known title"
            ) from error
        if not (0 <= event[0] < 2**53 and 0 <= event[2] <= 10 and 0 <= event[3] < 2**33):
            raise DataError(f"{path}, line {line}: needs a user, a rating 0 … 10, POSIX seconds")
        yield event


def split(interactions: Interactions, recipe: DataRecipe) -> Split:
    """Cut time at the recipe's quantiles of events."""
    cuts = np.quantile(interactions.times, (recipe.validation_quantile, recipe.test_quantile))
    digest = hashlib.sha256()
    columns = (interactions.users, interactions.items, interactions.ratings, interactions.times)
    for column in columns:
        digest.update(np.ascontiguousarray(column).astype("<f8").tobytes())
    digest.update("\n".join(title.title_id for title in interactions.titles).encode())
    digest.update(cuts.astype("<f8").tobytes())
    return Split(float(cuts[0]), float(cuts[1]), digest.hexdigest())


def targets(interactions: Interactions, start: float, end: float) -> list[Target]:
    """Every warm event with start ≤ time < end whose user has a history, by user and time.

    Warm: the title has an event before ``start``.
    """
    warm = interactions.counts(-np.inf, start) > 0
    found = []
    for user, rows in interactions.by_user.items():
        for place, row in enumerate(rows):
            inside = start <= interactions.times[row] < end
            if place and inside and warm[interactions.items[row]]:
                found.append(Target(user, int(interactions.items[row]), rows[:place]))
    if not found:
        raise DataError("the split leaves nothing to predict; move its quantiles")
    return found
