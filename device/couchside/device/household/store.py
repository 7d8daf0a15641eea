"""history.db: what the household watched, said and allowed. The only SQL for that file.

SQLite in WAL mode with ``synchronous=FULL`` (with NORMAL a power cut loses acknowledged events)
and ``secure_delete=ON`` (without it a deleted title stays readable in the file). Heartbeats
(``progress``) gather in memory for ``buffer_s`` and go out together, which spares the flash: the
bench measures how much, and the manual says what a longer wait would spare. Order is the sequence
number, never the clock: a TV without a battery boots into 1970.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from couchside.device.errors import RequestError, StoreError
from couchside.device.household.schema import open_history, remove_damaged
from couchside.device.records import EventKind, Profile, ViewingEvent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOUSEHOLD = "household"
"""The profile that is always there: nobody in particular."""

RECENT = 1000
"""Events among which a repeated heartbeat is recognised; other kinds are recognised for ever."""
PAGE = 500
"""Events read at once."""
TRIM_EVERY = 1000
"""Events between two looks at whether history.db has grown too large."""


class Purpose(StrEnum):
    """What a household may allow; nothing is allowed until it says so."""

    LEARNING = "learning"  # clipped and masked model updates leave the TV
    POPULARITY = "popularity"  # this TV counts in the summed histogram of titles
    HEALTH = "health"  # noised counters about the software leave the TV


class Acknowledgement(StrEnum):
    """What happened to an event."""

    STORED = "stored"  # on disk: a power cut can't take it
    BUFFERED = "buffered"  # in memory for at most ``buffer_s``
    DUPLICATE = "duplicate"  # its event_id is known; nothing changed


@dataclass(frozen=True, slots=True)
class Stored:
    """An event with its place in the history."""

    sequence: int
    boot_id: str
    event: ViewingEvent


@dataclass(frozen=True, slots=True)
class Consent:
    """The household's word on one purpose."""

    purpose: Purpose
    granted: bool
    at: float
    """POSIX seconds by the TV's clock; 0 if never asked."""


