"""cache.db: the titles this TV can show, their words for search, and vectors made here.

The only SQL for that file. Everything in it can be made again from the guide and the Bundle, so a
damaged or outdated file is simply deleted. Full titles stay on disk and are fetched for the cards
that are shown; ``catalogue`` keeps compact arrays of the rest.

A *source* (the guide, an app's films) is replaced as a whole, in one transaction. Titles that
leave it but occur in the household's history are kept without a source: they can't be shown, but
the user model still reads them.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from couchside.device.errors import StoreError
from couchside.device.records import Title, TitleKind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

SCHEMA_VERSION = 1
_FIELDS = tuple(field.name for field in fields(Title))
_LISTS = ("genres", "people", "external_ids")

_SCHEMA = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE titles (
    row INTEGER PRIMARY KEY,
    source TEXT,              -- NULL: kept for the history alone
    load INTEGER NOT NULL,    -- number of the load that brought it
    added_at REAL,            -- NULL: part of the first stock of its source
    item_row INTEGER,         -- of the Bundle's item table; NULL: encoded here
    digest BLOB NOT NULL,     -- of what the text encoder reads
    {", ".join(f"{name} {'TEXT UNIQUE NOT NULL' if name == 'title_id' else ''}" for name in _FIELDS)}
);
CREATE TABLE item_rows (key TEXT PRIMARY KEY, row INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE vectors (digest BLOB PRIMARY KEY, vector BLOB NOT NULL) WITHOUT ROWID;
CREATE VIRTUAL TABLE words USING fts5(
    name, people, genres, synopsis,
    content = 'titles', content_rowid = 'row', tokenize = "unicode61 remove_diacritics 2"
);
PRAGMA user_version = {SCHEMA_VERSION};
"""

_WORD_WEIGHTS = "10.0, 4.0, 3.0, 1.0"
"""BM25 weights of name, people, genres, synopsis: who says a name means the name."""


@dataclass(frozen=True, slots=True)
class Face:
    """What a card shows of a title."""

    title_id: str
    name: str
    deep_link: str | None
    artwork: str | None


@dataclass(frozen=True, slots=True)
class Entry:
    """A title on its way into the cache."""

    title: Title
    digest: bytes
    item_row: int | None


