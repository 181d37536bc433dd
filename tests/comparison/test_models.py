"""Several models in one table: likelihood ratios as lme4 prints them, differences of leave-one-out, evidence."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.comparison.models import nested_in

FORMULAS = ("Reaction ~ 1 + (1 | Subject)", "Reaction ~ Days + (1 | Subject)", "Reaction ~ Days + (Days | Subject)")


@cache
def models() -> tuple[bl.Model, ...]:
    return tuple(bl.Model(formula, bl.load_dataset("sleepstudy")) for formula in FORMULAS)


@cache
def both() -> bl.ModelComparison:
    return bl.compare(*models()[1:], draws=1000, priors="weak")  # type: ignore[return-value]


def test_likelihood_ratios_are_those_of_lme4() -> None:
    """``anova(m0, m1, m2)`` of lme4 1.1 on its sleepstudy data, fitted with REML = FALSE, in ten digits."""
    table = bl.compare(*models(), draws=200).table
    printed = pd.DataFrame(
        {
            "df": [3, 4, 6],
            "aic": [1916.541058, 1802.078643, 1763.939344],
            "bic": [1926.119929, 1814.850470, 1783.097086],
            "loglik": [-955.2705290, -897.0393215, -875.9696722],
            "chisq": [np.nan, 116.46241507, 42.13929852],
            "chisq_df": [np.nan, 1, 2],
            "p_value": [np.nan, 3.764461477e-27, 7.072412638e-10],
        },
        index=table.index,
    )
    for name in printed:
        assert table[name].to_numpy(dtype=float) == pytest.approx(printed[name].to_numpy(), rel=1e-6, nan_ok=True)
    assert table["against"].tolist() == ["", "1 + (1 | Subject)", "Days + (1 | Subject)"]


def test_differences_of_leave_one_out_are_those_of_the_points() -> None:
    left = [post.loo() for post in both().posteriors]
    points = [np.asarray(one.elpd_i) for one in left]
    difference = points[0] - points[1]
    table = both().table
    assert table["elpd"].to_numpy() == pytest.approx([one.elpd for one in left], rel=1e-12)
    assert table["elpd_diff"].iloc[0] == pytest.approx(difference.sum(), rel=1e-10)
    assert table["diff_se"].iloc[0] == pytest.approx(np.sqrt(difference.size * difference.var()), rel=1e-10)
    assert table["elpd_diff"].iloc[1] == 0
    assert table["stacking"].sum() == pytest.approx(1.0)


def test_probabilities_are_those_of_the_evidences() -> None:
    logs = [post.log_evidence for post in both().posteriors]
    ratio = np.exp(logs[0] - logs[1])
    assert both().table["probability"].to_numpy() == pytest.approx([ratio / (1 + ratio), 1 / (1 + ratio)], rel=1e-10)


def test_flat_priors_decide_between_no_fixed_parts() -> None:
    """With flat coefficients the evidence has no height of its own; of equal fixed parts it cancels."""
    different = bl.compare(*models()[:2], draws=200)
    assert different.table["probability"].isna().all()
    assert any("no height" in note and 'priors="weak"' in note for note in different.notes)
    assert bl.compare(*models()[1:], draws=200).table["probability"].notna().all()


def test_variances_that_are_left_out_have_the_mixture_of_chi_squares() -> None:
    """One variance: half of chi-square with none, half with one degree of freedom (Self & Liang 1987), as bl.anova."""
    data = bl.load_dataset("sleepstudy").iloc[:60]
    small, large = (bl.Model(f"Reaction ~ Days + {random}", data) for random in ("(1 | Subject)", "(Days || Subject)"))
    found = bl.compare(small, large, draws=200)
    p, mixed = found.table[["p_value", "p_chibar"]].iloc[1]
    assert mixed == pytest.approx(p / 2, rel=1e-12)
    assert mixed == bl.anova(small.fit(reml=False), large.fit(reml=False))["Pr(>chi-bar)"].iloc[1]
    assert any("p_chibar is by 0.5 chi2(0) + 0.5 chi2(1); bl.anova(..., test='boot" in note for note in found.notes)
    # Fixed effects alone have no such column in print.
    assert "p_chibar" not in str(bl.compare(*models()[:2], draws=200))


def test_fits_and_posteriors_stand_for_their_models() -> None:
    fits = bl.compare(models()[0].fit(), models()[1].fit(), draws=200)
    assert fits.fits[1].reml is False
    post = [model.sample(200, random_seed=3, priors="weak") for model in models()[1:]]
    given = bl.compare(post[0], post[1], names=["line", "lines"])
    assert given.posteriors == tuple(post)
    assert list(given.table.index) == ["line", "lines"]


NESTED = [
    ("Reaction ~ Days + (1 | Subject)", "Reaction ~ Days + I(Days**2) + (Days | Subject)", True),
    ("Reaction ~ I(2 * Days + 3) + (1 | Subject)", "Reaction ~ Days + (1 | Subject)", True),
    ("Reaction ~ I(Days**2) + (1 | Subject)", "Reaction ~ Days + log(Days + 1) + (1 | Subject)", False),
    ("Reaction ~ Days + (Days || Subject)", "Reaction ~ Days + (Days | Subject)", True),
    ("Reaction ~ Days + (0 + Days | Subject)", "Reaction ~ Days + (Days || Subject)", True),
    ("Reaction ~ Days + (Days | Subject)", "Reaction ~ Days + (Days || Subject)", False),
    ("Reaction ~ 1 + (1 | Subject)", "Reaction ~ 1 + offset(Days) + (Days | Subject)", False),
]


@pytest.mark.parametrize(("smaller", "larger", "nested"), NESTED)
def test_what_is_nested_is_found(smaller: str, larger: str, nested: bool) -> None:
    data = bl.load_dataset("sleepstudy")
    assert nested_in(bl.Model(smaller, data).design, bl.Model(larger, data).design) is nested


def test_other_responses_rows_and_things_are_refused() -> None:
    data = bl.load_dataset("sleepstudy")
    with pytest.raises(bl.DesignError, match=r"differ \(180 and 170 rows\).*dropna"):
        bl.compare(models()[0], bl.Model(FORMULAS[1], data.iloc[10:]))
    with pytest.raises(bl.DesignError, match="other values"):
        bl.compare(models()[0], bl.Model("log(Reaction) ~ Days + (1 | Subject)", data))
    with pytest.raises(bl.DesignError, match="different weights"):
        bl.compare(models()[0], bl.Model(FORMULAS[1], data, weights="Days + 1"))
    with pytest.raises(bl.DesignError, match="of type int, among models"):
        bl.compare(models()[0], 3)  # type: ignore[call-overload]
    with pytest.raises(bl.DesignError, match="got one model"):
        bl.compare(models()[0])  # type: ignore[call-overload]
    with pytest.raises(bl.DesignError, match="2 different names"):
        bl.compare(*models()[:2], names=["a", "a"])


def test_the_table_fits_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = str(both())
    assert max(map(len, text.splitlines())) <= 80
    for name in both().table.columns:
        assert name in text


def test_tests_do_not_depend_on_the_order() -> None:
    forwards, backwards = (bl.compare(*order, draws=200).table for order in (models(), models()[::-1]))
    for name in ("chisq", "chisq_df", "p_value"):
        assert backwards[name][::-1].to_numpy() == pytest.approx(forwards[name].to_numpy(), rel=1e-12, nan_ok=True)
    assert backwards["against"].tolist()[::-1] == forwards["against"].tolist()


def test_what_is_not_there_is_not_shown() -> None:
    """Evidences of flat priors: a note, not an empty column; weights to three places."""
    text = bl.compare(*models()[:2], draws=200).text(80)
    assert "No evidence" in text
    assert "log_evidence" not in text and "(no entries)" not in text
    assert "chisq" in text and "e-1" not in text.split("\n\n")[-2]


def test_models_come_in_a_list_or_by_name() -> None:
    """As users of ``az.compare`` type it; the table is that of separate arguments."""
    chosen = [model.sample(100, random_seed=3, priors="weak") for model in models()[1:]]
    apart = bl.compare(*chosen, names=["line", "lines"]).table  # type: ignore[call-overload]
    pd.testing.assert_frame_equal(bl.compare(dict(zip(["line", "lines"], chosen, strict=True))).table, apart)
    pd.testing.assert_frame_equal(bl.compare(chosen, names=["line", "lines"]).table, apart)


def test_a_regression_without_groups_can_stand_beside_mixed_models():
    data = bl.load_dataset("Dyestuff")
    both = bl.compare(
        bl.Model("Yield ~ 1 + (1 | Batch)", data), bl.Model("Yield ~ 1", data, residual="independent"), draws=200
    )
    y = data["Yield"].to_numpy()
    variance = y.var()
    assert both.table["loglik"].iloc[1] == pytest.approx(-0.5 * 30 * (np.log(2 * np.pi * variance) + 1), abs=1e-9)
    # Known standard errors are another matter.
    known = bl.Model("Yield ~ 1 + (1 | Batch)", data, residual_sd=np.ones(30))
    with pytest.raises(bl.DesignError, match="different weights"):
        bl.compare(known, bl.Model("Yield ~ 1 + (1 | Batch)", data))
