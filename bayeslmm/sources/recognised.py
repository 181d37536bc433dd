"""What is data to be read chunk by chunk; nothing is imported or read to find out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SUFFIXES = (".parquet", ".pq", ".feather", ".arrow", ".ipc")
_GLOB = "*?["
# Libraries and their classes; subclasses count.
_CLASSES = {
    "pyarrow": ("Dataset", "RecordBatchReader"),
    "polars": ("LazyFrame",),
    "duckdb": ("DuckDBPyRelation",),
    "_duckdb": ("DuckDBPyRelation",),
    "dask": ("DataFrame", "Series", "FrameBase"),
    "dask_expr": ("FrameBase",),
}


def is_source(data: Any) -> bool:
    """Whether data are read chunk by chunk, and no table in memory.

    Parameters
    ----------
    data : object
        Paths of parquet, Feather and Arrow files, of folders and with ``*``; Arrow datasets and readers of record
        batches, polars LazyFrames, DuckDB relations, Dask DataFrames; iterators of tables, functions that return
        such an iterator, lists of tables.

    Examples
    --------
    >>> import pandas as pd
    >>> is_source("ratings.parquet"), is_source(pd.DataFrame()), is_source([pd.DataFrame()]), is_source("sleepstudy")
    (True, False, True, False)
    """
    if isinstance(data, str | os.PathLike):
        return _is_path(data)
    if library(data):
        return True
    if isinstance(data, list | tuple):
        # Items that are none are named when they are opened.
        return any(is_table(item) for item in data)
    if isinstance(data, type) or is_table(data):
        return False
    return isinstance(data, Iterator) or _is_function(data)


def library(data: Any) -> str:
    """Which library's source something is; empty if it is none."""
    for kind in type(data).__mro__:
        root = kind.__module__.split(".")[0]
        if kind.__name__ in _CLASSES.get(root, ()):
            return {"_duckdb": "duckdb", "dask_expr": "dask"}.get(root, root)
    return ""


def is_table(value: Any) -> bool:
    """Whether something is a table in memory."""
    names = {f"{kind.__module__.split('.')[0]}.{kind.__name__}" for kind in type(value).__mro__}
    return not names.isdisjoint(
        ("pandas.DataFrame", "polars.DataFrame", "pyarrow.Table", "pyarrow.RecordBatch", "narwhals.DataFrame")
    )


def _is_path(data: str | os.PathLike[Any]) -> bool:
    text = os.fspath(data)
    if not isinstance(text, str) or not text or "~" in text.lstrip("~") or "\0" in text:
        return False
    if text.lower().endswith(SUFFIXES) or any(sign in text for sign in _GLOB):
        return True
    try:
        return Path(text).is_dir()
    except OSError:
        return False


def _is_function(data: Any) -> bool:
    """Functions, methods and partial applications of them; other objects that can be called are none."""
    return type(data).__name__ in ("function", "method", "builtin_function_or_method", "partial")
