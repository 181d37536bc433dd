"""Compiled loops over rows, levels and the cells that occur; imported late, by `kernels` only.

They hold no lock, so that parts of the levels can run side by side.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from bayeslmm.types import FloatArray, IntArray


def _compiled(function: Callable[..., None]) -> Callable[..., None]:
    """Kept in numba's cache; compiled in every process where neither this folder nor another one can be written to."""
    try:
        loop: Callable[..., None] = njit(cache=True, nogil=True)(function)
    except RuntimeError:
        loop = njit(nogil=True)(function)
    return loop


@_compiled
def add_outer_products(starts: IntArray, columns: IntArray, values: FloatArray, sign: float, out: FloatArray) -> None:
    """Add ``sign sum_l V_l' V_l`` to the lower triangle of out."""
    c = values.shape[1]
    for level in range(starts.size - 1):
        first, end = starts[level], starts[level + 1]
        for i in range(first, end):
            row = out[columns[i]]
            if c == 1:
                value = sign * values[i, 0]
                for j in range(first, i + 1):
                    row[columns[j]] += value * values[j, 0]
            else:
                for j in range(first, i + 1):
                    total = 0.0
                    for a in range(c):
                        total += values[i, a] * values[j, a]
                    row[columns[j]] += sign * total


@_compiled
def quadratic_forms(
    starts: IntArray, columns: IntArray, values: FloatArray, table: FloatArray, out: FloatArray
) -> None:
    """``out_l = V_l table V_l'`` from the lower triangle of a symmetric table."""
    c = values.shape[1]
    for level in range(starts.size - 1):
        first, end = starts[level], starts[level + 1]
        for i in range(first, end):
            row = table[columns[i]]
            if c == 1:
                total = 0.0
                for j in range(first, i):
                    total += values[j, 0] * row[columns[j]]
                value = values[i, 0]
                out[level, 0, 0] += value * (2.0 * total + value * row[columns[i]])
            else:
                for j in range(first, i + 1):
                    entry = row[columns[j]] if j < i else 0.5 * row[columns[j]]
                    for a in range(c):
                        for b in range(c):
                            out[level, a, b] += entry * (values[i, a] * values[j, b] + values[j, a] * values[i, b])


@_compiled
def _whiten(R: FloatArray, E: FloatArray, T: FloatArray, F: FloatArray, L: FloatArray, half: FloatArray) -> None:
    """Cholesky factor L of ``I + R T T' R'`` of one level, and ``half = L^-1 E``; R is upper triangular."""
    c, m = E.shape
    for i in range(c):
        for j in range(c):
            total = 0.0
            for a in range(i, c):
                total += R[i, a] * T[a, j]
            F[i, j] = total
    for i in range(c):
        for j in range(i + 1):
            total = 1.0 if i == j else 0.0
            for a in range(c):
                total += F[i, a] * F[j, a]
            for a in range(j):
                total -= L[i, a] * L[j, a]
            L[i, j] = np.sqrt(total) if i == j else total / L[j, j]
    for i in range(c):
        for j in range(m):
            total = E[i, j]
            for a in range(i):
                total -= L[i, a] * half[a, j]
            half[i, j] = total / L[i, i]


@_compiled
def eliminate_levels(
    R: FloatArray, E: FloatArray, T: FloatArray, log_det: FloatArray, S: FloatArray, step: int
) -> None:
    """Add ``sum_l log |M_l|`` and ``sum_l E_l' M_l^-1 E_l``, ``M_l = I + R_l T T' R_l'``, at every point.

    Sums of `step` levels are made first and added then, which rounds less.
    """
    J, c, m = E.shape
    F, L, half, own = np.empty((c, c)), np.empty((c, c)), np.empty((c, m)), np.empty((m, m))
    for k in range(T.shape[0]):
        for start in range(0, J, step):
            own[:] = 0.0
            logs, product = 0.0, 1.0
            for level in range(start, min(start + step, J)):
                _whiten(R[level], E[level], T[k], F, L, half)
                for a in range(c):
                    product *= L[a, a]
                    if product > 1e100:
                        logs += np.log(product)
                        product = 1.0
                    for i in range(m):
                        for j in range(i + 1):
                            own[i, j] += half[a, i] * half[a, j]
            log_det[k] += 2.0 * (logs + np.log(product))
            for i in range(m):
                for j in range(i + 1):
                    S[k, i, j] += own[i, j]
        for i in range(m):
            for j in range(i):
                S[k, j, i] = S[k, i, j]


