"""Effects of crossed factors given the fixed effects: means, draws, covariances, errors of predictions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from scipy.linalg import solve_triangular

from bayeslmm.errors import FitError
from bayeslmm.likelihood import small
from bayeslmm.likelihood.crossed_kernels import packed_forms
from bayeslmm.likelihood.crossed_operator import Operator
from bayeslmm.likelihood.crossed_packed import Packed, factor_packed, scaled_cells
from bayeslmm.likelihood.crossed_point import CrossedPoint
from bayeslmm.likelihood.crossed_roots import inverse_roots
from bayeslmm.types import FloatArray, IntArray

# Rows whose errors are solved for at once.
_ROWS = 32


class GivenFixed:
    """The distribution of all effects given beta at one point.

    Given beta and the other factors' effects b, those of the first are ``A (E_y - E_X beta - E b)`` level by level
    with ``A = G R'M``, and covariance ``T (I + F'F)^-1 T'``, ``F = R T``.
    """

    def __init__(self, point: CrossedPoint) -> None:
        self.point, self.operator, self.s = point, point.operator, point.operator.s

    @cached_property
    def _gain(self) -> FloatArray:
        T, R = self.operator.T[0], self.s.R
        return small.dot(T @ T.T, small.dot(small.transpose(R), self.operator.M))

    @cached_property
    def _own(self) -> FloatArray:
        """Cholesky factors (J, c, c) of ``I + F'F``."""
        F = small.dot(self.s.R, self.operator.T[0])
        return small.cholesky(small.add_identity(small.dot(small.transpose(F), F)))

    def effects(self, beta: FloatArray, sigma: float | None, rng: np.random.Generator | None) -> list[FloatArray]:
        """Means (J, c) of every block, or a draw."""
        v, s = np.append(-beta, 1.0), self.s
        u = self.point.solved @ v
        if sigma is not None and rng is not None:
            u = u + sigma * inverse_roots(self.operator, rng.standard_normal((s.q, 1)))[:, 0]
        b = self.operator.scaled(u[:, None])
        first = small.dot(self._gain, (s.fixed @ v)[..., None] - s.cells.times(b))
        if sigma is not None and rng is not None:
            noise = sigma * rng.standard_normal((*first.shape[:2], 1))
            first = first + small.dot(self.operator.T[0], small.solve_upper(self._own, noise))
        return [first[..., 0], *self._tiles(b[:, 0])]

    def _tiles(self, flat: FloatArray) -> list[FloatArray]:
        return [flat[span].reshape(block.n_levels, block.size) for block, span in self.s.others]

    def variances(self, chol: FloatArray, fixed_known: bool) -> list[FloatArray]:
        """Covariances (J, c, c) of internal effects over sigma^2, from the whole inverse."""
        operator, s = self.operator, self.s
        inverse: Packed = factor_packed(operator).inverse()
        T, J = operator.T[0], s.R.shape[0]
        half = small.solve_lower(self._own, np.broadcast_to(T.T, (J, *T.shape)))
        first = small.dot(small.transpose(half), half)
        first = first + packed_forms(scaled_cells(operator, self._gain), inverse.numbers, inverse.half)
        tiles = inverse.tiles(operator)
        out = [first, *(small.dot(small.dot(t, x), t.T) for t, x in zip(operator.T[1:], tiles, strict=True))]
        if fixed_known or not chol.size:
            return out
        moved = self._moves()
        back = solve_triangular(chol, np.eye(chol.shape[0]), lower=True).T
        for i, move in enumerate(moved):
            own = move @ back
            out[i] = out[i] + own @ small.transpose(own)
        return out

    def _moves(self) -> list[FloatArray]:
        """By how much every effect falls with each fixed effect, (J, c, p) of every block."""
        s, b = self.s, self.point.effects[:, :-1]
        first = small.dot(self._gain, s.fixed[..., :-1] - s.cells.times(b))
        return [first, *(b[span].reshape(block.n_levels, block.size, -1) for block, span in s.others)]

    def row_errors(self, chol: FloatArray, x: FloatArray, known: Sequence[tuple[FloatArray, IntArray]]) -> FloatArray:
        """See `sums.Sums.row_errors`."""
        out = np.empty(x.shape[0])
        for start in range(0, x.shape[0], _ROWS):
            rows = slice(start, start + _ROWS)
            out[rows] = self._errors(chol, x[rows], [(w[rows], codes[rows]) for w, codes in known])
        return out

    def _errors(self, chol: FloatArray, x: FloatArray, known: Sequence[tuple[FloatArray, IntArray]]) -> FloatArray:
        operator, s, k = self.operator, self.s, x.shape[0]
        w, codes = known[0]
        T = operator.T[0]
        own = small.solve_lower(self._own[codes], (w @ T)[:, :, None])[:, :, 0]
        through = (w[:, None] @ self._gain[codes])[:, 0]
        a = np.zeros((s.q, k))
        for (block, span), (z, place) in zip(s.others, known[1:], strict=True):
            at = span.start + place[:, None] * block.size + np.arange(block.size)
            a[at, np.arange(k)[:, None]] = z
        for i in range(k):
            cells = slice(s.cells.starts[codes[i]], s.cells.starts[codes[i] + 1])
            a[s.cells.columns[cells], i] -= s.cells.values[cells] @ through[i]
        right = operator.scaled(a, transposed=True)
        total = (own**2).sum(1) + (right * operator.solve(right)).sum(0)
        d = x - (through[:, :, None] * s.fixed[codes][..., :-1]).sum(1) - a.T @ self.point.effects[:, :-1]
        half = solve_triangular(chol, d.T, lower=True) if chol.size else np.zeros((0, k))
        return np.asarray(total + (half**2).sum(0))


def refuse_variances(operator: Operator) -> None:
    """Say what to do in the place of an inverse that is too large."""
    q = operator.s.q
    raise FitError(
        f"Conditional variances of all effects need the inverse of a {q:,} x {q:,} matrix, "
        f"{4e-9 * q * q:.0f} GB, which store='stochastic' does not form. Means need none: "
        "fit.ranef(), and fit.predict(rows) has the standard errors of single rows. Where the memory is there, "
        "store='anchored' forms it."
    )
