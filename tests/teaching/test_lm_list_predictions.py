"""Predictions of regressions of single groups, against least squares by numpy and by scipy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayeslmm as bl


@pytest.fixture(scope="module")
def ragged() -> pd.DataFrame:
    rng = np.random.default_rng(8)
    data = pd.DataFrame(
        {"g": np.repeat(list("abcd"), [6, 9, 2, 1]), "x": rng.normal(size=18), "o": rng.normal(size=18)}
    )
    data["w"] = rng.uniform(0.5, 2.0, 18)
    return data.assign(y=1 + data["x"] + 2 * rng.normal(size=18))


@pytest.mark.parametrize("pool", [True, False])
def test_predictions_are_those_of_weighted_least_squares(ragged: pd.DataFrame, pool: bool) -> None:
    lines = bl.lm_list("y ~ x + offset(o) | g", ragged, weights="w")
    new = pd.DataFrame({"x": [0.5, -2.0, 0.1, 0.0], "o": [1.0, 0.0, 3.0, 0.0], "g": list("abdz")}, index=list("qrst"))
    found = lines.predict(new, level=0.9, pool=pool)
    rss, dfs, fits = {}, {}, {}
    for name, own in ragged.groupby("g"):
        root = np.sqrt(own["w"].to_numpy())
        A = np.column_stack([np.ones(len(own)), own["x"]]) * root[:, None]
        z = (own["y"] - own["o"]).to_numpy() * root
        b, *_ = np.linalg.lstsq(A, z)
        rss[name], dfs[name] = float(((z - A @ b) ** 2).sum()), len(own) - np.linalg.matrix_rank(A)
        fits[name] = b, np.linalg.pinv(A.T @ A)
        at = (lines.fitted()[own.index] - own["o"]).to_numpy() * root
        np.testing.assert_allclose(at, A @ b, atol=1e-10)
    total, df = sum(rss.values()), sum(dfs.values())
    for label, name in (("q", "a"), ("r", "b")):
        b, cov = fits[name]
        row = np.array([1.0, new.loc[label, "x"]])
        variance, own = (total / df, df) if pool else (rss[name] / dfs[name], dfs[name])
        error = np.sqrt(variance * row @ cov @ row)
        mean, half = row @ b + new.loc[label, "o"], stats.t.ppf(0.95, own) * error
        np.testing.assert_allclose(found.loc[label], [mean, error, mean - half, mean + half], rtol=1e-9)
    # One row for two coefficients; a group that the data do not have.
    assert found.loc[["s", "t"]].isna().all(axis=None) and list(found.index) == list("qrst")


def test_wrong_new_data_are_refused_in_words(ragged: pd.DataFrame) -> None:
    lines = bl.lm_list("y ~ x | g", ragged)
    with pytest.raises(bl.DesignError, match="no column 'x'"):
        lines.predict(pd.DataFrame({"g": ["a"]}))
    with pytest.raises(bl.DesignError, match=r"2"):
        lines.predict(ragged, level=2)
    padded = bl.lm_list("y ~ x | g", ragged.assign(x=ragged["x"].where(ragged.index != 3)), na_action="exclude")
    assert padded.fitted().isna().tolist() == [k == 3 for k in range(18)]
