"""Criteria of awkward shape: bent valleys beside a zero, effects a million times the residual sd, several minima.

The criterion is written out with dense matrices here; limits of large effects are least squares within levels.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

import bayeslmm as bl
from bayeslmm.reml.status import FitStatus


def criterion(X: np.ndarray, y: np.ndarray, V: np.ndarray, reml: bool) -> float:
    """-2 log (restricted) likelihood over sigma for a marginal covariance sigma^2 V."""
    L = np.linalg.cholesky(V)
    A, b = np.linalg.solve(L, X), np.linalg.solve(L, y)
    rest = b - A @ np.linalg.lstsq(A, b)[0]
    nu = len(y) - X.shape[1] if reml else len(y)
    logs = 2 * np.log(np.diag(L)).sum() + (np.linalg.slogdet(A.T @ A)[1] if reml else 0.0)
    return float(nu * (1 + np.log(2 * np.pi * (rest @ rest) / nu)) + logs)


@pytest.mark.parametrize("seed", [53, 708, 770])
def test_a_rotated_zero_is_reached(seed: int) -> None:
    rng = np.random.default_rng(seed)
    s, x = np.arange(100) % 10, rng.normal(size=100)
    y = rng.normal(size=10)[s] * x * 0.8 + rng.normal(size=100)
    Z, X = (s[:, None] == np.arange(10)).astype(float), np.column_stack([np.ones(100), x])

    def rank_one(v: np.ndarray) -> float:
        effects = v[0] * Z + v[1] * Z * x[:, None]
        return criterion(X, y, np.eye(100) + effects @ effects.T, True)

    expected = min(minimize(rank_one, start, method="BFGS").fun for start in ([0.1, 0.8], [-0.1, 0.8], [0.01, 1.2]))
    fit = bl.Model("y ~ x + (x | s)", pd.DataFrame({"y": y, "x": x, "s": s})).fit()
    assert fit.status is FitStatus.converged_at_boundary
    assert fit.criterion == pytest.approx(expected, abs=1e-7)
    many = fit.refit_many(y[:, None])
    assert many.optima.status == (FitStatus.converged_at_boundary,)
    assert many.criterion[0] == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ratio", [1e4, 1e5, 1e6])
def test_effects_far_above_the_residual_sd(ratio: float, weighted: bool) -> None:
    """In the limit sigma and the slope are those of least squares within levels."""
    for seed in range(8):
        rng = np.random.default_rng(seed)
        s, x = np.arange(60) % 10, rng.normal(size=60)
        w = rng.uniform(0.5, 2.0, 60) if weighted else np.ones(60)
        y = ratio * rng.normal(size=10)[s] + x + rng.normal(size=60) / np.sqrt(w)
        data = pd.DataFrame({"y": y, "x": x, "s": s, "w": w})
        X = np.column_stack([s[:, None] == np.arange(10), x]) * np.sqrt(w)[:, None]
        coef, rest = np.linalg.lstsq(X, y * np.sqrt(w))[:2]
        fit = bl.Model("y ~ x + (1 | s)", data, weights="w").fit()
        assert fit.status is FitStatus.converged
        assert fit.sigma == pytest.approx(np.sqrt(rest[0] / 49), rel=2e-7)
        assert fit.fixef()["x"] == pytest.approx(coef[-1], abs=0.2 / ratio)
        many = fit.refit_many(y[:, None])
        assert many.optima.status == (FitStatus.converged,)
        assert many.optima.sigma[0] == pytest.approx(fit.sigma, rel=2e-7)
        assert many.optima.beta[0] == pytest.approx(fit.fixef().to_numpy(), rel=1e-6)


def small() -> pd.DataFrame:
    y = [0.13, -0.55, 0.34, 1.44, -4.14, -0.47, 0.84, 0.77, -0.7, 4.96, -2.26, 2.61, -0.62, -0.99, -0.52, 12.36, -1.27]
    x = [1.54, 0.64, -0.68, -0.65, 1.91, 2.03, 0.81, 0.53, -0.72, 0.21, 0.69, -2.54, -0.05, -2.02, -2.0, -0.72, 0.95]
    g = [2, 1, 0, 2, 0, 2, 2, 2, 2, 2, 0, 0, 1, 0, 2, 1, 0]
    h = [2, 2, 4, 4, 1, 2, 4, 4, 2, 4, 0, 3, 3, 4, 0, 1, 3]
    return pd.DataFrame({"y": y, "x": x, "g": g, "h": h})


def outlying(seed: int) -> pd.DataFrame:
    """Small levels with effects far out beside large ones, and a factor with rare levels."""
    rng = np.random.default_rng(seed)
    sizes = np.array([1, 1, 2, 1, 90, 4, 40])
    g = np.repeat(np.arange(7), sizes)
    h = rng.choice(6, g.size, p=[0.7, 0.2, 0.04, 0.03, 0.02, 0.01])
    x = rng.normal(size=g.size) * np.exp(rng.uniform(-2, 2, 7))[g]
    y = rng.normal(size=g.size) + 2 * rng.standard_t(2, size=7)[g] * x + rng.standard_t(2, size=6)[h]
    return pd.DataFrame({"y": y, "x": x, "g": g, "h": h})


def dense_minimum(data: pd.DataFrame, parts: list[np.ndarray], X: np.ndarray, reml: bool) -> float:
    """Lowest of searches from every combination of relative sds."""
    y = data["y"].to_numpy()

    def value(t: np.ndarray) -> float:
        return criterion(X, y, np.eye(len(y)) + sum(a * a * (Z @ Z.T) for a, Z in zip(t, parts, strict=True)), reml)

    starts = np.stack(np.meshgrid(*[[0.0, 0.3, 1.5, 6.0]] * len(parts), indexing="ij"), -1).reshape(-1, len(parts))
    ranked = sorted(starts, key=value)[:12]
    return min(float(minimize(value, start, method="L-BFGS-B").fun) for start in ranked)


def indicator(codes: pd.Series) -> np.ndarray:
    return (codes.to_numpy()[:, None] == np.unique(codes)).astype(float)


def test_the_lowest_of_several_minima_of_three_variances() -> None:
    data = small()
    X, G, H = np.column_stack([np.ones(17), data["x"]]), indicator(data["g"]), indicator(data["h"])
    expected = dense_minimum(data, [G, H, H * data["x"].to_numpy()[:, None]], X, False)
    fit = bl.Model("y ~ x + (1 | g) + (x || h)", data).fit(reml=False)
    assert fit.criterion <= expected + 1e-6
    # The nearest minimum is another.
    assert expected < 88.2 < 89.0


@pytest.mark.parametrize("seed", range(12))
def test_the_lowest_of_several_minima_of_two_variances(seed: int) -> None:
    data = outlying(seed)
    X, G, H = np.column_stack([np.ones(len(data)), data["x"]]), indicator(data["g"]), indicator(data["h"])
    expected = dense_minimum(data, [G * data["x"].to_numpy()[:, None], H], X, True)
    fit = bl.Model("y ~ x + (0 + x | g) + (1 | h)", data).fit()
    assert fit.criterion <= expected + 1e-6


def test_many_responses_with_a_variance_that_is_zero_in_all() -> None:
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"y": rng.normal(size=60), "g": np.arange(60) % 6, "h": np.arange(60) // 10})
    fit = bl.Model("y ~ 1 + (1 | g) + (1 | h)", data).fit()
    assert fit.theta.tolist() == [0.0, 0.0]
    y = data["y"].to_numpy()
    many = fit.refit_many(np.column_stack([y, 2 * y]))
    for k in range(2):
        assert many.criterion[k] == pytest.approx(criterion(np.ones((60, 1)), (k + 1) * y, np.eye(60), True), abs=1e-9)
