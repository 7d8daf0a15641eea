"""history.db as a file: its schema, opened safely, checked, migrated, moved aside when damaged."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING

from couchside.device.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

MIGRATIONS = (
    """
    CREATE TABLE events (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        boot_id TEXT NOT NULL,
        event_id TEXT NOT NULL,
        profile_id TEXT NOT NULL,
        title_id TEXT NOT NULL,
        kind TEXT NOT NULL,
        at REAL NOT NULL,
        position_s REAL,
        duration_s REAL,
        credits_s REAL
    );
    -- Partial: a heartbeat in a random place of an index would cost a page of flash each.
    CREATE UNIQUE INDEX events_by_id ON events (event_id) WHERE kind <> 'progress';
    CREATE TABLE profiles (
        profile_id TEXT PRIMARY KEY, name TEXT NOT NULL, max_maturity INTEGER
    ) WITHOUT ROWID;
    CREATE TABLE consent (
        purpose TEXT PRIMARY KEY, granted INTEGER NOT NULL, at REAL NOT NULL
    ) WITHOUT ROWID;
    INSERT INTO profiles VALUES ('household', 'Household', NULL);
    INSERT INTO sqlite_sequence VALUES ('events', 0);
    """,
    """
    -- What was given away, and to which Round. Outlives every "forget": the past can't be undone.
    CREATE TABLE ledger (
        round_id INTEGER PRIMARY KEY,
        update_id TEXT NOT NULL,
        rho REAL NOT NULL,
        at REAL NOT NULL,
        sequence INTEGER NOT NULL,
        verdict TEXT NOT NULL
    );
    CREATE TABLE personal (
        profile_id TEXT PRIMARY KEY,
        bundle_id TEXT NOT NULL,
        sequence INTEGER NOT NULL,
        learned BLOB NOT NULL
    ) WITHOUT ROWID;
    """,
)
"""Numbered by place; history.db's ``user_version`` counts those that ran. Append only."""

_PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "secure_delete = ON",
    "temp_store = MEMORY",
    "cache_size = -512",
)


def open_history(path: Path) -> tuple[sqlite3.Connection, Path | None]:
    """Open history.db, made with mode 0600 where it is missing.

    Returns:
        The connection, and where a damaged file went if one was in the way.

    Raises:
        StoreError: the file can't be opened, or a newer Couchside wrote it.
    """
    try:
        return _connect(path), None
    except sqlite3.OperationalError as error:
        raise StoreError(f"{path}: {error}; check the state folder's rights") from error
    except sqlite3.DatabaseError:
        aside = _move_aside(path)
        return _connect(path), aside


def remove_damaged(path: Path) -> None:
    """Delete files that were moved aside: nobody can tell what is in them."""
    for damaged in path.parent.glob(path.name + ".damaged-*"):
        damaged.unlink()


def _connect(path: Path) -> sqlite3.Connection:
    """Open, check and migrate; a damaged file raises sqlite3.DatabaseError."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}; check the state folder's rights") from error
    db = sqlite3.connect(path, check_same_thread=False)
    try:
        for pragma in _PRAGMAS:
            db.execute(f"PRAGMA {pragma}").fetchone()
        _check(db)
        _migrate(db, path)
    except BaseException:
        db.close()
        raise
    return db


def _check(db: sqlite3.Connection) -> None:
    verdict = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise StoreError(
            f"{path}: written by a newer Couchside (schema {version}, this one knows "
            f"{len(MIGRATIONS)}); install that version again, or move the file away"
        )
    for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
        db.executescript(f"BEGIN;{script}PRAGMA user_version = {number};COMMIT;")


def _move_aside(path: Path) -> Path:
    """Rename a damaged database and its log; nothing is deleted that a person may want."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    path.rename(aside)
    for suffix in ("-wal", "-shm"):
        log = path.with_name(path.name + suffix)
        if log.exists():
            log.rename(aside.with_name(aside.name + suffix))
    return aside
