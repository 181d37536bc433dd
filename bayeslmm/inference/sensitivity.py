"""How the covariance of the fixed effects changes with the covariance of the random effects.

With ``C = (X'V0^-1 X)^-1`` and ``W = Z'V0^-1 X C`` a change dG of the relative covariance changes C by ``W' dG W``.
W is what both Satterthwaite's and Kenward and Roger's methods need of the data, besides the information about the
variances; its cost does not depend on the number of observations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bayeslmm.likelihood import CrossProducts, Factor, small
from bayeslmm.likelihood.derivatives import Derivatives
from bayeslmm.types import FloatArray


@dataclass(frozen=True)
class Sensitivity:
    """C and W at K points, for the orthogonalised columns of X and the internal columns of Z.

    Attributes
    ----------
    C : FloatArray, shape (K, p, p)
        Covariance of beta divided by sigma^2.
    W : tuple of FloatArray, each (K, J, c, p)
        For every block of ``cp.blocks``.
    first : tuple of FloatArray or None
        ``A`` (K, J, c, c) and ``B`` (K, J, c, t) of the first block of dense levels: ``Z1'V1^-1 Z1`` and
        ``Z1'V1^-1 (Z2, X)`` level by level, with V1 that of the first block alone.
    """

    C: FloatArray
    W: tuple[FloatArray, ...]
    first: tuple[FloatArray, FloatArray] | None = None


def sensitivity(
    cp: CrossProducts, factors: Sequence[FloatArray], factor: Factor, derivatives: Derivatives
) -> Sensitivity:
    """C and W from an evaluation and its derivatives.

    Parameters
    ----------
    cp : CrossProducts
    factors : sequence of FloatArray, each (K, c, c)
        Internal relative factors of the blocks; K is 1 for a hierarchy.
    factor : Factor
        ``evaluate(cp, factors)``, with ``keep=True`` if K > 1.
    derivatives : Derivatives
        At the same points, for REML or ML.
    """
    return Sensitivity(*cp.sums.sensitivity(factors, factor, derivatives))


def contrasts(cp: CrossProducts, L: FloatArray) -> FloatArray:
    """Contrasts (m, p) of the coefficients of the orthogonalised columns, from those of the user's columns."""
    return np.asarray(np.atleast_2d(np.asarray(L, dtype=float)) @ cp.fixed.transform)


@dataclass(frozen=True)
class ScaledInverse:
    """Inverse of the curvature or information about variances, and where there is none.

    Attributes
    ----------
    inverse : FloatArray, shape (K, d, d)
        Without the null directions.
    smallest : FloatArray, shape (K,)
        Smallest eigenvalues of the scaled matrices.
    null : FloatArray, shape (K, d, d)
        Null directions in columns, in the units of the parameters; zeros in the other columns.
    """

    inverse: FloatArray
    smallest: FloatArray
    null: FloatArray

    def lost(self, slopes: FloatArray) -> FloatArray:
        """How far quantities with slopes (K, m, d) move along null directions, (K, m)."""
        return np.asarray(np.linalg.norm(slopes @ self.null, axis=2))

    def joint(self, slope: FloatArray, nu: float) -> FloatArray:
        """Covariance (d + 1, d + 1) of parameters and log sigma^2, of which this is the inverse curvature at one point.

        Parameters
        ----------
        slope : FloatArray, shape (d,)
            Derivatives of log r2.
        nu : float
            Degrees of freedom of sigma^2, infinite where it is known.
        """
        own = 2.0 * self.inverse[0]
        across = own @ slope
        return np.block([[own, across[:, None]], [across[None, :], np.array([[slope @ across + 2.0 / nu]])]])


# A curvature (times the squared size of its parameter) below this is rounding: the data say nothing of the parameter.
_NOTHING = 1e-9
# A variance whose logarithm moves by more along a null direction is not determined by the data.
MOVED = 1e-3
UNDETERMINED = (
    "The standard errors of these coefficients depend on a variance of which the data say nothing (fit.status, "
    "fit.optimum.ridges): the fixed effects take up what it would show in. They have no degrees of freedom and no "
    "intervals, whatever the estimate of the variance is. Leave out that random term or the fixed effects that span it."
)


def scaled_inverse(matrix: FloatArray, flat: float, sizes: FloatArray | None = None) -> ScaledInverse:
    """Inverse of symmetric matrices (K, d, d) without their null directions.

    A parameter of which the data say nothing has rounding on the diagonal: scaled by it, it would pass for one that is
    known. Where a model has such parameters their own sizes tell: a change of one of them by its size is no change. In
    other models a small curvature is that of a small estimate, and says all that there is to know.

    Parameters
    ----------
    flat : float
        Eigenvalues below this, after scaling to a unit diagonal, count as zero.
    sizes : FloatArray, shape (K, d), optional
        Sizes of the parameters of a model that is not identified; zero where there is none.
    """
    K, d = matrix.shape[:2]
    if d == 0:
        return ScaledInverse(matrix, np.full(K, np.inf), matrix)
    sizes = np.zeros((K, d)) if sizes is None else sizes
    diagonal = np.abs(np.diagonal(matrix, axis1=1, axis2=2))
    unsaid = (diagonal * sizes**2 < _NOTHING) & (sizes > 0)
    size = np.where(unsaid, 1.0 / np.where(sizes > 0, sizes, 1.0), np.sqrt(diagonal))
    size = np.where(size > 0, size, 1.0)
    finite = np.isfinite(matrix).all((1, 2))
    scaled = matrix / (size[:, :, None] * size[:, None, :])
    values, vectors = np.linalg.eigh(np.where(finite[:, None, None], scaled, 0.0))
    with np.errstate(divide="ignore"):
        inverse = np.where(values > flat, 1.0 / values, 0.0)
    out = (vectors * inverse[:, None, :]) @ small.transpose(vectors)
    out = out / (size[:, :, None] * size[:, None, :])
    null = vectors * (np.abs(values) <= flat)[:, None, :] / size[:, :, None]
    return ScaledInverse(np.where(finite[:, None, None], out, np.nan), np.where(finite, values[:, 0], np.nan), null)
