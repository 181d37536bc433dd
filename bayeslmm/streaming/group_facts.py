"""What is to be known of grouping factors beside the sums: sizes of levels, what varies within them, how they nest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bayeslmm.streaming.evaluated import EvaluatedColumns
from bayeslmm.streaming.groups import GroupCoder
from bayeslmm.streaming.question import Question, RowsLeftOut, usable
from bayeslmm.types import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class FactsPlan:
    """What is looked for.

    Attributes
    ----------
    levels : dict of str to int
        Grouping factors with their numbers of levels.
    kept : IntArray
        Columns of X that are kept.
    constant : BoolArray, shape (k,)
        Which of the columns of X, of the random terms, and y less the offset have one value.
    zeros : BoolArray, shape (k,)
        Which of them are zero in some row.
    """

    levels: Mapping[str, int]
    kept: IntArray
    constant: BoolArray
    zeros: BoolArray

    def empty(self) -> GroupFacts:
        """Of no rows."""
        levels = self.levels
        pairs = [(a, b) for a in levels for b in levels if a != b and levels[a] >= levels[b]]
        at = np.flatnonzero(self.zeros).tolist()
        return GroupFacts(
            {name: np.zeros(J, dtype=np.int64) for name, J in levels.items()},
            {name: np.zeros(J, dtype=np.int64) for name, J in levels.items()},
            {(name, k): np.zeros(J, dtype=bool) for name, J in levels.items() for k in at},
            {name: self.constant.astype(np.int64) - 1 for name in levels},
            {},
            {pair: np.full(levels[pair[0]], -1, dtype=np.int64) for pair in pairs},
        )


@dataclass
class GroupFacts:
    """What has been found so far.

    Attributes
    ----------
    sizes, rows : dict of str to IntArray, each (J,)
        Observations and rows of every level.
    present : dict of (str, int) to BoolArray, each (J,)
        Grouping factor and column to the levels in which it is not zero throughout, of columns that may be zero.
    state : dict of str to IntArray, each (k,)
        Of every column: 0 if it has one value in all rows, 1 if it varies within some level, -1 if none is known in
        which it does.
    first : dict of (str, int) to FloatArray, each (J,)
        Grouping factor and column to the first value in every level, of columns that may not vary.
    parents : dict
        Pair of factors, the first nested in the second as far as is known, to the second's level of every one of the
        first's.
    """

    sizes: dict[str, IntArray]
    rows: dict[str, IntArray]
    present: dict[tuple[str, int], BoolArray]
    state: dict[str, IntArray]
    first: dict[tuple[str, int], FloatArray]
    parents: dict[tuple[str, str], IntArray]

    def add(
        self, plan: FactsPlan, codes: Mapping[str, IntArray], found: EvaluatedColumns, frequency: IntArray | None
    ) -> None:
        """Rows of a chunk."""
        y = found.y_less_offset
        columns = [*found.X.T[plan.kept], *(column for z in found.Z for column in z.T), y]
        for name, own in codes.items():
            J = plan.levels[name]
            rows = np.bincount(own, minlength=J)
            self.rows[name] += rows
            self.sizes[name] += rows if frequency is None else np.bincount(own, frequency, J).astype(np.int64)
            for k in np.flatnonzero(plan.zeros).tolist():
                self.present[name, k][own[columns[k] != 0]] = True
            for k in np.flatnonzero(self.state[name] == -1).tolist():
                self._within(name, k, J, own, columns[k])
        self.nest(codes)

    def nest(self, codes: Mapping[str, IntArray]) -> None:
        """Levels of the factors at more rows."""
        for pair in list(self.parents):
            self._nested(pair, codes[pair[0]], codes[pair[1]])

    def _within(self, name: str, k: int, J: int, codes: IntArray, column: FloatArray) -> None:
        first = self.first.setdefault((name, k), np.full(J, np.nan))
        new = np.flatnonzero(np.isnan(first[codes]))
        first[codes[new]] = column[new]
        if (first[codes] != column).any():
            self.state[name][k] = 1
            del self.first[name, k]

    def _nested(self, pair: tuple[str, str], inner: IntArray, outer: IntArray) -> None:
        parent = self.parents[pair]
        new = np.flatnonzero(parent[inner] < 0)
        parent[inner[new]] = outer[new]
        if (parent[inner] != outer).any():
            del self.parents[pair]

    def merge(self, other: GroupFacts) -> GroupFacts:
        """Rows of both."""
        for name, sizes in self.sizes.items():
            sizes += other.sizes[name]
            self.rows[name] += other.rows[name]
            for k in np.flatnonzero(self.state[name] == -1).tolist():
                if other.state[name][k] == 1:
                    self.state[name][k] = 1
                    self.first.pop((name, k), None)
                elif (name, k) in other.first:
                    theirs = other.first[name, k]
                    known = np.flatnonzero(~np.isnan(theirs))
                    self._within(name, k, theirs.size, known, theirs[known])
        for pair_of in self.present:
            self.present[pair_of] |= other.present[pair_of]
        for pair in list(self.parents):
            if pair not in other.parents:
                del self.parents[pair]
                continue
            known = np.flatnonzero(other.parents[pair] >= 0)
            self._nested(pair, known, other.parents[pair][known])
        return self


@dataclass(frozen=True)
class NestingPlan:
    """The pass that finds which factors are nested in which.

    Attributes
    ----------
    question : Question
    coders : tuple of GroupCoder
    """

    question: Question
    coders: tuple[GroupCoder, ...]

    def empty(self) -> GroupFacts:
        """Of no rows."""
        none = np.zeros(0, dtype=bool)
        return FactsPlan({own.name: own.n_levels for own in self.coders}, np.arange(0), none, none).empty()

    def add(self, partial: GroupFacts, frame: pd.DataFrame) -> GroupFacts:
        """One more chunk."""
        chunk = usable(frame, self.question, RowsLeftOut())
        if chunk.n:
            partial.nest({own.name: own.codes(chunk.columns) for own in self.coders})
        return partial
