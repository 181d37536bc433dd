"""Comparisons of fits: against lme4's tables, closed forms, and the definition of the bootstrap's references."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayeslmm as bl
from bayeslmm.errors import BayesLMMError, DesignError
from bayeslmm.testing.bootstrap_ratio import references

from . import reference as ref

SLEEP = bl.load_dataset("sleepstudy")


def sleep(random: str, fixed: str = "Days", reml: bool = True) -> bl.REMLResult:
    return bl.Model(f"Reaction ~ {fixed} + {random}", SLEEP).fit(reml=reml)


@pytest.mark.parametrize("case", [c for c, b in ref.R["inference"].items() if "anova_LRT_ML" in b["blocks"]])
def test_ml_ratios_of_lme4(case: str) -> None:
    """``anova(ML0, ML)``."""
    block = ref.R["inference"][case]["blocks"]["anova_LRT_ML"]["result"]
    found = bl.anova(ref.fitted(case), ref.fitted(case, smaller=True))
    for column in ("npar", "AIC", "BIC", "logLik", "deviance", "Chisq", "Df", "Pr(>Chisq)"):
        expected = np.array(block[column], dtype=float)
        np.testing.assert_allclose(found[column].to_numpy(float), expected, rtol=1e-6, atol=1e-7, err_msg=column)
    assert found.index.tolist() == ["2", "1"]


def test_what_is_said_of_refits() -> None:
    small, large = sleep("(Days | Subject)", "1"), sleep("(Days | Subject)")
    text = repr(bl.anova(small, large))
    assert text.splitlines()[0] == "Likelihood-ratio tests of ML fits (the REML fits 1, 2 were refitted by ML)"
    assert text.splitlines()[2] == "2: Reaction ~ Days + (Days | Subject)"
    assert max(map(len, text.splitlines())) <= 80 and "NaN" not in text
    one = repr(bl.anova(sleep("(Days | Subject)", "1", reml=False), large, names=["null", "days"]))
    assert "(the REML fit days was refitted by ML)" in one
    ml = repr(bl.anova(sleep("(Days | Subject)", "1", reml=False), sleep("(Days | Subject)", reml=False)))
    assert ml.splitlines()[0] == "Likelihood-ratio tests of ML fits"


def test_models_are_fitted_and_ordered() -> None:
    models = [bl.Model(f"Reaction ~ {fixed} + (1 | Subject)", SLEEP) for fixed in ("Days + I(Days**2)", "1", "Days")]
    found = bl.anova(*models)
    assert found.index.tolist() == ["2", "3", "1"]
    pd.testing.assert_frame_equal(pd.DataFrame(bl.anova(models)), pd.DataFrame(found))
    fits = [m.fit(reml=False) for m in (models[1], models[2], models[0])]
    np.testing.assert_allclose(found["deviance"], [f.criterion for f in fits], rtol=1e-12)
    np.testing.assert_allclose(found["Chisq"].iloc[1:], -np.diff([f.criterion for f in fits]), rtol=1e-9)
    k, n = found["npar"].to_numpy(), 180
    np.testing.assert_allclose(found["AICc"], found["AIC"] + 2 * k * (k + 1) / (n - k - 1), rtol=1e-12)


def test_one_variance_at_its_boundary_is_half_the_chi_square() -> None:
    """Between (1 | g) and (x || g) the statistic is 0 half of the time: Stram and Lee's mixture."""
    found = bl.anova(sleep("(1 | Subject)"), sleep("(Days || Subject)"), refit=False)
    assert found["Pr(>chi-bar)"].iloc[1] == pytest.approx(found["Pr(>Chisq)"].iloc[1] / 2, rel=1e-12)
    correlated = bl.anova(sleep("(1 | Subject)"), sleep("(Days | Subject)"), refit=False).iloc[1]
    T = correlated["Chisq"]
    assert correlated["Pr(>chi-bar)"] == pytest.approx((stats.chi2.sf(T, 1) + stats.chi2.sf(T, 2)) / 2, rel=1e-12)


