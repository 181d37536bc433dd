"""Messages that say what is true of the model at hand: known variances, shares of variance, centring."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.errors import DesignError
from bayeslmm.results.sampling import far_covariates

RNG = np.random.default_rng(6)
STUDIES = pd.DataFrame(
    {"yi": RNG.normal(size=12), "vi": RNG.uniform(0.1, 1, 12), "study": [f"s{i}" for i in range(12)]}
)


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A screen on which no line is broken."""
    monkeypatch.setenv("COLUMNS", "5000")


def test_a_meta_analysis_is_not_led_to_weights() -> None:
    with pytest.raises(DesignError) as caught:
        bl.Model("yi ~ 1 + (1 | study)", STUDIES)
    text = str(caught.value)
    assert "residual_sd='se'" in text and "sigma is still estimated" in text
    assert "or known residual precisions" not in text and "or residual precisions" not in text


def test_weights_with_one_row_per_level_are_said_to_be_relative() -> None:
    model = bl.Model("yi ~ 1 + (1 | study)", STUDIES, weights="1 / vi")
    assert "study has one row per level, and there are weights: these are relative" in repr(model)
    twice = pd.concat([STUDIES, STUDIES.assign(yi=STUDIES["yi"] + 1)])
    assert "note:" not in repr(bl.Model("yi ~ 1 + (1 | study)", twice, weights="1 / vi"))
    assert "these are relative" not in repr(bl.Model("yi ~ 1 + (1 | study)", twice))


def test_sigma_cannot_be_fixed_and_the_message_says_why() -> None:
    model = bl.Model("yi ~ 1 + (1 | study)", STUDIES, weights="1 / vi")
    with pytest.raises(DesignError, match=r"relative to sigma.*model.fit\(sigma=\.\.\.\).*residual_sd"):
        model.fit(fix={"sigma": 1.0})
    named = STUDIES.rename(columns={"study": "sigma"})
    fit = bl.Model("yi ~ 1 + (1 | sigma)", named, weights="1 / vi").fit(fix={"sigma": 0.5})
    assert fit.theta == pytest.approx([0.5])


@pytest.mark.parametrize("kind", ["icc", "ratio"])
def test_shares_of_several_effects_are_asked_for_one_by_one(kind: str) -> None:
    fit = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()
    with pytest.raises(DesignError) as caught:
        fit.confint(parameters=f"{kind}_Subject")
    text = str(caught.value)
    assert f"'{kind}_Subject' names more than one effect" in text
    assert f"{kind}_Subject[Intercept], {kind}_Subject[Days]" in text and "sd_Subject" not in text
    with pytest.raises(DesignError, match=f"'{kind}_Nobody' names no parameter"):
        fit.confint(parameters=f"{kind}_Nobody")
    assert list(fit.confint(parameters=f"{kind}_Subject[Days]").index) == [f"{kind}_Subject[Days]"]


def test_centring_is_advised_for_covariates_that_are_far_from_zero_only() -> None:
    x = RNG.normal(size=60)
    data = pd.DataFrame({"y": RNG.normal(size=60), "x": x, "t": (x > 0) * 1.0, "year": 2000 + np.arange(60) % 9})
    data["g"] = np.tile(np.arange(6), 10)
    said = {left: far_covariates(bl.Model(f"y ~ 1 + ({left} | g)", data).design) for left in ("1", "x", "t", "year")}
    assert said["1"] == said["x"] == said["t"] == ""
    assert said["year"].startswith("; centring year (mean 2004, sd 2.5") and said["year"].endswith("may help")
    assert far_covariates(bl.Model("y ~ 1 + (0 + year | g)", data).design) == ""


def test_a_response_beyond_all_squares_is_not_called_reproduced() -> None:
    data = bl.load_dataset("Dyestuff")
    with pytest.raises(DesignError, match="squares of numbers beyond 1e\\+140"):
        bl.Model("Yield ~ 1 + (1 | Batch)", data.assign(Yield=data["Yield"] * 1e147))


def test_compound_symmetry_is_another_model_in_lme4() -> None:
    (finding,) = bl.lint("y ~ 1 + cs(0 + f | g)").about("lme4").findings[:1]
    assert finding.severity == "different model" and "hom = TRUE" in finding.remedy
    for keyword in ("us", "diag", "ar1"):
        first = next(f for f in bl.lint(f"y ~ 1 + {keyword}(0 + f | g)").findings if f.rule == "covariance keyword")
        assert first.severity == "error there" and "hom" not in first.remedy