class HistoryStore:
    """history.db behind one lock.

    Args:
        path: the file; created with mode 0600. A damaged one is moved aside (``recovered``).
        boot_id: of this boot of the TV, kept with each event.
        buffer_events: heartbeats that may wait in memory.
        max_events: events kept.

    Raises:
        StoreError: the file can't be opened, or a newer Couchside wrote it.
    """

    def __init__(
        self, path: Path, *, boot_id: str, buffer_events: int = 64, max_events: int = 50_000
    ) -> None:
        self.path = path
        self._boot_id = boot_id
        self._buffer_events = buffer_events
        self._max_events = max_events
        self._lock = threading.RLock()
        self._buffer: dict[str, tuple[int, ViewingEvent]] = {}
        self._since_trim = 0
        self._db, self.recovered = open_history(path)
        """``recovered`` is where a damaged history.db went, if that happened now."""
        last = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
        # Beyond what a killed process may have handed out for heartbeats it never wrote.
        self._sequence: int = last[0] + buffer_events
        self._trim()

    @property
    def generation(self) -> int:
        """Grows with everything that changes what this file says."""
        return self._sequence

    @property
    def waiting(self) -> int:
        """Heartbeats in memory."""
        return len(self._buffer)

    def add(self, event: ViewingEvent) -> tuple[int, Acknowledgement]:
        """Store ``event`` and return its sequence number.

        Everything but a heartbeat is on disk when this returns STORED.
        """
        with self._lock:
            if event.event_id in self._buffer or self._known(event):
                return self._sequence, Acknowledgement.DUPLICATE
            self._sequence += 1
            self._buffer[event.event_id] = (self._sequence, event)
            if event.kind is EventKind.PROGRESS and len(self._buffer) < self._buffer_events:
                return self._sequence, Acknowledgement.BUFFERED
            self._write_or_drop(event)
            return self._sequence, Acknowledgement.STORED

    def _write_or_drop(self, event: ViewingEvent) -> None:
        try:
            self.flush()
        except sqlite3.Error:
            # Not acknowledged, so it must not slip in with a later batch.
            del self._buffer[event.event_id]
            raise

    def flush(self) -> int:
        """Write the waiting events in one transaction; the number written."""
        with self._lock:
            rows = [
                (sequence, self._boot_id, *astuple(event))
                for sequence, event in self._buffer.values()
            ]
            if rows:
                with self._db:
                    self._db.executemany(
                        "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                        rows,
                    )
            self._buffer.clear()
            self._since_trim += len(rows)
            if self._since_trim >= TRIM_EVERY:
                self._trim()
            return len(rows)

    def events(
        self, *, after: int = 0, limit: int = -1, profile_id: str | None = None
    ) -> list[Stored]:
        """Stored and waiting events with a sequence beyond ``after``, oldest first."""
        with self._lock:
            self.flush()
            rows = self._db.execute(
                "SELECT * FROM events WHERE sequence > ?1 AND (?2 IS NULL OR profile_id = ?2)"
                " ORDER BY sequence LIMIT ?3",
                (after, profile_id, limit),
            )
            return [_stored(row) for row in rows]

    def history(self, profile_id: str) -> Iterator[Stored]:
        """All events of a profile, oldest first, a page at a time: a long life fits in little."""
        after = 0
        while page := self.events(after=after, limit=PAGE, profile_id=profile_id):
            yield from page
            after = page[-1].sequence

    def profiles(self) -> list[Profile]:
        """All profiles, by id."""
        with self._lock:
            rows = self._db.execute(
                "SELECT profile_id, name, max_maturity FROM profiles ORDER BY profile_id"
            )
            return [Profile(*row) for row in rows]

    def put_profile(self, profile: Profile) -> None:
        """Add a profile, or change it."""
        with self.change() as db:
            db.execute(
                "INSERT OR REPLACE INTO profiles VALUES (?, ?, ?)",
                (profile.profile_id, profile.name, profile.max_maturity),
            )

    def remove_profile(self, profile_id: str) -> None:
        """Remove a profile and everything it did.

        Raises:
            RequestError: it is the household's own, which must stay.
        """
        if profile_id == HOUSEHOLD:
            raise RequestError(
                f"profile {HOUSEHOLD!r} is the household itself and stays; forget what it did "
                "instead",
                field="profile_id",
            )
        with self.change(erase=True) as db:
            db.execute("DELETE FROM events WHERE profile_id = ?", (profile_id,))
            db.execute("DELETE FROM personal WHERE profile_id = ?", (profile_id,))
            db.execute("DELETE FROM profiles WHERE profile_id = ?", (profile_id,))

    def consent(self) -> list[Consent]:
        """The household's word on every purpose."""
        with self._lock:
            rows = self._db.execute("SELECT purpose, granted, at FROM consent")
            said = {row[0]: Consent(Purpose(row[0]), bool(row[1]), row[2]) for row in rows}
        return [said.get(purpose.value, Consent(purpose, False, 0.0)) for purpose in Purpose]  # noqa: FBT003

    def set_consent(self, consent: Consent) -> None:
        """Record the household's word."""
        with self.change() as db:
            db.execute(
                "INSERT OR REPLACE INTO consent VALUES (?, ?, ?)",
                (consent.purpose.value, int(consent.granted), consent.at),
            )

    def forget(self, *, title_id: str | None = None, profile_id: str | None = None) -> int:
        """Erase the events of a title, of a profile, of both, or (with neither) all of them.

        What was learned from them for one profile goes with them; it is learned again from what is
        left. The bytes are gone from history.db and its log when this returns, and so are earlier
        damaged files that were moved aside: what is in them can't be told.

        Returns:
            The number of events erased.
        """
        with self.change(erase=True) as db:
            cursor = db.execute(
                "DELETE FROM events WHERE (?1 IS NULL OR title_id = ?1)"
                " AND (?2 IS NULL OR profile_id = ?2)",
                (title_id, profile_id),
            )
            erased = cursor.rowcount
            db.execute("DELETE FROM personal WHERE ?1 IS NULL OR profile_id = ?1", (profile_id,))
        remove_damaged(self.path)
        return erased

    def close(self) -> None:
        """Write what waits and close."""
        with self._lock:
            self.flush()
            self._db.close()

    @contextmanager
    def change(self, *, erase: bool = False) -> Iterator[sqlite3.Connection]:
        """A transaction that the generation counts; ``erase`` leaves no byte of the old behind.

        For this room: nothing outside it writes SQL.
        """
        with self._lock:
            self.flush()
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._sequence += 1
                self._db.execute(
                    "UPDATE sqlite_sequence SET seq = ? WHERE name = 'events'", (self._sequence,)
                )
            if erase and self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                raise StoreError(
                    f"{self.path}: deleted, but another process is reading the file, so the old "
                    "bytes are still in its log; close that process and repeat"
                )

    def select(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of a query; for this room, as ``change``."""
        with self._lock:
            return self._db.execute(sql, values).fetchall()

    def _known(self, event: ViewingEvent) -> bool:
        """Whether its event_id was stored: by the index, or for heartbeats by a short look."""
        found = self._db.execute(
            "SELECT 1 FROM events WHERE event_id = ?1 AND kind <> 'progress'"
            " UNION ALL SELECT 1 FROM events WHERE sequence > ?2 AND event_id = ?1 LIMIT 1",
            (event.event_id, self._sequence - RECENT),
        )
        return found.fetchone() is not None

    def _trim(self) -> None:
        """Keep at most ``max_events``; heartbeats that a later event overtook go first."""
        self._since_trim = 0
        excess = self._db.execute("SELECT count(*) FROM events").fetchone()[0] - self._max_events
        if excess <= 0:
            return
        with self._db:
            dropped = self._db.execute(
                "DELETE FROM events WHERE kind = 'progress' AND sequence NOT IN"
                " (SELECT max(sequence) FROM events GROUP BY profile_id, title_id)"
            ).rowcount
            self._db.execute(
                "DELETE FROM events WHERE sequence IN"
                " (SELECT sequence FROM events ORDER BY sequence LIMIT ?)",
                (max(excess - dropped, 0),),
            )


def _stored(row: tuple[Any, ...]) -> Stored:
    sequence, boot_id, event_id, profile_id, title_id, kind, *rest = row
    return Stored(
        sequence, boot_id, ViewingEvent(event_id, profile_id, title_id, EventKind(kind), *rest)
    )
