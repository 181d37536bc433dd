"""Choose well-conditioned coordinates for the columns of X and Z before forming cross-products.

Cross-products square the condition number of the data: with a response near 1e12 or a covariate in calendar
years most digits would be gone before the first factorisation. The model does not care about the basis of
the column space of X, nor of a term with an unstructured covariance, so both are centred, scaled and
orthogonalised first and every result is mapped back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bayeslmm.numerics import direct
from bayeslmm.types import FloatArray

# Below this smallest eigenvalue of a correlation-like Gram matrix its Cholesky factor has lost half its
# digits and a QR factorisation of the columns themselves is used instead.
GRAM_OK = 1e-8
# Above this one, columns need no rotation to be well conditioned.
GRAM_GOOD = 0.1
# Share of the largest that the smallest diagonal entry of a triangular factor has at least, of independent columns.
DEPENDENT = 1e-10
# By how much a combination of the columns may miss the constant 1.
SPANS_ONE = 1e-8
# A residual that is a smaller share of the response has lost digits in the subtraction and is refined.
_REFINE = 1e-3
# Squares of which nothing was lost at the ends of the range of numbers.
_SQUARES = (1e-250, 1e250)


@dataclass(frozen=True)
class Basis:
    """New columns ``columns = old @ transform``.

    Attributes
    ----------
    columns : FloatArray, shape (n, c)
        Centred, scaled and (where allowed) orthogonal.
    transform : FloatArray, shape (c, c)
        Invertible; coefficients map back as ``old_coef = transform @ new_coef``.
    constant : tuple of int and float, or None
        An old column that is constant, and its value.
    good : bool
        Whether the new columns are well conditioned.
    """

    columns: FloatArray
    transform: FloatArray
    constant: tuple[int, float] | None = None
    good: bool = False

    @property
    def one(self) -> FloatArray | None:
        """Coefficients (c,) of the new columns that give the constant 1, where an old column is constant."""
        if self.constant is None:
            return None
        right = np.zeros(len(self.transform))
        right[self.constant[0]] = 1.0 / self.constant[1]
        return direct.solve(self.transform, right)

    @property
    def log_abs_det(self) -> float:
        """``log |det transform|``."""
        return direct.log_abs_det(self.transform)


class ScaledColumns(NamedTuple):
    """Columns before any rotation.

    Attributes
    ----------
    rows : FloatArray, shape (c, n)
        Centred beside a constant column and scaled, one row per column.
    transform : FloatArray, shape (c, c)
        Change of basis so far.
    constant : int or None
        Position of the constant column.
    gram : FloatArray, shape (c, c)
        Their products over n.
    good : bool
        Whether they are well conditioned as they are.
    """

    rows: FloatArray
    transform: FloatArray
    constant: int | None
    gram: FloatArray
    good: bool


# What is known of columns of ones needs no scaling.
type Known = dict[int, ScaledColumns | Basis]


def rescale(columns: FloatArray, weights: FloatArray | None) -> Basis:
    """Divide each column by its weighted root mean square (the only change a diagonal covariance allows)."""
    rows = np.array(columns.T, order="C")
    scale = _root_mean_square(rows, weights)
    return Basis((rows / scale[:, None]).T, np.diag(1.0 / scale))


def orthogonalise(
    columns: FloatArray, weights: FloatArray | None, rotate: bool = True, known: Known | None = None
) -> Basis:
    """Centre (where a constant column allows it), scale and orthogonalise columns.

    Parameters
    ----------
    columns : FloatArray, shape (n, c)
        Columns in the user's units.
    weights : FloatArray or None, shape (n,)
        Precision weights that define the inner product.
    rotate : bool
        Whether the columns are to be orthogonal even if they are well conditioned as they are.
    known : dict, optional
        Columns that were seen before, by the id of their array; a design often has the same as fixed and random ones.

    Returns
    -------
    Basis
        With ``columns' W columns`` close to ``n I`` if rotated; only rescaled if the columns are linearly dependent.
    """
    c = columns.shape[1]
    if c == 0:
        return Basis(columns, np.eye(0), good=True)
    known = {} if known is None else known
    if id(columns) not in known:
        ones = c == 1 and weights is None and columns[0, 0] == 1.0 and _is_constant(columns[:, 0])
        known[id(columns)] = Basis(columns, np.eye(1), (0, 1.0), good=True) if ones else _scaled(columns, weights)
    found = known[id(columns)]
    if isinstance(found, Basis):
        return found
    rows, transform, constant, gram, good = found
    if not good or (rotate and c > 1):
        upper = _triangular_factor(rows, gram, good, weights)
        if upper is None:
            return rescale(columns, weights)
        inverse = direct.triangular_inverse(upper)
        rows, transform = inverse.T @ rows, transform @ inverse
    one = None if constant is None else (constant, float(columns[0, constant]))
    return Basis(rows.T, transform, one, good or rotate)


def _scaled(columns: FloatArray, weights: FloatArray | None) -> ScaledColumns:
    n, c = columns.shape
    # One row per column: every pass over the data then runs through memory in order.
    rows = np.array(columns.T, order="C")
    constant = next((k for k, row in enumerate(rows) if _is_constant(row)), None)
    shift = _centre(rows, constant, weights)
    scale = _root_mean_square(rows, weights)
    rows /= scale[:, None]
    transform = np.zeros((c, c))
    if constant is not None:
        transform[constant] = shift / scale
    transform.reshape(-1)[:: c + 1] = 1.0 / scale
    gram = (rows @ rows.T if weights is None else (rows * weights) @ rows.T) / n
    return ScaledColumns(rows, transform, constant, gram, _has_eigenvalues_above(gram, GRAM_GOOD))


def _has_eigenvalues_above(gram: FloatArray, least: float) -> bool:
    shifted = gram.copy()
    shifted.reshape(-1)[:: len(gram) + 1] -= least
    return direct.is_definite(shifted)


def _is_constant(row: FloatArray) -> bool:
    first = row[0]
    return bool(first != 0 and row[-1] == first and (row == first).all())


def _centre(rows: FloatArray, constant: int | None, weights: FloatArray | None) -> FloatArray:
    """Subtract the means from the other rows, in place, if one is constant; how often that was added to each (c,)."""
    shift = np.zeros(len(rows))
    if constant is not None:
        value = float(rows[constant, 0])
        for k, row in enumerate(rows):
            if k != constant:
                mean = float(row.sum()) / row.size if weights is None else float(np.average(row, weights=weights))
                row -= mean
                shift[k] = -mean / value
    return shift


def _root_mean_square(rows: FloatArray, weights: FloatArray | None) -> FloatArray:
    """Per row; 1 where it is zero."""
    if weights is None:
        # This says nothing of overflow.
        means = [float(np.vdot(row, row)) / row.size for row in rows]
    else:
        with np.errstate(over="ignore", under="ignore"):
            means = [float(np.vdot(row, row * weights)) / row.size for row in rows]
    if all(_SQUARES[0] < mean < _SQUARES[1] for mean in means):
        return np.array([math.sqrt(mean) for mean in means])
    squares = np.array(means)
    out_of_range = ~((squares > _SQUARES[0]) & (squares < _SQUARES[1]))
    if out_of_range.any():
        size = np.abs(rows).max(axis=1, initial=0.0)
        if (out_of_range & (size > 0) & ((size < 1e-100) | (size > 1e100))).any():
            unit = np.ldexp(1.0, np.frexp(size)[1])
            return np.where(size > 0, unit * _root_mean_square(rows / unit[:, None], weights), 1.0)
    return np.where(squares > 0, np.sqrt(squares), 1.0)


def _triangular_factor(rows: FloatArray, gram: FloatArray, good: bool, weights: FloatArray | None) -> FloatArray | None:
    """Upper R with ``R'R = gram``, or None if the columns are dependent."""
    if good or _has_eigenvalues_above(gram, GRAM_OK):
        return direct.cholesky(gram).T
    c, n = rows.shape
    weighted = rows.T if weights is None else (rows * np.sqrt(weights)).T
    upper = np.linalg.qr(weighted / np.sqrt(n), mode="r")
    diagonal = np.abs(np.diagonal(upper))
    if upper.shape[0] < c or diagonal.min() < DEPENDENT * max(diagonal.max(), 1e-300):
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
    spread : float
        Weighted root mean square of what least squares on X leaves.
    """

    residual: FloatArray
    coef: FloatArray
    constant: float
    constant_coef: FloatArray
    spread: float

    @property
    def removed(self) -> FloatArray:
        """Coefficients (p,) of all that was taken out: add them to those of the residual."""
        return self.coef + self.constant * self.constant_coef


def residualise(y: FloatArray, basis: Basis, weights: FloatArray | None) -> Response:
    """Take the least-squares fit out of y; the criteria do not change because X spans it.

    The first response is subtracted before anything is averaged: that difference is exact in binary
    arithmetic when the responses agree in their leading digits, which is where NIST's SmLs data sets have them.
    """
    X = basis.columns
    p = X.shape[1]
    zero = np.zeros(p)
    if p == 0:
        return Response(y, zero, 0.0, zero, _spread(y, weights))
    weighted = X if weights is None else X * weights[:, None]
    gram = weighted.T @ X
    one = basis.one
    if one is None:
        one = direct.solve(gram, weighted.sum(axis=0))
        one = one if np.abs(X @ one - 1.0).max() < SPANS_ONE else None
    level = 0.0 if one is None else float(y[0])
    residual = y - level
    drift = 0.0
    if one is not None:
        drift = (
            float(residual.sum()) / residual.size if weights is None else float(np.average(residual, weights=weights))
        )
        residual -= drift
    size = float(residual @ residual)
    coef = direct.solve(gram, weighted.T @ residual)
    residual -= X @ coef
    if not basis.good or float(residual @ residual) < _REFINE**2 * size:
        step = direct.solve(gram, weighted.T @ residual)
        residual, coef = residual - X @ step, coef + step
    return Response(residual, coef, level + drift, zero if one is None else one, _spread(residual, weights))


def _spread(residual: FloatArray, weights: FloatArray | None) -> float:
    squares = residual @ (residual if weights is None else residual * weights)
    return float(np.sqrt(squares / (residual.size if weights is None else weights.sum())))
