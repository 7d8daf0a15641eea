"""The sum: one vector of constant memory, whoever and however many take part. Pure.

Values are added modulo 2^16, so masks cancel exactly when the helper takes them away again. This
sees masked values only: uniform noise, from which it can't tell a good Update from a poisoned one.
What bounds a poisoned one is the Round: ``value_cap``, wherever the sum does not wrap, and the
lab's gate behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from couchside.cloud_sync.errors import RoundError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray


class Accumulator:
    """The masked sum of a Round.

    Args:
        total: what was summed before, uint16 [n].
        folded: of how many TVs.
    """

    def __init__(self, total: NDArray[np.uint16], folded: int) -> None:
        self._total, self.folded = total.astype(np.uint16), folded

    @classmethod
    def empty(cls, n: int) -> Accumulator:
        """Of a Round of ``n`` values, before the first Update."""
        return cls(np.zeros(n, dtype=np.uint16), 0)

    @classmethod
    def loaded(cls, raw: bytes, folded: int) -> Accumulator:
        """What ``dumped`` gave."""
        return cls(np.frombuffer(raw, dtype="<u2").astype(np.uint16), folded)

    @property
    def total(self) -> NDArray[np.uint16]:
        """The sum: uint16 [n]."""
        return self._total

    def dumped(self) -> bytes:
        """The sum as bytes."""
        return self._total.astype("<u2").tobytes()

    def with_all(self, vectors: Iterable[NDArray[np.uint16]]) -> Accumulator:
        """Another one that holds ``vectors``, each uint16 [n], as well.

        Raises:
            ValueError: a vector has another length.
        """
        total, folded = self._total.copy(), self.folded
        for vector in vectors:
            if vector.shape != total.shape:
                raise ValueError(f"{vector.shape} can't be added to {total.shape}")
            np.add(total, vector, out=total)
            folded += 1
        return Accumulator(total, folded)


def unmasked(total: NDArray[np.uint16], answer: NDArray[np.uint16]) -> NDArray[np.int64]:
    """The noised sum in units, int64 [n], each from -2^15 to 2^15 - 1.

    Args:
        total: the masked sum [n].
        answer: the helper's sum of masks less its noise [n].

    Raises:
        RoundError: the lengths differ.
    """
    if total.shape != answer.shape:
        raise RoundError(f"the helper answered {answer.shape[0]} values of {total.shape[0]}")
    return (total - answer).view(np.int16).astype(np.int64)
