"""Find the columns of X that the ones before them span."""

from __future__ import annotations

import math

import numpy as np

from bayeslmm.numerics import direct
from bayeslmm.types import FloatArray, IntArray

# A column is dependent if less than this share of its length about its mean is left outside the earlier ones,
# or less than this share of its length about zero, which is rounding.
_DEPENDENT = 1e-7
_ROUNDING = 1e-13
# Numbers as they are stored are off by 0.29 of the distance to the next (root mean square): this much says nothing.
STORED = 0.4
_GRAM_CLEAR = 1e-6
# Rows looked at first of a long matrix, and the share of a column that has to be left outside the others in them.
_SAMPLE = 2000
_CLEAR = 1e-5
# Lengths whose squares are numbers with all digits.
_SQUARES = (1e-140, 1e140)
_UNIT = float(np.finfo(float).eps)
# Rows whose columns are read together, from the cache.
_BLOCK = 4096


def independent_columns(X: FloatArray) -> IntArray:
    """Positions of the columns to keep, in order; later columns give way to earlier ones, as in R's lm.

    Parameters
    ----------
    X : FloatArray, shape (n, p)

    Examples
    --------
    >>> x = np.arange(5.0)
    >>> independent_columns(np.column_stack([np.ones(5), x, 2 * x, x**2])).tolist()
    [0, 1, 3]
    """
    n, p = X.shape
    if _clearly_independent(X) if n > 2 * _SAMPLE > 2 * p else _well_conditioned(X):
        return np.arange(p)
    scaled, stored = _centre_and_scale(X)
    usable = (scaled**2).sum(0) > 0
    gram = scaled.T @ scaled
    if usable.all() and p and np.linalg.eigvalsh(gram)[0] > max(_GRAM_CLEAR, stored.max() ** 2):
        return np.arange(p)
    spread = np.linalg.norm(scaled - scaled.mean(axis=0), axis=0)
    return not_spanned(scaled, spread, stored)


def not_spanned(scaled: FloatArray, spread: FloatArray, stored: FloatArray) -> IntArray:
    """Positions of columns (n, p), of length 1 or 0, that no earlier ones span.

    Parameters
    ----------
    scaled : FloatArray, shape (n, p)
        Rows, or vectors with the same lengths and angles.
    spread : FloatArray, shape (p,)
        Their lengths about the means.
    stored : FloatArray, shape (p,)
        What the rounding of stored numbers is of their lengths.
    """
    keep: list[int] = []
    basis = np.empty((scaled.shape[0], 0))
    for j in np.flatnonzero((scaled**2).sum(axis=0) > 0):
        rest = scaled[:, j]
        for _ in range(2):
            rest = rest - basis @ (basis.T @ rest)
        left = float(np.linalg.norm(rest))
        if left > max(_DEPENDENT * spread[j], _ROUNDING, stored[j]):
            keep.append(int(j))
            basis = np.column_stack([basis, rest / left])
    return np.array(keep, dtype=np.int64)


def _well_conditioned(X: FloatArray) -> bool:
    """Whether the columns, about their means beside a constant first, are clearly independent whatever rounds."""
    n, p = X.shape
    if p == 1 and n > 1 and _SQUARES[0] ** 2 < direct.squares(X[:, 0]) < _SQUARES[1] ** 2:
        return True
    size = direct.largest(X)
    if not 0 < p < n or not _SQUARES[0] < size < _SQUARES[1]:
        return False
    # Numbers as they are stored are off by less than half a unit of the last digit of the largest.
    stored = STORED * _UNIT * size * math.sqrt(n)
    # Columns of unit length about zero are no farther from each other than about their means, which take longer.
    if _clear(X.T @ X, stored):
        return True
    columns = np.array(X.T, order="C")
    first = columns[0]
    if not (first == first[0]).all():
        return False
    columns[1:] -= (columns[1:].sum(axis=1) / n)[:, None]
    return _clear(columns @ columns.T, stored)


def _clear(gram: FloatArray, stored: float) -> bool:
    """Whether the columns with products (p, p) are clearly independent when each is as long as another."""
    length = np.sqrt(gram.diagonal())
    shortest = float(length.min())
    if not shortest > _SQUARES[0]:
        return False
    cosines = gram / (length * length[:, None])
    # Positive definite even so, which takes less than the smallest eigenvalue.
    cosines.reshape(-1)[:: len(gram) + 1] -= max(_GRAM_CLEAR, (stored / shortest) ** 2)
    return direct.is_definite(cosines)


def _clearly_independent(X: FloatArray) -> bool:
    """Whether some of the rows already show that no column is nearly spanned by the others.

    What the others leave of a column in these rows bounds from below what they leave in all rows.
    """
    rows = X[:: X.shape[0] // _SAMPLE]
    with np.errstate(all="ignore"):
        blocks = (X[k : k + _BLOCK].T for k in range(0, X.shape[0], _BLOCK))
        spread = np.sqrt(sum(np.array([column @ column for column in block]) for block in blocks))
        unit = rows / np.where(spread > 0, spread, 1.0)
        squares_hold = (spread > _SQUARES[0]) & (spread < _SQUARES[1])
        if X.shape[1] == 0 or not squares_hold.all() or not np.isfinite(unit).all():
            return False
        return bool(np.linalg.svd(unit, compute_uv=False)[-1] > _CLEAR)


def _centre_and_scale(X: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Columns (n, p) of length one, centred beside a constant first, and what rounding as stored is of that (p,)."""
    # Row by row of the transpose: sums along a short last axis are slow.
    columns = np.array(X.T, order="C")
    # Powers of two, which change no digit: squares of the columns as they are may leave the range of numbers.
    columns = np.ldexp(columns, -np.frexp(np.abs(columns).max(axis=1, initial=0.0))[1][:, None])
    constant = (columns[:, :1] == columns).all(axis=1)
    spacing = STORED * np.sqrt((np.spacing(np.abs(columns)) ** 2).sum(axis=1))
    if constant[:1].any():
        columns[~constant] -= columns[~constant].mean(axis=1, keepdims=True)
    length = np.sqrt((columns**2).sum(axis=1))
    length = np.where(length > 0, length, 1.0)
    return (columns / length[:, None]).T, spacing / length
