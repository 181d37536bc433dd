"""Intervals by method: pivot, Wald, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import f

import bayeslmm as bl
from bayeslmm.errors import BayesLMMWarning, ConvergenceWarning, DesignError, FitError
from bayeslmm.reml import optimise

Z = 1.959963984540054


@pytest.fixture(scope="module")
def sleep() -> bl.REMLResult:
    return bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()


@pytest.fixture(scope="module")
def zero() -> bl.REMLResult:
    return bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).fit()


def test_pivot_of_a_balanced_layout() -> None:
    fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()
    y = fit.design.y.reshape(6, 5)
    F = 5 * y.mean(1).var(ddof=1) / (y.var(axis=1, ddof=1).mean())
    ends = fit.confint(0.9, method="pivot")
    ratio = [(F / f.ppf(q, 5, 24) - 1) / 5 for q in (0.95, 0.05)]
    assert list(ends.index) == ["ratio_Batch[Intercept]", "icc_Batch[Intercept]"]
    np.testing.assert_allclose(ends.iloc[0], ratio, rtol=1e-9)
    np.testing.assert_allclose(ends.iloc[1], [r / (1 + r) for r in ratio], rtol=1e-9)


def test_pivot_is_for_ratios(sleep: bl.REMLResult) -> None:
    for label in ("sd_Subject[Days]", "sigma", "Days", "corr_Subject[Intercept.Days]"):
        with pytest.raises(DesignError, match="ratio_"):
            sleep.confint(method="pivot", parameters=label)


def test_wald_of_sigma_and_sd_of_a_balanced_layout() -> None:
    # REML estimates are functions of two independent mean squares: their information is diagonal, nu / (2 theta^2) for
    # each theta; here in log sigma and log sd_b by the chain rule.
    fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()
    s2, b2 = fit.sigma**2, float(fit.estimates()["sd_Batch[Intercept]"]) ** 2
    total = s2 + 5 * b2
    # d(theta_within, theta_between) / d(log sd_b, log sigma)
    J = np.array([[0.0, 2 * s2], [10 * b2, 2 * s2]])
    information = J.T @ np.diag([24 / (2 * s2**2), 5 / (2 * total**2)]) @ J
    errors = Z * np.sqrt(np.diagonal(np.linalg.inv(information)))
    ends = fit.confint(method="wald", parameters=["sd_Batch", "sigma"])
    for label, error in zip(ends.index, errors, strict=True):
        expected = fit.estimates()[label] * np.exp([-error, error])
        np.testing.assert_allclose(ends.loc[label], expected, rtol=1e-9)


def test_wald_of_a_correlation_against_differences(sleep: bl.REMLResult) -> None:
    # Curvature of the profile in atanh(rho), by differences of the stored likelihood's profile.
    label = "corr_Subject[Intercept.Days]"
    centre, h = np.arctanh(sleep.estimates()[label]), 0.02
    curve = sleep.profile(label, np.tanh(centre + h * np.arange(-2, 3)))["criterion"].to_numpy()
    bend = (-curve[0] + 16 * curve[1] - 30 * curve[2] + 16 * curve[3] - curve[4]) / (12 * h**2)
    expected = np.tanh(centre + Z * np.sqrt(2 / bend) * np.array([-1.0, 1.0]))
    np.testing.assert_allclose(sleep.confint(method="wald", parameters=label).loc[label], expected, rtol=1e-5)


@pytest.mark.parametrize("label", ["sd_Batch[Intercept]", "ratio_Batch[Intercept]", "icc_Batch[Intercept]"])
def test_wald_at_zero_is_refused_with_the_reason(zero: bl.REMLResult, label: str) -> None:
    with pytest.raises(DesignError, match=r"estimate is 0.*profile.*pivot"):
        zero.confint(method="wald", parameters=label)


def test_wald_of_a_correlation_at_its_end_or_undefined_is_refused() -> None:
    data = bl.load_dataset("Dyestuff2").assign(x=np.tile([-2.0, -1.0, 0.0, 1.0, 2.0], 6))
    fit = bl.Model("Yield ~ x + (x | Batch)", data).fit()
    with pytest.raises(DesignError, match=r"end of its range|not defined"):
        fit.confint(method="wald", parameters="corr_Batch[Intercept.x]")


def test_wald_of_a_fixed_term_is_refused() -> None:
    fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit(fix={"Batch": [0.5]})
    with pytest.raises(DesignError, match="fixed, not estimated"):
        fit.confint(method="wald", parameters="sd_Batch")
    ends = fit.confint(parameters=["sd_Batch", "ratio_Batch", "sigma"])
    np.testing.assert_allclose(ends.loc["sd_Batch[Intercept]"], 0.5 * ends.loc["sigma"], rtol=1e-12)
    np.testing.assert_allclose(ends.loc["ratio_Batch[Intercept]"], 0.25, rtol=1e-12)


def test_icc_profile_is_a_likelihood_profile_of_the_share(zero: bl.REMLResult) -> None:
    ratio, icc = (
        zero.profile(f"{kind}_Batch", [v])["criterion"].iloc[0] for kind, v in (("ratio", 0.25), ("icc", 0.2))
    )
    assert ratio == pytest.approx(icc, rel=1e-14)
    with pytest.raises(DesignError, match="below 1"):
        zero.profile("icc_Batch", [1.0])


def test_unknown_methods_and_labels_are_named(sleep: bl.REMLResult) -> None:
    with pytest.raises(DesignError, match="'profile', 'wald', 'pivot' or 'bootstrap'"):
        sleep.confint(method="hdi")  # type: ignore[arg-type]
    with pytest.raises(DesignError, match="no parameter"):
        sleep.confint(parameters="ratio_Subjct[Days]")


def grouped() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    g, x = np.repeat(np.arange(8), 5), rng.normal(size=40)
    y = 1 + x + rng.normal(size=8)[g] + 0.5 * x * rng.normal(size=8)[g] + rng.normal(size=40)
    return pd.DataFrame({"y": y, "x": x, "g": g, "c": 3.0, "h": g})


OTHERS = ["sigma", "Intercept", "x"]


@pytest.mark.parametrize("level", [0.95, 0.999])
@pytest.mark.parametrize("term", ["(c | g)", "(c || g)", "(1 | g) + (1 | h)"])
def test_on_a_ridge_the_identified_parameters_have_the_intervals_of_the_smaller_model(term: str, level: float) -> None:
    data = grouped()
    plain = bl.Model("y ~ x + (1 | g)", data).fit().confint(level)
    fit = bl.Model(f"y ~ x + {term}", data).fit(on_failure="ignore")
    with pytest.warns(BayesLMMWarning, match=r"Not identified: sd_g\[Intercept\], .*only a combination") as caught:
        ends = fit.confint(level)
    assert len(caught) == 1
    np.testing.assert_allclose(ends.loc[OTHERS], plain.loc[OTHERS], rtol=1e-5)
    pd.testing.assert_frame_equal(fit.confint(level, parameters=OTHERS), ends.loc[OTHERS])
    sds = ends[ends.index.str.startswith("sd_")]
    assert (sds["conf_low"] == 0).all()
    if term == "(c | g)":
        # s_00 + 6 s_01 + 9 s_11 stays as it is while both variances grow with a correlation of -1.
        assert np.isinf(sds["conf_high"]).all()
        assert ends.loc["corr_g[Intercept.c]"].tolist() == [-1.0, 1.0]
        return
    # One variance can take all there is; that of c counts 9 times.
    share = 3.0 if "||" in term else 1.0
    np.testing.assert_allclose(sds["conf_high"] * [1.0, share], plain.loc["sd_g[Intercept]", "conf_high"], rtol=1e-5)


def test_the_profile_along_a_ridge_is_flat() -> None:
    fit = bl.Model("y ~ x + (c | g)", grouped()).fit(on_failure="ignore")
    for label in ("sd_g[Intercept]", "sd_g[c]", "corr_g[Intercept.c]"):
        with pytest.warns(BayesLMMWarning, match="Not identified"):
            curve = fit.profile(label)
        np.testing.assert_allclose(curve["criterion"], fit.criterion, atol=1e-6)
        assert np.isfinite(curve["value"]).all() and np.ptp(curve["value"]) > 1


def test_wald_on_a_ridge_is_refused_and_bootstrap_says_so() -> None:
    rng = np.random.default_rng(2)
    data = pd.DataFrame({"y": rng.normal(size=30), "x": rng.normal(size=30), "g": np.arange(30)})
    fit = bl.Model("y ~ x + (1 | g)", data, saturated="allow").fit(on_failure="ignore")
    with pytest.raises(DesignError, match="ridge"):
        fit.confint(method="wald", parameters="sigma")
    with pytest.warns(BayesLMMWarning) as caught:
        fit.confint(method="bootstrap", n=100, random_seed=1)
    assert {one.category for one in caught} == {BayesLMMWarning}
    assert "Not identified: sd_g[Intercept], sigma" in str(caught[0].message)


@pytest.mark.parametrize("formula", ["y ~ x + (1 | g)", "y ~ x + (x | g)", "y ~ x + (x || g)"])
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_without_residual_there_is_no_interval(formula: str, scale: float) -> None:
    data = grouped().assign(y=lambda d: scale * (1 + 2 * d["x"] + d["g"]))
    fit = bl.Model(formula, data).fit(on_failure="ignore")
    for ask in (
        fit.confint,
        lambda: fit.confint(method="wald"),
        lambda: fit.confint(method="bootstrap", n=10),
        lambda: fit.confint(criterion="ML"),
        lambda: fit.profile("sigma"),
        lambda: fit.profile("x", [2.0]),
        fit.bootstrap,
    ):
        with pytest.raises(FitError, match=r"non_finite.*residual.*no finite minimum.*remove a random term"):
            ask()
    with pytest.warns(BayesLMMWarning, match="Intervals are missing"):
        table = fit.tidy()
    assert table[["conf_low", "conf_high"]].isna().all(axis=None)
    assert table.set_index("term").loc["x", "estimate"] == pytest.approx(2 * scale, rel=1e-5)


def test_a_point_that_is_no_minimum_is_named() -> None:
    done = bl.Model("y ~ x + (x | g)", grouped()).fit()
    stopped = bl.REMLResult(done.design, done.cp, optimise(done.cp, max_evaluations=1))
    assert stopped.status.name == "evaluation_limit"
    for ask in (stopped.confint, lambda: stopped.confint(method="wald"), lambda: stopped.profile("sigma", [1.0])):
        with pytest.warns(ConvergenceWarning, match="not a minimum"):
            ask()


def test_labels_are_texts_and_some(sleep: bl.REMLResult) -> None:
    with pytest.raises(ValueError, match="names no parameter"):
        sleep.confint(parameters=[])
    for labels in (3, [3]):
        with pytest.raises(TypeError, match="label") as caught:
            sleep.confint(parameters=labels)  # type: ignore[arg-type]
        assert isinstance(caught.value, bl.BayesLMMError)


def test_levels_near_one_and_without_axes(sleep: bl.REMLResult) -> None:
    with pytest.raises(DesignError) as caught:
        sleep.confint(1.5)
    assert "Write" not in str(caught.value) and "between 0 and 1" in str(caught.value)
    given = sleep.confint(np.array(0.9), parameters="sigma")  # type: ignore[arg-type]
    pd.testing.assert_frame_equal(given, sleep.confint(0.9, parameters="sigma"))
    with pytest.raises(DesignError, match="no number"):
        sleep.confint(np.array([0.9]))  # type: ignore[arg-type]


@pytest.mark.parametrize(("values", "words"), [("a", "no numbers"), ([[1, 2]], "2 axes"), ([], "empty"), (["b"], "no")])
def test_profiles_are_asked_for_at_numbers(sleep: bl.REMLResult, values: object, words: str) -> None:
    with pytest.raises(DesignError, match=words):
        sleep.profile("sigma", values)  # type: ignore[arg-type]
