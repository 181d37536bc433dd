"""Cholesky factors and triangular solves of many tiny matrices at once.

LAPACK costs about a microsecond a call whatever the size; for stacks of thousands of 1 x 1 to 6 x 6 matrices
it is faster to run the textbook recursion over the matrix index and let NumPy run over the stack.
"""

from __future__ import annotations

import math
from contextlib import suppress

import numpy as np

from bayeslmm.types import FloatArray

# A product over this many matrices with an inner dimension up to that runs faster term by term.
_MANY = 200
_FEW_TERMS = 6


def cholesky(a: FloatArray) -> FloatArray:
    """Lower Cholesky factors of a stack of positive definite matrices.

    Parameters
    ----------
    a : FloatArray, shape (..., c, c)

    Returns
    -------
    FloatArray, shape (..., c, c)

    Examples
    --------
    >>> cholesky(np.array([[[4.0, 2.0], [2.0, 2.0]]]))
    array([[[2., 0.],
            [1., 1.]]])
    """
    c = a.shape[-1]
    if c == 1:
        return np.sqrt(a)
    lower = np.zeros_like(a)
    if c == 2:
        lower[..., 0, 0] = first = np.sqrt(a[..., 0, 0])
        lower[..., 1, 0] = below = a[..., 1, 0] / first
        lower[..., 1, 1] = np.sqrt(a[..., 1, 1] - below * below)
        return lower
    for j in range(c):
        done = lower[..., j, :j]
        pivot = np.sqrt(a[..., j, j] - (done * done).sum(-1))
        lower[..., j, j] = pivot
        for i in range(j + 1, c):
            lower[..., i, j] = (a[..., i, j] - (lower[..., i, :j] * done).sum(-1)) / pivot
    return lower


def cholesky_if_positive(a: FloatArray) -> FloatArray:
    """Lower Cholesky factors of a stack (K, c, c) of matrices, by LAPACK; nan of those that are not positive definite.

    Examples
    --------
    >>> cholesky_if_positive(np.array([[[4.0, 2.0], [2.0, 2.0]], [[1.0, 2.0], [2.0, 1.0]]]))[:, 1, 1]
    array([ 1., nan])
    """
    try:
        return np.linalg.cholesky(a)
    except np.linalg.LinAlgError:
        lower = np.full_like(a, np.nan)
        for k, one in enumerate(a):
            with suppress(np.linalg.LinAlgError):
                lower[k] = np.linalg.cholesky(one)
        return lower


def cholesky_beside_identity(F: FloatArray, determinant: FloatArray) -> FloatArray:
    """Lower Cholesky factors of ``I + F F'`` for 2 x 2 matrices of any size and rank, without cancellation.

    By Lagrange's identity ``|f1|^2 |f2|^2 - (f1'f2)^2`` is the square of the determinant of F, which a product of
    factors has to all digits.

    Parameters
    ----------
    F : FloatArray, shape (..., 2, 2)
    determinant : FloatArray, shape (...)

    Examples
    --------
    >>> cholesky_beside_identity(np.array([[1e20, 0.0], [1e20, 0.0]]), np.array(0.0)).round(4)[1, 1]
    np.float64(1.4142)
    """
    lower = np.zeros_like(F)
    squares = (F * F).sum(-1)
    first = 1.0 + squares[..., 0]
    lower[..., 0, 0] = root = np.sqrt(first)
    lower[..., 1, 0] = (F[..., 0, :] * F[..., 1, :]).sum(-1) / root
    lower[..., 1, 1] = np.sqrt(1.0 + squares[..., 1] / first + (determinant / root) ** 2)
    return lower


