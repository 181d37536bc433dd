"""Asymptotic standard errors of variance parameters: closed forms, dense second derivatives, the boundary."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.errors import DesignError, FitError


def covariance_by_second_derivatives(
    y: np.ndarray, X: np.ndarray, parts: list[np.ndarray], values: list[float], reml: bool = True
) -> np.ndarray:
    """Twice the inverse of the second derivatives of -2 log L in the coefficients of V = sum values * parts.

    -tr(P V_i P V_j) + 2 y'P V_i P V_j P y, with V^-1 in place of P in the trace for ML.
    """
    V = sum(value * part for value, part in zip(values, parts, strict=True))
    W = np.linalg.inv(V)
    P = W - W @ X @ np.linalg.solve(X.T @ W @ X, X.T @ W)
    T, r = (P if reml else W), P @ y
    k = len(parts)
    H = np.empty((k, k))
    for i in range(k):
        for j in range(k):
            H[i, j] = -np.trace(T @ parts[i] @ T @ parts[j]) + 2 * r @ parts[i] @ P @ parts[j] @ r
    return 2 * np.linalg.inv(H)


def sleepstudy_parts() -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    data = bl.load_dataset("sleepstudy")
    days = data["Days"].to_numpy(float)
    same = (data["Subject"].to_numpy()[:, None] == data["Subject"].to_numpy()).astype(float)
    one = np.ones(180)
    parts = [same, same * np.outer(days, days), same * (np.outer(one, days) + np.outer(days, one)), np.eye(180)]
    return data["Reaction"].to_numpy(), np.column_stack([one, days]), parts


def test_balanced_one_way_layout() -> None:
    fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()
    data = bl.load_dataset("Dyestuff")
    within = float(((data["Yield"] - data.groupby("Batch")["Yield"].transform("mean")) ** 2).sum() / 24)
    between = float(5 * data.groupby("Batch")["Yield"].mean().var())
    # Mean squares are independent multiples of chi-square variables.
    var_between, var_within = 2 * between**2 / 5, 2 * within**2 / 24
    expected = [[(var_between + var_within) / 25, -var_within / 5], [-var_within / 5, var_within]]
    np.testing.assert_allclose(fit.vcov_variances("variance"), expected, rtol=1e-9)
    errors = fit.variances("variance")
    np.testing.assert_allclose(errors["std_error"], np.sqrt(np.diagonal(expected)), rtol=1e-9)
    np.testing.assert_allclose(errors["estimate"], [(between - within) / 5, within], rtol=1e-9)
    sds = fit.variances()
    np.testing.assert_allclose(sds["estimate"] ** 2, errors["estimate"], rtol=1e-12)
    np.testing.assert_allclose(2 * sds["estimate"] * sds["std_error"], errors["std_error"], rtol=1e-12)
    assert list(errors.index) == ["var_Batch[Intercept]", "sigma^2"]
    assert (sds["note"] == "").all()


@pytest.mark.parametrize("reml", [True, False])
def test_correlated_effects(reml: bool) -> None:
    y, X, parts = sleepstudy_parts()
    fit = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit(reml)
    table = fit.variances("variance")
    assert list(table.index) == [
        "var_Subject[Intercept]",
        "var_Subject[Days]",
        "cov_Subject[Intercept.Days]",
        "sigma^2",
    ]
    expected = covariance_by_second_derivatives(y, X, parts, table["estimate"].tolist(), reml)
    np.testing.assert_allclose(fit.vcov_variances("variance"), expected, rtol=1e-6, atol=1e-8 * expected.max())
    # sds and correlation by the derivatives of their definitions.
    a, b, c, s = table["estimate"]
    J = np.diag([0.5 / np.sqrt(a), 0.5 / np.sqrt(b), 1 / np.sqrt(a * b), 0.5 / np.sqrt(s)])
    J[2, :2] = [-c / (2 * a * np.sqrt(a * b)), -c / (2 * b * np.sqrt(a * b))]
    np.testing.assert_allclose(fit.vcov_variances(), J @ expected @ J.T, rtol=1e-6, atol=1e-8)
    assert list(fit.vcov_variances().columns) == [p for p in fit.estimates().index if p not in fit.fixef().index]


def test_crossed_factors_and_weights() -> None:
    rng = np.random.default_rng(3)
    g, h, w = np.repeat(np.arange(8), 6), np.tile(np.arange(6), 8), rng.uniform(0.5, 3.0, 48)
    y = 1.5 * rng.normal(size=8)[g] + rng.normal(size=6)[h] + rng.normal(size=48) / np.sqrt(w)
    frame = pd.DataFrame({"y": y, "x": rng.normal(size=48), "g": g, "h": h, "w": w})
    for store in ("levels", "hierarchy"):
        fit = bl.Model("y ~ x + (1 | g) + (1 | h)", frame, weights="w", store=store).fit()  # type: ignore[arg-type]
        values = fit.variances("variance")["estimate"].tolist()
        parts = [(g[:, None] == g).astype(float), (h[:, None] == h).astype(float), np.diag(1 / w)]
        X = np.column_stack([np.ones(48), frame["x"]])
        expected = covariance_by_second_derivatives(y, X, parts, values)
        np.testing.assert_allclose(fit.vcov_variances("variance"), expected, rtol=1e-4, atol=1e-6)


def test_compound_symmetry() -> None:
    data = bl.load_dataset("Machines")
    fit = bl.Model("score ~ Machine + cs(0 + Machine | Worker)", data).fit()
    worker, machine = data["Worker"].to_numpy(), data["Machine"].to_numpy()
    same = (worker[:, None] == worker).astype(float)
    cell = same * (machine[:, None] == machine)
    # Sigma = tau^2 [(1 - rho) I + rho 11']: the coefficients of `cell` and `same` are tau^2 (1 - rho) and tau^2 rho.
    table = fit.variances()
    sd, rho, sigma = table["estimate"]
    X = pd.get_dummies(data["Machine"]).to_numpy(float)
    values = [sd**2 * (1 - rho), sd**2 * rho, sigma**2]
    V = covariance_by_second_derivatives(data["score"].to_numpy(), X, [cell, same, np.eye(54)], values)
    J = np.diag([0.0, 0.0, 0.5 / sigma])
    J[0, :2] = 0.5 / sd
    J[1, :2] = -rho / sd**2, (1 - rho) / sd**2
    np.testing.assert_allclose(fit.vcov_variances(), J @ V @ J.T, rtol=1e-6, atol=1e-9)
    assert list(table.index) == ["sd_Worker[cs]", "corr_Worker[cs]", "sigma"]


def test_other_units_of_response_and_predictor() -> None:
    data = bl.load_dataset("sleepstudy")
    plain = bl.Model("Reaction ~ Days + (Days | Subject)", data).fit()
    for size, zero in [(1e6, 0.0), (1e-6, 0.0), (1.0, 40.0)]:
        other = data.assign(Reaction=data["Reaction"] * size, Days=(data["Days"] - zero) * 1000.0)
        fit = bl.Model("Reaction ~ Days + (Days | Subject)", other).fit()
        found = fit.variances()["std_error"]
        expected = plain.variances()["std_error"] * size
        np.testing.assert_allclose(found["sigma"], expected["sigma"], rtol=1e-6)
        np.testing.assert_allclose(found["sd_Subject[Days]"] * 1000.0, expected["sd_Subject[Days]"], rtol=1e-5)


def test_frequencies_are_rows_written_out() -> None:
    rng = np.random.default_rng(5)
    frame = pd.DataFrame({"g": np.repeat(np.arange(7), 4), "n": rng.integers(1, 4, 28)})
    frame["y"] = rng.normal(size=7)[frame["g"]] + rng.normal(size=28)
    short = bl.Model("y ~ 1 + (1 | g)", frame, frequency="n").fit()
    long = bl.Model("y ~ 1 + (1 | g)", frame.loc[frame.index.repeat(frame["n"])]).fit()
    np.testing.assert_allclose(short.vcov_variances(), long.vcov_variances(), rtol=1e-7)


# --- the boundary and what is not determined -------------------------------------------------------------------------


def test_a_variance_of_zero_has_no_standard_error() -> None:
    data = bl.load_dataset("Dyestuff2")
    fit = bl.Model("Yield ~ 1 + (1 | Batch)", data).fit()
    table = fit.variances("variance")
    assert table["note"].tolist() == ["at the boundary: no standard error", ""]
    assert np.isnan(table["std_error"].iloc[0])
    # Without the term: the variance of a sample variance.
    np.testing.assert_allclose(table["std_error"].iloc[1], data["Yield"].var() * np.sqrt(2 / 29), rtol=1e-9)
    assert fit.vcov_variances().isna().to_numpy().tolist() == [[True, True], [True, False]]


def test_a_correlation_of_one_has_no_standard_error() -> None:
    rng = np.random.default_rng(6)
    frame = pd.DataFrame({"g": np.repeat(np.arange(8), 5), "x": np.tile(np.arange(5.0), 8)})
    frame["y"] = rng.normal(size=8)[frame["g"]] * (3.0 + frame["x"]) + 2 * rng.normal(size=40)
    fit = bl.Model("y ~ x + (x | g)", frame).fit()
    assert abs(fit.estimates()["corr_g[Intercept.x]"]) == pytest.approx(1.0, abs=1e-12)
    table = fit.variances()
    assert table["note"].tolist() == ["", "", "at the boundary: no standard error", ""]
    assert table["std_error"].isna().tolist() == [False, False, True, False]
    assert (table["std_error"].dropna() > 0).all()


def test_variances_that_can_be_exchanged_have_none() -> None:
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({"g": np.repeat(np.arange(9), 4), "x": rng.normal(size=36)})
    frame["y"] = 2 * rng.normal(size=9)[frame["g"]] + rng.normal(size=36)
    fit = bl.Model("y ~ x + (1 | g) + (0 + x | g) + (1 | g)", frame).fit(on_failure="ignore")
    table = fit.variances("variance")
    assert (table["note"].iloc[[0, 2]] == "not determined by the data").all()
    assert table["std_error"].iloc[[0, 2]].isna().all()
    assert table["std_error"].iloc[3] > 0
    single = bl.Model("y ~ x + (1 | g) + (0 + x | g)", frame).fit().variances("variance")
    np.testing.assert_allclose(table["std_error"]["sigma^2"], single["std_error"]["sigma^2"], rtol=1e-5)


def test_known_variance_ratios_vary_with_sigma_alone() -> None:
    model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))
    fit = model.fit(fix={"theta": [2.0]})
    error = fit.variances("variance")["std_error"]
    np.testing.assert_allclose(error["sigma^2"], fit.sigma**2 * np.sqrt(2 / 29), rtol=1e-12)
    np.testing.assert_allclose(error.iloc[0], 4 * error["sigma^2"], rtol=1e-12)


def test_refusals() -> None:
    model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))
    fit = model.fit()
    for scale in ("log", None, 1):
        with pytest.raises(DesignError, match="'sd' or 'variance'"):
            fit.variances(scale)  # type: ignore[arg-type]
    with pytest.raises(FitError, match="penalised"):
        model.fit(penalty="boundary_avoiding").vcov_variances()
    exact = pd.DataFrame({"y": [1.0, 1.0, 2.0, 2.0, 4.0, 4.0], "g": list("aabbcc")})
    with pytest.raises(FitError, match="residual variance is zero"):
        bl.Model("y ~ 1 + (1 | g)", exact).fit(on_failure="ignore").variances()
