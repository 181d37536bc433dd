"""Random effects with sds, coefficients of levels, covariances by label, components: lme4's numbers, dense ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.errors import DesignError

LME4: dict[str, Any] = json.loads((Path(__file__).parent / "influence_lme4.json").read_text())


@pytest.fixture(scope="module")
def sleep() -> bl.REMLResult:
    model = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy"))
    return model.fit(fix={"theta": LME4["sleepstudy"]["theta"]})


def test_conditional_sds_are_those_of_lme4(sleep: bl.REMLResult) -> None:
    frame = sleep.ranef(sd=True)["Subject"]
    assert list(frame.columns) == ["Intercept", "Days", "sd[Intercept]", "sd[Days]"]
    np.testing.assert_allclose(frame[["sd[Intercept]", "sd[Days]"]], LME4["conditional_sd"], rtol=1e-7)
    pd.testing.assert_frame_equal(pd.DataFrame(frame[["Intercept", "Days"]]), pd.DataFrame(sleep.ranef()["Subject"]))


def test_coefficients_of_levels_are_those_of_lme4(sleep: bl.REMLResult) -> None:
    np.testing.assert_allclose(sleep.coef()["Subject"], LME4["coef"], rtol=1e-8)


def test_an_effect_that_is_only_random_stands_alone() -> None:
    data = bl.load_dataset("sleepstudy")
    fit = bl.Model("Reaction ~ 1 + (1 | Subject) + (0 + Days | Subject)", data).fit()
    frame, effects = fit.coef()["Subject"], fit.ranef()["Subject"]
    assert list(frame.columns) == ["Intercept", "Days"]
    np.testing.assert_allclose(frame["Days"], effects["Days"])
    np.testing.assert_allclose(frame["Intercept"], fit.fixef()["Intercept"] + effects["Intercept"])


def test_labelled_variances_hold_the_arrays(sleep: bl.REMLResult) -> None:
    for known in (True, False):
        array = sleep.ranef_variances(fixed_known=known)["Subject"]
        table = sleep.ranef_variances(fixed_known=known, labelled=True)["Subject"]
        assert table.loc[("309", "Days"), "Intercept"] == array[1, 1, 0]
        np.testing.assert_array_equal(table.to_numpy(), array.reshape(-1, 2))


def test_components_in_the_units_of_predictors_are_those_of_lme4(sleep: bl.REMLResult) -> None:
    table = sleep.rePCA(scaled=False)
    np.testing.assert_allclose(table["sd"] / sleep.sigma, LME4["repca"]["sdev"], rtol=1e-8)
    rotation = np.array(LME4["repca"]["rotation"])
    np.testing.assert_allclose(np.abs(table[["Intercept", "Days"]].to_numpy().T), np.abs(rotation), rtol=1e-7)
    assert table["cumulative"].iloc[-1] == pytest.approx(1.0)
    # In units of the response nothing depends on those of a predictor.
    hours = bl.load_dataset("sleepstudy").assign(Days=lambda d: d["Days"] * 24)
    one, other = (
        bl.Model("Reaction ~ Days + (Days | Subject)", data).fit().rePCA()
        for data in (bl.load_dataset("sleepstudy"), hours)
    )
    np.testing.assert_allclose(one["sd"], other["sd"], rtol=1e-6)


def test_matrices_of_variances(sleep: bl.REMLResult) -> None:
    table = sleep.varcorr()
    G = sleep.varcorr_matrices()["Subject"]
    np.testing.assert_allclose([G.iloc[0, 0], G.iloc[1, 1], G.iloc[0, 1]], table["vcov"][:3], rtol=1e-12)
    R = sleep.varcorr_matrices(correlation=True)["Subject"]
    assert R.loc["Days", "Intercept"] == pytest.approx(table["sdcor"][2])
    np.testing.assert_allclose(np.diagonal(R), 1.0)


def test_a_posterior_answers_the_same_calls() -> None:
    post = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).sample(400, random_seed=1)
    frame = post.ranef(sd=True)["Batch"]
    draws = np.asarray(post.data["posterior"]["b_Batch"]).reshape(-1, 6)
    np.testing.assert_allclose(frame["sd[Intercept]"], draws.std(axis=0))
    np.testing.assert_allclose(post.coef()["Batch"]["Intercept"], post.fixef()["Intercept"] + draws.mean(axis=0))


def test_variance_inflation_is_that_of_car() -> None:
    data = bl.load_dataset("sleepstudy")
    data["half"] = np.where(data["Days"] > 4, "late", "early")
    found = bl.Model("Reaction ~ Days * half + (1 | Subject)", data).fit().vif()
    assert list(found.index) == LME4["vif"]["names"]
    np.testing.assert_allclose(found["gvif"], LME4["vif"]["values"], rtol=1e-6)
    with pytest.raises(DesignError, match="has 1 term"):
        bl.Model("Reaction ~ Days + (1 | Subject)", data).fit().vif()


def test_of_terms_with_several_columns_it_is_the_generalised_one() -> None:
    data = bl.load_dataset("Oats")
    fit = bl.Model("yield ~ Variety + C(nitro) + (1 | Block)", data.drop([0, 4, 19, 32, 33, 59])).fit()
    found = fit.vif()
    # From the definition, with the covariance of the estimates as the inverse of X'V^-1X.
    V = np.asarray(fit.matrices().V)
    C = np.linalg.inv(fit.design.X.T @ np.linalg.solve(V, fit.design.X))[1:, 1:]
    R = C / np.sqrt(np.outer(np.diagonal(C), np.diagonal(C)))
    expected = np.linalg.det(R[:2, :2]) * np.linalg.det(R[2:, 2:]) / np.linalg.det(R)
    np.testing.assert_allclose(found["gvif"], [expected, expected], rtol=1e-8)
    np.testing.assert_allclose(found["gvif_root"], [expected ** (1 / 4), expected ** (1 / 6)], rtol=1e-8)
    assert found["df"].tolist() == [2, 3]


def test_an_ordered_factor_is_one_term() -> None:
    data = pd.read_csv(Path(__file__).parent / "ordered_factor.csv")
    data["f"] = pd.Categorical(data["f"], ordered=True)
    found = bl.Model("y ~ f * h + x + (1 | g)", data).fit().vif()
    # car: vif(lmer(y ~ f * h + x + (1 | g), d)) with d$f <- factor(d$f, ordered = TRUE).
    assert list(found.index) == ["f", "h", "x", "f:h"]
    assert found["df"].tolist() == [2, 1, 1, 2]
    np.testing.assert_allclose(found["gvif"], [2.720604818, 1.273904478, 1.033047098, 3.049293026], rtol=1e-6)


@pytest.mark.parametrize("call", [lambda f: f.ranef(sd="yes"), lambda f: f.rePCA(scaled=2)])
def test_wrong_calls(call: Any, sleep: bl.REMLResult) -> None:
    with pytest.raises(DesignError, match="neither True nor False"):
        call(sleep)