def inverse_beside_identity(R: FloatArray, T: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Inverses of ``I + F F'`` with ``F = R T`` for all pairs of U and K 2 x 2 matrices, entry by entry.

    With Lagrange's identity as in `cholesky_beside_identity` nothing cancels in the determinant.

    Parameters
    ----------
    R : FloatArray, shape (U, 2, 2)
    T : FloatArray, shape (K, 2, 2)

    Returns
    -------
    first, across, second : FloatArray, shape (K, U)
        Entries (0, 0), (0, 1) and (1, 1) of the inverses.
    log_det : FloatArray, shape (K, U)

    Examples
    --------
    >>> R, T = np.array([[[1.0, 2.0], [0.0, 1.0]]]), np.array([[[1.0, 0.0], [1.0, 1.0]]])
    >>> first, across, second, log_det = inverse_beside_identity(R, T)
    >>> np.linalg.inv(np.eye(2) + R[0] @ T[0] @ T[0].T @ R[0].T).round(6).tolist()
    [[0.176471, -0.294118], [-0.294118, 0.823529]]
    >>> [round(float(entry[0, 0]), 6) for entry in (first, across, second)]
    [0.176471, -0.294118, 0.823529]
    """
    top = [T[:, :, j] @ R[:, 0].T for j in range(2)]
    low = [T[:, :, j] @ R[:, 1].T for j in range(2)]
    upper, lower = top[0] * top[0] + top[1] * top[1], low[0] * low[0] + low[1] * low[1]
    across = top[0] * low[0] + top[1] * low[1]
    det = np.linalg.det(T)[:, None] * np.linalg.det(R)
    det = 1.0 + upper + lower + det * det
    return (1.0 + lower) / det, -across / det, (1.0 + upper) / det, np.log(det)


def solve_lower(lower: FloatArray, b: FloatArray) -> FloatArray:
    """Solve ``L x = b`` by forward substitution over a stack.

    Parameters
    ----------
    lower : FloatArray, shape (..., c, c)
    b : FloatArray, shape (..., c, m)

    Returns
    -------
    FloatArray, shape (..., c, m)
    """
    c = lower.shape[-1]
    if c == 1:
        return np.asarray(b / lower)
    if c == 2:
        first = b[..., 0, :] / lower[..., 0, 0, None]
        second = (b[..., 1, :] - lower[..., 1, 0, None] * first) / lower[..., 1, 1, None]
        x = np.empty((*first.shape[:-1], 2, first.shape[-1]))
        x[..., 0, :], x[..., 1, :] = first, second
        return x
    x = np.empty((*_stacks(lower, b), *b.shape[-2:]))
    for i in range(c):
        row = b[..., i, :]
        for j in range(i):
            row = row - lower[..., i, j, None] * x[..., j, :]
        x[..., i, :] = row / lower[..., i, i, None]
    return x


def _stacks(lower: FloatArray, b: FloatArray) -> tuple[int, ...]:
    """Axes of the stack of both."""
    one, other = lower.shape[:-2], b.shape[:-2]
    return other if one in (other, (1,) * len(other)) else np.broadcast_shapes(one, other)


def solve_upper(lower: FloatArray, b: FloatArray) -> FloatArray:
    """Solve ``L' x = b`` by backward substitution over a stack (L lower triangular, as stored).

    Parameters
    ----------
    lower : FloatArray, shape (..., c, c)
    b : FloatArray, shape (..., c, m)

    Returns
    -------
    FloatArray, shape (..., c, m)
    """
    c = lower.shape[-1]
    if c == 1:
        return np.asarray(b / lower)
    x = np.empty((*_stacks(lower, b), *b.shape[-2:]))
    for i in reversed(range(c)):
        row = b[..., i, :]
        for j in range(i + 1, c):
            row = row - lower[..., j, i, None] * x[..., j, :]
        x[..., i, :] = row / lower[..., i, i, None]
    return x


def dot(a: FloatArray, b: FloatArray) -> FloatArray:
    """Matrix product over a stack; the same as ``a @ b``, faster for thousands of tiny matrices.

    Parameters
    ----------
    a : FloatArray, shape (..., r, c)
    b : FloatArray, shape (..., c, k)

    Returns
    -------
    FloatArray, shape (..., r, k)
    """
    c = a.shape[-1]
    if a.ndim == b.ndim == 2:
        return a @ b
    if c == 1:
        return np.asarray(a * b)
    if b.ndim == 2:
        return (a.reshape(math.prod(a.shape[:-1]), c) @ b).reshape(*a.shape[:-1], b.shape[1])
    if 1 < c <= _FEW_TERMS and max(math.prod(a.shape[:-2]), math.prod(b.shape[:-2])) > _MANY:
        total = a[..., :, 0, None] * b[..., 0, None, :]
        for j in range(1, c):
            total += a[..., :, j, None] * b[..., j, None, :]
        return total
    return a @ b


def log_det(lower: FloatArray) -> FloatArray:
    """``log |L L'|`` of a stack of Cholesky factors, shape (...)."""
    if lower.shape[-1] == 1:
        return np.asarray(2.0 * np.log(lower[..., 0, 0]))
    if lower.shape[-1] == 2:
        return np.asarray(2.0 * np.log(lower[..., 0, 0] * lower[..., 1, 1]))
    return np.asarray(2.0 * np.log(np.diagonal(lower, axis1=-2, axis2=-1)).sum(-1))


def add_identity(a: FloatArray, size: int | None = None) -> FloatArray:
    """Add 1 to the diagonal (to its first `size` entries) of every matrix of a stack, in place."""
    diagonal = np.einsum("...ii->...i", a[..., :size, :size])
    diagonal += 1.0
    return a


def transpose(a: FloatArray) -> FloatArray:
    """Transpose the last two axes."""
    return a.mT


def packed_inverse(a: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Inverses and log determinants of positive definite matrices, which lie along the last axis.

    Parameters
    ----------
    a : FloatArray, shape (c, c, M)
        Lower triangles are read.

    Returns
    -------
    FloatArray, shape (c (c + 1) / 2, M)
        Lower triangles of the inverses, row by row.
    FloatArray, shape (M,)
        Log determinants; nan, as the inverse, where a matrix is not positive definite.

    Examples
    --------
    >>> packed, log_det = packed_inverse(np.array([[4.0, 2.0], [2.0, 2.0]])[:, :, None])
    >>> packed[:, 0].tolist(), round(float(log_det[0]), 6)
    ([0.5, -0.5, 1.0], 1.386294)
    """
    c, M = a.shape[0], a.shape[-1]
    lower, root = np.zeros(a.shape), np.zeros(a.shape)
    with np.errstate(invalid="ignore", divide="ignore"):
        for j in range(c):
            column = a[j:, j] - np.einsum("ikm,km->im", lower[j:, :j], lower[j, :j])
            lower[j:, j] = column / np.sqrt(column[0])
            root[j, :j] = np.einsum("km,kjm->jm", lower[j, :j], root[:j, :j]) / -lower[j, j]
            root[j, j] = 1.0 / lower[j, j]
        log_det = -2.0 * np.log(root[np.arange(c), np.arange(c)]).sum(0)
    rows = [np.einsum("km,ksm->sm", root[j:, j], root[j:, : j + 1]) for j in range(c)]
    return np.concatenate([np.empty((0, M)), *rows]), log_det


def dot_each(matrices: FloatArray, rows: FloatArray) -> FloatArray:
    """One matrix (S, c, c) for every column times rows (J, c, S)."""
    c = matrices.shape[-1]
    if c == 1:
        return np.asarray(rows * matrices[:, 0, 0])
    out = np.empty_like(rows)
    for a in range(c):
        np.multiply(rows[:, 0], matrices[:, a, 0], out=out[:, a])
        for b in range(1, c):
            out[:, a] += rows[:, b] * matrices[:, a, b]
    return out
