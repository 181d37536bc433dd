"""What is taken for data: names of columns that are no text, times, numbers as objects, and what is no table at all."""

from __future__ import annotations

import datetime as dt
import decimal
import fractions
import pathlib
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import bayeslmm as bl
from bayeslmm.errors import DesignError

RNG = np.random.default_rng(5)
N = 40
Y, X = RNG.normal(size=N), RNG.normal(size=N)
G = np.repeat(list("abcdefgh"), 5)
DAYS = [dt.date(2024, 1, 1) + dt.timedelta(days=i % 10) for i in range(N)]


def frame(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"y": Y, "x": X, "g": G}).assign(**columns)


def refused(formula: str, data: Any, **options: Any) -> str:
    with pytest.raises(DesignError) as caught:
        bl.Model(formula, data, **options)
    return str(caught.value)


ODD_NAMES = [
    1,
    -2.5,
    True,
    None,
    float("nan"),
    b"x",
    ("a", 1),
    pd.Timestamp("2024-01-01"),
    dt.date(2024, 1, 1),
    fractions.Fraction(1, 2),
    np.int64(7),
    pd.Interval(0, 1),
]


@pytest.mark.parametrize("name", ODD_NAMES, ids=repr)
@pytest.mark.parametrize("formula", ["y ~ `{0}` + (1 | g)", "y ~ 1 + (`{0}` | g)", "y ~ I(`{0}` * 2) + (1 | g)"])
def test_columns_are_found_under_the_text_of_their_names(name: Any, formula: str) -> None:
    data = frame()
    data.columns = pd.Index(["y", name, "g"], dtype=object)
    model = bl.Model(formula.format(name), data)
    plain = bl.Model(formula.format("x"), frame())
    np.testing.assert_array_equal(model.design.X, plain.design.X)
    np.testing.assert_array_equal(model.design.terms[0].Z, plain.design.terms[0].Z)
    assert data.columns[0] == "y" and len(data.columns) == 3 and not isinstance(data.columns[1], str)


def test_a_frame_of_an_array_fits_predicts_and_is_linted() -> None:
    codes = np.repeat(np.arange(8.0), 5)
    data = pd.DataFrame(np.c_[Y, X, codes])
    formula = "`0` ~ `1` + (1 | `2`)"
    fit = bl.Model(formula, data, weights="`1`**2 + 1").fit()
    plain = bl.Model("y ~ x + (1 | g)", frame(g=codes), weights="x**2 + 1").fit()
    assert fit.criterion == plain.criterion
    np.testing.assert_array_equal(fit.predict(data.iloc[:3]).to_numpy(), plain.predict(frame(g=codes)[:3]).to_numpy())
    assert bl.lint(formula, data).with_data


@pytest.mark.parametrize("names", [[1, "1", "g"], [("a",), "('a',)", "g"]], ids=str)
def test_two_columns_with_one_text_are_refused(names: list[Any]) -> None:
    data = frame()
    data.columns = pd.Index(names, dtype=object)
    assert "2 columns named" in refused(f"`{names[1]}` ~ 1 + (1 | g)", data)


def test_columns_of_two_levels_are_suggested() -> None:
    data = frame()
    data.columns = pd.MultiIndex.from_tuples([("y", "first"), ("x", "first"), ("g", "first")])
    assert "Did you mean `('y', 'first')`?" in refused("y ~ x + (1 | g)", data)
    assert bl.Model("`('y', 'first')` ~ 1 + (1 | `('g', 'first')`)", data).n == N


ARROW_DAYS = pd.array(DAYS, dtype=pd.ArrowDtype(pa.date32()))
TIMES = {
    "dates": DAYS,
    "dates with gaps": [None, *DAYS[1:]],
    "arrow dates": ARROW_DAYS,
    "arrow times": pd.array([dt.datetime(2024, 1, 1 + i % 10) for i in range(N)], dtype="timestamp[ns][pyarrow]"),
    "arrow durations": pd.array([dt.timedelta(days=i % 10) for i in range(N)], dtype="duration[ns][pyarrow]"),
    "arrow clocks": pd.array([dt.time(i % 10) for i in range(N)], dtype=pd.ArrowDtype(pa.time64("us"))),
    "durations": pd.Series([dt.timedelta(days=i % 10) for i in range(N)]),
    "duration objects": pd.Series([dt.timedelta(days=i % 10) for i in range(N)], dtype=object),
    "time objects": pd.Series([dt.datetime(2024, 1, 1 + i % 10) for i in range(N)], dtype=object),
    "two kinds of dates": pd.Series([*DAYS[1:], dt.datetime(2024, 1, 1)], dtype=object),
    "zones": pd.Series(pd.to_datetime(DAYS)).dt.tz_localize("Europe/Berlin"),
    "clocks": pd.Series([dt.time(i % 10) for i in range(N)]),
    "periods": pd.Series(pd.period_range("2024-01", periods=N, freq="M")),
    "NumPy's": pd.Series([np.datetime64("2024-01-01") + np.timedelta64(i % 10, "D") for i in range(N)], dtype=object),
}


