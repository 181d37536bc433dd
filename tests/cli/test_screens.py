"""Screens of every command and of every object, at four widths: each number is there whole, each line fits."""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner

import bayeslmm as bl
from bayeslmm.cli import app, show_comparison, show_summary

WIDTHS = (60, 80, 100, 120)
LONG = "measured_in_the_second_laboratory_" * 6
WIDE, JOINED, PICTURE = "观测批次名称编号", "e\u0301le\u0301ment", "\U0001f600_level"


def size(text: str) -> int:
    """Columns that a terminal gives to a text, by the Unicode data base."""
    shown = [sign for sign in text if unicodedata.category(sign) not in ("Mn", "Me", "Cf")]
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in shown)


def check_lines(text: str, width: int) -> None:
    """No line is too wide, unless it is one word, or a word of which nothing can be broken off."""
    for line in text.splitlines():
        words = line.split()
        longest = max((size(word) for word in words), default=0)
        indent = len(line) - len(line.lstrip())
        assert size(line) <= width or (longest + 24 >= width and size(line) <= longest + max(24, indent + 4)), line
    assert "…" not in text and "..." not in text


def check_rows(text: str, frame: pd.DataFrame) -> None:
    """Every number of the rows stands, whole, in lines that begin with the label of the row, or below it."""
    labels = [str(label) for label in frame.index]
    found = numbers_by_label(text, labels)
    for label, (_, row) in zip(labels, frame.iterrows(), strict=True):
        for name, value in row.items():
            if isinstance(value, float | np.floating) and np.isfinite(value):
                assert any(is_printed(word, float(value)) for word in found[label]), (label, name, value)


