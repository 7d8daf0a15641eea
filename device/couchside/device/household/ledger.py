"""What this TV gave away and what it learned for itself: two tables of history.db.

The privacy ledger holds a line for each Update that was made, written before the Update may leave,
and never erased: a budget that a "forget" or a new Bundle would refill is none. Personal values
belong to a profile and a Bundle; they are history, and go when it is forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from couchside.device.household.store import HistoryStore

YEAR_S = 365 * 86_400.0
QUEUED = "queued"
WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class Entry:
    """One Update of this TV."""

    round_id: int
    update_id: str
    rho: float
    at: float
    """POSIX seconds that have certainly passed: the Round says when it opened."""
    sequence: int
    """Of the history when it was made: what is newer was not in it."""
    verdict: str = QUEUED
    """``queued``, ``withdrawn``, or the receipt's."""


class Ledger:
    """Both tables.

    Args:
        store: history.db.
    """

    def __init__(self, store: HistoryStore) -> None:
        self._store = store

    def entries(self) -> list[Entry]:
        """Every Update ever made, oldest first."""
        rows = self._store.select(
            "SELECT round_id, update_id, rho, at, sequence, verdict FROM ledger ORDER BY round_id"
        )
        return [Entry(*row) for row in rows]

    def charge(self, entry: Entry) -> None:
        """Write an Update down, durably; only then may it leave.

        Raises:
            sqlite3.IntegrityError: one was made for this Round.
        """
        with self._store.change() as db:
            db.execute(
                "INSERT INTO ledger VALUES (?, ?, ?, ?, ?, ?)",
                (
                    entry.round_id,
                    entry.update_id,
                    entry.rho,
                    entry.at,
                    entry.sequence,
                    entry.verdict,
                ),
            )

    def settle(self, update_id: str, verdict: str) -> None:
        """Note what became of an Update; what it cost stays."""
        with self._store.change() as db:
            db.execute("UPDATE ledger SET verdict = ? WHERE update_id = ?", (verdict, update_id))

    def personal(self, bundle_id: str) -> dict[str, tuple[int, NDArray[np.float32]]]:
        """For each profile that has been fitted to a Bundle: up to which sequence, and its values.

        The values are an empty array where the shipped ones were found better.
        """
        rows = self._store.select(
            "SELECT profile_id, sequence, learned FROM personal WHERE bundle_id = ?", bundle_id
        )
        return {name: (at, np.frombuffer(raw, dtype="<f4")) for name, at, raw in rows}

    def put_personal(
        self, profile_id: str, bundle_id: str, sequence: int, values: NDArray[np.float32]
    ) -> None:
        """Keep a profile's values; they replace those of an earlier Bundle or evening."""
        with self._store.change() as db:
            db.execute(
                "INSERT OR REPLACE INTO personal VALUES (?, ?, ?, ?)",
                (profile_id, bundle_id, sequence, values.astype("<f4").tobytes()),
            )


def spent(entries: list[Entry], now: float) -> tuple[int, float]:
    """Number and ρ of the Updates of the 365 days before ``now``.

    A clock that stands before an entry makes nothing younger: such an entry counts.
    """
    recent = [entry for entry in entries if entry.at > now - YEAR_S]
    return len(recent), sum(entry.rho for entry in recent)
