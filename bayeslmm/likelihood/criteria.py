"""The three log densities of a linear mixed model, each as -2 log, and the profiled criteria.

Every density is of y given (theta, sigma) with the random effects integrated out; they differ in what
happens to beta: at its conditional estimate (ML), integrated over a flat prior (REML; Harville 1974), or
integrated over a normal prior.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bayeslmm.likelihood.crossproducts import CrossProducts
from bayeslmm.likelihood.derivatives import Derivatives
from bayeslmm.likelihood.factor import Factor, Replicates
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
    return cp.sums.derivatives(factors, factor, degrees_of_freedom(cp, reml), reml)


def degrees_of_freedom(cp: CrossProducts, reml: bool) -> int:
    """N - p for REML, n for ML."""
    return cp.n - cp.p if reml else cp.n


def log_determinant(cp: CrossProducts, factor: Factor, reml: bool) -> FloatArray:
    """The part of the criterion without sigma: ld - slw, plus ldX for REML; shape (K,)."""
    total = factor.log_det - cp.log_weights
    return total + factor.log_det_fixed if reml else total


def profiled(cp: CrossProducts, factor: Factor, reml: bool = True) -> FloatArray:
    """Criterion minimised over sigma, shape (K,); lme4's REMLcrit or deviance."""
    nu = degrees_of_freedom(cp, reml)
    return log_determinant(cp, factor, reml) + nu * (1.0 + LOG_2PI + np.log(factor.r2 / nu))


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
