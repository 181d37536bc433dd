"""Reading a source again and again, pass by pass."""

from __future__ import annotations

from collections.abc import Generator
from itertools import chain

import pandas as pd

from bayeslmm.design.no_data import no_rows, no_values
from bayeslmm.errors import DesignError
from bayeslmm.sources import Checked
from bayeslmm.sources.piecewise import SourcePieces, pieces_of
from bayeslmm.streaming.crew import Crew
from bayeslmm.streaming.passes import Mergeable, PassPlan, reduce_piece
from bayeslmm.streaming.question import Question, RowsLeftOut, UsableRows, numbered, usable


class PassReader:
    """Passes over the chunks of a source, one after the other.

    Parameters
    ----------
    source : Checked
    progress : bool
        Whether there is a bar, in terminals and notebooks.
    crew : Crew, optional
        Who sums pieces of the source, in place of one stream of chunks.
    """

    def __init__(self, source: Checked, progress: bool = True, crew: Crew | None = None) -> None:
        self.source, self._progress = source, progress
        self._crew = None if crew is None or crew.alone else crew
        self._pieces = None if self._crew is None else _pieces(source)
        self._begun: tuple[list[pd.DataFrame], Generator[pd.DataFrame]] | None = None

    def first(self, question: Question, stage: str) -> tuple[UsableRows, frozenset[str]]:
        """The first chunk of which rows can be used, and which columns are text; the next pass goes on from there.

        Raises
        ------
        DesignError
            There is no such chunk.
        """
        chunks = self.source.chunks(stage, progress=self._progress)
        left_out, seen = RowsLeftOut(), list[pd.DataFrame]()
        for frame in chunks:
            chunk = usable(numbered(frame, left_out.rows), question, left_out)
            seen.append(frame)
            if chunk.n:
                self._begun = seen, chunks
                return chunk, self.source.text
        raise nothing_to_use(left_out, question, self.source.name)

    def run[P: Mergeable](self, plan: PassPlan[P], stage: str) -> P:
        """Sums over all chunks."""
        begun, self._begun = self._begun, None
        if self._crew is not None and self._pieces is not None:
            if begun is not None:
                begun[1].close()
            found: P = self._crew.run(self.source, self._pieces, plan, stage, self._progress)
            return found
        if begun is not None:
            return reduce_piece(chain(*begun), plan)
        return reduce_piece(self.source.chunks(stage, progress=self._progress), plan)


def _pieces(source: Checked) -> SourcePieces:
    found = pieces_of(source)
    if found is None:
        raise DesignError(
            f"The {source.name} is one stream of rows, of which n_jobs=, client= and checkpoint= cannot have parts. "
            "Leave them out, or write the rows to parquet files and give their folder: row groups are read by "
            "themselves."
        )
    return found


def nothing_to_use(left_out: RowsLeftOut, question: Question, name: str) -> DesignError:
    """What is wrong with data of which no row can be used."""
    if not left_out.rows:
        return DesignError(f"The {name} has no rows. Check the filter or the files it came from.")
    reasons = {reason: count for reason, count in left_out.by_reason.items() if reason}
    return no_column(left_out, question) or no_rows(reasons)


def no_column(left_out: RowsLeftOut, question: Question) -> DesignError | None:
    """An error for a column without any value."""
    for column in question.names:
        if left_out.by_reason.get(f"missing {column}", 0) == left_out.rows:
            return no_values(column, left_out.rows)
    return None
