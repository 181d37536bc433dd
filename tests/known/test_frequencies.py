"""Heterogeneity of rows that stand for several observations: that of the rows written out, from first principles."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl


@pytest.mark.parametrize("n", [40, 900])
def test_i2_of_counted_rows(n: int) -> None:
    rng = np.random.default_rng(3)
    counted = pd.DataFrame({"g": np.arange(n) % 8, "x": rng.normal(size=n), "s": rng.uniform(0.5, 2.0, n)})
    counted["y"] = rng.normal(0.0, 1.0, 8)[counted["g"]] + counted["s"] * rng.normal(size=n)
    counted["f"] = rng.integers(1, 6, n)
    fit = bl.Model("y ~ x + (1 | g)", counted, residual_sd="s", frequency="f").fit()
    rows = counted.loc[counted.index.repeat(counted["f"])]
    W, X = np.diag(1.0 / rows["s"].to_numpy() ** 2), np.column_stack([np.ones(len(rows)), rows["x"]])
    P = W - W @ X @ np.linalg.solve(X.T @ W @ X, X.T @ W)
    typical = (len(rows) - 2) / np.trace(P)
    found = fit.heterogeneity()
    tau2 = float(fit.varcorr()["vcov"].iloc[0])
    assert found.typical_variance == pytest.approx(typical, rel=1e-10)
    assert pytest.approx(100.0 * tau2 / (tau2 + typical), rel=1e-10) == found.I2
