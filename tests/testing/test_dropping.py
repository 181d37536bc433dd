"""drop1 and step: against lmerTest, and against fits of the smaller models from their formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bayeslmm as bl
from bayeslmm.errors import BayesLMMError, DesignError

from . import reference as ref

SLEEP = bl.load_dataset("sleepstudy")


@pytest.mark.parametrize("case", [c for c, b in ref.R["inference"].items() if "drop1_satterthwaite" in b["blocks"]])
def test_drop1_of_lmer_test(case: str) -> None:
    """``drop1(M, ddf = ...)``."""
    blocks = ref.R["inference"][case]["blocks"]
    for ddf in ("satterthwaite", "kenward-roger"):
        block = blocks[f"drop1_{ddf.replace('-', '_')}"]["result"]
        found = ref.fitted(case).drop1(ddf)  # type: ignore[arg-type]
        assert set(found.index) == set(block["rows"])
        for column, limit in (("F value", 1e-6), ("DenDF", 1e-4), ("Pr(>F)", 1e-6), ("Sum Sq", 1e-6)):
            expected = np.array(block[column], dtype=float)
            np.testing.assert_allclose(found.loc[block["rows"], column], expected, rtol=limit, err_msg=column)


def test_step_leaves_out_what_says_nothing() -> None:
    """A quadratic term and a centre effect that are not in the data; the final model is the fit of its own formula."""
    rng = np.random.default_rng(2)
    data = SLEEP.assign(noise=rng.normal(size=180), arm=np.where(SLEEP["Subject"].astype(int) % 2, "a", "b"))
    fit = bl.Model("Reaction ~ Days * arm + noise + (Days | Subject)", data).fit()
    found = fit.step()
    assert found.fit.formula == "Reaction ~ 1 + Days + (Days | Subject)"
    again = bl.Model(found.fit.formula, data).fit()
    np.testing.assert_allclose(found.fit.fixef(), again.fixef(), rtol=1e-7)
    assert found.fit.criterion == pytest.approx(again.criterion, rel=1e-12)
    assert found.fit.predict(data.iloc[:3])["estimate"].tolist() == pytest.approx(
        again.predict(data.iloc[:3])["estimate"].tolist()
    )
    eliminated = found.fixed[found.fixed["Eliminated"] > 0]
    assert set(eliminated.index) == {"Days:arm", "arm", "noise"}
    assert eliminated.iloc[0]["F value"] == pytest.approx(fit.drop1()["F value"].min(), rel=1e-8)
    text = repr(found)
    assert "Model that is left: Reaction ~ 1 + Days + (Days | Subject)" in text
    assert max(map(len, text.splitlines())) <= 80


def test_random_terms_are_tested_by_likelihood_ratios() -> None:
    fit = bl.Model("Reaction ~ Days + (Days | Subject)", SLEEP).fit()
    found = fit.step().random
    smaller = bl.Model("Reaction ~ Days + (1 | Subject)", SLEEP).fit()
    row = found.loc["Days in (Days | Subject)"]
    assert row["LRT"] == pytest.approx(smaller.criterion - fit.criterion, rel=1e-8)
    assert (row["Df"], row["npar"], row["Eliminated"]) == (2, 4, 0)
    # lmerTest's ranova(M): 42.837 on 2 degrees of freedom, p = 4.99e-10.
    assert row["LRT"] == pytest.approx(42.8368, abs=1e-4)
    assert row["Pr(>Chisq)"] == pytest.approx(4.99e-10, rel=1e-2)


def test_a_random_term_without_variance_goes_and_the_last_one_stays() -> None:
    data = SLEEP.assign(lab=np.arange(180) % 7)
    found = bl.Model("Reaction ~ Days + (1 | Subject) + (1 | lab)", data).fit().step()
    assert found.fit.formula == "Reaction ~ Days + (1 | Subject)"
    assert found.random.loc["(1 | lab)", "Eliminated"] == 1
    only = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).fit().step()
    assert only.fit.formula == "Yield ~ 1 + (1 | Batch)"


def test_uncorrelated_terms_keep_their_bars_and_offsets_stay() -> None:
    data = SLEEP.assign(o=SLEEP["Days"] * 2.0, z=np.random.default_rng(1).normal(size=180))
    fit = bl.Model("Reaction ~ Days + offset(o) + (Days + z || Subject)", data).fit()
    found = fit.step().fit
    assert found.formula == "Reaction ~ Days + offset(o) + (1 + Days || Subject)"
    assert found.criterion == pytest.approx(bl.Model(found.formula, data).fit().criterion, rel=1e-10)


def test_columns_that_come_back_are_told() -> None:
    fit = ref.fitted("clinic_rankdef")
    with pytest.raises(DesignError, match=r"Without age columns come back that it spanned \(age_months\)"):
        from bayeslmm.design.fixed_terms import fixed_terms
        from bayeslmm.testing.reduced import without_fixed

        without_fixed(fit, next(t for t in fixed_terms(fit.design).terms if t.label == "age"))
    assert np.isnan(fit.drop1().loc["age", "F value"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"alpha_random": 2.0}, "alpha_random"), ({"alpha_fixed": "x"}, "alpha_fixed"), ({"ddf": "kr"}, "kenward-roger")],
)
def test_wrong_calls_are_told(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(BayesLMMError, match=words):
        ref.fitted("ergostool").step(**arguments)


def test_what_is_known_is_kept_and_penalties_are_refused() -> None:
    model = bl.Model("Reaction ~ Days + I(Days**2) + (1 | Subject)", SLEEP)
    found = model.fit(fix={"theta": [1.0]}).step()
    assert found.fit.theta.tolist() == [1.0] and len(found.random) == 1
    assert "I(Days" not in found.fit.formula
    with pytest.raises(BayesLMMError, match="step is not available for a fit with a penalty"):
        model.fit(penalty="gamma").step()


def test_nothing_to_drop() -> None:
    with pytest.raises(DesignError, match="no terms but the constant"):
        bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit().drop1()
