"""Columns of Python objects, intervals, periods and durations: from chunks as in memory."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.errors import DesignError

N = 60
FORMS: dict[str, Any] = {
    "list": list,
    "iterator": iter,
    "function": lambda tables: lambda: iter(tables),
}


def rows(**columns: Any) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    return pd.DataFrame({"y": rng.normal(size=N), "x": rng.normal(size=N), "g": np.arange(N) % 7}).assign(**columns)


def in_chunks(data: pd.DataFrame, form: str) -> Any:
    return FORMS[form]([data[:25], data[25:]])


def objects(values: list[Any]) -> pd.Series:
    found = pd.Series([None] * len(values), dtype=object)
    found[:] = values
    return found


REFUSED = {
    "integers": objects([k % 3 for k in range(N)]),
    "floats": objects([k % 3 + 0.5 for k in range(N)]),
    "decimals": objects([Decimal(k % 3) for k in range(N)]),
    "fractions": objects([Fraction(k % 3, 7) for k in range(N)]),
    "lists": pd.Series([[1, 2]] * N),
    "dicts": pd.Series([{"a": 1}] * N),
    "arrays": pd.Series([np.array([1, 2])] * N),
    "periods": pd.Series(pd.period_range("2020", periods=N, freq="D")),
    "durations": pd.Series(pd.to_timedelta(np.arange(N), unit="D")),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", REFUSED)
def test_no_factor_is_made_of_what_is_none_in_memory(kind: str, form: str) -> None:
    if kind == "fractions" and form == "iterator":
        pytest.skip("no file holds fractions, which is said")
    data = rows(f=REFUSED[kind])
    with pytest.raises(DesignError) as in_memory:
        bl.Model("y ~ f + (1 | g)", data)
    said = str(in_memory.value).removeprefix("'f' could not be evaluated: ")
    with pytest.raises(DesignError, match=re.escape(said)):
        bl.Model("y ~ f + (1 | g)", in_chunks(data, form))


_BREAKS = pd.arrays.IntervalArray.from_breaks([0.0, 2.0, 10.0, 30.0])
TAKEN = {
    "intervals": pd.Series(_BREAKS[np.arange(N) % 3]),
    "cut": pd.cut(pd.Series(np.arange(N) % 12.0), [-1, 2, 10, 30]),
    "categories of periods": pd.Series(pd.period_range("2020", periods=4, freq="D")[np.arange(N) % 4]).astype(
        "category"
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", TAKEN)
def test_intervals_are_levels_as_in_memory(kind: str, form: str) -> None:
    data = rows(f=TAKEN[kind])
    whole = bl.Model("y ~ f + (1 | g)", data).fit()
    found = bl.Model("y ~ f + (1 | g)", in_chunks(data, form)).fit()
    assert list(found.fixef().index) == list(whole.fixef().index)
    assert found.loglik == pytest.approx(whole.loglik, rel=1e-9)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["integers", "floats", "periods", "durations"])
def test_groups_may_be_objects(kind: str, form: str) -> None:
    values = REFUSED[kind]
    data = rows(g=values if kind in ("integers", "floats") else values[np.arange(N) % 7].reset_index(drop=True))
    whole = bl.Model("y ~ x + (1 | g)", data).fit()
    found = bl.Model("y ~ x + (1 | g)", in_chunks(data, form)).fit()
    assert found.loglik == pytest.approx(whole.loglik, rel=1e-9)


def test_intervals_of_duckdb_are_durations() -> None:
    pytest.importorskip("pyarrow")
    duckdb = pytest.importorskip("duckdb")
    from bayeslmm.sources import open_source

    with duckdb.connect() as connection:
        relation = connection.sql(
            "select y::double as y, y % 5 as g, case when y = 3 then null else to_months(y::int) + to_days(2) "
            "- to_seconds(y) end as f from range(40) t(y)"
        )
        table = relation.df()
        found = pd.concat(list(open_source(relation).chunks(["y", "f"])))
        expected = table.set_index("y")["f"].astype("timedelta64[ns]").sort_index()
        pd.testing.assert_series_equal(found.set_index("y")["f"].sort_index(), expected)
        with pytest.raises(DesignError, match="'f' holds dates or durations") as chunked:
            bl.Model("y ~ f + (1 | g)", relation)
        assert "1D" in str(chunked.value)
