"""Value and exact gradient of the density of y where residuals have parameters, from sums by pattern.

With ``M = sum of (X C X' + r r' / sigma^2)`` over the groups of a pattern, C the covariance of beta over sigma^2 and r
the residuals at its mean, -2 log p(y) changes by ``tr((N V^-1 - V^-1 M V^-1) dV)`` with the covariance V of a pattern
of N groups. M is a product of the sums of the pattern with one matrix, the same for all.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.linalg import cho_solve

from bayeslmm.likelihood.crossproducts import SummedDesign
from bayeslmm.likelihood.density_gradient import DensityGradient, value_and_slope
from bayeslmm.likelihood.factor import Factor
from bayeslmm.likelihood.normal_prior import NormalPrior, internal_prior
from bayeslmm.likelihood.patterns import AlikeGroups, PatternSums
from bayeslmm.residual.together import group_inner_slopes
from bayeslmm.types import FloatArray


def pattern_gradient(
    cp: SummedDesign,
    sums: PatternSums,
    terms: Sequence[FloatArray],
    lam: FloatArray,
    sigma: float,
    prior: NormalPrior | None = None,
) -> DensityGradient:
    """-2 log p(y | G, lam, sigma) with beta and the random effects integrated out, and its gradient.

    Parameters
    ----------
    cp : SummedDesign
        Coordinates of the fixed effects.
    sums : PatternSums
    terms : sequence of FloatArray, each (c, c)
        Relative factors of every term on the columns of the design.
    lam : FloatArray, shape (k,)
    sigma : float
    prior : NormalPrior, optional
        Of beta; flat by default.

    Raises
    ------
    numpy.linalg.LinAlgError
        There are no digits.
    """
    factors = [T[None] for T in terms]
    factor = sums.evaluate(factors, lam[None], cp.log_weights)
    if not np.isfinite(factor.chol).all():
        raise np.linalg.LinAlgError("the covariance is singular to rounding")
    value, slope, _ = value_and_slope(cp, factor, sigma, prior)
    weights = _weights(cp, factor, sigma, prior)
    covariances, own = [np.zeros_like(T) for T in terms], np.zeros(lam.size)
    for part in sums.parts:
        G = _slopes_of(part, factors, lam, weights)
        own += group_inner_slopes(part.residual, lam, part.m, G, part.more, part.groups.counts)
        for slopes, Z in zip(covariances, part.Z, strict=True):
            columns = Z.reshape(*part.more.shape, -1, slopes.shape[0])
            half = (G @ columns.reshape(*part.more.shape, -1)).reshape(columns.shape)
            slopes += np.einsum("uslc,usld->cd", columns, half)
    return DensityGradient(value, tuple(covariances), slope, own)


def _weights(cp: SummedDesign, factor: Factor, sigma: float, prior: NormalPrior | None) -> FloatArray:
    """What the products of rows of (X, y) count for in M, packed as these are."""
    p = cp.p
    L, beta = factor.chol[0], factor.solution[0]
    precision = L @ L.T
    if prior is not None and p:
        internal = internal_prior(cp, prior)
        own = sigma**2 * internal.precision
        precision = precision + own
        beta = beta + np.linalg.solve(precision, own @ (internal.mean - beta))
    v = np.append(-beta, 1.0)
    W = np.outer(v, v) / sigma**2
    W[:p, :p] += cho_solve((np.linalg.cholesky(precision), True), np.eye(p)) if p else 0.0
    i, j = np.tril_indices(p + 1)
    return np.asarray(W[i, j] * np.where(i == j, 0.5, 1.0))


def _slopes_of(part: AlikeGroups, factors: Sequence[FloatArray], lam: FloatArray, weights: FloatArray) -> FloatArray:
    """``N V^-1 - V^-1 M V^-1`` (U, m, m) of all patterns."""
    U, m = part.more.shape
    s, t = np.tril_indices(m)
    inverse, M = np.empty((U, m, m)), np.empty((U, m, m))
    inverse[:, s, t] = inverse[:, t, s] = part.inverses(factors, lam[None])[0].reshape(U, -1)
    M[:, s, t] = M[:, t, s] = (part.sums @ weights).reshape(U, -1) * np.where(s == t, 2.0, 1.0)
    return np.asarray(part.groups.counts[:, None, None] * inverse - inverse @ M @ inverse)
