from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from couchside.device.errors import UpdateError
from couchside.device.learning import masking, privacy

VECTORS = arrays.arrays(
    np.float64, st.integers(1, 300), elements=st.floats(-1e3, 1e3, allow_nan=False)
)


@given(VECTORS, st.floats(1e-3, 100.0))
def test_clip_keeps_direction_and_bounds_length(values, bound):
    clipped = privacy.clip(values, bound)
    norm = np.linalg.norm(values)
    assert np.linalg.norm(clipped) <= bound * (1 + 1e-9)
    if norm <= bound:
        np.testing.assert_array_equal(clipped, values)
    else:
        np.testing.assert_allclose(clipped * norm, values * bound, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_change_that_is_not_finite_is_never_sent(bad):
    with pytest.raises(UpdateError, match="not finite"):
        privacy.clip(np.array([1.0, bad]), 1.0)


@given(VECTORS, st.integers(0, 2**32 - 1))
def test_rounding_gives_whole_numbers_within_the_bound_that_the_noise_is_made_for(values, seed):
    bound = privacy.rounded_bound(float(np.linalg.norm(values)), len(values))
    rounded = privacy.round_randomly(values, bound, np.random.default_rng(seed))
    assert np.linalg.norm(rounded.astype(float)) <= bound
    assert np.abs(rounded - values).max() < 1


def test_rounding_is_right_in_the_mean():
    values = np.array([0.1, -0.3, 2.5, 7.0, -0.9])
    bound, rng = privacy.rounded_bound(8.0, 5), np.random.default_rng(3)
    drawn = np.stack([privacy.round_randomly(values, bound, rng) for _ in range(20_000)])
    np.testing.assert_allclose(drawn.mean(axis=0), values, atol=0.02)


def test_epsilon_lies_between_the_exact_gaussian_and_the_simple_bound():
    """The exact ε of the Gaussian mechanism (Balle, Wang, 2018) is below; Bun-Steinke's above."""
    for z in (0.5, 1.0, 2.0, 4.0, 10.0):
        rho = privacy.rho(z)
        simple = rho + 2 * math.sqrt(rho * math.log(1 / privacy.DELTA))
        assert exact_gaussian_epsilon(z) <= privacy.epsilon(rho) <= simple
        assert privacy.epsilon(rho) <= 1.15 * exact_gaussian_epsilon(z)


def exact_gaussian_epsilon(z, delta=privacy.DELTA):
    def phi(x):
        return 0.5 * math.erfc(-x / math.sqrt(2))

    def delta_of(eps):
        return phi(0.5 / z - eps * z) - math.exp(eps) * phi(-0.5 / z - eps * z)

    low, high = 0.0, 100.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if delta_of(middle) > delta else (low, middle)
    return high


def test_nothing_costs_nothing_and_two_updates_cost_more_than_one():
    assert privacy.epsilon(0.0) == 0.0
    one, two = privacy.epsilon(privacy.rho(2.0)), privacy.epsilon(2 * privacy.rho(2.0))
    assert one < two < 2 * one


@given(st.lists(st.integers(-300, 300), min_size=3, max_size=60), st.integers(2, 40))
def test_masks_cancel_exactly_in_the_sum_whoever_is_left(values, tvs):
    values = np.array(values, np.int64)
    seeds = [bytes([n]) * 32 for n in range(tvs)]
    left = seeds[::2]  # half of them dropped out
    total = np.zeros(len(values), np.uint16)
    for seed in left:
        total += masking.masked(values, seed)
    for seed in left:
        total -= masking.mask(seed, len(values))
    np.testing.assert_array_equal(total.astype(np.int16), (values * len(left)).astype(np.int16))


def test_mask_looks_uniform_and_differs_by_seed():
    drawn = masking.mask(bytes(32), 1 << 16).astype(float)
    assert abs(drawn.mean() - 32767.5) < 300  # five standard errors
    assert abs(np.corrcoef(drawn, masking.mask(b"\1" * 32, 1 << 16))[0, 1]) < 0.02
