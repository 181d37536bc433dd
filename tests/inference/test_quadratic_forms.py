"""Distribution of weighted sums of chi-square variables: against closed forms and quadrature."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from bayeslmm.numerics.quadratic_forms import ratio_probability, sum_probability

CLOSE = 1e-11


@pytest.mark.parametrize("dof", [1, 2, 3, 30, 500, 100_000])
@pytest.mark.parametrize("scale", [1.0, 1e-6, -3.0])
def test_one_chi_square(dof: int, scale: float) -> None:
    for q in (1e-8, 0.1, 0.5, 0.9, 1 - 1e-6):
        x = stats.chi2.ppf(q, dof)
        found = sum_probability(np.array([scale]), scale * x, np.array([dof]))
        below, above = stats.chi2.cdf(x, dof), stats.chi2.sf(x, dof)
        expected = (below, above) if scale > 0 else (above, below)
        np.testing.assert_allclose((found.below, found.above), expected, rtol=CLOSE)


@pytest.mark.parametrize(("r", "f"), [(5, 24), (2, 3), (1, 50), (30, 1000), (500, 20000)])
def test_f_is_a_ratio(r: int, f: int) -> None:
    for q in (1e-9, 0.01, 0.5, 0.999, 1 - 1e-9):
        x = stats.f.ppf(q, r, f)
        found = ratio_probability(np.array([1 / r, 0.0]), np.array([0.0, 1 / f]), x, np.array([r, f]))
        below, above = stats.f.cdf(x, r, f), stats.f.sf(x, r, f)
        # SciPy 1.14 rounds x / (x + f) before it takes the larger tail
        below, above = (below, 1 - below) if q < 0.5 else (1 - above, above)
        np.testing.assert_allclose((found.below, found.above), (below, above), rtol=1e-10)


@pytest.mark.parametrize("x", [-5.0, -0.3, 0.0, 0.2, 4.0, 60.0])
def test_even_multiplicities_of_both_signs(x: float) -> None:
    # differences of sums of exponential variables: partial fractions
    weights = [3.0, 1.0, 0.5, -2.0, -0.1]

    def above(a: list[float], x: float) -> float:
        return sum(
            math.prod(own / (own - other) for other in a if other != own) * math.exp(-x / (2 * own))
            for own in a
            if own > 0
        )

    expected = above(weights, x) if x >= 0 else 1 - above([-a for a in weights], -x)
    found = sum_probability(np.array(weights), x, np.full(5, 2.0))
    assert found.above == pytest.approx(expected, rel=1e-10)
    assert found.above + found.below == 1.0


@pytest.mark.parametrize("x", [-1.0, 0.0, 2.5])
def test_imhofs_integral_by_panels(x: float) -> None:
    weights, dof = np.array([1.5, 0.7, -0.9, -0.2]), np.array([1.0, 3.0, 1.0, 2.0])
    nodes, w = np.polynomial.legendre.leggauss(20)
    # the integrand falls like u^-4.5 and oscillates: what is left beyond 3000 is below 1e-13
    ends = np.concatenate([np.linspace(0.0, 2.0, 41), np.arange(2.5, 3000.0, 0.5)])
    half = np.diff(ends)[:, None] / 2
    u = (ends[:-1, None] + half + half * nodes)[..., None]
    angle = (np.arctan(weights * u) @ dof - x * u[..., 0]) / 2
    size = np.exp(np.log1p((weights * u) ** 2) @ dof / 4)
    integral = (half * w * np.sin(angle) / (u[..., 0] * size)).sum()
    found = sum_probability(weights, x, dof)
    assert found.above == pytest.approx(0.5 + integral / np.pi, abs=1e-11)
    assert found.error < 1e-12


def test_sure_events() -> None:
    a = np.array([2.0, 1.0])
    assert sum_probability(a, 0.0).above == 1.0
    assert sum_probability(a, -1.0).below == 0.0
    assert sum_probability(-a, 1.0).below == 1.0
    assert sum_probability(0 * a, 0.0).below == 1.0
    assert sum_probability(0 * a, -1.0).above == 1.0


def test_a_thousand_eigenvalues_by_simulation() -> None:
    rng = np.random.default_rng(4)
    mu = rng.uniform(0.5, 9.0, 1000)
    W = rng.standard_normal((4000, 1000)) ** 2
    draws = (W @ mu) / (W.sum(axis=1) + rng.chisquare(3000, 4000))
    cut = float(np.quantile(draws, 0.3))
    found = ratio_probability(np.append(mu, 0.0), np.ones(1001), cut, np.append(np.ones(1000), 3000))
    assert abs(found.below - 0.3) < 4 * math.sqrt(0.3 * 0.7 / 4000)