@pytest.mark.parametrize("name", ["{}x z{}", "{}f k{}", "{}x z{}:{}f k{}", "{}f k{}[b]", "{}x z{}:{}f k{}[c]"])
def test_coefficients_are_found_with_and_without_backquotes(name: str) -> None:
    data = pd.DataFrame({"y": RNG.normal(size=60), "x z": RNG.normal(size=60), "f k": np.tile(list("abc"), 20)})
    data["g"] = np.repeat(np.arange(6), 10)
    model = bl.Model("y ~ `x z` * `f k` + (`x z` | g)", data, contrasts={"`f k`": "sum"} if "[" not in name else None)
    bare, quoted = name.replace("{}", ""), name.replace("{}", "`")
    fit = model.fit()
    pd.testing.assert_series_equal(fit.test_fixed(quoted), fit.test_fixed(bare))
    assert list(fit.confint(parameters="sd_g[`x z`]").index) == ["sd_g[x z]"]
    if ":" not in name and "[" not in name and "f" not in name:
        assert model.priors({"beta[`x z`]": bl.Normal(0, 1)}).equals(model.priors({"beta[x z]": bl.Normal(0, 1)}))


def test_a_chained_fit_says_what_looks_odd_in_the_data() -> None:
    data = bl.load_dataset("sleepstudy").assign(arm=lambda d: ["a", "a ", "b"] * (len(d) // 3), day="03.02.2024")
    data.loc[::2, "day"] = "01.03.2024"
    shown = repr(bl.Model("Reaction ~ arm + day + (1 | Subject)", data).fit())
    assert "Note: arm has levels that differ only by spaces: 'a' (60 rows), 'a ' (60 rows)." in shown
    assert "Note: day holds text that looks like dates" in shown
    plain = repr(bl.Model("Reaction ~ Days + (1 | Subject)", data).fit())
    assert "Note:" not in plain


@pytest.mark.parametrize("residual", ["us(age | Subject)", "csh(age | Subject)", "by(age)"])
def test_at_a_visit_that_the_fit_never_saw_there_is_the_mean(residual: str) -> None:
    data = bl.load_dataset("Orthodont")
    fit = bl.Model("distance ~ age", data, residual=residual).fit()
    new = pd.DataFrame({"age": [11], "Subject": ["M01"]})
    with pytest.raises(DesignError, match=r"'11'.* only for '8', '10', .*predict\(\.\.\., random=None\)"):
        fit.predict(new, kind="observation")
    beta = fit.fixef()
    assert fit.predict(new, random=None)["estimate"][0] == pytest.approx(beta["Intercept"] + 11 * beta["age"])


def test_the_covariance_of_a_group_is_asked_for_by_its_level() -> None:
    data = bl.load_dataset("Orthodont").query("Subject != 'M02' or age > 8")
    fit = bl.Model("distance ~ age", data, residual="us(age | Subject)").fit()
    whole = fit.residual_covariance("M01")
    assert list(fit.residual_covariance("M02").index) == list(whole.index)[1:]
    np.testing.assert_array_equal(fit.residual_covariance("M02"), whole.iloc[1:, 1:])
    with pytest.raises(DesignError, match=r"group='M99' is no level of Subject.*Levels are: "):
        fit.residual_covariance("M99")
    with pytest.raises(DesignError, match="group=0 is no level of Subject"):
        fit.residual_covariance(0)


def test_known_and_estimated_standard_deviations_of_one_residual() -> None:
    data = bl.load_dataset("sleepstudy").assign(se=20.0)
    with pytest.raises(DesignError, match=r"Of one residual both cannot be.*ar1\(0 \+ C\(visit\) \| id\)"):
        bl.Model("Reaction ~ Days", data, residual="ar1(Days | Subject)", residual_sd="se")
    # What the message names instead is a model.
    assert bl.Model("Reaction ~ Days + ar1(0 + C(Days) | Subject)", data, residual_sd="se").fit().status.ok
    with pytest.raises(DesignError, match="no variance left to estimate"):
        bl.Model("Reaction ~ Days", data, residual="independent", residual_sd="se")


def test_a_share_without_a_profile_has_a_bootstrap() -> None:
    data = bl.load_dataset("Orthodont")
    fit = bl.Model("distance ~ age + (1 | Subject)", data, residual="by(Sex)").fit()
    with pytest.raises(DesignError, match=r"no one profile.*method='bootstrap'.*bootstrap\(statistic='icc'\)"):
        fit.confint(parameters="icc_Subject")
    assert fit.confint(parameters="icc_Subject", method="bootstrap", n=3, random_seed=1).shape == (1, 2)
    assert "icc" in fit.bootstrap(3, random_seed=1, statistic="icc").draws


def test_a_test_without_a_hypothesis() -> None:
    fit = bl.Model("Reaction ~ Days + (1 | Subject)", bl.load_dataset("sleepstudy")).fit()
    with pytest.raises(DesignError, match=r"'Days'.*fit.anova\(\)"):
        fit.test_fixed()