@_compiled
def _between(R: FloatArray, L: FloatArray, half: FloatArray, Y: FloatArray, B: FloatArray) -> None:
    """``Y = L^-1 R`` and ``B = Y' half`` of one level."""
    c, m = half.shape
    for i in range(c):
        for j in range(c):
            total = R[i, j]
            for a in range(i):
                total -= L[i, a] * Y[a, j]
            Y[i, j] = total / L[i, i]
    for i in range(c):
        for j in range(m):
            total = 0.0
            for a in range(c):
                total += Y[a, i] * half[a, j]
            B[i, j] = total


@_compiled
def _add_forms(Y: FloatArray, B: FloatArray, Q: FloatArray, v: FloatArray, s: FloatArray, own: FloatArray) -> None:
    """Add ``Y'Y``, ``B Q B'`` and ``B v (B v)'`` of one level to the lower triangles; the last column is not in Q."""
    c, m = B.shape
    for i in range(c):
        s[i] = 0.0
        for j in range(m):
            s[i] += B[i, j] * v[j]
    for i in range(c):
        for j in range(i + 1):
            for a in range(c):
                own[0, i, j] += Y[a, i] * Y[a, j]
            for a in range(m - 1):
                swept = 0.0
                for b in range(m - 1):
                    swept += B[i, b] * Q[b, a]
                own[1, i, j] += swept * B[j, a]
            own[2, i, j] += s[i] * s[j]


@_compiled
def level_gradient(
    R: FloatArray, E: FloatArray, T: FloatArray, Q: FloatArray, v: FloatArray, out: FloatArray, step: int
) -> None:
    """Add the sums over levels of A, ``B Q B'`` and ``B v (B v)'``, A = R'M^-1 R and B = R'M^-1 E, at every point.

    Of symmetric matrices the lower triangle.
    """
    J, c, m = E.shape
    F, L, half, own = np.empty((c, c)), np.empty((c, c)), np.empty((c, m)), np.empty((3, c, c))
    Y, B, s = np.empty((c, c)), np.empty((c, m)), np.empty(c)
    for k in range(T.shape[0]):
        for start in range(0, J, step):
            own[:] = 0.0
            for level in range(start, min(start + step, J)):
                _whiten(R[level], E[level], T[k], F, L, half)
                _between(R[level], L, half, Y, B)
                _add_forms(Y, B, Q[k], v[k], s, own)
            out[k] += own


