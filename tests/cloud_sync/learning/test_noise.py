"""The helper's noise: the discrete Gaussian, drawn fast."""

from __future__ import annotations

import time

import numpy as np
import pytest

from couchside.cloud_sync.learning.unmasking.noise import discrete_gaussian

SIGMAS = (0.5, 1.0, 7.3, 378.0, 2000.0)


def drawn(sigma: float, n: int, seed: int = 7) -> np.ndarray:
    """Reproducible: the same code with other bytes."""
    return discrete_gaussian(sigma, n, np.random.default_rng(seed).bytes)


def exact(sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Values within 40 σ and their probabilities."""
    k = np.arange(-int(40 * sigma), int(40 * sigma) + 1)
    weights = np.exp(-(k**2) / (2 * sigma**2))
    return k, weights / weights.sum()


@pytest.mark.parametrize("sigma", SIGMAS)
def test_mean_and_variance_are_those_of_the_distribution(sigma: float) -> None:
    n = 400_000
    values = drawn(sigma, n)
    k, p = exact(sigma)
    variance = float((k**2 * p).sum())
    assert abs(values.mean()) < 5 * np.sqrt(variance / n)
    assert values.var() == pytest.approx(variance, rel=5 * np.sqrt(2 / n))


@pytest.mark.parametrize("sigma", [0.5, 1.0, 7.3])
def test_every_value_comes_as_often_as_it_should(sigma: float) -> None:
    """Chi-square against the exact probabilities."""
    n = 400_000
    values = drawn(sigma, n)
    k, p = exact(sigma)
    often = n * p >= 10
    seen = np.array([(values == each).sum() for each in k[often]])
    chi = float(((seen - n * p[often]) ** 2 / (n * p[often])).sum())
    freedom = int(often.sum()) - 1
    assert chi < freedom + 5 * np.sqrt(2 * freedom)
    assert abs(int(seen.sum()) - n * p[often].sum()) < 5 * np.sqrt(n)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_noise_leans_to_no_side(sigma: float) -> None:
    n = 400_000
    values = drawn(sigma, n)
    up, down = int((values > 0).sum()), int((values < 0).sum())
    assert abs(up - down) < 5 * np.sqrt(n)
    assert abs((values**3).mean()) < 5 * np.sqrt(15 / n) * sigma**3 + 1e-9


def test_two_draws_share_nothing() -> None:
    first, second = discrete_gaussian(378.0, 20_000), discrete_gaussian(378.0, 20_000)
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / np.sqrt(20_000)


def test_a_rounds_worth_of_noise_takes_no_time() -> None:
    start = time.process_time()
    discrete_gaussian(2000.0, 30_000)
    assert time.process_time() - start < 2.0  # 0.04 s; a sampler value by value takes minutes


def test_all_zero_and_all_one_bits_are_values_too() -> None:
    low = discrete_gaussian(3.0, 4, lambda n: b"\0" * n)
    high = discrete_gaussian(3.0, 4, lambda n: b"\xff" * n)
    assert -36 <= low[0] < -25
    assert 25 < high[0] <= 36


@pytest.mark.parametrize("sigma", [0.1, *SIGMAS])
def test_what_is_never_drawn_is_the_same_at_both_ends(sigma: float) -> None:
    low = discrete_gaussian(sigma, 1, lambda n: b"\0" * n)
    high = discrete_gaussian(sigma, 1, lambda n: b"\xff" * n)
    next_to_it = discrete_gaussian(sigma, 1, lambda n: b"\xfe" + b"\xff" * (n - 1))
    assert low == -high
    assert high == next_to_it


@pytest.mark.parametrize("sigma", [0.0, -1.0, 1e9, float("nan")])
def test_noise_that_makes_no_sense_is_refused(sigma: float) -> None:
    with pytest.raises(ValueError, match="sigma"):
        discrete_gaussian(sigma, 3)
