"""History → inputs of the user model: the same code in training and on the TV, so no skew.

A history is a sequence of steps, oldest first. Each step is an item vector, a *signal* (what the
event says about taste) and the time gap to the step before. Ratings data know neither event kinds
nor clocks well, so both channels have an UNKNOWN value that training also shows the model (channel
dropout): the TV never feeds an embedding that was not trained.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from couchside.device.records import EventKind

if TYPE_CHECKING:
    from numpy.typing import NDArray

CLOCK_FLOOR = 1_577_836_800.0
"""2020-01-01: a TV's clock that shows less was never set (dead RTC boots into 1970)."""

DAY = 86_400.0
GAP_EDGES = (900.0, 3 * 3600.0, DAY, 3 * DAY, 7 * DAY, 30 * DAY)
"""Seconds: the same sitting, the same evening, day, days, week, month."""
GAPS = len(GAP_EDGES) + 2
"""Gap buckets: UNKNOWN_GAP = 0, then one below each edge and one above all."""
UNKNOWN_GAP = 0

COMPLETED_FRACTION = 0.7
"""Watched this far counts as liked enough: completion ≥ 70 % is the usual satisfaction proxy."""
ABANDONED_FRACTION = 0.1


class Signal(IntEnum):
    """What a step says about taste."""

    UNKNOWN = 0
    NEGATIVE = 1
    NEUTRAL = 2
    POSITIVE = 3


SIGNALS = len(Signal)

_BY_KIND = {
    EventKind.LIKE: Signal.POSITIVE,
    EventKind.COMPLETE: Signal.POSITIVE,
    EventKind.WATCHLIST: Signal.POSITIVE,
    EventKind.DISLIKE: Signal.NEGATIVE,
    EventKind.SKIP: Signal.NEGATIVE,
}


def signal_of(kind: EventKind, fraction: float | None = None) -> Signal:
    """The signal of an event; ``fraction`` in [0, 1] is how far it was watched, if known."""
    if kind in _BY_KIND:
        return _BY_KIND[kind]
    if fraction is None:
        return Signal.UNKNOWN
    if fraction >= COMPLETED_FRACTION:
        return Signal.POSITIVE
    stopped = kind is EventKind.STOP and fraction < ABANDONED_FRACTION
    return Signal.NEGATIVE if stopped else Signal.NEUTRAL


def signal_of_rating(rating: NDArray[Any]) -> NDArray[np.int32]:
    """Signals of ratings on a scale of 0 or 1 to 10."""
    bands = np.digitize(rating, (4.5, 7.5))
    by_band = np.array([Signal.NEGATIVE, Signal.NEUTRAL, Signal.POSITIVE], dtype=np.int32)
    return np.asarray(by_band[bands], dtype=np.int32)


def gap_buckets(at: NDArray[np.float64], *, clock_floor: float = CLOCK_FLOOR) -> NDArray[np.int32]:
    """Bucket of the time from the step before to each step.

    Args:
        at: POSIX seconds [n], in the order of the history.
        clock_floor: earlier times count as unknown.

    Returns:
        int32 [n]; the first step and steps beside an unset clock are UNKNOWN_GAP.
    """
    buckets = np.zeros(len(at), dtype=np.int32)
    if len(at) > 1:
        gaps = np.maximum(np.diff(at), 0.0)
        known = np.minimum(at[1:], at[:-1]) >= clock_floor
        buckets[1:] = np.where(known, np.digitize(gaps, GAP_EDGES) + 1, UNKNOWN_GAP)
    return buckets


def user_model_inputs(
    vectors: NDArray[np.float32],
    signals: NDArray[np.int32],
    gaps: NDArray[np.int32],
    *,
    length: int,
) -> dict[str, NDArray[Any]]:
    """Feeds of the graph ``user_model`` for one history, left-padded with zeros.

    Args:
        vectors: item vectors [n, d], oldest first; the last ``length`` are used.
        signals: Signal values [n].
        gaps: gap buckets [n]; that of the first step used counts as unknown.
        length: L of the Bundle.

    Returns:
        ``vectors`` float32 [1, L, d], ``signals`` int32 [1, L], ``gaps`` int32 [1, L] and
        ``mask`` float32 [1, L] (1 where there is a step).
    """
    n = min(len(vectors), length)
    feeds: dict[str, NDArray[Any]] = {
        "vectors": np.zeros((1, length, vectors.shape[1]), dtype=np.float32),
        "signals": np.zeros((1, length), dtype=np.int32),
        "gaps": np.zeros((1, length), dtype=np.int32),
        "mask": np.zeros((1, length), dtype=np.float32),
    }
    if n:
        feeds["vectors"][0, -n:] = vectors[-n:]
        feeds["signals"][0, -n:] = signals[-n:]
        feeds["gaps"][0, -n:] = gaps[-n:]
        feeds["gaps"][0, -n] = UNKNOWN_GAP  # the step before it is out of sight
        feeds["mask"][0, -n:] = 1.0
    return feeds
