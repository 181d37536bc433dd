"""Least squares on every level of a grouping factor, all levels at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayeslmm.design.grouping import Grouping
from bayeslmm.likelihood.within import grouped_qr, level_sums
from bayeslmm.types import BoolArray, FloatArray, IntArray

# A coefficient is determined if the null space of its level's columns (scaled to one length) touches it by no more.
_ESTIMABLE = 1e-8
# The same of cross-products: eigenvalues that are none, and squared parts of their vectors that are.
_NULL, _OPEN = 1e-13, 1e-10


@dataclass(frozen=True)
class LevelFits:
    """Least squares on every level.

    Attributes
    ----------
    coefficients : FloatArray, shape (J, c)
        nan where the rows of the level do not determine it.
    unscaled : FloatArray, shape (J, c)
        Diagonal of the inverse cross-products: variance of the coefficient divided by sigma^2; nan likewise.
    root : FloatArray, shape (J, c, c)
        W of every level, with W W' the inverse cross-products of the columns that do not depend on those before them.
    rank : IntArray, shape (J,)
    n : IntArray, shape (J,)
        Rows.
    rss : FloatArray, shape (J,)
        Residual sum of squares.
    residuals : FloatArray, shape (n,)
        Of the response as it was given, whitened or not.
    """

    coefficients: FloatArray
    unscaled: FloatArray
    root: FloatArray
    rank: IntArray
    n: IntArray
    rss: FloatArray
    residuals: FloatArray


def cross_products_by_level(Z: FloatArray, grouping: Grouping) -> FloatArray:
    """``Z_l'Z_l`` of every level, shape (J, c, c); of whitened columns ``Z_l' R_l^-1 Z_l``."""
    n, c = Z.shape
    products = (Z[:, :, None] * Z[:, None, :]).reshape(n, c * c)
    return level_sums(grouping.codes, products, grouping.n_levels).reshape(-1, c, c)


def least_squares_of_grams(A: FloatArray, right: FloatArray) -> FloatArray:
    """Solutions (J, c) of ``A x = right`` in every level; nan where A (J, c, c) does not determine an entry."""
    size = np.sqrt(np.diagonal(A, axis1=1, axis2=2))
    size = np.where(size > 0, size, 1.0)
    values, vectors = np.linalg.eigh(A / (size[:, :, None] * size[:, None, :]))
    null = values < _NULL
    inverse = np.where(null, 0.0, 1.0 / np.where(null, 1.0, values))
    scaled = (vectors * inverse[:, None, :]) @ (vectors.mT @ (right / size)[..., None])
    open_ = (vectors**2 * null[:, None, :]).sum(2) > _OPEN
    return np.where(open_, np.nan, scaled[..., 0] / size)


def least_squares_by_level(Z: FloatArray, y: FloatArray, grouping: Grouping) -> LevelFits:
    """Least squares of y on Z within every level, generalised where both are whitened.

    An orthogonalisation (no normal equations), each step over all levels at once; a first constant column centres
    the others within the levels.

    Parameters
    ----------
    Z : FloatArray, shape (n, c)
    y : FloatArray, shape (n,)
    grouping : Grouping
        J levels.
    """
    codes, J = grouping.codes, grouping.n_levels
    Q, R = grouped_qr(Z, codes, J)
    projection, rest = _project(Q, y, codes, J)
    independent = np.diagonal(R, axis1=1, axis2=2) > 0
    padded = R + np.eye(Z.shape[1]) * ~independent[:, None, :]
    coefficients = np.linalg.solve(padded, projection[:, :, None])[:, :, 0]
    root = np.linalg.inv(padded) * independent[:, None, :]
    unscaled = (root**2).sum(axis=2)
    known = _determined(padded, R, independent, np.sqrt(level_sums(codes, Z**2, J)))
    return LevelFits(
        np.where(known, coefficients, np.nan),
        np.where(known, unscaled, np.nan),
        root,
        independent.sum(axis=1),
        np.bincount(codes, minlength=J),
        level_sums(codes, rest**2, J),
        rest,
    )


def _project(Q: FloatArray, y: FloatArray, codes: IntArray, J: int) -> tuple[FloatArray, FloatArray]:
    """Coefficients (J, c) of y on the orthonormal columns, and what is left (n,)."""
    total = np.zeros((J, Q.shape[1]))
    rest = y
    for k in [*range(Q.shape[1]), *range(Q.shape[1])]:
        part = level_sums(codes, Q[:, k] * rest, J)
        rest = rest - part[codes] * Q[:, k]
        total[:, k] += part
    return total, rest


def _determined(padded: FloatArray, R: FloatArray, independent: BoolArray, length: FloatArray) -> BoolArray:
    """Which coefficients (J, c) no null vector of the level's columns touches."""
    # Column k of `spanned` says how a dependent column is made of the independent ones before it.
    spanned = np.linalg.solve(padded, R) * ~independent[:, None, :]
    ratio = length[:, :, None] / np.where(length > 0, length, 1.0)[:, None, :]
    touched = np.abs(spanned * ratio).max(axis=2, initial=0.0)
    return np.asarray(independent & (touched <= _ESTIMABLE))
