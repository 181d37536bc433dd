"""Code grouping factors over the cells that occur."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from bayeslmm.design.grouping import Grouping
from bayeslmm.design.lazy import CellNames, LevelNames, level_name
from bayeslmm.design.tables import labels_of
from bayeslmm.errors import DesignError
from bayeslmm.types import AnyArray, IntArray

__all__ = ["factorize", "group_by", "level_name"]

# Counting takes room for every value between the smallest and the largest; more than this per row is sorted instead.
_ROOM = 4


def factorize(series: pd.Series) -> tuple[IntArray, LevelNames]:
    """Codes (n,) and level names, levels in category order or sorted.

    Parameters
    ----------
    series : pandas.Series
        No missing values.
    """
    dtype = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        codes, present = _occurring(np.asarray(series.array.codes), len(dtype.categories))
        return codes, LevelNames(dtype.categories, None if present.size == len(dtype.categories) else present)
    if isinstance(dtype, np.dtype) and dtype.kind in "iu" and len(series):
        values = series.to_numpy()
        low, high = int(values.min()), int(values.max())
        if high - low < _ROOM * max(values.size, 256) and high < 2**63:
            shifted = values.astype(np.int64)
            shifted -= low
            codes, present = _occurring(shifted, high - low + 1)
            return codes, LevelNames(present + low)
    try:
        codes, levels = pd.factorize(series, sort=True)
    except TypeError:
        codes, levels = pd.factorize(series.astype(str), sort=True)
    return codes.astype(np.int64, copy=False), LevelNames(levels)


def _occurring(values: IntArray, size: int) -> tuple[IntArray, IntArray]:
    """Codes of integers in [0, size) over those that occur, and these in ascending order."""
    values = values.astype(np.int64, copy=False)
    present = np.bincount(values, minlength=size).nonzero()[0]
    if present.size == size:
        return values, present
    position = np.zeros(size, dtype=np.int64)
    position[present] = np.arange(present.size)
    return position[values], present


def group_by(columns: Mapping[str, pd.Series], factors: Sequence[str], name: str = "") -> Grouping:
    """Grouping factor of one column or of the combinations of several that occur.

    Parameters
    ----------
    columns : mapping of str to pandas.Series
    factors : sequence of str
        Columns; levels are ordered by the first, then the second, and so on.
    name : str
        What the factor is called; the columns joined by colons by default.

    Raises
    ------
    DesignError
        Different levels that would have the same name.
    """
    codes, first = factorize(columns[factors[0]])
    names: LevelNames | CellNames = first
    distinct = _distinct_names(first.values, colons=len(factors) > 1)
    for factor in factors[1:]:
        inner, inner_names = factorize(columns[factor])
        cell = codes * len(inner_names) + inner
        codes, occurring = _cells(cell, len(names) * len(inner_names))
        i, j = np.divmod(occurring, len(inner_names))
        names = CellNames(names, inner_names, i, j)
        distinct = distinct and _distinct_names(inner_names.values, colons=True)
    columns_named = ":".join(factors)
    if not distinct:
        _check_distinct(columns_named, names.resolve())
    return Grouping(name or columns_named, codes, names)


def check_names(name: str, columns: Sequence[LevelNames], names: LevelNames | CellNames) -> None:
    """Refuse different levels that would have the same name.

    Parameters
    ----------
    name : str
        The columns of the factor, joined by colons.
    columns : sequence of LevelNames
        Levels of each of them.
    names : LevelNames or CellNames
        Of the factor.

    Raises
    ------
    DesignError
    """
    if not all(_distinct_names(column.values, colons=len(columns) > 1) for column in columns):
        _check_distinct(name, names.resolve())


def _cells(cell: IntArray, size: int) -> tuple[IntArray, IntArray]:
    if size <= _ROOM * max(cell.size, 256):
        return _occurring(cell, size)
    occurring, codes = np.unique(cell, return_inverse=True)
    return codes.astype(np.int64, copy=False), occurring


def _distinct_names(values: AnyArray | pd.Index, *, colons: bool) -> bool:
    """Whether distinct levels surely have distinct names, also when joined by colons."""
    if values.dtype.kind in "iu":
        return True
    if not isinstance(values.dtype, pd.StringDtype) and pd.api.types.infer_dtype(values, skipna=False) != "string":
        return False
    if not colons:
        return True
    labels = labels_of(values) if isinstance(values, pd.Index) else values.tolist()
    return not any(":" in label for label in labels)


def _check_distinct(name: str, levels: Sequence[str]) -> None:
    if len(set(levels)) == len(levels):
        return
    twice = Counter(levels).most_common(1)[0][0]
    raise DesignError(
        f"Two different levels of {name} would both be called {twice!r}. Rename the levels so that their names differ "
        "(in a combination a:b the parts are joined by a colon)."
    )
