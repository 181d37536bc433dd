"""Means over the reference grid: closed forms, transformations of columns, empty cells, calls that cannot work."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.errors import DesignError


@pytest.fixture(scope="module")
def oats() -> pd.DataFrame:
    data = bl.load_dataset("Oats").rename(columns={"yield": "y"})
    return data.assign(n=data["nitro"].astype("category"))


@pytest.fixture(scope="module")
def split(oats: pd.DataFrame) -> bl.REMLResult:
    return bl.Model("y ~ n * Variety + (1 | Block/Variety)", oats).fit()


@pytest.fixture(scope="module")
def unbalanced() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(8), 6)
    a, b = rng.choice(["u", "v", "w"], 48, p=[0.5, 0.3, 0.2]), rng.choice(["p", "q"], 48, p=[0.7, 0.3])
    x = rng.uniform(1, 5, 48)
    y = 3 + (a == "v") + 2 * (b == "q") * (a == "u") + 0.4 * x**2 + rng.normal(size=8)[g] + rng.normal(size=48)
    return pd.DataFrame({"y": y, "a": a, "b": b, "x": x, "flag": x > 3, "g": g.astype(str)})


def test_balanced_means_are_averages_and_their_errors_are_in_closed_form(
    split: bl.REMLResult, oats: pd.DataFrame
) -> None:
    """Oats: 6 blocks of 3 plots of 4: the variance of a mean is one of three components."""
    table = split.means("n").frame
    np.testing.assert_allclose(table["estimate"], oats.groupby("n", observed=True)["y"].mean(), rtol=1e-10)
    block, plot, rest = (split.varcorr()["vcov"].iloc[k] for k in (0, 1, 2))
    np.testing.assert_allclose(table["std_error"], np.sqrt(block / 6 + plot / 18 + rest / 18), rtol=1e-8)
    pairs = split.means("n").pairs().frame
    np.testing.assert_allclose(pairs["std_error"], np.sqrt(2 * rest / 18), rtol=1e-8)
    np.testing.assert_allclose(pairs["df"], 45.0, rtol=1e-6)
    between = split.means("Variety").pairs().frame
    np.testing.assert_allclose(between["std_error"], np.sqrt(2 * (plot / 6 + rest / 24)), rtol=1e-8)
    np.testing.assert_allclose(between["df"], 10.0, rtol=1e-6)


def test_weights(unbalanced: pd.DataFrame) -> None:
    """Averages of the cell means of the model with the shares of the cells."""
    fit = bl.Model("y ~ a * b + (1 | g)", unbalanced).fit()
    cells = fit.means(["a", "b"]).frame.pivot(index="a", columns="b", values="estimate")
    counts = pd.crosstab(unbalanced["a"], unbalanced["b"])
    expected = {
        "equal": cells.mean(axis=1),
        "proportional": cells @ (counts.sum() / 48),
        "outer": cells @ (counts.sum() / 48),
        "cells": (cells * counts).sum(axis=1) / counts.sum(axis=1),
    }
    for weights, values in expected.items():
        np.testing.assert_allclose(fit.means("a", weights=weights).frame["estimate"], values, rtol=1e-12)


def test_coding_does_not_matter(unbalanced: pd.DataFrame) -> None:
    plain = bl.Model("y ~ a * b + x + (1 | g)", unbalanced).fit()
    other = bl.Model("y ~ a * b + x + (1 | g)", unbalanced, contrasts={"a": "sum", "b": "helmert"}).fit()
    columns = ["estimate", "std_error", "df"]
    np.testing.assert_allclose(plain.means("a").frame[columns], other.means("a").frame[columns], rtol=1e-5)
    assert plain.joint_tests()["F"].to_numpy() == pytest.approx(other.joint_tests()["F"].to_numpy(), rel=1e-6)


@pytest.mark.parametrize("term", ["x", "poly(x, 2)", "scale(x) + I(x**2)", "log(x)", "bs(x, df=4)"])
def test_columns_of_the_formula_are_evaluated_at_the_point(unbalanced: pd.DataFrame, term: str) -> None:
    """A mean at a value is the prediction there, of the typical group."""
    fit = bl.Model(f"y ~ a + {term} + (1 | g)", unbalanced).fit()
    found = fit.means("a", at={"x": [2.5]}).frame
    newdata = pd.DataFrame({"a": ["u", "v", "w"], "x": 2.5})
    expected = fit.predict(newdata, random=None)
    np.testing.assert_allclose(found["estimate"], expected["estimate"], rtol=1e-10)
    np.testing.assert_allclose(found["std_error"], expected["std_error"], rtol=1e-8)
    centre = fit.predict(newdata.assign(x=unbalanced["x"].mean()), random=None)["estimate"]
    np.testing.assert_allclose(fit.means("a").frame["estimate"], centre, rtol=1e-10)


def test_slopes_are_derivatives(unbalanced: pd.DataFrame) -> None:
    fit = bl.Model("y ~ a + x + I(x**2) + (1 | g)", unbalanced).fit()
    beta = fit.fixef()
    found = fit.trends("x", at={"x": [2.0]}).frame["estimate"][0]
    assert found == pytest.approx(beta["x"] + 2 * 2.0 * beta["I(x ** 2)"], rel=1e-9)
    logs = bl.Model("y ~ a * log(x) + (1 | g)", unbalanced).fit()
    slope = logs.trends("x", "a", at={"x": 2.0}).frame["estimate"][0]
    assert slope == pytest.approx(logs.fixef()["log(x)"] / 2.0, rel=1e-8)


def test_true_and_false_numbers_as_factors_and_two_values(unbalanced: pd.DataFrame) -> None:
    data = unbalanced.assign(k=np.tile([1, 2, 3], 16), z=np.tile([0.0, 1.0], 24))
    fit = bl.Model("y ~ flag + C(k) + z + (1 | g)", data).fit()
    assert fit.means("flag").frame["flag"].tolist() == ["False", "True"]
    assert fit.means("k").frame["k"].tolist() == ["1", "2", "3"]
    # A number with two values takes both, as in emmeans.
    both = fit.means("z").frame
    assert both["z"].tolist() == [0.0, 1.0]
    assert fit.means("flag").frame["estimate"][0] == pytest.approx(
        np.mean([fit.means("flag", at={"z": [v]}).frame["estimate"][0] for v in (0, 1)]), rel=1e-12
    )


def test_numbers_with_two_values_are_counted(unbalanced: pd.DataFrame) -> None:
    """In an additive model proportional weights are a mean at the mean."""
    data = unbalanced.assign(z=np.tile([0.0, 0.0, 1.0], 16))
    fit = bl.Model("y ~ a + b + z + (1 | g)", data).fit()
    found = fit.means("a", weights="proportional").frame["estimate"]
    share = (data["b"] == "q").mean()
    expected = fit.fixef()["Intercept"] + share * fit.fixef()["b[q]"] + fit.fixef()["z"] / 3
    assert found[0] == pytest.approx(expected, rel=1e-12)


def test_offsets_are_part_of_means(unbalanced: pd.DataFrame) -> None:
    plain = bl.Model("y ~ a + (1 | g)", unbalanced.assign(y=unbalanced["y"] - unbalanced["x"])).fit()
    offset = bl.Model("y ~ a + offset(x) + (1 | g)", unbalanced).fit()
    shift = offset.means("a").frame["estimate"] - plain.means("a").frame["estimate"]
    np.testing.assert_allclose(shift, unbalanced["x"].mean(), rtol=1e-8)


def test_empty_cells_get_no_number(oats: pd.DataFrame) -> None:
    data = oats[~((oats["Variety"] == "Victory") & (oats["nitro"] == 0.6))]
    fit = bl.Model("y ~ n * Variety + (1 | Block/Variety)", data).fit()
    cells = fit.means(["n", "Variety"])
    lost = cells.frame[cells.frame["estimate"].isna()]
    assert lost[["n", "Variety"]].to_numpy().tolist() == [["0.6", "Victory"]]
    assert lost[["std_error", "df", "conf_low"]].isna().all(axis=None)
    assert "not estimable" in repr(cells) and "Not estimable: 0.6 Victory" in repr(cells)
    assert cells.letters()["letters"].tolist()[-1] == ""
    shared = fit.means("n", by="Variety").pairs().frame
    assert shared["estimate"].isna().sum() == 3
    tests = fit.joint_tests().set_index("term")
    assert tests.loc["n", "note"] == "partly estimable" and tests.loc["n", "df1"] == 2


def test_what_a_mean_hides_is_said(split: bl.REMLResult) -> None:
    text = repr(split.means("n"))
    assert "misleading" in text and "by='Variety'" in text
    assert max(map(len, text.splitlines())) <= 80
    assert "misleading" not in repr(split.means("n", by="Variety"))
    html = split.means("n")._repr_html_()
    assert "<table" in html and "misleading" in html


def test_names_of_groups_alone_are_compared(split: bl.REMLResult) -> None:
    assert split.means(by="n").frame.equals(split.means("n").frame)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda fit: fit.means("nitrogen"), "not in the fixed part.*n, Variety"),
        (lambda fit: fit.means("Block"), "grouping factor"),
        (lambda fit: fit.means("n", at={"n": ["0.7"]}), "level '0.7'.*Levels: 0, 0.2"),
        (lambda fit: fit.means("n", at={"q": [1]}), "at: 'q' is not in"),
        (lambda fit: fit.means("n", by="n"), "twice"),
        (lambda fit: fit.means("~ n"), "formula of R's emmeans"),
        (lambda fit: fit.means("n", weights="proportion"), "Did you mean 'proportional'"),
        (lambda fit: fit.means("n", type="response"), "not transformed"),
        (lambda fit: fit.means("n").regrid(), "regrid"),
        (lambda fit: fit.means("n").contrast("helmert"), "method='helmert' is unknown"),
        (lambda fit: fit.means("n").contrast(), "needs a method"),
        (lambda fit: fit.means("n").contrast({"a": [1, -1]}), "2 coefficient.*4 means"),
        (lambda fit: fit.means("n").contrast({"a": {"0": 1, "9": -1}}), "none of the means"),
        (lambda fit: fit.means("n").contrast("dunnett", reference="7"), "reference='7'"),
        (lambda fit: fit.means("n").pairs("tuckey"), "Did you mean 'tukey'"),
        (lambda fit: fit.means("n").pairs(by="n", simple="n"), "same in two ways"),
        (lambda fit: fit.means("n", by="Variety").pairs(by=["n", "Variety"]), "one mean"),
        (lambda fit: fit.means().pairs(), "one mean"),
        (lambda fit: fit.trends("n"), "no number.*poly"),
        (lambda fit: fit.trends("age"), "not in the fixed part"),
        (lambda fit: fit.means("n").test(side="equivalence"), "margin"),
        (lambda fit: fit.means("n", bias_adjust=True), "type='response'"),
    ],
)
def test_calls_that_cannot_work_say_why(split: bl.REMLResult, call: object, words: str) -> None:
    with pytest.raises(DesignError, match=words):
        call(split)  # type: ignore[operator]


def test_a_number_has_no_levels(unbalanced: pd.DataFrame) -> None:
    fit = bl.Model("y ~ a + x + (1 | g)", unbalanced).fit()
    with pytest.raises(DesignError, match=r"'x' is a number.*at=\{'x'.*trends\('x'\)"):
        fit.means("x")
    assert fit.means("x", at={"x": [1, 2]}).pairs(reverse=True).frame["estimate"][0] == pytest.approx(fit.fixef()["x"])


def test_saved_fits_answer_the_same(split: bl.REMLResult, tmp_path: object) -> None:
    path = f"{tmp_path}/fit.npz"
    split.save(path)
    assert bl.load(path).means("n").frame.equals(split.means("n").frame)
