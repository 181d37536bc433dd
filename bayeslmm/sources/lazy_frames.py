"""Queries of polars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from bayeslmm.sources.arrow_frames import frame_of_arrow, tables
from bayeslmm.sources.protocol import Piece, most_rows


class PolarsSource:
    """A LazyFrame, run at every pass by the streaming engine.

    Joins and groups have rows in another order at every run, so that passes are compared by all rows together.

    Parameters
    ----------
    query : polars.LazyFrame
    """

    ordered = False
    threads = True
    n: int | None = None

    def __init__(self, query: Any) -> None:
        self._query = query
        self.name = "polars LazyFrame"
        self.columns = tuple(query.collect_schema().names())

    def chunks(self, columns: Sequence[str], first: int = 0) -> Iterator[pd.DataFrame]:
        """See `protocol.Source`; from the first chunk on always."""
        most = most_rows(columns)
        for table in tables(self._batches(list(columns), most), most):
            yield frame_of_arrow(table, columns)

    def pieces(self, columns: Sequence[str]) -> Sequence[Piece] | None:
        """See `protocol.Source`."""
        return None

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