@pytest.mark.parametrize("kind", TIMES)
@pytest.mark.parametrize("formula", ["y ~ t + (1 | g)", "y ~ 1 + (t | g)", "y ~ x:t + (1 | g)"])
def test_times_are_no_predictors_until_they_have_a_unit(kind: str, formula: str) -> None:
    text = refused(formula, frame(t=TIMES[kind]))
    assert "dates or durations" in text and "unit" in text and "pandas" in text


@pytest.mark.parametrize("kind", TIMES)
def test_times_as_a_response_are_refused(kind: str) -> None:
    assert "dates or durations" in refused("t ~ x + (1 | g)", frame(t=TIMES[kind]))


@pytest.mark.parametrize("kind", [kind for kind in TIMES if kind != "periods"])
@pytest.mark.parametrize("formula", ["y ~ x + (1 | t)", "y ~ factor(t) + (1 | g)"])
def test_times_are_levels_where_levels_are_asked_for(kind: str, formula: str) -> None:
    data = frame(t=TIMES[kind])
    design = bl.Model(formula, data).design
    values = data["t"].dropna()
    assert design.p + design.q - (2 if "factor" not in formula else 8) == len(set(values))


@pytest.mark.parametrize(
    ("values", "words", "convert"),
    [
        ([fractions.Fraction(i % 10, 3) for i in range(N)], "fractions", lambda s: s.astype(float)),
        ([decimal.Decimal(i % 10) for i in range(N)], "numbers", pd.to_numeric),
        (np.array([i % 10 for i in range(N)], dtype=object), "numbers", pd.to_numeric),
        ([i % 10 if i % 2 else fractions.Fraction(1, 3) for i in range(N)], "fractions", lambda s: s.astype(float)),
        (np.array([complex(i % 10) for i in range(N)], dtype=object), "complex", lambda s: s.map(lambda z: z.real)),
    ],
)
def test_numbers_as_objects_are_refused_with_a_conversion_that_works(values: Any, words: str, convert: Any) -> None:
    data = frame(t=values)
    data["t"] = data["t"].astype(object)
    text = refused("y ~ t + (1 | g)", data)
    assert words in text and "Convert it" in text
    assert bl.Model("y ~ t + (1 | g)", frame(t=convert(data["t"]))).p == 2


def test_cells_that_hold_lists_are_named() -> None:
    assert "holds a list in each cell" in refused("y ~ t + (1 | g)", frame(t=[[i % 3] for i in range(N)]))


@pytest.mark.parametrize("library", ["arrow", "nullable"])
def test_nan_inside_types_with_missing_values_is_missing(library: str) -> None:
    values = X.copy()
    values[[3, 9]] = np.nan
    if library == "arrow":
        column = pd.Series(pd.arrays.ArrowExtensionArray(pa.array(values)))
    else:
        column = pd.Series(pd.arrays.FloatingArray(values, np.zeros(N, dtype=bool)))
    data = frame(x=column)
    model = bl.Model("y ~ x + (1 | g)", data)
    assert model.dropped.labels == (3, 9) and list(model.dropped.reasons) == ["missing x"]
    with pytest.warns(bl.BayesLMMWarning, match="missing x: 3, 9"):
        predicted = model.fit().predict(data)
    assert np.flatnonzero(predicted["estimate"].isna()).tolist() == [3, 9]
    assert "missing values" in {finding.rule for finding in bl.lint("y ~ x + (1 | g)", data).findings}


@pytest.mark.parametrize("shift", [0, 2**63 - 20, 2**64])
def test_integers_of_128_bits(shift: int) -> None:
    values = [shift + i % 10 for i in range(N)]
    data = pl.DataFrame({"y": Y, "x": X, "g": pl.Series(values, dtype=pl.Int128)})
    grouping = bl.Model("y ~ x + (1 | g)", data).design.groupings["g"]
    assert [int(grouping.levels[code]) for code in grouping.codes] == values
    if not shift:
        design = bl.Model("y ~ g + (1 | x)", data, saturated="allow").design
        np.testing.assert_array_equal(design.X[:, 1], np.array(values, dtype=float))


