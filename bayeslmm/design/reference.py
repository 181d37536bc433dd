"""What means over a reference grid need to know of the data: centres of numeric columns, counts of cells of factors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from bayeslmm.design import kinds
from bayeslmm.design.lazy import Deferred
from bayeslmm.equality import by_value
from bayeslmm.types import FloatArray, IntArray

# Distinct values of a numeric column that are remembered.
MOST_VALUES = 64


@by_value
@dataclass(frozen=True, eq=False)
class Covariate:
    """A numeric column: its centre, its range, and its values where they are few.

    Attributes
    ----------
    mean, median, low, high : float
    values : FloatArray, shape (k,)
        Sorted; empty if there are more than 64.
    """

    mean: float
    median: float
    low: float
    high: float
    values: FloatArray


@by_value
@dataclass(frozen=True, eq=False)
class ReferenceData:
    """Summary of the columns that the fixed part uses.

    Attributes
    ----------
    covariates : dict of str to Covariate
    factors : tuple of str
        Columns that are factors, true or false, or numbers that the formula makes a factor of; and covariates with two
        values, which are counted as if they were.
    levels : tuple of tuple
        Levels of each, in their order.
    cells : IntArray, shape (c, f)
        The combinations of levels that occur.
    counts : IntArray, shape (c,)
        Their rows; of rows that stand for several observations, the observations.
    """

    covariates: dict[str, Covariate] = field(default_factory=dict)
    factors: tuple[str, ...] = ()
    levels: tuple[tuple[object, ...], ...] = ()
    cells: IntArray = field(default_factory=lambda: np.empty((0, 0), dtype=np.int64))
    counts: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))


@dataclass(frozen=True, eq=False)
class PendingReference(Deferred[ReferenceData]):
    """Columns of the fixed part not yet looked at.

    Attributes
    ----------
    series : mapping of str to pandas.Series
    coded : sequence of str
        Numeric columns that the formula makes factors of.
    frequency : IntArray or None, shape (n,)
    """

    series: Mapping[str, pd.Series]
    coded: Sequence[str]
    frequency: IntArray | None = None

    def resolve(self) -> ReferenceData:
        return summarised(self.series, self.coded, self.frequency)


def summarised(
    series: Mapping[str, pd.Series], coded: Sequence[str] = (), frequency: IntArray | None = None
) -> ReferenceData:
    """The summary of some columns.

    Examples
    --------
    >>> found = summarised({"x": pd.Series([1.0, 2.0, 6.0]), "f": pd.Series(["b", "a", "b"])})
    >>> found.covariates["x"].mean, found.levels, found.cells.tolist(), found.counts.tolist()
    (3.0, (('a', 'b'),), [[0], [1]], [1, 2])
    """
    covariates, codes, levels = dict[str, Covariate](), dict[str, IntArray](), list[tuple[object, ...]]()
    for name, column in series.items():
        if kinds.time_kind(column) is not None:
            continue
        if _numeric(column) and name not in coded:
            covariates[name] = _covariate(column.to_numpy(dtype=float), frequency)
            if len(covariates[name].values) != 2:
                continue
        codes[name], own = _coded(column)
        levels.append(own)
    n = len(next(iter(series.values()))) if series else 0
    table = np.column_stack(list(codes.values())) if codes else np.empty((n, 0), dtype=np.int64)
    if not codes:
        return ReferenceData(covariates)
    cells, place = np.unique(table, axis=0, return_inverse=True)
    counts = np.bincount(place.ravel(), frequency, len(cells)).astype(np.int64)
    return ReferenceData(covariates, tuple(codes), tuple(levels), cells.astype(np.int64), counts)


def _numeric(column: pd.Series) -> bool:
    dtype = column.dtype
    return bool(pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype))


def _covariate(values: FloatArray, frequency: IntArray | None) -> Covariate:
    distinct = np.unique(values)
    if frequency is not None:
        values = np.repeat(values, frequency)
    few = distinct if len(distinct) <= MOST_VALUES else np.empty(0)
    return Covariate(
        float(values.mean()), float(np.median(values)), float(distinct[0]), float(distinct[-1]), np.asarray(few)
    )


def _coded(column: pd.Series) -> tuple[IntArray, tuple[object, ...]]:
    if isinstance(column.dtype, pd.CategoricalDtype):
        array = column.array.remove_unused_categories()
        return np.asarray(array.codes, dtype=np.int64), tuple(array.categories.tolist())
    if not pd.api.types.is_numeric_dtype(column.dtype):
        levels = sorted(pd.unique(column).tolist(), key=lambda value: (str(type(value)), value))
        return np.asarray(pd.Categorical(column, levels).codes, dtype=np.int64), tuple(levels)
    distinct, codes = np.unique(column.to_numpy(), return_inverse=True)
    return np.asarray(codes, dtype=np.int64), tuple(distinct.tolist())
