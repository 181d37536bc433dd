"""Columns of a design on the rows of a chunk, with means, knots, levels and contrasts of all rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.design import data as checks
from bayeslmm.design.evaluate import Evaluator
from bayeslmm.design.magnitude import surely_ordinary
from bayeslmm.design.recipe import Column
from bayeslmm.errors import DesignError
from bayeslmm.streaming.level_sets import LevelTable
from bayeslmm.streaming.question import Question, UsableRows
from bayeslmm.types import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Training:
    """What the formula's functions know of all rows.

    Attributes
    ----------
    question : Question
    columns : dict of str to Column
        Some rows that stand for all: a few of a column that is looked at value by value, its levels of a factor.
    tables : dict of str to LevelTable
        Of the columns that are no numbers.
    counts : IntArray or None
        How often each of the rows counts, where functions look at whole columns.
    observations : int or None
        Of all rows, where they have been counted.
    """

    question: Question
    columns: Mapping[str, Column]
    tables: Mapping[str, LevelTable] = field(default_factory=dict)
    counts: IntArray | None = None
    observations: int | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "evaluator"}

    @cached_property
    def evaluator(self) -> Evaluator:
        """Of these rows; all pieces of the formula have been evaluated on them, so that their faults have been said."""
        rows = max([1, *(column.values.shape[0] for column in self.columns.values())])
        rows = rows if self.counts is None else self.counts.size
        columns = {name: column.series(rows) for name, column in self.columns.items()} or {"": pd.Series([0.0])}
        return Evaluator(columns, self.question.contrasts, self.question.namespace, self.counts)

    def on(self, chunk: UsableRows) -> Evaluator:
        """An evaluator of the rows of a chunk."""
        columns = {name: self._alike(name, chunk.columns[name]) for name in self.columns}
        return self.evaluator.on(columns, chunk.n)

    def _alike(self, name: str, series: pd.Series) -> pd.Series:
        """A column of a chunk as one of the kind that the first pass has found."""
        kind = self.columns[name].kind
        if kind == "factor":
            column = self.columns[name]
            codes = self.tables[name].codes(series)
            dtype = pd.CategoricalDtype(pd.Index(list(column.levels), tupleize_cols=False), column.ordered)
            return pd.Series(pd.Categorical.from_codes(codes, dtype=dtype))
        if kind == "time":
            return series
        numeric = pd.api.types.is_numeric_dtype(series.dtype)
        if not numeric:
            raise DesignError(
                f"Column {name!r} holds {'numbers' if kind == 'number' else 'true and false'} in the first chunk, and "
                f"{series.dtype} with values such as {series.iloc[0]!r} in another. All chunks need one type."
            )
        return series.astype(bool if kind == "boolean" else float)


@dataclass(frozen=True)
class EvaluatedColumns:
    """Columns on the rows of a chunk.

    Attributes
    ----------
    X : FloatArray, shape (n, p)
        All columns of the fixed part, also those that others span.
    Z : tuple of FloatArray, each (n, c)
        Columns of the random terms.
    y : FloatArray, shape (n,)
        The response.
    offset : FloatArray or None, shape (n,)
    """

    X: FloatArray
    Z: tuple[FloatArray, ...]
    y: FloatArray
    offset: FloatArray | None

    @property
    def y_less_offset(self) -> FloatArray:
        """What fixed and random effects have to explain."""
        return self.y if self.offset is None else self.y - self.offset


def evaluated(training: Training, chunk: UsableRows, start: int = 0) -> EvaluatedColumns:
    """Evaluate all that is needed of a chunk.

    Parameters
    ----------
    training : Training
    chunk : UsableRows
        At least one row.
    start : int
        Number of the first row of the chunk among those of the data, for messages.

    Raises
    ------
    DesignError
        Infinite or undefined values.
    """
    formula = training.question.formula
    own = training.on(chunk)
    y = np.asarray(own.vector(formula.response))
    X, names = own.columns(formula.fixed)
    index = _Labels(chunk, start)
    offset = None
    for text in formula.offsets:
        values = np.broadcast_to(own.vector(text), (chunk.n,))
        index.check(f"offset({text})", values)
        offset = values if offset is None else offset + values
    if not surely_ordinary(y[:, None]):
        index.check(f"The response {formula.response}", y)
    _check(X, [f"The fixed-effects column {name}" for name in names], index)
    Z = []
    for bar in formula.bars:
        columns, effects = own.columns(bar.left)
        _check(columns, [f"The column {name} of {bar.label}" for name in effects], index)
        Z.append(columns)
    return EvaluatedColumns(X, tuple(Z), y, offset)


@dataclass(frozen=True)
class _Labels:
    """Numbers of the rows of a chunk, made when a message needs them."""

    chunk: UsableRows
    start: int

    def check(self, what: str, values: FloatArray) -> None:
        if not np.isfinite(values).all():
            places = self.chunk.places
            rows = np.arange(self.chunk.n) if isinstance(places, slice) else places
            checks.check_finite_result(what, values, pd.Index(rows + self.start))


def _check(columns: FloatArray, names: list[str], index: _Labels) -> None:
    if surely_ordinary(columns):
        return
    for name, column in zip(names, columns.T, strict=True):
        index.check(name, column)
