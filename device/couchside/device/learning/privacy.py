"""What an Update may give away: clip, rounding, noise, and what all of it adds up to.

The sum over a cohort is noised once, by the unmasking helper, with discrete Gaussian noise
(Canonne, Kamath, Steinke, NeurIPS 2020); clip and randomised rounding are those of the distributed
discrete Gaussian mechanism (Kairouz, Liu, Steinke, ICML 2021), so that the sensitivity of what is
summed is known exactly. One Update with noise multiplier z costs ρ = 1 / (2 z²) of zCDP
(zero-concentrated differential privacy; Bun, Steinke, 2016), and ρ of several Updates add up.

The guarantee: whoever sees everything but the seeds of a Round learns (ε, δ)-little about what any
one TV's Update held, compared with zeros in its place. Its limit: that a TV took part is not
hidden; it needs a helper that adds the noise and does not collude with the aggregator; and it
counts TVs, not people.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from couchside.device.errors import UpdateError

if TYPE_CHECKING:
    from numpy.typing import NDArray

DELTA = 1e-6
"""δ of every ε that we tell: far below one over any fleet we can serve."""
ROUNDING_BETA = math.exp(-0.5)
"""Chance at most that a rounding is drawn again (the paper's β): it hardly biases the result."""
TAIL = 8.0
"""Standard deviations of noise for which lanes keep room: beyond them lies 1e-15 of it."""
LANE = 1 << 15
"""Sums must stay below this in absolute value: they travel modulo 2^16."""


def clip(values: NDArray[np.floating], bound: float) -> NDArray[np.float64]:
    """``values`` scaled down to an L2 norm of at most ``bound``: float64, any shape.

    Raises:
        UpdateError: a value is not finite.
    """
    exact = np.asarray(values, dtype=np.float64)
    norm = float(np.linalg.norm(exact))
    if not math.isfinite(norm):
        raise UpdateError("the learned change is not finite; nothing is sent")
    return exact * min(1.0, bound / norm) if norm > 0 else exact


def rounded_bound(norm: float, n: int) -> float:
    """Most L2 norm of a rounded vector of n whole numbers whose exact norm is at most ``norm``.

    The Δ of Kairouz et al., Algorithm 1, with granularity 1.
    """
    typical = (
        norm**2 + n / 4 + math.sqrt(2 * math.log(1 / ROUNDING_BETA)) * (norm + math.sqrt(n) / 2)
    )
    return math.sqrt(min(typical, (norm + math.sqrt(n)) ** 2))


def round_randomly(
    values: NDArray[np.float64], bound: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Whole numbers whose mean is ``values`` [n] and whose L2 norm is at most ``bound``.

    Each value goes up or down by chance; the whole is drawn again while it is too long. ``rng`` is
    a seeded one in tests and a cryptographic seed's on a TV.

    Args:
        values: exact values.
        bound: at least ``rounded_bound`` of their norm, else this does not end soon.
        rng: source of the chances.
    """
    low = np.floor(values)
    part = values - low
    for _ in range(1000):
        drawn = low + (rng.random(values.shape) < part)
        if float(np.linalg.norm(drawn)) <= bound:
            return drawn.astype(np.int64)
    return np.trunc(values).astype(np.int64)  # never longer than the exact one


def rho(noise_multiplier: float) -> float:
    """ρ-zCDP that one Update costs."""
    return 1.0 / (2.0 * noise_multiplier**2)


def epsilon(total_rho: float, delta: float = DELTA) -> float:
    """ε at ``delta`` of ρ-zCDP, by the tight conversion of Canonne, Kamath and Steinke (2020).

    The least over orders α of ``ρα + log(1 - 1/α) - (log δ + log α) / (α - 1)``; 0 for ρ = 0.
    """
    if total_rho <= 0:
        return 0.0
    orders = 1.0 + np.geomspace(1e-3, 1e6, 4000)
    values = (
        total_rho * orders
        + np.log1p(-1.0 / orders)
        - (math.log(delta) + np.log(orders)) / (orders - 1.0)
    )
    return max(float(values.min()), 0.0)
