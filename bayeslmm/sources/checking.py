"""A source that is read several times, and says the same each time."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pandas as pd

from bayeslmm.errors import BayesLMMError, DesignError
from bayeslmm.sources.ahead import ahead
from bayeslmm.sources.checksum import added, checksum, checksum_of_order
from bayeslmm.sources.frames import cut, joined, text_columns
from bayeslmm.sources.progress import RowsBar
from bayeslmm.sources.protocol import Source, most_rows
from bayeslmm.sources.schema import Conforming


@dataclass(frozen=True)
class ChunkRecord:
    """Rows and checksum of a chunk."""

    rows: int
    checksum: int


class Checked:
    """Reads chosen columns of a source, as often as wanted.

    Parameters
    ----------
    source : Source
    columns : sequence of str
    most : int, optional
        Rows of a chunk at most; chunks of fewer than a quarter are joined.

    Attributes
    ----------
    text : frozenset of str
        Columns that were text in some chunk that was read: their levels have no order of their own.
    passes : int
        How often all rows were read.
    most : int
    conforming : Conforming
        What is known of kinds and levels.
    """

    def __init__(self, source: Source, columns: Sequence[str], most: int | None = None) -> None:
        self.source = source
        self.columns = tuple(columns)
        self.text: frozenset[str] = frozenset()
        self.passes = 0
        # Of a pass that others read, piece by piece.
        self._rows: int | None = None
        self._order: int | None = None
        self.most = most_rows(columns) if most is None else most
        self.conforming = Conforming(source.name)
        self._known: list[ChunkRecord] = []

    @property
    def name(self) -> str:
        """Of the source, for messages."""
        return self.source.name

    @property
    def n(self) -> int | None:
        """Rows, if known: by the source, or after a pass."""
        return sum(chunk.rows for chunk in self._known) if self.passes else self._rows or self.source.n

    def took(self, conforming: Conforming, rows: int) -> None:
        """Remember what others have seen in a pass over all rows."""
        self.conforming, self._rows = conforming, rows

    def chunks(
        self, stage: str = "Reading rows", first: int = 0, progress: bool = True, *, aligned: bool = False
    ) -> Generator[pd.DataFrame]:
        """Frames with the columns, of bounded size.

        Parameters
        ----------
        stage : str
            For the progress bar, shown in a terminal or notebook after a second.
        first : int
            Number of the chunk to begin with; of sources in which rows have an order.
        progress : bool
        aligned : bool
            Whether rows have to be in the order of the other passes for which this was asked: what is read of them in
            one is laid beside what was read in another.

        Raises
        ------
        DesignError
            Chunks that do not go together, or another pass that has other rows than the first.
        """
        if first and not self.source.ordered:
            raise DesignError(f"The {self.name} has rows in no fixed order, so that a pass cannot go on in its midst.")
        plain = self._summed(first)
        reading = ahead(plain) if self.source.threads else plain
        found: list[ChunkRecord] = []
        rows, order = 0, 0
        with RowsBar(stage, self.n if progress and not first else None, progress) as bar:
            try:
                for frame, chunk in reading:
                    self._compare(chunk, first + len(found))
                    found.append(chunk)
                    self.text |= text_columns(frame)
                    if aligned and not self.source.ordered:
                        order = added(order, checksum_of_order(frame, self.columns, rows))
                    rows += chunk.rows
                    yield frame
                    bar.advance(chunk.rows)
            finally:
                reading.close()  # type: ignore[attr-defined]
        self._finish(found, first)
        if aligned and not self.source.ordered:
            self._check_order(order)

    def _summed(self, first: int) -> Iterator[tuple[pd.DataFrame, ChunkRecord]]:
        """Chunks with what is remembered of them; all of it is done while others compute."""
        for frame in islice(self._sized(), first, None):
            yield frame, ChunkRecord(len(frame), checksum(frame, self.columns, self.source.ordered))

    def _sized(self) -> Iterator[pd.DataFrame]:
        items: Any = self.source.chunks(self.columns)
        try:
            yield from sized(self._read(items), self.conforming, self.most, "chunk")
        finally:
            items.close()

    def _read(self, items: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        """What libraries cannot read, in words; what users' own code raises is theirs."""
        done = 0
        try:
            for item in items:
                yield item
                done += 1
        except (BayesLMMError, MemoryError):
            raise
        except Exception as error:
            if not self.source.threads:
                raise
            raise DesignError(
                f"The {self.name} cannot be read beyond chunk {done} ({type(error).__name__}: "
                f"{str(error).strip().partition(chr(10))[0]}). Is the file complete and the disk there, and does the "
                "query run by itself?"
            ) from error

    def _compare(self, chunk: ChunkRecord, number: int) -> None:
        """A chunk with that of the first pass, where chunks end at the same rows in each."""
        if not self.passes or not self.source.ordered:
            return
        before = self._known[number] if number < len(self._known) else ChunkRecord(0, 0)
        if before == chunk:
            return
        what = (
            f"{chunk.rows:,} rows now and {before.rows:,} when it was first read"
            if chunk.rows != before.rows
            else f"{chunk.rows:,} rows as before, but other values"
        )
        raise self.differing(f"its chunk {number} has {what}")

    def _finish(self, found: list[ChunkRecord], first: int) -> None:
        rows = sum(chunk.rows for chunk in found)
        if not self.passes:
            if not rows and not first:
                raise DesignError(f"The {self.name} has no rows. Check the filter or the files it came from.")
            if not first:
                if self._rows is not None and rows != self._rows:
                    raise self.differing(f"it has {rows:,} rows now and had {self._rows:,} when it was first read")
                self._known = found
                self.passes = 1
            return
        before = self.n or 0
        if self.source.ordered:
            if first + len(found) < len(self._known):
                left = before - rows - sum(chunk.rows for chunk in self._known[:first])
                raise self.differing(f"the last {left:,} of its {before:,} rows are gone")
        elif rows != before:
            raise self.differing(f"it has {rows:,} rows now and had {before:,} when it was first read")
        elif _total(found) != _total(self._known):
            raise self.differing(f"it has {rows:,} rows as before, but other values")
        self.passes += 1

    def _check_order(self, order: int) -> None:
        before = self._order
        self._order = order
        if before is not None and before != order:
            raise DesignError(
                f"The {self.name} gave its rows in another order than when they were read for other results by row, so "
                "that the two do not belong to the same rows. Sort the query, or write it to a parquet file and give "
                "its path."
            )

    def differing(self, what: str) -> DesignError:
        """The message for a pass that has other rows than one before."""
        return DesignError(
            f"The {self.name} changed between two passes: {what}. Levels, means and sums have to be of the same rows. "
            "Is it written to at the same time, or drawn at random without a seed? Give a copy that rests, such as a "
            "parquet file."
        )


