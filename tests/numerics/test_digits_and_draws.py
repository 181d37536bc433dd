"""Twice the digits against exact fractions, polynomials against NumPy's, resampling against its definition."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.polynomial import chebyshev

from bayeslmm.numerics.double_double import difference, zeros
from bayeslmm.numerics.polynomial import Polynomial, basis, exponents_of, scaled
from bayeslmm.numerics.resample import kish, normalised, systematic, trustworthy

numbers = st.floats(-1e8, 1e8, allow_subnormal=False).filter(lambda x: x == 0 or abs(x) > 1e-8)


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=12))
def test_sums_of_products_have_twice_the_digits(terms: list[tuple[float, float]]) -> None:
    total = zeros((1,))
    for a, b in terms:
        total = total.plus(np.array([a]), np.array([b]))
    exact = sum(Fraction(a) * Fraction(b) for a, b in terms)
    size = max([abs(Fraction(a) * Fraction(b)) for a, b in terms] + [abs(exact)])
    found = Fraction(float(total.high[0])) + Fraction(float(total.low[0]))
    assert abs(found - exact) <= size * Fraction(2) ** -98
    normal = total.normal()
    assert abs(float(normal.low[0])) <= np.spacing(abs(float(normal.high[0])))


@given(numbers, numbers)
def test_differences_lose_nothing(a: float, b: float) -> None:
    pair = difference(np.array([a]), np.array([b]))
    assert Fraction(float(pair.high[0])) + Fraction(float(pair.low[0])) == Fraction(a) - Fraction(b)


def test_polynomials_on_a_box_are_numpys() -> None:
    rng = np.random.default_rng(2)
    lower, upper = np.array([-1.0, 2.0]), np.array([3.0, 2.5])
    exponents = exponents_of(np.array([1.0, 1.0]), 3, 100)
    assert exponents.sum(axis=1).max() == 3 and len(exponents) == 10
    coefficients = rng.normal(size=(len(exponents), 1))
    x = rng.uniform(lower, upper, size=(50, 2))
    table = np.zeros((4, 4))
    table[tuple(exponents.T)] = coefficients[:, 0]
    z = scaled(x, lower, upper)
    fitted = Polynomial(lower, upper, exponents, coefficients)
    np.testing.assert_allclose(fitted(x)[:, 0], chebyshev.chebval2d(z[:, 0], z[:, 1], table), rtol=1e-12, atol=1e-12)
    slope = chebyshev.chebval2d(z[:, 0], z[:, 1], chebyshev.chebder(table, axis=0))
    np.testing.assert_allclose((basis(z, exponents, 0) @ coefficients)[:, 0], slope, rtol=1e-11, atol=1e-11)
    np.testing.assert_array_equal(fitted.beyond(x), 0.0)
    assert fitted.beyond(np.array([[5.0, 2.25]])) == pytest.approx(1.0)


@given(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=30), st.integers(1, 500), st.integers(0, 10))
def test_every_index_is_drawn_as_often_as_its_weight_says(values: list[float], size: int, seed: int) -> None:
    """Systematic: the number of draws of every index is off ``size * weight`` by less than one."""
    weights = np.array(values) / np.sum(values)
    counts = np.bincount(systematic(weights, size, np.random.default_rng(seed)), minlength=len(values))
    assert counts.sum() == size
    assert (np.abs(counts - size * weights) < 1 + 1e-9).all()


def test_weights() -> None:
    np.testing.assert_allclose(normalised(np.log([1.0, 3.0]) - 1e4), [0.25, 0.75], rtol=1e-12)
    assert np.isnan(normalised(np.full(3, -np.inf))).all()
    assert kish(np.full(8, 0.125)) == pytest.approx(8.0) and kish(np.array([1.0, 0.0])) == 1.0
    assert trustworthy(0.5, 1e3, 0.5) and not trustworthy(0.9, 1e3, 0.5) and not trustworthy(0.1, 1.0, 0.01)
    with pytest.raises(ValueError, match="not finite"):
        systematic(np.array([np.nan, 1.0]), 3, np.random.default_rng(0))
