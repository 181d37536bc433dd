"""Crossed factors at one point: elimination of all effects, scores, and what projections come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import solve_triangular

from bayeslmm.likelihood import small
from bayeslmm.likelihood.crossed_lanczos import LogDet
from bayeslmm.likelihood.crossed_operator import Operator
from bayeslmm.types import FloatArray


@dataclass(frozen=True)
class CrossedColumn:
    """Further columns (d of them) beside X and y, summed up as these are.

    Attributes
    ----------
    between : FloatArray, shape (J, c, d)
    within : FloatArray, shape (q, d)
        Within part of the products with the other factors.
    fixed : FloatArray, shape (p, d)
        Within part of the products with X.
    """

    between: FloatArray
    within: FloatArray
    fixed: FloatArray


@dataclass(frozen=True)
class CrossedPoint:
    """What is kept of one evaluation.

    Attributes
    ----------
    operator : Operator
    solved : FloatArray, shape (q, p + 1)
        ``K^-1 T'`` times what the elimination of the first factor leaves of the products with X and y.
    left : FloatArray, shape (p + 1, p + 1)
        ``(X, y)'V0^-1 (X, y)``.
    log_det : LogDet
        ``log |V0|`` with its gradient.
    """

    operator: Operator
    solved: FloatArray
    left: FloatArray
    log_det: LogDet

    @cached_property
    def effects(self) -> FloatArray:
        """Effects of the other factors for each column of (X, y), shape (q, p + 1)."""
        return self.operator.scaled(self.solved)

    @cached_property
    def scores(self) -> list[FloatArray]:
        """``Z'V0^-1 (X, y)`` (J, c, p + 1) of every block."""
        s = self.operator.s
        return self._scores(CrossedColumn(s.fixed, s.within, s.D[:-1]), self.effects)

    def scores_of_response(self, beta: FloatArray) -> list[FloatArray]:
        """``Z'V0^-1 (y - X beta)`` (J, c) of every block."""
        v = np.append(-beta, 1.0)
        return [s @ v for s in self.scores]

    def _scores(self, column: CrossedColumn, b: FloatArray) -> list[FloatArray]:
        """``Z'V0^-1 (column)`` from the effects b (q, d) that the column gives."""
        operator, s = self.operator, self.operator.s
        fitted = s.cells.times(b)
        e = small.dot(operator.M, column.between - fitted)
        last = column.within - s.products @ b + s.cells.transposed_times(fitted + e)
        tail = [last[span].reshape(block.n_levels, block.size, -1) for block, span in s.others]
        return [small.dot(small.transpose(s.R), e), *tail]

    def columns(self, z: Sequence[FloatArray]) -> CrossedColumn:
        """``Z z`` for coefficients (J, c, d) of every block."""
        s = self.operator.s
        rest = np.concatenate([x.reshape(-1, x.shape[-1]) for x in z[1:]])
        other = s.cells.times(rest)
        within = s.products @ rest - s.cells.transposed_times(other)
        return CrossedColumn(small.dot(s.R, z[0]) + other, within, s.within[:, :-1].T @ rest)

    def projected(self, column: CrossedColumn, chol: FloatArray | None) -> list[FloatArray]:
        """``Z'P0 (column)`` (J, c, d) of every block, chol (p, p) being a factor of ``X'V0^-1 X``; None for V0^-1."""
        operator, s = self.operator, self.operator.s
        swept = small.dot(operator.M, column.between)
        right = operator.scaled(column.within + s.cells.transposed_times(swept), transposed=True)
        solved = operator.solve(right)
        found = self._scores(column, operator.scaled(solved))
        p = self.left.shape[0] - 1
        if chol is None or not p:
            return found
        flat = swept.reshape(-1, swept.shape[-1])
        own = column.fixed + s.fixed[..., :-1].reshape(-1, p).T @ flat - self.solved[:, :-1].T @ right
        beta = solve_triangular(chol, solve_triangular(chol, own, lower=True), lower=True, trans=1)
        return [x - score[..., :-1] @ beta for x, score in zip(found, self.scores, strict=True)]


_UNKNOWN = LogDet(float("nan"), (), np.zeros(0), ())


def evaluate_point(operator: Operator, log_det: LogDet = _UNKNOWN) -> CrossedPoint:
    """Eliminate all effects at one point; solutions need no determinant."""
    s = operator.s
    swept = small.dot(operator.M, s.fixed)
    right = operator.scaled(s.within + s.cells.transposed_times(swept), transposed=True)
    solved = operator.solve(right)
    # The error of the solution enters by its square.
    rest = right - operator.times(solved)
    left = s.D + s.fixed.reshape(-1, s.D.shape[0]).T @ swept.reshape(-1, s.D.shape[0])
    left = left - right.T @ solved - rest.T @ solved
    return CrossedPoint(operator, solved, 0.5 * (left + left.T), log_det)
