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


def scaled_inverse(matrix: FloatArray, flat: float) -> tuple[FloatArray, FloatArray]:
    """Inverse of symmetric matrices (K, d, d) without their null directions, and the smallest eigenvalues (K,).

    Parameters
    ----------
    flat : float
        Eigenvalues below this, after scaling to a unit diagonal, count as zero.
    """
    K, d = matrix.shape[:2]
    if d == 0:
        return matrix, np.full(K, np.inf)
    size = np.sqrt(np.abs(np.diagonal(matrix, axis1=1, axis2=2)))
    size = np.where(size > 0, size, 1.0)
    finite = np.isfinite(matrix).all((1, 2))
    scaled = matrix / (size[:, :, None] * size[:, None, :])
    values, vectors = np.linalg.eigh(np.where(finite[:, None, None], scaled, 0.0))
    with np.errstate(divide="ignore"):
        inverse = np.where(values > flat, 1.0 / values, 0.0)
    out = (vectors * inverse[:, None, :]) @ small.transpose(vectors)
    out = out / (size[:, :, None] * size[:, None, :])
    return np.where(finite[:, None, None], out, np.nan), np.where(finite, values[:, 0], np.nan)
