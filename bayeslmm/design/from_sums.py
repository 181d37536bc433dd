"""From a formula and a table of cells with sums of the response to a design."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.design.build import build_design
from bayeslmm.design.cell_sums import CellSums, SumColumns, read_sums, stand_in
from bayeslmm.design.design import Design
from bayeslmm.design.dropped import DroppedRows
from bayeslmm.design.formula import parse_formula
from bayeslmm.design.lazy import Labels, LabelsByReason
from bayeslmm.design.names import literal
from bayeslmm.design.tables import open_table, to_pandas
from bayeslmm.errors import DesignError
from bayeslmm.types import FloatArray, IntArray


def build_from_sums(formula: str, frame: pd.DataFrame, columns: SumColumns, arguments: Mapping[str, Any]) -> Design:
    """Evaluate a formula on a table of cells.

    Parameters
    ----------
    formula : str
    frame : pandas.DataFrame
        One row per cell, see `cells_frame`.
    columns : SumColumns
    arguments : mapping
        Of `build_design`, without ``frequency``.

    Returns
    -------
    Design
        Its rows have the sums of the cells.

    Raises
    ------
    FormulaError, DesignError
    """
    response = response_name(formula)
    sums = read_sums(frame, columns)
    _check_response(response, columns, frame)
    labels = frame.index
    frame = frame.reset_index(drop=True)  # a copy
    # Of no observations there is no mean; they are left out for their number.
    frame[response] = np.where(sums.n > 0, sums.mean, 0.0) + _apart(sums)
    design = build_design(formula, frame, **arguments, frequency=sums.n)
    kept = np.asarray(design.index, dtype=np.int64)
    dropped = _dropped(design, labels, sums, kept)
    if str(arguments.get("na_action")) == "fail" and sums.n_missing.any():
        raise DesignError(
            f"{int(sums.n_missing.sum()):,} row(s) have no {response}, which na_action='fail' does not allow. Leave "
            "them out, or use na_action='drop' (they are counted)."
        )
    design = replace(design, index=labels[kept].to_numpy(), dropped=dropped)
    if design.all_rows is not None:
        design = replace(design, all_rows=replace(design.all_rows, index=labels.to_numpy()))
    return stand_in(design, sums.mean[kept], sums.ss[kept])


def cells_frame(cells: Any) -> pd.DataFrame:
    """The table as a frame; keys that stand in the index, where groupby puts them, become columns.

    Raises
    ------
    DesignError
        No table.
    """
    table, _ = open_table(_read(cells))
    frame = pd.DataFrame(to_pandas(table)).copy(deep=False)
    named = [name for name in frame.index.names if name is not None and name not in frame]
    if named and len(named) == frame.index.nlevels:
        frame = frame.reset_index()
    frame.columns = pd.Index([str(name) for name in frame.columns], dtype=object)
    return frame


def _read(cells: Any) -> Any:
    """The table, of a source of rows all of them: cells are few."""
    from bayeslmm.sources import is_source, open_source, text_columns

    if not is_source(cells):
        return cells
    source = open_source(cells)
    chunks = list(source.chunks(source.columns))
    text = frozenset[str]().union(*map(text_columns, chunks))
    parts = [pd.DataFrame(chunk.astype(dict.fromkeys(text & set(chunk.columns), object))) for chunk in chunks]
    for part in parts:
        part.attrs = {}
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(source.columns))


def response_name(formula: str) -> str:
    """The name of the response.

    Raises
    ------
    DesignError
        An expression.
    """
    text = parse_formula(formula).response
    name = text.strip("`")
    if text not in (name, f"`{name}`") or not (name.isidentifier() or text.startswith("`")):
        raise DesignError(
            f"The response is {text!r}, and sums over cells are those of one response: they do not say what the sums "
            "of a function of it would be. Sum that function itself, and give it a name: 'log_y ~ ...' with the "
            "number, mean and sum of squares of log(y)."
        )
    return name


def _check_response(response: str, columns: SumColumns, frame: pd.DataFrame) -> None:
    location = columns.mean or columns.total
    if response in frame and response != location:
        raise DesignError(
            f"The table of cells has a column {literal(response)}, the response, and its mean is said to be in "
            f"{literal(str(location))}. Name the column that the mean is in (mean={response!r}), or drop the other."
        )


def _apart(sums: CellSums) -> FloatArray:
    """A number to be added to the mean of one cell: equal means of responses that vary are no constant response."""
    out = np.zeros(sums.n.size)
    if sums.ss.any():
        first = int(np.argmax(sums.ss > 0))
        out[first] = np.sqrt(sums.ss[first] / sums.n[first])
    return out


def _dropped(design: Design, labels: pd.Index, sums: CellSums, kept: IntArray) -> DroppedRows:
    """Cells that were left out, by the labels that they have in the table, and the rows behind them."""
    places = {reason: np.array(rows, dtype=np.int64) for reason, rows in design.dropped.reasons.items()}
    empty = places.pop("frequency 0", np.empty(0, dtype=np.int64))
    rows = sums.n + sums.n_missing
    if (without := empty[rows[empty] == 0]).size:
        places["n 0"] = without
    gone = np.ones(len(labels), dtype=bool)
    gone[kept] = False
    left_out = np.flatnonzero(gone)
    counts = {reason: int(rows[own].sum()) for reason, own in places.items()}
    if sums.n_missing.any():
        counts[f"missing {design.response}"] = int(sums.n_missing.sum())
    reasons = {reason: Labels(labels[own]) for reason, own in places.items()}
    total = int(rows[left_out].sum() + sums.n_missing[kept].sum())
    return DroppedRows(Labels(labels[left_out]), LabelsByReason(reasons), "cell of the table", counts, total)
