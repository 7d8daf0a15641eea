"""``sync.db``: what must never be forgotten, so that nothing older is ever accepted again.

python-tuf keeps its floors in the metadata it cached; a wiped cache would let a TV be rolled back.
These are apart, in SQLite with synchronous=FULL. A time floor stands in for the clock of a TV that
wakes up in 1970.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from couchside.cloud_sync.database import open_database

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE floor (role TEXT PRIMARY KEY, version INTEGER NOT NULL, keys TEXT NOT NULL) STRICT;
CREATE TABLE clock (one INTEGER PRIMARY KEY CHECK (one = 1), at INTEGER NOT NULL) STRICT;
CREATE TABLE outcome (
    bundle_id TEXT PRIMARY KEY, version INTEGER NOT NULL, flavour TEXT NOT NULL,
    refused TEXT NOT NULL, at INTEGER NOT NULL) STRICT;
"""
REMEMBERED = 64
"""Outcomes kept."""


class Floors:
    """The installer's memory.

    Args:
        file: the database; made if it is missing.

    Raises:
        StoreError: it can't be opened, or is of another version.
    """

    def __init__(self, file: Path) -> None:
        # Private: the installer's group may read the folder, for the sake of the slots.
        self._db = open_database(
            file, SCHEMA, SCHEMA_VERSION, otherwise="move it away to start without floors"
        )

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def time(self) -> int:
        """POSIX seconds that have certainly passed."""
        row = self._db.execute("SELECT at FROM clock").fetchone()
        return int(row[0]) if row else 0

    def of(self, role: str) -> tuple[int, str]:
        """The lowest acceptable version of a role, and the keys under which it was seen."""
        row = self._db.execute("SELECT version, keys FROM floor WHERE role = ?", (role,)).fetchone()
        return (int(row[0]), str(row[1])) if row else (0, "")

    def raise_to(self, floors: Mapping[str, tuple[int, str]], time: int) -> None:
        """Set floors of roles and lift the time floor; durable when this returns."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(
                "INSERT OR REPLACE INTO floor VALUES (?, ?, ?)",
                [(role, version, keys) for role, (version, keys) in floors.items()],
            )
            self._db.execute(
                "INSERT INTO clock VALUES (1, ?) "
                "ON CONFLICT (one) DO UPDATE SET at = max(at, excluded.at)",
                (time,),
            )

    def refused(self, bundle_id: str) -> str:
        """Why this Bundle failed its tests here; empty if it did not."""
        row = self._db.execute(
            "SELECT refused FROM outcome WHERE bundle_id = ?", (bundle_id,)
        ).fetchone()
        return str(row[0]) if row else ""

    def record(self, bundle_id: str, version: int, flavour: str, refused: str, at: int) -> None:
        """Remember how the installation of a Bundle went; ``refused`` is empty if well."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(
                "INSERT OR REPLACE INTO outcome VALUES (?, ?, ?, ?, ?)",
                (bundle_id, version, flavour, refused, at),
            )
            self._db.execute(
                "DELETE FROM outcome WHERE bundle_id NOT IN "
                "(SELECT bundle_id FROM outcome ORDER BY version DESC, at DESC LIMIT ?)",
                (REMEMBERED,),
            )
