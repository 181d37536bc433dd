"""Data frames of Dask."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

from bayeslmm.errors import DesignError
from bayeslmm.sources.base import Stream
from bayeslmm.sources.clients import current_client
from bayeslmm.sources.native_tables import frame_of
from bayeslmm.sources.protocol import Piece


class DaskSource(Stream):
    """A Dask DataFrame; every partition is a chunk.

    Shuffled partitions have their rows in another order at every run, so that passes are compared by all rows together.

    Parameters
    ----------
    data : dask.dataframe.DataFrame

    Attributes
    ----------
    client : dask.distributed.Client or None
        Whose cluster computes what is read here; it has the partitions that were persisted.
    """

    ordered = False

    def __init__(self, data: Any) -> None:
        if getattr(data, "ndim", 2) != 2 or not hasattr(data, "partitions"):
            raise DesignError(f"data is a Dask {type(data).__name__}; a model needs a Dask DataFrame with its columns.")
        self._data = data
        self.client = current_client()
        self.name = f"Dask DataFrame ({data.npartitions} partitions)"
        self.columns = tuple(str(name) for name in data.columns)

    def chunks(self, columns: Sequence[str], first: int = 0) -> Iterator[pd.DataFrame]:
        """See `protocol.Source`."""
        scheduler = "synchronous" if self.client is None else self.client
        for partition in self._partitions(columns)[first:]:
            yield from _read(partition, tuple(columns), scheduler)

    def pieces(self, columns: Sequence[str]) -> Sequence[Piece]:
        """See `protocol.Source`."""
        return [ReadPartition(partition, tuple(columns)) for partition in self._partitions(columns)]

    def futures(self, columns: Sequence[str]) -> Sequence[Callable[[], Any]]:
        """Functions that have partitions computed on the cluster."""
        return [partial(self.client.compute, partition.data) for partition in self._partitions(columns)]

    def _partitions(self, columns: Sequence[str]) -> list[Partition]:
        names = {str(name): name for name in self._data.columns}
        chosen = self._data[[names[name] for name in columns]]
        # What is done to all partitions is worked out once, and not at each of them.
        chosen = chosen.optimize(fuse=True)
        return [Partition(chosen.partitions[number], number, self.name) for number in range(chosen.npartitions)]


@dataclass(frozen=True)
class Partition:
    """One part of a Dask DataFrame."""

    data: Any
    number: int
    source: str


@dataclass(frozen=True)
class ReadPartition:
    """A partition as a piece."""

    partition: Partition
    columns: tuple[str, ...]

    def __call__(self) -> Iterator[pd.DataFrame]:
        """Its only chunk."""
        # Who reads pieces is a worker already, and computes in its own thread.
        return _read(self.partition, self.columns, "synchronous")

    def identity(self) -> tuple[Any, ...]:
        """What Dask computes it from."""
        from dask.base import tokenize

        return tokenize(self.partition.data), self.columns


def _read(partition: Partition, columns: tuple[str, ...], scheduler: Any) -> Iterator[pd.DataFrame]:
    found = partition.data.compute(scheduler=scheduler)
    yield frame_of(found, columns, f"Partition {partition.number} of the {partition.source}")
