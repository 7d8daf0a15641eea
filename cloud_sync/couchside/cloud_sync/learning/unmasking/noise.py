"""Discrete Gaussian noise from the operating system's randomness.

The distribution of Canonne, Kamath and Steinke ("The Discrete Gaussian for Differential Privacy",
NeurIPS 2020): P(k) proportional to exp(-k² / 2σ²) on the whole numbers. Their sampler draws one
value at a time with exact rationals; a Round needs 24,000 values, so this one inverts a table.
"""

from __future__ import annotations

import math
import os
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

CUT = 12.0
"""Standard deviations at which the table ends: beyond them lies less than 2^-100 of it."""
SIGMAS = (0.1, 5000.0)
"""Least and most sigma that is drawn: beyond, a Round's sums would be pointless or wrap."""
_WEIGHT_BITS = 160
_WORD_BITS = 64


def discrete_gaussian(
    sigma: float, n: int, entropy: Callable[[int], bytes] = os.urandom
) -> NDArray[np.int64]:
    """``n`` values of the discrete Gaussian with parameter ``sigma``, independent: int64 [n].

    The error: a value's distribution is within 2^-45 of the exact one in total variation. Weights
    come from float64 with a relative error of 2^-50, their sums are exact, 64-bit words split the
    line into steps of 2^-64 of at most 2^17 values, and the tails cut off are below 2^-100. For
    24,000 values that adds less than 10^-9 to δ. Values whose tail is below 2^-64, beyond about
    9.1 σ, are never drawn.

    Args:
        sigma: parameter, in units; within ``SIGMAS``.
        n: how many.
        entropy: gives so many random bytes; another one in tests only.

    Raises:
        ValueError: ``sigma`` is out of bounds.
    """
    if not SIGMAS[0] <= sigma <= SIGMAS[1]:
        raise ValueError(f"sigma {sigma} is not from {SIGMAS[0]} to {SIGMAS[1]}")
    first, steps = _table(sigma)
    words = np.frombuffer(entropy(8 * n), dtype="<u8")
    return first + np.searchsorted(steps, words, side="right").astype(np.int64)


@lru_cache(maxsize=2)
def _table(sigma: float) -> tuple[int, NDArray[np.uint64]]:
    """The least value, and where on the line of words each value but the last drawn one ends."""
    reach = math.ceil(CUT * sigma)
    half = [_weight(k, sigma) for k in range(reach + 1)]
    sums = list(accumulate(half[:0:-1] + half))
    total = sums[-1]
    steps = [(each << _WORD_BITS) // total for each in sums[:-1]]
    # Where what is left of the line is one word or less, its value takes that word as well. So the
    # values after it are never drawn, like those at the other end whose steps are all at zero.
    top = (1 << _WORD_BITS) - 1
    return -reach, np.array([step for step in steps if step < top], dtype=np.uint64)


def _weight(k: int, sigma: float) -> int:
    return int(math.ldexp(math.exp(-(k**2) / (2 * sigma**2)), _WEIGHT_BITS))
