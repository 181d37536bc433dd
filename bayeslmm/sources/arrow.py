"""Arrow datasets and readers of record batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds

from bayeslmm.sources.arrow_frames import frame_of_arrow, tables
from bayeslmm.sources.base import Stream
from bayeslmm.sources.parquet import ParquetSource, file_schema, type_of_all
from bayeslmm.sources.protocol import Source, most_rows


def open_arrow(data: Any) -> Source:
    """A dataset, or a reader that can be read once.

    Parameters
    ----------
    data : pyarrow.dataset.Dataset or pyarrow.RecordBatchReader
    """
    if not isinstance(data, ds.Dataset):
        from bayeslmm.sources.iterators import OnceSource

        return OnceSource(iter(data), "Arrow reader of record batches")
    files = getattr(data, "files", None)
    if isinstance(data, ds.FileSystemDataset) and files and isinstance(data.format, ds.ParquetFileFormat):
        try:
            fragments = list(data.get_fragments())
        except ValueError:
            # With a filter.
            fragments = []
        if fragments:
            return ParquetSource(fragments, data.schema, f"Arrow dataset ({len(files)} parquet files)")
    return ArrowSource(data, f"Arrow dataset ({len(files)} files)" if files else "Arrow dataset")


class ArrowSource(Stream):
    """A dataset that is read as one stream.

    Parameters
    ----------
    dataset : pyarrow.dataset.Dataset
    name : str

    Notes
    -----
    Files of Feather and Arrow are read as one type, which holds the column of each of them.
    """

    def __init__(self, dataset: Any, name: str) -> None:
        self._dataset = dataset
        self._fragments: list[Any] = []
        if isinstance(dataset, ds.FileSystemDataset) and isinstance(dataset.format, ds.IpcFileFormat):
            # There are none with a filter.
            with suppress(ValueError):
                self._fragments = list(dataset.get_fragments())
        self._files = [file_schema(fragment) for fragment in self._fragments]
        self.name = name
        self.columns = tuple(dataset.schema.names)

    def chunks(self, columns: Sequence[str], first: int = 0) -> Iterator[pd.DataFrame]:
        """See `protocol.Source`."""
        most = most_rows(columns)
        for number, table in enumerate(tables(self._batches(columns, most), most)):
            if number >= first:
                yield frame_of_arrow(table, columns)

    def _batches(self, columns: Sequence[str], most: int) -> Iterator[Any]:
        options: dict[str, Any] = {"columns": list(columns), "batch_size": most, "use_threads": False}
        if not self._fragments:
            yield from self._dataset.scanner(**options).to_batches()
            return
        known = self._dataset.schema
        schema = pa.schema([(name, type_of_all(name, self._files, known, self.name)) for name in columns])
        for fragment in self._fragments:
            yield from fragment.scanner(schema=schema, **options).to_batches()
