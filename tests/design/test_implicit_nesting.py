"""Labels that start again in every level of another factor: noted where the data speak for it, not where they cross."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayeslmm as bl
from bayeslmm.design.implicit import _tests, likely_nested, table_of


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A screen on which no line is broken."""
    monkeypatch.setenv("COLUMNS", "5000")


def noted(formula: str, data: Any, **options: Any) -> str:
    lines = repr(bl.Model(formula, data, **options)).split("\n")
    return " ".join(line for line in lines if "note: Labels of" in line)


def asked(formula: str, data: Any) -> list[bl.Finding]:
    return [finding for finding in bl.lint(formula, data).findings if finding.rule == "crossed or nested"]


def nested(seed: int, labels: list[str], outer: int = 8, rows: int = 3, sd: float = 2.0) -> pd.DataFrame:
    """Casks called alike in every batch, with effects of their own."""
    rng = np.random.default_rng(seed)
    a, b = (part.ravel() for part in np.indices((outer, len(labels) * rows)))
    b = b // rows
    y = rng.normal(size=outer)[a] + sd * rng.normal(size=(outer, len(labels)))[a, b] + rng.normal(size=a.size)
    return pd.DataFrame(
        {"y": y, "a": [f"batch {i}" for i in a], "b": np.array(labels)[b], "x": rng.normal(size=a.size)}
    )


def crossed(seed: int, labels: list[str], outer: int = 8, rows: int = 3) -> pd.DataFrame:
    """Machines used by every worker: one effect of each machine."""
    rng = np.random.default_rng(seed)
    a, b = (part.ravel() for part in np.indices((outer, len(labels) * rows)))
    b = b // rows
    y = rng.normal(size=outer)[a] + 2 * rng.normal(size=len(labels))[b] + rng.normal(size=a.size)
    return pd.DataFrame({"y": y, "a": [f"worker {i}" for i in a], "b": np.array(labels)[b]})


COUNTS = [list("abcd"), ["1", "2", "3", "4"], ["B1", "B2", "B3", "B4"], ["cask 01", "cask 02", "cask 03"]]
COUNTS += [["I", "II", "III", "IV"], list("ABC"), ["0", "1", "2"]]


@pytest.mark.parametrize("labels", COUNTS, ids="-".join)
@pytest.mark.parametrize("formula", ["y ~ 1 + (1 | a) + (1 | b)", "y ~ x + (1 | b) + (1 | a)", "y ~ a + (1 | b)"])
def test_labels_that_start_again_are_noted_with_the_nested_term(labels: list[str], formula: str) -> None:
    data = nested(3, labels)
    text = noted(formula, data)
    assert "Labels of b" in text and "did you mean (1 | a/b), or (1 | a:b)?" in text
    (finding,) = asked(formula, data)
    assert finding.here in text and finding.remedy in text and finding.text == "b"


def test_numbers_as_labels_count_as_well() -> None:
    data = nested(3, ["1", "2", "3"]).astype({"b": int})
    assert "Labels of b ('1', '2', '3')" in noted("y ~ 1 + (1 | a) + (1 | b)", data)


def test_the_shipped_nested_set_read_as_crossed_is_noted() -> None:
    data = bl.load_dataset("Pastes")
    assert "(1 | batch/cask)" in noted("strength ~ 1 + (1 | batch) + (1 | cask)", data)
    for formula in (
        "strength ~ 1 + (1 | batch/cask)",
        "strength ~ 1 + (1 | batch) + (1 | batch:cask)",
        "strength ~ 1 + (1 | sample)",
    ):
        assert not noted(formula, data) and not asked(formula, data)


CROSSED = [
    ("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)"),
    ("Penicillin", "diameter ~ sample + (1 | plate)"),
    ("Machines", "score ~ 1 + (1 | Worker) + (1 | Machine)"),
    ("Machines", "score ~ Machine + (1 | Worker)"),
    ("Machines", "score ~ Machine + (0 + Machine | Worker)"),
    ("Oats", "yield ~ nitro + (1 | Block) + (1 | Variety)"),
    ("Oats", "yield ~ nitro + Variety + (1 | Block)"),
    ("Oats", "yield ~ nitro + (1 | Block/Variety)"),
    ("ergoStool", "effort ~ Type + (1 | Subject)"),
    ("ergoStool", "effort ~ 1 + (1 | Type) + (1 | Subject)"),
    ("cake", "angle ~ recipe + temperature + (1 | recipe:replicate)"),
    ("coop", "Conc ~ 1 + (1 | Lab) + (1 | Spc)"),
    ("sleepstudy", "Reaction ~ Days + (Days | Subject)"),
    ("Orthodont", "distance ~ age * Sex + (age | Subject)"),
    ("tablets", "y ~ method + (1 | tablet)"),
    ("InstEval", "y ~ service + (1 | s) + (1 | d) + (1 | dept)"),
]


