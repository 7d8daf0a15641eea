"""How this package opens its databases: durable, private, and made once even by two processes.

SQLite in WAL mode with synchronous=FULL: with NORMAL a power cut loses what was committed.
"""

from __future__ import annotations

import os
import sqlite3
import time
from typing import TYPE_CHECKING

from couchside.device.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

BUSY_S = 10.0
"""Patience with another process that writes."""
PAUSE_S = 0.05


def open_database(
    file: Path, schema: str, version: int, *, otherwise: str, secure_delete: bool = False
) -> sqlite3.Connection:
    """Open a database, made with mode 0600 and ``schema`` where it is missing; autocommit.

    Args:
        file: its folder is made as well.
        schema: statements, each ended by a semicolon.
        version: of the schema.
        otherwise: what a person can do where it can't be opened.
        secure_delete: overwrite what is deleted.

    Raises:
        StoreError: it can't be opened, or is of a newer version.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        db = sqlite3.connect(file, isolation_level=None, timeout=BUSY_S)
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"{file}: {error}; {otherwise}") from error
    try:
        _switch_to_wal(db)
        db.execute("PRAGMA synchronous=FULL")
        db.execute(f"PRAGMA secure_delete={'ON' if secure_delete else 'OFF'}")
        _make_once(db, file, schema, version)
    except sqlite3.Error as error:
        db.close()
        raise StoreError(f"{file}: {error}; {otherwise}") from error
    except BaseException:
        db.close()
        raise
    return db


def _switch_to_wal(db: sqlite3.Connection) -> None:
    """SQLite does not wait by itself where two processes switch a new file at once."""
    end = time.monotonic() + BUSY_S
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(PAUSE_S)
        else:
            return


def _make_once(db: sqlite3.Connection, file: Path, schema: str, version: int) -> None:
    """Make the tables, if nobody has: looked at inside the transaction that makes them."""
    db.execute("BEGIN IMMEDIATE")
    found = db.execute("PRAGMA user_version").fetchone()[0]
    if found > version:
        raise StoreError(f"{file}: version {found}, this software knows {version}")
    if found == 0:
        for statement in filter(str.strip, schema.split(";")):
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {version}")
    db.execute("COMMIT")
