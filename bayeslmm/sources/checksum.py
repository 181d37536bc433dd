"""Checksums of rows: the same whatever the types of columns and the coding of levels."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.types import AnyArray

# Odd numbers without a pattern: the golden ratio, and the multiplier of splitmix64.
_STEP = 0x9E3779B97F4A7C15
_MIX = np.uint64(0xBF58476D1CE4E5B9)
_HALF = np.uint64(29)
_WORD = 2**64
_MISSING = np.uint64(0x5851F42D4C957F2D)


def row_hashes(frame: pd.DataFrame, columns: Sequence[str]) -> AnyArray:
    """A number for every row, of all its values.

    Parameters
    ----------
    frame : pandas.DataFrame
    columns : sequence of str

    Returns
    -------
    numpy.ndarray, shape (rows,), uint64
    """
    total = np.full(len(frame), np.uint64(_STEP))
    for number, name in enumerate(columns):
        bits = _bits(frame[name])
        # Without the place of the column, (1, 2) and (2, 1) would be the same row.
        bits += np.uint64(((number + 1) * _STEP) % _WORD)
        bits ^= bits >> _HALF
        bits *= _MIX
        total ^= bits
        total *= _MIX
        total ^= total >> _HALF
    return total


def of_rows(hashes: AnyArray, ordered: bool) -> int:
    """One number of a chunk; of rows in any order, sums of chunks are that of all their rows.

    Examples
    --------
    >>> rows = row_hashes(pd.DataFrame({"y": [1.0, 2.0]}), ["y"])
    >>> of_rows(rows, False) == of_rows(rows[::-1], False), of_rows(rows, True) == of_rows(rows[::-1], True)
    (True, False)
    """
    return zlib.crc32(np.ascontiguousarray(hashes)) if ordered else int(hashes.sum(dtype=np.uint64))


def added(first: int, second: int) -> int:
    """The sum of two checksums of rows in any order."""
    return (first + second) % _WORD


def _bits(series: pd.Series) -> AnyArray:
    """A copy of the values, or of hashes of them, as whole numbers."""
    dtype: Any = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        levels = np.append(_of_levels(dtype.categories), _MISSING)
        return levels[np.asarray(series.cat.codes)]
    if isinstance(dtype, np.dtype) and dtype.kind in "iufb":
        # Whole numbers with missing values are floats: the bits are those of floats always; + 0 makes -0 a 0.
        return (series.to_numpy().astype(np.float64) + 0.0).view(np.uint64)
    if isinstance(dtype, np.dtype) and dtype.kind in "mM":
        return series.to_numpy().astype(np.int64).view(np.uint64)
    return np.asarray(pd.util.hash_array(series.astype(str).to_numpy(dtype=object), categorize=False)).copy()


def _of_levels(levels: pd.Index) -> AnyArray:
    if levels.dtype.kind in "iufb":
        return np.asarray(levels, dtype=np.float64).view(np.uint64)
    return np.asarray(pd.util.hash_array(np.asarray(levels.astype(str), dtype=object), categorize=False))
