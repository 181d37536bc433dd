"""Compiled loops over the cells that occur; imported late, by `kernels` only."""

from __future__ import annotations

from collections.abc import Callable

from numba import njit

from bayeslmm.types import FloatArray, IntArray


def _compiled(function: Callable[..., None]) -> Callable[..., None]:
    """Kept in numba's cache; compiled in every process where neither this folder nor another one can be written to."""
    try:
        loop: Callable[..., None] = njit(cache=True)(function)
    except RuntimeError:
        loop = njit(function)
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
