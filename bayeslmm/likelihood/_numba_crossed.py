"""Compiled loops over the cells of crossed factors; imported late, by `crossed_kernels` only.

They hold no lock, so that parts of the levels run side by side.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from bayeslmm.types import FloatArray, IntArray


def _compiled(function: Callable[..., None]) -> Callable[..., None]:
    try:
        loop: Callable[..., None] = njit(cache=True, nogil=True)(function)
    except RuntimeError:
        loop = njit(nogil=True)(function)
    return loop


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