def test_fixed_effects_beside_a_variance_shift_the_mixture() -> None:
    found = bl.anova(sleep("(1 | Subject)", "1"), sleep("(Days || Subject)")).iloc[1]
    T = found["Chisq"]
    assert found["Df"] == 2
    assert found["Pr(>chi-bar)"] == pytest.approx((stats.chi2.sf(T, 1) + stats.chi2.sf(T, 2)) / 2, rel=1e-12)


def test_a_correlation_alone_is_no_boundary() -> None:
    found = bl.anova(sleep("(Days || Subject)"), sleep("(Days | Subject)"), refit=False)
    assert "Pr(>chi-bar)" not in found.columns
    T = float(found["Chisq"].iloc[1])
    assert found["Pr(>Chisq)"].iloc[1] == pytest.approx(stats.chi2.sf(T, 1), rel=1e-12)


def test_two_terms_at_once_have_a_note_and_no_mixture() -> None:
    data = bl.load_dataset("Penicillin")
    three = bl.Model("diameter ~ 1 + (1 | plate) + (1 | sample)", data).fit()
    data2 = bl.load_dataset("Pastes")
    nested = bl.Model("strength ~ 1 + (1 | batch) + (1 | batch:cask)", data2)
    one = bl.anova(bl.Model("strength ~ 1 + (1 | batch)", data2), nested)
    assert one["Pr(>chi-bar)"].iloc[1] == pytest.approx(one["Pr(>Chisq)"].iloc[1] / 2)
    both = bl.anova(bl.Model("diameter ~ 1 + (1 | plate)", data), three)
    assert "0.5 chi2(0) + 0.5 chi2(1)" in " ".join(repr(both).split())


def test_reml_of_different_fixed_parts_is_refused() -> None:
    with pytest.raises(DesignError, match="different fixed parts"):
        bl.anova(sleep("(1 | Subject)", "1"), sleep("(1 | Subject)"), refit=False)
    with pytest.raises(DesignError, match="some fits are REML and some ML"):
        bl.anova(sleep("(1 | Subject)"), sleep("(Days | Subject)", reml=False), refit=False)
    same = bl.Model("Reaction ~ I(2 * Days) + (Days | Subject)", SLEEP).fit()
    found = bl.anova(sleep("(1 | Subject)"), same, refit=False)
    assert np.isfinite(found["Chisq"].iloc[1])


def test_models_that_are_not_nested_are_compared_without_a_test() -> None:
    found = bl.anova(sleep("(1 | Subject)", "I(Days**2)"), sleep("(Days | Subject)"))
    assert np.isnan(found["Chisq"]).all() and np.isfinite(found["AIC"]).all()
    assert "I(Days ** 2) of the smaller are not in the larger" in " ".join(repr(found).split())
    pastes = bl.load_dataset("Pastes")
    other = bl.anova(bl.Model("strength ~ 1 + (1 | batch)", pastes), bl.Model("strength ~ cask + (1 | sample)", pastes))
    assert "random term (1 | batch) of the smaller is not in the larger" in " ".join(repr(other).split())


def test_other_names_of_the_same_groups_are_nested() -> None:
    data = SLEEP.assign(person=SLEEP["Subject"].astype(str).radd("p"))
    found = bl.anova(bl.Model("Reaction ~ 1 + (1 | person)", data), bl.Model("Reaction ~ Days + (1 | Subject)", data))
    assert found["Df"].iloc[1] == 1 and np.isfinite(found["Pr(>Chisq)"].iloc[1])


def test_other_rows_and_responses_are_refused() -> None:
    gap = SLEEP.assign(x=np.where(np.arange(180) == 7, np.nan, SLEEP["Days"]))
    full = bl.Model("Reaction ~ 1 + (1 | Subject)", gap).fit()
    with pytest.raises(DesignError, match=r"different rows, 180 and 179 \('Reaction ~ x"):
        bl.anova(full, bl.Model("Reaction ~ x + (1 | Subject)", gap).fit())
    with pytest.raises(DesignError, match=r"responses Reaction and log\(Reaction\)"):
        bl.anova(full, bl.Model("log(Reaction) ~ 1 + (1 | Subject)", gap).fit())
    with pytest.raises(DesignError, match="other weights"):
        bl.anova(full, bl.Model("Reaction ~ 1 + (1 | Subject)", gap, weights=1.0 + np.arange(180) % 2).fit())


