"""Meta-analyses against metafor 3.8-1 (R 4.2.2) and, beside it, dense algebra whose optimum is a root of the score."""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl

STORED: dict[str, Any] = json.loads(
    gzip.decompress((Path(__file__).parents[1] / "reference" / "meta_cases.json.gz").read_bytes())
)
CASES, DATA = STORED["cases"], STORED["data"]
SINGLE = [name for name, case in CASES.items() if "yi" in case]
MULTILEVEL = [name for name, case in CASES.items() if "random" in case]
BOTH = [("REML", True), ("ML", False)]
# Dense references have all digits; metafor's iterations end at 1e-14 of tau2, its root searches at 1e-7.
DENSE, METAFOR, ROOTS = 1e-9, 1e-7, 1e-6


def data_of(name: str) -> pd.DataFrame:
    frame = pd.DataFrame(DATA[CASES[name]["dataset"]])
    if "design" in frame:
        frame["design"] = pd.Categorical(frame["design"], ["cohort", "case-control"])
    return frame.assign(row=[f"s{i}" for i in range(len(frame))])


@cache
def fitted(name: str, reml: bool) -> Any:
    case = CASES[name]
    mods = (case["mods"] or "~1").removeprefix("~")
    random = "(1 | district/school)" if "random" in case else "(1 | row)"
    return bl.Model(f"yi ~ {mods} + {random}", data_of(name), residual_sd="sqrt(vi)").fit(reml)


@pytest.mark.parametrize(("method", "reml"), BOTH)
@pytest.mark.parametrize("name", SINGLE)
def test_estimates(name: str, method: str, reml: bool) -> None:
    fit, case = fitted(name, reml), CASES[name][method]
    dense = case["dense"]
    found = fit.heterogeneity()
    assert found.tau2 == pytest.approx(dense["tau2"], rel=DENSE, abs=1e-14)
    assert fit.loglik == pytest.approx(dense["logLik"], rel=DENSE)
    assert fit.fixef().tolist() == pytest.approx(dense["beta"], rel=DENSE)
    assert fit.std_error().tolist() == pytest.approx(dense["se"], rel=DENSE)
    own = fit.predict()
    assert own["estimate"].tolist() == pytest.approx(dense["blup"], rel=DENSE, abs=1e-12)
    assert own["std_error"].tolist() == pytest.approx(dense["blup_se"], rel=DENSE)
    effects = next(iter(fit.ranef().values()))["Intercept"].reindex(data_of(name)["row"])
    assert effects.tolist() == pytest.approx(dense["ranef"], rel=DENSE, abs=1e-12)


def weighted_squares(fit: Any, tau2: float) -> float:
    weights = 1.0 / (fit.design.residual.sd**2 + tau2)
    X, y = fit.design.X, fit.design.y
    beta = np.linalg.solve(X.T @ (X * weights[:, None]), X.T @ (weights * y))
    return float(weights @ (y - X @ beta) ** 2)


@pytest.mark.parametrize(("method", "reml"), BOTH)
@pytest.mark.parametrize("name", SINGLE)
def test_heterogeneity(name: str, method: str, reml: bool) -> None:
    fit, case = fitted(name, reml), CASES[name][method]
    found, dense = fit.heterogeneity(), case["dense"]
    assert found.Q.statistic == pytest.approx(dense["Q"], rel=DENSE)
    assert found.Q.df == dense["Q_df"]
    assert found.Q.p_value == pytest.approx(case["Q_p"], rel=1e-6)
    assert pytest.approx(case["I2"], abs=1e-6) == found.I2
    assert pytest.approx(case["H2"], rel=METAFOR) == found.H2
    assert found.table["std_error"].tolist() == pytest.approx([case["se_tau2"]], rel=1e-6)
    tau2 = found.intervals.loc["tau2"]
    assert [tau2["q_low"], tau2["q_high"]] == pytest.approx(dense["q_profile_95"], rel=ROOTS, abs=1e-12)
    assert tau2[["conf_low", "conf_high"]].tolist() == pytest.approx(
        [dense["profile"]["tau2_lower"][1], dense["profile"]["tau2_upper"][1]], rel=ROOTS, abs=1e-12
    )
    # metafor looks for ends of tau2 below 100 only.
    table = dict(zip(case["confint"]["rows"], case["confint"]["values"], strict=True))
    if table["tau^2"][2] < 99 and tau2["q_high"] < 99:
        for ours, theirs in (("tau", "tau"), ("I2", "I^2(%)"), ("H2", "H^2")):
            ends = found.intervals.loc[ours, ["q_low", "q_high"]].tolist()
            assert ends == pytest.approx(table[theirs][1:], rel=1e-4, abs=1e-6)
    if "DL" in CASES[name]:
        assert found.moments["DL"] == pytest.approx(CASES[name]["DL"]["tau2"], rel=DENSE, abs=1e-12)
        # metafor's root search for PM ends at 1e-4: its defining equation says more.
        assert found.moments["PM"] == pytest.approx(CASES[name]["PM"]["tau2"], abs=2e-4)
        if found.moments["PM"] > 0:
            assert weighted_squares(fit, found.moments["PM"]) == pytest.approx(dense["Q_df"], rel=1e-10)


