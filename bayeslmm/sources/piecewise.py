"""A source in pieces that others read: the same checks as for one that is read as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from bayeslmm.errors import DesignError
from bayeslmm.sources.checking import Checked, sized
from bayeslmm.sources.checksum import added, checksum
from bayeslmm.sources.frames import text_columns
from bayeslmm.sources.protocol import Piece
from bayeslmm.sources.schema import Conforming, Seen


@dataclass
class Record:
    """What was seen of a piece.

    Attributes
    ----------
    rows, checksum : int
    seen : dict of str to Seen
    levels : dict of str to pandas.Index
    ordered : dict of str to str
        See `Conforming`.
    text : frozenset of str
    """

    rows: int = 0
    checksum: int = 0
    seen: dict[str, Seen] = field(default_factory=dict)
    levels: dict[str, pd.Index] = field(default_factory=dict)
    ordered: dict[str, str] = field(default_factory=dict)
    text: frozenset[str] = frozenset()


@dataclass(frozen=True)
class PieceTask:
    """A piece to be read, here or in another process.

    Attributes
    ----------
    number : int
    piece : callable
    source : str
        Its name, for messages.
    columns : tuple of str
    most : int
        Rows of a chunk at most.
    in_order : bool
        Whether rows come in the same order each time.
    known : Conforming
        What chunks of before have shown.
    """

    number: int
    piece: Piece
    source: str
    columns: tuple[str, ...]
    most: int
    in_order: bool
    known: Conforming

    def chunks(self, record: Record) -> Iterator[pd.DataFrame]:
        """Its chunks; `record` is filled as they come.

        Raises
        ------
        DesignError
            Chunks that do not go together.
        """
        known = self.known
        conforming = replace(known, seen=dict(known.seen), levels=dict(known.levels), ordered=dict(known.ordered))
        for frame in sized(self.piece(), conforming, self.most, "chunk", f" of piece {self.number}"):
            one = checksum(frame, self.columns, self.in_order)
            # In order, the sum of one chunk moves those of the following ones.
            record.checksum = added(record.checksum * (3 if self.in_order else 1), one)
            record.rows += len(frame)
            record.text |= text_columns(frame)
            yield frame
        record.seen, record.levels, record.ordered = conforming.seen, conforming.levels, conforming.ordered


class SourcePieces:
    """The pieces of a source, pass by pass.

    Parameters
    ----------
    source : Checked
    pieces : sequence of callable
    """

    def __init__(self, source: Checked, pieces: Sequence[Piece]) -> None:
        self._source, self._pieces = source, list(pieces)
        self._known: list[Record] = []

    def __len__(self) -> int:
        return len(self._pieces)

    def tasks(self) -> list[PieceTask]:
        """What is to be read in a pass."""
        source = self._source
        return [
            PieceTask(number, piece, source.name, source.columns, source.most, source.source.ordered, source.conforming)
            for number, piece in enumerate(self._pieces)
        ]

    def finish(self, records: Mapping[int, Record]) -> None:
        """Compare a pass with the first.

        Raises
        ------
        DesignError
            SourcePieces that do not go together; another pass that has other rows than the first.
        """
        found = [records[number] for number in range(len(self._pieces))]
        if self._known:
            self._compare(found)
            return
        joint = replace(self._source.conforming, seen={}, levels={}, ordered={})
        for record in found:
            joint.join(Conforming(self._source.name, record.seen, record.levels, record.ordered))
        if not sum(record.rows for record in found):
            raise DesignError(f"The {self._source.name} has no rows. Check the filter or the files it came from.")
        self._source.took(joint, sum(record.rows for record in found))
        self._source.text = self._source.text.union(*(record.text for record in found))
        self._known = found

    def _compare(self, found: Sequence[Record]) -> None:
        for number, (before, now) in enumerate(zip(self._known, found, strict=True)):
            if before.rows != now.rows:
                raise self._source.differing(
                    f"its piece {number} has {now.rows:,} rows now and {before.rows:,} when it was first read"
                )
            if before.checksum != now.checksum:
                raise self._source.differing(f"its piece {number} has {now.rows:,} rows as before, but other values")


def pieces_of(source: Checked) -> SourcePieces | None:
    """The pieces of a source; None where it is one stream."""
    found = source.source.pieces(source.columns)
    return None if found is None else SourcePieces(source, found)