class TitleCache:
    """cache.db behind one lock; a load in progress has a connection of its own.

    Raises:
        StoreError: the file can't be opened or made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._db = _open(path)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    @contextmanager
    def loading(self) -> Iterator[Loading]:
        """One transaction that changes the catalogue; readers see the old one until it is over.

        An exception leaves everything as it was. Afterwards no deleted byte is left in the log.
        """
        with closing(_connect(self.path)) as db:
            db.isolation_level = None
            db.execute("BEGIN IMMEDIATE")
            try:
                loading = Loading(db)
                yield loading
                loading.finish()
                db.execute("COMMIT")
            except BaseException:
                db.execute("ROLLBACK")
                raise
        with self._lock:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def bundle_id(self) -> str | None:
        """The Bundle that ``item_row`` and the vectors belong to."""
        with self._lock:
            row = self._db.execute("SELECT value FROM meta WHERE key = 'bundle_id'").fetchone()
        return None if row is None else str(row[0])

    def sources(self) -> dict[str, int]:
        """Number of titles by source."""
        with self._lock:
            rows = self._db.execute(
                "SELECT source, count(*) FROM titles WHERE source IS NOT NULL GROUP BY source"
            )
            return dict(rows.fetchall())

    def count(self) -> int:
        """Titles in all, with those kept for the history."""
        with self._lock:
            return int(self._db.execute("SELECT count(*) FROM titles").fetchone()[0])

    def columns(self, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """The named columns of every title in row order, and last its vector made here or None."""
        with self._lock:
            yield from self._db.execute(
                f"SELECT {', '.join('titles.' + name for name in names)}, vector FROM titles"
                " LEFT JOIN vectors ON item_row IS NULL AND vectors.digest = titles.digest"
                " ORDER BY titles.row"
            )

    def faces(self, title_ids: Collection[str]) -> dict[str, Face]:
        """What cards show, by title_id; titles that are gone are left out."""
        with self._lock:
            rows = self._db.execute(
                "SELECT title_id, name, deep_link, artwork FROM titles"
                f" WHERE title_id IN ({', '.join('?' * len(title_ids))})",
                tuple(title_ids),
            )
            return {row[0]: Face(*row) for row in rows}

    def title(self, title_id: str) -> Title | None:
        """The full title, if it is here."""
        with self._lock:
            row = self._db.execute(
                f"SELECT {', '.join(_FIELDS)} FROM titles WHERE title_id = ?", (title_id,)
            ).fetchone()
        return None if row is None else _title(row)

    def match(self, words: Sequence[str], limit: int) -> list[str]:
        """Best title_ids for ``words`` by BM25, best first; the last word may be unfinished."""
        if not words:
            return []
        # Quoted, so that nothing a viewer says can be FTS syntax.
        terms = ['"' + word.replace('"', '""') + '"' for word in words]
        with self._lock:
            rows = self._db.execute(
                "SELECT titles.title_id FROM words JOIN titles ON titles.row = words.rowid"
                f" WHERE words MATCH ? ORDER BY bm25(words, {_WORD_WEIGHTS}), titles.row LIMIT ?",
                (" OR ".join(terms) + " *", limit),
            )
            return [row[0] for row in rows]


class Loading:
    """A change of the catalogue under way (``TitleCache.loading``)."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        last = db.execute("SELECT ifnull(max(load), 0) FROM titles").fetchone()[0]
        self._load = last + 1

    def finish(self) -> None:
        """Drop vectors that no title needs, and index the words."""
        self._db.execute(
            "DELETE FROM vectors WHERE digest NOT IN"
            " (SELECT digest FROM titles WHERE item_row IS NULL)"
        )
        self._index()

    def _index(self) -> None:
        """Index anew what has a source: cheap at this size, and forgotten words leave no trace."""
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
            f"SELECT row FROM item_rows WHERE key IN ({', '.join('?' * len(keys))}) LIMIT 1", keys
        ).fetchone()
        return None if row is None else int(row[0])

    def conflicts(self, source: str, title_ids: Sequence[str]) -> dict[str, str]:
        """Which of ``title_ids`` can't be put, and why: here already, from here or elsewhere."""
        rows = self._db.execute(
            "SELECT title_id, source, load FROM titles WHERE source IS NOT NULL"
            f" AND title_id IN ({', '.join('?' * len(title_ids))})",
            tuple(title_ids),
        )
        return {
            title_id: "occurs twice" if owner == source else f"belongs to source {owner!r}"
            for title_id, owner, load in rows
            if owner != source or load == self._load
        }

    def has_source(self, source: str) -> bool:
        """Whether the source was loaded before."""
        found = self._db.execute("SELECT 1 FROM titles WHERE source = ? LIMIT 1", (source,))
        return found.fetchone() is not None

    def put(self, source: str, entries: Iterable[Entry], added_at: float | None) -> None:
        """Add or refresh titles; a title that was there keeps the time at which it came."""
        columns = ("source", "load", "added_at", "item_row", "digest", *_FIELDS)
        refreshed = [name for name in columns if name not in ("added_at", "title_id")]
        self._db.executemany(
            f"INSERT INTO titles ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
            " ON CONFLICT (title_id) DO UPDATE SET "
            + ", ".join(f"{name} = excluded.{name}" for name in refreshed),
            (
                (source, self._load, added_at, entry.item_row, entry.digest, *_row(entry.title))
                for entry in entries
            ),
        )

    def without_vector(self, digests: Collection[bytes]) -> set[bytes]:
        """Those of ``digests`` that no vector was made for yet."""
        rows = self._db.execute(
            f"SELECT digest FROM vectors WHERE digest IN ({', '.join('?' * len(digests))})",
            tuple(digests),
        )
        return set(digests) - {row[0] for row in rows}

    def put_vectors(self, vectors: Mapping[bytes, bytes]) -> None:
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
        self._db.execute("CREATE TEMP TABLE keep (title_id TEXT PRIMARY KEY) WITHOUT ROWID")
        self._db.executemany("INSERT INTO keep VALUES (?)", ((title_id,) for title_id in keep))
        self._db.execute(
            "DELETE FROM titles WHERE source IS NULL"
            " AND title_id NOT IN (SELECT title_id FROM keep)"
        )
        self._db.execute("DROP TABLE keep")

    def titles(self, size: int) -> Iterator[list[Title]]:
        """Every title, in lists of at most ``size``."""
        cursor = self._db.execute(f"SELECT {', '.join(_FIELDS)} FROM titles ORDER BY row")
        while rows := cursor.fetchmany(size):
            yield [_title(row) for row in rows]

    def set_item_rows(self, entries: Iterable[Entry]) -> None:
        """Tie titles that are here already to (other) rows of the Bundle's item table."""
        self._db.executemany(
            "UPDATE titles SET item_row = ? WHERE title_id = ?",
            ((entry.item_row, entry.title.title_id) for entry in entries),
        )


def _open(path: Path) -> sqlite3.Connection:
    """Open cache.db, making it anew where it is damaged or of another version."""
    try:
        try:
            return _prepare(_connect(path))
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            return _prepare(_connect(path))
    except (sqlite3.Error, OSError) as error:
        raise StoreError(
            f"{path}: {error}; it holds nothing that can't be made again, so delete it"
        ) from error


def _connect(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    db = sqlite3.connect(path, check_same_thread=False)
    try:
        for pragma in (
            "journal_mode = WAL",
            "synchronous = NORMAL",
            # What is only kept for the history is history: it must go when it is forgotten.
            "secure_delete = ON",
            "temp_store = MEMORY",
            "cache_size = -1024",
        ):
            db.execute(f"PRAGMA {pragma}").fetchone()
    except BaseException:
        db.close()
        raise
    return db


def _prepare(db: sqlite3.Connection) -> sqlite3.Connection:
    """Make the schema in an empty file; refuse another version and damage."""
    try:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0 and not db.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone():
            db.executescript(f"BEGIN;{_SCHEMA}COMMIT;")
        elif version != SCHEMA_VERSION:
            raise sqlite3.DatabaseError(f"schema {version}, not {SCHEMA_VERSION}")
        if db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("damaged")
    except BaseException:
        db.close()
        raise
    return db


def _row(title: Title) -> tuple[object, ...]:
    """Column values of a title, in the order of its fields."""
    return tuple(
        json.dumps(getattr(title, name), ensure_ascii=False)
        if name in _LISTS
        else getattr(title, name)
        for name in _FIELDS
    )


def _title(row: tuple[Any, ...]) -> Title:
    values = dict(zip(_FIELDS, row, strict=True))
    values["kind"] = TitleKind(values["kind"])
    for name in ("genres", "people"):
        values[name] = tuple(json.loads(values[name]))
    values["external_ids"] = tuple((a, b) for a, b in json.loads(values["external_ids"]))
    return Title(**values)