@pytest.mark.parametrize(("method", "reml"), BOTH)
@pytest.mark.parametrize("name", SINGLE)
def test_tests_of_fixed_effects(name: str, method: str, reml: bool) -> None:
    fit, case = fitted(name, reml), CASES[name][method]
    plain, adjusted = fit.coefficients(ddf="z"), fit.coefficients(ddf="knapp-hartung")
    for ours, theirs in (("t", "zval"), ("p_value", "pval"), ("conf_low", "ci_lb"), ("conf_high", "ci_ub")):
        assert plain[ours].tolist() == pytest.approx(case[theirs], rel=1e-6)
    knha = case["knha"]
    for ours, theirs in (
        ("std_error", "se"),
        ("t", "t"),
        ("p_value", "p"),
        ("conf_low", "ci_lb"),
        ("conf_high", "ci_ub"),
    ):
        assert adjusted[ours].tolist() == pytest.approx(knha[theirs], rel=1e-6)
    assert (adjusted["df"] == knha["df"]).all()
    assert adjusted["std_error"].tolist() == pytest.approx(case["dense"]["knapp_hartung_se"], rel=DENSE)
    if "QM" in case:
        value, _, p = fit.heterogeneity().moderators
        assert [value, p] == pytest.approx([case["QM"]["QM"], case["QM"]["p"]], rel=1e-6)
        term = next(name for name in fit.design.fixed_names if name != "Intercept")
        joint = fit.test_fixed(term, ddf="knapp-hartung")
        assert joint[["F", "p_value"]].tolist() == pytest.approx([case["QM"]["knha_F"], case["QM"]["knha_p"]], rel=1e-6)
    if "prediction_interval" in case:
        prediction = fit.heterogeneity().prediction[["new_low", "new_high"]]
        assert prediction.loc["z"].tolist() == pytest.approx(case["prediction_interval"]["z"], rel=1e-6)
        assert prediction.loc["knapp-hartung"].tolist() == pytest.approx(case["prediction_interval"]["knha"], rel=1e-6)


@pytest.mark.parametrize("name", SINGLE)
def test_the_common_effect_is_a_variance_held_at_zero(name: str) -> None:
    case, fit = CASES[name]["FE"], fitted(name, True)
    free = bl.Model(fit.formula, data_of(name), residual_sd="sqrt(vi)")
    held = free.fit(fix={"row": [0.0]})
    table = held.coefficients(ddf="z")
    assert table["estimate"].tolist() == pytest.approx(case["beta"]["values"], rel=DENSE)
    for ours, theirs in (("std_error", "se"), ("p_value", "pval"), ("conf_low", "ci_lb"), ("conf_high", "ci_ub")):
        assert table[ours].tolist() == pytest.approx(case[theirs], rel=1e-6)
    assert free.fit(False, fix={"row": [0.0]}).loglik == pytest.approx(case["logLik"], rel=DENSE)
    assert held.heterogeneity().tau2 == 0.0
    assert held.confint().iloc[0].tolist() == [0.0, 0.0]
    assert np.isinf(held.coefficients(ddf="kenward-roger")["df"]).all()
    if "QM" in case:
        assert held.heterogeneity().moderators[0] == pytest.approx(case["QM"]["QM"], rel=1e-8)
        term = next(name for name in fit.design.fixed_names if name != "Intercept")
        assert held.test_fixed(term, ddf="knapp-hartung")["F"] == pytest.approx(case["QM"]["knha_F"], rel=1e-8)


@pytest.mark.parametrize("name", [name for name in SINGLE if "leave1out" in CASES[name]["REML"]])
def test_studies_left_out(name: str) -> None:
    expected = CASES[name]["REML"]["leave1out"]
    without = fitted(name, True).influence()
    estimates = without.estimates.loc[range(len(expected["tau2"]))]
    assert estimates["Intercept"].tolist() == pytest.approx(expected["estimate"], rel=1e-6)
    assert (estimates["sd_row[Intercept]"] ** 2).tolist() == pytest.approx(expected["tau2"], rel=1e-5, abs=1e-9)


@pytest.mark.parametrize(("method", "reml"), BOTH)
@pytest.mark.parametrize("name", MULTILEVEL)
def test_levels_of_levels(name: str, method: str, reml: bool) -> None:
    fit, case = fitted(name, reml), CASES[name][method]
    dense, found = case["dense"], fit.heterogeneity()
    assert found.table["tau2"].tolist() == pytest.approx(dense["sigma2"], rel=DENSE)
    assert fit.loglik == pytest.approx(dense["logLik"], rel=DENSE)
    assert fit.fixef().tolist() == pytest.approx(dense["beta"], rel=1e-8)
    assert fit.std_error().tolist() == pytest.approx(dense["se"], rel=DENSE)
    assert found.Q.statistic == pytest.approx(case["metafor"]["Q"], rel=DENSE)
    if "profile_95" in dense:
        ends = found.table[["conf_low", "conf_high"]].to_numpy()
        assert np.allclose(ends, dense["profile_95"], rtol=ROOTS)
