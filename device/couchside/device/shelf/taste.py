"""Viewings → the history that the user model reads.

One step a title, in the order in which each last said something new about taste: heartbeats do
not reorder, zapping leaves no step, and a TV's clock is used for gaps only, never for order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from couchside.device.features import gap_buckets

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from couchside.device.catalogue.arrays import Catalogue
    from couchside.device.shelf.watching import Viewing


@dataclass(frozen=True, slots=True)
class Steps:
    """h steps of a history, oldest first; d is the width of item vectors."""

    title_ids: tuple[str, ...]
    vectors: NDArray[np.float32]
    """[h, d]"""
    signals: NDArray[np.int32]
    """[h], values of ``features.Signal``."""
    at: NDArray[np.float64]
    """[h], POSIX seconds by the TV's clock."""
    sequences: NDArray[np.int64]
    """[h], growing: which event said it."""

    def __len__(self) -> int:
        return len(self.title_ids)

    @property
    def gaps(self) -> NDArray[np.int32]:
        """[h], gap buckets; after a deletion they span what was deleted."""
        return gap_buckets(self.at)

    def same_as(self, other: Steps) -> bool:
        """Whether the user model would read the same, as long as titles keep their vectors."""
        return (
            self.title_ids == other.title_ids
            and np.array_equal(self.signals, other.signals)
            and np.array_equal(self.at, other.at)
        )

    def where(self, mask: NDArray[np.bool_]) -> Steps:
        """The steps where ``mask`` [h] is true."""
        kept = tuple(title for title, keep in zip(self.title_ids, mask, strict=True) if keep)
        return Steps(
            kept, self.vectors[mask], self.signals[mask], self.at[mask], self.sequences[mask]
        )


def steps_of(viewings: Iterable[Viewing], catalogue: Catalogue, length: int) -> Steps:
    """The last ``length`` steps of a profile whose titles have a vector."""
    telling = [
        (viewing, row)
        for viewing in viewings
        if viewing.signal is not None
        and (row := catalogue.index.get(viewing.title_id)) is not None
        and catalogue.has_vector[row]
    ]
    telling.sort(key=lambda pair: pair[0].taste_sequence)
    last = telling[-length:]
    rows = np.array([row for _, row in last], dtype=np.int64)
    return Steps(
        tuple(viewing.title_id for viewing, _ in last),
        catalogue.vectors[rows],
        np.array([viewing.signal for viewing, _ in last], dtype=np.int32),
        np.array([viewing.taste_at for viewing, _ in last], dtype=np.float64),
        np.array([viewing.taste_sequence for viewing, _ in last], dtype=np.int64),
    )
