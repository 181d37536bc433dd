"""Which rows are left out together: rows, levels of a factor or groups given row by row, under the user's labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.arguments import shown
from bayeslmm.design.design import Design
from bayeslmm.design.grouping import rows_of_groups
from bayeslmm.design.observations import need_observations
from bayeslmm.design.padding import rows_of_design
from bayeslmm.design.residual_groups import all_groupings
from bayeslmm.errors import DesignError
from bayeslmm.types import BoolArray, FloatArray, IntArray

# Rows of any data set here.
_LONGEST = 100_000_000


@dataclass(frozen=True)
class DeletionCases:
    """Cases that are left out in turn.

    Attributes
    ----------
    by : str
        ``"row"``, the name of a grouping factor, or ``"group"``.
    labels : pandas.Index
        One for each of G cases.
    codes : IntArray, shape (n,)
        Case of each row, 0 .. G - 1; -1 for rows that are never left out.
    counts : FloatArray, shape (n,)
        Observations that each row stands for.
    """

    by: str
    labels: pd.Index
    codes: IntArray
    counts: FloatArray

    @property
    def observations(self) -> FloatArray:
        """Observations (G,) of every case."""
        own = self.codes >= 0
        return np.bincount(self.codes[own], self.counts[own], minlength=len(self.labels))

    def rows(self, which: IntArray) -> list[IntArray]:
        """Positions of the rows of some cases."""
        rows = rows_of_groups(self.codes, len(self.labels))
        return [rows[k] for k in which]

    def leave_too_little(self, design: Design) -> BoolArray:
        """Cases (G,) after which hardly any row, one level of a factor of several or a constant response stays."""
        out = self.counts.sum() - self.observations <= design.p + 1
        for grouping in design.groupings.values():
            out = out | self._leave_one_of(grouping.codes, grouping.n_levels)
        values, codes = np.unique(design.y_less_offset, return_inverse=True)
        # A constant rest needs a case that takes all values but one with it.
        if values.size <= np.bincount(self.codes[self.codes >= 0], minlength=1).max() + 1:
            out = out | self._leave_one_of(codes, values.size)
        return np.asarray(out)

    def _leave_one_of(self, codes: IntArray, n_levels: int) -> BoolArray:
        """Cases (G,) after which fewer than two of several levels are left."""
        pairs = np.unique(np.column_stack([codes, self.codes]), axis=0)
        cases_of_level = np.bincount(pairs[:, 0], minlength=n_levels)
        gone = pairs[(cases_of_level[pairs[:, 0]] == 1) & (pairs[:, 1] >= 0), 1]
        return np.asarray(n_levels - np.bincount(gone, minlength=len(self.labels)) < min(2, n_levels))


def deletion_cases(design: Design, by: Any, cases: Sequence[Any] | None = None) -> DeletionCases:
    """Cases from what a user asks for.

    Parameters
    ----------
    design : Design
    by : str, sequence of shape (n,) or None
        A grouping factor, or that within whose levels residuals are correlated; the group of each row; or rows.
    cases : sequence, optional
        Labels of those that are wanted; all by default.

    Raises
    ------
    DesignError
        No such grouping factor, row or level; another number of rows.
    """
    counts = design.counts
    if by is None:
        need_observations(design, "Without by= influence is that", "by= leaves out groups.")
        chosen = DeletionCases("row", pd.Index(design.index, name="row"), np.arange(design.n), counts)
    elif isinstance(by, str):
        known = all_groupings(design)
        if by not in known:
            has = f"It has: {', '.join(known)}. Give one of these," if known else "It has none. Give"
            raise DesignError(
                f"by={shown(by)} is no grouping factor of the model. {has} None for rows, or the group of each row "
                "(data['column'] of the rows that were kept)."
            )
        grouping = known[by]
        chosen = DeletionCases(by, pd.Index(list(grouping.levels), name=by), grouping.codes, counts)
    else:
        chosen = DeletionCases(*_given(design, by), counts)
    return chosen if cases is None else _some(chosen, cases)


def _given(design: Design, by: Any) -> tuple[str, pd.Index, IntArray]:
    """Groups given row by row."""
    name = str(by.name) if isinstance(by, pd.Series) and by.name is not None else "group"
    if isinstance(by, pd.Series) and len(by) != design.n and by.index.is_unique:
        rows = pd.Index(design.index)
        by = by.loc[rows] if rows.isin(by.index).all() else by
    by = rows_of_design(design, by)
    values = _listed("by", by, "a grouping factor of the model, or the group of each row")
    if len(values) != design.n:
        raise DesignError(
            f"by has {len(values)} groups of rows; the fit has {design.n} rows. Give the group of each row that was "
            "kept, in their order."
        )
    try:
        codes, levels = pd.factorize(pd.Series(values, dtype=object), use_na_sentinel=True)
    except Exception as problem:
        raise DesignError(f"by holds {shown(values[0])}, which names no group. Give a text or a number.") from problem
    if (codes < 0).any():
        raise DesignError(f"by has no group for {int((codes < 0).sum())} row(s): missing values. Give every row one.")
    return name, pd.Index(levels, name=name), codes.astype(np.int64)


def _some(chosen: DeletionCases, cases: Sequence[Any]) -> DeletionCases:
    single = isinstance(cases, str | int | np.integer)
    wanted = [cases] if single else _listed("cases", cases, f"labels of a {chosen.by}")
    known: dict[Any, list[int]] = {}
    for k, label in enumerate(chosen.labels):
        known.setdefault(label, []).append(k)
        known.setdefault(str(label), known[label])
    places: list[int] = []
    for case in wanted:
        key = _key(case, known)
        if key not in known:
            first = ", ".join(map(str, chosen.labels[:6])) + (", ..." if len(chosen.labels) > 6 else "")
            raise DesignError(f"cases names {shown(case)}, which is no {chosen.by} of the fit. It has: {first}.")
        places += [k for k in known[key] if k not in places]
    if not places:
        raise DesignError("cases is empty: there is nothing to leave out.")
    new = np.full(len(chosen.labels), -1, dtype=np.int64)
    new[places] = np.arange(len(places))
    return DeletionCases(chosen.by, chosen.labels[places], new[chosen.codes], chosen.counts)


def _key(case: Any, known: Mapping[Any, list[int]]) -> Any:
    """The label that is meant, or its text; None for what is no label."""
    try:
        return case if case in known else str(case)
    except Exception:
        return None


def _listed(name: str, value: Any, what: str) -> list[Any]:
    """The items of a sequence of modest length."""
    sized = hasattr(value, "__len__") and hasattr(value, "__iter__") and not isinstance(value, bytes | dict)
    try:
        if sized and np.ndim(value) == 1 and len(value) <= _LONGEST:
            return list(value)
    except Exception:
        sized = False
    raise DesignError(f"{name}={shown(value)} is not {what}.")