def numbers_by_label(text: str, labels: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {label: [] for label in labels}
    current = None
    for line in text.splitlines():
        own = max((label for label in labels if line == label or line.startswith(f"{label} ")), key=len, default=None)
        if own is None and not line.startswith(" "):
            current = None
        rest = line if own is None else line[len(own) :]
        current = own or current
        if current is not None:
            found[current] += re.findall(r"[^\s\[\]()]+", rest)
    return found


def is_printed(word: str, value: float) -> bool:
    """Whether a word is a number, rounded at its last digit: 16.2 is 16.187, and 16.1 is not."""
    match = re.fullmatch(r"(-?)(\d+)(?:\.(\d+))?(?:e([-+]\d+))?", word.rstrip(",;"))
    if match is None:
        return False
    _, whole, decimals, exponent = match.groups()
    unit = 10.0 ** (int(exponent or 0) - len(decimals or ""))
    if decimals is None and exponent is None:
        # Trailing zeros of whole numbers may stand for digits that are not known.
        unit *= 10.0 ** min(len(whole) - len(whole.rstrip("0")), max(len(whole) - 1, 0))
    return abs(float(word.rstrip(",;")) - value) <= 0.5000001 * unit


def model_data(scale: float = 1.0, group: str = "g", x: str = "x") -> pd.DataFrame:
    rng = np.random.default_rng(4)
    data = pd.DataFrame({x: rng.normal(size=60) / scale, group: np.repeat(np.arange(10), 6)})
    data["f"] = rng.choice(list("abcd"), 60)
    data["y"] = scale * (2.0 + rng.normal(size=10)[data[group]] + rng.normal(size=60))
    return data


CASES = {
    "short": ("y ~ x + (1 | g)", model_data()),
    "slopes": ("y ~ x + f + (x || g)", model_data()),
    "huge": ("y ~ x + (1 | g)", model_data(1e12)),
    "small": ("y ~ x + (1 | g)", model_data(1e-12)),
    "long": (f"y ~ x + (1 | {LONG})", model_data(group=LONG)),
    "signs": (f"y ~ `{JOINED}` + f + (1 | `{WIDE}`)", model_data(group=WIDE, x=JOINED)),
    "pictures": (f"y ~ `{PICTURE}` + (1 | g)", model_data(x=PICTURE)),
}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Iterator[tuple[bl.Model, bl.Comparison]]:
    model = bl.Model(*CASES[request.param])
    priors = ("default", "weak", "pc") if request.param in ("short", "long") else ("default",)
    posts = [model.sample(400, random_seed=1, priors=name) for name in priors]
    yield model, bl.compare(model.fit(), *posts)


def screen(show: Any, thing: Any, width: int) -> str:
    file = io.StringIO()
    show(thing, Console(width=width, markup=False, emoji=False, file=file))
    return file.getvalue()


@pytest.mark.parametrize("width", WIDTHS)
def test_a_comparison_is_whole(case: tuple[bl.Model, bl.Comparison], width: int, monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    both = case[1]
    exact = both.table[["ml", "reml", "reml_low", "reml_high", "delta"]]
    for text in (str(both), screen(show_comparison, both, width)):
        check_lines(text, width)
        check_rows(text, exact)
        check_rows(text, drawn(both))


def drawn(both: bl.Comparison) -> pd.DataFrame:
    """What is printed of the draws is the number itself, rounded at some digit."""
    return both.table[[name for name in both.table if name.split("_")[0] in ("mean", "median", "mode", "hdi")]]


@pytest.mark.parametrize("width", WIDTHS)
def test_summaries_are_whole(case: tuple[bl.Model, bl.Comparison], width: int, monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    both = case[1]
    for summary in (both.reml.summary(), both.posterior.summary()):
        for text in (str(summary), screen(show_summary, summary, width)):
            check_lines(text, width)
    fixed = pd.DataFrame({"estimate": both.reml.fixef(), "std_error": both.reml.std_error()})
    check_rows(str(both.reml.summary()), fixed)
    check_rows(str(both.posterior.summary()), both.posterior.table())


@pytest.mark.parametrize("width", WIDTHS)
def test_tables_are_whole(case: tuple[bl.Model, bl.Comparison], width: int, monkeypatch: Any) -> None:
    """pandas' own text hides columns in its middle."""
    monkeypatch.setenv("COLUMNS", str(width))
    model, both = case
    fit, post = both.reml, both.posterior
    for table in (fit.coefficients(), fit.vcov(), post.table(), both.table):
        check_lines(repr(table), width)
        check_rows(repr(table), table)
    for table in (fit.tidy(), fit.shrinkage().head(7), both.fixed.head(8), fit.mme().table().head(9)):
        check_lines(repr(table), width)
        values = [value for row in table.to_numpy() for value in row if isinstance(value, float) and np.isfinite(value)]
        words = repr(table).split()
        assert all(any(is_printed(word, value) for word in words) for value in values)
    shown = " ".join(repr(model.priors()).split())
    assert all(words in shown for words in model.priors()["in words"])


@pytest.fixture(scope="module")
def others(case: tuple[bl.Model, bl.Comparison]) -> tuple[list[Any], Any]:
    model, both = case
    fit, label = both.reml, model.design.terms[0].label
    things = [model, fit, both.posterior, fit.ranef(), fit.mme(), model.matrices()]
    things += [fit.test_zero(label, draws=200, refits=0), bl.ranova(fit, draws=200, refits=0)]
    things += [bl.lint(model.formula), fit.bootstrap(20, random_seed=1)]
    return things, None if "||" in model.formula else fit.boundary(both.posterior)


@pytest.mark.parametrize("width", WIDTHS)
def test_other_texts_fit(others: tuple[list[Any], Any], width: int, monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    things, report = others
    for thing in things:
        check_lines(repr(thing), width)
        check_lines(str(thing), width)
    for status in type(things[1].status):
        check_lines(repr(status), width)
    if report is None:
        return
    check_lines(str(report), width)
    for section in report.sections:
        if section.name in ("limits", "penalised", "edge"):
            check_rows(str(report), section.table)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_list_of_data_sets_has_all_columns(width: int, monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    table = bl.list_datasets()
    check_lines(repr(table), width)
    shown = " ".join(repr(table).split())
    assert all(" ".join(str(value).split()) in shown for value in table.to_numpy().ravel())


@pytest.mark.parametrize("width", (60, 80))
def test_commands_print_whole_numbers(width: int) -> None:
    formula = "Reaction ~ Days + (1 | Subject)"
    fit = bl.Model(formula, bl.load_dataset("sleepstudy")).fit()
    wanted = pd.DataFrame(fit.coefficients())[["estimate", "std_error", "t", "conf_low", "conf_high"]]
    run = CliRunner(env={"COLUMNS": str(width)})
    data = ("--data", "sleepstudy")
    texts = {c: run.invoke(app, [c, formula, *data]).output for c in ("fit", "boundary", "lint")}
    texts["compare"] = run.invoke(app, ["compare", formula, *data, "--draws", "200"]).output
    for text in texts.values():
        check_lines(text, width)
    check_rows(texts["fit"], wanted)
    ends = fit.confint().loc[["Intercept", "Days"]]
    check_rows(texts["compare"], ends)
    # Of a regular fit the report ends at its verdict.
    near = run.invoke(app, ["boundary", "Yield ~ 1 + (1 | Batch)", "--data", "Dyestuff2"]).output
    check_lines(near, width)
    zero = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).fit()
    check_rows(near, zero.confint(0.9, parameters=["sd_Batch[Intercept]"])[["conf_high"]])


def test_the_command_fit_prints_fixed_effects_once_and_in_the_users_words() -> None:
    run = CliRunner(env={"COLUMNS": "80"})
    text = run.invoke(app, ["fit", "Yield ~ 1 + (1 | Batch)", "--data", "Dyestuff2"]).output
    assert len([line for line in text.splitlines() if line.startswith("Intercept")]) == 1
    for jargon in ("sd__", "ran_pars", "cor__", "conf_low", "docs/"):
        assert jargon not in text
    batch = next(line for line in text.splitlines() if line.startswith("Batch"))
    assert batch.split() == ["Batch", "Intercept", "0", "0"]
    ends = next(line for line in text.splitlines() if line.startswith("sd_Batch[Intercept]"))
    assert ends.split()[1:3] == ["0", "2.514"] and "upper bound" in ends


def test_the_demo_fits_sixty_columns(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("bayeslmm.cli._write", lambda *_: None)
    text = CliRunner(env={"COLUMNS": "60"}).invoke(app, ["demo", "--out", str(tmp_path)]).output
    check_lines(text, 60)
    for name in ("sleepstudy", "Dyestuff2"):
        model = bl.Model(bl.datasets.describe_dataset(name)["formula"], bl.load_dataset(name))
        check_rows(text if name == "sleepstudy" else text.split("Dyestuff2", 1)[1], model.fit().confint().iloc[:1])
