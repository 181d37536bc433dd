"""Roots of correlation matrices of groups, applied to the rows: dense by pattern, or along a chain."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import solve_banded

from bayeslmm.residual.correlation import Correlation
from bayeslmm.residual.layout import RowLayout
from bayeslmm.types import FloatArray, IntArray


@dataclass(frozen=True)
class DenseRoots:
    """Groups with a triangular root for every pattern.

    Attributes
    ----------
    layout : RowLayout
    lower, inverse : tuple of FloatArray, each (U, m, m)
        Cholesky factors of the correlations of each block of the layout, and their inverses.
    """

    layout: RowLayout
    lower: tuple[FloatArray, ...]
    inverse: tuple[FloatArray, ...]

    def _apply(self, matrices: tuple[FloatArray, ...], z: FloatArray) -> FloatArray:
        out = np.empty(z.shape)
        for block, M in zip(self.layout.blocks, matrices, strict=True):
            out[block.rows] = M[block.which] @ z[block.rows] if len(M) > 1 else M[0] @ z[block.rows]
        return out

    def whiten(self, z: FloatArray) -> FloatArray:
        return self._apply(self.inverse, z)

    def whiten_transposed(self, z: FloatArray) -> FloatArray:
        return self._apply(tuple(W.mT for W in self.inverse), z)

    def color(self, z: FloatArray) -> FloatArray:
        return self._apply(self.lower, z)

    def log_det(self) -> float:
        logs = [
            block.counts @ np.log(np.diagonal(L, axis1=1, axis2=2)).sum(1)
            for block, L in zip(self.layout.blocks, self.lower, strict=True)
        ]
        return 2.0 * float(sum(logs))

    def log_det_slopes(self, slopes: list[FloatArray]) -> FloatArray:
        """From the slopes (k, U, m, m) of the correlations of every block."""
        return np.asarray(
            sum(
                np.einsum("u,uab,kuab->k", block.counts, W.mT @ W, dC)
                for block, W, dC in zip(self.layout.blocks, self.inverse, slopes, strict=True)
            )
        )

    def inner_slopes(
        self, slopes: list[FloatArray], z: FloatArray, left: FloatArray, white: FloatArray | None = None
    ) -> FloatArray:
        """Sums (k,) of ``left * d(W z)`` over all rows and columns; `white` is ``W z`` if that is known."""
        total = np.zeros(slopes[0].shape[0])
        white = self.whiten(z) if white is None else white
        for block, W, dC in zip(self.layout.blocks, self.inverse, slopes, strict=True):
            each = left[block.rows] @ white[block.rows].mT
            Q = _sum_by(each, block.which, len(W))
            M = W.mT @ (np.tril(Q) * (1.0 - 0.5 * np.eye(W.shape[-1]))) @ W
            total -= dC.reshape(dC.shape[0], -1) @ M.ravel()
        return total

    def whiten_slopes(self, slopes: list[FloatArray], z: FloatArray) -> FloatArray:
        """Derivatives (k, n, m) of ``W z``."""
        white, out = self.whiten(z), np.empty((slopes[0].shape[0], *z.shape))
        for block, W, dC in zip(self.layout.blocks, self.inverse, slopes, strict=True):
            inner = W @ dC @ W.mT
            lower = np.tril(inner) * (1.0 - 0.5 * np.eye(W.shape[-1]))
            out[:, block.rows] = -(lower[:, block.which] @ white[block.rows])
        return out


@dataclass(frozen=True)
class ChainRoots:
    """Rows that depend on the one before alone.

    Attributes
    ----------
    layout : RowLayout
    r, rest : FloatArray, shape (s,)
        Correlations with the row before and ``1 - r^2``, of rows that have one.
    slopes : FloatArray, shape (k, s)
        Derivatives of r.
    """

    layout: RowLayout
    r: FloatArray
    rest: FloatArray
    slopes: FloatArray

    @property
    def pairs(self) -> tuple[IntArray, IntArray]:
        """Rows (s,) that have one before them: the one before, and they."""
        return self.layout.pairs

    @cached_property
    def _weights(self) -> tuple[FloatArray, FloatArray]:
        """What every row (n, 1) is multiplied by, and what of the one before is subtracted."""
        own, other = np.ones((self.layout.order.size, 1)), np.zeros((self.layout.order.size, 1))
        own[self.pairs[1], 0] = 1.0 / np.sqrt(self.rest)
        other[self.pairs[1], 0] = self.r / np.sqrt(self.rest)
        return own, other

    def whiten(self, z: FloatArray) -> FloatArray:
        own, other = self._weights
        before = np.take(z, self.layout.previous, axis=0)
        before *= other
        return z * own - before

    def whiten_transposed(self, z: FloatArray) -> FloatArray:
        before, after = self.pairs
        scaled = z[after] / np.sqrt(self.rest)[:, None]
        out = np.array(z, dtype=float)
        out[after] = scaled
        out[before] -= self.r[:, None] * scaled
        return out

    def color(self, z: FloatArray) -> FloatArray:
        order, later, n = self.layout.order, self.layout.follows, self.layout.order.size
        bands, scaled = np.zeros((2, n)), z[order]
        bands[0] = 1.0
        bands[1, later - 1] = -self.r
        scaled[later] *= np.sqrt(self.rest)[:, None]
        out = np.empty(z.shape)
        out[order] = solve_banded((1, 0), bands, scaled) if n else scaled
        return out

    def log_det(self) -> float:
        return float(np.log(self.rest).sum())

    def log_det_slopes(self, slopes: FloatArray) -> FloatArray:
        """From slopes (k, s) of r."""
        return np.asarray(slopes @ (-2.0 * self.r / self.rest))

    def inner_slopes(
        self, slopes: FloatArray, z: FloatArray, left: FloatArray, white: FloatArray | None = None
    ) -> FloatArray:
        """Sums (k,) of ``left * d(W z)`` over all rows and columns."""
        white = self.whiten(z) if white is None else white
        before = np.take(z, self.layout.previous, axis=0)
        after = self.pairs[1]
        by_white, by_before = (np.einsum("ij,ij->i", left, part)[after] for part in (white, before))
        return np.asarray(slopes @ (by_white * self.r / self.rest - by_before / np.sqrt(self.rest)))

    def whiten_slopes(self, slopes: FloatArray, z: FloatArray) -> FloatArray:
        """Derivatives (k, n, m) of ``W z``."""
        before, after = self.pairs
        root = np.sqrt(self.rest)[:, None]
        white = self.whiten(z)[after]
        out = np.zeros((slopes.shape[0], *z.shape))
        out[:, after] = slopes[..., None] * (white * (self.r / self.rest)[:, None] - z[before] / root)
        return out


def _sum_by(each: FloatArray, which: IntArray, groups: int) -> FloatArray:
    """Sums (U, m, m) of matrices (B, m, m) by pattern."""
    if groups == 1:
        return each.sum(0)[None]
    order = np.argsort(which, kind="stable")
    starts = np.searchsorted(which[order], np.arange(groups))
    return np.asarray(np.add.reduceat(each[order], starts, axis=0))


def dense_roots(correlation: Correlation, lam: FloatArray, layout: RowLayout, at: FloatArray) -> DenseRoots:
    """Roots of all patterns at one point; an error of linear algebra where a matrix is not positive definite."""
    lower = tuple(np.linalg.cholesky(correlation.matrix(lam, at[block.first])) for block in layout.blocks)
    return DenseRoots(layout, lower, tuple(_inverse_lower(L) for L in lower))


def _inverse_lower(L: FloatArray) -> FloatArray:
    """Inverses of triangular matrices (U, m, m), row by row."""
    m = L.shape[-1]
    out = np.zeros(L.shape)
    for i in range(m):
        out[:, i, i] = 1.0 / L[:, i, i]
        if i:
            out[:, i, :i] = -(L[:, i, None, :i] @ out[:, :i, :i])[:, 0] / L[:, i, i, None]
    return out


def chain_roots(correlation: Correlation, lam: FloatArray, layout: RowLayout, at: FloatArray) -> ChainRoots:
    """The chain at one point."""
    before, after = layout.pairs
    r, rest, slopes = correlation.step(lam, at[before], at[after])
    if not (rest > 0).all():
        raise np.linalg.LinAlgError("a row is determined by the one before")
    return ChainRoots(layout, r, rest, slopes)


def dense_slopes(correlation: Correlation, lam: FloatArray, layout: RowLayout, at: FloatArray) -> list[FloatArray]:
    """Slopes (k, U, m, m) of the correlations of every block."""
    return [correlation.slopes(lam, at[block.first]) for block in layout.blocks]
