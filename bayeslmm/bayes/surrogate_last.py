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

from bayeslmm.bayes.surrogate_nodes import Box
from bayeslmm.likelihood import Factor, small
from bayeslmm.likelihood.last_blocks import LastBlocks, stacked
from bayeslmm.numerics.polynomial import Polynomial, basis, scaled
from bayeslmm.types import BoolArray, FloatArray, IntArray

# Squared length of a direction, beside the largest, that is rounding.
_VANISHING = 1e-11
# Steepness of the density beyond the box.
WALL = 2000.0


@dataclass(frozen=True)
class LastSurrogate:
    """What is left of the last effects, by polynomials in the coordinates of all others.

    Attributes
    ----------
    polynomial : Polynomial
        Outputs: log determinant of what is eliminated, logarithms of the diagonal of the factor, ratios below it.
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
        u = np.where(self.folded, np.abs(x), x)[:, self.own]
        lower, upper = self.polynomial.lower, self.polynomial.upper
        values = self.polynomial(np.clip(u, lower, upper))
        K, size = x.shape[0], self.directions.shape[1] + 1
        diagonal = np.exp(np.clip(values[:, 1 : size + 1], -300.0, 300.0))
        C = np.zeros((K, size, size))
        C[:, *np.tril_indices(size, -1)] = values[:, size + 1 :]
        C[:, np.arange(size), np.arange(size)] = 1.0
        C *= diagonal[:, None, :]
        half, of_y = self.directions @ C[:, :-1, :-1], C[:, -1]
        last = LastBlocks(
            self.like.levels,
            half @ small.transpose(half),
            (half @ of_y[:, :-1, None])[..., 0],
            (of_y**2).sum(axis=1),
            values[:, 0] + WALL * self.polynomial.beyond(u),
            self.like.log_det_fixed,
        )
        return last.evaluate(factors, K)


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
    diagonal = np.diagonal(C, axis1=1, axis2=2)
    below = (C / diagonal[:, None, :])[:, *np.tril_indices(size, -1)]
    outputs = np.column_stack([nodes.log_det, np.log(diagonal), below])
    share = importance[sound, None]
    rows = share * basis(scaled(u[sound], box.lower, box.upper), exponents)
    solution = np.linalg.lstsq(rows, share * outputs[sound], rcond=1e-13)[0]
    directions = scale[:, None] * there
    return LastSurrogate(Polynomial(box.lower, box.upper, exponents, solution), box.own, folded, directions, last[0])
