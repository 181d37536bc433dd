"""Digits of the contrasts of one variance and of its estimate, where the arithmetic could lose them."""

from __future__ import annotations

from fractions import Fraction
from math import prod

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.inference.rlrt import RatioProfile, maximise
from bayeslmm.inference.spectral import spectrum

EPS = float(np.finfo(float).eps)


def one_way(J: int, n: int) -> RatioProfile:
    mu, counts = np.array([float(n)]), np.array([J - 1])
    return RatioProfile(mu, counts, mu, counts, J * n - 1, J * (n - 1))


@pytest.mark.parametrize(("J", "n"), [(6, 5), (40, 2), (3, 100)])
@pytest.mark.parametrize("nearest", [1e-7, 1e-5, 1e-3])
def test_estimates_near_zero_have_their_digits(J: int, n: int, nearest: float) -> None:
    """Closed form (F - 1) / n; the search must not stop at a bisection that happened to be short."""
    problem = one_way(J, n)
    above = nearest * 10.0 ** np.random.default_rng(1).uniform(0.0, 3.0, 4000)
    sse = np.full(above.size, float(problem.f))
    estimate = maximise(problem, (1.0 + above)[:, None] * (J - 1), sse)[1]
    # F is rounded before 1 is taken off; Newton's last step leaves the square of 1e-5.
    np.testing.assert_allclose(estimate, above / n, rtol=1e-8, atol=100 * EPS)


def within(a: list[Fraction], b: list[Fraction], g: np.ndarray) -> Fraction:
    """Sum of products of deviations from the means of levels."""
    total = sum((x * y for x, y in zip(a, b, strict=True)), Fraction())
    return total - sum((n * x * y for n, x, y in zip(*sizes_and_means(g, a, b), strict=True)), Fraction())


def sizes_and_means(g: np.ndarray, *columns: list[Fraction]) -> list[list[Fraction]]:
    rows = [np.flatnonzero(g == level) for level in range(g.max() + 1)]
    means = [[sum((x[i] for i in r), Fraction()) / len(r) for r in rows] for x in columns]
    return [[Fraction(len(r)) for r in rows], *means]


def fractions(column: pd.Series) -> list[Fraction]:
    return [Fraction(float(v)) for v in column]


@pytest.mark.parametrize("offset", [10.0, 1e3, 1e5, 1e7, 5e7])
def test_a_column_that_hardly_leaves_the_span_of_the_levels(offset: float) -> None:
    """Without an intercept x = offset + noise is nearly constant, and one eigenvalue of the order of 1 / offset^2.

    In exact fractions: the product of the eigenvalues is a determinant, and ``sum t^2 / mu`` the sum of the squares of
    the least-squares effects of the levels, which the smallest eigenvalue decides.
    """
    rng = np.random.default_rng(0)
    g = np.sort(np.arange(40) % 7)
    frame = pd.DataFrame({"g": g, "x": rng.normal(offset, 1.0, g.size)})
    frame["y"] = rng.normal(size=7)[g] + rng.normal(size=g.size)
    found = spectrum(bl.Model("y ~ 0 + x + (1 | g)", frame).design, 0, (0,))
    x, y = fractions(frame["x"]), fractions(frame["y"])
    n, x_mean, y_mean = sizes_and_means(g, x, y)
    slope = within(x, y, g) / within(x, x, g)
    effects = [b - slope * a for a, b in zip(x_mean, y_mean, strict=True)]
    # x keeps a share of about 1 / offset of itself outside the levels and loses the other digits.
    rtol = 100 * EPS * offset
    product = prod(n) * within(x, x, g) / sum(a * a for a in x)
    assert found.r == 7
    np.testing.assert_allclose(np.prod(found.mu), float(product), rtol=rtol)
    squares = float(sum(a * a for a in effects))
    np.testing.assert_allclose((found.t[0] ** 2 / found.mu).sum(), squares, rtol=rtol)


def test_columns_that_hardly_leave_the_span_do_not_mix() -> None:
    """Two small eigenvalues that products of the columns do not tell apart: their product and their reciprocals."""
    rng = np.random.default_rng(2)
    g, between = np.sort(np.arange(60) % 8), rng.normal(size=8)
    frame = pd.DataFrame({"g": g, "a": 1.0 + 1e-6 * rng.normal(size=60), "b": between[g] + 1e-7 * rng.normal(size=60)})
    frame["y"] = rng.normal(size=60)
    found = spectrum(bl.Model("y ~ 0 + a + b + (1 | g)", frame).design, 0, (0,))
    a, b = fractions(frame["a"]), fractions(frame["b"])
    n, a_mean, b_mean = sizes_and_means(g, a, b)
    aa, ab, bb = within(a, a, g), within(a, b, g), within(b, b, g)
    inner = aa * bb - ab**2
    whole = sum(v * v for v in a) * sum(v * v for v in b) - sum(v * w for v, w in zip(a, b, strict=True)) ** 2
    cross = sum(v * w for v, w in zip(a_mean, b_mean, strict=True))
    squares = bb * sum(v * v for v in a_mean) - 2 * ab * cross + aa * sum(v * v for v in b_mean)
    reciprocals = sum(1 / k for k in n) + squares / inner
    rtol = 100 * EPS / 1e-7
    np.testing.assert_allclose(np.prod(found.mu), float(prod(n) * inner / whole), rtol=rtol)
    np.testing.assert_allclose((1.0 / found.mu).sum(), float(reciprocals), rtol=rtol)
    assert found.mu[-2] / found.mu[-1] > 10.0
