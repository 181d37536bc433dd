"""Data frames of Dask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

from bayeslmm.errors import DesignError
from bayeslmm.sources.base import Stream
from bayeslmm.sources.frames import frame_of
from bayeslmm.sources.protocol import Piece


class DaskSource(Stream):
    """A Dask DataFrame; every partition is a chunk.

    Shuffled partitions have their rows in another order at every run, so that passes are compared by all rows together.

    Parameters
    ----------
    data : dask.dataframe.DataFrame
    """

    ordered = False

    def __init__(self, data: Any) -> None:
        if getattr(data, "ndim", 2) != 2 or not hasattr(data, "partitions"):
            raise DesignError(f"data is a Dask {type(data).__name__}; a model needs a Dask DataFrame with its columns.")
        self._data = data
        self.name = f"Dask DataFrame ({data.npartitions} partitions)"
        self.columns = tuple(str(name) for name in data.columns)

    def chunks(self, columns: Sequence[str], first: int = 0) -> Iterator[pd.DataFrame]:
        """See `protocol.Source`."""
        for piece in self.pieces(columns)[first:]:
            yield from piece()

    def pieces(self, columns: Sequence[str]) -> Sequence[Piece]:
        """See `protocol.Source`."""
        names = {str(name): name for name in self._data.columns}
        chosen = self._data[[names[name] for name in columns]]
        # What is done to all partitions is worked out once, and not at each of them.
        chosen = chosen.optimize(fuse=True)
        parts = range(chosen.npartitions)
        return [
            partial(_read, Partition(chosen.partitions[number], number, self.name), tuple(columns)) for number in parts
        ]


@dataclass(frozen=True)
class Partition:
    """One part of a Dask DataFrame."""

    data: Any
    number: int
    source: str


def _read(partition: Partition, columns: tuple[str, ...]) -> Iterator[pd.DataFrame]:
    # In this thread, and in this process also where there is a client: who reads pieces is a worker already.
    found = partition.data.compute(scheduler="synchronous")
    yield frame_of(found, columns, f"Partition {partition.number} of the {partition.source}")
