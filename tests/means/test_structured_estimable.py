"""Degrees of freedom of functions of random effects beside residual parameters, against dense algebra."""

from __future__ import annotations

import numpy as np
import pytest

import bayeslmm as bl

# Differences of a dense criterion leave about this of second derivatives.
CLOSE = 2e-3


def test_satterthwaite_of_a_prediction_counts_residual_parameters() -> None:
    data = bl.load_dataset("Orthodont")
    model = bl.Model("distance ~ age + (1 | Subject)", data, residual="by(Sex)")
    fit = model.fit()
    level = str(next(iter(fit.ranef()["Subject"].index)))
    found = fit.estimable({"one": {"Intercept": 1.0, "age": 11.0, f"Subject[{level}]": 1.0}}).frame
    X, y, n = model.design.X, model.design.y, model.design.n
    codes, female = model.design.groupings["Subject"].codes, (data["Sex"] == "Female").to_numpy()
    Z = np.eye(codes.max() + 1)[codes]
    k = np.concatenate([np.eye(Z.shape[1])[list(fit.ranef()["Subject"].index.astype(str)).index(level)], [1.0, 11.0]])

    def parts(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Residual variances, and the matrix of Henderson's equations, at logs of sd, sd ratio and sigma."""
        r = np.exp(2.0 * (x[2] + x[1] * female))
        W = np.hstack([Z, X])
        H = W.T @ (W / r[:, None])
        H[: Z.shape[1], : Z.shape[1]] += np.eye(Z.shape[1]) * np.exp(-2.0 * x[0])
        return r, H

    def variance(x: np.ndarray) -> float:
        return float(k @ np.linalg.solve(parts(x)[1], k))

    def criterion(x: np.ndarray) -> float:
        V = np.diag(parts(x)[0]) + np.exp(2.0 * x[0]) * Z @ Z.T
        W = np.linalg.inv(V)
        beta = np.linalg.solve(X.T @ W @ X, X.T @ W @ y)
        return float(np.linalg.slogdet(V)[1] + np.linalg.slogdet(X.T @ W @ X)[1] + (y - X @ beta) @ W @ (y - X @ beta))

    names = ["sd_Subject[Intercept]", "residual_sd_ratio_Sex[Female]", "sigma"]
    at, h, E = np.log(fit.estimates()[names].to_numpy()), 1e-3, np.eye(3)

    def mixed(a: np.ndarray, b: np.ndarray) -> float:
        corners = [(1, 1), (1, -1), (-1, 1), (-1, -1)]
        return sum(i * j * criterion(at + h * (i * a + j * b)) for i, j in corners) / (4 * h * h)

    second = np.array([[mixed(a, b) for b in E] for a in E])
    slope = np.array([(variance(at + h * a) - variance(at - h * a)) / (2 * h) for a in E])
    expected = 2.0 * variance(at) ** 2 / (slope @ (2.0 * np.linalg.inv(second)) @ slope)
    assert n == 108
    assert found["std_error"].iloc[0] == pytest.approx(np.sqrt(variance(at)), rel=1e-6)
    assert found["df"].iloc[0] == pytest.approx(expected, rel=CLOSE)
