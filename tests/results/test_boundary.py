"""The boundary report: what it says, against closed forms and stored numbers."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.stats import f as f_distribution

import bayeslmm as bl
from bayeslmm.boundary.report import BoundaryReport
from bayeslmm.errors import DesignError


def report(formula: str, frame: pd.DataFrame, **arguments: object) -> BoundaryReport:
    return bl.Model(formula, frame).fit().boundary(**arguments)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def dyestuff2() -> BoundaryReport:
    return report("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2"))


@pytest.fixture(scope="module")
def sleep() -> BoundaryReport:
    return report("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy"))


def test_zero_estimate_in_numbers(dyestuff2: BoundaryReport) -> None:
    label = "sd_Batch[Intercept]"
    assert dyestuff2.singular
    # Roots of the criteria by an independent program (profile_root of the reference cases): ends at 90 %.
    assert dyestuff2["limits"].loc[label, "REML high"] == pytest.approx(2.0079485399944, rel=1e-8)
    assert dyestuff2["limits"].loc[label, "ML high"] == pytest.approx(1.67658438081259, rel=1e-8)
    # Exact F pivot: the upper end is where F / (1 + 5 lambda) is the 5 % point.
    data = bl.load_dataset("Dyestuff2")
    by = data.groupby("Batch", observed=True)["Yield"]
    F = 5 * by.mean().var() / by.var().mean()
    ratio = max((F / f_distribution.ppf(0.05, 5, 24) - 1) / 5, 0)
    assert dyestuff2["limits"].loc[label, "ICC high"] == pytest.approx(ratio / (1 + ratio), rel=1e-9)
    rates = dyestuff2["zero_rate"][label]
    for icc, rate in rates.items():
        k = 1 + 5 * float(str(icc)) / (1 - float(str(icc)))
        assert rate == pytest.approx(f_distribution.cdf(1 / k, 5, 24), rel=1e-9)


def test_zero_estimate_in_words(dyestuff2: BoundaryReport) -> None:
    assert max(len(line) for line in str(dyestuff2).splitlines()) < 140
    text = " ".join(str(dyestuff2).split())
    assert "The fit is singular" in dyestuff2.verdict
    assert "No variance between levels of Batch" in dyestuff2.findings[0]
    assert "sd_Batch[Intercept] below 2.0079" in text
    assert "33 of 100" in text  # P(F(5, 24) < 1 / (1 + 5 / 9)) = .331
    # Degrees of freedom by lmerTest and pbkrtest.
    assert "29 degrees of freedom by Satterthwaite and 5 by Kenward-Roger" in text
    for advice in dyestuff2.advice:
        assert advice.source
    html = dyestuff2._repr_html_()
    assert html.count("<table") == len(dyestuff2.sections)


def test_penalised_estimate_is_that_of_blme(dyestuff2: BoundaryReport) -> None:
    table = dyestuff2["penalised"]
    # gamma(shape = 2, rate = 0) of blme 1.0-5
    assert table.loc["sd_Batch[Intercept]", "with penalty"] == pytest.approx(1.17288674366176, rel=1e-6)
    assert table.loc["sigma", "with penalty"] == pytest.approx(3.64921573253039, rel=1e-6)


def test_tests_of_a_zero_estimate_have_p_one(dyestuff2: BoundaryReport) -> None:
    likelihood = dyestuff2["tests"].reset_index()
    rows = likelihood[likelihood["test of 0"].str.contains("RLRT")]
    assert (rows["statistic"] == 0).all()
    assert (rows["p"] == 1).all()


def test_a_regular_fit_has_nothing_to_worry_about(sleep: BoundaryReport) -> None:
    assert not sleep.singular
    assert "nothing to worry about" in sleep.verdict
    assert len(sleep.advice) == 1
    assert sleep.findings == ()


def test_near_zero_is_said() -> None:
    data = bl.load_dataset("Dyestuff2").copy()
    levels = data["Batch"].cat.codes.to_numpy()
    # Moved apart until the estimate is just positive.
    data["Yield"] = data["Yield"] + 1.3 * (levels - levels.mean())
    fit = bl.Model("Yield ~ 1 + (1 | Batch)", data).fit()
    assert not fit.is_singular
    found = fit.boundary(posterior="none")
    assert "zero is in reach" in found.verdict
    assert [advice.title for advice in found.advice] == [
        "Report the limit, not the zero",
        "Keep the term if the design has it",
        "Average over what the variance may be",
    ]
    assert "posterior" not in [section.name for section in found.sections]


def test_a_correlation_at_its_end_names_the_combination() -> None:
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({"g": np.repeat(np.arange(8), 6), "x": np.tile(np.linspace(-1, 1, 6), 8)})
    level = 2.0 * rng.normal(size=8)
    frame["y"] = level[frame["g"]] * (1 + 0.8 * frame["x"]) + rng.normal(size=48)
    fit = bl.Model("y ~ x + (x | g)", frame).fit()
    assert fit.is_singular
    assert not (fit.estimates()[["sd_g[Intercept]", "sd_g[x]"]] == 0).any()
    found = fit.boundary()
    components = found["components"]
    assert components["share"].iloc[-1] == pytest.approx(0.0, abs=1e-10)
    assert "no variance" in components["combination of effects"].iloc[-1]
    assert "||" in str(found)


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_numbers_move_with_the_unit_of_the_response(dyestuff2: BoundaryReport, factor: float) -> None:
    data = bl.load_dataset("Dyestuff2").copy()
    data["Yield"] = factor * (data["Yield"] + 10.0)
    moved = report("Yield ~ 1 + (1 | Batch)", data, posterior="none")
    for column in ("REML high", "ML high"):
        np.testing.assert_allclose(moved["limits"][column], factor * dyestuff2["limits"][column], rtol=1e-8)
    for column in ("ICC low", "ICC high"):
        np.testing.assert_allclose(moved["limits"][column], dyestuff2["limits"][column], rtol=1e-8)


def test_as_plain_data(dyestuff2: BoundaryReport) -> None:
    content = json.loads(json.dumps(dyestuff2.to_dict(), allow_nan=False))
    assert content["singular"] is True
    rows = content["sections"]["limits"]["rows"]
    assert rows[0]["REML high"] == dyestuff2["limits"]["REML high"].iloc[0]
    with pytest.raises(KeyError, match="limits"):
        dyestuff2["limit"]


def test_exact_tests_that_contradict_a_zero_are_named() -> None:
    """Six levels of one observation that differ, two large ones that do not: the likelihood listens to the large."""
    rng = np.random.default_rng(15)
    frame = pd.DataFrame({"g": np.repeat(np.arange(8), [1] * 6 + [60, 40])})
    frame["y"] = rng.normal(size=106)
    frame.loc[:5, "y"] *= 2.0
    sizes = frame.groupby("g")["y"]
    between = sizes.count() * (sizes.mean() - frame["y"].mean()) ** 2
    within = frame["y"].var() * 105 - between.sum()
    F = (between.sum() / 7) / (within / 98)
    fit = bl.Model("y ~ 1 + (1 | g)", frame).fit()
    assert fit.is_singular
    assert f_distribution.sf(F, 7, 98) < 0.05
    found = fit.boundary("none")
    assert f"The exact F test (p = {f_distribution.sf(F, 7, 98):.3g})" in found.findings[-1]
    assert "Do not simplify unseen" in [advice.title for advice in found.advice]


def test_fits_that_cannot_be_used_say_so_and_no_more() -> None:
    g = np.repeat(np.arange(6), 5)
    rng = np.random.default_rng(0)
    exact = pd.DataFrame({"g": g, "x": rng.normal(size=30)})
    exact["y"] = 1 + 2 * exact["x"] + exact["g"]
    perfect = bl.Model("y ~ x + (1 | g)", exact).fit(on_failure="ignore").boundary()
    assert "reproduces the response exactly" in perfect.verdict
    assert perfect.sections == ()
    twin = pd.DataFrame({"g": g, "k": g, "y": rng.normal(size=6)[g] + rng.normal(size=30)})
    same = bl.Model("y ~ 1 + (1 | g) + (1 | k)", twin).fit(on_failure="ignore").boundary()
    assert "cannot be told apart" in same.verdict
    assert "only a combination is determined" in same.advice[0].here
    for found in (perfect, same):
        assert "Nothing to do" not in str(found)


def test_a_design_without_residual_degrees_of_freedom_has_no_rates() -> None:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"g": [0, 0, 1, 1, 2, 2, 3, 4, 5, 5, 6, 6], "y": rng.normal(size=12)})
    for name in "abcde":
        frame[name] = rng.normal(size=12)
    fit = bl.Model("y ~ a + b + c + d + e + (1 | g)", frame).fit(on_failure="ignore")
    found = fit.boundary("none")
    assert "zero_rate" not in [section.name for section in found.sections]


def test_parameters_held_fixed_stay_so() -> None:
    formula = "Reaction ~ Days + (1 | Subject) + (0 + Days | Subject)"
    fit = bl.Model(formula, bl.load_dataset("sleepstudy")).fit(fix={"(0 + Days | Subject)": [0.01]})
    table = fit.boundary("none", detail="full")["penalised"]
    held = table.loc["sd_Subject[Days]"] / table.loc["sigma"]
    np.testing.assert_allclose(held, 0.01, rtol=1e-9)


@pytest.mark.parametrize("delta", [-1.0, float("nan"), float("inf"), "a", True])
def test_refused_sizes_of_what_is_negligible(delta: object) -> None:
    fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).fit()
    with pytest.raises(DesignError, match="delta="):
        fit.boundary("none", delta=delta)  # type: ignore[arg-type]


def test_refused_arguments() -> None:
    fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).fit()
    with pytest.raises(DesignError, match=r"level=0\.4"):
        fit.boundary(level=0.4)
    with pytest.raises(DesignError, match="posterior='no'"):
        fit.boundary("no")  # type: ignore[arg-type]
    other = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).sample(200, random_seed=1)
    with pytest.raises(DesignError, match="another model"):
        fit.boundary(other)
    held = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).fit(fix={"Batch": [0.0]})
    with pytest.raises(DesignError, match="estimated"):
        held.boundary()


def test_large_designs_do_without_what_needs_hours() -> None:
    rng = np.random.default_rng(5)
    frame = pd.DataFrame({"g": np.repeat(np.arange(2500), 2), "y": rng.normal(size=5000)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = report("y ~ 1 + (1 | g)", frame, posterior="none")
    assert "zero_rate" not in [section.name for section in found.sections]
    assert "tests" in [section.name for section in found.sections]


def test_of_a_comparison_has_its_posterior_and_its_delta() -> None:
    model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2"))
    post = model.sample(500, priors={"sd": bl.HalfNormal(2.0)}, random_seed=1)
    both = bl.compare(model.fit(reml=False), post, level=0.9, delta=0.5)
    row = both.boundary["posterior"].loc["sd_Batch[Intercept]"]
    assert row["prior"] == "half-normal(scale 2)"
    assert row["delta"] == 0.5
    assert row["P(sd < delta)"] == post.probability_below("sd_Batch", 0.5)
    assert row["BF01"] == pytest.approx(post.bayes_factor("sd_Batch").bf01, rel=1e-9)
    assert both.boundary.level == 0.9
