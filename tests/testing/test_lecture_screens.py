"""What the tasks of a lecture print in a terminal of 80 columns: whole, with the numbers of the notes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pandas as pd
import pytest

import bayeslmm as bl

FORMULAS = {
    "tablets": "y ~ method + (1 | tablet)",
    "tablets_missing": "y ~ method + (1 | tablet)",
    "Dyestuff": "Yield ~ 1 + (1 | Batch)",
    "Penicillin": "diameter ~ sample + (1 | plate)",
    "sleepstudy": "Reaction ~ Days + (Days | Subject)",
    "Oats": "yield ~ Variety + C(nitro) + (1 | Block/Variety)",
}


@cache
def fit(name: str) -> bl.REMLResult:
    return bl.Model(FORMULAS[name], bl.load_dataset(name)).fit()


def of_sleep(*parts: str) -> list[bl.Model]:
    return [bl.Model(f"Reaction ~ Days + {part}", bl.load_dataset("sleepstudy")) for part in parts]


# What is printed, and words that the notes, lme4, lmerTest, car or emmeans print for it.
SCREENS: dict[str, tuple[Callable[[], object], tuple[str, ...]]] = {
    "paired": (lambda: fit("tablets"), ("0.089333", "0.043611", "0.29889", "0.20883", "-0.535", "0.6054")),
    "missing": (lambda: fit("tablets_missing"), ("10 rows dropped", "10.28386", "-0.07211", "0.31924")),
    "containment": (
        lambda: fit("tablets_missing").anova(1, "containment", intercept=True),
        ("19  15715.964", "9      0.687", "0.4285"),
    ),
    "kenward": (lambda: fit("tablets_missing").coefficients("kenward-roger"), ("Kenward", "conf_low", "p_value")),
    "dyestuff": (lambda: fit("Dyestuff"), ("1764.0", "49.510", "19.38")),
    "profile": (lambda: fit("Dyestuff").confint(), ("REML", "15.657", "101.066")),
    "anova": (lambda: fit("Penicillin").anova(), ("449.22", "89.844", "115", "297.09", "< 2.2e-16")),
    "wald": (lambda: fit("Penicillin").anova(2, test="chisq"), ("1485.4", "Pr(>Chisq)")),
    "ranef": (lambda: fit("sleepstudy").ranef(sd=True), ("308", "9.198972", "sd[Days]")),
    "means": (lambda: fit("Oats").means("nitro"), ("79.39", "123.39", "7.13")),
    "tukey": (lambda: fit("Oats").means("nitro").pairs(), ("-19.50", "4.25", "0.1493", "Tukey")),
    "pairs in groups": (lambda: fit("Oats").means("nitro", by="Variety").pairs(), ("Marvellous", "p_value", "Tukey")),
    "criteria": (lambda: bl.anova(*of_sleep("(1 | Subject)", "(Days | Subject)")), ("1802.08", "1763.94", "42.139")),
    "influence": (lambda: fit("sleepstudy").influence("Subject"), ("309", "cooks_d")),
    "variance": (lambda: fit("Dyestuff").test_zero("Batch"), ("F(5, 24)", "0.0043975")),
    "models": (lambda: bl.compare(*of_sleep("(1 | Subject)", "(Days | Subject)"), draws=200), ("1802.1", "42.139")),
}


@pytest.mark.parametrize("task", SCREENS)
def test_a_screen_is_whole(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    make, words = SCREENS[task]
    text = repr(make())
    assert max(map(len, text.splitlines())) <= 80
    assert " ... " not in text.replace("... (10 in", "") and "(no entries)" not in text
    for word in words:
        assert word in text


def test_notes_of_a_folded_table_stand_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table in one piece has its notes right below; one in several does not give them to the last."""
    nested = bl.anova(*of_sleep("(1 | Subject)", "(Days | Subject)"))
    for columns, blanks in (("80", 2), ("120", 0)):
        monkeypatch.setenv("COLUMNS", columns)
        text = repr(nested)
        assert text.count("\n\n") == blanks
        assert nested.notes[0].split(":")[0] in text


def test_predictions_beside_what_they_are_of() -> None:
    days = pd.DataFrame({"Days": [0, 9]})
    table = days.join(fit("sleepstudy").predict(days, random="new", kind="observation"))
    assert list(table.columns) == ["Days", "estimate", "std_error", "conf_low", "conf_high"]
    assert table["std_error"].iloc[1] > table["std_error"].iloc[0] > fit("sleepstudy").sigma


def test_the_spelling_of_lmertest_is_understood() -> None:
    with pytest.raises(bl.DesignError, match=r"ddf='Kenward-Roger' is unknown.*Did you mean 'kenward-roger'\?"):
        fit("tablets").anova(ddf="Kenward-Roger")  # type: ignore[arg-type]
