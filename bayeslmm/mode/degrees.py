"""Degrees of freedom of contrasts of the fixed effects at a posterior mode.

Satterthwaite's method with the curvature of the log posterior in place of the log likelihood's: the variance f of a
contrast, given the variance parameters, has ``2 f^2 / var(f)`` degrees of freedom, var(f) from the gradient of f and
the inverse of half the Hessian of minus twice the log density. Parameters at a bound (an sd at zero) count as known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bayeslmm.likelihood import Factor
from bayeslmm.likelihood import parameters as par
from bayeslmm.mode.find import factor_at_mode, make_objective
from bayeslmm.mode.objective import Objective
from bayeslmm.mode.optimum import PosteriorMode
from bayeslmm.mode.search import free_variables, hessian
from bayeslmm.types import FloatArray

# Steps of the differences of variances, and curvatures (scaled to a unit diagonal) below which there are none.
_STEP = 1e-5
_FLAT = 1e-8
# Change of log f along a flat direction that matters.
_MOVES = 1e-4


def mode_df(mode: PosteriorMode, own: FloatArray) -> FloatArray:
    """Degrees of freedom (m,) of contrasts (m, p) of the coefficients of the orthogonalised columns.

    Parameters
    ----------
    mode : PosteriorMode
    own : FloatArray, shape (m, p)

    Returns
    -------
    FloatArray, shape (m,)
        nan where the density does not curve downwards, inf where the variance does not depend on the parameters.
    """

    def variance(factors: Sequence[FloatArray], factor: Factor) -> FloatArray:
        q2 = mode.cp.q_trailing
        half = np.linalg.solve(factor.chol[0, q2:, q2:], own.T)
        return np.asarray((half**2).sum(0))

    return mode_df_of(mode, variance)


def mode_df_of(mode: PosteriorMode, variance: Callable[[Sequence[FloatArray], Factor], FloatArray]) -> FloatArray:
    """The same of variances (m,), divided by sigma^2, from internal factors of the blocks and an evaluation."""
    objective = at_mode(mode)
    z, bounds = mode_coordinates(mode, objective), objective.coordinates.bounds()
    free = free_variables(z, objective(z)[1], bounds)
    H = hessian(objective, z, free, bounds)
    moved = [_slope(mode, objective, z, i, variance, bounds) for i in np.flatnonzero(free).tolist()]
    at = np.array(moved).T if moved else np.zeros((_variances(mode, objective, z, variance).size, 0))
    return _degrees(H, at)


def at_mode(mode: PosteriorMode) -> Objective:
    """What the mode is the minimum of."""
    fixed = {k: mode.cp.frame.structures[k].theta(mode.terms[k]) for k in mode.fixed}
    return make_objective(mode.cp, mode.priors, mode.reml, mode, fixed)


def mode_coordinates(mode: PosteriorMode, objective: Objective) -> FloatArray:
    """Coordinates of the mode."""
    return objective.coordinates.inverse(objective.factors_at_means(mode.terms), mode.sigma)


def _slope(
    mode: PosteriorMode,
    objective: Objective,
    z: FloatArray,
    i: int,
    variance: Callable[[Sequence[FloatArray], Factor], FloatArray],
    bounds: tuple[FloatArray, FloatArray],
) -> FloatArray:
    """Derivatives (m,) of the log variances of contrasts in one coordinate."""
    up, down = z.copy(), z.copy()
    up[i], down[i] = min(z[i] + _STEP, bounds[1][i]), max(z[i] - _STEP, bounds[0][i])
    pair = [np.log(_variances(mode, objective, at, variance)) for at in (up, down)]
    return np.asarray((pair[0] - pair[1]) / (up[i] - down[i]))


def _variances(
    mode: PosteriorMode,
    objective: Objective,
    z: FloatArray,
    variance: Callable[[Sequence[FloatArray], Factor], FloatArray],
) -> FloatArray:
    """Variances (m,) at coordinates."""
    places, sigma = objective.coordinates.places(z), objective.coordinates.sigma(z)
    factors = par.block_factors(objective.cp, [T[None] for T in objective.coordinates.factors(places)])
    return np.asarray(sigma**2 * variance(factors, factor_at_mode(objective.cp, mode.priors, factors, sigma)))


def _degrees(H: FloatArray, slopes: FloatArray) -> FloatArray:
    """``1 / (h' H^-1 h)`` of slopes h (m, f) of log variances."""
    if not H.size:
        return np.full(len(slopes), np.inf)
    scale = np.sqrt(np.maximum(np.diagonal(H), np.finfo(float).tiny))
    values, vectors = np.linalg.eigh(H / (scale * scale[:, None]))
    along = (slopes / scale) @ vectors
    flat = values < _FLAT
    with np.errstate(divide="ignore", invalid="ignore"):
        df = 1.0 / np.where(flat, 0.0, along**2 / np.where(flat, 1.0, values)).sum(1)
    return np.where((np.abs(along[:, flat]) > _MOVES).any(1), np.nan, df)
