"""Predictions from correlated residuals against the dense normal distribution of old and new rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.errors import DesignError

# Dense solves of small well-conditioned matrices.
EXACT = 1e-9


@cache
def _made() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    m = 18
    g = np.repeat([f"{letter}" for letter in "abcdefghijklmnopqr"], 5)
    h = np.array(["u", "v", "w"])[rng.integers(0, 3, 5 * m)]
    level = rng.normal(size=m)
    e = np.repeat(level, 5) + 0.7 * np.concatenate([np.cumsum(rng.normal(size=5)) for _ in range(m)])
    frame = pd.DataFrame({"g": g, "t": np.tile([0, 1, 3, 4, 7], m), "h": h, "w": rng.uniform(0.5, 2.0, 5 * m)})
    frame["x"] = rng.normal(size=5 * m)
    frame["s"] = np.where(g < "i", "m", "n")
    frame["v"] = np.array(["v0", "v1", "v2", "v3", "v4"])[np.tile(np.arange(5), m)]
    frame["y"] = 2.0 + frame["x"] + e + 2.0 * rng.normal(size=3)[pd.factorize(frame["h"])[0]]
    return frame.sample(frac=1.0, random_state=4)


def _data() -> pd.DataFrame:
    return _made()


@cache
def _fit(formula: str, **options: str) -> Any:
    return bl.Model(formula, _data(), **options).fit()


def _new(known: bool = True) -> pd.DataFrame:
    """Times between, behind and at those of the data; a group that is new."""
    return pd.DataFrame(
        {
            "g": ["b", "b", "j", "z", "z"] if known else ["y", "y", "y", "z", "z"],
            "t": [2, 9, 3, 1, 2],
            "v": ["v1", "v4", "v2", "v1", "v2"],
            "h": ["u", "v", "w", "u", "u"],
            "w": [1.0, 2.0, 0.7, 1.0, 3.0],
            "x": [0.3, -1.0, 0.5, 2.0, 0.0],
            "s": ["m", "m", "n", "n", "n"],
        }
    )


def _lag(a: pd.DataFrame) -> np.ndarray:
    return np.abs(a["t"].to_numpy()[:, None] - a["t"].to_numpy()).astype(float)


def _ar1(own: pd.Series, a: pd.DataFrame) -> np.ndarray:
    return own["residual_rho"] ** _lag(a)


def _car1_by(own: pd.Series, a: pd.DataFrame) -> np.ndarray:
    sd = np.where(a["s"] == "n", own["residual_sd_ratio_s[n]"], 1.0) / np.sqrt(a["w"].to_numpy())
    return own["residual_phi"] ** _lag(a) * np.outer(sd, sd)


def _cs(own: pd.Series, a: pd.DataFrame) -> np.ndarray:
    # Without a visit, a further row of a group is another one.
    return own["residual_rho"] + (1.0 - own["residual_rho"]) * np.eye(len(a))


def _place(own: pd.Series, a: pd.DataFrame) -> np.ndarray:
    at = a[["t", "w"]].to_numpy()
    apart = np.sqrt(((at[:, None] - at) ** 2).sum(-1))
    return np.exp(-apart / own["residual_range"])


def _us(own: pd.Series, a: pd.DataFrame) -> np.ndarray:
    visits = sorted(_data()["v"].unique())
    C = np.eye(5)
    for i in range(5):
        for j in range(i):
            C[i, j] = C[j, i] = own[f"residual_corr[{visits[j]}.{visits[i]}]"]
    sd = np.array([1.0, *(own[f"residual_sd_ratio_v[{v}]"] for v in visits[1:])])
    k = np.searchsorted(visits, a["v"])
    return (C * np.outer(sd, sd))[np.ix_(k, k)]


CASES: dict[str, tuple[str, dict[str, Any], Callable[[pd.Series, pd.DataFrame], np.ndarray]]] = {
    "ar1": ("y ~ x", {"residual": "ar1(t | g)"}, _ar1),
    "car1 beside effects": ("y ~ x + (1 | g)", {"residual": "by(s) + car1(t | g)", "weights": "w"}, _car1_by),
    "cs across effects": ("y ~ x + (1 | h)", {"residual": "cs(g)"}, _cs),
    "places": ("y ~ x + (x | g) + (1 | h)", {"residual": "exp(t + w | g)"}, _place),
    "us": ("y ~ x", {"residual": "us(v | g)"}, _us),
}


def _dense(fit: Any, new: pd.DataFrame, R: Callable[[pd.Series, pd.DataFrame], np.ndarray]) -> tuple[Any, Any]:
    """Best linear unbiased predictions of new observations and the variances of their errors."""
    own, old = fit.estimates(), _data()
    both = pd.concat([old, new], ignore_index=True)
    sigma2 = fit.sigma**2
    V = sigma2 * R(own, both) * (both["g"].to_numpy()[:, None] == both["g"].to_numpy())
    for term, T in zip(fit.design.terms, fit.optimum.terms, strict=True):
        Z = np.column_stack([np.ones(len(both)), both["x"]])[:, : len(term.effects)] @ T
        level = both[term.group].to_numpy()
        V += sigma2 * (Z @ Z.T) * (level[:, None] == level)
    X = np.column_stack([np.ones(len(both)), both["x"]])
    n = len(old)
    solve = np.linalg.solve(V[:n, :n], np.column_stack([X[:n], old["y"], V[:n, n:]]))
    W, Wy, gain = solve[:, :2], solve[:, 2], solve[:, 3:]
    C = np.linalg.inv(X[:n].T @ W)
    beta = C @ (X[:n].T @ Wy)
    mean = X[n:] @ beta + gain.T @ (old["y"].to_numpy() - X[:n] @ beta)
    left = X[n:] - gain.T @ X[:n]
    error = V[n:, n:] - V[n:, :n] @ gain + left @ C @ left.T
    return mean, np.diag(error)


@pytest.mark.parametrize("case", CASES)
def test_new_rows_are_predicted_from_the_residuals_of_their_group(case: str) -> None:
    formula, options, R = CASES[case]
    fit = _fit(formula, **options)
    new = _new()
    mean, variance = _dense(fit, new, R)
    found = fit.predict(new, kind="observation", new_levels="sample", ddf="z")
    np.testing.assert_allclose(found["estimate"], mean, rtol=EXACT)
    np.testing.assert_allclose(found["std_error"] ** 2, variance, rtol=EXACT, atol=EXACT * fit.sigma**2)
    # The mean of a row given the others is without what is left of its own residual.
    np.testing.assert_allclose(fit.predict(new, new_levels="sample", ddf="z")["estimate"], mean, rtol=EXACT)


def test_rows_of_no_known_group_and_rows_taken_for_new_have_their_own_variance() -> None:
    formula, options, R = CASES["car1 beside effects"]
    fit = _fit(formula, **options)
    for new in (_new(known=False), _new()):
        table = fit.predict(new, kind="observation", random="new", ddf="z")
        mean, variance = _dense(fit, _new(known=False), R)
        np.testing.assert_allclose(table["estimate"], mean, rtol=EXACT)
        np.testing.assert_allclose(table["std_error"] ** 2, variance, rtol=EXACT)
    known = fit.predict(_new()[:3], residuals="new", ddf="z")
    effects = fit.fixef()["Intercept"] + fit.fixef()["x"] * _new()["x"][:3]
    np.testing.assert_allclose(
        known["estimate"], effects + fit.ranef()["g"].loc[["b", "b", "j"], "Intercept"].to_numpy(), rtol=EXACT
    )


@pytest.mark.parametrize("residual", ["ar1h(v | g)", "csh(v | g)"])
def test_a_row_of_the_data_is_itself_and_the_interval_has_no_width(residual: str) -> None:
    fit = bl.Model("y ~ x", _data(), residual=residual).fit()
    data = _data()
    table = fit.predict(data.drop(columns="y"))
    np.testing.assert_allclose(table["estimate"], data["y"], rtol=1e-8)
    assert (table["std_error"] < 1e-7 * fit.sigma).all()
    assert np.isfinite(table.to_numpy()).all()


def test_degrees_of_freedom_count_the_residual_parameters() -> None:
    fit = bl.Model("y ~ x", _data(), residual="cs(g)").fit()
    mixed = bl.Model("y ~ x + (1 | g)", _data()).fit()
    new = _new()[["g", "x"]].iloc[:3]
    for kind in ("mean", "observation"):
        one, other = fit.predict(new, kind=kind, residuals="new"), mixed.predict(new, kind=kind, random=None)
        if kind == "mean":
            np.testing.assert_allclose(one, other, rtol=1e-4)
    # The same normal distribution of a new row, by random effects: both count both variance parameters.
    one, other = fit.predict(new, kind="observation"), mixed.predict(new, kind="observation")
    np.testing.assert_allclose(one, other, rtol=1e-4)


@pytest.mark.parametrize(
    ("residual", "column", "value", "words"),
    [
        ("by(s)", "s", "q", "'q'.*no residual variance"),
        ("us(v | g)", "v", "v9", "'v9'.*no correlation|'v9'.*no residual variance"),
        ("power(w)", "w", 0.0, "is 0"),
        ("ar1(t | g)", "t", 1.5, "whole times"),
        ("us(v | g, by=s)", "s", "n", "arm is the same"),
    ],
)
def test_what_the_data_did_not_have_is_said(residual: str, column: str, value: object, words: str) -> None:
    fit = _fit("y ~ x", residual=residual)
    new = _new().iloc[:1].assign(**{column: value})
    with pytest.raises(DesignError, match=words):
        fit.predict(new, kind="observation")


def test_words_of_the_argument() -> None:
    fit = bl.Model("y ~ x", _data(), residual="ar1(t | g)").fit()
    with pytest.raises(DesignError, match="independent"):
        bl.Model("y ~ x", _data(), residual="by(s)").fit().predict(_new(), residuals="known")
    with pytest.raises(DesignError, match="goes with new data"):
        fit.predict(residuals="known")
    with pytest.raises(DesignError, match="residuals"):
        fit.predict(_new(), residuals="all")
    with pytest.raises(DesignError, match=r"no column 'g'|'g', which is not a column"):
        fit.predict(_new()[["x", "t"]])
    np.testing.assert_allclose(
        fit.predict(_new()[["x"]], random=None)["estimate"], fit.fixef()["Intercept"] + fit.fixef()["x"] * _new()["x"]
    )


def test_a_saved_model_predicts_the_same(tmp_path: Any) -> None:
    fit = bl.Model("y ~ x", _data(), residual="us(v | g)").fit()
    fit.save(tmp_path / "model")
    again = bl.load(tmp_path / "model")
    pd.testing.assert_frame_equal(again.predict(_new(), kind="observation"), fit.predict(_new(), kind="observation"))
