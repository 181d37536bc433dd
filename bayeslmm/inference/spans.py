"""Columns split into what lies in a span and the rest, within the levels of a factor and over all rows."""

from __future__ import annotations

import numpy as np
from scipy.linalg import qr

from bayeslmm.likelihood.within import level_sums
from bayeslmm.types import FloatArray, IntArray

# Columns whose part outside the earlier ones is a smaller share of them lie in their span.
IN_SPAN = 1e-8


def between(Q: FloatArray, columns: FloatArray, codes: IntArray, J: int) -> FloatArray:
    """``Q'columns``, shape (J, c, k)."""
    return np.stack([level_sums(codes, q[:, None] * columns, J) for q in Q.T], axis=1)


def expand(Q: FloatArray, parts: FloatArray, codes: IntArray) -> FloatArray:
    """``Q parts``, shape (n, k), for parts (J, c, k)."""
    return np.asarray(sum(Q[:, a, None] * parts[codes, a] for a in range(Q.shape[1])))


def without(columns: FloatArray, Q: FloatArray, codes: IntArray, J: int) -> FloatArray:
    """Columns (n, k) without their part in the span of Q (n, c) within levels; twice, against rounding."""
    for _ in range(2 if Q.shape[1] else 0):
        columns = columns - expand(Q, between(Q, columns, codes, J), codes)
    return columns


def spread(Q: FloatArray, codes: IntArray, J: int) -> FloatArray:
    """Columns within levels (n, c) as columns of indicators (n, J c), those that are zero left out."""
    n, c = Q.shape
    tiles = np.zeros((n, J, c))
    tiles[np.arange(n), codes] = Q
    dense = tiles.reshape(n, J * c)
    return np.asarray(dense[:, dense.any(axis=0)])


def span(columns: FloatArray) -> FloatArray:
    """Orthonormal basis of what is left of columns that had length 1, by QR with pivoting."""
    if columns.shape[1] == 0:
        return columns
    Q, R, _ = qr(columns, mode="economic", pivoting=True, check_finite=False)
    size = np.abs(np.diagonal(R))
    return np.asarray(Q[:, : size.size][:, size > IN_SPAN])


def singular(columns: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Singular value decomposition of what is left of columns (n, p) that had length 1.

    Returns the r left vectors (n, r) that are not in the span, all p values, and the right vectors (p, p).
    """
    p = columns.shape[1]
    if p == 0:
        return columns, np.zeros(0), np.zeros((0, 0))
    Q, R, order = qr(columns, mode="economic", pivoting=True, check_finite=False)
    U, inner, right = np.linalg.svd(R)
    values, turned = np.zeros(p), np.empty((p, p))
    values[: inner.size] = inner
    turned[order] = right.T
    return np.asarray(Q @ U[:, : inner.size])[:, inner > IN_SPAN], values, turned
