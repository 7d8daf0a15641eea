"""Where marks stand on the page's plots: numbers in, percentages of the width out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

NARROWEST = 1e-9
"""Below this a plot has no width, and its ticks would be noise."""


@dataclass(frozen=True, slots=True)
class Axis:
    """A linear axis over the width of a plot."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """Per cent of the width at which ``value`` stands; clipped to the plot."""
        share = (value - self.low) / (self.high - self.low)
        return round(100.0 * min(max(share, 0.0), 1.0), 3)

    def length(self, value: float) -> float:
        """Per cent of the width that is as long as ``value``."""
        return round(100.0 * value / (self.high - self.low), 3)


def axis(values: Sequence[float], *, ticks: int = 5) -> Axis:
    """An axis that shows all ``values`` and zero, with about ``ticks`` round steps."""
    low, high = min(0.0, *values), max(0.0, *values)
    step = _round_step(max(high - low, NARROWEST) / ticks)
    first, last = math.floor(low / step), math.ceil(high / step)
    if last == first:
        last += 1
    places = tuple(round(place * step, 12) for place in range(first, last + 1))
    return Axis(places[0], places[-1], places)


def _round_step(least: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is at least ``least``."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))
