"""Profiles of models with residual parameters against the dense likelihood, minimised by another optimiser."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq, minimize, minimize_scalar
from scipy.special import chdtri

import bayeslmm as bl

SLEEP = bl.load_dataset("sleepstudy")
CUT = float(chdtri(1, 0.05))
# What a minimum is known to by an optimiser that sees values only, and an end by the search.
CLOSE = 2e-6


def _gls(V: np.ndarray, X: np.ndarray, y: np.ndarray, reml: bool, sigma: float | None = None) -> float:
    """The criterion at relative covariance V of all rows, or of every block of as many; best sigma, or a given one."""
    half, (m, _), p = np.linalg.cholesky(V), V.shape, X.shape[1]
    blocks = np.column_stack([X, y]).reshape(-1, m, p + 1).transpose(1, 0, 2).reshape(m, -1)
    white = np.linalg.solve(half, blocks).reshape(m, -1, p + 1).reshape(-1, p + 1)
    A = white[:, :p].T @ white[:, :p]
    r = white[:, p] - white[:, :p] @ np.linalg.solve(A, white[:, :p].T @ white[:, p])
    nu, r2 = len(y) - (p if reml else 0), float(r @ r)
    value = 2 * len(y) / m * np.log(np.diag(half)).sum() + (np.linalg.slogdet(A)[1] if reml else 0.0)
    if sigma is None:
        return float(value + nu * (1 + np.log(2 * np.pi * r2 / nu)))
    return float(value + nu * np.log(2 * np.pi * sigma**2) + r2 / sigma**2)


def _ar1(rho: float) -> np.ndarray:
    """Of the ten days of a subject."""
    days = np.arange(10.0)
    return rho ** np.abs(days[:, None] - days)


@pytest.fixture(scope="module")
def alone() -> dict[bool, bl.REMLResult]:
    model = bl.Model("Reaction ~ Days", SLEEP, residual="ar1(Days | Subject)")
    return {reml: model.fit(reml) for reml in (True, False)}


@pytest.mark.parametrize("reml", [True, False])
def test_ends_are_where_the_dense_criterion_has_risen_by_the_quantile(alone, reml: bool) -> None:
    fit, X, y = alone[reml], alone[reml].design.X, alone[reml].design.y

    def over_rho(criterion) -> float:
        return minimize_scalar(criterion, bounds=(0.4, 0.98), method="bounded", options={"xatol": 1e-6}).fun

    ends = fit.confint()
    least = over_rho(lambda rho: _gls(_ar1(rho), X, y, reml))
    rises = {"residual_rho": [_gls(_ar1(rho), X, y, reml) - least for rho in ends.loc["residual_rho"]]}
    rises["sigma"] = [over_rho(lambda r, s=s: _gls(_ar1(r), X, y, reml, s)) - least for s in ends.loc["sigma"]]
    for j, name in enumerate(fit.design.fixed_names):
        others = np.delete(X, j, axis=1)

        def held(b: float, others=others, j=j) -> float:
            return over_rho(lambda r: _gls(_ar1(r), others, y - b * X[:, j], reml))

        lowest = minimize_scalar(held, bracket=tuple(ends.loc[name]), tol=1e-5).fun if reml else least
        rises[name] = [held(b) - lowest for b in ends.loc[name]]
    for label, found in rises.items():
        np.testing.assert_allclose(found, CUT, rtol=CLOSE, err_msg=label)


def test_all_parameters_are_profiled_in_less_than_a_second(alone) -> None:
    begin = time.process_time()
    alone[True].confint()
    assert time.process_time() - begin < 1.0


def _small() -> pd.DataFrame:
    rng = np.random.default_rng(8)
    data = pd.DataFrame([(p, t) for p in range(14) for t in range(3) if (p + t) % 6], columns=["id", "t"])
    data["x"] = rng.normal(size=len(data))
    data["y"] = data["x"] + rng.normal(size=14)[data["id"]] * (1 + data["t"]) + rng.normal(size=len(data))
    return data


def _us(data: pd.DataFrame, v: np.ndarray) -> np.ndarray:
    """Unstructured covariance of three visits from log ratios and the rows of a Cholesky factor."""
    L = np.diag(np.exp(np.array([0.0, v[0], v[1]])))
    L[1, 0], L[2, 0], L[2, 1] = v[2:]
    own = (L @ L.T)[data["t"].to_numpy()[:, None], data["t"].to_numpy()]
    return np.where(data["id"].to_numpy()[:, None] == data["id"].to_numpy(), own, 0.0)


@pytest.mark.parametrize("label", ["residual_corr[1.2]", "residual_sd_ratio_t[2]", "residual_corr[0.1]"])
def test_a_parameter_that_is_a_function_of_several_is_held_by_an_equation(label: str) -> None:
    data = _small()
    fit = bl.Model("y ~ x", data, residual="us(t | id)").fit()
    X, y = fit.design.X, fit.design.y

    def value(v: np.ndarray) -> float:
        return _gls(_us(data, v), X, y, True)

    def parameter(v: np.ndarray) -> float:
        L = np.diag(np.exp(np.array([0.0, v[0], v[1]])))
        L[1, 0], L[2, 0], L[2, 1] = v[2:]
        S = L @ L.T
        sd = np.sqrt(np.diag(S))
        R = S / np.outer(sd, sd)
        return {"residual_corr[1.2]": R[2, 1], "residual_corr[0.1]": R[1, 0]}.get(label, sd[2] / sd[0])

    free = minimize(value, np.zeros(5), method="BFGS", options={"gtol": 1e-7})
    assert free.fun == pytest.approx(fit.criterion, abs=1e-6)
    for end in fit.confint(parameters=label).iloc[0]:
        equation = {"type": "eq", "fun": lambda v, end=end: parameter(v) - end}
        held = minimize(value, free.x, method="SLSQP", constraints=[equation], options={"ftol": 1e-12, "maxiter": 300})
        assert held.fun - fit.criterion == pytest.approx(CUT, rel=1e-4)


def test_random_effects_beside_serial_correlation() -> None:
    fit = bl.Model("Reaction ~ Days + (1 | Subject)", SLEEP, residual="ar1(Days | Subject)").fit()
    X, y = fit.design.X, fit.design.y

    def value(v: np.ndarray, sd: float | None = None) -> float:
        rho, sigma = np.tanh(v[0]), np.exp(v[1])
        own = np.exp(v[2]) if sd is None else sd
        return _gls(_ar1(rho) + (own / sigma) ** 2, X, y, True, sigma)

    start = np.array([np.arctanh(0.65), np.log(37.0), np.log(31.0)])
    # Differences of values: gradients are good to about 1e-6, and values to the square of that.
    least = minimize(value, start, method="BFGS", options={"gtol": 1e-5})
    assert least.fun == pytest.approx(fit.criterion, abs=1e-7)
    ends = fit.confint(parameters="sd_Subject")
    assert ends["conf_low"].iloc[0] == 0.0
    high = minimize(value, start[:2], args=(float(ends["conf_high"].iloc[0]),), method="BFGS", options={"gtol": 1e-5})
    assert high.fun - fit.criterion == pytest.approx(CUT, rel=CLOSE)
    # Zero is within: there the model is that without random effects.
    curve = fit.profile("sd_Subject", [0.0, float(fit.estimates().iloc[0])])
    zero = bl.Model("Reaction ~ Days", SLEEP, residual="ar1(Days | Subject)").fit()
    np.testing.assert_allclose(curve["criterion"], [zero.criterion, fit.criterion], atol=1e-7)


def test_intervals_at_perfect_correlation_are_one_sided_and_reach_other_values() -> None:
    fit = bl.Model("Reaction ~ Days + (Days | Subject)", SLEEP, residual="ar1(Days | Subject)").fit()
    label = "corr_Subject[Intercept.Days]"
    low, high = fit.confint(parameters=label).iloc[0]
    assert high == 1.0
    curve = fit.profile(label, [low, 0.0, 1.0])["criterion"]
    # Correlations of zero are the model with two terms.
    apart = bl.Model("Reaction ~ Days + (Days || Subject)", SLEEP, residual="ar1(Days | Subject)").fit()
    assert curve[1] == pytest.approx(apart.criterion, abs=1e-6)
    assert curve[0] - fit.criterion == pytest.approx(CUT, rel=1e-5)
    # A minimum, but for the square of the distance at which the angle stops before the end.
    assert curve[2] == pytest.approx(fit.criterion, abs=1e-6)


def test_a_range_that_may_be_zero_has_zero_for_its_end() -> None:
    rng = np.random.default_rng(2)
    data = pd.DataFrame({"y": rng.normal(size=60), "t": np.tile(np.arange(6.0), 10), "id": np.repeat(np.arange(10), 6)})
    fit = bl.Model("y ~ 1", data, residual="exp(t | id)").fit()
    low, high = fit.confint(parameters="residual_range").iloc[0]
    plain = -2.0 * float(-0.5 * _gls(np.eye(60), np.ones((60, 1)), data["y"].to_numpy(), True))
    assert low == 0.0 and 0.0 < high < np.inf
    assert plain - fit.criterion < CUT
    apart = np.abs(data["t"].to_numpy()[:, None] - data["t"].to_numpy())
    assert _gls(
        np.exp(-apart[:6, :6] / high), np.ones((60, 1)), data["y"].to_numpy(), True
    ) - fit.criterion == pytest.approx(CUT, rel=CLOSE)


@pytest.mark.parametrize("unit", [1e-8, 1e8])
def test_intervals_have_the_units_of_the_response(alone, unit: float) -> None:
    scaled = SLEEP.assign(Reaction=SLEEP["Reaction"] * unit)
    other = bl.Model("Reaction ~ Days", scaled, residual="ar1(Days | Subject)").fit().confint()
    one = alone[True].confint()
    factors = np.array([unit, 1.0, unit, unit])[:, None]
    np.testing.assert_allclose(other.to_numpy() / factors, one.to_numpy(), rtol=1e-6)


def test_what_a_ridge_does_not_concern_has_the_interval_of_the_same_model_without_it() -> None:
    with pytest.warns(bl.ConvergenceWarning, match="not identified"):
        fit = bl.Model("Reaction ~ Days + (1 | Subject)", SLEEP, residual="cs(Subject)").fit()
    alone = bl.Model("Reaction ~ Days", SLEEP, residual="cs(Subject)").fit()
    ends = fit.confint(parameters=["Intercept", "Days"])
    # The criterion is that of the other but for what is left of a flat minimum.
    np.testing.assert_allclose(ends, alone.confint(parameters=["Intercept", "Days"]), rtol=1e-4)
    with pytest.warns(bl.BayesLMMWarning, match="residual_rho"):
        assert fit.confint(parameters="residual_rho")["conf_high"].iloc[0] < 1


def test_visits_that_are_nearly_one() -> None:
    # Entries of the root of such a correlation matrix are far beyond those of other parameters. With a mean for every
    # visit the others given the first are regressions of their own: sigma has the likelihood of the first visit alone.
    rng, n = np.random.default_rng(1), 30
    y = rng.normal(size=(n, 1)) + 0.01 * rng.normal(size=(n, 2))
    data = pd.DataFrame({"y": y.ravel(), "g": np.repeat(np.arange(n), 2), "v": np.tile(["a", "b"], n)})
    fit = bl.Model("y ~ v", data, residual="us(v | g)").fit()
    assert np.abs(fit.optimum.lam).max() > 50
    s2, nu = float(y[:, 0].var(ddof=1)), n - 1

    def rise(sigma: float) -> float:
        return nu * (np.log(sigma**2 / s2) + s2 / sigma**2 - 1.0) - CUT

    expected = brentq(rise, 0.3 * s2**0.5, s2**0.5), brentq(rise, s2**0.5, 3.0 * s2**0.5)
    np.testing.assert_allclose(fit.confint(parameters="sigma").to_numpy()[0], expected, rtol=CLOSE)
