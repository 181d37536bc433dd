"""Queries of DuckDB."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from bayeslmm.sources.arrow_frames import frame_of_arrow, tables
from bayeslmm.sources.base import Stream
from bayeslmm.sources.grouped import check_cells, of_duckdb, quoted
from bayeslmm.sources.protocol import most_rows


class DuckDBSource(Stream):
    """A relation, run at every pass.

    DuckDB promises no order of rows for joins and groups, so that passes are compared by all rows together.

    Parameters
    ----------
    relation : duckdb.DuckDBPyRelation
    """

    ordered = False

    def __init__(self, relation: Any) -> None:
        self._relation = relation
        self.name = "DuckDB relation"
        self.columns = tuple(relation.columns)

    def chunks(self, columns: Sequence[str], first: int = 0) -> Iterator[pd.DataFrame]:
        """See `protocol.Source`; from the first chunk on always."""
        most = most_rows(columns)
        chosen = self._relation.project(", ".join(map(quoted, columns)))
        # Of versions before 1.4.
        reader = chosen.to_arrow_reader(most) if hasattr(chosen, "to_arrow_reader") else chosen.fetch_record_batch(most)
        try:
            for table in tables(reader, most):
                yield frame_of_arrow(table, columns)
        finally:
            reader.close()

    def group_by(self, keys: Sequence[str], value: str, shift: float | None = None) -> pd.DataFrame:
        """See `protocol.Source`; DuckDB runs it."""
        check_cells(keys, value)
        table = of_duckdb(self._relation, keys, value, shift)
        return frame_of_arrow(table, table.column_names)
