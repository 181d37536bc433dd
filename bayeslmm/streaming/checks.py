"""What is refused once all rows have been looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bayeslmm.design.data import check_text
from bayeslmm.design.dropped import DroppedRows
from bayeslmm.design.formula import Formula
from bayeslmm.design.lazy import Deferred, LabelsByReason
from bayeslmm.design.magnitude import check_magnitudes
from bayeslmm.design.no_data import constant_response
from bayeslmm.design.padding import refuse_missing
from bayeslmm.errors import DesignError, RowsNeededError
from bayeslmm.streaming.level_sets import LevelTable
from bayeslmm.streaming.moments import ColumnMoments
from bayeslmm.streaming.question import Question, RowsLeftOut
from bayeslmm.streaming.reader import no_column
from bayeslmm.streaming.survey import Survey, WeightFacts
from bayeslmm.types import IntArray


def check_survey(survey: Survey, question: Question, na_action: str) -> None:
    """Refuse a column without values, missing values where these are not allowed, and weights that dwarf others.

    Raises
    ------
    DesignError
    """
    empty = no_column(survey.left_out, question)
    if empty is not None:
        raise empty
    if na_action == "fail":
        refuse_missing(dropped_rows(survey.left_out))
    if survey.weights is not None:
        _check_weights(survey.weights)


def _check_weights(weights: WeightFacts) -> None:
    if not weights.surely_ordinary:
        raise DesignError(
            f"The weights go from {weights.low:.3g} to {weights.high:.3g}: some rows outweigh the others so much that "
            "they have to be taken one by one, and the rows of these data are read in chunks. Cut the largest weights "
            "(a weight of 1e4 times the typical one is as good as infinite), leave such rows out, or read the rows "
            "into a data frame."
        )
    if not weights.low > 1e-120 or not weights.high < 1e120:
        raise DesignError(
            f"The weights go from {weights.low:g} to {weights.high:g}: sums of their squares leave the range of "
            "floating point numbers. Only ratios of weights matter for all but sigma: divide all by a typical one."
        )


def check_levels(tables: Sequence[LevelTable]) -> None:
    """Refuse levels that are no text.

    Raises
    ------
    DesignError
    """
    check_text({table.name: pd.Series(table.levels) for table in tables if table.levels.dtype.kind not in "iuf"})


def check_measures(
    formula: Formula, names: Sequence[str], effects: Sequence[Sequence[str]], moments: ColumnMoments
) -> None:
    """Refuse a constant response and columns whose squares are no numbers.

    Raises
    ------
    DesignError
    """
    triangle, p = moments.triangle, len(names)
    ends = np.stack([triangle.low, triangle.high])
    check_magnitudes("The response", (formula.response,), moments.response[3:, None])
    if ends[0, -1] == ends[1, -1] and triangle.n > 1:
        raise constant_response(formula.response, triangle.n, float(ends[0, -1]))
    if formula.offsets:
        # Of the sum of the offsets no extremes are kept: the response less it has to have squares, too.
        check_magnitudes("The response less", ("the offsets",), ends[:, -1:])
    check_magnitudes("The fixed-effects column", names, ends[:, :p])
    at = p
    for bar, own in zip(formula.bars, effects, strict=True):
        labels = [f"{name} of {bar.label}" for name in own]
        check_magnitudes("The column", labels, ends[:, at : at + len(own)])
        at += len(own)


@dataclass(frozen=True, eq=False)
class FirstLabels(Deferred[tuple[object, ...]]):
    """Numbers of rows, of which only the first are known if there are many.

    Attributes
    ----------
    known : IntArray
    count : int
        All of them.
    """

    known: IntArray
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, rows: slice) -> tuple[object, ...]:
        return tuple(self.known[rows].tolist())

    def resolve(self) -> tuple[object, ...]:
        if self.known.size < self.count:
            raise RowsNeededError(
                f"{self.count:,} rows were left out, of which the first {self.known.size:,} are known by number: rows "
                "that are read in chunks are counted, not listed. str(model.dropped) has the counts."
            )
        return tuple(self.known.tolist())


def dropped_rows(left_out: RowsLeftOut) -> DroppedRows:
    """The record of rows that cannot be used; they are numbered from 0 in the order in which they are read."""
    if not left_out.count:
        return DroppedRows()
    labels = {reason: FirstLabels(left_out.labels[reason], n) for reason, n in left_out.by_reason.items()}
    every = labels.pop("")
    return DroppedRows(every, LabelsByReason(labels))  # type: ignore[arg-type]
