"""Labels that look alike, dates and numbers read as text: found, said in repr and lint, cured by what is advised."""

from __future__ import annotations

import datetime as dt
import re
import unicodedata
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import bayeslmm as bl
from bayeslmm.design.looks import alike, likeness, listed, shown
from bayeslmm.design.remedies import assignment
from bayeslmm.errors import DesignError

RNG = np.random.default_rng(8)
N = 80
G = np.repeat([f"s{i}" for i in range(8)], 10)
Y = RNG.normal(size=N)


def frame(levels: list[Any], seed: int = 1) -> pd.DataFrame:
    """A table with a column k of these levels, each of which occurs."""
    k = np.array([*levels, *np.random.default_rng(seed).choice(np.array(levels, dtype=object), N - len(levels))])
    return pd.DataFrame({"y": Y, "k": pd.Series(k.tolist()), "g": G})


def notes(formula: str, data: Any) -> list[str]:
    return [line.strip() for line in repr(bl.Model(formula, data)).split("\n") if line.strip().startswith("note:")]


PAIRS = {
    "trailing space": ("Übung", "Übung ", "spaces"),
    "leading tab": ("\tA1", "A1", "spaces"),
    "no-break space": ("x\xa0y", "x y", "spaces"),
    "thin space": ("x\u2009y", "x y", "spaces"),
    "inner space": ("T 1", "T1", "spaces"),
    "two spaces": ("x  y", "x y", "spaces"),
    "line break": ("x\n", "x", "spaces"),
    "case": ("Kontrolle", "kontrolle", "case"),
    "sharp s": ("STRASSE", "straße", "case"),
    "zero width": ("A\u200bB", "AB", "invisible characters"),
    "byte order mark": ("\ufeffA", "A", "invisible characters"),
    "soft hyphen": ("Kon\xadtrolle", "Kontrolle", "invisible characters"),
    "direction": ("A\u200e", "A", "invisible characters"),
    "variation": ("❤\ufe0f", "❤", "invisible characters"),
    "composed": ("Übung", "U\u0308bung", "their Unicode form"),
    "full width": ("A1", "\uff211", "their Unicode form"),
    "ligature": ("ﬁt", "fit", "their Unicode form"),
    "dash": ("a-1", "a\u20131", "their Unicode form"),
    "zeros": ("01", "1", "the writing of a number"),
    "decimals": ("2.50", "2.5", "the writing of a number"),
}


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize(
    "formula", ["y ~ k + (1 | g)", "y ~ 1 + (1 | k)", "y ~ 1 + (1 | g/k)", "y ~ factor(k) + (1 | g)"]
)
@pytest.mark.parametrize("dtype", ["text", "category"])
def test_levels_that_look_alike_are_quoted_with_their_counts(kind: str, formula: str, dtype: str) -> None:
    a, b, differ = PAIRS[kind]
    data = frame([a, b, "other", "third"])
    if dtype == "category":
        data["k"] = data["k"].astype("category")
    text = " ".join(notes(formula, data))
    assert f"differ only by {differ}: " in text
    counts = Counter(data["k"])
    found = re.findall(r"('(?:[^'\\]|\\.)*') \((\d+) rows?\)", text)
    quoted = {(eval(label), int(count)) for label, count in found}
    assert quoted == {(a, counts[a]), (b, counts[b])}
    assert len({label for label, _ in found}) == 2, "a reader can tell them apart"
    if "factor" not in formula or dtype == "category":
        return
    lint = [finding for finding in bl.lint(formula, data).findings if finding.rule == "levels that look alike"]
    assert len(lint) == 1 and lint[0].severity == "note" and lint[0].here in text and lint[0].remedy in text
    assert bl.Model(formula, data)._repr_html_().count("note: ") == len(notes(formula, data))


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_the_remedy_makes_one_level_of_them(kind: str, library: str) -> None:
    a, b, _ = PAIRS[kind]
    if kind in ("sharp s", "dash"):
        return  # By hand: lower case keeps the sharp s, normal forms keep dashes.
    plain = frame([a, b, "other", "third"])
    data = pl.from_pandas(plain) if library == "polars" else plain.copy()
    (note,) = notes("y ~ k + (1 | g)", data)
    for statement in note.split("before the model: ")[1].removesuffix(".").split(", data"):
        scope = {"data": data, "pl": pl, "pandas": pd}
        exec("data" + statement.removeprefix("data"), scope)
        data = scope["data"]
    assert bl.Model("y ~ k + (1 | g)", data).p == 3
    assert not notes("y ~ k + (1 | g)", data)


