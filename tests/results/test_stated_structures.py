"""Covariances that are stated by standard deviations and correlations are those that are simulated from."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.linalg import toeplitz

import bayeslmm as bl
from bayeslmm.results.truth import truth_of_values

RHO = np.array([0.5, 0.3, -0.1])
SDS = np.array([1.0, 2.0, 0.5, 1.5])
COVARIANCES = {
    "cs": 4.0 * (0.4 + 0.6 * np.eye(4)),
    "csh": np.outer(SDS, SDS) * (0.4 + 0.6 * np.eye(4)),
    "ar1": 4.0 * toeplitz(0.4 ** np.arange(4)),
    "ar1h": np.outer(SDS, SDS) * toeplitz(0.4 ** np.arange(4)),
    "toep": 4.0 * toeplitz(np.append(1.0, RHO)),
    "id": 4.0 * np.eye(4),
}


@pytest.fixture(scope="module")
def cells() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"g": np.repeat(np.arange(12), 8), "t": np.tile(list("aabbccdd"), 12)})
    return frame.assign(y=rng.normal(size=12)[frame.g] + rng.normal(size=96))


@pytest.mark.parametrize("keyword", COVARIANCES)
def test_the_covariance_is_the_one_that_was_stated(keyword: str, cells: pd.DataFrame) -> None:
    model = bl.Model(f"y ~ t + {keyword}(0 + t | g)", cells)
    values = {}
    for label in model.fit().estimates().index:
        if label.startswith("sd_g["):
            values[label] = 2.0 if keyword not in ("csh", "ar1h") else float(SDS["abcd".index(label[-3])])
        elif label.startswith("corr_g["):
            values[label] = float(RHO[int(label[-2]) - 1]) if keyword == "toep" else 0.4
    given = {**values, "sigma": 0.5, **dict.fromkeys(model.design.fixed_names, 0.0)}
    truth = truth_of_values(model.design, given, lambda names: dict.fromkeys(names, 0.0))
    T = 0.5 * truth.terms[0]
    np.testing.assert_allclose(T @ T.T, COVARIANCES[keyword], atol=1e-12)
    assert model.fit().simulate(2, sigma=0.5, random_seed=1).shape == (96, 2)
