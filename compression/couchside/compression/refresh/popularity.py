"""What everybody watches now: the Bundle's popularity, faded, plus what a Round counted.

The counts are noised: on a catalogue of thousands, titles that nobody watched get counts too. Those
below three standard deviations are taken as 0; about one unwatched title in 740 still passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from couchside.compression.errors import GateError
from couchside.device.features import DAY

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST_SIGMAS = 3.0
"""A count below so many standard deviations of its noise is taken as 0."""
LEAST_COUNT = 0.5
"""TVs; without noise, too, half a TV watched nothing."""
MOST_SIGMAS = 6.0
"""Noise goes beyond once in 10⁹ counts: a count that much larger than the number of TVs, or below
0, was not made by TVs that count each title once."""


@dataclass(frozen=True)
class Popularity:
    """Popularity as a Bundle carries it."""

    values: NDArray[np.float32]
    """log(1 + watchers, faded): float32 [titles]."""
    as_of: float
    """POSIX seconds."""
    counted: int = 0
    """Titles whose count of the last Round was more than noise."""


def freshen(
    old: Popularity,
    counts: NDArray[np.float32],
    *,
    closed_at: float,
    folded: int,
    sigma: float,
    half_life_days: float,
) -> Popularity:
    """Fade ``old`` to ``closed_at`` and add what was counted since.

    Without counts, or where all of them may be noise, nothing is known that is newer: ``old`` stays
    as it is, with its date. Clocks may disagree: a Round that closed before ``old`` fades nothing.

    Args:
        old: of the Bundle that the Round started from.
        counts: noised numbers of TVs that watched each title [titles], or [0].
        closed_at: end of the Round, POSIX seconds.
        folded: TVs in the Round.
        sigma: standard deviation of the noise on each count, in TVs.
        half_life_days: of a watcher's weight.

    Raises:
        GateError: a count that so many TVs can't give.
    """
    if not len(counts):
        return Popularity(old.values, old.as_of)
    slack = MOST_SIGMAS * sigma + LEAST_COUNT
    most, least = float(counts.max()), float(counts.min())
    if most > folded + slack or least < -slack:
        wrong = most if most > folded + slack else least
        raise GateError(
            f"title {int(np.flatnonzero(counts == np.float32(wrong))[0])} was counted {wrong:.1f} "
            f"times by {folded} TVs with noise of {sigma:.2f}: refused; run another Round"
        )
    sure = np.where(counts >= max(LEAST_SIGMAS * sigma, LEAST_COUNT), counts, 0.0)
    counted = int(np.count_nonzero(sure))
    if not counted:
        return Popularity(old.values, old.as_of)
    age_days = max(0.0, (closed_at - old.as_of) / DAY)
    faded = np.expm1(old.values.astype(np.float64)) * 2.0 ** (-age_days / half_life_days)
    values = np.log1p(faded + sure).astype(np.float32)
    return Popularity(values, max(closed_at, old.as_of), counted)
