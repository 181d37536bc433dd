"""Centres and cells of the columns that the fixed part uses, counted chunk by chunk, for means over a grid.

Medians of columns with very many values are found in a second pass, to a millionth of their range.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from bayeslmm.design.reference import MOST_VALUES, Covariate, ReferenceData
from bayeslmm.streaming.level_sets import LevelTable
from bayeslmm.streaming.question import UsableRows
from bayeslmm.streaming.state import COUNT, both, counted, counts_of, sums_of
from bayeslmm.types import FloatArray, IntArray

# Distinct values of a column that are counted one by one, and parts of its range where there are more.
_MOST_COUNTED, _BINS = 100_000, 1 << 20
# Rows that show most columns of many values.
_FIRST = 1_000


@dataclass
class ReferenceCount:
    """What has been counted so far.

    Attributes
    ----------
    factors : tuple of str
        Columns that are factors, or that the formula makes factors of.
    sums : dict of str to FloatArray, each (5,)
        Column of numbers to its observations, mean, squares about it, least and largest value.
    values : dict of str to pandas.DataFrame
        Its distinct values with their observations, of columns with few.
    cells : list of pandas.DataFrame
        Combinations of levels, and of columns with two values, with their observations; not yet joined.
    """

    factors: tuple[str, ...]
    sums: dict[str, FloatArray]
    values: dict[str, pd.DataFrame]
    cells: list[pd.DataFrame] = field(default_factory=list)

    @classmethod
    def start(cls, numbers: Sequence[str], factors: Sequence[str]) -> ReferenceCount:
        """Of no rows."""
        nothing = np.array([0.0, 0.0, 0.0, np.inf, -np.inf])
        none = pd.DataFrame({"": np.empty(0), COUNT: np.empty(0, dtype=np.int64)})
        return cls(tuple(factors), dict.fromkeys(numbers, nothing), dict.fromkeys(numbers, none))

    def add(self, chunk: UsableRows) -> None:
        """The rows of a chunk."""
        counts = np.ones(chunk.n, dtype=np.int64) if chunk.frequency is None else chunk.frequency
        for name in self.sums:
            column = chunk.columns[name].to_numpy(dtype=float)
            self.sums[name] = both(self.sums[name], sums_of(column, chunk.frequency))
            if name in self.values:
                self._keep(name, counted(pd.DataFrame({"": column, COUNT: counts}), ("",)))
        names = self._in_cells()
        if names:
            frame = pd.DataFrame({name: chunk.columns[name].array for name in names})
            frame[COUNT] = counts
            self.cells.append(counted(frame, names))
            self._join()

    def _keep(self, name: str, found: pd.DataFrame) -> None:
        joined = counted(pd.concat([self.values[name], found], ignore_index=True), ("",))
        if len(joined) > _MOST_COUNTED:
            del self.values[name]
        else:
            self.values[name] = joined

    def _in_cells(self) -> tuple[str, ...]:
        two = [name for name, found in self.values.items() if len(found) <= 2]
        return (*self.factors, *two)

    def _join(self) -> None:
        names = list(self._in_cells())
        if not names:
            self.cells = []
            return
        kept = [part[[*names, COUNT]] for part in self.cells]
        self.cells = [counted(pd.concat(kept, ignore_index=True), names)] if kept else []

    def merge(self, other: ReferenceCount) -> ReferenceCount:
        """Rows of both."""
        sums = {name: both(own, other.sums[name]) for name, own in self.sums.items()}
        merged = ReferenceCount(self.factors, sums, {})
        for name, found in self.values.items():
            if name in other.values:
                merged.values[name] = found
                merged._keep(name, other.values[name])
        merged.cells = [*self.cells, *other.cells]
        if merged.cells:
            merged._join()
        return merged

    @property
    def many(self) -> dict[str, tuple[float, float]]:
        """Columns whose values are too many to be counted, with their ranges."""
        return {name: (own[3], own[4]) for name, own in self.sums.items() if name not in self.values}

    def finish(self, tables: Mapping[str, LevelTable], medians: Mapping[str, float]) -> ReferenceData:
        """The summary; `medians` are those of the columns with many values."""
        covariates = {}
        for name, own in self.sums.items():
            found = self.values.get(name)
            few = np.empty(0) if found is None or len(found) > MOST_VALUES else found[""].to_numpy()
            median = medians[name] if found is None else _median(found[""].to_numpy(), counts_of(found))
            covariates[name] = Covariate(float(own[1]), median, float(own[3]), float(own[4]), few)
        two = [name for name in self.values if len(covariates[name].values) == 2]
        names = [*self.factors, *two]
        if not names or not self.cells:
            return ReferenceData(covariates)
        table = self.cells[0]
        levels, codes = list[tuple[object, ...]](), list[IntArray]()
        for name in names:
            if name in tables:
                levels.append(tuple(tables[name].levels.tolist()))
                codes.append(tables[name].codes(table[name]))
            else:
                distinct, place = np.unique(table[name].to_numpy(), return_inverse=True)
                levels.append(tuple(distinct.tolist()))
                codes.append(place.astype(np.int64))
        cells, place = np.unique(np.column_stack(codes), axis=0, return_inverse=True)
        counts = np.bincount(place.ravel(), counts_of(table), len(cells)).astype(np.int64)
        return ReferenceData(covariates, tuple(names), tuple(levels), cells.astype(np.int64), counts)


def _median(values: FloatArray, counts: IntArray) -> float:
    last = np.cumsum(counts)
    total = int(last[-1])
    low, high = (values[np.searchsorted(last, k, side="right")] for k in ((total - 1) // 2, total // 2))
    return float(0.5 * (low + high))


@dataclass
class Histograms:
    """Observations in equal parts of the ranges of some columns.

    Attributes
    ----------
    ranges : dict of str to (float, float)
    counts : dict of str to IntArray, each (parts,)
    """

    ranges: dict[str, tuple[float, float]]
    counts: dict[str, IntArray] = field(default_factory=dict)

    def add(self, chunk: UsableRows) -> None:
        """The rows of a chunk."""
        for name, (low, high) in self.ranges.items():
            values = chunk.columns[name].to_numpy(dtype=float)
            place = ((values - low) * (_BINS / (high - low))).astype(np.int64)
            np.minimum(place, _BINS - 1, out=place)
            found = np.bincount(place, chunk.frequency, _BINS).astype(np.int64)
            self.counts[name] = self.counts.get(name, 0) + found

    def merge(self, other: Histograms) -> Histograms:
        """Rows of both."""
        counts = {name: self.counts.get(name, 0) + other.counts.get(name, 0) for name in self.ranges}
        return Histograms(self.ranges, {name: np.asarray(own) for name, own in counts.items() if np.size(own) > 1})

    def medians(self) -> dict[str, float]:
        """The middle of the part in which the median of each column is."""
        found = {}
        for name, (low, high) in self.ranges.items():
            centres = low + (np.arange(_BINS) + 0.5) * ((high - low) / _BINS)
            found[name] = _median(np.asarray(centres, dtype=np.float64), self.counts[name])
        return found
