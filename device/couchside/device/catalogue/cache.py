"""cache.db: the titles this TV can show, their words for search, and vectors made here.

Everything in it can be made again from the guide and the Bundle, so a damaged or outdated file is
simply deleted. Full titles stay on disk and are fetched for the cards that are shown; ``arrays``
keeps compact columns of the rest. This module reads, ``loading`` writes: the only SQL for the file.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from couchside.device.catalogue.loading import FIELDS, Loading, title_of
from couchside.device.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from couchside.device.records import Title

SCHEMA_VERSION = 1
_TITLE_COLUMNS = ", ".join(FIELDS)

_SCHEMA = f"""
BEGIN;
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE titles (
    row INTEGER PRIMARY KEY,
    source TEXT,              -- NULL: kept for the history alone
    load INTEGER NOT NULL,    -- number of the load that brought it
    added_at REAL,            -- NULL: part of the first stock of its source
    item_row INTEGER,         -- of the Bundle's item table; NULL: encoded here
    digest TEXT NOT NULL,     -- of what the text encoder reads
    {_TITLE_COLUMNS},
    UNIQUE (title_id)
);
CREATE TABLE item_rows (key TEXT PRIMARY KEY, row INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE vectors (digest TEXT PRIMARY KEY, vector BLOB NOT NULL) WITHOUT ROWID;
CREATE VIRTUAL TABLE words USING fts5(
    name, people, genres, synopsis,
    content = 'titles', content_rowid = 'row', tokenize = "unicode61 remove_diacritics 2"
);
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""

_PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = NORMAL",
    # What is only kept for the history is history: it must go when it is forgotten.
    "secure_delete = ON",
    "temp_store = MEMORY",
    "cache_size = -1024",
)


@dataclass(frozen=True, slots=True)
class Face:
    """What a card shows of a title."""

    title_id: str
    name: str
    deep_link: str | None
    artwork: str | None


class TitleCache:
    """cache.db behind one lock; a load in progress has a connection of its own.

    Args:
        path: the file; made if it is missing.

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
        columns = ", ".join(f"titles.{name}" for name in names)
        with self._lock:
            yield from self._db.execute(
                f"SELECT {columns}, vector FROM titles"  # noqa: S608 - our own names
                " LEFT JOIN vectors ON item_row IS NULL AND vectors.digest = titles.digest"
                " ORDER BY titles.row"
            )

    def faces(self, title_ids: Collection[str]) -> dict[str, Face]:
        """What cards show, by title_id; titles that are gone are left out."""
        with self._lock:
            rows = self._db.execute(
                "SELECT title_id, name, deep_link, artwork FROM titles"
                " WHERE title_id IN (SELECT value FROM json_each(?))",
                (json.dumps(list(title_ids)),),
            )
            return {row[0]: Face(*row) for row in rows}

    def title(self, title_id: str) -> Title | None:
        """The full title, if it is here."""
        with self._lock:
            row = self._db.execute(
                f"SELECT {_TITLE_COLUMNS} FROM titles WHERE title_id = ?",  # noqa: S608
                (title_id,),
            ).fetchone()
        return None if row is None else title_of(row)

    def match(self, words: Sequence[str], limit: int) -> list[str]:
        """Best title_ids for ``words`` by BM25, best first; the last word may be unfinished."""
        if not words:
            return []
        # Quoted, so that nothing a viewer says can be FTS syntax.
        terms = ['"' + word.replace('"', '""').replace("\0", " ") + '"' for word in words]
        with self._lock:
            rows = self._db.execute(
                "SELECT titles.title_id FROM words JOIN titles ON titles.row = words.rowid"
                " WHERE words MATCH ?"
                # Weights of name, people, genres, synopsis: who says a name means the name.
                " ORDER BY bm25(words, 10.0, 4.0, 3.0, 1.0), titles.row LIMIT ?",
                (" OR ".join(terms) + " *", limit),
            )
            return [row[0] for row in rows]


def _open(path: Path) -> sqlite3.Connection:
    """Open cache.db, making it anew where it is damaged or of another version."""
    try:
        try:
            return _prepared(path)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            return _prepared(path)
    except (sqlite3.Error, OSError) as error:
        raise StoreError(
            f"{path}: {error}; it holds nothing that can't be made again, so delete it"
        ) from error


def _connect(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    db = sqlite3.connect(path, check_same_thread=False)
    try:
        for pragma in _PRAGMAS:
            db.execute(f"PRAGMA {pragma}").fetchone()
    except BaseException:
        db.close()
        raise
    return db


def _prepared(path: Path) -> sqlite3.Connection:
    """A connection to a file with our schema, made in an empty one.

    Raises:
        sqlite3.DatabaseError: it has another schema, or is damaged.
    """
    db = _connect(path)
    try:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0 and not db.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone():
            db.executescript(_SCHEMA)
            version = SCHEMA_VERSION
        _expect(version, SCHEMA_VERSION)
        _expect(db.execute("PRAGMA quick_check(1)").fetchone()[0], "ok")
    except BaseException:
        db.close()
        raise
    return db


def _expect(found: object, wanted: object) -> None:
    if found != wanted:
        raise sqlite3.DatabaseError(f"{found}, not {wanted}")
