"""How well all covariance parameters of a fit are known, those of the residuals among them, and what follows from that.

With sigma profiled out, in coordinates x of the relative covariances and the residual parameters together, the inverse
of half the Hessian is their asymptotic covariance, and degrees of freedom follow as in `satterthwaite`:

    1 / df = 1 / nu + h' H^-1 h ,   h = d log(f r2) / dx .
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.linalg import solve_triangular

from bayeslmm.inference.sensitivity import MOVED, scaled_inverse
from bayeslmm.likelihood import Factor, SummedDesign
from bayeslmm.likelihood.criteria import degrees_of_freedom
from bayeslmm.numerics.differences import slopes
from bayeslmm.reml.residual_optimum import ResidualOptimum
from bayeslmm.types import FloatArray

# Curvatures below this, after scaling to a unit diagonal, are none.
_FLAT = 1e-8
# Steps of differences of values that are exact to rounding.
_STEP = 1e-4


type Variances = Callable[[SummedDesign, Sequence[FloatArray], Factor, FloatArray], FloatArray]


def structured_df(optimum: ResidualOptimum, own: FloatArray) -> FloatArray:
    """Satterthwaite's degrees of freedom (m,) of contrasts (m, p) of the coefficients of the orthogonalised columns.

    nan where the criterion does not curve upwards, or a variance depends on what the data say nothing of.
    """
    return residual_variance_df(optimum, lambda _cp, _factors, factor, _lam: _variances(factor, own))


def residual_variance_df(optimum: ResidualOptimum, variances: Variances) -> FloatArray:
    """The same of variances (m,) over sigma^2, functions of sums, factors, evaluation and residual parameters."""
    t = optimum.joint.n_theta

    def logs(x: FloatArray) -> FloatArray:
        cp, factors, factor = optimum.joint.at(x)
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(variances(cp, factors, factor, x[t:])) + np.log(factor.r2[0]))

    h = slopes(logs, optimum.joint_point, _STEP)
    known = scaled_inverse(optimum.joint_hessian[None], _FLAT)
    curved = np.einsum("km,kl,lm->m", h, known.inverse[0], h)
    said = (known.smallest[0] > -_FLAT) & (known.lost(h.T[None])[0] <= MOVED)
    nu = degrees_of_freedom(optimum.cp, optimum.reml)
    return np.where(said, 1.0 / (1.0 / nu + curved), np.nan)


def joint_covariance(optimum: ResidualOptimum) -> FloatArray:
    """Asymptotic covariance (k + 1, k + 1) of (x, log sigma^2)."""
    slope = slopes(lambda x: np.log(optimum.joint.at(x)[2].r2), optimum.joint_point, _STEP)[:, 0]
    known = scaled_inverse(optimum.joint_hessian[None], _FLAT)
    return known.joint(slope, degrees_of_freedom(optimum.cp, optimum.reml))


def _variances(factor: Factor, own: FloatArray) -> FloatArray:
    p = own.shape[1]
    half = solve_triangular(factor.chol[0, -p:, -p:], own.T, lower=True)
    return np.asarray((half**2).sum(0))
