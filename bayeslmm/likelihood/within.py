"""Orthonormal columns within every level of a grouping factor, all levels at once."""

from __future__ import annotations

import numpy as np

from bayeslmm.types import FloatArray, IntArray

# A column whose part outside the earlier ones is below this share of its length is rounding noise.
_DEPENDENT = 1e-12
# Doubles of columns that are split together: so many stay in the cache.
_TOGETHER = 20_000


def level_sums(codes: IntArray, values: FloatArray, n_levels: int) -> FloatArray:
    """Sum values over the rows of each level.

    Parameters
    ----------
    codes : IntArray, shape (n,)
    values : FloatArray, shape (n,) or (n, k)
    n_levels : int
        J.

    Returns
    -------
    FloatArray, shape (J,) or (J, k)
    """
    if values.ndim == 1:
        return np.bincount(codes, weights=values, minlength=n_levels)
    sums = np.empty((n_levels, values.shape[1]))
    for k in range(values.shape[1]):
        sums[:, k] = np.bincount(codes, weights=values[:, k], minlength=n_levels)
    return sums


def level_products(codes: IntArray, left: FloatArray, right: FloatArray, n_levels: int) -> FloatArray:
    """Sum ``left_i right_i'`` over the rows i of each level.

    Parameters
    ----------
    codes : IntArray, shape (n,)
    left : FloatArray, shape (n, c)
    right : FloatArray, shape (n, k)
    n_levels : int
        J.

    Returns
    -------
    FloatArray, shape (J, c, k)
    """
    out = np.empty((n_levels, left.shape[1], right.shape[1]))
    for a, column in enumerate(left.T):
        for k, other in enumerate(right.T):
            out[:, a, k] = np.bincount(codes, weights=column * other, minlength=n_levels)
    return out


def grouped_qr(Z: FloatArray, codes: IntArray, n_levels: int) -> tuple[FloatArray, FloatArray]:
    """QR factorisation of the rows of every level, ``Z[codes == l] = Q[codes == l] @ R[l]``.

    Modified Gram-Schmidt with one reorthogonalisation; each step runs over all levels at once. Levels with
    fewer rows than columns, or with dependent columns, get zero columns in Q and zero rows in R.

    Parameters
    ----------
    Z : FloatArray, shape (n, c)
    codes : IntArray, shape (n,)
    n_levels : int
        J.

    Returns
    -------
    Q : FloatArray, shape (n, c)
    R : FloatArray, shape (J, c, c)
        Upper triangular.
    """
    n, c = Z.shape
    Q = np.empty((c, n))
    R = np.zeros((n_levels, c, c))
    for j in range(c):
        column = np.ascontiguousarray(Z[:, j])
        length = np.sqrt(level_sums(codes, column**2, n_levels))
        for i in [*range(j), *range(j)]:
            projection = level_sums(codes, Q[i] * column, n_levels)
            column = column - projection[codes] * Q[i]
            R[:, i, j] += projection
        norm = np.sqrt(level_sums(codes, column**2, n_levels)) if j else length
        keep = norm > _DEPENDENT * length
        if keep.all():
            R[:, j, j], scale = norm, 1.0 / norm
        else:
            R[:, j, j] = np.where(keep, norm, 0.0)
            scale = np.where(keep, 1.0 / np.where(keep, norm, 1.0), 0.0)
        np.multiply(column, scale[codes], out=Q[j])
    return Q.T, R


def split_columns(Q: FloatArray, columns: FloatArray, codes: IntArray, n_levels: int) -> tuple[FloatArray, FloatArray]:
    """Split columns into what lies in the span of Q within every level and the rest.

    Parameters
    ----------
    Q : FloatArray, shape (n, c)
        From `grouped_qr`.
    columns : FloatArray, shape (n, k)
    codes : IntArray, shape (n,)
    n_levels : int
        J.

    Returns
    -------
    rest : FloatArray, shape (n, k)
    between : FloatArray, shape (J, c, k)
        Coefficients on Q.
    """
    n, c = Q.shape
    rest = np.empty((columns.shape[1], n))
    if not n:
        # Of no rows, bincount has whole numbers.
        return rest.T, np.zeros((n_levels, c, columns.shape[1]))
    between = np.empty((n_levels, c, columns.shape[1]))
    if not c:
        return columns.copy(), between
    if 0 < columns.size <= _TOGETHER:
        rest[:] = columns.T
        for a in range(c):
            products = columns.T * Q[:, a]
            sums = np.array([np.bincount(codes, weights=row, minlength=n_levels) for row in products])
            between[:, a] = sums.T
            fit = sums.take(codes, axis=1)
            fit *= Q[:, a]
            rest -= fit
        return rest.T, between
    for k, column in enumerate(columns.T):
        left = column
        for a in range(c):
            q = Q[:, a]
            between[:, a, k] = sums = np.bincount(codes, weights=q * column, minlength=n_levels)
            fit = sums[codes]
            fit *= q
            left = np.subtract(left, fit, out=rest[k])
    return rest.T, between