@_compiled
def explain_each(
    starts: IntArray, columns: IntArray, values: FloatArray, weights: FloatArray, right: FloatArray, out: FloatArray
) -> None:
    """Add ``sum_l V_l' W_l V_l right``, W of their own for every column (packed, J, k); right and out (q, k)."""
    c, k = values.shape[1], right.shape[1]
    e, moved = np.empty((c, k)), np.empty((c, k))
    for level in range(starts.size - 1):
        e[:] = 0.0
        for i in range(starts[level], starts[level + 1]):
            row = right[columns[i]]
            for a in range(c):
                value, own = values[i, a], e[a]
                for x in range(k):
                    own[x] += value * row[x]
        for a in range(c):
            for b in range(c):
                high, low = max(a, b), min(a, b)
                weight, own, to = weights[high * (high + 1) // 2 + low, level], e[b], moved[a]
                if b == 0:
                    to[:] = 0.0
                for x in range(k):
                    to[x] += weight[x] * own[x]
        for i in range(starts[level], starts[level + 1]):
            row = out[columns[i]]
            for a in range(c):
                value, own = values[i, a], moved[a]
                for x in range(k):
                    row[x] += value * own[x]


@_compiled
def explain(  # noqa: C901
    first: int,
    end: int,
    starts: IntArray,
    columns: IntArray,
    values: FloatArray,
    middle: FloatArray,
    right: FloatArray,
    out: FloatArray,
) -> None:
    """Add ``sum_l E_l' middle_l E_l right`` over some levels; right and out (q, k)."""
    c, k = values.shape[1], right.shape[1]
    e, moved = np.zeros((c, k)), np.zeros((c, k))
    for level in range(first, end):
        if c == 1:
            own = e[0]
            own[:] = 0.0
            for i in range(starts[level], starts[level + 1]):
                value, row = values[i, 0], right[columns[i]]
                for x in range(k):
                    own[x] += value * row[x]
            weight = middle[level, 0, 0]
            for x in range(k):
                own[x] *= weight
            for i in range(starts[level], starts[level + 1]):
                value, row = values[i, 0], out[columns[i]]
                for x in range(k):
                    row[x] += value * own[x]
        else:
            e[:] = 0.0
            for i in range(starts[level], starts[level + 1]):
                row = right[columns[i]]
                for a in range(c):
                    for x in range(k):
                        e[a, x] += values[i, a] * row[x]
            moved[:] = 0.0
            for a in range(c):
                for b in range(c):
                    for x in range(k):
                        moved[a, x] += middle[level, a, b] * e[b, x]
            for i in range(starts[level], starts[level + 1]):
                row = out[columns[i]]
                for a in range(c):
                    for x in range(k):
                        row[x] += values[i, a] * moved[a, x]


@_compiled
def add_outer_packed(  # noqa: C901
    part: int,
    parts: int,
    starts: IntArray,
    columns: IntArray,
    values: FloatArray,
    sign: float,
    half: int,
    out: FloatArray,
) -> None:
    """Add ``sign sum_l V_l' V_l`` to a full packed lower triangle of even order 2 half, some of its columns."""
    c, lead = values.shape[1], 2 * half + 1
    for level in range(starts.size - 1):
        first, end = starts[level], starts[level + 1]
        middle = first
        while middle < end and columns[middle] < half:
            middle += 1
        for j in range(first, middle):
            column = np.int64(columns[j])
            if column % parts != part:
                continue
            place = column * lead + 1
            if c == 1:
                value = sign * values[j, 0]
                for i in range(j, end):
                    out[place + columns[i]] += value * values[i, 0]
            else:
                for i in range(j, end):
                    total = 0.0
                    for a in range(c):
                        total += values[i, a] * values[j, a]
                    out[place + columns[i]] += sign * total
        for i in range(middle, end):
            row = np.int64(columns[i]) - half
            if row % parts != part:
                continue
            place = row * lead - half
            if c == 1:
                value = sign * values[i, 0]
                for j in range(middle, i + 1):
                    out[place + columns[j]] += value * values[j, 0]
            else:
                for j in range(middle, i + 1):
                    total = 0.0
                    for a in range(c):
                        total += values[i, a] * values[j, a]
                    out[place + columns[j]] += sign * total


@_compiled
def packed_forms(
    first_level: int,
    end_level: int,
    starts: IntArray,
    columns: IntArray,
    values: FloatArray,
    table: FloatArray,
    half: int,
    out: FloatArray,
) -> None:
    """``out_l = V_l table V_l'`` of some levels from a full packed lower triangle of even order 2 half."""
    c, lead = values.shape[1], 2 * half + 1
    for level in range(first_level, end_level):
        first, end = starts[level], starts[level + 1]
        middle = first
        while middle < end and columns[middle] < half:
            middle += 1
        for j in range(first, end):
            lower = j < middle
            column = np.int64(columns[j])
            place = column * lead + 1 if lower else (column - half) * lead - half
            # Below the diagonal of a column of the first half, left of that of a row of the second.
            begin, stop = (j + 1, end) if lower else (middle, j)
            diagonal = table[place + column]
            if c == 1:
                total = 0.0
                for i in range(begin, stop):
                    total += values[i, 0] * table[place + columns[i]]
                value = values[j, 0]
                out[level, 0, 0] += value * (2.0 * total + value * diagonal)
            else:
                for i in range(begin, stop):
                    entry = table[place + columns[i]]
                    for a in range(c):
                        for b in range(c):
                            out[level, a, b] += entry * (values[i, a] * values[j, b] + values[j, a] * values[i, b])
                for a in range(c):
                    for b in range(c):
                        out[level, a, b] += diagonal * values[j, a] * values[j, b]


@_compiled
def rotate_rows(codes: IntArray, rows: FloatArray, factors: FloatArray) -> None:
    """Rotate rows into the factors of their levels; what is left of them stays, with zeros in the first columns."""
    c, width = factors.shape[1], factors.shape[2]
    for i in range(codes.size):
        own, row = factors[codes[i]], rows[i]
        for j in range(c):
            z = row[j]
            if z == 0.0:
                continue
            r = own[j, j]
            h = np.sqrt(r * r + z * z)
            cos, sin = r / h, z / h
            own[j, j] = h
            row[j] = 0.0
            for k in range(j + 1, width):
                a, b = own[j, k], row[k]
                own[j, k] = cos * a + sin * b
                row[k] = cos * b - sin * a
