"""Compiled loops over rows; imported late, by `level_factors` only."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
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
