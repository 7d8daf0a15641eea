"""A change of cache.db under way: one transaction, so that a source is replaced whole or not.

A *source* is the guide, or an app's films. Titles that leave it but occur in the household's
history are kept without a source: they can't be shown, but the user model still reads them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from couchside.device.records import Title, TitleKind

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

FIELDS = tuple(field.name for field in fields(Title))
"""Columns of a title, in order."""
_LISTS = frozenset(("genres", "people", "external_ids"))
"""Kept as JSON text."""
_COLUMNS = ("source", "load", "added_at", "item_row", "digest", *FIELDS)
_PUT = (
    f"INSERT INTO titles ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608
    " ON CONFLICT (title_id) DO UPDATE SET "
    # A title that was there keeps the time at which it came.
    + ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS if name != "added_at")
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A title on its way into the cache."""

    title: Title
    digest: str
    """Names the text that its vector is made from."""
    item_row: int | None
    """Of the Bundle's item table; None if the Bundle does not know the title."""


class Loading:
    """The transaction that ``TitleCache.loading`` opened.

    Args:
        db: inside that transaction.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        last = db.execute("SELECT ifnull(max(load), 0) FROM titles").fetchone()[0]
        self._load = last + 1

    def finish(self) -> None:
        """Drop vectors that no title needs, and index the words of what has a source.

        All words are indexed anew: cheap at this size, and forgotten ones leave no trace.
        """
        self._db.execute(
            "DELETE FROM vectors WHERE digest NOT IN"
            " (SELECT digest FROM titles WHERE item_row IS NULL)"
        )
        self._db.execute("INSERT INTO words (words) VALUES ('delete-all')")
        self._db.execute(
            "INSERT INTO words (rowid, name, people, genres, synopsis)"
            " SELECT row, name, people, genres, synopsis FROM titles WHERE source IS NOT NULL"
        )

    def set_bundle(self, bundle_id: str, keys: Iterable[tuple[str, int]]) -> None:
        """Make the cache belong to another Bundle, whose titles go by ``keys`` (key, item row).

        Vectors made for the Bundle before are dropped.
        """
        self._db.execute("DELETE FROM item_rows")
        self._db.execute("DELETE FROM vectors")
        self._db.executemany("INSERT OR REPLACE INTO item_rows VALUES (?, ?)", keys)
        self._db.execute("INSERT OR REPLACE INTO meta VALUES ('bundle_id', ?)", (bundle_id,))

    def item_row(self, title: Title) -> int | None:
        """Row of the Bundle's item table that is this title, by its external ids or its own."""
        keys = [f"{scheme}:{value}" for scheme, value in title.external_ids] + [title.title_id]
        row = self._db.execute(
            "SELECT row FROM item_rows WHERE key IN (SELECT value FROM json_each(?)) LIMIT 1",
            (json.dumps(keys),),
        ).fetchone()
        return None if row is None else int(row[0])

    def conflicts(self, source: str, title_ids: Sequence[str]) -> dict[str, str]:
        """Which of ``title_ids`` can't be put, and why: here already, from here or elsewhere."""
        rows = self._db.execute(
            "SELECT title_id, source FROM titles"
            " WHERE title_id IN (SELECT value FROM json_each(?1))"
            " AND (source <> ?2 OR (source = ?2 AND load = ?3))",
            (json.dumps(title_ids), source, self._load),
        )
        return {
            title_id: "occurs twice" if owner == source else f"belongs to source {owner!r}"
            for title_id, owner in rows
        }

    def has_source(self, source: str) -> bool:
        """Whether the source was loaded before."""
        found = self._db.execute("SELECT 1 FROM titles WHERE source = ? LIMIT 1", (source,))
        return found.fetchone() is not None

    def put(self, source: str, entries: Iterable[Entry], added_at: float | None) -> None:
        """Add or refresh titles; ``added_at`` (POSIX seconds) counts for those that are new."""
        self._db.executemany(
            _PUT,
            (
                (source, self._load, added_at, entry.item_row, entry.digest, *_row(entry.title))
                for entry in entries
            ),
        )

    def without_vector(self, digests: Collection[str]) -> set[str]:
        """Those of ``digests`` that no vector was made for yet."""
        rows = self._db.execute(
            "SELECT digest FROM vectors WHERE digest IN (SELECT value FROM json_each(?))",
            (json.dumps(list(digests)),),
        )
        return set(digests) - {row[0] for row in rows}

    def put_vectors(self, vectors: Mapping[str, bytes]) -> None:
        """Keep vectors (float32, little-endian) by the digest of the text they were made from."""
        self._db.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", vectors.items())

    def finish_source(self, source: str, keep: Collection[str]) -> int:
        """Drop what this load did not bring, except titles in ``keep``; titles it now has."""
        self._db.execute(
            "UPDATE titles SET source = NULL WHERE source = ? AND load <> ?", (source, self._load)
        )
        self.drop_unowned(keep)
        count = self._db.execute("SELECT count(*) FROM titles WHERE source = ?", (source,))
        return int(count.fetchone()[0])

    def drop_unowned(self, keep: Collection[str]) -> None:
        """Drop titles that no source has, except those in ``keep`` (the household's history)."""
        self._db.execute(
            "DELETE FROM titles WHERE source IS NULL"
            " AND title_id NOT IN (SELECT value FROM json_each(?))",
            (json.dumps(list(keep)),),
        )

    def titles(self, size: int) -> Iterator[list[Title]]:
        """Every title, in lists of at most ``size``."""
        cursor = self._db.execute(f"SELECT {', '.join(FIELDS)} FROM titles ORDER BY row")  # noqa: S608
        while rows := cursor.fetchmany(size):
            yield [title_of(row) for row in rows]

    def set_item_rows(self, entries: Iterable[Entry]) -> None:
        """Tie titles that are here already to (other) rows of the Bundle's item table."""
        self._db.executemany(
            "UPDATE titles SET item_row = ? WHERE title_id = ?",
            ((entry.item_row, entry.title.title_id) for entry in entries),
        )


def _row(title: Title) -> tuple[object, ...]:
    """Column values of a title, in the order of FIELDS."""
    return tuple(
        json.dumps(getattr(title, name), ensure_ascii=False)
        if name in _LISTS
        else getattr(title, name)
        for name in FIELDS
    )


def title_of(row: tuple[Any, ...]) -> Title:
    """The title with these column values, in the order of FIELDS."""
    values = dict(zip(FIELDS, row, strict=True))
    values["kind"] = TitleKind(values["kind"])
    for name in ("genres", "people"):
        values[name] = tuple(json.loads(values[name]))
    values["external_ids"] = tuple((a, b) for a, b in json.loads(values["external_ids"]))
    return Title(**values)
