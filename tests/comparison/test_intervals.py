"""Intervals and modes at the ends of a range, against distributions known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta, expon, gamma, halfnorm, norm

from bayeslmm.results.intervals import density, hdi, mode


def quantiles(distribution, size=4000):
    """The most even sample there is: no Monte Carlo error."""
    return distribution.ppf((np.arange(size) + 0.5) / size)


@pytest.mark.parametrize("distribution", [halfnorm(scale=2), expon(scale=0.1)])
def test_falling_density_has_mode_and_lower_end_zero(distribution):
    draws = quantiles(distribution)
    low, high = hdi(draws, 0.95, "sd")
    assert low == 0
    assert high == pytest.approx(distribution.ppf(0.95), rel=2e-3)
    assert mode(draws, "sd") == 0


def test_lower_end_is_zero_for_random_draws_too():
    rng = np.random.default_rng(1)
    lows = [hdi(np.abs(rng.normal(size=1000)), 0.95, "sd")[0] for _ in range(200)]
    assert lows == [0.0] * 200


def test_density_that_leaves_zero_has_an_inner_interval():
    distribution = gamma(20)
    draws = quantiles(distribution)
    low, high = hdi(draws, 0.95, "sd")
    assert distribution.pdf(low) == pytest.approx(distribution.pdf(high), rel=0.03)
    assert distribution.cdf(high) - distribution.cdf(low) == pytest.approx(0.95, abs=1e-3)
    assert mode(draws, "sd") == pytest.approx(19, rel=0.02)


def test_correlation_near_one_reaches_the_end():
    draws = 2 * quantiles(beta(5, 1)) - 1
    low, high = hdi(draws, 0.9, "corr")
    assert high == 1
    assert low == pytest.approx(2 * beta(5, 1).ppf(0.1) - 1, rel=2e-3)


def test_fixed_effects_have_no_ends():
    draws = quantiles(norm(-3, 2))
    assert hdi(draws, 0.95, "fixed") == pytest.approx(norm(-3, 2).interval(0.95), rel=1e-2)


def test_density_is_not_lost_at_zero():
    draws = quantiles(halfnorm())
    grid = np.linspace(0, 5, 501)
    height = density(draws, "sd", grid)
    assert np.trapezoid(height, grid) == pytest.approx(1, abs=2e-3)
    assert height[0] == pytest.approx(halfnorm.pdf(0), rel=0.05)
    assert not density(draws, "sd", np.linspace(-1, -0.1, 5)).any()


def test_a_low_but_positive_density_at_zero_does_not_reach_it():
    # Density at 0 is 0.76 of that at the upper end: the interval starts inside, if only just.
    distribution = norm(14, 6.5)
    draws = np.abs(quantiles(distribution))
    low, high = hdi(draws, 0.95, "sd")
    folded = distribution.pdf([0.0, low, high]) + distribution.pdf([0.0, -low, -high])
    assert folded[0] < folded[2]
    assert 0 < low < 5


def test_a_mode_inside_may_still_reach_zero():
    # Highest at 1.7, but at 0 still above the upper end.
    draws = np.abs(quantiles(norm(1.7, 1)))
    low, high = hdi(draws, 0.95, "sd")
    assert low == 0
    assert high == pytest.approx(np.quantile(draws, 0.95), rel=1e-3)
    assert mode(draws, "sd") > 1


def test_draws_without_spread():
    assert hdi(np.full(100, 2.0), 0.95, "sd") == (2.0, 2.0)
    assert hdi(np.zeros(100), 0.95, "sd") == (0.0, 0.0)
