"""What a model asks of every chunk of rows, and the rows of a chunk that can be used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.arguments import mapping
from bayeslmm.design import data as checks
from bayeslmm.design.formula import Formula
from bayeslmm.design.frequency import row_by_row
from bayeslmm.design.per_row import PerRowArguments
from bayeslmm.errors import DesignError
from bayeslmm.types import BoolArray, FloatArray, IntArray

# Labels of rows left out that are kept, for each reason.
_MOST_LABELS = 10_000


@dataclass(frozen=True)
class Question:
    """A formula and what goes with it: all that is needed to look at a chunk.

    Attributes
    ----------
    formula : Formula
    names : tuple of str
        Columns that the formula uses.
    per_row : PerRowArguments
    namespace : dict
    contrasts : dict
    """

    formula: Formula
    names: tuple[str, ...]
    per_row: PerRowArguments
    namespace: Mapping[str, Any] = field(default_factory=dict)
    contrasts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the source that are read."""
        return tuple(dict.fromkeys([*self.names, *self.per_row.columns]))


def ask(
    formula: Formula, names: Sequence[str], per_row: PerRowArguments, namespace: Mapping[str, Any], contrasts: Any
) -> Question:
    """The question of a model, where it can be answered chunk by chunk.

    Raises
    ------
    DesignError
        Arguments that are arrays, or expressions that look at all rows.
    """
    for what in ("weights", "residual_sd", "frequency"):
        given = getattr(per_row, what)
        if given is None:
            continue
        if not isinstance(given, str):
            raise DesignError(
                f"{what} is an array, but the rows of the data are read in chunks, to which its numbers do not belong. "
                f"Make it a column of the data and name that: {what}='name'."
            )
        text = f"`{given}`" if given in per_row.names[what] else given
        if not row_by_row(text, namespace):
            raise DesignError(
                f"{what}={given!r} looks at all rows at once (a mean, a sum, a function of your own), while the rows "
                "are read in chunks. Compute it beforehand, as a column of the data."
            )
    found = {} if contrasts is None else dict(mapping("contrasts", contrasts, "a mapping", DesignError))
    return Question(formula, tuple(names), per_row, namespace, found)


@dataclass
class RowsLeftOut:
    """Rows that cannot be used, counted by reason, and the first of their labels.

    Attributes
    ----------
    rows : int
        All rows looked at.
    count : int
        Rows left out.
    by_reason : dict of str to int
    labels : dict of str to list of IntArray
        Positions among all rows, by reason; under the empty text those of all reasons.
    """

    rows: int = 0
    count: int = 0
    by_reason: dict[str, int] = field(default_factory=dict)
    labels: dict[str, IntArray] = field(default_factory=dict)

    def add(self, rows: int, masks: Mapping[str, BoolArray], keep: BoolArray | None) -> None:
        """Count a chunk."""
        if keep is not None:
            self.count += int(keep.size - np.count_nonzero(keep))
            for reason, mask in [("", ~keep), *masks.items()]:
                self.by_reason[reason] = self.by_reason.get(reason, 0) + int(np.count_nonzero(mask))
                self._put(reason, np.flatnonzero(mask) + self.rows)
        self.rows += rows

    def merge(self, other: RowsLeftOut) -> RowsLeftOut:
        """Both, the other's rows after these."""
        own = RowsLeftOut(self.rows, self.count + other.count, dict(self.by_reason), dict(self.labels))
        for reason, n in other.by_reason.items():
            own.by_reason[reason] = own.by_reason.get(reason, 0) + n
            own._put(reason, other.labels[reason] + self.rows)
        own.rows += other.rows
        return own

    def _put(self, reason: str, labels: IntArray) -> None:
        before = self.labels.get(reason, np.empty(0, dtype=np.int64))
        self.labels[reason] = np.concatenate([before, labels[: max(_MOST_LABELS - before.size, 0)]])


@dataclass(frozen=True)
class UsableRows:
    """The rows of a chunk that can be used.

    Attributes
    ----------
    columns : dict of str to pandas.Series
    n : int
    weights : FloatArray or None, shape (n,)
        Precision weights, or those that follow from known standard deviations.
    sd : FloatArray or None, shape (n,)
        Known residual standard deviations.
    frequency : IntArray or None, shape (n,)
    places : IntArray or slice
        Positions of the rows among those of the chunk.
    """

    columns: dict[str, pd.Series]
    n: int
    weights: FloatArray | None
    sd: FloatArray | None
    frequency: IntArray | None
    places: IntArray | slice

    @property
    def observations(self) -> int:
        """What the rows stand for."""
        return self.n if self.frequency is None else int(self.frequency.sum())

    @property
    def row_weights(self) -> FloatArray | None:
        """Frequency times precision weight (n,); None if 1 for all."""
        if self.frequency is None:
            return self.weights
        counts = self.frequency.astype(float)
        return counts if self.weights is None else counts * self.weights


def usable(frame: pd.DataFrame, question: Question, left_out: RowsLeftOut | None = None) -> UsableRows:
    """Rows of a chunk without missing values, weights of zero and frequencies of zero; the others are counted.

    Raises
    ------
    DesignError
        Values that no model can use.
    """
    try:
        per_row = question.per_row.on(frame, question.namespace)
    except DesignError as error:
        raise DesignError(f"{error} (In this chunk of {len(frame):,} rows: others may have more.)") from None
    columns = {name: frame[name] for name in question.names}
    masks: dict[str, BoolArray] = {}
    for name, series in columns.items():
        missing = checks.missing_values(series)
        if missing is not None:
            masks[f"missing {name}"] = missing
    for name, vector in per_row.given.items():
        if np.isnan(vector).any():
            masks[f"missing {name}"] = np.isnan(vector)
        if (vector == 0).any():
            masks[f"{name.removesuffix('s')} 0"] = vector == 0
    keep = None if not masks else ~np.logical_or.reduce(list(masks.values()))
    if left_out is not None:
        left_out.add(len(frame), masks, keep)
    chosen: Any = slice(None) if keep is None else np.flatnonzero(keep)
    if keep is not None:
        columns = {name: series.iloc[chosen] for name, series in columns.items()}
    checks.check_finite_columns(columns)
    sd = None if per_row.residual_sd is None else per_row.residual_sd[chosen]
    weights = None if per_row.weights is None else per_row.weights[chosen]
    counts = None if per_row.frequency is None else per_row.frequency[chosen].astype(np.int64)
    n = len(frame) if keep is None else int(chosen.size)
    return UsableRows(columns, n, 1.0 / sd**2 if sd is not None else weights, sd, counts, chosen)


def numbered(frame: pd.DataFrame, start: int) -> pd.DataFrame:
    """The chunk with its rows numbered among those of the data."""
    # pandas copies attrs along with every column.
    frame.attrs = {}
    frame.index = pd.RangeIndex(start, start + len(frame))
    return frame
