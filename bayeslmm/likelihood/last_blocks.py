"""What the elimination of the chain and of the large dense blocks leaves of the last blocks, which have few effects.

A dense block of many effects ends with factors of few levels, if there are any, and with X. Eliminating the others
leaves their cross-products (of some dozens of columns), from which the likelihood follows for any covariances of the
last blocks, be they singular: a factorisation at one point is one for all points that differ in these alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import blas

from bayeslmm.likelihood import small
from bayeslmm.likelihood.chain_conditional import at_one_point
from bayeslmm.likelihood.chain_sums import ChainSums
from bayeslmm.likelihood.factor import Factor
from bayeslmm.likelihood.large import Dense
from bayeslmm.types import FloatArray

# Effects of the last blocks together.
_FEW = 60


def first_of_few(h: ChainSums) -> int:
    """The block from which on the dense blocks have few effects together; the number of blocks if there is none."""
    blocks = h.frame.blocks
    few = len(blocks)
    while few > h.plan.chain and sum(block.q for block in blocks[few - 1 :]) <= _FEW:
        few -= 1
    return few


@dataclass(frozen=True)
class LastBlocks:
    """Cross-products of the last blocks and X, not multiplied by Lambda, after all others are eliminated.

    Attributes
    ----------
    levels : tuple of int
        Of the last blocks.
    products : FloatArray, shape (r, r) or (K, r, r)
        At one point, or at each of K.
    score : FloatArray, shape (r,) or (K, r)
        Their products with y.
    square : float or FloatArray of shape (K,)
        That of y.
    log_det : float or FloatArray of shape (K,)
        Of what was eliminated.
    log_det_fixed : float
        Of the basis of X.
    """

    levels: tuple[int, ...]
    products: FloatArray
    score: FloatArray
    square: float | FloatArray
    log_det: float | FloatArray
    log_det_fixed: float

    def roots(
        self, factors: Sequence[FloatArray], K: int, prior: FloatArray | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """``L`` with ``L L' = T' products T + I`` (no identity for X), and T, at K points.

        Parameters
        ----------
        factors : sequence of FloatArray, each (K, c, c)
            Of the last blocks.
        K : int
        prior : FloatArray, shape (K, p, p), optional
            What is added for X.

        Returns
        -------
        FloatArray, shape (K, r, r)
        FloatArray, shape (K, r, r)
        """
        system, T, start = self._system(factors, K)
        if prior is not None:
            system[:, start:, start:] += prior
        return np.linalg.cholesky(system), T

    def _system(self, factors: Sequence[FloatArray], K: int) -> tuple[FloatArray, FloatArray, int]:
        """The system, T, and where X begins."""
        r = self.score.shape[-1]
        T, start = np.zeros((K, r, r)), 0
        for own, J in zip(factors, self.levels, strict=True):
            for _ in range(J):
                span = slice(start, start + own.shape[-1])
                T[:, span, span] = own
                start = span.stop
        T[:, np.arange(start, r), np.arange(start, r)] = 1.0
        return small.add_identity(small.transpose(T) @ self.products @ T, start), T, start

    def evaluate(self, factors: Sequence[FloatArray], K: int) -> Factor:
        """What densities need, at K points with these factors of the last blocks; nan where digits do not suffice."""
        system, T, effects = self._system(factors, K)
        L = small.cholesky_if_positive(system)
        half = np.linalg.solve(L, small.transpose(T) @ self.score[..., None])
        solution = np.linalg.solve(small.transpose(L), half)[:, effects:, 0]
        logs = 2.0 * np.log(np.diagonal(L, axis1=1, axis2=2))
        log_det = self.log_det + logs[:, :effects].sum(axis=1)
        fixed = self.log_det_fixed + logs[:, effects:].sum(axis=1)
        empty, total = np.empty((K, 0)), np.zeros(K) + self.square
        return Factor(
            log_det,
            fixed,
            total - (half[..., 0] ** 2).sum(axis=1),
            empty[..., None],
            # Not a view, which would keep all of L in memory.
            L[:, effects:, effects:].copy(),
            solution,
            empty,
            total,
        )


def stacked(points: Sequence[LastBlocks]) -> LastBlocks:
    """What is left at some points, one after the other."""
    first = points[0]
    return LastBlocks(
        first.levels,
        np.stack([one.products for one in points]),
        np.stack([one.score for one in points]),
        np.array([one.square for one in points]),
        np.array([one.log_det for one in points]),
        first.log_det_fixed,
    )


@dataclass(frozen=True)
class LeadingDense:
    """The dense blocks before the last ones, and what they leave.

    Attributes
    ----------
    dense : Dense
        All of them, factored.
    levels : tuple of int
    across : FloatArray, shape (m, r)
        Rows of the factor for the last blocks and X, not multiplied by their Lambda.
    half : FloatArray, shape (m, 1)
        The same for y.
    last : LastBlocks
    """

    dense: Dense
    levels: tuple[int, ...]
    across: FloatArray
    half: FloatArray
    last: LastBlocks

    @classmethod
    def of(cls, h: ChainSums, factor: Factor) -> LeadingDense:
        """From an evaluation at one point."""
        eliminated, dense = at_one_point(factor)
        few = first_of_few(h)
        count, S = few - h.plan.chain, eliminated.trailing
        m = sum(block.q for block in h.frame.blocks[h.plan.chain : few])
        rows = np.zeros((S.shape[0] - 1, S.shape[0] - m))
        # The lower triangle is that of the cross-products.
        rows[:m] = S[m:, :m].T
        start = 0
        for T, J in zip(dense.lam[:count], dense.levels[:count], strict=True):
            part = rows[start : start + J * T.shape[0]].reshape(J, T.shape[0], -1)
            part[:] = T.T @ part
            start += J * T.shape[0]
        rows = solve_upper(dense.upper, rows, transposed=True)[:m]
        left = np.tril(S[m:, m:] - rows.T @ rows)
        left += np.tril(left, -1).T
        log_det = eliminated.log_det + 2.0 * float(np.log(np.diagonal(dense.upper)[:m]).sum())
        end = float(left[-1, -1])
        last = LastBlocks(dense.levels[count:], left[:-1, :-1], left[:-1, -1], end, log_det, h.frame.log_det_fixed)
        return cls(dense, dense.levels[:count], np.ascontiguousarray(rows[:, :-1]), rows[:, -1:], last)

    @cached_property
    def upper(self) -> FloatArray:
        """Their Cholesky factor (m, m), column by column in memory."""
        m = self.across.shape[0]
        return np.asfortranarray(self.dense.upper[:m, :m])


def solve_upper(upper: FloatArray, right: FloatArray, *, transposed: bool) -> FloatArray:
    """Solve with an upper factor, or its transpose, for rows (m, S) that are contiguous; in their place."""
    if right.size:
        # From the right, because the rows are the columns of what BLAS sees.
        blas.dtrsm(1.0, upper, right.T, side=1, lower=0, trans_a=int(not transposed), overwrite_b=1)
    return right