def test_bootstrap_of_a_fixed_effect_follows_its_f_test() -> None:
    """In balanced data the F test of a fixed effect is exact: the bootstrap has its p value within its own error."""
    data = bl.load_dataset("Machines")
    small = bl.Model("score ~ 1 + (1 | Worker)", data).fit()
    large = bl.Model("score ~ Machine + (1 | Worker)", data).fit()
    noise = np.random.default_rng(5).normal(size=54) * 14
    workers = 20 * large.design.groupings["Worker"].codes
    y = data["score"].to_numpy() + noise + workers
    small, large = small.refit(y), large.refit(y)
    exact = large.test_fixed("Machine")["p_value"]
    found = bl.anova(small, large, test="bootstrap", n=1000, random_seed=3)
    assert 0.005 < exact < 0.5
    assert abs(found["p_value"]["bootstrap"] - exact) < 4 * found.loc["bootstrap", "mc_error"]
    for name in ("Bartlett", "Gamma", "F"):
        assert abs(found["p_value"][name] - exact) < 4 * found.loc["bootstrap", "mc_error"]


def test_references_are_as_defined() -> None:
    """Halekoh and Hojsgaard's formulas, by hand on five ratios."""
    simulated = np.array([0.5, 1.0, 2.0, 4.0, 7.5])
    found = references(4.0, 2, simulated)
    assert found.loc["bootstrap", "p_value"] == pytest.approx(3 / 6)
    assert found.loc["Bartlett", "statistic"] == pytest.approx(2 * 4.0 / 3.0)
    assert found.loc["Bartlett", "p_value"] == pytest.approx(np.exp(-4.0 / 3.0))
    scale = simulated.var(ddof=1) / 3.0
    assert found.loc["Gamma", "p_value"] == pytest.approx(stats.gamma.sf(4.0, 3.0 / scale, scale=scale))
    assert found.loc["F", "ddf"] == pytest.approx(6.0)
    # F(2, 6) has the closed tail (1 + 2 F / 6)^-3.
    assert found.loc["F", "p_value"] == pytest.approx((1 + 2 * 2.0 / 6) ** -3)


def test_bootstrap_is_reproducible_and_says_what_it_did() -> None:
    fits = sleep("(1 | Subject)"), sleep("(Days || Subject)")
    a, b = (bl.anova(*fits, test="bootstrap", n=60, refit=False) for _ in range(2))
    pd.testing.assert_frame_equal(pd.DataFrame(a), pd.DataFrame(b))
    text = repr(a)
    assert "60 responses simulated from the smaller model." in text
    assert "of these p values only the bootstrap's holds" in " ".join(text.split())
    other = bl.anova(*fits, test="bootstrap", n=60, refit=False, random_seed=1)
    assert other.loc["Bartlett", "statistic"] != a.loc["Bartlett", "statistic"]


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        ((), {}, "two or more fits, and 0"),
        (("one",), {}, "two or more fits, and 1"),
        (("one", 3), {}, "not 3"),
        (("one", "two"), {"names": ["a"]}, "2 different names"),
        (("one", "two"), {"names": ["a", "a"]}, "2 different names"),
        (("one", "two"), {"test": "F"}, "test"),
        (("one", "two"), {"n": 0}, "n"),
        (("one", "two"), {"refit": 2}, "refit"),
        (("one", "two", "one"), {"test": "bootstrap"}, "compares two fits, and 3"),
        (("one", "one"), {"test": "bootstrap"}, "as many parameters"),
        (("one", "penalised"), {}, "has a penalty"),
    ],
)
def test_wrong_calls_are_told(arguments: Any, options: Any, words: str) -> None:
    own = {
        "one": sleep("(1 | Subject)"),
        "two": sleep("(Days | Subject)"),
        "penalised": bl.Model("Reaction ~ Days + (1 | Subject)", SLEEP).fit(penalty="gamma"),
    }
    with pytest.raises(BayesLMMError, match=words):
        bl.anova(*[own[a] if isinstance(a, str) else a for a in arguments], **options)
