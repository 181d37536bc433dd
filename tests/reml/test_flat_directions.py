"""Newton's method on a criterion that is flat up to rounding: numbers all the way, and an end."""

from __future__ import annotations

import numpy as np
import pytest

from bayeslmm.numerics.newton import Ending, Point, Trial, minimise
from bayeslmm.numerics.newton_many import minimise_many

SLOPES = [0.0, 1e-16, 1e-8, 1.0]
CURVATURES = [0.0, 1e-320, 1e-200, 1e-120, 1e-30]


def flat(slope: float, curvature: float) -> tuple[float, np.ndarray, np.ndarray]:
    """A constant whose derivatives are rounding."""
    return 7.0, np.array([slope]), np.array([[curvature]])


@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("curvature", CURVATURES)
def test_rounding_for_a_curvature(slope: float, curvature: float) -> None:
    def evaluate(x: np.ndarray) -> Trial:
        value, gradient, hessian = flat(slope, curvature)
        return Trial(value, lambda: Point(x, value, gradient, hessian))

    found = minimise(evaluate, np.array([0.5]))
    assert np.isfinite(found.x).all()
    assert found.value == 7.0
    assert all(np.isfinite(step.length) for step in found.steps)
    assert found.ending in (Ending.converged, Ending.no_descent)


@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("curvature", CURVATURES)
def test_the_same_for_many(slope: float, curvature: float) -> None:
    def function(x: np.ndarray, which: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        value, gradient, hessian = flat(slope, curvature)
        return np.full(which.size, value), np.tile(gradient, (which.size, 1)), np.tile(hessian, (which.size, 1, 1))

    found = minimise_many(function, np.array([[0.5], [-2.0]]))
    assert np.isfinite(found.x).all()
    assert set(found.ending) <= {Ending.converged, Ending.no_descent}
