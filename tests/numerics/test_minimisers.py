"""Newton's method against known minima: a curved valley, saddles, undefined regions; one by one and many at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import optimize

from bayeslmm.numerics.differences import expand, jacobian, trials
from bayeslmm.numerics.newton import Ending, Point, Trial, minimise, minimise_scaled
from bayeslmm.numerics.newton_many import minimise_many


def exact(value: Callable, gradient: Callable, hessian: Callable) -> Callable[[np.ndarray], Trial]:
    return lambda x: Trial(float(value(x)), lambda: Point(x, float(value(x)), gradient(x), hessian(x)))


rosenbrock = exact(optimize.rosen, optimize.rosen_der, optimize.rosen_hess)


@pytest.mark.parametrize("start", [[-1.2, 1.0], [3.0, -2.0, 4.0], [1.0, 1.0], [-5.0, 5.0, -5.0, 5.0]])
def test_a_curved_valley_is_followed_to_its_minimum(start: list[float]) -> None:
    found = minimise(rosenbrock, np.array(start))
    assert found.ending is Ending.converged
    # Of four variables there is a second minimum near (-0.7757, 0.6131, 0.3821, 0.1460).
    assert found.value < 1e-12 or found.value == pytest.approx(3.7014, abs=1e-3)


def test_a_saddle_is_left() -> None:
    """``(x^2 - 1)^2 + y^2``: at x = 0 the gradient is zero and the curvature negative."""
    found = minimise(
        exact(
            lambda x: (x[0] ** 2 - 1) ** 2 + x[1] ** 2,
            lambda x: np.array([4 * x[0] * (x[0] ** 2 - 1), 2 * x[1]]),
            lambda x: np.diag([12 * x[0] ** 2 - 4, 2.0]),
        ),
        np.array([1e-8, 3.0]),
    )
    assert found.ending is Ending.converged and found.value < 1e-20
    np.testing.assert_allclose(np.abs(found.x), [1.0, 0.0], atol=1e-10)


def test_where_nothing_is_defined_it_says_so() -> None:
    found = minimise(exact(lambda x: np.nan, lambda x: np.zeros(1), lambda x: np.full((1, 1), np.nan)), np.ones(1))
    assert found.ending is Ending.non_finite


def test_the_limit_of_evaluations_is_kept() -> None:
    found = minimise(rosenbrock, np.array([-1.2, 1.0]), max_evaluations=4)
    assert (found.ending, found.evaluations) == (Ending.evaluation_limit, 4)


@pytest.mark.parametrize("unit", [1.0, 1e3, 1e9])
def test_sizes_of_the_variables_do_not_matter(unit: float) -> None:
    sizes = np.array([1.0, unit])
    found = minimise_scaled(
        exact(
            lambda x: optimize.rosen(x / sizes),
            lambda x: optimize.rosen_der(x / sizes) / sizes,
            lambda x: optimize.rosen_hess(x / sizes) / np.outer(sizes, sizes),
        ),
        np.array([-1.2, 1.0]) * sizes,
    )
    assert found.ending is Ending.converged
    np.testing.assert_allclose(found.x / sizes, 1.0, atol=1e-8)


def test_many_minima_are_those_of_each() -> None:
    """Quadratics with known minima, all at once; one of them is undefined and stops alone."""
    rng = np.random.default_rng(1)
    A = rng.normal(size=(6, 3, 3))
    H, at = A @ np.swapaxes(A, 1, 2) + np.eye(3), rng.normal(size=(6, 3))

    def function(x: np.ndarray, which: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        away = x - at[which]
        slope = np.einsum("kij,kj->ki", H[which], away)
        value = 0.5 * np.einsum("ki,ki->k", away, slope)
        return np.where(which == 4, np.nan, value), slope, H[which]

    found = minimise_many(function, np.zeros((6, 3)))
    assert [ending is Ending.converged for ending in found.ending] == [True, True, True, True, False, True]
    good = [0, 1, 2, 3, 5]
    np.testing.assert_allclose(found.x[good], at[good], rtol=1e-9, atol=1e-12)


def test_differences_have_the_digits_that_they_say() -> None:
    x = np.array([0.3, -1.1, 0.8])
    point = expand(lambda z: np.array([optimize.rosen(row) for row in z]), x, float(optimize.rosen(x)))
    np.testing.assert_allclose(point.gradient, optimize.rosen_der(x), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(point.hessian, optimize.rosen_hess(x), rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(jacobian(optimize.rosen_der, x), optimize.rosen_hess(x), rtol=1e-6, atol=1e-4)


def test_a_minimum_by_differences() -> None:
    found = minimise(trials(lambda z: (z - np.array([2.0, -3.0])) ** 2 @ np.array([1.0, 40.0])), np.zeros(2))
    assert found.ending is Ending.converged
    np.testing.assert_allclose(found.x, [2.0, -3.0], atol=1e-6)
