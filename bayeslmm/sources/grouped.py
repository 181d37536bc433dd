"""Counts, means and sums of squares of a column by the values of others: one GROUP BY, where the rows are.

Values are taken less one number near all of them (by default the first), so that sums of squares keep their digits
where values are large and alike. Engines add in an order of their own; the last digits differ from run to run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.errors import DesignError
from bayeslmm.sources.frames import joined, text_columns, with_text

_VALUE = "value of bayeslmm"
NUMBERS = ("n", "n_missing", "mean", "ss")
# Rows of partial tables that are put together when there are twice as many as cells.
_LEAST = 1 << 18


def check_cells(keys: Sequence[str], value: str) -> None:
    """Refuse columns that are not what cells are made of.

    Raises
    ------
    DesignError
    """
    if value in keys:
        raise DesignError(f"{value!r} is summed within cells, and cannot be one of the columns that make the cells.")
    taken = [name for name in keys if name in NUMBERS]
    if taken:
        raise DesignError(
            f"The column {taken[0]!r} has the name of a number of cells ({', '.join(NUMBERS)}). Rename it."
        )


def of_duckdb(relation: Any, keys: Sequence[str], value: str, shift: float | None) -> Any:
    """Cells of a relation, as an Arrow table.

    Parameters
    ----------
    relation : duckdb.DuckDBPyRelation
    keys : sequence of str
    value : str
    shift : float, optional
        What is taken off; by default the first value, which is added to the means again.
    """
    names = [quoted(name) for name in keys]
    number = f"CAST({quoted(value)} AS DOUBLE)"
    v = quoted(_VALUE)
    plain = relation.project(", ".join([*names, f"CASE WHEN isnan({number}) THEN NULL ELSE {number} END AS {v}"]))
    off = shift
    if off is None:
        first = plain.filter(f"{v} IS NOT NULL AND NOT isinf({v})").project(v).limit(1).fetchall()
        off = float(first[0][0]) if first else 0.0
    back = off if shift is None else 0.0
    less = f"({v} - CAST({off!r} AS DOUBLE))"
    # The engine refuses to take a variance of infinite values.
    spread = f"coalesce(var_pop(CASE WHEN isinf({v}) THEN NULL ELSE {less} END), 0) * count({v})"
    sums = (
        f"count({v}) AS n",
        f"count(*) - count({v}) AS n_missing",
        f"avg({less}) + CAST({back!r} AS DOUBLE) AS mean",
        f"CASE WHEN bool_or(isinf({v})) THEN CAST('nan' AS DOUBLE) ELSE {spread} END AS ss",
    )
    cells = plain.aggregate(", ".join([*names, *sums]), ", ".join(names))
    return cells.to_arrow_table() if hasattr(cells, "to_arrow_table") else cells.arrow()


def of_polars(query: Any, keys: Sequence[str], value: str, shift: float | None) -> Any:
    """Cells of a query, as an Arrow table; see `of_duckdb`."""
    import polars as pl

    v = pl.col(value).cast(pl.Float64)
    plain = query.select(*keys, v.fill_nan(None).alias(_VALUE))
    off = shift
    if off is None:
        first = plain.filter(pl.col(_VALUE).is_finite()).select(_VALUE).head(1).collect(engine="streaming")
        off = float(first.item()) if first.height else 0.0
    less = pl.col(_VALUE) - off
    sums = [
        pl.col(_VALUE).count().alias("n"),
        pl.col(_VALUE).null_count().alias("n_missing"),
        (less.mean() + (off if shift is None else 0.0)).alias("mean"),
        (less.var(ddof=0).fill_null(0.0) * pl.col(_VALUE).count()).alias("ss"),
    ]
    cells = plain.group_by(list(keys)).agg(sums) if keys else plain.select(sums)
    return cells.collect(engine="streaming").to_arrow()


def of_chunks(chunks: Iterable[pd.DataFrame], keys: Sequence[str], value: str, shift: float | None) -> pd.DataFrame:
    """Cells of chunks of rows; see `of_duckdb`."""
    parts: list[pd.DataFrame] = []
    rows, cells = 0, 0
    off = shift
    for chunk in chunks:
        values = chunk[value].to_numpy(dtype=np.float64, na_value=np.nan)
        if off is None:
            finite = values[np.isfinite(values)]
            off = float(finite[0]) if finite.size else None
        parts.append(_part(chunk, keys, values - (off or 0.0)))
        rows += len(parts[-1])
        if rows > max(2 * cells, _LEAST):
            parts = [_merged(parts, keys)]
            rows = cells = len(parts[0])
    if not parts:
        return pd.DataFrame({name: [] for name in (*keys, *NUMBERS)})
    text = frozenset[str]().union(*map(text_columns, parts))
    table = _merged(parts, keys)
    table["mean"] = table["mean"].where(table["n"] > 0) + (off or 0.0 if shift is None else 0.0)
    return with_text(table, text)


def _part(chunk: pd.DataFrame, keys: Sequence[str], values: Any) -> pd.DataFrame:
    frame = chunk[list(keys)].copy()
    frame.attrs = {}
    frame[_VALUE] = values
    groups = _groups(frame, keys)[_VALUE]
    n = groups.count()
    table = pd.DataFrame({"n": n, "n_missing": groups.size() - n, "mean": groups.mean().fillna(0.0)})
    table["ss"] = (groups.var(ddof=0) * n).where(n > 0, 0.0)
    return with_text(_columns(table, keys), text_columns(chunk) & set(keys))


def _merged(parts: Sequence[pd.DataFrame], keys: Sequence[str]) -> pd.DataFrame:
    """Cells of several tables of cells (Chan, Golub and LeVeque's formula)."""
    text = frozenset[str]().union(*map(text_columns, parts))
    frame = joined(parts).copy()
    frame.attrs = {}
    frame["nm"] = frame["n"] * frame["mean"]
    groups = _groups(frame, keys)
    total = groups[["n", "nm"]].transform("sum")
    mean = total["nm"] / total["n"].clip(lower=1)
    frame["ss"] += frame["n"] * (frame["mean"] - mean) ** 2
    frame["mean"] = mean
    table = _groups(frame, keys).agg({"n": "sum", "n_missing": "sum", "mean": "first", "ss": "sum"})
    return with_text(_columns(table, keys), text)


def _groups(frame: pd.DataFrame, keys: Sequence[str]) -> Any:
    by = list(keys) if keys else np.zeros(len(frame), dtype=np.int8)
    return frame.groupby(by, dropna=False, observed=True, sort=False)


def _columns(table: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    return table.reset_index(drop=not keys)[[*keys, *NUMBERS]]


def quoted(name: str) -> str:
    """A name in SQL.

    Examples
    --------
    >>> print(quoted('a "b" c'))
    "a ""b"" c"
    """
    return '"' + name.replace('"', '""') + '"'
