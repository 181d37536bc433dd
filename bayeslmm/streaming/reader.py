"""Reading a source again and again, pass by pass."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import pandas as pd

from bayeslmm.design.no_data import no_rows, no_values
from bayeslmm.errors import DesignError
from bayeslmm.sources import Checked
from bayeslmm.streaming.passes import Mergeable, Plan, reduce_piece
from bayeslmm.streaming.question import Chunk, LeftOut, Question, numbered, usable


class Reader:
    """Passes over the chunks of a source, one after the other.

    Parameters
    ----------
    source : Checked
    progress : bool
        Whether there is a bar, in terminals and notebooks.
    """

    def __init__(self, source: Checked, progress: bool = True) -> None:
        self.source, self._progress = source, progress
        self._begun: tuple[list[pd.DataFrame], Iterator[pd.DataFrame]] | None = None

    def first(self, question: Question, stage: str) -> tuple[Chunk, frozenset[str]]:
        """The first chunk of which rows can be used, and which columns are text; the next pass goes on from there.

        Raises
        ------
        DesignError
            There is no such chunk.
        """
        chunks = self.source.chunks(stage, progress=self._progress)
        left_out, seen = LeftOut(), list[pd.DataFrame]()
        for frame in chunks:
            chunk = usable(numbered(frame, left_out.rows), question, left_out)
            seen.append(frame)
            if chunk.n:
                self._begun = seen, chunks
                return chunk, self.source.text
        raise nothing_to_use(left_out, question, self.source.name)

    def run[P: Mergeable](self, plan: Plan[P], stage: str) -> P:
        """Sums over all chunks."""
        begun, self._begun = self._begun, None
        if begun is not None:
            return reduce_piece(chain(*begun), plan)
        return reduce_piece(self.source.chunks(stage, progress=self._progress), plan)


def nothing_to_use(left_out: LeftOut, question: Question, name: str) -> DesignError:
    """What is wrong with data of which no row can be used."""
    if not left_out.rows:
        return DesignError(f"The {name} has no rows. Check the filter or the files it came from.")
    reasons = {reason: count for reason, count in left_out.by_reason.items() if reason}
    return no_column(left_out, question) or no_rows(reasons)


def no_column(left_out: LeftOut, question: Question) -> DesignError | None:
    """An error for a column without any value."""
    for column in question.names:
        if left_out.by_reason.get(f"missing {column}", 0) == left_out.rows:
            return no_values(column, left_out.rows)
    return None