def test_several_sets_and_reasons() -> None:
    found = alike(["a", "A ", "b", "B\u200b", "c", "d"])
    assert [f.labels for f in found] == [("a", "A "), ("b", "B\u200b")]
    assert [f.differ_by for f in found] == [("spaces", "case"), ("invisible characters", "case")]
    (note,) = notes("y ~ 1 + (1 | k)", frame([f"{c}{s}" for c in "abcdef" for s in ("", " ")]))
    assert "and 3 more such sets" in note


@pytest.mark.parametrize(
    "levels",
    [
        ["a", "b", "c"],
        ["1 11", "11 1", "111"],
        ["A1", "A11", "A-1"],
        ["10", "1", "100", "0.1"],
        ["ä", "a", "â"],
        ["1:2", "12"],
        ["é", "e"],
        ["-1", "1", "+2"],
        ["T1", "T2", "T10"],
    ],
)
def test_levels_that_differ_are_left_alone(levels: list[str]) -> None:
    assert alike(levels) == []


def test_sets_are_those_of_pairs() -> None:
    """Against a comparison of every two labels by an own fold of ASCII text."""
    words = [f"{a}{b}{c}" for a in ("", " ") for b in "abcABC" for c in ("", "x", " x", "X ")]
    key = {word: re.sub(r"\s", "", word).lower() for word in words}
    expected = {frozenset(w for w in words if key[w] == k) for k in set(key.values())}
    assert {frozenset(found.labels) for found in alike(words)} == {s for s in expected if len(s) > 1}


def test_quotes_show_what_cannot_be_seen() -> None:
    assert shown(["Übung", "Kür"]) == ["'Übung'", "'Kür'"]
    for a, b, _ in PAIRS.values():
        x, y = shown([a, b])
        assert unicodedata.normalize("NFC", x) != unicodedata.normalize("NFC", y)
    assert listed(list("abcdefg"), 3) == "'a', 'b', 'c' and 4 more"


def test_levels_of_fixed_factors_are_listed_and_shortened() -> None:
    levels = [f"level {i:02d}" for i in range(42)]
    text = repr(bl.Model("y ~ k + (1 | g)", frame(levels)))
    assert "k: 42 levels, 'level 00', 'level 01', 'level 02', 'level 03', 'level 04' and 37 more" in text
    assert "levels, 's0'" not in text
    few = frame(["b", "a"]).assign(k=lambda d: pd.Categorical(d["k"], categories=["b", "c", "a"]))
    model = bl.Model("y ~ k + (1 | g)", few)
    assert "k: 2 levels, 'b', 'a'" in repr(model) and "k: 2 levels, &#x27;b&#x27;, &#x27;a&#x27;" in model._repr_html_()


def test_a_factor_of_one_level_does_not_vanish_silently() -> None:
    (note,) = notes("y ~ k + (1 | g)", frame(["only"]))
    assert "k has a single level ('only')" in note
    assert "one level" in {finding.rule for finding in bl.lint("y ~ k + (1 | g)", frame(["only"])).findings}


