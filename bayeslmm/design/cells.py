"""Which rows of a design stand for cells: of their observations only the number, mean and sum of squares are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from bayeslmm.equality import by_value
from bayeslmm.types import IntArray


@by_value
@dataclass(frozen=True, eq=False)
class Cells:
    """Cells of which only sums are known; the responses of their rows are no observations, but have the same sums.

    Attributes
    ----------
    first : IntArray, shape (m,)
        The row at which each cell begins, ascending. A cell has that row alone, or that and the next.
    """

    first: IntArray

    def __len__(self) -> int:
        return int(self.first.size)

    def of(self, rows: IntArray) -> IntArray:
        """The cell of each of some rows."""
        return np.searchsorted(self.first, rows, side="right") - 1

    def part(self, rows: IntArray) -> Self:
        """The cells of some rows, which are in the order of the design or turns of it."""
        cell = self.of(rows)
        begins = np.ones(rows.size, dtype=bool)
        begins[1:] = (np.diff(cell) != 0) | (np.diff(rows) <= 0)
        return type(self)(np.flatnonzero(begins))

    def check(self, n: int) -> None:
        """Refuse cells that are none of n rows.

        Raises
        ------
        ValueError
        """
        ends = np.append(self.first, n)
        sizes = np.diff(ends)
        if not self.first.size or self.first[0] != 0 or sizes.min() < 1 or sizes.max() > 2:
            raise ValueError(f"{self.first.size} cells do not have one or two of the {n} rows each")
