"""Profiles: stored ends, an independent likelihood, invariances, ranges that end."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.linalg import solve_triangular
from scipy.optimize import brentq, minimize, minimize_scalar
from scipy.stats import chi2

import bayeslmm as bl
from bayeslmm.errors import DesignError
from bayeslmm.inference.profile import profile_ends_many
from bayeslmm.inference.profile_coordinates import ProfileTarget
from bayeslmm.likelihood.hierarchy import Hierarchy
from bayeslmm.reml.many import optimise_many

CASES: dict[str, Any] = json.loads(
    gzip.decompress((Path(__file__).parents[1] / "reference" / "lme4_cases.json.gz").read_bytes())
)
LME4: dict[str, Any] = json.loads((Path(__file__).parent / "profile_lme4.json").read_text())
# The stored ends are roots to 1e-10; ours to 1e-10.
ROOT = 1e-8
# lme4 reads ends off a spline, which is off by up to 1e-4 here (the roots are checked against `dense` below).
SPLINE = 1e-4

MODELS = {
    "dyestuff": ("Yield ~ 1 + (1 | Batch)", "Dyestuff"),
    "dyestuff2": ("Yield ~ 1 + (1 | Batch)", "Dyestuff2"),
    "penicillin": ("diameter ~ 1 + (1 | plate) + (1 | sample)", "Penicillin"),
    "tablets_missing": ("y ~ method + (1 | tablet)", "tablets_missing"),
    "machines_nested": ("score ~ Machine + (1 | Worker/Machine)", "Machines"),
    "sleepstudy": ("Reaction ~ Days + (Days | Subject)", "sleepstudy"),
    "sleepstudy_zerocorr": ("Reaction ~ Days + (Days || Subject)", "sleepstudy"),
}


def model(case: str) -> bl.Model:
    formula, name = MODELS[case]
    return bl.Model(formula, bl.load_dataset(name))


@pytest.fixture(scope="module")
def sleep() -> bl.Model:
    return bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy"))


@pytest.mark.parametrize("method", ["reml", "ml"])
@pytest.mark.parametrize("case", [case for case in MODELS if case != "sleepstudy"])
def test_ends_at_three_levels(case: str, method: str) -> None:
    reference = CASES[case][f"profile_root_{method}"]
    fit = model(case).fit(reml=method == "reml")
    estimates = fit.estimates()
    for k, level in enumerate(reference["levels"]):
        ends = fit.confint(level)
        for block in reference["parameters"].values():
            # group names are written in another order there: the estimate tells which parameter it is
            label = (estimates[[n for n in ends.index if n.startswith("s")]] - block["estimate"]).abs().idxmin()
            low, high = ends.loc[label]
            assert high == pytest.approx(block["upper"][k], rel=ROOT)
            assert low == pytest.approx(block["lower"][k], rel=ROOT, abs=0.0 if block["lower"][k] else 1e-300)


def dense(fit: bl.REMLResult, kind: str, which: int, value: float) -> float:
    """Criterion of one vector term of two effects, minimised over the rest; nothing here comes from the package.

    A fixed effect that is held goes to the response; REML integrates those that are left.
    """
    design, order = fit.design, [which, 1 - which] if kind in ("sd", "ratio") else [0, 1]
    codes = design.groupings[design.terms[0].group].codes
    rows = np.argsort(codes, kind="stable").reshape(codes.max() + 1, -1)
    Z, X, y = design.terms[0].Z[:, order][rows], design.X[rows], design.y[rows]
    if kind == "fixed":
        y, X = y - value * X[..., which], np.delete(X, which, axis=2)

    def criterion(x: np.ndarray) -> float:
        sd, sigma, rho = np.exp(x[:2]), np.exp(x[3]), np.tanh(x[2])
        if kind == "sigma":
            sigma = value
        if kind in ("sd", "ratio"):
            sd[0] = value if kind == "sd" else np.sqrt(value) * sigma
        if kind == "corr":
            rho = value
        G = sd[:, None] * np.array([[1.0, rho], [rho, 1.0]]) * sd
        V = Z @ G @ Z.mT + sigma**2 * np.eye(y.shape[1])
        half = np.linalg.solve(np.linalg.cholesky(V), np.concatenate([X, y[..., None]], axis=2))
        M = (half.mT @ half).sum(0)
        XX, Xy = M[:-1, :-1], M[:-1, -1]
        rss = M[-1, -1] - Xy @ np.linalg.solve(XX, Xy)
        penalty = np.linalg.slogdet(XX)[1] if fit.reml else 0.0
        nu = design.n - (XX.shape[0] if fit.reml else 0)
        return float(np.linalg.slogdet(V)[1].sum() + penalty + rss + nu * np.log(2 * np.pi))

    sds = fit.estimates().iloc[:2].to_numpy()[order]
    start = np.array([*np.log(sds), 0.1, np.log(fit.sigma)])
    found = minimize(criterion, start, method="BFGS", options={"gtol": 1e-4}).x
    # Numerical gradients can end it early where the correlation is near 1; a second start has their rounding elsewhere.
    found = minimize(criterion, found + 0.01, method="BFGS", options={"gtol": 1e-4}).x
    return float(minimize(criterion, found, method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9}).fun)


TARGETS = [
    ("sd_Subject[Days]", "sd", 1),
    ("corr_Subject[Intercept.Days]", "corr", 0),
    ("sigma", "sigma", 0),
    ("ratio_Subject[Intercept]", "ratio", 0),
]


@pytest.mark.parametrize(("label", "kind", "which"), TARGETS)
def test_ends_are_where_an_independent_likelihood_has_risen_by_the_quantile(
    sleep: bl.Model, label: str, kind: str, which: int
) -> None:
    fit = sleep.fit()
    for value in fit.confint(0.9, parameters=label).loc[label]:
        rise = dense(fit, kind, which, float(value)) - fit.criterion
        assert rise == pytest.approx(chi2.ppf(0.9, 1), abs=1e-6)


@pytest.mark.parametrize("reml", [True, False])
def test_ends_of_a_fixed_effect_of_unequal_groups(reml: bool) -> None:
    # Every group of eight rows has other predictors, so that REML and ML profiles differ.
    rng = np.random.default_rng(5)
    data = pd.DataFrame({"g": np.repeat(list("abcdefgh"), 8), "x": rng.gamma(1.0, 2.0, 64)})
    data["y"] = 3 + data["x"] * np.repeat(rng.normal(1, 0.5, 8), 8) + np.repeat(rng.normal(0, 2, 8), 8)
    data["y"] += rng.normal(size=64)
    fit = bl.Model("y ~ x + (x | g)", data).fit(reml=reml)
    ends = fit.confint(0.9)
    for which, label in enumerate(("Intercept", "x")):
        low, high = ends.loc[label]
        centre = minimize_scalar(lambda b, j=which: dense(fit, "fixed", j, b), bracket=(low, high))
        for value in (low, high):
            rise = dense(fit, "fixed", which, float(value)) - centre.fun
            assert rise == pytest.approx(chi2.ppf(0.9, 1), abs=1e-5)


@pytest.mark.parametrize("case", [case for case in LME4 if case != "dyestuff2"])
def test_fixed_effects_of_ml_fits_against_the_spline_of_lme4(case: str) -> None:
    # Those of other parameters are compared with roots above, but for the correlated effects.
    ends = model(case).fit(reml=False).confint()
    if case != "sleepstudy":
        ends = ends[[not label.startswith(("sd", "sigma")) for label in ends.index]]
    expected = np.array(list(LME4[case].values()), dtype=float)
    for label in ends.index:
        # Parameters come in another order there.
        distance = np.abs(expected - ends.loc[label].to_numpy()).max(axis=1)
        assert distance.min() < SPLINE * (ends.loc[label, "conf_high"] - ends.loc[label, "conf_low"])


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", ["Dyestuff", "Dyestuff2"])
def test_mean_of_a_balanced_layout(name: str, reml: bool) -> None:
    # With the mean held no coefficient is left, so that both criteria are the likelihood of y - b, a function of
    # k = 1 + 5 lambda. On Dyestuff2 the variance leaves zero before the ends are reached (lme4's spline misses that).
    fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset(name)).fit(reml=reml)
    y = fit.design.y.reshape(6, 5)
    between, within = 5 * ((y.mean(1) - y.mean()) ** 2).sum(), ((y - y.mean(1, keepdims=True)) ** 2).sum()

    def deviance(off: float) -> float:
        total = between + 30 * off**2
        k = max(4 * total / within, 1.0)
        return float(6 * np.log(k) + 30 * np.log(within + total / k))

    half = brentq(lambda off: deviance(off) - deviance(0.0) - chi2.ppf(0.95, 1), 0, 1000, xtol=1e-13)
    np.testing.assert_allclose(fit.confint().loc["Intercept"], [y.mean() - half, y.mean() + half], rtol=1e-9)


def test_curve_touches_the_criterion_at_the_estimate_only(sleep: bl.Model) -> None:
    fit = sleep.fit()
    for label in ("sd_Subject[Intercept]", "corr_Subject[Intercept.Days]", "sigma"):
        at = float(fit.estimates()[label])
        grid = at + 0.2 * abs(at) * np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
        curve = fit.profile(label, grid)["criterion"].to_numpy() - fit.criterion
        assert abs(curve[2]) < 1e-9
        assert (np.delete(curve, 2) > 0).all()
        assert curve[0] > curve[1]
        assert curve[4] > curve[3]


def test_default_grid_covers_the_interval_and_starts_at_zero_for_an_sd() -> None:
    fit = model("dyestuff").fit()
    curve, ends = fit.profile("sd_Batch"), fit.confint().loc["sd_Batch[Intercept]"]
    assert list(curve.columns) == ["value", "criterion", "zeta"]
    assert curve["value"].iloc[0] == 0.0
    assert curve["value"].iloc[-1] > ends["conf_high"]


@pytest.mark.parametrize(("a", "c"), [(1e6, 1e6), (-3e3, 1e-6)])
def test_ends_follow_the_response(sleep: bl.Model, a: float, c: float) -> None:
    data = bl.load_dataset("sleepstudy")
    moved = bl.Model(sleep.formula, data.assign(Reaction=a + c * data["Reaction"])).fit().confint()
    ends = sleep.fit().confint()
    # What the sum has lost of the response in digits cannot be found again.
    lost = 1e-15 * abs(a) / (c * 25.0)
    for label in ends.index:
        expected = ends.loc[label].to_numpy()
        if not label.startswith("corr"):
            expected = c * expected + (a if label == "Intercept" else 0.0)
        np.testing.assert_allclose(moved.loc[label], expected, rtol=1e-8 + 100 * lost)


def test_units_of_predictors_carry_over(sleep: bl.Model) -> None:
    data = bl.load_dataset("sleepstudy")
    ends, other = (m.fit().confint() for m in (sleep, bl.Model(sleep.formula, data.assign(Days=data["Days"] * 24))))
    factor = {"sd_Subject[Days]": 1 / 24, "Days": 1 / 24}
    for label in ends.index:
        np.testing.assert_allclose(other.loc[label], factor.get(label, 1.0) * ends.loc[label], rtol=1e-8)


def test_ratio_in_a_balanced_layout() -> None:
    # lambda + 1/n is F times the ratio of chi squares: the criterion is a function of lambda alone.
    fit = model("dyestuff").fit()
    y = fit.design.y.reshape(6, 5)
    between, within = 5 * ((y.mean(1) - y.mean()) ** 2).sum(), ((y - y.mean(1, keepdims=True)) ** 2).sum()

    def profile(ratio: float) -> float:
        k = 1 + 5 * ratio
        return 5 * np.log(k) + 29 * np.log(within + between / k)

    best = profile((between / 5) / (within / 24) / 5 - 0.2)
    low, high = (
        brentq(lambda r: profile(r) - best - chi2.ppf(0.95, 1), *ends, xtol=1e-14) for ends in ((0, 0.7), (0.8, 99))
    )
    ends = fit.confint(parameters=["ratio_Batch", "icc_Batch"])
    np.testing.assert_allclose(ends.loc["ratio_Batch[Intercept]"], [low, high], rtol=1e-9)
    np.testing.assert_allclose(ends.loc["icc_Batch[Intercept]"], [low / (1 + low), high / (1 + high)], rtol=1e-9)


def test_the_other_criterion() -> None:
    reml, ml = model("penicillin").fit(), model("penicillin").fit(reml=False)
    np.testing.assert_allclose(reml.confint(criterion="ML"), ml.confint(), rtol=1e-9)
    np.testing.assert_allclose(ml.confint(criterion="REML"), reml.confint(), rtol=1e-9)
    curve = reml.profile("sigma", [0.5], criterion="ML")
    assert curve["criterion"].iloc[0] == pytest.approx(ml.profile("sigma", [0.5])["criterion"].iloc[0], rel=1e-12)
    with pytest.raises(DesignError, match="'REML' or 'ML'"):
        reml.confint(criterion="reml")  # type: ignore[arg-type]


def test_a_perfect_correlation_is_the_end() -> None:
    data = bl.load_dataset("sleepstudy")
    effect = np.repeat(np.linspace(-1, 1, 18), 10)
    data = data.assign(y=data["Reaction"] * 0.0 + effect * (20 + 5 * data["Days"]))
    data["y"] += np.tile([1.0, -1.0, 1.0, -1.0, 0.5, -0.5, 1.0, -1.0, 1.0, -1.0], 18) * 3
    fit = bl.Model("y ~ Days + (Days | Subject)", data).fit()
    label = "corr_Subject[Intercept.Days]"
    assert fit.estimates()[label] == pytest.approx(1.0, abs=1e-12)
    low, high = fit.confint().loc[label]
    assert high == 1.0
    assert dense(fit, "corr", 0, float(low)) - fit.criterion == pytest.approx(chi2.ppf(0.95, 1), abs=1e-5)


@pytest.mark.parametrize("reml", [True, False])
def test_many_responses_have_the_ends_of_each(reml: bool) -> None:
    # Against the dense likelihood of each; some of the responses have a zero estimate.
    data = bl.load_dataset("sleepstudy")
    fit = bl.Model("Reaction ~ Days + (Days | Subject)", data).fit(reml=reml)
    rng = np.random.default_rng(3)
    b = rng.normal(size=(2, 18, 6)) * np.array([20.0, 1.5])[:, None, None]
    codes, days = fit.design.groupings["Subject"].codes, fit.design.X[:, 1:]
    Y = 250 + b[0][codes] + days * b[1][codes] + 25 * rng.normal(size=(180, 6))
    optima = optimise_many(fit.cp, Y, reml)
    low, high = profile_ends_many(fit.cp, Y, optima, ProfileTarget("sd", 0, (1,)), 0.95, reml)
    assert 0 < (low == 0).sum() < 6
    for k in range(6):
        one = fit.refit(Y[:, k])
        for value in (low[k], high[k]):
            if value > 0:
                rise = dense(one, "sd", 1, float(value)) - optima.criterion[k]
                assert rise == pytest.approx(chi2.ppf(0.95, 1), abs=1e-5)
        if low[k] == 0:
            assert dense(one, "sd", 1, 1e-6) - optima.criterion[k] < chi2.ppf(0.95, 1)


def test_crossed_effects_of_a_sparse_store() -> None:
    rng = np.random.default_rng(8)
    n = 500
    data = pd.DataFrame({"g": rng.integers(0, 240, n), "h": rng.integers(0, 240, n), "x": rng.normal(size=n)})
    data["y"] = rng.normal(size=240)[data["g"]] + 0.7 * rng.normal(size=240)[data["h"]] + rng.normal(size=n)
    fit = bl.Model("y ~ x + (1 | g) + (1 | h)", data).fit()
    assert isinstance(fit.cp.sums, Hierarchy)
    ends = fit.confint(parameters=["sd_h", "x"])
    Z = [(data[g].to_numpy()[:, None] == np.unique(data[g])).astype(float) for g in ("g", "h")]
    K, X, y = [z @ z.T for z in Z], fit.design.X, fit.design.y

    def criterion(log_sd: np.ndarray, held: float | None, beta: float | None) -> float:
        sd = np.exp(log_sd)
        V = sd[0] ** 2 * K[0] + (sd[2] if held is None else held) ** 2 * K[1] + sd[1] ** 2 * np.eye(n)
        own, response = (X, y) if beta is None else (X[:, :1], y - beta * X[:, 1])
        root = np.linalg.cholesky(V)
        half = solve_triangular(root, np.column_stack([own, response]), lower=True)
        M = half.T @ half
        rss = M[-1, -1] - M[-1, :-1] @ np.linalg.solve(M[:-1, :-1], M[:-1, -1])
        logs = 2 * np.log(np.diagonal(root)).sum() + np.linalg.slogdet(M[:-1, :-1])[1]
        return float(logs + rss + (n - own.shape[1]) * np.log(2 * np.pi))

    start = np.log(fit.estimates()[["sd_g[Intercept]", "sigma", "sd_h[Intercept]"]].to_numpy())

    def least(size: int, *held: float | None) -> float:
        return float(minimize(criterion, start[:size], args=held, method="BFGS", options={"gtol": 1e-3}).fun)

    low = float(ends.loc["sd_h[Intercept]", "conf_low"])
    assert least(2, low, None) - fit.criterion == pytest.approx(chi2.ppf(0.95, 1), abs=1e-5)
    rises = [least(3, None, float(end)) for end in ends.loc["x"]]
    assert rises[0] == pytest.approx(rises[1], abs=1e-5)
    centre = least(3, None, float(fit.fixef()["x"]))
    assert rises[0] - centre == pytest.approx(chi2.ppf(0.95, 1), abs=0.02)


def test_predictors_far_from_zero() -> None:
    rng = np.random.default_rng(9)
    data = pd.DataFrame({"g": np.repeat(np.arange(30), 6), "x": rng.normal(size=180)})
    data["y"] = rng.normal(size=30)[data["g"]] * (1 + 0.5 * data["x"]) + rng.normal(size=180)
    fit = bl.Model("y ~ x + (x | g)", data).fit()
    shifted = bl.Model("y ~ x + (x | g)", data.assign(x=data["x"] + 1e4)).fit()
    labels = ["sd_g[x]", "sigma", "x"]
    np.testing.assert_allclose(shifted.confint(parameters=labels), fit.confint(parameters=labels), rtol=1e-7)


def test_three_correlated_effects_do_not_depend_on_their_order() -> None:
    data = bl.load_dataset("Machines")
    frame = data.assign(**{f"m{level}": (data["Machine"] == level).astype(float) for level in "ABC"})
    one = bl.Model("score ~ Machine + (0 + mA + mB + mC | Worker)", frame).fit().confint()
    two = bl.Model("score ~ Machine + (0 + mC + mA + mB | Worker)", frame).fit().confint()
    sds = [f"sd_Worker[m{level}]" for level in "ABC"]
    np.testing.assert_allclose(one.loc[sds], two.loc[sds], rtol=1e-6)
    np.testing.assert_allclose(one.loc["corr_Worker[mA.mC]"], two.loc["corr_Worker[mC.mA]"], atol=1e-6)
    np.testing.assert_allclose(one.loc["corr_Worker[mB.mC]"], two.loc["corr_Worker[mC.mB]"], atol=1e-6)


def test_a_zero_estimate_has_an_upper_end_only() -> None:
    for reml in (True, False):
        fit = model("dyestuff2").fit(reml=reml)
        assert fit.estimates()["sd_Batch[Intercept]"] == 0.0
        low, high = fit.confint().loc["sd_Batch[Intercept]"]
        assert low == 0.0
        assert 0.0 < high < 5 * fit.sigma


def test_the_lower_end_becomes_zero_when_the_rise_at_zero_is_within_the_cut() -> None:
    fit = model("dyestuff").fit()
    rise = float(fit.profile("sd_Batch", [0.0])["criterion"].iloc[0]) - fit.criterion
    level = chi2.cdf(rise, 1)
    low = [fit.confint(level + step, parameters="sd_Batch")["conf_low"].iloc[0] for step in (-1e-3, 1e-3)]
    assert low[0] > 0.0
    assert low[1] == 0.0


def test_an_undefined_correlation_can_be_anything() -> None:
    data = bl.load_dataset("Dyestuff2")
    data = data.assign(x=np.tile([-2.0, -1.0, 0.0, 1.0, 2.0], 6))
    fit = bl.Model("Yield ~ x + (x | Batch)", data).fit()
    assert fit.is_singular
    ends = fit.confint()
    low, high = ends.loc["corr_Batch[Intercept.x]"]
    assert -1.0 <= low <= high <= 1.0
    assert np.isfinite(ends.to_numpy()).all()


@pytest.mark.parametrize("level", [95, 0, 1, -0.5, float("nan")])
def test_levels_are_probabilities(level: float) -> None:
    fit = model("dyestuff").fit()
    with pytest.raises(DesignError, match="between 0 and 1"):
        fit.confint(level)


@pytest.mark.parametrize(
    ("label", "value", "words"),
    [("sd_Batch", -1.0, "0 or more"), ("sigma", 0.0, "positive"), ("sigma", np.inf, "finite numbers")],
)
def test_values_outside_the_range_are_refused(label: str, value: float, words: str) -> None:
    with pytest.raises(DesignError, match=words):
        model("dyestuff").fit().profile(label, [value])


def test_correlations_beyond_one_are_refused(sleep: bl.Model) -> None:
    with pytest.raises(DesignError, match="-1 to 1"):
        sleep.fit().profile("corr_Subject[Intercept.Days]", [1.2])
