"""Levels of a column, gathered chunk by chunk, and the codes of further chunks over them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.design.lazy import LevelNames
from bayeslmm.errors import DesignError
from bayeslmm.sources.frames import all_whole, beyond_floats
from bayeslmm.types import AnyArray, IntArray

# Whole numbers in a range of at most so many are looked up in a table (a byte each while they are gathered, then four).
_TABLE = 100_000_000


@dataclass
class LevelSet:
    """Levels found so far.

    Attributes
    ----------
    name : str
        The column.
    kind : {"", "integer", "category", "other"}
        What the chunks have held.
    low : int
        The whole number that the first entry of `seen` stands for.
    seen : BoolArray
        Which whole numbers occur, where they are in a narrow range.
    pending : list of pandas.Index
        Distinct levels of chunks, not yet joined.
    categories : pandas.Index or None
        Of a categorical column whose categories are the same in all chunks.
    ordered : bool
    used : BoolArray
        Which of `categories` occur.
    """

    name: str
    kind: str = ""
    low: int = 0
    seen: AnyArray = field(default_factory=lambda: np.zeros(0, dtype=bool))
    pending: list[pd.Index] = field(default_factory=list)
    categories: pd.Index | None = None
    ordered: bool = False
    used: AnyArray = field(default_factory=lambda: np.zeros(0, dtype=bool))
    joined: int = 0

    def add(self, series: pd.Series, text: bool = False) -> None:
        """Look at the column of a chunk, which has no missing values.

        Parameters
        ----------
        series : pandas.Series
        text : bool
            Whether categories are nothing but the distinct texts of the chunk, in no order of their own.
        """
        if not len(series):
            return
        series = _without_mask(series)
        dtype = series.dtype
        if isinstance(dtype, pd.CategoricalDtype):
            self._add_categories(series, text)
        elif isinstance(dtype, np.dtype) and dtype.kind in "iu" and self.kind in ("", "integer"):
            self._add_integers(series.to_numpy())
        else:
            self._other()
            self._keep(pd.Index(pd.unique(series)))

    def merge(self, other: LevelSet) -> LevelSet:
        """Levels of both."""
        if not self.kind or not other.kind:
            return self if self.kind else other
        if self.kind == other.kind == "integer":
            self._grow(other.low, other.low + other.seen.size - 1)
            if self.kind == other.kind:
                start = other.low - self.low
                self.seen[start : start + other.seen.size] |= other.seen
                return self
        if self.kind == other.kind == "category" and other.categories is not None:
            self._use(other.categories, other.used, other.ordered)
            return self
        self._other()
        other._other()
        for index in other.pending:
            self._keep(index)
        return self

    def _add_categories(self, series: pd.Series, text: bool) -> None:
        codes = np.asarray(series.array.codes)
        array: Any = series.array
        categories, ordered = array.categories, bool(array.ordered)
        present = np.zeros(len(categories), dtype=bool)
        present[codes] = True
        if not text and self.kind in ("", "category"):
            self._use(categories, present, ordered)
            return
        self._other()
        self._keep(categories[present])

    def _use(self, categories: pd.Index, present: AnyArray, ordered: bool) -> None:
        """Categories of a chunk, with those that occur: in the order of before, new ones behind."""
        known = self.categories
        if not self.kind or known is None:
            self.kind, self.categories, self.used, self.ordered = "category", categories, present, ordered
            return
        if known is categories or known.equals(categories):
            self.used = self.used | present
            self.ordered |= ordered
            return
        places = known.get_indexer(categories)
        new = places < 0
        if ordered or self.ordered:
            self._check_order(known, categories, places)
        places[new] = len(known) + np.arange(np.count_nonzero(new))
        self.categories = known.append(categories[new]) if new.any() else known
        used = np.zeros(len(self.categories), dtype=bool)
        used[: len(known)] = self.used
        used[places] |= present
        self.used, self.ordered = used, self.ordered or ordered

    def _check_order(self, known: pd.Index, categories: pd.Index, places: AnyArray) -> None:
        """Refuse ordered categories in another order."""
        if (np.diff(places[places >= 0]) > 0).all():
            return
        raise DesignError(
            f"The categories of column {self.name!r} are {_shown(known)} in one chunk and {_shown(categories)} in "
            "another: their order, which decides about the coefficients, is not the same. Give all chunks one order, "
            "e.g. chunk[name].cat.set_categories([...])."
        )

    def _add_integers(self, values: AnyArray) -> None:
        low, high = int(values.min()), int(values.max())
        if self._grow(low, high):
            self.seen[values.astype(np.int64, copy=False) - self.low] = True
        else:
            self._keep(pd.Index(pd.unique(values)))

    def _grow(self, low: int, high: int) -> bool:
        """Room for whole numbers; False if their range is too wide, from where on distinct ones are gathered."""
        if self.kind == "integer":
            low, high = min(low, self.low), max(high, self.low + self.seen.size - 1)
        if high - low >= _TABLE or high >= 2**62 or low < -(2**62):
            self._other()
            return False
        if self.kind != "integer" or low < self.low or high - low >= self.seen.size:
            # Some room to spare, so that numbers that go up do not have it all copied every time.
            size = min(max(high - low + 1, int(1.5 * self.seen.size)), _TABLE)
            seen = np.zeros(size, dtype=bool)
            seen[self.low - low : self.low - low + self.seen.size] = self.seen[: size - (self.low - low)]
            self.kind, self.low, self.seen = "integer", low, seen
        return True

    def _other(self) -> None:
        """Keep levels in a list from now on."""
        found: pd.Index | None = None
        if self.kind == "integer":
            found = pd.Index(np.flatnonzero(self.seen) + self.low)
        elif self.kind == "category" and self.categories is not None:
            found = self.categories[self.used]
        self.kind, self.seen, self.used = "other", np.zeros(0, dtype=bool), np.zeros(0, dtype=bool)
        self.categories, self.ordered = None, False
        if found is not None:
            self._keep(found)

    def _keep(self, index: pd.Index) -> None:
        self.pending.append(index)
        waiting = sum(len(part) for part in self.pending[1:])
        if waiting > max(len(self.pending[0]), 100_000):
            self.pending = [_joined(self.pending)]

    def finish(self) -> LevelTable:
        """The levels in the order that the whole column would have them in."""
        if self.kind == "integer":
            return LevelTable(self.name, pd.Index(np.flatnonzero(self.seen) + self.low))
        if self.kind == "category" and self.categories is not None:
            used = np.flatnonzero(self.used)
            return LevelTable(self.name, self.categories[used], True, self.ordered)
        levels = _joined(self.pending)
        try:
            return LevelTable(self.name, pd.Index(pd.factorize(levels, sort=True)[1]))
        except TypeError:
            # Values of several types are levels by their texts.
            texts = pd.factorize(levels.astype(str), sort=True)[1]
            return LevelTable(self.name, pd.Index(texts), as_text=True)


def _without_mask(series: pd.Series) -> pd.Series:
    """Integers that may be missing, none of which is, as NumPy has them."""
    dtype = series.dtype
    if isinstance(dtype, pd.UInt64Dtype):
        return series.astype(np.uint64)
    return series.astype(np.int64) if isinstance(dtype, pd.Int64Dtype) else series


def _as_integers[T: (pd.Series, pd.Index)](values: T) -> T:
    """Doubles that are whole numbers and hold them exactly; others as they are."""
    return values.astype(np.int64) if all_whole(values) else values


def _joined(parts: list[pd.Index]) -> pd.Index:
    kinds = {part.dtype.kind for part in parts}
    if (
        "f" in kinds
        and kinds <= set("iuf")
        and any(beyond_floats(part.min(), part.max()) for part in parts if part.dtype.kind in "iu")
    ):
        # Chunks with missing values have integers as doubles, which would not hold those of the others.
        parts = [_as_integers(part) if part.dtype.kind == "f" else part for part in parts]
    if {"i", "u"} <= {part.dtype.kind for part in parts} <= set("iu"):
        same = np.uint64 if min(part.min() for part in parts) >= 0 else object
        parts = [part.astype(same) for part in parts]
    return parts[0] if len(parts) == 1 else parts[0].append(parts[1:]).unique()


def _shown(levels: pd.Index) -> str:
    return ", ".join(map(str, levels[:5])) + (", ..." if len(levels) > 5 else "")


@dataclass(frozen=True, eq=False)
class LevelTable:
    """All levels of a column.

    Attributes
    ----------
    name : str
    levels : pandas.Index
        In their order.
    categorical : bool
        Whether they are categories, with an order of their own.
    ordered : bool
    as_text : bool
        Whether the levels are the texts of values of several types.
    """

    name: str
    levels: pd.Index
    categorical: bool = False
    ordered: bool = False
    as_text: bool = False

    def __len__(self) -> int:
        return len(self.levels)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_table"}

    @property
    def names(self) -> LevelNames:
        """Names of the levels."""
        return LevelNames(self.levels.to_numpy() if self.levels.dtype.kind in "iu" else self.levels)

    @cached_property
    def _table(self) -> tuple[int, AnyArray] | None:
        """The least whole number and the code of it and the following ones, -1 where there is none."""
        if self.levels.dtype.kind not in "iu" or not len(self.levels):
            return None
        low, high = int(self.levels[0]), int(self.levels[-1])
        if high - low >= _TABLE or high >= 2**63:
            return None
        table = np.full(high - low + 1, -1, dtype=np.int32)
        table[self.levels.to_numpy().astype(np.int64) - low] = np.arange(len(self.levels), dtype=np.int32)
        return low, table

    def codes(self, series: pd.Series) -> IntArray:
        """Level (n,) of each value of a column.

        Raises
        ------
        DesignError
            Values that the first pass over the data has not seen.
        """
        series = self._whole(_without_mask(series))
        dtype = series.dtype
        if isinstance(dtype, pd.CategoricalDtype):
            categories = dtype.categories.astype(str) if self.as_text else dtype.categories
            place = self.levels.get_indexer(categories)
            found = place[np.asarray(series.array.codes)]
        elif self._table is not None and isinstance(dtype, np.dtype) and dtype.kind in "iu":
            low, table = self._table
            values = series.to_numpy()
            if len(values) and (int(values.min()) < low or int(values.max()) >= low + table.size):
                raise self._unknown(series)
            found = table[values if low == 0 else values - low]
        else:
            found = self.levels.get_indexer(pd.Index(series.astype(str) if self.as_text else series))
        if len(found) and found.min() < 0:
            raise self._unknown(series)
        return found.astype(np.int64, copy=False)

    def _whole(self, series: pd.Series) -> pd.Series:
        """Numbers that came as doubles, being with missing ones, as the integers that levels are."""
        return _as_integers(series) if self.levels.dtype.kind in "iu" and series.dtype.kind == "f" else series

    def _unknown(self, series: pd.Series) -> DesignError:
        values = pd.Index(pd.unique(series))
        values = values.astype(str) if self.as_text else values
        new = values[self.levels.get_indexer(values) < 0]
        return DesignError(
            f"Column {self.name!r} has {len(new)} level(s) that the first pass over the data did not find: "
            f"{_shown(new)}. The data have changed while they were read, or an iterator gives other rows the second "
            "time. Read from data that stay as they are."
        )
