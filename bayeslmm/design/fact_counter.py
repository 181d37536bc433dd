"""Count what is to be known of rows that do not stay in memory."""

from __future__ import annotations

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.design.row_facts import RowFacts
from bayeslmm.types import FloatArray, IntArray

# Rows of a factorisation, which stay in the cache.
_BLOCK = 2048


def fact_columns(design: Design) -> FloatArray:
    """The columns (n, k) that `RowFacts` are about."""
    parts = [np.ones((design.n, 1)), design.X, *(term.Z for term in design.terms), design.y_less_offset[:, None]]
    return np.concatenate(parts, axis=1)


class FactCounter:
    """Makes `RowFacts` chunk by chunk.

    Chunks must come in one order for the same last digits. What varies within levels is looked for until it is found.

    Parameters
    ----------
    design : Design
        With the columns and levels of all chunks; its rows are not counted.
    """

    def __init__(self, design: Design) -> None:
        levels = {name: grouping.n_levels for name, grouping in design.groupings.items()}
        self._widths = (1, design.p, *(len(term.effects) for term in design.terms), 1)
        self._k = k = sum(self._widths)
        self._levels = levels
        self._shift: FloatArray | None = None
        self._R = np.zeros((0, k))
        self._low, self._high = np.full(k, np.inf), np.full(k, -np.inf)
        self._signs = np.ones(k, dtype=bool)
        self._y = (np.inf, -np.inf, 0.0)
        self._n = self._observations = 0
        self._sizes = {name: np.zeros(J, dtype=np.int64) for name, J in levels.items()}
        self._rows = {name: np.zeros(J, dtype=np.int64) for name, J in levels.items()}
        self._first = {name: np.full((J, k), np.nan) for name, J in levels.items()}
        self._present = {name: np.zeros((J, k), dtype=bool) for name, J in levels.items()}
        self._varies = {name: np.zeros(k, dtype=bool) for name in levels}
        pairs = [(a, b) for a in levels for b in levels if a != b and levels[a] >= levels[b]]
        self._parents = {pair: np.full(levels[pair[0]], -1, dtype=np.int64) for pair in pairs}
        self._weights = (np.inf, -np.inf, 0.0, 0.0)
        self._log_weights = 0.0
        self._weighted = False

    def add(self, design: Design) -> None:
        """Count the rows of a chunk: a design with the columns and levels of all."""
        columns, frequency, weights = fact_columns(design), design.frequency, design.weights
        counts = np.ones(design.n) if frequency is None else frequency.astype(float)
        if not design.n:
            return
        self._n += design.n
        self._observations += int(counts.sum())
        self._low, self._high = np.minimum(self._low, columns.min(0)), np.maximum(self._high, columns.max(0))
        self._signs &= np.isin(columns, (-1.0, 0.0, 1.0)).all(0)
        low, high, total = self._y
        total += float(counts @ design.y)
        self._y = (min(low, float(design.y.min())), max(high, float(design.y.max())), total)
        if self._shift is None:
            self._shift = np.concatenate([[0.0], columns[0, 1:]])
        root = None if frequency is None else np.sqrt(counts)
        self._triangulate((columns - self._shift) if root is None else (columns - self._shift) * root[:, None])
        if weights is not None:
            self._weighted = True
            low, high, total, inverse = self._weights
            low, high = min(low, float(weights.min())), max(high, float(weights.max()))
            self._weights = (low, high, total + float(counts @ weights), inverse + float(counts @ (1.0 / weights)))
            self._log_weights += float(counts @ np.log(weights))
        for name, grouping in design.groupings.items():
            self._sizes[name] += np.bincount(grouping.codes, counts, self._levels[name]).astype(np.int64)
            self._rows[name] += np.bincount(grouping.codes, minlength=self._levels[name])
            self._within(name, grouping.codes, columns)
            for j in range(self._k):
                there = self._present[name][:, j]
                if not there.all():
                    there[grouping.codes[columns[:, j] != 0]] = True
        for inner, outer in list(self._parents):
            self._nested((inner, outer), design.groupings[inner].codes, design.groupings[outer].codes)

    def merge(self, other: FactCounter) -> None:
        """Take in what another counter has seen, whose rows come after these."""
        if other._shift is None:
            return
        self._n += other._n
        self._observations += other._observations
        self._low, self._high = np.minimum(self._low, other._low), np.maximum(self._high, other._high)
        self._signs &= other._signs
        ours, theirs = self._y, other._y
        self._y = (min(ours[0], theirs[0]), max(ours[1], theirs[1]), ours[2] + theirs[2])
        if self._shift is None:
            self._shift = other._shift
        moved = other._R.copy()
        moved[0] += moved[0, 0] * (other._shift - self._shift)
        self._triangulate(moved)
        self._weighted = self._weighted or other._weighted
        mine, others = self._weights, other._weights
        self._weights = (min(mine[0], others[0]), max(mine[1], others[1]), mine[2] + others[2], mine[3] + others[3])
        self._log_weights += other._log_weights
        for name in self._sizes:
            self._sizes[name] += other._sizes[name]
            self._rows[name] += other._rows[name]
            seen = np.flatnonzero(~np.isnan(other._first[name][:, 0]))
            self._within(name, seen, other._first[name][seen])
            self._varies[name] |= other._varies[name]
            self._present[name] |= other._present[name]
        for pair in list(self._parents):
            if pair not in other._parents:
                del self._parents[pair]
                continue
            known = np.flatnonzero(other._parents[pair] >= 0)
            self._nested(pair, known, other._parents[pair][known])

    def facts(self) -> RowFacts:
        """The record of all rows counted."""
        R = self._R.copy()
        if self._shift is not None:
            R[0] += R[0, 0] * self._shift
        low, high, total, inverse = self._weights
        N = max(self._observations, 1)
        return RowFacts(
            self._n,
            self._observations,
            self._widths,
            R,
            self._low,
            self._high,
            self._signs,
            (self._y[0], self._y[1], self._y[2] / N),
            self._sizes,
            self._rows,
            self._varies,
            {name: present.sum(0) for name, present in self._present.items()},
            self._parents,
            (low, high, total / N, inverse / N) if self._weighted else None,
            self._log_weights,
        )

    def _triangulate(self, rows: FloatArray) -> None:
        blocks = len(rows) // _BLOCK
        if blocks:
            upper = np.linalg.qr(rows[: blocks * _BLOCK].reshape(blocks, _BLOCK, self._k), mode="r")
            rows = np.concatenate([upper.reshape(-1, self._k), rows[blocks * _BLOCK :]])
        R = np.linalg.qr(np.concatenate([self._R, rows]), mode="r")
        self._R = np.concatenate([R, np.zeros((self._k - len(R), self._k))])

    def _within(self, name: str, codes: IntArray, columns: FloatArray) -> None:
        first, varies = self._first[name], self._varies[name]
        open_ = np.flatnonzero(~varies)
        new = np.flatnonzero(np.isnan(first[codes, 0]))
        # Backwards, so that the first row of a level is the one that stays.
        first[codes[new[::-1]]] = columns[new[::-1]]
        for k in open_:
            varies[k] = bool((first[codes, k] != columns[:, k]).any())

    def _nested(self, pair: tuple[str, str], inner: IntArray, outer: IntArray) -> None:
        parent = self._parents[pair]
        new = parent[inner] < 0
        parent[inner[new]] = outer[new]
        if (parent[inner] != outer).any():
            del self._parents[pair]
