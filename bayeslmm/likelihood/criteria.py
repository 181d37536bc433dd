"""The three log densities of a linear mixed model, each as -2 log, and the profiled criteria.

Every density is of y given (theta, sigma) with the random effects integrated out; they differ in what
happens to beta: at its conditional estimate (ML), integrated over a flat prior (REML; Harville 1974), or
integrated over a normal prior.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bayeslmm.likelihood.crossproducts import CrossProducts
from bayeslmm.likelihood.derivatives import Derivatives
from bayeslmm.likelihood.factor import Factor, Replicates
from bayeslmm.likelihood.level_sums import LevelSums
from bayeslmm.types import FloatArray

LOG_2PI = float(np.log(2.0 * np.pi))


def evaluate(
    cp: CrossProducts,
    factors: Sequence[FloatArray],
    replicates: Replicates | None = None,
    keep: bool = False,
) -> Factor:
    """Eliminate the random effects at K points.

    Parameters
    ----------
    cp : CrossProducts
    factors : sequence of FloatArray, each of shape (K, c, c)
        Internal relative factor of each block of ``cp.blocks``; any square root of the covariance will do,
        singular ones included.
    replicates : Replicates, optional
        One response for each point in place of the design's.
    keep : bool
        Whether derivatives at more than one point will be asked for.

    Returns
    -------
    Factor

    References
    ----------
    Bates et al. (2015), J. Stat. Softw. 67(1), eqs 18-25.
    """
    return cp.sums.evaluate(factors, replicates, keep)


def evaluated_with_slopes(
    cp: CrossProducts, factors: Sequence[FloatArray]
) -> tuple[Factor, tuple[FloatArray, ...], tuple[FloatArray, ...]]:
    """The evaluation at K points, and what `Derivatives` has as traces (by REML) and squares: no second derivatives.

    Parameters
    ----------
    cp : CrossProducts
    factors : sequence of FloatArray, each (K, c, c)
        K is 1 for a hierarchy.
    """
    if isinstance(cp.sums, LevelSums) and cp.sums.worth_loops and factors[0].shape[0] > 1:
        from bayeslmm.likelihood.level_loops import gradient

        factor = evaluate(cp, factors)
        slopes = gradient(cp.sums, factors[0], factor.chol, factor.residual) if factor.first is None else None
        if slopes is not None:
            return factor, slopes[:1], slopes[1:]
    factor = evaluate(cp, factors, keep=cp.sums.batched)
    first = derivatives(cp, factors, factor)
    return factor, first.traces, first.squares


def derivatives(cp: CrossProducts, factors: Sequence[FloatArray], factor: Factor, reml: bool = True) -> Derivatives:
    """Gradient of the profiled criterion in the covariance of every block.

    Parameters
    ----------
    cp : CrossProducts
    factors : sequence of FloatArray, each (K, c, c)
        Internal relative factors; K is 1 for a hierarchy.
    factor : Factor
        ``evaluate(cp, factors)``, with ``keep=True`` if K > 1.
    reml : bool

    Returns
    -------
    Derivatives
    """
    nu = degrees_of_freedom(cp, reml)
    if cp.sigma is None:
        return cp.sums.derivatives(factors, factor, nu, reml)
    # At a given sigma r2 counts as it is: nu / r2 is 1 / sigma^2, and no change of r2 moves sigma.
    given = replace(factor, r2=np.where(np.isnan(factor.r2), np.nan, nu * cp.sigma**2))
    first = cp.sums.derivatives(factors, given, nu, reml)
    return replace(first, r2=np.full(first.r2.shape, np.inf))


def degrees_of_freedom(cp: CrossProducts, reml: bool) -> int:
    """N - p for REML, n for ML."""
    return cp.n - cp.p if reml else cp.n


def residual_df(cp: CrossProducts, reml: bool) -> float:
    """Degrees of freedom from which sigma^2 is estimated: infinite where it is known."""
    return float(degrees_of_freedom(cp, reml)) if cp.sigma is None else float("inf")


def residual_variance(cp: CrossProducts, r2: FloatArray, reml: bool) -> FloatArray:
    """Sigma^2 (K,): the one that minimises the criterion, or the one that is known."""
    r2 = np.asarray(r2, dtype=float)
    if cp.sigma is not None:
        return np.where(np.isnan(r2), np.nan, cp.sigma**2)
    return np.asarray(np.maximum(r2, 0.0) / degrees_of_freedom(cp, reml))


def over_sigma(cp: CrossProducts, r2: FloatArray, reml: bool) -> FloatArray:
    """The part of the criterion with sigma, minimised over it where it is not known; shape of `r2`."""
    nu = degrees_of_freedom(cp, reml)
    if cp.sigma is None:
        return np.asarray(nu * (1.0 + LOG_2PI + np.log(r2 / nu)))
    # Divided twice: the square of a small sigma may be nothing.
    return np.asarray(nu * (LOG_2PI + 2.0 * np.log(cp.sigma)) + np.asarray(r2) / cp.sigma / cp.sigma)


def log_determinant(cp: CrossProducts, factor: Factor, reml: bool) -> FloatArray:
    """The part of the criterion without sigma: ld - slw, plus ldX for REML; shape (K,)."""
    total = factor.log_det - cp.log_weights
    return total + factor.log_det_fixed if reml else total


def profiled(cp: CrossProducts, factor: Factor, reml: bool = True) -> FloatArray:
    """Criterion minimised over sigma, or at the sigma that is known, shape (K,); lme4's REMLcrit or deviance."""
    return log_determinant(cp, factor, reml) + over_sigma(cp, factor.r2, reml)


def minus_two_log_density(cp: CrossProducts, factor: Factor, sigma: FloatArray, reml: bool = True) -> FloatArray:
    """``d_R`` (or ``d_ML`` at the conditional estimate of beta).

    Parameters
    ----------
    cp : CrossProducts
    factor : Factor
        K points.
    sigma : FloatArray, shape (K,) or (K, S) or scalar
        Residual standard deviation in the units of y; a second axis evaluates S values at every point.
    reml : bool
        Whether beta is integrated over a flat prior.

    Returns
    -------
    FloatArray
        Same shape as `sigma` broadcast over the points.
    """
    sigma = np.asarray(sigma, dtype=float)
    shape = (-1,) + (1,) * max(sigma.ndim - 1, 0)
    constant = log_determinant(cp, factor, reml).reshape(shape)
    nu = degrees_of_freedom(cp, reml)
    return np.asarray(nu * (LOG_2PI + 2.0 * np.log(sigma)) + constant + factor.r2.reshape(shape) / sigma**2)
