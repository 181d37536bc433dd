"""Models with residual parameters against stored estimates of nlme and of dense likelihoods (tests/reference)."""

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

STORE = Path(__file__).parents[1] / "reference" / "residual_cases.json.gz"


@cache
def _stored() -> dict[str, Any]:
    return json.loads(gzip.decompress(STORE.read_bytes()))


@cache
def frame(name: str) -> pd.DataFrame:
    columns = {}
    for column, kept in _stored()["data"][name].items():
        values = pd.Series(kept["values"])
        columns[column] = pd.Categorical(values.astype(str), kept["levels"]) if "levels" in kept else values
    return pd.DataFrame(columns)


def _cases() -> list[Any]:
    return [
        pytest.param(case, reml, id=f"{case['id']}-{reml}")
        for case in _stored()["cases"]
        for reml in ("reml", "ml")
        if reml in case
    ]


@pytest.mark.parametrize(("case", "method"), _cases())
def test_estimates(case: dict[str, Any], method: str) -> None:
    model = bl.Model(case["formula"], frame(case["dataset"]), residual=case["residual"], weights=case["weights"])
    fit, known = model.fit(method == "reml"), case[method]
    assert fit.status.ok
    # Of a likelihood: nlme stops short of the maximum where that is at a zero variance.
    assert fit.loglik >= known["logLik"] - 1e-8 * abs(known["logLik"])
    if case["id"] == "lme_sleepstudy_ar1":
        return
    tight = case["id"].startswith("res_")
    assert fit.loglik == pytest.approx(known["logLik"], rel=1e-9 if tight else 1e-7)
    np.testing.assert_allclose(fit.sigma, known["sigma"], rtol=1e-5 if tight else 1e-3)
    np.testing.assert_allclose(fit.fixef(), known["fixef"], rtol=1e-6 if tight else 1e-4, atol=1e-6)
    # nlme multiplies the standard errors of ML.
    if tight or method == "reml":
        np.testing.assert_allclose(fit.std_error(), known["se"], rtol=1e-6 if tight else 1e-3)
    parameters = fit.estimates().filter(like="residual_").to_numpy()
    expected = [*known["variance"], *known["correlation"]]
    if case["residual"].startswith("us"):
        # Stored by rows of the upper triangle, here by rows of the lower.
        expected = [*known["variance"], *np.array(known["correlation"])[[0, 1, 3, 2, 4, 5]]]
    if tight:
        np.testing.assert_allclose(parameters, expected, rtol=1e-5, atol=1e-6)
        if "df" in known and case["id"] != "res_ovary_gls_arma11":
            np.testing.assert_allclose(fit.coefficients()["df"], known["df"], rtol=1e-5)
        if "kr" in known:
            adjusted = fit.coefficients(ddf="kenward-roger-linear")
            np.testing.assert_allclose(adjusted["std_error"], known["kr"]["se"], rtol=1e-6)
            np.testing.assert_allclose(adjusted["df"], known["kr"]["df"], rtol=1e-5)


def test_serial_correlation_beside_a_slope_whose_variance_is_zero() -> None:
    # nlme ends at -862.0935; the variance of the slopes is zero at the maximum.
    fit = bl.Model("Reaction ~ Days + (Days | Subject)", frame("sleepstudy"), residual="ar1(Days | Subject)").fit()
    assert fit.loglik == pytest.approx(-862.0582, abs=5e-5)
    assert fit.is_singular


FEV = {"us": 3386.449871, "csh": 3398.001027, "cs": 3522.042949, "ar1": 3525.078763, "ar1h": 3404.219246}


@pytest.mark.parametrize("structure", FEV)
def test_repeated_measures_of_a_trial(structure: str) -> None:
    formula = "FEV1 ~ RACE + SEX + ARMCD * AVISIT"
    fit = bl.Model(formula, frame("fev"), residual=f"{structure}(AVISIT | USUBJID)").fit()
    assert fit.criterion == pytest.approx(FEV[structure], abs=1e-6)
    if structure == "us":
        # R's mmrm, of the effects after the intercept.
        df = [168.67, 157.14, 166.14, 145.55]
        np.testing.assert_allclose(fit.coefficients()["df"].iloc[1:5], df, rtol=4e-5)


def test_ten_visits() -> None:
    formula = "BCVA_CHG ~ BCVA_BL + RACE + ARMCD * AVISIT"
    fit = bl.Model(formula, frame("bcva"), residual="us(AVISIT | USUBJID)").fit()
    assert fit.criterion == pytest.approx(32071.029738, abs=1e-6)
    assert fit.df == 23 + 55


# Standard errors and df of the difference of the arms by PROC MIXED: ddfm=kr, kr(firstorder) (openpharma/mmrm,
# design/KR and tests/testthat/test-kenwardroger.R). SAS stops up to 4e-4 before the optimum.
SAS = {
    "ar1": (0.95865439662225, 0.96058142305176, 188.46934887972),
    "ar1h": (0.7590316099633, 0.75924807546934, 188.225339095373),
    "cs": (0.7964696053595, 0.7964696053595, 177.038485931223),
    "csh": (0.67414806011886, 0.67403858183242, 190.737701349941),
    "adh": (0.66172017349971, 0.66158550758897, 162.393385281755),
    "toep": (0.87839805519623, 0.87839805519623, 160.027408337368),
    "toeph": (0.72543828853831, 0.72537324518435, 180.062730071701),
    "us": (0.66124382270307, 0.66124382270307, 160.733266403768),
}


@pytest.mark.parametrize("structure", SAS)
def test_kenward_roger_with_and_without_second_derivatives(structure: str) -> None:
    data = frame("fev").assign(arm=lambda d: pd.Categorical(d["ARMCD"].astype(str), ["PBO", "TRT"]))
    fit = bl.Model("FEV1 ~ arm", data, residual=f"{structure}(AVISIT | USUBJID)").fit()
    full, first = (fit.coefficients(ddf=ddf).iloc[1] for ddf in ("kenward-roger", "kenward-roger-linear"))
    np.testing.assert_allclose([full["std_error"], first["std_error"], full["df"]], SAS[structure], rtol=4e-4)
    # What second derivatives add hardly moves with the estimates.
    added = SAS[structure][0] - SAS[structure][1]
    assert full["std_error"] - first["std_error"] == pytest.approx(added, rel=1e-3, abs=1e-12)
    assert full["df"] == first["df"]
    tested = fit.test_fixed("arm", ddf="kenward-roger")
    assert tested["F"] == pytest.approx(full["t"] ** 2, rel=0.01)
