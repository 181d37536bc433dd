"""Starts of correlations by distance: regular, however smooth the function and however many the rows of a group."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import multivariate_normal

import bayeslmm as bl


@pytest.mark.parametrize("n", [60, 500])
def test_one_long_series_on_a_grid(n: int) -> None:
    rng = np.random.default_rng(1)
    y = np.zeros(n)
    for i in range(1, n):
        y[i] = 0.6 * y[i - 1] + rng.normal()
    time = np.arange(float(n))
    fit = bl.Model("y ~ 0", pd.DataFrame({"y": y, "time": time, "id": "a"}), residual="gaussian(time | id)").fit(
        reml=False
    )

    def log_density(log_range: float, sigma: float) -> float:
        R = np.exp(-((np.subtract.outer(time, time) / np.exp(log_range)) ** 2))
        return float(multivariate_normal.logpdf(y, np.zeros(n), sigma**2 * R))

    found = minimize_scalar(lambda x: -_profiled(log_density, x, y, time), bounds=(-1.0, 0.8), method="bounded")
    assert fit.criterion / -2.0 == pytest.approx(-found.fun, abs=1e-6)


def _profiled(log_density, log_range: float, y: np.ndarray, time: np.ndarray) -> float:  # type: ignore[no-untyped-def]
    R = np.exp(-((np.subtract.outer(time, time) / np.exp(log_range)) ** 2))
    return float(log_density(log_range, np.sqrt(y @ np.linalg.solve(R, y) / y.size)))
