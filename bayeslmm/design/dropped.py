"""Rows that did not enter a design, and why; and what rows of it stand for."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from bayeslmm.design.lazy import LabelsByReason, Lazy
from bayeslmm.equality import by_value, made_fast
from bayeslmm.types import AnyArray, BoolArray, IntArray


@made_fast
@dataclass(frozen=True)
class DroppedRows:
    """Rows that did not enter the design and why.

    Attributes
    ----------
    labels : tuple
        Index labels of the dropped rows in the user's data frame, in its order.
    reasons : dict
        Reason (``"missing Days"``, ``"weight 0"``, ``"frequency 0"``) to the labels concerned; a row may have several.
    unit : str
        What the labels number, e.g. ``"line of the file"``; empty if they are just labels.
    counts : dict of str to int
        Of cells, the observations by reason; a reason need not have cells.
    observations : int or None
        The observations of all that was left out, where the labels are those of cells.
    """

    labels: Lazy[tuple[Hashable, ...]] = Lazy(())  # noqa: RUF009
    reasons: Lazy[dict[str, tuple[Hashable, ...]]] = Lazy(LabelsByReason({}))  # noqa: RUF009
    unit: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    observations: int | None = None

    def __len__(self) -> int:
        return len(vars(self)["labels"]) if self.observations is None else self.observations

    def __str__(self) -> str:
        if self.observations is not None:
            return self._by_count()
        if not len(self):
            return "no rows dropped"
        reasons = vars(self)["reasons"]
        found: Mapping[str, Any] = reasons.reasons if isinstance(reasons, LabelsByReason) else reasons
        parts = [f"{reason}: {shortened(rows, self.unit)}" for reason, rows in found.items()]
        noun = "row" if len(self) == 1 else "rows"
        return f"{len(self)} {noun} dropped ({'; '.join(parts)})"

    def _by_count(self) -> str:
        cells = {reason: len(rows) for reason, rows in self.reasons.items()}
        parts = [
            f"{reason}: {count:,}" + (f" in {cells[reason]:,} cell(s)" if cells.get(reason) else "")
            for reason, count in self.counts.items()
        ]
        if not parts:
            return "no observations dropped"
        return f"{len(self):,} observation(s) dropped ({'; '.join(parts)})"


@by_value
@dataclass(frozen=True, eq=False)
class AllRows:
    """The rows of the data, of which some are in the design.

    Attributes
    ----------
    index : array, shape (N,)
        Labels of all rows, in the order of the data.
    kept : IntArray, shape (n,)
        Positions of those that are in the design, ascending.
    """

    index: AnyArray
    kept: IntArray

    @property
    def mask(self) -> BoolArray:
        """Whether each row (N,) is in the design."""
        inside = np.zeros(self.index.shape[0], dtype=bool)
        inside[self.kept] = True
        return inside


@by_value
@dataclass(frozen=True, eq=False)
class SummedCells:
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


def shortened(labels: Sequence[Hashable], unit: str = "", limit: int = 8) -> str:
    """Labels of rows in a sentence: the first ones, and how many there are.

    Examples
    --------
    >>> shortened([3, 5, 8], "row of the data", limit=2)
    'rows 3, 5, ... (3 in all) of the data'
    """
    shown = ", ".join(str(label) for label in labels[:limit])
    noun, _, rest = unit.partition(" ")
    if unit:
        shown = f"{noun}{'' if len(labels) == 1 else 's'} {shown}"
    shown = shown if len(labels) <= limit else f"{shown}, ... ({len(labels)} in all)"
    return f"{shown} {rest}".rstrip()