@pytest.mark.parametrize("power", ["²", "^²", "**²", "^٢"])
def test_digits_that_are_no_numbers_to_a_formula(power: str) -> None:
    with pytest.raises(bl.FormulaError):
        bl.Model(f"y ~ (x + g){power} + (1 | g)", frame())


@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_advice_is_in_the_language_of_the_table(library: str) -> None:
    data = pl.DataFrame({"y": Y, "g": G, "t": DAYS})
    text = refused("y ~ t + (1 | g)", data if library == "polars" else data.to_arrow())
    assert ("pl.col('t')" in text) == (library == "polars") and ("pandas" in text) == (library == "pyarrow")
    assert "pl.col('g')" in refused("g ~ 1 + (1 | t)", data)


NO_TABLES = {
    "a file": ("clean.csv", "pandas.read_csv('clean.csv')"),
    "a path": (pathlib.Path("data/clean.xlsx"), "pandas.read_excel('data/clean.xlsx')"),
    "a workbook": ("x.XLSX", "pandas.read_excel('x.XLSX')"),
    "a data set": ("dyestuff", "bl.load_dataset('Dyestuff')"),
    "nearly a data set": ("sleepstudi", "Did you mean bl.load_dataset('sleepstudy')"),
    "the formula": ("y ~ x + (1 | g)", "The formula comes first"),
    "a dict": ({"y": [1.0]}, "pandas.DataFrame(data)"),
    "rows": ([{"y": 1.0}], "pandas.DataFrame(data)"),
    "lists": ([[1.0, 2.0]], "columns="),
    "an array": (np.zeros((3, 2)), "columns=['x0', 'x1']"),
    "a vector": (np.zeros(3), "pandas.DataFrame({"),
    "records": (np.zeros(3, dtype=[("y", float)]), "pandas.DataFrame(data)"),
    "a Series": (pd.Series([1.0]), "several columns"),
    "polars' Series": (pl.Series([1.0]), "several columns"),
    "nothing": (None, "None"),
    "a number": (3, "an int"),
    "groups": (frame().groupby("g"), "that was grouped"),
    "a dataset of xarray": (frame().to_xarray(), "data.to_dataframe().reset_index()"),
}


@pytest.mark.parametrize("kind", NO_TABLES)
def test_what_is_no_table_is_told_how_to_become_one(kind: str) -> None:
    data, remedy = NO_TABLES[kind]
    text = refused("y ~ x + (1 | g)", data)
    assert text.startswith("data is ") and "not a data frame" in text and remedy in text


# Read chunk by chunk: what is wrong with them, and what is to be done.
WRONG_SOURCES = {
    "no such file": (pathlib.Path("data/clean.parquet"), "no file 'data/clean.parquet'", "working folder is"),
    "no such files": ("data/*.parquet", "data/*.parquet", "working folder is"),
    "a lazy frame": (pl.LazyFrame({"y": [1.0]}), "'x', which is not a column", "Columns are: y."),
    "a function of something": (bl.load_dataset, "missing a required argument: 'name'", "Call it and give what"),
    "a function of a table": (lambda: frame(), "returned a DataFrame", "call it and give what"),
    "a function of numbers": (lambda: iter([3]), "Chunk 0", "Give pandas, polars or pyarrow tables"),
    "a function of nothing": (lambda: iter(()), "gave no table", "read before?"),
}


@pytest.mark.parametrize("kind", WRONG_SOURCES)
def test_what_is_wrong_with_a_source_is_said(kind: str) -> None:
    data, found, remedy = WRONG_SOURCES[kind]
    text = refused("y ~ x + (1 | g)", data)
    assert found in text and remedy in text


def test_sources_are_taken_as_tables_are() -> None:
    memory = bl.Model("y ~ x + (1 | g)", frame()).fit()
    for data in (pl.LazyFrame(frame()), lambda: iter([frame()[:20], frame()[20:]])):
        fit = bl.Model("y ~ x + (1 | g)", data, progress=False).fit()
        assert fit.criterion == pytest.approx(memory.criterion, rel=1e-9)


