"""Densities of groups left out as polynomials of the variance parameters, from a few of the draws.

Sigma apart, such a density is a log determinant and a square, which are analytic functions of the variance parameters
and vary little over a posterior of much data. They are computed at the draws that determine a polynomial best, and at
some more at random, which say how far it is off.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.linalg import qr

from bayeslmm.bayes.variance_draws import VarianceDraws
from bayeslmm.likelihood.leave_out import GroupsLeftOut
from bayeslmm.numerics.polynomial import basis, exponents_of, scaled
from bayeslmm.types import FloatArray, IntArray

# Degree at most, terms of two attempts (or those of a quadratic, where more), and draws that check.
_DEGREE, _TERMS, _CHECKS = 14, (18, 28), 4
# Draws for each that is computed, below which they may as well be computed themselves.
_WORTH = 3
# Share of the mean square of an sd below which its logarithm levels off.
_LEVEL = 0.1


def smooth_densities(
    at: Callable[[IntArray], GroupsLeftOut], values: VarianceDraws, sizes: FloatArray, given_sigma: bool
) -> tuple[FloatArray, FloatArray] | None:
    """Log densities (K, G) of groups at K draws, without each group and with it.

    Parameters
    ----------
    at : callable
        Exact densities at some of the draws.
    values : VarianceDraws
    sizes : FloatArray, shape (G,)
        Observations of each group.
    given_sigma : bool
        Whether the relative precision of y depends on sigma, as it does with a prior of the fixed effects.

    Returns
    -------
    tuple of FloatArray, or None
        None where draws are few or at zero, or where the error is larger than the Monte Carlo error of the average
        over the draws: of the sum of all groups, or of single groups (root mean square).
    """
    x, sigma = _coordinates(values, given_sigma), values.sigma[:, None]
    lower, upper = x.min(axis=0), x.max(axis=0)
    logs = sizes * np.log(sigma)
    rng, nodes, known = np.random.default_rng(0), np.empty(0, dtype=np.int64), np.empty((0, 4 * sizes.size))
    for most in _TERMS:
        columns = basis(scaled(x, lower, upper), _exponents(upper - lower, most))
        if _WORTH * (columns.shape[1] + _CHECKS) > sigma.size:
            return None
        chosen = _determining(columns, nodes)
        checks = rng.choice(np.setdiff1d(np.arange(sigma.size), np.r_[nodes, chosen]), _CHECKS, replace=False)
        fresh = np.r_[chosen, checks]
        exact = at(fresh)
        parts = [
            part
            for density, square in ((exact.log_density, exact.square), (exact.log_density_kept, exact.square_kept))
            for part in (density + 0.5 * square + logs[fresh], square * sigma[fresh] ** 2)
        ]
        nodes, known = np.r_[nodes, fresh], np.concatenate([known, np.hstack(parts)])

        def densities(values: FloatArray, draws: IntArray | slice) -> tuple[FloatArray, ...]:
            first, square, second, other = np.split(values, 4, axis=1)
            scale = 0.5 / sigma[draws] ** 2
            return first - logs[draws] - scale * square, second - logs[draws] - scale * other

        smooth = densities(_fitted(columns, nodes, known), slice(None))
        checked = densities(_fitted(columns, nodes[:-_CHECKS], known[:-_CHECKS])[checks], checks)
        right = densities(known[-_CHECKS:], checks)
        if all(_negligible(a - b, every) for a, b, every in zip(checked, right, smooth, strict=True)):
            return smooth[0], smooth[1]
    return None


def _exponents(width: FloatArray, most: int) -> IntArray:
    """Exponents (C, d) of about that many terms, and the third power of every coordinate.

    Sums of many densities are known well where parameters are: their third powers count along the shortest coordinates.
    """
    d = width.size
    found = exponents_of(width, _DEGREE, max(most, (d + 1) * (d + 2) // 2))
    return np.unique(np.concatenate([found, 3 * np.eye(d, dtype=found.dtype)]), axis=0)


def _coordinates(values: VarianceDraws, given_sigma: bool) -> FloatArray:
    """Coordinates (K, d) in which a posterior is near normal; those that do not vary are left out."""
    parts = [_logs(sds) for sds in values.relative_sds] + [np.arctanh(r) for r in values.correlations]
    x = np.column_stack([*parts, values.lam, np.log(values.sigma)[:, None] if given_sigma else values.lam[:, :0]])
    return np.asarray(x[:, (x != x[0]).any(axis=0)])


def _logs(sds: FloatArray) -> FloatArray:
    """Logarithms that level off where an sd is so small that nothing depends on it any more; zero has one."""
    square = sds**2
    return np.asarray(0.5 * np.log(square + _LEVEL * square.mean(axis=0) + np.finfo(float).tiny))


def _determining(columns: FloatArray, nodes: IntArray) -> IntArray:
    """Draws that determine the coefficients of the columns (K, C) best, together with those that are known."""
    known = np.linalg.qr(columns[nodes].T)[0]
    left = columns.T - known @ (known.T @ columns.T)
    left[:, nodes] = 0.0
    # Pivots are draws whose values leave the least to the others.
    return np.asarray(qr(left, mode="r", pivoting=True)[1][: max(columns.shape[1] - nodes.size, 0)])


def _fitted(columns: FloatArray, rows: IntArray, known: FloatArray) -> FloatArray:
    """Values of polynomials at all draws, by least squares on some."""
    return np.asarray(columns @ np.linalg.lstsq(columns[rows], known, rcond=1e-12)[0])


def _negligible(error: FloatArray, densities: FloatArray) -> bool:
    """Whether averages over the draws (K, G) are off by less than their Monte Carlo error, by errors (C, G) of some."""
    K = densities.shape[0]
    single = _bias(error).mean() <= densities.var(axis=0).mean() / K
    return bool(single and _bias(error.sum(axis=1)) <= densities.sum(axis=1).var() / K)


def _bias(error: FloatArray) -> FloatArray:
    """Square of the mean of errors over the first axis, with its own uncertainty."""
    return np.asarray(error.mean(axis=0) ** 2 + error.var(axis=0, ddof=1) / error.shape[0])
