"""Queries of polars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from bayeslmm.sources.arrow_frames import frame_of_arrow, tables
from bayeslmm.sources.base import Stream
from bayeslmm.sources.grouped import check_cells, of_polars
from bayeslmm.sources.protocol import most_rows


class PolarsSource(Stream):
    """A LazyFrame, run at every pass by the streaming engine.

    Joins and groups have rows in another order at every run, so that passes are compared by all rows together.

    Parameters
    ----------
    query : polars.LazyFrame
    """

    ordered = False

    def __init__(self, query: Any) -> None:
        self._query = query
        self.name = "polars LazyFrame"
        self.columns = tuple(query.collect_schema().names())

    def chunks(self, columns: Sequence[str], first: int = 0) -> Iterator[pd.DataFrame]:
        """See `protocol.Source`; from the first chunk on always."""
        most = most_rows(columns)
        for table in tables(self._batches(list(columns), most), most):
            yield frame_of_arrow(table, columns)

    def group_by(self, keys: Sequence[str], value: str, shift: float | None = None) -> pd.DataFrame:
        """See `protocol.Source`; polars runs it."""
        check_cells(keys, value)
        table = of_polars(self._query, keys, value, shift)
        return frame_of_arrow(table, table.column_names)

    def _batches(self, columns: list[str], most: int) -> Iterator[Any]:
        query = self._query.select(columns)
        if hasattr(query, "collect_batches"):
            found = query.collect_batches(chunk_size=most)
            try:
                for frame in found:
                    yield from frame.to_arrow().to_batches()
            finally:
                # Else the query would be run to its end, in the background.
                if callable(getattr(found, "stop", None)):
                    found.stop()
            return
        # Versions before 1.34 give no batches.
        yield from query.collect(engine="streaming").to_arrow().to_batches(max_chunksize=most)
