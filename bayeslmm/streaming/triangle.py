"""The triangular factor of columns that are read chunk by chunk, with their extremes: means, spreads, spans, fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bayeslmm.types import BoolArray, FloatArray

# Rows whose columns are factorised together, in the cache.
_BLOCK = 4096


@dataclass
class Triangle:
    """Columns less a shift, beside ones, reduced by orthogonal transformations.

    Attributes
    ----------
    shift : FloatArray, shape (k,)
        Subtracted from the k columns; their values where they are constant.
    plain : FloatArray, shape (k + 1, k + 1)
        Upper triangular, of ones and the shifted columns, each row times the root of its frequency.
    weighted : FloatArray, shape (k + 1, k + 1), or None
        The same with the roots of frequency times precision weight.
    low, high : FloatArray, shape (k,)
    signs : BoolArray, shape (k,)
        Columns without other values than -1, 0 and 1.
    zeros : BoolArray, shape (k,)
        Columns that are zero in some row.
    n, observations : int
    """

    shift: FloatArray
    plain: FloatArray
    weighted: FloatArray | None
    low: FloatArray
    high: FloatArray
    signs: BoolArray
    zeros: BoolArray
    n: int = 0
    observations: int = 0

    @classmethod
    def start(cls, shift: FloatArray, weighted: bool) -> Triangle:
        """Of no rows."""
        k = shift.size
        zero, none = np.zeros((k + 1, k + 1)), np.zeros(k, dtype=bool)
        ends = np.full(k, np.inf), np.full(k, -np.inf)
        return cls(shift, zero, zero if weighted else None, *ends, ~none, none)

    def look(self, columns: Sequence[FloatArray]) -> None:
        """Extremes and kinds of the k columns, each (n,), of more rows."""
        low, high = np.array([(column.min(), column.max()) for column in columns]).T
        for k in np.flatnonzero(self.signs).tolist():
            own = columns[k]
            self.signs[k] = low[k] >= -1 and high[k] <= 1 and bool(np.isin(own, (-1.0, 0.0, 1.0)).all())
        for k in np.flatnonzero(~self.zeros & (low <= 0) & (high >= 0)).tolist():
            self.zeros[k] = not columns[k].all()
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)

    def add(
        self,
        rows: FloatArray,
        frequency: FloatArray | None,
        weights: FloatArray | None,
    ) -> None:
        """More rows.

        Parameters
        ----------
        rows : FloatArray, shape (k, n)
            Columns less the shift, one after the other.
        frequency, weights : FloatArray or None, shape (n,)
            Frequencies; frequencies times precision weights.
        """
        n = rows.shape[1]
        self.plain = _reduced(self.plain, rows, None if frequency is None else np.sqrt(frequency))
        if self.weighted is not None and weights is not None:
            self.weighted = _reduced(self.weighted, rows, np.sqrt(weights))
        self.n += n
        self.observations += n if frequency is None else int(frequency.sum())

    def merge(self, other: Triangle) -> Triangle:
        """Rows of both, whose shifts are the same."""
        if not np.array_equal(self.shift, other.shift):
            raise ValueError("these columns were shifted differently")
        weighted = None
        if self.weighted is not None and other.weighted is not None:
            weighted = upper(np.concatenate([self.weighted, other.weighted]))
        return replace(
            self,
            plain=upper(np.concatenate([self.plain, other.plain])),
            weighted=weighted,
            low=np.minimum(self.low, other.low),
            high=np.maximum(self.high, other.high),
            signs=self.signs & other.signs,
            zeros=self.zeros | other.zeros,
            n=self.n + other.n,
            observations=self.observations + other.observations,
        )

    @property
    def measure(self) -> FloatArray:
        """The factor by whose weights columns are measured."""
        return self.plain if self.weighted is None else self.weighted

    @property
    def constant(self) -> BoolArray:
        """Which columns (k,) have one value."""
        return np.asarray(self.low == self.high)

    def whole(self, weighted: bool = False) -> FloatArray:
        """The factor (k + 1, k + 1) of the columns themselves beside ones."""
        R = (self.measure if weighted else self.plain).copy()
        R[0, 1:] += R[0, 0] * self.shift
        return R


def _reduced(R: FloatArray, rows: FloatArray, root: FloatArray | None) -> FloatArray:
    k, n = rows.shape
    parts = [R]
    block = np.empty((min(_BLOCK, max(n, 1)), k + 1))
    for start in range(0, n, _BLOCK):
        own = rows[:, start : start + _BLOCK]
        A = block[: own.shape[1]]
        A[:, 0] = 1.0
        A[:, 1:] = own.T
        if root is not None:
            A *= root[start : start + _BLOCK, None]
        parts.append(upper(A))
    return upper(np.concatenate(parts))


def upper(A: FloatArray) -> FloatArray:
    """Square upper triangular R with ``R'R = A'A`` and a diagonal that is not negative."""
    k = A.shape[1]
    R = np.linalg.qr(A, mode="r")
    out = np.zeros((k, k))
    out[: R.shape[0]] = R
    return out * np.where(np.diagonal(out) < 0, -1.0, 1.0)[:, None]
