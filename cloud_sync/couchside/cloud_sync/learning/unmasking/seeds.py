"""``helper.db``: the seeds that the helper was shown, and what it once said of each Round.

The helper's whole promise is in here: a seed is kept only until its Round's one answer, which is
stored in the transaction that deletes the seeds (SQLite, WAL, synchronous=FULL, secure_delete). So
after a kill the same set gets the same answer, with the same noise, and another set never gets one:
two answers of one Round, subtracted, could be a single TV's Update.
"""

from __future__ import annotations

import hashlib
import sqlite3
from typing import TYPE_CHECKING

from couchside.cloud_sync.database import open_database
from couchside.cloud_sync.errors import RoundError
from couchside.device.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from couchside.device.learning.round import Round

SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE round (
    round_id INTEGER PRIMARY KEY, sha256 BLOB NOT NULL, closes_at INTEGER NOT NULL,
    names BLOB, answer BLOB) STRICT;
CREATE TABLE seed (
    round_id INTEGER NOT NULL, update_id BLOB NOT NULL, device TEXT NOT NULL, seed BLOB NOT NULL,
    PRIMARY KEY (round_id, update_id)) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX once ON seed (round_id, device);
"""
KEPT_S = 7 * 86_400
"""Seconds after the end of a Round until seeds and answer go; that it was, is kept for ever."""


class SeedStore:
    """The helper's memory.

    Args:
        file: the database, mode 0600; made if it is missing.

    Raises:
        StoreError: it can't be opened, or is of another version.
    """

    def __init__(self, file: Path) -> None:
        self._db = open_database(
            file,
            SCHEMA,
            SCHEMA_VERSION,
            otherwise="without it open Rounds can't be unmasked, abandon them",
            secure_delete=True,
        )
        try:
            self._scrub()  # the one before may have been killed between its answer and this
        except sqlite3.Error as error:
            self._db.close()
            raise StoreError(f"{file}: {error}") from error

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def keep(
        self, asked: Round, signed: bytes, updates: Iterable[tuple[bytes, str, bytes]]
    ) -> list[str]:
        """Keep the seeds of Updates; durable when this returns.

        Args:
            asked: the Round.
            signed: the same as it was signed.
            updates: update_id, device and seed of each.

        Returns:
            For each an empty word if its seed is kept now, else why not.

        Raises:
            RoundError: another Round had this number, or this one has had its answer.
        """
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            names, _answer = self._pinned(asked, signed)
            if names is not None:
                raise RoundError(f"round {asked.round_id} is over here")
            return [self._keep(asked.round_id, *update) for update in updates]

    def answer(
        self,
        asked: Round,
        signed: bytes,
        update_ids: tuple[bytes, ...],
        make: Callable[[list[bytes]], bytes],
    ) -> bytes:
        """The one answer of a Round: ``make`` of the seeds of a set, or what it was before.

        Args:
            asked: the Round.
            signed: the same as it was signed.
            update_ids: the set, sorted.
            make: seeds to answer; run at most once a Round.

        Raises:
            RoundError: another set has had the answer, or a seed of the set is not here.
        """
        named = hashlib.sha256(b"".join(update_ids)).digest()
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            names, answer = self._pinned(asked, signed)
            if names == named and answer is not None:
                return answer
            if names is not None:
                raise RoundError(f"round {asked.round_id} has had its one answer")
            made = make([self._seed(asked.round_id, update_id) for update_id in update_ids])
            self._db.execute(
                "UPDATE round SET names = ?, answer = ? WHERE round_id = ?",
                (named, made, asked.round_id),
            )
            self._db.execute("DELETE FROM seed WHERE round_id = ?", (asked.round_id,))
        self._scrub()
        return made

    def forget(self, now: float) -> None:
        """Drop seeds and answers of Rounds that ended long ago."""
        end = int(now) - KEPT_S
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(
                "DELETE FROM seed WHERE round_id IN "
                "(SELECT round_id FROM round WHERE closes_at < ?)",
                (end,),
            )
            gone = self._db.execute(
                "UPDATE round SET names = coalesce(names, x''), answer = NULL "
                "WHERE closes_at < ? AND (names IS NULL OR answer IS NOT NULL)",
                (end,),
            ).rowcount
        if gone:
            self._scrub()

    def seeds(self) -> int:
        """How many seeds are here."""
        return int(self._db.execute("SELECT count(*) FROM seed").fetchone()[0])

    def _pinned(self, asked: Round, signed: bytes) -> tuple[bytes | None, bytes | None]:
        """Name of the answered set and the answer of a Round, which is remembered from now on."""
        digest = hashlib.sha256(signed).digest()
        self._db.execute(
            "INSERT OR IGNORE INTO round VALUES (?, ?, ?, NULL, NULL)",
            (asked.round_id, digest, asked.closes_at),
        )
        sha256, names, answer = self._db.execute(
            "SELECT sha256, names, answer FROM round WHERE round_id = ?", (asked.round_id,)
        ).fetchone()
        if sha256 != digest:
            raise RoundError(f"round {asked.round_id} was another Round before")
        return names, answer

    def _keep(self, round_id: int, update_id: bytes, device: str, seed: bytes) -> str:
        try:
            self._db.execute(
                "INSERT INTO seed VALUES (?, ?, ?, ?)", (round_id, update_id, device, seed)
            )
        except sqlite3.IntegrityError:
            same = self._db.execute(
                "SELECT 1 FROM seed WHERE round_id = ? AND update_id = ? AND device = ? "
                "AND seed = ?",
                (round_id, update_id, device, seed),
            ).fetchone()
            return "" if same else "this TV or this Update has another seed in the Round"
        return ""

    def _seed(self, round_id: int, update_id: bytes) -> bytes:
        row = self._db.execute(
            "SELECT seed FROM seed WHERE round_id = ? AND update_id = ?", (round_id, update_id)
        ).fetchone()
        if row is None:
            raise RoundError(f"round {round_id}: the seed of {update_id.hex()} is not here")
        return bytes(row[0])

    def _scrub(self) -> None:
        """Deleted seeds must not stay readable in the write-ahead log."""
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
