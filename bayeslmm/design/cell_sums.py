"""Sums over cells in place of observations: count, mean and sum of squares of the response.

All observations of a cell have the same predictors and the same levels. The likelihood then depends on their
responses through their number, mean and sum of squares about the mean alone, and any responses with these three stand
for them. Two values are enough, each with a frequency: every sum of squares, recheck and draw that knows of
frequencies is then that of the observations, with nothing added by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from bayeslmm.arguments import kind_of
from bayeslmm.design.data import read_numbers, row_names
from bayeslmm.design.design import Design, rows_of
from bayeslmm.design.dropped import SummedCells
from bayeslmm.design.names import literal
from bayeslmm.errors import DesignError
from bayeslmm.types import BoolArray, FloatArray, IntArray

_SHOWN = 5
# Beyond it not every count of rows is a double.
_LARGEST = 2.0**53
_UNIT = float(np.finfo(float).eps)
# Share of the sum of squares within cells that rounding may take: raw sums of squares and doubles that are too coarse
# beside the spread lose more.
_LOST = 1e-6
# Rounding of a sum of n squares, in units in the last place of it.
_SLACK = 8.0


@dataclass(frozen=True)
class SumColumns:
    """Columns of a table of cells that hold the sums; of the location one, of the spread one.

    Attributes
    ----------
    n : str
    mean, total : str or None
        Of the response: its mean, or its sum.
    ss, sum_sq, variance, sd : str or None
        Sum of squares about the mean, raw sum of squares, variance (n - 1 in the denominator) or standard deviation.
    n_missing : str or None
        Rows without a response, which are counted.
    """

    n: str = "n"
    mean: str | None = None
    total: str | None = None
    ss: str | None = None
    sum_sq: str | None = None
    variance: str | None = None
    sd: str | None = None
    n_missing: str | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> SumColumns:
        """The columns that arguments name; ``mean`` and ``ss`` where none is given.

        Raises
        ------
        DesignError
            No names, or two of one kind.
        """
        for what, name in given.items():
            if name is not None and not isinstance(name, str):
                raise DesignError(
                    f"{what}= is {kind_of(name)}, not the name of a column of cells. Put the numbers into the table."
                )
        named = {what: name for what, name in given.items() if name is not None}
        for kinds, default in ((("mean", "total"), "mean"), (("ss", "sum_sq", "variance", "sd"), "ss")):
            found = [what for what in kinds if what in named]
            if len(found) > 1:
                raise DesignError(
                    f"from_sums got {' and '.join(f'{what}={named[what]!r}' for what in found)}, which say the same "
                    f"of a cell in two ways. Give one of {', '.join(f'{what}=' for what in kinds)}."
                )
            if not found:
                named[default] = default
        return cls(**named)

    @property
    def given(self) -> dict[str, str]:
        """Argument to column."""
        return {what: name for what, name in vars(self).items() if name is not None}


@dataclass(frozen=True)
class CellSums:
    """What is known of the response in every cell.

    Attributes
    ----------
    n : FloatArray, shape (m,)
        Whole numbers.
    mean : FloatArray, shape (m,)
        nan where n is 0.
    ss : FloatArray, shape (m,)
        Sums of squares about the mean, 0 where n is 0 or 1.
    n_missing : FloatArray, shape (m,)
        Rows that have no response.
    """

    n: FloatArray
    mean: FloatArray
    ss: FloatArray
    n_missing: FloatArray


def read_sums(frame: pd.DataFrame, columns: SumColumns) -> CellSums:
    """Counts, means and sums of squares about the mean from a table of cells.

    Parameters
    ----------
    frame : pandas.DataFrame
        One row per cell.
    columns : SumColumns

    Raises
    ------
    DesignError
        Counts that are no whole numbers; missing, infinite or impossible sums; raw sums of squares in which too many
        digits have cancelled.
    """
    values = {what: _numbers(what, name, frame) for what, name in columns.given.items()}
    n = values["n"]
    _check_counts(columns.n, n, frame, "n is the number of observations of a cell: 0, 1, 2, ...")
    missing = values.get("n_missing", np.zeros(n.size))
    _check_counts(str(columns.n_missing), missing, frame, "n_missing counts rows of the cell that have no response.")
    some = n > 0
    mean = _mean(values, columns, n, frame)
    ss = np.where(n > 1, _squares(values, columns, n, mean, frame), 0.0)
    return CellSums(n, np.where(some, mean, np.nan), ss, missing)


def _check_counts(name: str, counts: FloatArray, frame: pd.DataFrame, remedy: str) -> None:
    with np.errstate(invalid="ignore"):
        bad = np.isnan(counts) | (counts < 0) | (counts != np.round(counts)) | (counts > _LARGEST)
    if bad.any():
        _refuse(
            f"The column {name!r} has {int(bad.sum())} value(s) that are no counts", {name: counts}, bad, frame, remedy
        )


def _numbers(what: str, name: str, frame: pd.DataFrame) -> FloatArray:
    if name not in frame:
        raise DesignError(
            f"The table of cells has no column {name!r} ({what}= of from_sums). It has: "
            f"{', '.join(map(literal, frame.columns))}. Name the columns: n= with mean= (or total=) and ss= (or "
            "sum_sq=, variance=, sd=)."
        )
    values = read_numbers(f"the column {name!r}", frame[name], frame)
    assert values is not None
    return values


def _refuse(what: str, columns: Mapping[str, FloatArray], bad: BoolArray, frame: pd.DataFrame, remedy: str) -> NoReturn:
    """An error with the values and rows concerned."""
    places = np.flatnonzero(bad)[:_SHOWN]
    texts = [", ".join(f"{name} = {values[i]:.10g}" for name, values in columns.items()) for i in places]
    more = "; ..." if int(bad.sum()) > _SHOWN else ""
    raise DesignError(f"{what}: {'; '.join(texts)}{more} (row(s) {row_names(frame.index, bad)}). {remedy}")


def _mean(values: Mapping[str, FloatArray], columns: SumColumns, n: FloatArray, frame: pd.DataFrame) -> FloatArray:
    """Means (m,) of the cells that have observations."""
    what = "mean" if columns.mean is not None else "total"
    given, some = values[what], n > 0
    bad = some & ~np.isfinite(given)
    if bad.any():
        _refuse(
            f"The column {columns.given[what]!r} is missing or infinite in {int(bad.sum())} cell(s) that have "
            "observations",
            {columns.n: n, columns.given[what]: given},
            bad,
            frame,
            f"Count only observations that have a response in {columns.n!r}, or drop the cells.",
        )
    return given if what == "mean" else given / np.where(some, n, 1.0)


def _squares(
    values: Mapping[str, FloatArray], columns: SumColumns, n: FloatArray, mean: FloatArray, frame: pd.DataFrame
) -> FloatArray:
    """Sums of squares about the mean (m,) of the cells with two observations and more."""
    what = next(kind for kind in ("ss", "sum_sq", "variance", "sd") if kind in values)
    name, given, several = columns.given[what], values[what], n > 1
    bad = several & ~np.isfinite(given)
    if bad.any():
        _refuse(
            f"The column {name!r} is missing or infinite in {int(bad.sum())} cell(s) of several observations",
            {columns.n: n, name: given},
            bad,
            frame,
            "Without it nothing is known of the residual variance there. Only cells of one observation may lack it.",
        )
    if what == "sum_sq":
        return _centred(given, name, n, mean, frame)
    # A variance or sd of one observation is undefined, and programs that say 0 say no more.
    bad = (several & (given < 0)) | ((n == 1) & ((given > 0) | (given < 0)))
    if bad.any():
        remedy = (
            "Sums of squares about the mean are not negative, and 0 of a single observation. A raw sum of squares is "
            "sum_sq=."
            if what == "ss"
            else "A spread is not negative, and there is none of a single observation."
        )
        _refuse(
            f"The column {name!r} has {int(bad.sum())} value(s) that no cell can have",
            {columns.n: n, name: given},
            bad,
            frame,
            remedy,
        )
    if what == "ss":
        return given
    return (n - 1.0) * (given if what == "variance" else given**2)


def _centred(sum_sq: FloatArray, name: str, n: FloatArray, mean: FloatArray, frame: pd.DataFrame) -> FloatArray:
    """Sums of squares about the mean from raw ones, if enough digits are left."""
    some = n > 0
    about = np.where(some, n * np.where(some, mean, 0.0) ** 2, 0.0)
    raw = np.where(some, sum_sq, 0.0)
    ss = raw - about
    rounding = _SLACK * _UNIT * np.maximum(raw, about)
    # Of one observation nothing is left but rounding.
    bad = some & ((ss < -rounding) | ((n == 1) & (ss > rounding)) | ~np.isfinite(raw))
    if bad.any():
        _refuse(
            f"The column {name!r} has {int(bad.sum())} raw sum(s) of squares that no observations can have",
            {"n": n, "mean": mean, name: sum_sq},
            bad,
            frame,
            "A raw sum of squares is at least n mean^2, and that for a single observation. Sums of squares about the "
            "mean are ss=.",
        )
    ss = np.where(n > 1, np.maximum(ss, 0.0), 0.0)
    lost = float(_UNIT * np.maximum(raw, about)[n > 1].sum())
    if lost > _LOST * float(ss.sum()) and lost > 0:
        raise DesignError(
            f"Of the raw sums of squares {name!r} (up to {raw.max():.6g}) n mean^2 has to be subtracted, and what is "
            f"left within cells, {ss.sum():.6g} in all, is known to {lost:.2g} only: digits cancel where means are "
            "large beside the spread. Use sums of squares about the mean (ss=: var_pop(y) * count(y) in SQL, the "
            "variance times n - 1 in a data frame), or subtract a constant from the response before summing."
        )
    return np.asarray(ss)


def stand_in(design: Design, mean: FloatArray, ss: FloatArray) -> Design:
    """A design of cells at their means with rows that have the sums of squares within cells, too.

    Parameters
    ----------
    design : Design
        One row per cell, with frequencies.
    mean, ss : FloatArray, shape (n,)
        Means, and sums of squares about them.

    Returns
    -------
    Design
        A cell of n observations with mean m has rows at ``m + d`` and ``m - e`` with frequencies ``n // 2`` and the
        rest, such that mean and sum of squares are those of the cell; one row where n is 1.

    Raises
    ------
    DesignError
        Doubles near the means are too coarse for the spread.
    """
    assert design.frequency is not None
    count, pair = design.frequency, design.frequency > 1
    rows = np.repeat(np.arange(design.n), 1 + pair)
    first = np.cumsum(1 + pair) - (1 + pair)
    few = count // 2
    y, frequency = mean[rows], count[rows]
    upper, lower = first[pair], first[pair] + 1
    f, g = few[pair].astype(float), (count - few)[pair].astype(float)
    y[upper] += _above(ss[pair], f, g)
    y[lower] -= _above(ss[pair], g, f)
    frequency[upper], frequency[lower] = few[pair], (count - few)[pair]
    _check_resolution(mean, ss, y - mean[rows], frequency)
    return replace(rows_of(design, rows), y=y, frequency=frequency, cells=SummedCells(first))


def _above(ss: FloatArray, f: FloatArray, g: FloatArray) -> FloatArray:
    """How far f of f + g observations stand from their mean, on one side, if the others stand together, too."""
    return np.asarray(np.sqrt(ss / (f + g) * (g / f)))


def _check_resolution(mean: FloatArray, ss: FloatArray, deviations: FloatArray, frequency: IntArray) -> None:
    given, kept = float(ss.sum()), float(frequency @ deviations**2)
    if abs(kept - given) > _LOST * given:
        sd = np.sqrt(given / frequency.sum())
        raise DesignError(
            f"The sd within cells, {sd:.3g}, is so small beside the means (up to {np.abs(mean).max():.6g}) that "
            f"numbers of 16 digits cannot hold both: of the sums of squares within cells, {given:.6g} in all, "
            f"{kept:.6g} would be left. Subtract a constant such as {np.median(mean):.6g} from the means (and from "
            "the response before summing)."
        )
