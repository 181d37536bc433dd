"""ANOVA tables, variance inflation and joint tests of odd but legal models, beside lmerTest, car and emmeans.

`anova(m, type = 1:3)` (F and DenDF) of lmerTest 3.1-3, `vif(m)` of car 3.1-1 and `joint_tests(m, lmer.df =
"satterthwaite")` of emmeans 1.8.4.1, of fits by lme4 1.1-31 with lmerControl("bobyqa", optCtrl = list(rhoend = 1e-11,
maxfun = 1e5)), updated three times from their own theta. The data are those of ../means/test_nesting.py with further
columns, in R i <- setdiff(1:90, c(4, 17, 33, 60)); d$z <- round(cos(i * 3.3) * 2 + 3, 2); d$w <- round(1.5 + sin(i *
1.3), 2); d$off <- round(cos(i * .7), 2); d$xb <- as.integer(sin(i * 5.1) > 0); d <- d[-c(1:7, 20, 30:33), ]
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl

EMPTY, WEIGHTED = "y ~ ke * x + (1 | g)", "y ~ f * k + z + (1 | g)"
ANOVA: dict[tuple[str, int], tuple[list[float], list[float]]] = {
    ("y ~ 0 + k * x + (1 | g)", 1): ([492.583481, 1.17812855, 0.128429877], [9.1859509, 66.1379862, 68.9213415]),
    ("y ~ 0 + k * x + (1 | g)", 2): ([491.555762, 1.17812855, 0.128429877], [9.24810774, 66.1379862, 68.9213415]),
    ("y ~ 0 + k * x + (1 | g)", 3): ([491.555762, 1.27188, 0.128429877], [9.24810774, 67.6462096, 68.9213415]),
    ("y ~ k + k:x + (1 | g)", 1): ([4.76514876, 0.638996061], [65.298052, 67.2454651]),
    ("y ~ k + k:x + (1 | g)", 3): ([4.99622101, 0.638996061], [65.3454998, 67.2454651]),
    ("y ~ x * z * k + (1 | g)", 2): (
        [0.506925283, 0.0981494471, 0.762475264, 0.085076309, 2.78578468, 1.32560164e-05, 2.87093113],
        [62.0453908, 62.0563866, 62.0905124, 62.1683696, 61.8006039, 61.9379834, 61.4126289],
    ),
    ("y ~ x * z * k + (1 | g)", 3): (
        [1.30968143, 0.0885728972, 0.762475264, 0.578659442, 2.78578468, 1.32560164e-05, 2.87093113],
        [62.1975701, 61.5605134, 62.0905124, 62.3527249, 61.8006039, 61.9379834, 61.4126289],
    ),
    (EMPTY, 2): ([4.99622101, 1.17812855, 0.128429879], [65.3454998, 66.1379861, 68.9213415]),
    (EMPTY, 3): ([4.99622101, 1.27188, 0.128429879], [65.3454998, 67.6462096, 68.9213415]),
    ("y ~ x * k + offset(off) + (1 | g)", 1): (
        [0.924811583, 4.56820175, 0.220573193],
        [66.7108288, 65.5077915, 69.8945061],
    ),
    ("y ~ x * k + offset(off) + (1 | g)", 3): (
        [1.25899908, 4.66461023, 0.220573193],
        [68.7336614, 65.5552228, 69.8945061],
    ),
    (WEIGHTED, 2): (
        [166.497927, 15.1551187, 0.00540976263, 3.30112753],
        [64.3879415, 64.0793918, 64.2945702, 64.1436919],
    ),
    (WEIGHTED, 3): (
        [123.868448, 6.81096805, 0.00540976263, 3.30112753],
        [64.4678306, 64.1623881, 64.2945702, 64.1436919],
    ),
}
VIF = {
    "y ~ 0 + k * x + (1 | g)": [1.00630386, 3.3057763, 3.2997728],
    "y ~ k + k:x + (1 | g)": [1.00490729, 1.00490729],
    "y ~ x * z * k + (1 | g)": [15.9242188, 2.99241999, 5.72337151, 16.1414605, 16.7446336, 7.91299225, 16.9022373],
    EMPTY: [1.00490729, 3.30458938, 3.29976097],
    WEIGHTED: [3.28857056, 3.69207771, 1.03256144, 5.77288325],
}


@pytest.fixture(scope="module")
def frame(rows_by_formula: pd.DataFrame) -> pd.DataFrame:
    i, fh = np.arange(1, 91), np.arange(90) // 18
    data = rows_by_formula.assign(z=np.round(np.cos(i * 3.3) * 2 + 3, 2), w=np.round(1.5 + np.sin(i * 1.3), 2))
    data = data.assign(
        off=np.round(np.cos(i * 0.7), 2), xb=(np.sin(i * 5.1) > 0).astype(int), f=np.where(fh > 1, "b", "a")
    )
    data["ke"] = pd.Categorical(data["k"], ["k0", "k1", "k2"])
    kept = np.setdiff1d(np.arange(90), [3, 16, 32, 59])
    return data.iloc[np.delete(kept, [*range(7), 19, 29, 30, 31, 32])].reset_index(drop=True)


def fitted(formula: str, frame: pd.DataFrame) -> bl.REMLResult:
    return bl.Model(formula, frame, weights="w" if formula == WEIGHTED else None).fit()


@pytest.mark.parametrize(("formula", "kind"), ANOVA)
def test_types_of_anova(frame: pd.DataFrame, formula: str, kind: int) -> None:
    table = fitted(formula, frame).anova(type=kind)
    F, df = ANOVA[formula, kind]
    np.testing.assert_allclose(table["F value"], F, rtol=2e-6)
    np.testing.assert_allclose(table["DenDF"], df, rtol=1e-4)


@pytest.mark.parametrize("formula", VIF)
def test_variance_inflation(frame: pd.DataFrame, formula: str) -> None:
    np.testing.assert_allclose(fitted(formula, frame).vif()["gvif"], VIF[formula], rtol=1e-6)


def test_a_covariate_of_two_values_takes_both_where_others_are_tested(frame: pd.DataFrame) -> None:
    table = bl.Model("y ~ xb * k + (1 | g)", frame).fit().joint_tests()
    np.testing.assert_allclose(table["F"], [0.013, 4.860, 0.489], atol=0.00051)
    np.testing.assert_allclose(table["df2"], [66.07, 65.28, 66.88], atol=0.0051)


def test_joint_tests_of_many_covariates_agree_with_their_t_tests(frame: pd.DataFrame) -> None:
    columns = {f"v{j}": np.cos(np.arange(len(frame)) * (j + 0.7)) for j in range(20)}
    fit = bl.Model(f"y ~ {' + '.join(columns)} + (1 | g)", frame.assign(**columns)).fit()
    tests = fit.joint_tests().set_index("term")
    np.testing.assert_allclose(tests["F"], fit.coefficients()["t"].iloc[1:] ** 2, rtol=1e-8)


def test_calls_are_numeric_as_names_are(frame: pd.DataFrame) -> None:
    # Of x with mean zero both formulas are one model; lmerTest tests k in them by different hypotheses of type II.
    centred = frame.assign(x=frame["x"] - frame["x"].mean())
    plain, called = (bl.Model(f"y ~ {x} * f + (1 | g)", centred).fit().anova(2) for x in ("x", "scale(x)"))
    np.testing.assert_allclose(plain["F value"], called["F value"], rtol=1e-9)


def test_slopes_without_the_factor_are_averaged_whatever_the_coding(frame: pd.DataFrame) -> None:
    # car 3.1-1: Anova(lmer(y ~ x + x:k + (1 | g), d, contrasts = list(k = contr.sum)), type = 3).
    table = bl.Model("y ~ x + x:k + (1 | g)", frame).fit().anova(test="chisq")
    np.testing.assert_allclose(table["Chisq"], [0.9507, 0.0504], atol=5.1e-5)
