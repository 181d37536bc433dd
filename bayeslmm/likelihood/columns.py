"""Choose well-conditioned coordinates for the columns of X and Z before forming cross-products.

Cross-products square the condition number of the data: with a response near 1e12 or a covariate in calendar
years most digits would be gone before the first factorisation. The model does not care about the basis of
the column space of X, nor of a term with an unstructured covariance, so both are centred, scaled and
orthogonalised first and every result is mapped back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayeslmm.types import FloatArray

# Below this smallest eigenvalue of a correlation-like Gram matrix its Cholesky factor has lost half its
# digits and a QR factorisation of the columns themselves is used instead.
_GRAM_OK = 1e-8


@dataclass(frozen=True)
class Basis:
    """New columns ``columns = old @ transform``.

    Attributes
    ----------
    columns : FloatArray, shape (n, c)
        Centred, scaled and (where allowed) orthogonal.
    transform : FloatArray, shape (c, c)
        Invertible; coefficients map back as ``old_coef = transform @ new_coef``.
    """

    columns: FloatArray
    transform: FloatArray

    @property
    def log_abs_det(self) -> float:
        """``log |det transform|``."""
        return float(np.linalg.slogdet(self.transform)[1])


def rescale(columns: FloatArray, weights: FloatArray | None) -> Basis:
    """Divide each column by its weighted root mean square (the only change a diagonal covariance allows)."""
    rms = np.sqrt(_mean_square(columns, weights))
    scale = np.where(rms > 0, rms, 1.0)
    return Basis(columns / scale, np.diag(1.0 / scale))


def orthogonalise(columns: FloatArray, weights: FloatArray | None) -> Basis:
    """Centre (where a constant column allows it), scale and orthogonalise columns.

    Parameters
    ----------
    columns : FloatArray, shape (n, c)
        Columns in the user's units.
    weights : FloatArray or None, shape (n,)
        Precision weights that define the inner product.

    Returns
    -------
    Basis
        With ``columns' W columns`` close to ``n I``; only rescaled if the columns are linearly dependent.
    """
    c = columns.shape[1]
    if c == 0:
        return Basis(columns, np.eye(0))
    centred, shift = _centre(columns, weights)
    scaled = rescale(centred, weights)
    start = shift @ scaled.transform
    upper = _triangular_factor(scaled.columns, weights)
    if upper is None:
        return rescale(columns, weights)
    inverse = np.linalg.inv(upper)
    return Basis(scaled.columns @ inverse, start @ inverse)


def _centre(columns: FloatArray, weights: FloatArray | None) -> tuple[FloatArray, FloatArray]:
    c = columns.shape[1]
    shift = np.eye(c)
    constant = np.flatnonzero((columns == columns[0]).all(axis=0) & (columns[0] != 0))
    if constant.size == 0 or c == 1:
        return columns, shift
    k = int(constant[0])
    means = np.average(columns, axis=0, weights=weights)
    means[k] = 0.0
    shift[k] -= means / columns[0, k]
    return columns - means, shift


def _mean_square(columns: FloatArray, weights: FloatArray | None) -> FloatArray:
    squares = columns**2 if weights is None else columns**2 * weights[:, None]
    return np.asarray(squares.mean(axis=0))


def _triangular_factor(columns: FloatArray, weights: FloatArray | None) -> FloatArray | None:
    """Upper R with ``R'R = columns' W columns / n``, or None if the columns are dependent."""
    n = columns.shape[0]
    weighted = columns if weights is None else columns * np.sqrt(weights)[:, None]
    gram = weighted.T @ weighted / n
    smallest = np.linalg.eigvalsh(gram)[0]
    if smallest > _GRAM_OK:
        return np.asarray(np.linalg.cholesky(gram).T)
    upper = np.linalg.qr(weighted / np.sqrt(n), mode="r")
    diagonal = np.abs(np.diagonal(upper))
    if upper.shape[0] < columns.shape[1] or diagonal.min() < 1e-10 * max(diagonal.max(), 1e-300):
        return None
    return np.asarray(upper)


@dataclass(frozen=True)
class Response:
    """The response with its least-squares fit on X taken out.

    Attributes
    ----------
    residual : FloatArray, shape (n,)
        ``y - offset - X coef``, not weighted.
    coef : FloatArray, shape (p,)
        In the basis of the orthogonalised X.
    constant : float
        Level removed beforehand; belongs to the direction `constant_coef`.
    constant_coef : FloatArray, shape (p,)
        Coefficients (orthogonalised basis) whose fit is the constant 1; zero if X does not span it.
    """

    residual: FloatArray
    coef: FloatArray
    constant: float
    constant_coef: FloatArray


def residualise(y: FloatArray, basis: Basis, weights: FloatArray | None) -> Response:
    """Take the least-squares fit out of y; the criteria do not change because X spans it.

    The first response is subtracted before anything is averaged: that difference is exact in binary
    arithmetic when the responses agree in their leading digits, which is where NIST's SmLs data sets have them.
    """
    X = basis.columns
    p = X.shape[1]
    zero = np.zeros(p)
    if p == 0:
        return Response(y, zero, 0.0, zero)
    weighted = X if weights is None else X * weights[:, None]
    gram = weighted.T @ X
    one = np.linalg.solve(gram, weighted.sum(axis=0))
    spans = bool(np.abs(X @ one - 1.0).max() < 1e-8)
    level = float(y[0]) if spans else 0.0
    residual = y - level
    drift = float(np.average(residual, weights=weights)) if spans else 0.0
    residual = residual - drift
    coef = zero
    for _ in range(2):
        step = np.linalg.solve(gram, weighted.T @ residual)
        residual, coef = residual - X @ step, coef + step
    constant = level + drift
    return Response(residual, coef, constant, one if spans else zero)