@pytest.mark.parametrize(("name", "formula"), CROSSED)
def test_crossed_sets_are_not_nagged_about(name: str, formula: str) -> None:
    assert not noted(formula, bl.load_dataset(name))


@pytest.mark.parametrize("seed", range(20))
def test_simulated_crossed_designs_are_not_noted(seed: int) -> None:
    data = crossed(seed, ["1", "2", "3", "4"])
    assert not noted("y ~ 1 + (1 | a) + (1 | b)", data) and not noted("y ~ a + (1 | b)", data)
    # It may be asked, of two random factors and once.
    assert len(asked("y ~ 1 + (1 | a) + (1 | b)", data)) == 1 and not asked("y ~ a + (1 | b)", data)


def test_most_nested_designs_are_found_and_hardly_any_without_effects() -> None:
    """The labels explain nothing in 95 % of nested designs by construction; cells differ by chance in one of 1,000."""
    found = [bool(noted("y ~ 1 + (1 | a) + (1 | b)", nested(seed, list("abcd")))) for seed in range(100, 160)]
    # 60 trials with probability .95: fewer than 51 happens once in 3,000.
    assert sum(found) >= 51
    none = [bool(noted("y ~ 1 + (1 | a) + (1 | b)", nested(seed, list("abcd"), sd=0.0))) for seed in range(60)]
    assert sum(none) <= 1


def test_counts_of_different_length_are_enough_without_a_response() -> None:
    rng = np.random.default_rng(2)
    sizes = [2, 3, 4, 3, 2, 4]
    a = np.repeat(np.arange(6), np.array(sizes) * 2)
    b = np.concatenate([np.repeat(np.arange(1, k + 1), 2) for k in sizes])
    data = pd.DataFrame({"y": rng.normal(size=a.size), "a": a, "b": [f"P{i}" for i in b]})
    assert "count from the start in every level of a" in noted("y ~ 1 + (1 | a) + (1 | b)", data)
    # A clear effect of the labels speaks for crossed factors: visits, say, of which some patients miss the last ones.
    assert not noted("y ~ 1 + (1 | a) + (1 | b)", data.assign(y=data["y"] + 5 * b))


@pytest.mark.parametrize(
    ("formula", "change"),
    [
        ("y ~ 1 + (1 | a) + (1 | b)", lambda d: d.drop_duplicates(["a", "b"])),
        (
            "y ~ 1 + (1 | a) + (1 | b)",
            lambda d: d.assign(b=d["b"].map(dict(zip("abcd", ["Golden", "Rain", "Victory", "x"], strict=True)))),
        ),
        ("y ~ 1 + (1 | a) + (1 | b)", lambda d: d.assign(b=d["a"] + d["b"])),
        ("y ~ 1 + (x | a) + (1 | b)", lambda d: d),
        ("y ~ 1 + (1 | a) + (1 | b) + (1 | a:b)", lambda d: d),
        ("y ~ 1 + (1 | a:b)", lambda d: d),
    ],
)
def test_where_the_question_is_answered_or_moot_nothing_is_said(formula: str, change: Any) -> None:
    """One row in a cell, names that do not count, labels of their own, slopes, the combination in the formula."""
    data = change(nested(3, list("abcd"), rows=4))
    assert not noted(formula, data) and not [f for f in asked(formula, data) if "do not" in f.here]


def test_tests_are_those_of_a_balanced_analysis_of_variance() -> None:
    """Against mean squares by hand: labels over cells, cells over rows."""
    data = nested(5, list("abc"), outer=6, rows=4, sd=0.7)
    a, b = data["a"].factorize()[0], data["b"].factorize()[0]
    y = data["y"].to_numpy()
    cells = y.reshape(6, 3, 4).mean(axis=2)
    labels = cells.mean(axis=0) - cells.mean()
    rest = cells - cells.mean(axis=1, keepdims=True) - labels
    within = y.reshape(6, 3, 4) - cells[:, :, None]
    ms_label, ms_cell = 4 * 6 * np.sum(labels**2) / 2, 4 * np.sum(rest**2) / 10
    ms_within = np.sum(within**2) / (18 * 3)
    table = table_of(a, b, ["a", "b", "c"])
    assert table is not None
    expected = stats.f.sf(ms_cell / ms_within, 10, 54), stats.f.sf(ms_label / ms_cell, 2, 10)
    np.testing.assert_allclose(_tests(table, y), expected, rtol=1e-10)
    np.testing.assert_allclose(_tests(table, 1e8 * y), expected, rtol=1e-10)


def test_large_factors_are_not_looked_at() -> None:
    a, b = np.arange(1000) // 2, np.arange(1000) % 500
    assert table_of(a, b, [str(i) for i in range(500)]) is None
    table = table_of(np.arange(12) // 6, np.arange(12) % 3, ["1", "2", "3"])
    assert table is not None and not likely_nested(table, np.zeros(12))
