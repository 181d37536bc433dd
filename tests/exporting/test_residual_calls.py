"""Calls for residual structures and known errors: what nlme and metafor printed, what others are told or have not."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import bayeslmm as bl

sys.path.insert(0, str(Path(__file__).parent))
from residual_exports import CASES, MEASURED, model, reml

RUN = json.loads(MEASURED.read_text())
# nlminb and metafor stop at relative changes of about 1e-8 of the criterion.
SAME = 1e-7
DATA = bl.load_dataset("Orthodont")


@pytest.mark.parametrize("case", RUN)
def test_what_is_written_was_run_and_gave_this_fit(case: str) -> None:
    for target, run in RUN[case].items():
        asked = reml(case, target)
        assert model(case).to(target, reml=asked) == run["call"], target
        assert run["printed"] == pytest.approx(model(case).fit(reml=asked).criterion, rel=SAME), target


def test_every_case_was_run_somewhere() -> None:
    assert set(RUN) == set(CASES)


# Structure, package, what stands in the call by the documentation of that package.
WORDS = [
    ("us(age | Subject)", "mmrm", ["us(age_visit | Subject)", "df$age_visit <- factor(df$age", "reml = TRUE"]),
    ("us(age | Subject, by=Sex)", "mmrm", ["us(age_visit | Sex / Subject)"]),
    ("toeph(age | Subject)", "mmrm", ["toeph(age_visit | Subject)"]),
    ("exp(age | Subject)", "mmrm", ["sp_exp(age | Subject)"]),
    ("us(age | Subject)", "sas", ["repeated age_c / subject=Subject type=un;", "age_c = age;", "Subject age_c;"]),
    ("us(age | Subject, by=Sex)", "sas", ["subject=Subject group=Sex type=un;"]),
    ("ar1h(age | Subject)", "sas", ["type=arh(1);"]),
    ("adh(age | Subject)", "sas", ["type=ante(1);"]),
    ("car1(age | Subject)", "sas", ["repeated / subject=Subject type=sp(pow)(age);"]),
    ("ar1(age | Subject)", "sas", ["type=sp(pow)(age);"]),
    ("by(Sex)", "sas", ["repeated / group=Sex;"]),
    ("exp(age)", "sas", ["repeated / local=exp(age);"]),
    ("us(age | Subject)", "glmmTMB", ["us(0 + visit_ | Subject)", "dispformula = ~ 0"]),
    ("cs(age | Subject)", "glmmTMB", ["homcs(0 + visit_ | Subject)"]),
    ("csh(age | Subject)", "glmmTMB", [" cs(0 + visit_ | Subject)"]),
    ("car1(age | Subject)", "glmmTMB", ["ou(0 + place | Subject)", "numFactor(df$age)"]),
    ("by(Sex) + power(age)", "glmmTMB", ["dispformula = ~ factor(Sex) + log(abs(age))"]),
    ("us(age | Subject)", "brms", ["unstr(time = age, gr = Subject)", "sigma ~ factor(age)"]),
    ("cs(Subject)", "brms", ["cosy(gr = Subject)"]),
    ("by(Sex) + exp(age)", "brms", ["sigma ~ factor(Sex) + age"]),
]


@pytest.mark.parametrize(("residual", "package", "words"), WORDS)
def test_structures_in_the_words_of_other_packages(residual: str, package: str, words: list[str]) -> None:
    text = bl.Model("distance ~ age * Sex", DATA, residual=residual).to(package)
    for word in words:
        assert word in text


def test_weights_that_are_an_expression_are_a_vector_for_mmrm() -> None:
    text = bl.Model("distance ~ age", DATA, residual="us(age | Subject)", weights="1 / age").to("mmrm")
    # mmrm's documentation: weights is a vector, and no name of a column.
    assert "weights = with(df, 1 / age)," in text


REFUSED = [
    ("by(Sex)", ("lme4", "rstanarm", "bambi", "statsmodels", "matlab", "julia", "metafor", "mmrm")),
    ("by(Sex) + car1(age | Subject)", ("glmmTMB", "mmrm", "sas", "brms")),
    ("us(age | Subject, by=Sex)", ("nlme", "glmmTMB", "brms")),
    ("toep(age | Subject)", ("nlme", "brms")),
    ("matern(age | Subject)", ("nlme", "glmmTMB", "mmrm", "sas", "brms")),
    ("const_power(age)", ("glmmTMB", "sas", "brms")),
    # Steps of two years are gaps to what counts rows or visits.
    ("ar1(age | Subject)", ("mmrm", "brms")),
]


@pytest.mark.parametrize(("residual", "packages"), REFUSED)
def test_what_a_package_does_not_have_is_refused(residual: str, packages: tuple[str, ...]) -> None:
    one = bl.Model("distance ~ age * Sex", DATA, residual=residual)
    for package in packages:
        with pytest.raises(bl.ArgumentError, match=r"has no|known row by row"):
            one.to(package)


def test_models_that_nlme_and_special_packages_cannot_have() -> None:
    machines = bl.load_dataset("Pastes")
    nested = bl.Model("strength ~ 1 + (1 | batch)", machines, residual="cs(sample)")
    with pytest.raises(bl.ArgumentError, match="beside random effects of other groups"):
        nested.to("nlme")
    with pytest.raises(bl.ArgumentError, match="no random effects"):
        bl.Model("distance ~ age + (1 | Subject)", DATA, residual="us(age | Subject)").to("mmrm")
    known = bl.Model("yi ~ 1 + (1 | trial)", bl.load_dataset("bcg"), residual_sd="sei")
    with pytest.raises(bl.ArgumentError, match="another criterion"):
        known.to("nlme")
    with pytest.raises(bl.ArgumentError, match="no plain name"):
        bl.Model("distance ~ age", DATA.assign(**{"a b": DATA["Sex"]}), residual="by(`a b`)").to("nlme")
    with pytest.raises(bl.ArgumentError, match="known row by row"):
        bl.Model("distance ~ age + (1 | Subject)", DATA).to("metafor")
