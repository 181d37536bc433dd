"""Two autoregressive effects at a distance of two: their correlation is a square, in density, signs and tests."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl


def frame(sign: float) -> pd.DataFrame:
    """30 groups with two effects of equal size and a correlation of the sign."""
    rng = np.random.default_rng(5)
    first, second = rng.normal(size=(2, 30))
    effects = 2 * np.column_stack([first, sign * 0.7 * first + np.sqrt(0.51) * second])
    data = pd.DataFrame({"g": np.repeat(np.arange(30), 6), "t": np.tile(list("aabbab"), 30)})
    data["y"] = effects[data["g"], (data["t"] == "b").astype(int)] + rng.normal(size=180)
    return data


def model(data: pd.DataFrame, distance: int) -> bl.Model:
    return bl.Model("y ~ t + (0 + t | g)", data, cov={"g": bl.HeterogeneousAR1(2, times=(0, distance))})


def dense(design: object, G: np.ndarray) -> float:
    """-2 log restricted likelihood with sigma and beta profiled out, from n x n matrices."""
    X, y, term = design.X, design.y, design.terms[0]  # type: ignore[attr-defined]
    codes = design.groupings["g"].codes  # type: ignore[attr-defined]
    V = np.eye(len(y)) + (term.Z @ G @ term.Z.T) * (codes[:, None] == codes)
    A = X.T @ np.linalg.solve(V, X)
    r = y - X @ np.linalg.solve(A, X.T @ np.linalg.solve(V, y))
    nu = len(y) - X.shape[1]
    sums = nu * (1 + np.log(2 * np.pi * (r @ np.linalg.solve(V, r)) / nu))
    return float(np.linalg.slogdet(V)[1] + np.linalg.slogdet(A)[1] + sums)


@pytest.mark.parametrize("distance", [1, 2, 3])
@pytest.mark.parametrize("rho", [-0.6, 0.6])
def test_the_density_has_the_power_of_the_distance(distance: int, rho: float) -> None:
    one = model(frame(-1.0), distance)
    s = np.array([1.5, 0.8])
    R = np.array([[1.0, rho**distance], [rho**distance, 1.0]])
    assert one.criterion_at([*s, rho]) == pytest.approx(dense(one.design, np.outer(s, s) * R), rel=1e-11)


@pytest.mark.parametrize("distance", [1, 2, 3])
def test_signs_of_effects_change_where_their_covariance_is_one_of_the_structure(distance: int) -> None:
    structure = bl.HeterogeneousAR1(2, times=(0, distance))
    T = structure.factor(np.random.default_rng(1).normal(size=(500, 3)))
    negative = bool(((T @ T.transpose(0, 2, 1))[:, 0, 1] < 0).any())
    assert structure.mirrored is structure.additive is negative


def test_a_negative_correlation_is_estimated_at_zero() -> None:
    data = frame(-1.0)
    fit, apart = model(data, 2).fit(), bl.Model("y ~ t + (0 + t || g)", data).fit()
    assert fit.criterion == pytest.approx(apart.criterion, rel=1e-9)
    # A positive one is any, and both are then the unstructured model.
    data = frame(1.0)
    free = bl.Model("y ~ t + (0 + t | g)", data).fit()
    for distance in (1, 2, 3):
        assert model(data, distance).fit().criterion == pytest.approx(free.criterion, rel=1e-9)


def test_kenward_and_roger_are_for_covariances_that_add_up() -> None:
    data = frame(1.0)
    expected = bl.Model("y ~ t + (0 + t | g)", data).fit().coefficients("kenward-roger")["df"]
    two = [bl.Model(f"y ~ t + {keyword}(0 + t | g)", data) for keyword in ("ar1h", "csh")]
    for same in (*two, model(data, 1), model(data, 3)):
        np.testing.assert_allclose(same.fit().coefficients("kenward-roger")["df"], expected, rtol=1e-6)
    with pytest.raises(bl.DesignError, match=r"ar1h\(\.\.\.\) .* is not"):
        model(data, 2).fit().coefficients("kenward-roger")
