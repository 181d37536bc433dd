"""What people type from nlme, glmmTMB, mmrm, SAS and metafor, and the line that takes its place, which works."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.design.residual_translation import translated
from bayeslmm.errors import DesignError, FormulaError

# Text of another package, and the structure here by the documentation of both.
SAME = {
    "corAR1(form = ~ time | id)": "ar1(time | id)",
    "corAR1(form = ~ 1 | id)": "ar1(time | id)",
    "corCAR1(form = ~ time | id)": "car1(time | id)",
    "corCompSymm(form = ~ 1 | id)": "cs(id)",
    "corSymm(form = ~ visit | id), weights = varIdent(form = ~ 1 | visit)": "us(visit | id)",
    "varIdent(form = ~ 1 | sex)": "by(sex)",
    "varIdent(form = ~ 1 | sex * arm)": "by(sex:arm)",
    "varPower(form = ~ x)": "power(x)",
    "varConstPower(form = ~ x)": "const_power(x)",
    "weights = varExp(form = ~ x), correlation = corAR1(form = ~ time | id)": "exp(x) + ar1(time | id)",
    "varComb(varIdent(form = ~ 1 | sex), varPower(form = ~ x))": "by(sex) + power(x)",
    "ar1(time + 0 | id)": "ar1(time | id)",
    "us(0 + visit | id)": "us(visit | id)",
    "cs(visit + 0 | id)": "csh(visit | id)",
    "homtoep(visit + 0 | id)": "toep(visit | id)",
    "diag(visit + 0 | id)": "by(visit)",
    "dispformula = ~ sex": "by(sex)",
    "us(visit | arm / id)": "us(visit | id, by=arm)",
    "repeated visit / subject=id type=un group=arm": "us(visit | id, by=arm)",
    "REPEATED visit / SUBJECT=id TYPE=AR(1)": "ar1(visit | id)",
    "subject=id type=arh(1)": "ar1h(visit | id)",
    "type=csh sub=id": "csh(visit | id)",
    "type=TOEPH subject=id": "toeph(visit | id)",
    "type=sp(exp)(x time) subject=id": "exp(x + time | id)",
    "type=sp(pow)(time) subject=id": "car1(time | id)",
}
META = {
    "rma(yi, vi, data = d)": "bl.Model('yi ~ 1 + (1 | study)', d, residual_sd='sqrt(vi)')",
    "rma(yi, sei = se, mods = ~ x, data = d)": "bl.Model('yi ~ x + (1 | study)', d, residual_sd='se')",
    "rma.mv(yi, vi, random = ~ 1 | district/school, data = d)": (
        "bl.Model('yi ~ 1 + (1 | district/school)', d, residual_sd='sqrt(vi)')"
    ),
    "rma.mv(yi, vi, mods = ~ x, random = ~ outcome | study, struct = 'UN', data = d)": (
        "bl.Model('yi ~ x + us(0 + outcome | study)', d, residual_sd='sqrt(vi)')"
    ),
}


def _data() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    m = 24
    frame = pd.DataFrame({"id": np.repeat(np.arange(m), 4), "time": np.tile(np.arange(4), m)})
    frame["visit"] = frame["time"].map("v{}".format)
    frame["sex"] = np.where(frame["id"] % 2, "m", "f")
    frame["arm"] = np.where(frame["id"] % 4 < 2, "a", "b")
    frame["x"] = rng.uniform(1.0, 2.0, 4 * m)
    return frame.assign(y=rng.normal(size=4 * m))


@pytest.mark.parametrize("text", SAME)
def test_words_are_translated_and_the_line_makes_a_model(text: str) -> None:
    found = translated(text)
    assert found is not None
    assert found.line == f"residual='{SAME[text]}'"
    bl.Model("y ~ x", _data(), residual=SAME[text])


@pytest.mark.parametrize("text", META)
def test_calls_of_metafor(text: str) -> None:
    found = translated(text)
    assert found is not None
    assert found.line == META[text]


@pytest.mark.parametrize("text", [*("by(sex)", "ar1(time | id)", "us(visit | id)", "power(x)", "y ~ x + (1 | g)", "")])
def test_what_is_ours_is_left_alone(text: str) -> None:
    assert translated(text) is None


@pytest.mark.parametrize("text", ["ar1(time + 0 | id)", "us(visit | arm / id)", "TYPE=UN subject=id", "AR(1)"])
def test_the_error_has_the_line(text: str) -> None:
    found = translated(text)
    assert found is not None
    with pytest.raises(DesignError, match=re.escape(found.line)):
        bl.Model("y ~ x", _data(), residual=text)


def test_arguments_of_other_packages() -> None:
    words = re.escape("residual='by(sex) + ar1(time | id)'")
    with pytest.raises(DesignError, match=words):
        bl.Model("y ~ x", _data(), correlation="corAR1(form = ~ time | id)", weights="varIdent(form = ~ 1 | sex)")
    with pytest.raises(DesignError, match=re.escape("residual='by(sex)'")):
        bl.Model("y ~ x", _data(), dispformula="~ sex")
    with pytest.raises(DesignError, match="residual, e"):
        bl.Model("y ~ x", _data(), repeated=3)


def test_the_linter_has_the_line() -> None:
    report = bl.lint("y ~ x, correlation = corAR1(form = ~ time | id)")
    assert "residual='ar1(time | id)'" in {finding.remedy for finding in report.findings}
    report = bl.lint("y ~ x + ar1(time + 0 | id)")
    assert "residual='ar1(time | id)'" in {finding.remedy for finding in report.findings}
    report = bl.lint("y ~ x + us(visit | id)")
    assert "residual='us(visit | id)'" in str(report).replace("\n          ", " ")
    assert "rma" not in str(bl.lint("y ~ x + (1 | g)"))


# Formulas within our own words, and the structure that is meant.
FORMULAS = {
    "ar1(~ time | id)": "residual='ar1(time | id)'",
    "by(~ 1 | sex)": "residual='by(sex)'",
    "by(1 | arm) + car1(~ time | id)": "residual='by(arm) + car1(time | id)'",
    "power(~ x)": "residual='power(x)'",
    "~ time | id": "residual='ar1(time | id)'",
    "~ 1 | id": "residual='ar1(time | id)'",
    "ar1(~ 1 | id)": "name the column that has the times, ar1(time | id)",
    "by(time | sex)": "by(g), or by(g:h)",
    "power(x | id)": "power(x)",
}


@pytest.mark.parametrize(("text", "here"), FORMULAS.items())
def test_formulas_of_nlme_in_the_text(text: str, here: str) -> None:
    with pytest.raises(DesignError, match=re.escape(here)):
        bl.Model("y ~ x", _data(), residual=text)


CALLS = {
    "gls(y ~ x:z, d, correlation = corAR1(form = ~ time | id))": "bl.Model('y ~ x:z', d, residual='ar1(time | id)')",
    "nlme::gls(model = y ~ poly(x, 2), data = d, weights = varIdent(form = ~ 1 | sex))": (
        "bl.Model('y ~ poly(x, 2)', d, residual='by(sex)')"
    ),
    "gls(y ~ x, data = d)": "bl.Model('y ~ x', d, residual='independent')",
    "lme(y ~ x, random = ~ time | id, data = d)": "bl.Model('y ~ x + (time | id)', d)",
    "lme(y ~ x, d, ~ 1 | id)": "bl.Model('y ~ x + (1 | id)', d)",
    "lmer(y ~ x + (1 | id), data = d)": "bl.Model('y ~ x + (1 | id)', d)",
    "rma(yi = y, vi = v, data = d)": "bl.Model('y ~ 1 + (1 | study)', d, residual_sd='sqrt(v)')",
}


@pytest.mark.parametrize(("text", "here"), CALLS.items())
def test_a_whole_call_in_the_place_of_a_formula(text: str, here: str) -> None:
    with pytest.raises(FormulaError, match=re.escape(here)):
        bl.Model(text, _data())
    found = {finding.rule: finding for finding in bl.lint(text).findings}
    assert "not read by bayeslmm" not in found
    assert found["call of another package"].remedy == here


def test_ml_is_an_argument_of_fit() -> None:
    for text in ("gls(y ~ x, d, method = 'ML')", "lmer(y ~ x + (1 | g), d, REML = FALSE)"):
        found = translated(text)
        assert found is not None and "fit(reml=False)" in found.note
