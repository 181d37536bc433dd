"""The part of Kenward and Roger's adjustment that second derivatives of the residual covariance make.

With parameters eta of V, their covariance W and ``B = V^-1 X C`` the adjusted covariance of beta has, beyond its form
of first order, ``-(1/2) sum_ij W_ij B' V_ij B``. It depends on how V is written: eta are the variances of levels and
visits, correlations, ranges and exponents, as in SAS. Where V is linear in variances and covariances it is zero.
"""

from __future__ import annotations

import numpy as np

from bayeslmm.numerics.differences import slopes
from bayeslmm.reml.residual_optimum import ResidualOptimum
from bayeslmm.residual import Residual, estimable
from bayeslmm.residual.correlation import EqualCorrelation, within_arms
from bayeslmm.residual.spread import SpreadByLevel
from bayeslmm.residual.structured import CorrelatedRows, UnequalVariances, spread_parts
from bayeslmm.residual.visits import BandedCorrelation, FreeCorrelation
from bayeslmm.types import FloatArray

# Of second differences along directions as long as standard errors, in which V is smooth.
_STEP = 3e-3


def second_order(optimum: ResidualOptimum, W: FloatArray, B: FloatArray) -> FloatArray:
    """``-(1/2) sum_ij W_ij B' V_ij B`` (p, p) at sigma 1.

    Parameters
    ----------
    optimum : ResidualOptimum
    W : FloatArray, shape (k + 1, k + 1)
        Covariance of (x, log sigma^2), see `joint_covariance`.
    B : FloatArray, shape (n, p)
        ``V^-1 X C``.

    References
    ----------
    Kenward & Roger (1997), Biometrics 53, 983-997, eq. 5; Kenward & Roger (2009), CSDA 53, 2583-2595, for what depends
    on the parameters.
    """
    residual, p = optimum.original.residual, B.shape[1]
    if is_linear(residual):
        return np.zeros((p, p))
    t, counts = optimum.joint.n_theta, optimum.original.counts[:, None]
    here = np.append(optimum.lam, 0.0)

    def of(z: FloatArray) -> FloatArray:
        """``B' V B`` and eta at (lam, log sigma^2)."""
        V = np.exp(z[-1]) * (B.T @ (residual.covariance(z[:-1]) @ (B / counts)))
        return np.concatenate([V.ravel(), _eta(residual, z)])

    values, vectors = np.linalg.eigh(W[t:, t:])
    roots = (vectors * np.sqrt(np.maximum(values, 0.0))).T
    middle = of(here)
    bent = np.zeros(middle.size)
    for w in _STEP * roots:
        bent += (of(here + w) - 2.0 * middle + of(here - w)) / _STEP**2
    first = slopes(of, here, _STEP)
    # What eta itself bends by is no second derivative in eta.
    straight = np.linalg.solve(first[:, p * p :].T, bent[p * p :])
    total = (bent[: p * p] - straight @ first[:, : p * p]).reshape(p, p)
    return np.asarray(-0.25 * (total + total.T))


def is_linear(residual: Residual) -> bool:
    """Whether the covariance is linear in variances and covariances."""
    if isinstance(residual, UnequalVariances):
        return [isinstance(part, SpreadByLevel) for part in residual.spreads.parts] == [True]
    if not isinstance(residual, CorrelatedRows):
        return not residual.names
    family, parts = within_arms(residual.correlation), residual.spreads.parts
    if isinstance(family, FreeCorrelation):
        # The variances of its own visits, and no others.
        return len(parts) == 1
    return isinstance(family, EqualCorrelation | BandedCorrelation) and not parts


def _eta(residual: Residual, z: FloatArray) -> FloatArray:
    """Variances, correlations and what else there is (k + 1,), from lam and log sigma^2."""
    values, variance, start = estimable(residual).natural(z[:-1])[0].copy(), np.exp(z[-1]), 0
    parts = spread_parts(residual)
    levels = [isinstance(part, SpreadByLevel) for part in parts]
    for k, part in enumerate(parts):
        own = slice(start, start + len(part.names))
        if levels[k]:
            values[own] = values[own] ** 2 * (variance if k == levels.index(True) else 1.0)
        start = own.stop
    return np.append(values, variance)
