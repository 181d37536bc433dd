"""Arrow tables and streams of record batches as frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from bayeslmm.sources.frames import beyond_floats, categorical, with_text

_INTERVAL = np.dtype([("months", "<i4"), ("days", "<i4"), ("nanoseconds", "<i8")])
_DAY = 86_400_000_000_000


def is_text(kind: Any) -> bool:
    """Whether a type of Arrow is text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def frame_of_arrow(table: Any, columns: Sequence[str], text: Iterable[str] = ()) -> pd.DataFrame:
    """Columns of a table or record batch.

    Parameters
    ----------
    table : pyarrow.Table or RecordBatch
    columns : sequence of str
    text : iterable of str
        Columns that are text although they come as dictionaries.
    """
    known = frozenset(text)
    content, found = {}, []
    for name in columns:
        column = table.column(name)
        kind = column.type
        if is_text(kind) or name in known:
            found.append(name)
        content[name] = _values(column, kind, name in found)
    frame = pd.DataFrame(content, index=pd.RangeIndex(table.num_rows), columns=list(columns), copy=False)
    return with_text(frame, found)


def _values(column: Any, kind: Any, text: bool) -> Any:
    if is_text(kind):
        # Views are no keys of dictionaries in all versions.
        column = pc.dictionary_encode(column.cast(pa.large_string()) if pa.types.is_string_view(kind) else column)
        kind = column.type
    if pa.types.is_dictionary(kind):
        return _categorical(_one(column), kind.ordered, text)
    if pa.types.is_decimal(kind):
        column = column.cast(pa.float64())
    if pa.types.is_int64(kind) or pa.types.is_uint64(kind):
        return _integers(column, kind)
    if pa.types.is_interval(kind):
        return _durations(column)
    return column.to_pandas().array


def _integers(column: Any, kind: Any) -> Any:
    """Integers of 64 bits; with nulls as doubles where these hold all of them."""
    if column.null_count:
        ends = pc.min_max(column).as_py()
        if beyond_floats(ends["min"], ends["max"]):
            values = pc.fill_null(column, pa.scalar(0, kind)).to_numpy()
            array = pd.array(values, dtype="UInt64" if pa.types.is_uint64(kind) else "Int64")
            array[np.asarray(column.is_null())] = pd.NA
            return array
    return column.to_pandas().array


def _durations(column: Any) -> Any:
    """Of months, days and nanoseconds; a month has 30 days, as in DuckDB's own frames."""
    parts = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    found = [np.zeros(0, dtype=np.int64)]
    for part in parts:
        fields = np.frombuffer(part.buffers()[1], dtype=_INTERVAL, count=part.offset + len(part))[part.offset :]
        values = (fields["months"].astype(np.int64) * 30 + fields["days"]) * _DAY + fields["nanoseconds"]
        values[part.is_null().to_numpy(zero_copy_only=False)] = np.iinfo(np.int64).min
        found.append(values)
    return pd.array(np.concatenate(found).view("timedelta64[ns]"))


def _categorical(array: Any, ordered: bool, text: bool) -> pd.Categorical:
    """Of a dictionary array; those of text were made by Arrow, which names no level twice."""
    indices, dictionary = array.indices, array.dictionary
    if not text and (dictionary.null_count or len(pc.unique(dictionary)) < len(dictionary)):
        return _categorical(pc.dictionary_encode(array.dictionary_decode()), ordered, True)
    if pa.types.is_string_view(dictionary.type):
        dictionary = dictionary.cast(pa.large_string())
    if not pa.types.is_signed_integer(indices.type):
        indices = indices.cast(pa.int64())
    codes = pc.fill_null(indices, pa.scalar(-1, indices.type)).to_numpy(zero_copy_only=False)
    return categorical(codes, pd.Index(dictionary.to_pandas()), ordered)


def _one(column: Any) -> Any:
    """A dictionary array of a column that may have several parts with dictionaries of their own."""
    if not isinstance(column, pa.ChunkedArray):
        return _without_null_level(column)
    if column.num_chunks == 1:
        return _without_null_level(column.chunk(0))
    if any(part.dictionary.null_count for part in column.chunks):
        # Arrow joins none with a missing value among the levels.
        column = pa.chunked_array([_without_null_level(part) for part in column.chunks], column.type)
    whole = column.unify_dictionaries().combine_chunks()
    return whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole


def _without_null_level(array: Any) -> Any:
    """Missing values are no levels; the others stay in their order."""
    levels = array.dictionary
    if not levels.null_count:
        return array
    known = levels.is_valid().to_numpy(zero_copy_only=False)
    places = pa.array(np.cumsum(known) - 1, array.type.index_type, mask=~known)
    return pa.DictionaryArray.from_arrays(places.take(array.indices), levels.drop_null(), ordered=array.type.ordered)


def tables(batches: Iterable[Any], most: int) -> Iterator[Any]:
    """Tables of `most` rows from record batches, ending at the same rows whatever batches there are.

    Parameters
    ----------
    batches : iterable of pyarrow.RecordBatch
    most : int
        Rows of every table but the last.
    """
    waiting: list[Any] = []
    rows = 0
    for batch in batches:
        start = 0
        while rows + batch.num_rows - start >= most:
            taken = most - rows
            waiting.append(batch.slice(start, taken))
            yield pa.Table.from_batches(waiting)
            start, waiting, rows = start + taken, [], 0
        if batch.num_rows > start:
            waiting.append(batch.slice(start))
            rows += batch.num_rows - start
    if waiting:
        yield pa.Table.from_batches(waiting)
