"""Results by row for all rows of the data: nan where a row was left out of the design (``na_action="exclude"``)."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd

from bayeslmm.arguments import choice
from bayeslmm.design.design import Design
from bayeslmm.design.dropped import AllRows, DroppedRows, shortened
from bayeslmm.errors import DesignError
from bayeslmm.types import AnyArray, BoolArray, FloatArray

type NaAction = Literal["drop", "exclude", "fail"]

_ACTIONS: tuple[NaAction, ...] = ("drop", "exclude", "fail")
_OF_R = {"na.omit": "drop", "na.exclude": "exclude", "na.fail": "fail", "omit": "drop", "raise": "fail"}


def check_na_action(given: object) -> NaAction:
    """What becomes of rows with missing values.

    Raises
    ------
    DesignError
        No such action; R's names of them get a hint.
    """
    if isinstance(given, str) and given in _OF_R:
        raise DesignError(f"na_action={given!r} is unknown. What it does elsewhere is na_action={_OF_R[given]!r} here.")
    return choice("na_action", given, _ACTIONS, DesignError)


def all_rows(action: NaAction, index: pd.Index, keep: BoolArray, dropped: DroppedRows) -> AllRows | None:
    """What a design keeps of the rows that are not in it.

    Parameters
    ----------
    action : {"drop", "exclude", "fail"}
    index : pandas.Index, shape (N,)
        Of the data.
    keep : BoolArray, shape (N,)
    dropped : DroppedRows

    Returns
    -------
    AllRows or None
        None where results have the rows of the design.

    Raises
    ------
    DesignError
        ``"fail"``, and values are missing.
    """
    if action == "fail":
        refuse_missing(dropped)
    if action != "exclude" or keep.all():
        return None
    return AllRows(index.to_numpy(), np.flatnonzero(keep))


def refuse_missing(dropped: DroppedRows) -> None:
    """Refuse rows that were left out because values are missing.

    Raises
    ------
    DesignError
    """
    missing = {reason: rows for reason, rows in dropped.reasons.items() if reason.startswith("missing ")}
    if not missing:
        return
    concerned = len(set().union(*missing.values()))
    parts = [f"{reason}: {shortened(rows)}" for reason, rows in missing.items()]
    raise DesignError(
        f"{concerned} row(s) have missing values ({'; '.join(parts)}), which na_action='fail' does not allow: a fit "
        "would silently be one of the other rows. Fill in or drop these rows, or use na_action='drop' (they are left "
        "out and counted) or 'exclude' (left out, nan in results by row)."
    )


def padded(design: Design, values: FloatArray) -> FloatArray:
    """Values by row of the design (n, ...) as values by row of the data (N, ...), nan where there are none.

    Examples
    --------
    >>> import pandas as pd
    >>> from bayeslmm.design import build_design
    >>> frame = pd.DataFrame({"y": [1.0, None, 2.0, 4.0, 3.0], "g": ["a", "a", "a", "b", "b"]})
    >>> padded(build_design("y ~ 1 + (1 | g)", frame, na_action="exclude"), np.arange(4.0)).tolist()
    [0.0, nan, 1.0, 2.0, 3.0]
    >>> padded(build_design("y ~ 1 + (1 | g)", frame), np.arange(4.0)).tolist()
    [0.0, 1.0, 2.0, 3.0]
    """
    if design.cells is not None:
        values = values[design.cells.first]
    if design.all_rows is None:
        return values
    out = np.full((design.all_rows.index.shape[0], *values.shape[1:]), np.nan)
    out[design.all_rows.kept] = values
    return out


def row_labels(design: Design) -> AnyArray:
    """Labels of the rows that results by row have."""
    if design.all_rows is not None:
        return design.all_rows.index
    return design.index if design.cells is None else design.index[design.cells.first]


def by_row(design: Design, values: FloatArray, name: str) -> pd.Series:
    """A result with one value per row of the design, (n,), for the user; of cells one each."""
    return pd.Series(padded(design, values), index=row_labels(design), name=name)


def rows_of_design(design: Design, values: Any) -> Any:
    """Values by row of the data (array, Series or frame) cut to the rows of the design; others as they are.

    A Series or frame has to have the labels of the data in their order.
    """
    if design.all_rows is None and design.cells is None:
        return values
    labels = row_labels(design)
    if not isinstance(values, pd.Series | pd.DataFrame | np.ndarray) or values.ndim == 0:
        return values
    if values.shape[0] != labels.shape[0]:
        return values
    kept = np.arange(labels.shape[0]) if design.all_rows is None else design.all_rows.kept
    places = kept if design.cells is None else kept[design.cells.of(np.arange(design.n))]
    if isinstance(values, np.ndarray):
        return values[places]
    return values.iloc[places] if values.index.equals(pd.Index(labels)) else values