def test_notes_are_saved_copied_and_no_part_of_equality(tmp_path: Any) -> None:
    import copy
    import pickle

    model = bl.Model("y ~ k + (1 | g)", frame(["a", "a "]))
    model.save(tmp_path / "m.npz")
    again = bl.load(tmp_path / "m.npz")
    assert repr(again) == repr(model) and "only by spaces" in repr(again)
    other = pickle.loads(pickle.dumps(model.design))
    assert other.notes == model.design.notes == copy.deepcopy(model.design).notes and other == model.design


# --- dates and numbers -----------------------------------------------------------------------------------------------

DAYS = [dt.date(2024, 3, 4), dt.date(2024, 4, 2), dt.date(2023, 12, 24), dt.date(2024, 2, 29)]
FORMATS = ["%d.%m.%Y", "%Y-%m-%d", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%y", "%d-%m-%Y", "%Y/%m/%d", "%Y%m%d", "%m/%d/%y"]
FORMATS += ["%Y-%m-%d %H:%M", "%d.%m.%Y %H:%M", "%Y-%m-%dT%H:%M:%S", "%m/%d/%Y %H:%M:%S"]


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("form", FORMATS)
def test_dates_as_text_are_noted_with_a_conversion_to_days(form: str, library: str) -> None:
    moments = [dt.datetime.combine(day, dt.time(6 * i)) for i, day in enumerate(DAYS)]
    plain = frame([moment.strftime(form) for moment in moments])
    data = pl.from_pandas(plain) if library == "polars" else plain.copy()
    (note,) = notes("y ~ k + (1 | g)", data)
    assert "k holds text that looks like dates" in note and "4 levels" in note
    assert "dates as text" in {finding.rule for finding in bl.lint("y ~ k + (1 | g)", data).findings}
    convert, days = note.split("For a slope: ")[1].removesuffix(" is the time in days.").split("; then ")
    scope = {"data": data, "pl": pl, "pandas": pd}
    exec(convert, scope)
    result = eval(days, scope)
    result = result["k"].to_numpy() if library == "polars" else result.to_numpy()
    read = [dt.datetime.strptime(text, form) for text in plain["k"]]
    expected = [(moment - min(read)).total_seconds() / 86400 for moment in read]
    np.testing.assert_allclose(result.astype(float), expected, rtol=1e-15)


def test_days_and_months_that_could_be_either_are_both_named() -> None:
    (note,) = notes("y ~ k + (1 | g)", frame(["3/4/24", "5/6/24"]))
    assert "'%d/%m/%y'" in note and "'%m/%d/%y'" in note
    (note,) = notes("y ~ k + (1 | g)", frame(["03.04.2024", "05.06.2024"]))
    assert "'%d.%m.%Y'" in note and "'%m" not in note


NUMBERS = {
    "decimal comma": (["3,5", "4,25", "-1,5", "7"], [3.5, 4.25, -1.5, 7.0]),
    "unit": (["12 ms", "13 ms", "15.5 ms"], [12.0, 13.0, 15.5]),
    "unit without a space": (["12mg", "24mg", "48mg"], [12.0, 24.0, 48.0]),
    "percent": (["5%", "10 %", "7.5%"], [5.0, 10.0, 7.5]),
    "comma and unit": (["1,5 kg", "2,5 kg", "3 kg"], [1.5, 2.5, 3.0]),
    "thousands": (["1,234", "12,345", "1,234,567"], [1234.0, 12345.0, 1234567.0]),
    "decimals": (["1.5", "2", "1e3"], [1.5, 2.0, 1000.0]),
    "exceptions": (["1", "2", "3", "4", "5", "k. A."], [1.0, 2.0, 3.0, 4.0, 5.0, np.nan]),
    "times": (["10:30", "11:45"], [10.5, 11.75]),
    "times with seconds": (["10:30:36", "11:45:00"], [10.51, 11.75]),
}


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers_as_text_are_noted_with_a_conversion(kind: str, library: str) -> None:
    texts, values = NUMBERS[kind]
    plain = frame(texts)
    data = pl.from_pandas(plain) if library == "polars" else plain.copy()
    (note,) = notes("y ~ k + (1 | g)", data)
    assert f"a factor with {len(texts)} levels" in note
    assert "numbers as text" in {finding.rule for finding in bl.lint("y ~ k + (1 | g)", data).findings}
    statements = [part.split(" (or ")[0] for part in note.split("For a slope: ")[1].removesuffix(".").split(", or ")]
    scope = {"data": data, "pl": pl, "pandas": pd}
    exec(statements[-1], scope)
    expected = plain["k"].map(dict(zip(texts, values, strict=True))).to_numpy(dtype=float)
    np.testing.assert_allclose(scope["data"]["k"].to_numpy().astype(float), expected, rtol=1e-15)


def test_a_comma_that_could_be_either_is_said_to_be() -> None:
    (note,) = notes("y ~ k + (1 | g)", frame(["1,234", "2,345"]))
    assert "decimal" in note and "thousands" in note


@pytest.mark.parametrize(
    "texts",
    [
        ["a", "b"],
        ["T1", "T2"],
        ["1st", "2nd", "3rd"],
        ["10a", "10b", "10c"],
        ["32.13.2024", "40.01.2024"],
        ["2024-13-01", "2024-02-30"],
        ["1-2", "3-4"],
        ["1.2.3", "1.2.4"],
        ["99:99", "88:77"],
        ["male", "12"],
    ],
)
def test_words_are_left_alone(texts: list[str]) -> None:
    assert likeness(texts) is None and not notes("y ~ k + (1 | g)", frame(texts))


def test_who_says_that_it_is_a_factor_is_believed() -> None:
    data = frame([day.isoformat() for day in DAYS])
    assert not notes("y ~ factor(k) + (1 | g)", data)
    assert not notes("y ~ k + (1 | g)", data.assign(k=data["k"].astype("category")))
    assert not notes("y ~ 1 + (1 | k)", data)
    # Whole numbers that were made text are labels on purpose more often than not: a question of the linter's.
    whole = frame(["1", "2", "3"])
    assert not notes("y ~ k + (1 | g)", whole)
    assert "numbers as text" in {finding.rule for finding in bl.lint("y ~ k + (1 | g)", whole).findings}


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_the_saturated_message_says_that_the_column_is_text(library: str) -> None:
    data = bl.load_dataset("sleepstudy").astype({"Days": str, "Subject": str})
    with pytest.raises(DesignError) as caught:
        bl.Model("Reaction ~ Days + (Days | Subject)", pl.from_pandas(data) if library == "polars" else data)
    text = str(caught.value)
    assert "`Days` holds text ('0', '1', '2', ...), so that it has a column for each of its 10 values" in text
    cure = re.search(r"If these are numbers: (data.*?\))\. ", text)
    assert cure is not None
    scope = {"data": pl.from_pandas(data) if library == "polars" else data, "pl": pl, "pandas": pd}
    exec(cure[1], scope)
    fitted = bl.Model("Reaction ~ Days + (Days | Subject)", scope["data"]).fit()
    assert fitted.criterion == pytest.approx(1743.628271913367, rel=1e-10)


def test_dates_in_a_slope_are_named_in_the_saturated_message() -> None:
    data = bl.load_dataset("sleepstudy").astype({"Days": str, "Subject": str})
    data["Days"] = "0" + (data["Days"].astype(int) + 1).astype(str).str.replace("010", "10") + ".03.2024"
    data["Days"] = data["Days"].str[-10:]
    with pytest.raises(DesignError, match=r"dates, as they look: data\['Days'\] = pandas.to_datetime"):
        bl.Model("Reaction ~ Days + (Days | Subject)", data)


def test_a_name_with_quotes_stays_a_name_in_the_advice() -> None:
    name = 'it\'s "k"'
    data = pd.DataFrame({name: ["a", "a "]})
    scope = {"data": data}
    exec(assignment("strip", name, data[name]), scope)
    assert list(scope["data"][name]) == ["a", "a"]
