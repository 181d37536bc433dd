"""Another response of a model that was read in chunks."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.likelihood.recheck_sums import compressed_rows
from tests.streaming.chunked import parts


def _data() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    g, h = rng.integers(0, 15, 240), rng.integers(0, 8, 240)
    y = rng.normal(size=15)[g] + rng.normal(size=8)[h] + rng.normal(size=240)
    return pd.DataFrame({"y": y, "x": rng.normal(size=240), "g": g, "h": h})


@pytest.mark.parametrize("formula", ["y ~ x + (1 | g) + (1 | h)", "y ~ x + (x | g) + (1 | h)", "y ~ x + (1 | g)"])
@pytest.mark.parametrize("seed", range(4))
def test_other_response_is_confirmed(formula: str, seed: int) -> None:
    data, y = _data(), np.random.default_rng(seed).normal(size=240)
    model = bl.Model(formula, parts(data, 3), progress=False)
    order = pd.concat(parts(data, 3)).index
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fits = [model.with_response(y[order]).fit(), model.fit().refit(y[order])]
        expected = bl.Model(formula, data.assign(y=y)).fit()
    for fit in fits:
        assert fit.status.ok
        assert fit.criterion == pytest.approx(expected.criterion, rel=1e-12)


def test_rows_of_sums_have_the_products_of_the_rows() -> None:
    data = _data()
    model = bl.Model("y ~ x + (1 | g) + (1 | h)", data)
    columns, y = compressed_rows(model.cross_products.sums)
    cp = model.cross_products
    # The intercept does not vary within levels: only its means there say something of it.
    fixed = np.asarray(cp.fixed.columns)
    residual = np.asarray(cp.response.residual)
    assert columns[:, -cp.p :].T @ columns[:, -cp.p :] == pytest.approx(fixed.T @ fixed, abs=1e-10)
    assert columns[:, -cp.p :].T @ y == pytest.approx(fixed.T @ residual, abs=1e-10)
    assert float(y @ y) == pytest.approx(float(residual @ residual), rel=1e-12)
