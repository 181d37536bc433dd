"""Grouping factors of chunks: levels of one column, or of the combinations of several that occur."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from bayeslmm.design.grouping import Grouping
from bayeslmm.design.groups import check_names
from bayeslmm.design.lazy import CellNames, LevelNames
from bayeslmm.errors import DesignError
from bayeslmm.streaming.level_sets import LevelSet, LevelTable
from bayeslmm.streaming.question import Question, RowsLeftOut, usable
from bayeslmm.types import IntArray

_MOST_CELLS = 2**62


@dataclass(frozen=True, eq=False)
class GroupCoder:
    """Level of rows in one grouping factor.

    Attributes
    ----------
    name : str
    factors : tuple of LevelTable
        Its columns.
    cells : LevelTable or None
        Combinations that occur, as numbers (`keys`); None of a single column.
    """

    name: str
    factors: tuple[LevelTable, ...]
    cells: LevelTable | None = None

    def keys(self, columns: Mapping[str, pd.Series]) -> IntArray:
        """A number for the combination of levels at each row, in the order of the levels."""
        key = self.factors[0].codes(columns[self.factors[0].name])
        for factor in self.factors[1:]:
            key = key * len(factor) + factor.codes(columns[factor.name])
        return key

    def codes(self, columns: Mapping[str, pd.Series]) -> IntArray:
        """Level (n,) of each row."""
        keys = self.keys(columns)
        return keys if self.cells is None else self.cells.codes(pd.Series(keys))

    @property
    def n_levels(self) -> int:
        return len(self.factors[0] if self.cells is None else self.cells)

    def grouping(self) -> Grouping:
        """The factor, without rows.

        Raises
        ------
        DesignError
            Different levels that would have the same name.
        """
        names: LevelNames | CellNames = self.factors[0].names
        if self.cells is not None:
            key = self.cells.levels.to_numpy().astype(np.int64)
            parts = []
            for factor in self.factors[:0:-1]:
                key, j = np.divmod(key, len(factor))
                parts.append(j)
            # Cells of the first two, of these and the third, ...
            outer = key
            for factor, j in zip(self.factors[1:], parts[::-1], strict=True):
                both = outer * len(factor) + j
                occurring, place = np.unique(both, return_inverse=True)
                i, inner = np.divmod(occurring, len(factor))
                names = CellNames(names, factor.names, i, inner)
                outer = place.astype(np.int64)
        check_names(":".join(f.name for f in self.factors), [f.names for f in self.factors], names)
        return Grouping(self.name, np.zeros(0, dtype=np.int64), names)


@dataclass
class CellsFound:
    """Combinations of levels seen so far, by grouping factor."""

    sets: dict[str, LevelSet] = field(default_factory=dict)

    def merge(self, other: CellsFound) -> CellsFound:
        """Those of both."""
        return CellsFound({name: own.merge(other.sets[name]) for name, own in self.sets.items()})


@dataclass(frozen=True)
class CellsPlan:
    """The pass that finds which combinations of levels occur.

    Attributes
    ----------
    question : Question
    coders : tuple of GroupCoder
        Of the factors of several columns.
    """

    question: Question
    coders: tuple[GroupCoder, ...]

    def empty(self) -> CellsFound:
        """Of no rows."""
        return CellsFound({coder.name: LevelSet(coder.name) for coder in self.coders})

    def add(self, partial: CellsFound, frame: pd.DataFrame) -> CellsFound:
        """One more chunk."""
        chunk = usable(frame, self.question, RowsLeftOut())
        if chunk.n:
            for coder in self.coders:
                partial.sets[coder.name].add(pd.Series(coder.keys(chunk.columns)))
        return partial


def coder(name: str, factors: Sequence[str], tables: Mapping[str, LevelTable]) -> GroupCoder:
    """Of a factor whose combinations, if it has some, are not yet known.

    Raises
    ------
    DesignError
        More combinations than can be numbered.
    """
    own = tuple(tables[factor] for factor in factors)
    size = 1
    for table in own:
        size *= len(table)
    if size > _MOST_CELLS:
        raise DesignError(
            f"{name} may have {size:.3g} combinations of levels, more than can be numbered. Make it a column."
        )
    return GroupCoder(name, own)
