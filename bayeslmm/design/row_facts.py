"""What is asked of the rows of a design beside their sums, for designs whose rows are not in memory.

One triangular factor has all means, standard deviations, least-squares fits and spans of the columns; the rest are
extremes, sizes of levels and what varies within these. All are counted chunk by chunk (`streaming`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from bayeslmm.equality import by_value
from bayeslmm.types import BoolArray, FloatArray, IntArray


@by_value
@dataclass(frozen=True, eq=False)
class RowFacts:
    """A record of rows that are elsewhere.

    The k columns are: 1, the p columns of X, those of every term's Z in the order of the formula, y less the offset.

    Attributes
    ----------
    n : int
        Rows.
    n_observations : int
        The sum of their frequencies.
    widths : tuple of int
        How many of the k columns are ones, of X, of the Z of every term, and y: ``(1, p, c, ..., 1)``.
    triangle : FloatArray, shape (k, k)
        Upper triangular R of ``sqrt(frequency) * columns = Q R``, precision weights left aside.
    low, high : FloatArray, shape (k,)
        Least and largest value of every column.
    signs : BoolArray, shape (k,)
        Columns without other values than -1, 0 and 1.
    response : tuple of float
        Least, largest and mean y, the offset not subtracted.
    sizes, rows : dict of str to IntArray, each (J,)
        Grouping factor to the observations, and the rows, of every level.
    varies : dict of str to BoolArray, each (k,)
        Grouping factor to whether a column takes several values within some level.
    present : dict of str to IntArray, each (k,)
        Grouping factor to the levels in which a column is not zero throughout.
    parents : dict
        Pair of factors (inner, outer), inner nested in outer, to the outer level (J,) of every inner one.
    weights : tuple of float, or None
        Least, largest, and means over observations of the precision weights and of one over them; None if 1 for all.
    log_weights : float
        Sum of their logarithms over the observations.
    median, mad : float or None
        Of y less the offset over observations (not multiplied by 1.4826), where they were counted.
    """

    n: int
    n_observations: int
    widths: tuple[int, ...]
    triangle: FloatArray
    low: FloatArray
    high: FloatArray
    signs: BoolArray
    response: tuple[float, float, float]
    sizes: dict[str, IntArray]
    rows: dict[str, IntArray]
    varies: dict[str, BoolArray]
    present: dict[str, IntArray]
    parents: dict[tuple[str, str], IntArray] = field(default_factory=dict)
    weights: tuple[float, float, float, float] | None = None
    log_weights: float = 0.0
    median: float | None = None
    mad: float | None = None

    @cached_property
    def means(self) -> FloatArray:
        """Means (k,) over observations."""
        return np.asarray(self.triangle[0] * (self.triangle[0, 0] / self.n_observations))

    def sds(self, ddof: int = 0) -> FloatArray:
        """Standard deviations (k,) over observations."""
        return np.asarray(np.sqrt((self.triangle[1:] ** 2).sum(0) / (self.n_observations - ddof)))

    def changed(self, term: int, change: FloatArray) -> RowFacts:
        """The record with the columns of a term multiplied by a matrix (c, c)."""
        own = self.Z(term)
        triangle, low, high, signs = self.triangle.copy(), self.low.copy(), self.high.copy(), self.signs.copy()
        triangle[:, own] = triangle[:, own] @ change
        same = (change == np.eye(len(change))).all(0)
        # Sums of columns have other extremes; nothing asks for those of such columns.
        low[own], high[own] = np.where(same, low[own], np.nan), np.where(same, high[own], np.nan)
        signs[own] &= same
        varies = {name: own_varies.copy() for name, own_varies in self.varies.items()}
        for own_varies in varies.values():
            own_varies[own] = (change != 0).T @ own_varies[own]
        return replace(self, triangle=triangle, low=low, high=high, signs=signs, varies=varies)

    def selected(self, fixed: Sequence[int], terms: Sequence[tuple[int, Sequence[int]]]) -> RowFacts:
        """The record of a model with some of the columns of X, and of some of the terms."""
        own = [0, *(self.X.start + k for k in fixed)]
        for term, effects in terms:
            own += [self.Z(term).start + k for k in effects]
        own.append(len(self.low) - 1)
        widths = (1, len(fixed), *(len(effects) for _, effects in terms), 1)
        triangle = np.zeros((len(own),) * 2)
        R = np.linalg.qr(self.triangle[:, own], mode="r")
        triangle[: len(R)] = R
        return replace(
            self,
            widths=widths,
            triangle=triangle,
            low=self.low[own],
            high=self.high[own],
            signs=self.signs[own],
            varies={name: values[own] for name, values in self.varies.items()},
            present={name: values[own] for name, values in self.present.items()},
        )

    def moments(self, term: int) -> FloatArray:
        """Rows (k, c) whose cross-products are the means of those of a term's columns; a first row of their means."""
        return np.asarray(self.triangle[:, self.Z(term)] / np.sqrt(self.n_observations))

    @cached_property
    def constant(self) -> BoolArray:
        """Columns (k,) of one value."""
        return np.asarray(self.low == self.high)

    def _span(self, part: int) -> slice:
        start = sum(self.widths[:part])
        return slice(start, start + self.widths[part])

    @property
    def n_terms(self) -> int:
        return len(self.widths) - 3

    @property
    def X(self) -> slice:
        """Where the columns of X are among the k."""
        return self._span(1)

    def Z(self, term: int) -> slice:
        """Where the columns of a random term are among the k."""
        return self._span(2 + term)
