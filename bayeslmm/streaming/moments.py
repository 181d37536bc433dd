"""The pass in which columns are measured: one triangular factor of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from bayeslmm.streaming.evaluated import EvaluatedColumns, Training, evaluated
from bayeslmm.streaming.question import RowsLeftOut, UsableRows, usable
from bayeslmm.streaming.state import both, sums_of
from bayeslmm.streaming.triangle import Triangle
from bayeslmm.types import FloatArray


@dataclass(frozen=True)
class Shift:
    """What is subtracted from columns before they are measured, so that they may be far from zero.

    Attributes
    ----------
    columns : FloatArray, shape (k - 1,)
        From the columns of X and of the random terms: their means in the first chunk.
    level : float
        From the response less the offset: its first value, which is exact where responses agree in leading digits.
    drift : float
        From what is left of it: the mean in the first chunk.
    """

    columns: FloatArray
    level: float
    drift: float

    def apply(self, columns: Sequence[FloatArray]) -> FloatArray:
        """Shifted columns (k, n) of the k columns, of which the last one is the response less the offset."""
        rows = np.empty((len(columns), columns[-1].size))
        for own, column, shift in zip(rows, columns, self.columns, strict=False):
            np.subtract(column, shift, out=own)
        np.subtract(columns[-1], self.level, out=rows[-1])
        rows[-1] -= self.drift
        return rows


def all_columns(found: EvaluatedColumns) -> list[FloatArray]:
    """Columns (n,) of the fixed part, of the random terms, and the response less the offset."""
    return [*found.X.T, *(column for z in found.Z for column in z.T), found.y_less_offset]


def shift_of(found: EvaluatedColumns) -> Shift:
    """From the columns of the first chunk."""
    columns = np.concatenate([found.X, *found.Z], axis=1)
    means = columns.mean(axis=0)
    constant = (columns == columns[:1]).all(axis=0)
    y = found.y_less_offset
    level = float(y[0])
    return Shift(np.where(constant, columns[0], means), level, float((y - level).mean()))


@dataclass
class ColumnMoments:
    """Measures of all columns of the rows seen so far.

    Attributes
    ----------
    triangle : Triangle
    response : FloatArray, shape (5,)
        Observations, mean, sum of squares about it, least and largest response, the offset not subtracted.
    rows : int
        Rows of the data, also those that cannot be used.
    several : frozenset of int
        Random terms, of those that were asked about, of which some row has several effects.
    """

    triangle: Triangle
    response: FloatArray = field(default_factory=lambda: np.array([0.0, 0.0, 0.0, np.inf, -np.inf]))
    rows: int = 0
    several: frozenset[int] = frozenset()

    def add(self, plan: MomentsPlan, chunk: UsableRows, found: EvaluatedColumns) -> None:
        """A chunk, of which at least one row can be used."""
        self.several |= {k for k in plan.ordered if (np.count_nonzero(found.Z[k], axis=1) > 1).any()}
        weights = chunk.row_weights
        frequency = None if chunk.frequency is None else chunk.frequency.astype(float)
        columns = all_columns(found)
        self.triangle.look(columns)
        self.triangle.add(plan.shift.apply(columns), frequency, weights)
        self.response = both(self.response, sums_of(found.y, chunk.frequency))

    def merge(self, other: ColumnMoments) -> ColumnMoments:
        """Rows of both."""
        response = both(self.response, other.response)
        rows, several = self.rows + other.rows, self.several | other.several
        return ColumnMoments(self.triangle.merge(other.triangle), response, rows, several)


@dataclass(frozen=True)
class MomentsPlan:
    """How a chunk is measured.

    Attributes
    ----------
    training : Training
    shift : Shift
    weighted : bool
    ordered : tuple of int
        Random terms whose rows may have one effect each.
    """

    training: Training
    shift: Shift
    weighted: bool
    ordered: tuple[int, ...] = ()

    def empty(self) -> ColumnMoments:
        """Of no rows."""
        columns = np.append(self.shift.columns, self.shift.level + self.shift.drift)
        return ColumnMoments(Triangle.start(columns, self.weighted))

    def add(self, partial: ColumnMoments, frame: pd.DataFrame) -> ColumnMoments:
        """One more chunk."""
        chunk = usable(frame, self.training.question, RowsLeftOut())
        if chunk.n:
            partial.add(self, chunk, evaluated(self.training, chunk, partial.rows))
        partial.rows += len(frame)
        return partial
