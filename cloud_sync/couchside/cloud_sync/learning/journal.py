"""``rounds.db``: every Round and what is in its sum; the only SQL of the cloud's side.

The masked sum, the names of the Updates in it and the TVs that sent them change in one transaction
(SQLite, WAL, synchronous=FULL), and receipts go out after it. So a kill or a power cut at any
moment counts nothing twice and loses nothing that has a receipt. ``round open``, ``round close``
and the aggregator are processes of their own around this file: who folds must know the sum that it
adds to, else nothing is written.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING

from couchside.cloud_sync.database import open_database
from couchside.cloud_sync.errors import RoundError
from couchside.cloud_sync.learning.rounds import Refusal, State, move
from couchside.cloud_sync.learning.summing.aggregate import Accumulator

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE round (
    round_id INTEGER PRIMARY KEY, channel TEXT NOT NULL, signed BLOB NOT NULL,
    state TEXT NOT NULL, total BLOB NOT NULL, folded INTEGER NOT NULL,
    sealed_at INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE UNIQUE INDEX live ON round (channel) WHERE state IN ('open', 'sealed');
CREATE TABLE folded (
    round_id INTEGER NOT NULL, update_id BLOB NOT NULL, device TEXT NOT NULL,
    PRIMARY KEY (round_id, update_id)) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX once ON folded (round_id, device);
CREATE TABLE refused (
    round_id INTEGER NOT NULL, why TEXT NOT NULL, updates INTEGER NOT NULL,
    PRIMARY KEY (round_id, why)) STRICT, WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """A Round as it is on the disk."""

    round_id: int
    channel: str
    signed: bytes
    state: State
    folded: int
    """TVs in the sum."""
    sealed_at: int
    """POSIX seconds; 0 while it is open."""


class Journal:
    """The memory of Rounds.

    Args:
        file: the database; made if it is missing.

    Raises:
        StoreError: it can't be opened, or is of another version.
    """

    def __init__(self, file: Path) -> None:
        self._db = open_database(
            file, SCHEMA, SCHEMA_VERSION, otherwise="move it away to start without Rounds"
        )

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def next_id(self) -> int:
        """Number of the next Round."""
        return int(
            self._db.execute("SELECT coalesce(max(round_id), 0) + 1 FROM round").fetchone()[0]
        )

    def open(self, round_id: int, channel: str, signed: bytes, values: int) -> None:
        """Begin a Round of so many values; durable when this returns.

        Raises:
            RoundError: the channel has one that is not over.
        """
        empty = Accumulator.empty(values).dumped()
        try:
            self._db.execute(
                "INSERT INTO round VALUES (?, ?, ?, ?, ?, 0, 0)",
                (round_id, channel, signed, State.OPEN, empty),
            )
        except sqlite3.IntegrityError as error:
            raise RoundError(
                f"channel {channel} has a Round that is not over; "
                f"first: couchside-cloud round close --channel {channel}"
            ) from error

    def get(self, round_id: int) -> Kept | None:
        """A Round; None if there was none of this number."""
        row = self._db.execute(f"{_SELECT} WHERE round_id = ?", (round_id,)).fetchone()
        return _kept(row) if row else None

    def live(self, channel: str) -> Kept | None:
        """The channel's Round that is open or sealed, if there is one."""
        row = self._db.execute(
            f"{_SELECT} WHERE channel = ? AND state IN ('open', 'sealed')", (channel,)
        ).fetchone()
        return _kept(row) if row else None

    def all(self) -> list[Kept]:
        """Every Round, newest first."""
        rows = self._db.execute(f"{_SELECT} ORDER BY round_id DESC")
        return [_kept(row) for row in rows]

    def total(self, round_id: int) -> Accumulator:
        """The sum of a Round.

        Raises:
            RoundError: there is no such Round.
        """
        row = self._db.execute(
            "SELECT total, folded FROM round WHERE round_id = ?", (round_id,)
        ).fetchone()
        if row is None:
            raise RoundError(f"there is no round {round_id}")
        return Accumulator.loaded(*row)

    def holds(self, round_id: int, update_id: bytes, device: str) -> str:
        """How the sum of a Round holds this Update or this TV already; empty if it does not."""
        row = self._db.execute(
            "SELECT update_id FROM folded WHERE round_id = ? AND (update_id = ? OR device = ?)",
            (round_id, update_id, device),
        ).fetchone()
        if row is None:
            return ""
        return "it was counted" if row[0] == update_id else "another Update of this TV was counted"

    def fold(
        self, round_id: int, before: int, after: Accumulator, updates: Iterable[tuple[bytes, str]]
    ) -> None:
        """Replace the sum by ``after``; durable when this returns.

        Args:
            round_id: an open Round.
            before: how many TVs the sum held that ``after`` was added to.
            after: the new sum.
            updates: update_id and device of each that was added.

        Raises:
            RoundError: the Round is not open, its sum is another one by now, or an Update or TV is
                in it already; nothing has changed.
        """
        rows = [(round_id, update_id, device) for update_id, device in updates]
        try:
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                done = self._db.execute(
                    "UPDATE round SET total = ?, folded = ? "
                    "WHERE round_id = ? AND state = 'open' AND folded = ?",
                    (after.dumped(), after.folded, round_id, before),
                )
                if done.rowcount != 1 or after.folded != before + len(rows):
                    raise RoundError(f"round {round_id}: its sum moved on; nothing was added")
                self._db.executemany("INSERT INTO folded VALUES (?, ?, ?)", rows)
        except sqlite3.IntegrityError as error:
            raise RoundError(f"round {round_id}: a TV would count twice") from error

    def update_ids(self, round_id: int) -> tuple[bytes, ...]:
        """Names of the Updates in a sum, sorted."""
        rows = self._db.execute(
            "SELECT update_id FROM folded WHERE round_id = ? ORDER BY update_id", (round_id,)
        )
        return tuple(row[0] for row in rows)

    def move(self, round_id: int, to: State, now: int) -> None:
        """Take a Round to its next state; durable when this returns.

        Raises:
            RoundError: there is no such Round, or no way from where it is.
        """
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            kept = self.get(round_id)
            if kept is None:
                raise RoundError(f"there is no round {round_id}")
            sealed_at = now if to == State.SEALED else kept.sealed_at
            self._db.execute(
                "UPDATE round SET state = ?, sealed_at = ? WHERE round_id = ?",
                (move(round_id, kept.state, to), sealed_at, round_id),
            )

    def count_refused(self, round_id: int, counts: Mapping[Refusal, int]) -> None:
        """Add to the counters of Updates that were not folded."""
        self._db.executemany(
            "INSERT INTO refused VALUES (?, ?, ?) "
            "ON CONFLICT (round_id, why) DO UPDATE SET updates = updates + excluded.updates",
            [(round_id, why, number) for why, number in counts.items()],
        )

    def refused(self, round_id: int) -> dict[str, int]:
        """Updates that were not folded, by reason."""
        rows = self._db.execute(
            "SELECT why, updates FROM refused WHERE round_id = ? ORDER BY why", (round_id,)
        )
        return dict(rows.fetchall())


_SELECT = "SELECT round_id, channel, signed, state, folded, sealed_at FROM round"


def _kept(row: tuple[int, str, bytes, str, int, int]) -> Kept:
    round_id, channel, signed, state, folded, sealed_at = row
    return Kept(round_id, channel, signed, State(state), folded, sealed_at)
