"""Text and tables for a screen of given width, on plain strings; tables that print whole."""

from __future__ import annotations

import pickle
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.cells import cell_len

import bayeslmm as bl
from bayeslmm.design.readable import Table, Tables, readable, table_text
from bayeslmm.design.screen import cells, fill, screen_width, wrap
from bayeslmm.reml import FitStatus

TEXT = "The criterion rises by -1.2345e-12 (of 251.405) where sd_Subject[Days] is 0."


@pytest.mark.parametrize("width", range(20, 100, 7))
def test_sentences_break_at_spaces_and_lose_nothing(width: int) -> None:
    lines = wrap(TEXT, width, "  ")
    assert " ".join(" ".join(lines).split()) == TEXT
    assert all(cells(line) <= width for line in lines)
    assert all(word in TEXT.split() for line in lines for word in line.split())


@pytest.mark.parametrize("text", ["abc", "观测批次", "e\u0301", "a b 数 c", "\U0001f600", "ｆｕｌｌ", "한국어", "Ünï"])
def test_widths_are_those_of_a_terminal(text: str) -> None:
    assert cells(text) == cell_len(text)


def test_line_breaks_and_indents_of_a_text_stay() -> None:
    assert wrap("a\n  b c\n\nd", 80) == ["a", "  b c", "", "d"]
    assert wrap("x \x1b[2J", 80) == ["x \\x1b[2J"]


def test_a_word_that_is_too_long_stays_whole() -> None:
    assert wrap(f"a {'b' * 90} c", 30) == ["a", "b" * 90, "c"]


@pytest.mark.parametrize("columns", ["60", "132"])
def test_the_width_is_that_of_the_terminal(columns: str, monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert screen_width() == int(columns)
    assert max(map(len, fill("word " * 100).split("\n"))) <= int(columns)
    monkeypatch.delenv("COLUMNS")
    # files and pipes
    monkeypatch.setattr("sys.stdout", None)
    assert screen_width() == 80


def random_frame(rng: np.random.Generator, rows: int, columns: int) -> pd.DataFrame:
    sizes = 10.0 ** rng.integers(-12, 13, (rows, columns))
    names = [f"c{'o' * int(rng.integers(0, 12))}{k}" for k in range(columns)]
    index = [f"r{'x' * int(rng.integers(0, 40))}{k}" for k in range(rows)]
    return pd.DataFrame(rng.normal(size=(rows, columns)) * sizes, index=index, columns=names)


@pytest.mark.parametrize("seed", range(12))
def test_random_tables_fold_without_loss(seed: int) -> None:
    """Blocks side by side again are the table."""
    rng = np.random.default_rng(seed)
    frame, width = random_frame(rng, 4, int(rng.integers(1, 30))), int(rng.integers(50, 130))
    text = table_text(frame, width)
    assert all(cells(line) <= width for line in text.split("\n"))
    found: dict[str, list[str]] = {str(label): [] for label in frame.index}
    headings = []
    label = ""
    for line in filter(None, text.split("\n")):
        words = line.split()
        if words[0] in found:
            label, words = words[0], words[1:]
            found[label] += words
        elif label and line.startswith(" ") and not words[0].startswith("c"):
            found[label] += words
        else:
            headings += words
    assert headings == list(frame.columns)
    for label, row in frame.iterrows():
        assert found[str(label)] == [f"{value:.5g}" for value in row]


def test_ends_of_an_interval_stay_together() -> None:
    frame = pd.DataFrame({"estimate": [1.0], "conf_low": [-1.2345e-10], "conf_high": [1.2345e10]}, index=["label" * 5])
    text = table_text(frame, 52)
    head = next(line for line in text.split("\n") if "conf_low" in line)
    assert "conf_high" in head and "estimate" not in head


def test_tables_print_whole_and_so_does_what_pandas_makes_of_them(monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    fit = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()
    for table in (fit.coefficients(), fit.coefficients().round(3), fit.coefficients().loc[["Days"]], fit.tidy().copy()):
        assert isinstance(table, Table)
        text = repr(table)
        assert "..." not in text and all(str(name) in text for name in table.columns)
        assert all(len(line) <= 60 for line in text.split("\n"))
        assert str(table) == text
    assert pickle.loads(pickle.dumps(fit.coefficients())).equals(fit.coefficients())
    pd.testing.assert_frame_equal(fit.coefficients(), pd.DataFrame(fit.coefficients()))


def test_what_fits_is_as_pandas_prints_it(monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    frame = pd.DataFrame({"a": [1.5, np.nan], "b": ["x", "y"]}, index=["one", "two"])
    assert repr(readable(frame)) == frame.to_string()


def test_rows_that_are_not_shown_are_counted(monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pd.option_context("display.max_rows", 10):
        text = repr(readable(pd.DataFrame({"a": np.arange(300.0)})))
    assert "300 rows, of which 6 to 295 are not shown" in text and "..." not in text
    assert "299.0" in text and " 5.0" not in text


def test_odd_tables_print(monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    odd = pd.DataFrame({"a": [[1, 2], None], 3: [pd.NA, pd.Timestamp("2024-01-01")], ("t", 1): [True, 1 + 2j]})
    for frame in (odd, odd.iloc[:0], odd[[]], odd.T, pd.DataFrame(), odd.set_index("a"), pd.concat([odd, odd], axis=1)):
        text = repr(Table(frame))
        assert text and "..." not in text
    assert Table({"a": ["x\x1b[2J\ny"]}).__repr__().count("\n") == 1


def test_sentences_in_notebooks_are_whole() -> None:
    model = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy"))
    priors = model.priors()
    page = priors._repr_html_()
    assert page is not None and "..." not in page
    for words in priors["in words"]:
        assert words in page
    listed = bl.list_datasets()._repr_html_()
    assert listed is not None and all(name in listed for name in bl.list_datasets().columns)


def test_effects_print_by_group() -> None:
    fit = bl.Model("diameter ~ 1 + (1 | plate) + (1 | sample)", bl.load_dataset("Penicillin")).fit()
    effects = fit.ranef()
    assert isinstance(effects, Tables) and isinstance(effects, dict)
    text, page = repr(effects), effects._repr_html_()
    for group in ("plate", "sample"):
        assert re.search(rf"^{group}$", text, re.M) and f"<b>{group}</b>" in page
    assert "{" not in text


@pytest.mark.parametrize("status", list(FitStatus))
def test_a_status_prints_in_words(status: FitStatus) -> None:
    text = " ".join(repr(status).split())
    assert text.startswith(f"<FitStatus.{status.name}: ") and "(" not in text.split(":")[0]
    assert "True" not in text and "False" not in text and "docs/" not in text
