"""ε with self-selection, against published figures (dp-accounting 0.6) and the paper's formula."""

from __future__ import annotations

import math

import pytest

from couchside.cloud_sync.learning.accounting import amplified_epsilon, sampled_rdp
from couchside.device.learning import privacy

PUBLISHED = [
    (1_000, 1e6, 0.8, 100, 1.54),
    (1_000, 1e6, 0.8, 500, 1.61),
    (1_000, 1e6, 0.5, 500, 5.5),
    (1_000, 1e5, 0.8, 100, 2.4),
    (1_000, 1e5, 0.8, 500, 3.3),
    (10_000, 1e6, 1.0, 100, 1.7),
    (10_000, 1e6, 1.0, 500, 2.2),
]


@pytest.mark.parametrize(("cohort", "fleet", "noise", "rounds", "epsilon"), PUBLISHED)
def test_epsilon_is_the_published_one(
    cohort: int, fleet: float, noise: float, rounds: int, epsilon: float
) -> None:
    got = amplified_epsilon(noise, cohort / fleet, rounds, fleet**-1.1)
    assert got == pytest.approx(epsilon, rel=0.03)


@pytest.mark.parametrize("order", [2, 3, 9, 20])
@pytest.mark.parametrize(("noise", "rate"), [(0.8, 1e-3), (1.0, 0.1), (4.0, 0.5)])
def test_integral_is_the_closed_form_at_whole_orders(order: int, noise: float, rate: float) -> None:
    terms = (
        math.comb(order, k)
        * (1 - rate) ** (order - k)
        * rate**k
        * math.exp((k * k - k) / (2 * noise**2))
        for k in range(order + 1)
    )
    closed = math.log(sum(terms)) / (order - 1)
    assert sampled_rdp(order, noise, rate) == pytest.approx(closed, rel=1e-9)


def test_selecting_everybody_hides_nobody() -> None:
    plain = privacy.epsilon(5 * privacy.rho(0.8))
    assert amplified_epsilon(0.8, 1.0, 5) == plain
    assert amplified_epsilon(0.8, 0.999, 5) == pytest.approx(plain, rel=0.02)


def test_rarer_selection_and_more_noise_cost_less() -> None:
    assert amplified_epsilon(0.8, 0.01, 10) < amplified_epsilon(0.8, 0.1, 10)
    assert amplified_epsilon(1.6, 0.01, 10) < amplified_epsilon(0.8, 0.01, 10)
    assert amplified_epsilon(0.8, 0.01, 10) < amplified_epsilon(0.8, 0.01, 100)
    assert amplified_epsilon(0.8, 0.01, 0) == 0.0
