"""One face for every kind of source."""

from __future__ import annotations

import os
from typing import Any

from bayeslmm.arguments import kind_of
from bayeslmm.errors import DesignError
from bayeslmm.sources.protocol import Source
from bayeslmm.sources.recognised import is_source, library


def open_source(data: Any) -> Source:
    """What `is_source` says is read chunk by chunk.

    Parameters
    ----------
    data : object

    Raises
    ------
    DesignError
        No file there, a library that is not installed, nothing that can be read.

    Examples
    --------
    >>> import pandas as pd
    >>> source = open_source([pd.DataFrame({"y": [1.0]}), pd.DataFrame({"y": [2.0, 3.0]})])
    >>> [len(chunk) for chunk in source.chunks(["y"])]
    [1, 2]
    """
    if not is_source(data):
        raise DesignError(f"data is {kind_of(data)}, which is no source of rows.")
    source: Source
    if isinstance(data, str | os.PathLike):
        needed("pyarrow", f"read {os.fspath(data)!r}")
        from bayeslmm.sources.paths import open_path

        return open_path(os.fspath(data))
    match library(data):
        case "pyarrow":
            from bayeslmm.sources.arrow import open_arrow

            source = open_arrow(data)
        case "polars":
            needed("pyarrow", "read a polars LazyFrame chunk by chunk")
            from bayeslmm.sources.lazy_frames import PolarsSource

            source = PolarsSource(data)
        case "duckdb":
            needed("pyarrow", "read a DuckDB relation chunk by chunk")
            from bayeslmm.sources.relations import DuckDBSource

            source = DuckDBSource(data)
        case "dask":
            from bayeslmm.sources.partitions import DaskSource

            source = DaskSource(data)
        case _:
            from bayeslmm.sources.iterators import open_iterator

            source = open_iterator(data)
    return source


def needed(library: str, purpose: str) -> None:
    """Refuse to go on without a library.

    Raises
    ------
    DesignError
    """
    from importlib.util import find_spec

    if find_spec(library) is None:
        raise DesignError(f"To {purpose}, {library} is needed. Install it: pip install bayeslmm[scale].")
