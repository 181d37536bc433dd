"""The frames that sources give: numbers of NumPy, text as Categoricals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

_TEXT = "text columns"
# Whole numbers up to here are doubles.
EXACT = 2**53


def text_columns(frame: pd.DataFrame) -> frozenset[str]:
    """Which columns of a chunk are text, whose levels have no order of their own."""
    return frozenset(frame.attrs.get(_TEXT, ()))


def with_text(frame: pd.DataFrame, names: Sequence[str] | frozenset[str]) -> pd.DataFrame:
    """The frame, with a note of which columns are text."""
    frame.attrs = {_TEXT: tuple(sorted(names))}
    return frame


def frame_of_pandas(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The columns of a pandas frame, which need not be called by text."""
    places = {str(name): place for place, name in enumerate(table.columns)}
    series = {name: _plain(table.iloc[:, places[name]]) for name in columns}
    text = [
        name for name, values in series.items() if values.dtype == object or isinstance(values.dtype, pd.StringDtype)
    ]
    content: dict[str, Any] = {}
    for name, values in series.items():
        content[name] = categorical_of_text(values) if name in text else values.array
    frame = pd.DataFrame(content, index=pd.RangeIndex(len(table)), columns=list(columns), copy=False)
    return with_text(frame, [name for name in text if isinstance(frame[name].dtype, pd.CategoricalDtype)])


def beyond_floats(low: Any, high: Any) -> bool:
    """Whether whole numbers in a range, which may be empty, need not be doubles."""
    return not pd.isna(low) and (int(low) < -EXACT or int(high) > EXACT)


def _plain(values: pd.Series) -> pd.Series:
    """Numbers with missing values of their own as NumPy has them."""
    dtype = values.dtype
    if isinstance(dtype, np.dtype | pd.CategoricalDtype | pd.StringDtype | pd.PeriodDtype):
        return values
    if isinstance(dtype, pd.ArrowDtype) and str(dtype).startswith(("string", "large_string", "dictionary")):
        return values.astype("category" if str(dtype).startswith("dictionary") else "str")
    if pd.api.types.is_bool_dtype(dtype):
        return values.astype(object).where(values.notna(), None) if values.isna().any() else values.astype(bool)
    if pd.api.types.is_numeric_dtype(dtype):
        if pd.api.types.is_integer_dtype(dtype) and not values.isna().any():
            return pd.Series(values.to_numpy(dtype=getattr(dtype, "numpy_dtype", np.int64)))
        if pd.api.types.is_integer_dtype(dtype) and beyond_floats(values.min(), values.max()):
            return values.astype("UInt64" if pd.api.types.is_unsigned_integer_dtype(dtype) else "Int64")
        return pd.Series(values.to_numpy(dtype=np.float64, na_value=np.nan))
    return values


def categorical_of_text(values: pd.Series) -> Any:
    """Text as a Categorical with levels in the order of their appearance; other objects as they are."""
    found = pd.api.types.infer_dtype(values, skipna=True) if values.dtype == object else "string"
    if found == "empty":
        # Without any value it is not known to be text.
        return np.full(len(values), np.nan)
    if found != "string":
        return values.array
    codes, levels = pd.factorize(values.array, use_na_sentinel=True)
    return categorical(codes, pd.Index(levels))


def categorical(codes: Any, levels: pd.Index, ordered: bool = False) -> pd.Categorical:
    """A Categorical of levels that are known to differ, which takes long to find out of a million."""
    trusted = getattr(pd.CategoricalDtype, "_from_fastpath", None)
    if trusted is None:
        return pd.Categorical.from_codes(codes, categories=levels, ordered=ordered)
    return pd.Categorical.from_codes(codes, dtype=trusted(levels, ordered))


def cut(frame: pd.DataFrame, most: int) -> Iterator[pd.DataFrame]:
    """Parts of a frame of about the same size, none with more rows than `most`."""
    parts = max(1, -(-len(frame) // most))
    if parts == 1:
        yield frame
        return
    ends = [len(frame) * part // parts for part in range(parts + 1)]
    for start, end in pairwise(ends):
        yield with_text(frame.iloc[start:end].reset_index(drop=True), text_columns(frame))


def joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Frames with the same columns, one below the other; levels in the order of their appearance."""
    if len(frames) == 1:
        return frames[0]
    content = {name: _joined_column([frame[name] for frame in frames]) for name in frames[0].columns}
    return with_text(pd.DataFrame(content, copy=False), frozenset[str]().union(*map(text_columns, frames)))


def _joined_column(columns: Sequence[pd.Series]) -> Any:
    filled = [column for column in columns if len(column)] or [columns[0]]
    first = next((column for column in filled if not without_value(column)), filled[0])
    if not isinstance(first.dtype, pd.CategoricalDtype):
        # Chunks without a value of a column may have any type.
        same = filled if first.dtype.kind in "mM" else _exact([_as_numbers(column) for column in filled])
        return pd.concat(same, ignore_index=True).array
    # Missing values alone have no levels, whose type is then nobody's.
    filed = [column.cat.categories for column in filled if isinstance(column.dtype, pd.CategoricalDtype)]
    types = {levels.dtype for levels in filed if len(levels)} or {first.cat.categories.dtype}
    kind = types.pop() if len(types) == 1 else np.dtype(object)
    joint = pd.api.types.union_categoricals([_as_levels(column, kind) for column in filled], ignore_order=True)
    return joint.as_ordered() if first.cat.ordered else joint


def _exact(columns: list[pd.Series]) -> list[pd.Series]:
    """Doubles beside integers that these do not hold as integers, where they are whole numbers."""
    whole = [column for column in columns if pd.api.types.is_integer_dtype(column.dtype)]
    if len(whole) == len(columns) or not any(beyond_floats(column.min(), column.max()) for column in whole):
        return columns
    return [_as_whole(column) for column in columns]


def _as_whole(column: pd.Series) -> pd.Series:
    return column.astype("Int64") if pd.api.types.is_float_dtype(column.dtype) and all_whole(column) else column


def all_whole(doubles: pd.Series | pd.Index) -> bool:
    """Whether all values that are there are whole numbers that doubles hold."""
    values = doubles.to_numpy()
    known = values[~np.isnan(values)]
    return bool(((known == np.trunc(known)) & (np.abs(known) <= EXACT)).all())


def _as_numbers(column: pd.Series) -> pd.Series:
    other = isinstance(column.dtype, pd.CategoricalDtype) or column.dtype.kind in "mM"
    return pd.Series(np.full(len(column), np.nan)) if other and without_value(column) else column


def _as_levels(column: pd.Series, kind: Any) -> Any:
    if not isinstance(column.dtype, pd.CategoricalDtype):
        if not without_value(column):
            raise TypeError(f"{column.dtype} and levels in one column")
        return no_levels(len(column), kind)
    categories = column.cat.categories
    return column if categories.dtype == kind else column.cat.rename_categories(categories.astype(kind))


def no_levels(n: int, kind: Any = "str") -> pd.Categorical:
    """Missing values of levels alone."""
    return pd.Categorical.from_codes(np.full(n, -1, dtype=np.int8), categories=pd.Index([], dtype=kind))


def without_value(series: pd.Series) -> bool:
    """Whether all values are missing; looks at the first before the others."""
    if isinstance(series.dtype, pd.CategoricalDtype):
        codes = np.asarray(series.cat.codes)
        return bool(codes.size == 0 or (codes[0] < 0 and (codes < 0).all()))
    return len(series) == 0 or (bool(pd.isna(series.iloc[0])) and bool(series.isna().all()))
