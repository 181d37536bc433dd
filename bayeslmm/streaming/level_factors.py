"""Triangular factors of every level, into which rows are rotated one by one: what sums over levels are made of.

For every level the rows of its random effects' columns, with the other columns beside them, are reduced to c rows: the
triangular R and the between part E. What a rotation leaves of a row is its share of the within part. Orthogonal steps
lose no digits, whatever the order of the rows, and factors of some rows are rows themselves where they are merged.
"""

from __future__ import annotations

import numpy as np

from bayeslmm.likelihood.kernels import done
from bayeslmm.likelihood.within import grouped_qr, split_columns
from bayeslmm.types import FloatArray, IntArray

# As in `likelihood.within`: a column whose part outside the earlier ones is below this share is rounding.
_DEPENDENT = 1e-12


def rotate_into(factors: FloatArray, codes: IntArray, rows: FloatArray) -> FloatArray:
    """Take rows up into the factors of their levels.

    Parameters
    ----------
    factors : FloatArray, shape (J, c, c + m)
        Changed in place: R, then E.
    codes : IntArray, shape (n,)
    rows : FloatArray, shape (n, c + m)
        Columns of the random effects, then the others; may be changed.

    Returns
    -------
    FloatArray, shape (k, m)
        Rows whose cross-products are what was added to the within part.
    """
    c = factors.shape[1]
    if done("rotate_rows", codes, rows, factors):
        return rows[:, c:]
    return _rotated_by_level(factors, codes, rows)


def _rotated_by_level(factors: FloatArray, codes: IntArray, rows: FloatArray) -> FloatArray:
    """The same without compiled loops: a factorisation of the levels touched, with their rows so far."""
    c, width = factors.shape[1:]
    touched, place = np.unique(codes, return_inverse=True)
    every = np.concatenate([factors[touched].reshape(-1, width), rows])
    where = np.concatenate([np.repeat(np.arange(touched.size), c), place.ravel()])
    Q, R = grouped_qr(every[:, :c], where, touched.size)
    rest, between = split_columns(Q, every[:, c:], where, touched.size)
    factors[touched, :, :c], factors[touched, :, c:] = R, between
    return rest


def cleaned(factors: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The factors without the rounding of dependent columns, and rows (k, m) that go to the within part for it.

    Parameters
    ----------
    factors : FloatArray, shape (J, c, c + m)
        Changed in place.
    """
    c = factors.shape[1]
    diagonal = factors[:, np.arange(c), np.arange(c)]
    length = np.sqrt((factors[..., :c] ** 2).sum(axis=1))
    noisy = np.flatnonzero(((diagonal > 0) & (diagonal <= _DEPENDENT * length)).any(axis=1))
    left = []
    for j in range(c):
        own = factors[noisy]
        length = np.sqrt((own[:, : j + 1, j] ** 2).sum(axis=1))
        bad = noisy[(own[:, j, j] > 0) & (own[:, j, j] <= _DEPENDENT * length)]
        if not bad.size:
            continue
        rows = factors[bad, j].copy()
        rows[:, j] = 0.0
        factors[bad, j] = 0.0
        part = factors[bad]
        rest = np.array(rows)
        for k in range(j + 1, c):
            _rotate_one(part, rest, k)
        factors[bad] = part
        left.append(rest[:, c:])
    m = factors.shape[2] - c
    return factors, np.concatenate([np.empty((0, m)), *left])


def _rotate_one(factors: FloatArray, rows: FloatArray, k: int) -> None:
    """Rotate column k of one row (B, c + m) for each of B factors into these, in place."""
    r, z = factors[:, k, k].copy(), rows[:, k].copy()
    h = np.hypot(r, z)
    there = h > 0
    cos, sin = np.where(there, r / np.where(there, h, 1.0), 1.0)[:, None], (z / np.where(there, h, 1.0))[:, None]
    a, b = factors[:, k, k:].copy(), rows[:, k:].copy()
    factors[:, k, k:] = cos * a + sin * b
    rows[:, k:] = cos * b - sin * a
    rows[:, k] = 0.0
