"""Polynomials for what an elimination leaves of a few last effects, from which the likelihood follows exactly.

Once all other effects are eliminated, what is left of the last blocks' effects, X and y are the cross-products of some
dozens of columns (`likelihood/last_blocks.py`). They depend on the other covariances alone, and the likelihood at any
covariance of the last blocks follows from them, so that polynomials need not be functions of these: the region they
hold on has fewer sides and no end along the sd of a factor with few levels, whose tails are long.

Polynomials stand for a Cholesky factor (logarithms of its diagonal, ratios to the diagonal below it), which keeps the
cross-products nonnegative. Directions in which they vanish at all nodes, as where the levels of a factor sum to the
intercept, are left out, so that they vanish between the nodes as well; multiples of X in y, as an offset, cancel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bayeslmm.bayes.surrogate_nodes import Box, from_logs, in_logs
from bayeslmm.likelihood import Factor, small
from bayeslmm.likelihood.factor import stacked as together
from bayeslmm.likelihood.last_blocks import LastBlocks, stacked
from bayeslmm.numerics.polynomial import Polynomial, basis, scaled
from bayeslmm.types import BoolArray, FloatArray, IntArray

# Squared length of a direction, beside the largest, that is rounding.
_VANISHING = 1e-11
# Doubles of the matrices of points that are looked at together.
_CHUNK = 2_000_000
# Steepness of the density beyond the box.
WALL = 2000.0


@dataclass(frozen=True)
class LastSurrogate:
    """What is left of the last effects, by polynomials in the coordinates of all others.

    Attributes
    ----------
    polynomial : Polynomial
        Outputs: log determinant of what is eliminated, the factor as of `in_logs`.
    own : BoolArray, shape (d,)
        The coordinates that it is a function of.
    folded : BoolArray, shape (d,)
    directions : FloatArray, shape (r, m)
        Cross-products of the last effects and X are ``directions C C' directions'``, C the leading part (m, m) of the
        factor.
    like : LastBlocks
        At one point, for what does not depend on it.
    """

    polynomial: Polynomial
    own: BoolArray
    folded: BoolArray
    directions: FloatArray
    like: LastBlocks

    def __call__(self, x: FloatArray, factors: Sequence[FloatArray]) -> Factor:
        """What densities need at K points x (K, d), with the factors (K, c, c) of the last blocks there."""
        K, (r, m) = x.shape[0], self.directions.shape
        step = max(1, _CHUNK // (m + r + 1) ** 2)
        parts = [slice(k, k + step) for k in range(0, K, step)] or [slice(0, 0)]
        return together([self._at(x[part], [T[part] for T in factors]) for part in parts])

    def _at(self, x: FloatArray, factors: Sequence[FloatArray]) -> Factor:
        """Least squares of the columns of the factor, in which nothing cancels however large the factors are.

        With V the rows of `directions` C, A those of the effects times their factors, ``S = I + A'A`` and c the part of
        y: the determinant is that of S, and beta minimises ``(c - V_x' beta)' S^-1 (c - V_x' beta)``.
        """
        log_det, C = self._predicted(x)
        K, m = C.shape[0], C.shape[1] - 1
        V = self.directions @ C[:, :m, :m]
        A, of_x = self._times_factors(V, factors)
        p = of_x.shape[1]
        # Below S in a joint factor is what S leaves of these; what is beside them only keeps it positive.
        joint = np.zeros((K, m + p + 1, m + p + 1))
        small.add_identity(np.matmul(small.transpose(A), A, out=joint[:, :m, :m]), m)
        joint[:, m:-1, :m], joint[:, -1, :m] = of_x, C[:, -1, :m]
        places = np.arange(m, m + p + 1)
        joint[:, places, places] = 1.0 + (joint[:, m:, :m] ** 2).sum(axis=(1, 2))[:, None]
        L = small.cholesky_if_positive(joint)
        of_x, of_y = L[:, m:-1, :m], L[:, -1, :m]
        chol = small.cholesky_if_positive(of_x @ small.transpose(of_x))
        half = np.linalg.solve(chol, of_x @ of_y[..., None])
        beta = np.linalg.solve(small.transpose(chol), half)[..., 0]
        left = of_y - (small.transpose(of_x) @ beta[..., None])[..., 0]
        r2 = C[:, -1, -1] ** 2 + (left**2).sum(axis=1)
        log_det = log_det + 2.0 * np.log(np.diagonal(L, axis1=1, axis2=2)[:, :m]).sum(axis=1)
        fixed = self.like.log_det_fixed + 2.0 * np.log(np.diagonal(chol, axis1=1, axis2=2)).sum(axis=1)
        empty = np.empty((K, 0))
        return Factor(log_det, fixed, r2, empty[..., None], chol, beta, empty, r2)

    def _predicted(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Log determinants (K,) of what is eliminated, and the factors C (K, m + 1, m + 1)."""
        u = np.where(self.folded, np.abs(x), x)[:, self.own]
        values = self.polynomial(np.clip(u, self.polynomial.lower, self.polynomial.upper))
        C = from_logs(values[:, 1:], self.directions.shape[1] + 1)
        return values[:, 0] + WALL * self.polynomial.beyond(u), C

    def _times_factors(self, V: FloatArray, factors: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray]:
        """``T' V`` of the last effects (K, q, m), and the rows of X (K, p, m)."""
        K, m = V.shape[0], V.shape[2]
        start, parts = 0, [np.empty((K, 0, m))]
        for T, J in zip(factors, self.like.levels, strict=True):
            c = T.shape[-1]
            own = V[:, start : start + J * c].reshape(K, J, c, m)
            parts.append((own * T[:, None] if c == 1 else small.transpose(T)[:, None] @ own).reshape(K, J * c, m))
            start += J * c
        return np.concatenate(parts, axis=1), V[:, start:]


def fit_last(
    x: FloatArray,
    last: Sequence[LastBlocks],
    box: Box,
    exponents: IntArray,
    importance: FloatArray,
    folded: BoolArray,
) -> LastSurrogate:
    """Least squares at nodes x (K, d), all in the box, but where rounding leaves no factor.

    Raises
    ------
    numpy.linalg.LinAlgError
        It leaves none anywhere.
    """
    nodes, u = stacked(last), x[:, box.own]
    scale = np.sqrt(np.diagonal(nodes.products, axis1=1, axis2=2).mean(axis=0))
    scale[scale == 0.0] = 1.0
    values, vectors = np.linalg.eigh((nodes.products / (scale[:, None] * scale)).mean(axis=0))
    there = vectors[:, values > _VANISHING * max(float(values.max(initial=0.0)), 1e-300)]
    inward = there / scale[:, None]
    size = there.shape[1] + 1
    M = np.empty((u.shape[0], size, size))
    M[:, :-1, :-1] = inward.T @ nodes.products @ inward
    M[:, -1, :-1] = M[:, :-1, -1] = nodes.score @ inward
    M[:, -1, -1] = nodes.square
    C = small.cholesky_if_positive(M)
    sound = np.isfinite(C).all(axis=(1, 2))
    if not sound.any():
        raise np.linalg.LinAlgError("no cross-products that are left of the last effects are positive definite")
    outputs = np.column_stack([nodes.log_det, in_logs(C)])
    share = importance[sound, None]
    rows = share * basis(scaled(u[sound], box.lower, box.upper), exponents)
    solution = np.linalg.lstsq(rows, share * outputs[sound], rcond=1e-13)[0]
    directions = scale[:, None] * there
    return LastSurrogate(Polynomial(box.lower, box.upper, exponents, solution), box.own, folded, directions, last[0])
