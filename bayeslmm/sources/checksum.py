"""Checksums of rows: where rows have no fixed order, the same whatever their order and the coding of levels."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.sources.frames import text_columns
from bayeslmm.types import AnyArray

# Odd numbers without a pattern: the golden ratio, and the multiplier of splitmix64.
_STEP = 0x9E3779B97F4A7C15
_MIX = np.uint64(0xBF58476D1CE4E5B9)
_HALF = np.uint64(29)
_WORD = 2**64
# The same in columns of every kind: without any value, a column may be of one kind now and of another then.
_MISSING = np.float64(np.nan).view(np.uint64)


def checksum(frame: pd.DataFrame, columns: Sequence[str], ordered: bool) -> int:
    """One number of a chunk; of rows in any order, sums of chunks are that of all their rows.

    Parameters
    ----------
    frame : pandas.DataFrame
    columns : sequence of str
    ordered : bool
        Whether rows come in the same order each time.

    Examples
    --------
    >>> there, back = pd.DataFrame({"y": [1.0, 2.0]}), pd.DataFrame({"y": [2.0, 1.0]})
    >>> [checksum(there, ["y"], ordered) == checksum(back, ["y"], ordered) for ordered in (True, False)]
    [False, True]
    """
    hashes = row_hashes(frame, columns, ordered)
    if not ordered:
        return int(hashes.sum(dtype=np.uint64))
    total = zlib.crc32(hashes)
    for name in sorted(text_columns(frame).intersection(columns)):
        if isinstance(frame[name].dtype, pd.CategoricalDtype):
            total = _of_all_levels(frame[name].cat.categories, total)
    return total


def checksum_of_order(frame: pd.DataFrame, columns: Sequence[str], start: int) -> int:
    """One number of the rows and their places among all rows, wherever chunks end; those of chunks are added.

    Examples
    --------
    >>> y = pd.DataFrame({"y": [1.0, 2.0, 3.0]})
    >>> whole = checksum_of_order(y, ["y"], 0)
    >>> added(checksum_of_order(y[:1], ["y"], 0), checksum_of_order(y[1:], ["y"], 1)) == whole
    True
    >>> checksum_of_order(y[::-1], ["y"], 0) == whole
    False
    """
    places = np.arange(start, start + len(frame), dtype=np.uint64) * np.uint64(_STEP)
    places ^= places >> _HALF
    places *= _MIX
    places |= np.uint64(1)
    places *= row_hashes(frame, columns, False)
    return int(places.sum(dtype=np.uint64))


def row_hashes(frame: pd.DataFrame, columns: Sequence[str], ordered: bool) -> AnyArray:
    """A number (rows,) for the values of each row; where text comes in order, of its codes."""
    text = text_columns(frame) if ordered else frozenset()
    hashes = np.full(len(frame), np.uint64(_STEP))
    for number, name in enumerate(columns):
        bits = _bits(frame[name], name in text)
        # Without the place of the column, (1, 2) and (2, 1) would be the same row.
        bits += np.uint64(((number + 1) * _STEP) % _WORD)
        bits ^= bits >> _HALF
        bits *= _MIX
        hashes ^= bits
        hashes *= _MIX
        hashes ^= hashes >> _HALF
    return hashes


def added(first: int, second: int) -> int:
    """The sum of two checksums of rows in any order."""
    return (first + second) % _WORD


def _bits(series: pd.Series, coded: bool) -> AnyArray:
    """A copy of the values, or of hashes of them, as whole numbers; of levels the codes, if those will do."""
    dtype: Any = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        codes = np.asarray(series.cat.codes)
        if coded:
            # Of text, of which there may be a million: categories have other codes where others were seen before.
            return _marked(codes.astype(np.int64).view(np.uint64), codes < 0)
        return np.asarray(np.append(_of_levels(dtype.categories), _MISSING)[codes])
    if isinstance(dtype, np.dtype) and dtype.kind in "iufb":
        # Whole numbers with missing values are floats: the bits are those of floats always; + 0 makes -0 a 0.
        values = series.to_numpy().astype(np.float64) + 0.0
        return _marked(values.view(np.uint64), np.isnan(values))
    if isinstance(dtype, np.dtype) and dtype.kind in "mM":
        return _marked(series.to_numpy().astype(np.int64).view(np.uint64), np.asarray(series.isna()))
    return _marked(_of_texts(series), np.asarray(series.isna()))


def _marked(bits: AnyArray, missing: AnyArray) -> AnyArray:
    bits[missing] = _MISSING
    return bits


def _of_levels(levels: pd.Index) -> AnyArray:
    if levels.dtype.kind in "iufb":
        return np.asarray(levels, dtype=np.float64).view(np.uint64)
    return _of_texts(levels)


def _of_all_levels(levels: pd.Index, start: int) -> int:
    """One number of levels in their order."""
    texts = _arrow_texts(levels)
    if texts is None:
        return zlib.crc32("\n".join(ascii(level) for level in levels).encode(), start)
    bounds, letters = _buffers(texts)
    return zlib.crc32(letters, zlib.crc32(np.diff(bounds), start))


def _arrow_texts(values: pd.Index | pd.Series) -> Any:
    """Texts as Arrow has them; None of what is no text, and without Arrow."""
    if find_spec("pyarrow") is None or values.dtype.kind in "iufbmM":
        return None
    import pyarrow as pa

    try:
        texts = pa.array(values, type=pa.large_string(), from_pandas=True)
    except (pa.ArrowInvalid, TypeError, UnicodeError):
        # Also of intervals and periods.
        return None
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    return texts.fill_null("") if texts.null_count else texts


def _buffers(texts: Any) -> tuple[AnyArray, AnyArray]:
    """Where texts begin and end, counted from the first, and their bytes."""
    _, ends, content = texts.buffers()
    if not len(texts):
        return np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.uint8)
    bounds = np.frombuffer(ends, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    letters = np.frombuffer(content, dtype=np.uint8) if content is not None else np.zeros(0, dtype=np.uint8)
    return bounds - bounds[0], letters[int(bounds[0]) : int(bounds[-1])]


def _of_texts(values: pd.Index | pd.Series) -> AnyArray:
    """Polynomials in the bytes of texts; of other objects, of what they are printed as."""
    texts = _arrow_texts(values)
    if texts is not None:
        return _of_bytes(texts)
    printed = np.array([ascii(value) for value in values], dtype=object)
    return np.asarray(pd.util.hash_array(printed, categorize=False)).copy()


def _of_bytes(texts: Any) -> AnyArray:
    """Of a large_string array of Arrow."""
    bounds, content = _buffers(texts)
    if not content.size:
        return np.zeros(len(texts), dtype=np.uint64)
    letters = content.astype(np.uint64)
    lengths = np.diff(bounds)
    places = np.arange(content.size) - np.repeat(bounds[:-1], lengths)
    powers = np.cumprod(np.full(int(lengths.max()), _MIX))
    # A letter 0 counts, too.
    letters += np.uint64(1)
    letters *= powers[places]
    # Differences of running sums are exact in arithmetic that wraps around, and right for empty texts.
    sums = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(letters)])
    return np.asarray(sums[bounds[1:]] - sums[bounds[:-1]])
