"""Weights, residual degrees of freedom, correlations of the fixed effects, columns that were left out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.errors import DesignError


@pytest.fixture(scope="module")
def sleep() -> pd.DataFrame:
    days = bl.load_dataset("sleepstudy")
    return days.assign(D2=2 * days["Days"] + 1, z=np.sin(np.arange(1.0, 181.0)), w=1.0 + np.arange(180) % 3)


@pytest.fixture(scope="module")
def fit(sleep: pd.DataFrame) -> bl.REMLResult:
    return bl.Model("Reaction ~ Days + (Days | Subject)", sleep).fit()


def test_weights_by_row(sleep: pd.DataFrame, fit: bl.REMLResult) -> None:
    assert fit.weights().equals(pd.Series(np.ones(180), name="weights"))
    holes = sleep.assign(Reaction=sleep["Reaction"].where(sleep.index != 5))
    for action, expected in [("drop", sleep["w"].drop(5)), ("exclude", sleep["w"].where(sleep.index != 5))]:
        model = bl.Model("Reaction ~ Days + (1 | Subject)", holes, weights="w", na_action=action)  # type: ignore[arg-type]
        assert model.fit().weights().equals(expected.rename("weights"))
    weights = model.sample(100, random_seed=1).weights()
    assert weights.equals(expected.rename("weights"))


def test_weights_are_a_copy(sleep: pd.DataFrame) -> None:
    weighted = bl.Model("Reaction ~ Days + (1 | Subject)", sleep, weights="w").fit()
    given = weighted.weights()
    given.iloc[0] = 99.0
    assert weighted.weights().iloc[0] == 1.0


def test_residual_degrees_of_freedom_are_those_of_lme4(sleep: pd.DataFrame, fit: bl.REMLResult) -> None:
    # R: df.residual(lmer(Reaction ~ Days + (Days | Subject), sleepstudy)).
    assert fit.df_residual == 174
    counted = bl.Model("Reaction ~ Days + (1 | Subject)", sleep.assign(n=2), frequency="n").fit()
    assert counted.df_residual == 360 - 4


def test_correlation_of_the_fixed_effects(fit: bl.REMLResult) -> None:
    # R: cov2cor(vcov(f)), lme4 1.1-31 with bobyqa, rhoend = 1e-11.
    found = fit.correlation()
    np.testing.assert_allclose(found, [[1.0, -0.137553438871], [-0.137553438871, 1.0]], rtol=1e-7)
    assert list(found.index) == list(found.columns) == ["Intercept", "Days"]


def test_correlation_in_the_posterior(sleep: pd.DataFrame) -> None:
    post = bl.Model("Reaction ~ Days + z + (1 | Subject)", sleep).sample(2000, random_seed=1)
    draws = np.asarray(post.data["posterior"]["beta"]).reshape(-1, 3)
    np.testing.assert_allclose(post.correlation(), np.corrcoef(draws.T), rtol=1e-10)
    single = bl.Model("Reaction ~ 1 + (1 | Subject)", sleep)
    assert single.fit().correlation().to_numpy().tolist() == [[1.0]]
    assert single.sample(50, random_seed=1).correlation().to_numpy().tolist() == [[1.0]]
    none = bl.Model("Reaction ~ 0 + (1 | Subject)", sleep)
    assert none.fit().correlation().shape == none.sample(50, random_seed=1).correlation().shape == (0, 0)


def test_columns_left_out_as_nan_where_the_formula_has_them(sleep: pd.DataFrame) -> None:
    fit = bl.Model("Reaction ~ Days + D2 + z + (1 | Subject)", sleep).fit()
    short, table = pd.DataFrame(fit.coefficients()), pd.DataFrame(fit.coefficients(dropped=True))
    assert list(table.index) == ["Intercept", "Days", "D2", "z"]
    assert table.loc["D2"].isna().all()
    assert table.drop("D2").equals(short)
    # R: fixef(lmer(Reaction ~ Days + D2 + z + (1 | Subject), d), add.dropped = TRUE).
    expected = [251.45494469985, 10.46005098619, np.nan, -2.92811724692]
    np.testing.assert_allclose(fit.fixef(dropped=True), expected, rtol=1e-6)
    assert list(fit.fixef().index) == ["Intercept", "Days", "z"]
    post = bl.Model("Reaction ~ Days + D2 + z + (1 | Subject)", sleep).sample(100, random_seed=1)
    assert post.fixef(dropped=True).isna().to_dict() == {"Intercept": False, "Days": False, "D2": True, "z": False}


def test_empty_cells_as_nan(sleep: pd.DataFrame) -> None:
    frame = sleep.assign(f=np.where(sleep["Days"] < 3, "a", "b"), k=np.where(sleep["Days"] < 5, "u", "v"))
    fit = bl.Model("Reaction ~ f * k + scale(z) + (1 | Subject)", frame).fit()
    names = ["Intercept", "f[b]", "k[v]", "scale(z)", "f[b]:k[v]"]
    assert list(fit.coefficients(ddf="z", dropped=True).index) == names
    assert fit.fixef(dropped=True).isna().tolist() == [False] * 4 + [True]


def test_nothing_left_out_changes_nothing(fit: bl.REMLResult) -> None:
    assert pd.DataFrame(fit.coefficients(dropped=True)).equals(pd.DataFrame(fit.coefficients()))
    with pytest.raises(DesignError, match="neither True nor False"):
        fit.coefficients(dropped="yes")  # type: ignore[arg-type]


def test_rank_deficiency_as_an_error(sleep: pd.DataFrame) -> None:
    with pytest.raises(DesignError, match=r"rank deficient: D2 can be computed"):
        bl.Model("Reaction ~ Days + D2 + z + (1 | Subject)", sleep, rank_deficient="error")
    assert bl.Model("Reaction ~ Days + z + (1 | Subject)", sleep, rank_deficient="error").p == 3
    with pytest.raises(DesignError, match="'drop' or 'error'"):
        bl.Model("Reaction ~ Days + (1 | Subject)", sleep, rank_deficient="stop")  # type: ignore[arg-type]


# --- names and titles of summaries -----------------------------------------------------------------------------------


def test_summaries_under_other_names(fit: bl.REMLResult) -> None:
    plain = fit.summary()
    shown = plain.renamed({"Days": "Tage", "Subject": "Person"}, title="Schlafentzug")
    text = str(shown)
    assert text.splitlines()[0] == "Schlafentzug"
    tables = text[text.index("Random effects") :]
    assert "Tage" in tables and "Person" in tables
    assert "Days" not in tables and "Subject" not in tables
    assert "Tage" in shown._repr_html_()
    # Numbers and what is not named stay.
    assert str(plain.renamed()) == str(plain)
    back = shown.renamed({"Tage": "Days", "Person": "Subject"}, title=plain.title)
    assert str(back) == str(plain)


def test_summaries_of_posteriors_under_other_names(sleep: pd.DataFrame) -> None:
    post = bl.Model("Reaction ~ Days + (1 | Subject)", sleep).sample(200, random_seed=1)
    plain = post.summary()
    shown = plain.renamed({"Days": "Tage"})
    assert str(shown).count("Tage") >= 1
    assert str(shown.renamed({"Tage": "Days"})) == str(plain)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"Dayz": "x"}, "'Dayz', which the tables do not have"),
        ({"Days": 1}, "names"),
        ({1: "x"}, "names"),
        (3, "names"),
    ],
)
def test_names_that_are_none(fit: bl.REMLResult, names: object, message: str) -> None:
    with pytest.raises(DesignError, match=message):
        fit.summary().renamed(names)  # type: ignore[arg-type]
    with pytest.raises(DesignError, match="title"):
        fit.summary().renamed(title=3)  # type: ignore[arg-type]
