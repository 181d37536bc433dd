"""Profiles: stored ends, an independent likelihood, invariances, ranges that end."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import chi2

import bayeslmm as bl
from bayeslmm.errors import DesignError

CASES: dict[str, Any] = json.loads(
    gzip.decompress((Path(__file__).parents[1] / "reference" / "lme4_cases.json.gz").read_bytes())
)
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
    "sleepstudy_zerocorr": ("Reaction ~ Days + (Days || Subject)", "sleepstudy"),
}


def model(case: str) -> bl.Model:
    formula, name = MODELS[case]
    return bl.Model(formula, bl.load_dataset(name))


@pytest.fixture(scope="module")
def sleep() -> bl.Model:
    return bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy"))


@pytest.mark.parametrize("method", ["reml", "ml"])
@pytest.mark.parametrize("case", MODELS)
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


def test_correlated_effects_against_lme4(sleep: bl.Model) -> None:
    # confint of the ML fit by lme4 1.1-31
    expected = {
        "sd_Subject[Intercept]": (14.381484399601, 37.7160187402801),
        "sd_Subject[Days]": (3.80116476238251, 8.75338676656129),
        "corr_Subject[Intercept.Days]": (-0.481500408057167, 0.684985892413006),
        "sigma": (22.8982662150128, 28.8579973227416),
    }
    ends = sleep.fit(reml=False).confint()
    for label, values in expected.items():
        np.testing.assert_allclose(ends.loc[label], values, rtol=SPLINE)


def dense(fit: bl.REMLResult, kind: str, effect: int, value: float) -> float:
    """Criterion of one vector term of two effects, minimised over the rest; nothing here comes from the package."""
    design, order = fit.design, [effect, 1 - effect]
    Z = design.terms[0].Z[:, order]
    codes = design.groupings[design.terms[0].group].codes
    reml_rows = design.p if fit.reml else 0

    def criterion(x: np.ndarray) -> float:
        sd, sigma, rho = np.exp(x[:2]), np.exp(x[3]), np.tanh(x[2])
        if kind == "sd":
            sd[0] = value
        elif kind == "corr":
            rho = value
        else:
            sigma = value
        G = sd[:, None] * np.array([[1.0, rho], [rho, 1.0]]) * sd
        V = (Z @ G @ Z.T) * (codes[:, None] == codes) + sigma**2 * np.eye(design.n)
        half = np.linalg.solve(np.linalg.cholesky(V), np.column_stack([design.X, design.y]))
        XX, Xy = half[:, :-1].T @ half[:, :-1], half[:, :-1].T @ half[:, -1]
        rss = half[:, -1] @ half[:, -1] - Xy @ np.linalg.solve(XX, Xy)
        penalty = np.linalg.slogdet(XX)[1] if fit.reml else 0.0
        return float(np.linalg.slogdet(V)[1] + penalty + rss + (design.n - reml_rows) * np.log(2 * np.pi))

    sds = fit.estimates().iloc[:2].to_numpy()[order]
    start = np.array([*np.log(sds), 0.1, np.log(fit.sigma)])
    return float(minimize(criterion, start, method="BFGS", options={"gtol": 1e-4}).fun)


@pytest.mark.parametrize(
    ("label", "kind", "effect"),
    [("sd_Subject[Days]", "sd", 1), ("corr_Subject[Intercept.Days]", "corr", 0), ("sigma", "sigma", 0)],
)
def test_ends_are_where_an_independent_likelihood_has_risen_by_the_quantile(
    sleep: bl.Model, label: str, kind: str, effect: int
) -> None:
    fit = sleep.fit()
    for value in fit.confint(0.9).loc[label]:
        rise = dense(fit, kind, effect, float(value)) - fit.criterion
        assert rise == pytest.approx(chi2.ppf(0.9, 1), abs=1e-6)


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
    assert list(curve.columns) == ["value", "criterion"]
    assert curve["value"].iloc[0] == 0.0
    assert curve["value"].iloc[-1] > ends["conf_high"]


def test_units_carry_over(sleep: bl.Model) -> None:
    data = bl.load_dataset("sleepstudy")
    scaled = data.assign(Reaction=data["Reaction"] / 1000, Days=data["Days"] * 24)
    ends, other = (m.fit().confint() for m in (sleep, bl.Model(sleep.formula, scaled)))
    factor = {"sd_Subject[Intercept]": 1e-3, "sd_Subject[Days]": 1e-3 / 24, "sigma": 1e-3}
    for label in ends.index[:4]:
        np.testing.assert_allclose(other.loc[label], factor.get(label, 1.0) * ends.loc[label], rtol=1e-6)


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
    [("sd_Batch", -1.0, "0 or more"), ("sigma", 0.0, "positive"), ("sigma", np.inf, "positive")],
)
def test_values_outside_the_range_are_refused(label: str, value: float, words: str) -> None:
    with pytest.raises(DesignError, match=words):
        model("dyestuff").fit().profile(label, [value])


def test_correlations_beyond_one_are_refused(sleep: bl.Model) -> None:
    with pytest.raises(DesignError, match="-1 to 1"):
        sleep.fit().profile("corr_Subject[Intercept.Days]", [1.2])
