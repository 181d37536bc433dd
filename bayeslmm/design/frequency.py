"""Frequencies: rows that stand for several identical rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.design.coding import Columns
from bayeslmm.design.data import read_numbers, row_names
from bayeslmm.design.evaluate import Evaluator, called
from bayeslmm.design.formula import Formula
from bayeslmm.errors import DesignError
from bayeslmm.types import FloatArray, IntArray

_SHOWN = 5
# Beyond it not every count of rows is a double.
_LARGEST = 2.0**53
# Rows that are written out at most, where a function of whole columns has to see every copy: 80 MB for each column.
MOST_COPIES = 10_000_000


def read_frequency(frequency: Any, data: pd.DataFrame) -> FloatArray | None:
    """How many rows each row stands for (n,), nan where missing, not yet restricted to complete rows.

    Parameters
    ----------
    frequency : array or None
        One value per row.
    data : pandas.DataFrame

    Raises
    ------
    DesignError
        Wrong length, not numeric, negative numbers, no whole numbers.
    """
    values = read_numbers("frequency", frequency, data)
    if values is None:
        return None
    with np.errstate(invalid="ignore"):
        bad = ~np.isnan(values) & ((values < 0) | (values != np.round(values)) | (values > _LARGEST))
    if bad.any():
        first = ", ".join(f"{v:g}" for v in values[bad][:_SHOWN])
        raise DesignError(
            f"{int(bad.sum())} value(s) of frequency are no counts ({first} at row(s) {row_names(data.index, bad)}). "
            "A frequency says how many identical rows a row of the data stands for: 0, 1, 2, ... A number that says "
            "how precisely a row was measured, with residual variance sigma^2 / w (an average of w measurements, R's "
            "weights), is a precision weight: pass it as weights= instead."
        )
    return values


def evaluator_on_copies(
    pieces: Sequence[str],
    columns: Mapping[str, pd.Series],
    contrasts: Mapping[str, Any],
    namespace: Mapping[str, Any],
    frequency: IntArray | None,
) -> Evaluator:
    """An evaluator for which every row counts as often as it occurs.

    Parameters
    ----------
    pieces : sequence of str
        Texts that will be evaluated.
    columns, contrasts, namespace : mapping
        As for `Evaluator`.
    frequency : IntArray or None, shape (n,)

    Returns
    -------
    Evaluator
        One of the rows as they are, unless `pieces` call functions of the user's own: these see the rows written out.
    """
    if frequency is None:
        return Evaluator(columns, contrasts, namespace)
    text = next((text for text in pieces if "own" in called(text, namespace)), None)
    if text is None:
        return Evaluator(columns, contrasts, namespace, frequency)
    check_copies(frequency, text)
    return _OnCopies(columns, contrasts, namespace, frequency)


def check_copies(frequency: IntArray, text: str = "a function of the formula") -> None:
    """Refuse to write out more rows than memory should be taken for.

    Parameters
    ----------
    frequency : IntArray, shape (n,)
    text : str
        What needs all copies of a row.

    Raises
    ------
    DesignError
    """
    # As doubles, since the sum of counts may be larger than an integer of 64 bits.
    total = float(frequency.sum(dtype=float))
    if total > MOST_COPIES:
        raise DesignError(
            f"{text!r} calls a function of your own, which has to see every row as often as frequency says: "
            f"{total:,.0f} rows of {frequency.size:,} (limit {MOST_COPIES:,}), {total * 8 / 1e9:,.1f} GB for each "
            "column. Compute the column beforehand and use it in the formula; the functions that formulas know "
            "(log(x), scale(x), poly(x, 2), mean(x), ...) take any frequency."
        )


def formula_pieces(formula: Formula) -> list[str]:
    """Texts of a formula that are evaluated to columns."""
    return [formula.response, formula.fixed, *formula.offsets, *(bar.left for bar in formula.bars)]


def row_by_row(text: str, namespace: Mapping[str, Any]) -> bool:
    """Whether all functions called in a text give each row its value without regard to the others.

    Examples
    --------
    >>> [row_by_row(text, {}) for text in ("np.log(x) + I(x**2)", "scale(x)", "x - np.mean(x)")]
    [True, False, False]
    """
    return called(text, namespace) <= {"element", "condition", "factor"}


class _OnCopies(Evaluator):
    """Evaluates on the rows written out, so that means, quantiles and knots are those of all observations."""

    def __init__(
        self,
        columns: Mapping[str, pd.Series],
        contrasts: Mapping[str, Any],
        namespace: Mapping[str, Any],
        frequency: IntArray,
    ) -> None:
        copies = np.repeat(np.arange(frequency.size), frequency)
        super().__init__({name: series.iloc[copies] for name, series in columns.items()}, contrasts, namespace)
        self._first = np.cumsum(frequency) - frequency

    def columns(self, right: str, observations: int | None = None) -> Columns:
        values, names = super().columns(right, observations)
        return values[self._first], names

    def vector(self, text: str) -> FloatArray:
        values: FloatArray = super().vector(text)
        return np.asarray(values[self._first])
