"""ε against somebody who does not know which TVs selected themselves.

Rényi differential privacy of the Poisson-sampled Gaussian (Mironov, Talwar, Zhang, "Rényi
Differential Privacy of the Sampled Gaussian Mechanism", 2019), added up over Rounds and converted
as in Canonne, Kamath, Steinke (2020). Their closed form is for whole orders; the integral behind it
is done numerically here, so that orders lie dense where the best one is.

The limit: it holds where each TV takes part by a coin that nobody else sees, and the broker and the
aggregator do see who sends. ``device.learning.privacy.epsilon`` is the figure without that help,
and the one a TV's ledger charges. The noise is the discrete Gaussian, whose divergences are taken
to be the continuous one's; at a sigma of some units they differ by less than we print.
"""

from __future__ import annotations

import math

import numpy as np

from couchside.device.learning import privacy

ORDERS = (*np.arange(1.1, 12.0, 0.1), *range(12, 64), *range(64, 512, 16))
"""Beyond the last, a Round would have to be noisier than any we allow."""
_REACH, _POINTS = 14.0, 20_001
"""Standard deviations and points of the integral: the rest of it is below 1e-40."""


def amplified_epsilon(
    noise_multiplier: float, sampling_rate: float, rounds: int, delta: float = privacy.DELTA
) -> float:
    """ε at ``delta`` of so many Rounds with self-selection by chance ``sampling_rate``.

    Never above the figure without amplification.
    """
    plain = privacy.epsilon(rounds * privacy.rho(noise_multiplier), delta)
    if sampling_rate >= 1.0 or not rounds:
        return plain
    sampled = min(
        _converted(rounds * sampled_rdp(order, noise_multiplier, sampling_rate), order, delta)
        for order in ORDERS
    )
    return max(0.0, min(plain, sampled))


def sampled_rdp(order: float, noise_multiplier: float, sampling_rate: float) -> float:
    """Rényi divergence of one Round at an ``order`` above 1, in nats.

    ``log E[((1 - q) + q exp((2x - 1) / 2z²))^order] / (order - 1)`` for x normal, mean 0 and
    deviation z (the paper's equations 3 and 4).
    """
    if sampling_rate <= 0.0:
        return 0.0
    reach = _REACH * noise_multiplier
    x, width = np.linspace(-reach, order + reach, _POINTS, retstep=True)
    apart = (2 * x - 1) / (2 * noise_multiplier**2)
    ratio = np.logaddexp(math.log1p(-sampling_rate), math.log(sampling_rate) + apart)
    density = -(x**2) / (2 * noise_multiplier**2)
    terms = density + order * ratio
    largest = float(terms.max())
    total = largest + math.log(float(np.exp(terms - largest).sum() * width))
    return (total - math.log(noise_multiplier * math.sqrt(2 * math.pi))) / (order - 1)


def _converted(rdp: float, order: float, delta: float) -> float:
    return rdp + math.log1p(-1 / order) - (math.log(delta) + math.log(order)) / (order - 1)