@pytest.mark.parametrize("sep", [";", "\t", "|"])
def test_a_table_of_one_column_is_a_guess_at_the_separator(sep: str) -> None:
    data = pd.DataFrame({sep.join(["y", "x", "g"]): ["1", "2"]})
    text = refused("y ~ x + (1 | g)", data)
    assert f"the separator seems to be {sep!r}" in text and f"pandas.read_csv(file, sep={sep!r})" in text


def test_tables_that_cannot_be_converted_are_refused_in_our_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise pa.ArrowInvalid("Invalid or unsupported format string")

    monkeypatch.setattr(pl.DataFrame, "to_pandas", fail)
    text = refused("y ~ 1 + (1 | g)", pl.DataFrame({"y": Y, "g": G}))
    assert "cannot be converted: ArrowInvalid" in text and "y (Float64), g (String)" in text


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (pd.Series(pd.date_range("2020", periods=N)), "dates"),
        (pd.date_range("2020", periods=N), "dates"),
        (pd.date_range("2020", periods=N) - pd.Timestamp("2019"), "durations"),
        (DAYS, "dates"),
        (["2"] * N, "text"),
        (X + 1j, "complex"),
        ([2 + 0j] * N, "complex"),
        ("c", "complex"),
        ("c * 2", "complex"),
        ("t", "not numeric"),
        ("s", "not numeric"),
    ],
)
def test_weights_that_are_no_numbers_are_refused(weights: Any, words: str) -> None:
    data = frame(c=X + 1j, t=pd.date_range("2020", periods=N), s="2")
    assert words in refused("y ~ x + (1 | g)", data, weights=weights)


def test_masked_weights_are_missing() -> None:
    masked = np.ma.array(np.r_[1000.0, np.ones(N - 1)], mask=[True] + [False] * (N - 1))
    assert bl.Model("y ~ x + (1 | g)", frame(), weights=masked).dropped.labels == (0,)


# --- dates of new rows -----------------------------------------------------------------------------------------------

STAMPS = pd.Series(pd.to_datetime(DAYS))
SAME_DAY = ["2024-01-03", "2024-01-03 00:00:00", dt.date(2024, 1, 3), pd.Timestamp("2024-01-03")]
SAME_DAY += [np.datetime64("2024-01-03"), dt.datetime(2024, 1, 3)]


@pytest.mark.parametrize(
    "trained", [STAMPS, pd.Series(DAYS, dtype=object), ARROW_DAYS], ids=["stamps", "dates", "arrow"]
)
@pytest.mark.parametrize("day", SAME_DAY, ids=repr)
def test_a_day_is_the_same_however_it_is_written(trained: Any, day: Any) -> None:
    data = frame(t=trained)
    new = pd.DataFrame({"t": pd.Series([day], dtype=object), "x": [0.5], "g": ["b"]})
    rows = data.iloc[[2]].assign(x=0.5, g="b")
    for formula in ("y ~ x + (1 | t)", "y ~ factor(t) + x + (1 | g)"):
        fit = bl.Model(formula, data).fit()
        np.testing.assert_array_equal(fit.predict(new).to_numpy(), fit.predict(rows).to_numpy())


def test_labels_of_days_have_no_midnight_and_those_of_hours_keep_it() -> None:
    hours = STAMPS + pd.to_timedelta(np.arange(N) % 2, unit="h")
    assert bl.Model("y ~ x + (1 | t)", frame(t=STAMPS)).design.groupings["t"].levels[0] == "2024-01-01"
    assert "2024-01-02 01:00:00" in bl.Model("y ~ x + (1 | t)", frame(t=hours)).design.groupings["t"].levels


@pytest.mark.parametrize("day", ["03.01.2024", "soon", 3.0])
def test_what_is_no_day_is_said_to_be_another_kind(day: Any) -> None:
    fit = bl.Model("y ~ factor(t) + (1 | g)", frame(t=STAMPS)).fit()
    with pytest.raises(DesignError, match="held dates or durations"):
        fit.predict(pd.DataFrame({"t": [day], "g": ["b"]}))


def test_days_survive_saving(tmp_path: pathlib.Path) -> None:
    for column in (STAMPS, pd.Series(DAYS, dtype=object)):
        fit = bl.Model("y ~ factor(t) + (1 | g)", frame(t=column)).fit()
        fit.save(tmp_path / "fit.npz", overwrite=True)
        new = pd.DataFrame({"t": ["2024-01-05"], "g": ["c"]})
        pd.testing.assert_frame_equal(bl.load(tmp_path / "fit.npz").predict(new), fit.predict(new))
