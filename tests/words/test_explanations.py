"""Sentences say what predictions of the model say, and the right thing at zero."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.results.diagnostics import in_words
from bayeslmm.words.coefficients import meanings
from bayeslmm.words.numbers import Measured

# Formula and contrasts: treatment coding, sums, no constant, functions of a variable beside it.
FORMULAS: list[tuple[str, dict[str, Any]]] = [
    ("yield ~ nitro * Variety + (1 | Block)", {}),
    ("yield ~ nitro + Variety + (nitro | Block)", {}),
    ("yield ~ nitro * Variety + (1 | Block)", {"contrasts": {"Variety": "sum"}}),
    ("yield ~ 0 + Variety + nitro + (1 | Block)", {}),
    ("yield ~ nitro + I(nitro**2) + Variety + (1 | Block)", {}),
    ("yield ~ log(nitro + 1) + (1 | Block)", {}),
]


@cache
def oats() -> pd.DataFrame:
    return bl.load_dataset("oats")


@pytest.mark.parametrize(("formula", "options"), FORMULAS)
def test_coefficients_are_what_predictions_say(formula: str, options: dict[str, Any]) -> None:
    fit = bl.Model(formula, oats(), **options).fit()
    levels = list(oats()["Variety"].cat.categories)
    known = dict(zip(fit.design.fixed_names, meanings(fit.design), strict=True))

    def at(conditions: str, **own: Any) -> float:
        row: dict[str, Any] = {"nitro": 0.0, "Variety": levels[0], "Block": "I"}
        for name, value in re.findall(r"(nitro|Variety) = ([\w. ]+?)(?: and |, |$)", conditions):
            row[name] = float(value) if name == "nitro" else value
        row |= own
        frame = pd.DataFrame([row]).assign(Variety=lambda d: pd.Categorical(d["Variety"], levels))
        return float(np.asarray(fit.predict(frame, random=None), dtype=float).ravel()[0])

    for name, value in fit.fixef().items():
        meaning = known[str(name)]
        match meaning.kind:
            case "average":
                assert value == pytest.approx(at(meaning.where))
            case "slope" if meaning.of == "nitro":
                assert value == pytest.approx(at(meaning.where, nitro=1.0) - at(meaning.where, nitro=0.0))
            case "difference":
                one, base = (text.removeprefix("Variety = ") for text in (meaning.of, meaning.base))
                assert value == pytest.approx(at(meaning.where, Variety=one) - at(meaning.where, Variety=base))


def test_what_has_no_plain_meaning_is_called_by_its_name() -> None:
    kinds = [[m.kind for m in meanings(bl.Model(f, oats(), **options).design)] for f, options in FORMULAS]
    assert kinds[0] == ["average", "slope", "difference", "difference", "other", "other"]
    assert kinds[1] == ["average", "slope", "difference", "difference"]
    # Sums to zero: the intercept is no average at any level, and no coefficient is a difference of two.
    assert kinds[2] == ["other"] * 6
    assert kinds[3] == ["other", "other", "other", "slope"]
    assert kinds[4] == ["average", "other", "other", "difference", "difference"]
    assert kinds[5] == ["average", "slope"]


@cache
def dyes(name: str) -> tuple[bl.Model, bl.REMLResult, bl.Posterior]:
    model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset(name))
    return model, model.fit(), model.sample(1000, random_seed=1, progressbar=False)


def test_a_variance_of_zero_in_words() -> None:
    _, fit, post = dyes("Dyestuff2")
    said = fit.explain().text(1000)
    # Upper end of the profile by an independent program: 2.514.
    assert "is estimated as exactly 0" in said and "any value up to 2.5 is within the 95 % interval" in said
    assert "fit.boundary()" in said
    drawn = post.explain().text(1000)
    share = float((post.draws("sd_Batch") < 0.1857831).mean())
    assert "may well be near zero" in drawn and f"below 0.19, is {share:.2f}" in drawn
    both = bl.compare(fit, post).explain().text(1000)
    assert "REML says 0 and stops, with values up to 2.5" in both
    assert "credible interval" in both


def test_shares_and_bands_of_a_balanced_layout() -> None:
    # Dyestuff: mean squares 11271.50 and 2451.25 in batches of five give sds 42.0 and 49.5; Davies (1949).
    sd, sigma, mean = np.sqrt((11271.5 - 2451.25) / 5), np.sqrt(2451.25), 1527.5
    said = dyes("Dyestuff")[1].explain().text(1000)
    assert f"The average Yield is {mean:.0f}"[:-1] in said
    assert f"{100 * sd**2 / (sd**2 + sigma**2):.0f} % is between levels of Batch" in said
    assert f"about two in three levels are between {mean - sd:.0f} and {mean + sd:.0f}" in said


def test_other_kinds_of_fits() -> None:
    model, _, _ = dyes("Dyestuff2")
    penalised = model.fit(penalty="boundary_avoiding").explain().text(1000)
    assert "not where the data are most plausible" in penalised
    serial = bl.Model("Reaction ~ Days", bl.load_dataset("sleepstudy"), residual="ar1(Days | Subject)").fit()
    assert "one unit of Days apart are correlated by 0.800" in serial.explain().text(1000)
    slopes = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()
    said = slopes.explain()
    assert "Days is hardly related to Intercept (correlation 0.07" in said.text(1000)
    assert "the average Reaction where Days is 0 between levels of Subject" in said.text(1000)
    assert max(map(len, said.text(60).split("\n"))) <= 60
    assert "<p>" in said._repr_html_()


def test_no_number_is_written_finer_than_its_interval() -> None:
    assert Measured(251.405, 237.68, 265.13).text == "251"
    assert Measured(-0.004, -0.3, 0.3).text == "0.00"
    assert Measured(1e-9, 1e-10, 2e-9).ends == "1.00e-10 to 2.00e-09"
    assert Measured(0.0, 0.0, float("inf")).ends == "0 or more"


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"largest R-hat": 1.003, "smallest ESS": 2345.0, "divergences": 0.0}, "worth 2,345 independent ones"),
        ({"largest R-hat": 1.2, "smallest ESS": 23.0, "divergences": 0.0}, "largest R-hat 1.2"),
        ({"largest R-hat": 1.0, "smallest ESS": 900.0, "divergences": 7.0}, "divergences 7"),
    ],
)
def test_draws_that_are_not_good_are_not_praised(found: dict[str, float], said: str) -> None:
    assert said in in_words(found, 4000)


def test_a_comparison_says_under_which_conditions_a_coefficient_holds() -> None:
    """With an interaction a slope is that of the first level; the sentences are those of the fit."""
    model = bl.Model("yield ~ nitro * Variety + (1 | Block)", oats())
    fit = model.fit()
    said = bl.compare(fit, model.sample(1000, random_seed=1)).explain().text(10_000)
    first = oats()["Variety"].cat.categories[0]
    levels = oats()["Variety"].cat.categories
    rows = pd.DataFrame({"nitro": [0.0, 1.0], "Variety": pd.Categorical([first] * 2, levels), "Block": "I"})
    at_zero, at_one = fit.predict(rows, random=None).iloc[:, 0]
    average = re.search(rf"At nitro = 0 and Variety = {first}, the average yield is (\d+) \(REML .*; posterior", said)
    assert average and float(average[1]) == pytest.approx(at_zero, abs=0.5)
    slope = re.search(rf"One more unit of nitro goes with (\d+) more yield at Variety = {first} \(REML", said)
    assert slope and float(slope[1]) == pytest.approx(at_one - at_zero, abs=0.5)
    alone = re.sub(r" \([^()]*\)", "", fit.explain().text(10_000))
    sentences = re.findall(r"[^.:]* (?:goes with|higher with|lower with)[^()]*", said.partition("Fixed effects by")[2])
    assert len(sentences) == 3 and all(sentence.strip() in alone for sentence in sentences)
