"""What is asked of the rows of a design beside their sums, for designs whose rows are not in memory.

One triangular factor has all means, standard deviations, least-squares fits and spans of the columns; the rest are
extremes, sizes of levels and what varies within these. All are counted chunk by chunk (`fact_counter`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
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
    response : tuple of float
        Least and largest y, the offset not subtracted.
    sizes : dict of str to IntArray, each (J,)
        Grouping factor to the observations of every level.
    varies : dict of str to BoolArray, each (k,)
        Grouping factor to whether a column takes several values within some level.
    parents : dict
        Pair of factors (inner, outer), inner nested in outer, to the outer level (J,) of every inner one.
    weights : tuple of float, or None
        Least, largest, and mean over observations of the precision weights; None if 1 for all.
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
    response: tuple[float, float]
    sizes: dict[str, IntArray]
    varies: dict[str, BoolArray]
    parents: dict[tuple[str, str], IntArray] = field(default_factory=dict)
    weights: tuple[float, float, float] | None = None
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

    @cached_property
    def constant(self) -> BoolArray:
        """Columns (k,) of one value."""
        return np.asarray(self.low == self.high)

    def _span(self, part: int) -> slice:
        start = sum(self.widths[:part])
        return slice(start, start + self.widths[part])

    @property
    def X(self) -> slice:
        """Where the columns of X are among the k."""
        return self._span(1)

    def Z(self, term: int) -> slice:
        """Where the columns of a random term are among the k."""
        return self._span(2 + term)
