"""Cholesky factors and triangular solves of many tiny matrices at once.

LAPACK costs about a microsecond a call whatever the size; for stacks of thousands of 1 x 1 to 6 x 6 matrices
it is faster to run the textbook recursion over the matrix index and let NumPy run over the stack.
"""

from __future__ import annotations

import numpy as np

from bayeslmm.types import FloatArray


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
    x = np.empty((*np.broadcast_shapes(lower.shape[:-2], b.shape[:-2]), *b.shape[-2:]))
    for i in range(c):
        row = b[..., i, :]
        for j in range(i):
            row = row - lower[..., i, j, None] * x[..., j, :]
        x[..., i, :] = row / lower[..., i, i, None]
    return x


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
    x = np.empty((*np.broadcast_shapes(lower.shape[:-2], b.shape[:-2]), *b.shape[-2:]))
    for i in reversed(range(c)):
        row = b[..., i, :]
        for j in range(i + 1, c):
            row = row - lower[..., j, i, None] * x[..., j, :]
        x[..., i, :] = row / lower[..., i, i, None]
    return x


def log_det(lower: FloatArray) -> FloatArray:
    """``log |L L'|`` of a stack of Cholesky factors, shape (...)."""
    if lower.shape[-1] == 1:
        return np.asarray(2.0 * np.log(lower[..., 0, 0]))
    return np.asarray(2.0 * np.log(np.diagonal(lower, axis1=-2, axis2=-1)).sum(-1))


def transpose(a: FloatArray) -> FloatArray:
    """Transpose the last two axes."""
    return a.mT