def sized(
    items: Iterator[pd.DataFrame], conforming: Conforming, most: int, what: str, place: str = ""
) -> Iterator[pd.DataFrame]:
    """Chunks that go together, of at most so many rows and, where there are enough, of at least a quarter of it.

    Parameters
    ----------
    items : iterator of pandas.DataFrame
    conforming : Conforming
    most : int
    what, place : str
        What items are called in messages, before and after their number.
    """
    waiting: list[pd.DataFrame] = []
    rows = 0
    # One chunk or more per item: never joined.
    least = 1 if most == 1 else most // 4
    for number, item in enumerate(items):
        frame = conforming.conform(item, f"{what} {number}{place}")
        if rows and (rows >= least or rows + len(frame) > most):
            yield joined(waiting)
            waiting, rows = [], 0
        if len(frame) > most:
            yield from cut(frame, most)
        elif len(frame):
            waiting.append(frame)
            rows += len(frame)
    if rows:
        yield joined(waiting)


def checked(source: Source, columns: Sequence[str], most: int | None = None) -> Checked:
    """A source that is checked as it is read.

    Parameters
    ----------
    source : Source
    columns : sequence of str
        Those to be read.
    most : int, optional
        Rows of a chunk at most; by default about a million, fewer of many columns.

    Examples
    --------
    >>> from bayeslmm.sources import open_source
    >>> data = checked(open_source([pd.DataFrame({"y": [1.0], "g": "a"}), pd.DataFrame({"y": [2.0], "g": "b"})]), ["g"])
    >>> [chunk["g"].tolist() for chunk in data.chunks()], data.n, sorted(data.text)
    ([['a', 'b']], 2, ['g'])
    """
    return Checked(source, columns, most)


def _total(chunks: Sequence[ChunkRecord]) -> int:
    total = 0
    for chunk in chunks:
        total = added(total, chunk.checksum)
    return total
