"""Which models the explorer has the likelihood of, and their data as it takes them."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from bayeslmm.design import Design
from bayeslmm.design.covariance import Unstructured
from bayeslmm.design.design import RandomTerm
from bayeslmm.errors import DesignError
from bayeslmm.types import FloatArray, IntArray

# Groups and rows that a page answers at once for.
_LEAST_GROUPS, _MOST_GROUPS, _MOST_ROWS = 4, 40, 20
# Columns that differ between groups by less than this, relative to their spread, are the same.
_SAME = 1e-10
# Residual sums of squares below this share of the total are rounding.
_NOTHING_LEFT = 1e-20


def balanced_data(design: Design) -> dict[str, Any]:
    """The data of a balanced one-way or random-slope model.

    Parameters
    ----------
    design : Design

    Returns
    -------
    dict
        ``kind`` (``"levels"`` or ``"slopes"``), ``x`` (n,), ``y`` (J, n), ``labels`` (J,), ``names`` and ``formula``,
        of types that JSON has.

    Raises
    ------
    DesignError
        Another model, weights, or groups that differ in their rows.
    """
    term, column = _structure(design)
    grouping = design.groupings[term.group]
    x = np.zeros(design.n) if column is None else design.X[:, column]
    X, Y = _by_group(grouping.codes, x), _by_group(grouping.codes, design.y_less_offset)
    if column is not None and np.abs(X - X[0]).max() > _SAME * np.ptp(x):
        _refuse(design, f"the groups of {term.group} have different values of {design.fixed_names[column]}")
    _check_sizes(design, term, *Y.shape, least_rows=2 if column is None else 3)
    _check_noise(design, X[0], Y)
    return {
        "kind": "levels" if column is None else "slopes",
        "x": X[0].tolist() if column is not None else list(range(Y.shape[1])),
        "y": Y.tolist(),
        "labels": list(grouping.levels),
        "names": {
            "group": term.group,
            "response": design.response,
            "x": "" if column is None else design.fixed_names[column],
        },
        "formula": design.formula,
    }


def _structure(design: Design) -> tuple[RandomTerm, int | None]:
    """The one random term, and the column of X that varies by group; None in a one-way layout.

    Raises
    ------
    DesignError
    """
    if len(design.terms) != 1:
        _refuse(design, f"it has {len(design.terms)} random terms")
    if design.residual.names or design.residual.weights is not None or design.frequency is not None:
        _refuse(design, "its rows have weights or residuals of different variance")
    if design.sigma is not None:
        _refuse(design, "its residual standard deviation is known")
    term = design.terms[0]
    if design.fixed_names == ("Intercept",) and term.effects == ("Intercept",):
        return term, None
    slopes = (
        len(design.fixed_names) == 2 and design.fixed_names[0] == "Intercept" and term.effects == design.fixed_names
    )
    if not slopes or not isinstance(term.structure, Unstructured):
        fixed = ", ".join(design.fixed_names) or "nothing"
        _refuse(design, f"its fixed effects are {fixed}, and its random term is {term.label}")
    return term, 1


def _by_group(codes: IntArray, values: FloatArray) -> FloatArray:
    """Values (J, n) by group, rows in the order of the data; padded with nan where groups have fewer rows."""
    counts = np.bincount(codes)
    found = np.full((counts.size, counts.max()), np.nan)
    order = np.argsort(codes, kind="stable")
    place = np.arange(codes.size) - np.repeat(np.cumsum(counts) - counts, counts)
    found[codes[order], place] = values[order]
    return found


def _check_sizes(design: Design, term: RandomTerm, groups: int, rows: int, *, least_rows: int) -> None:
    counts = np.bincount(design.groupings[term.group].codes)
    if counts.min() != counts.max():
        _refuse(design, f"its groups have {counts.min()} to {counts.max()} rows")
    if not _LEAST_GROUPS <= groups <= _MOST_GROUPS or not least_rows <= rows <= _MOST_ROWS:
        _refuse(
            design,
            f"it has {groups} groups of {rows}, and the page is for {_LEAST_GROUPS} to {_MOST_GROUPS} groups of "
            f"{least_rows} to {_MOST_ROWS}",
        )


def _check_noise(design: Design, x: FloatArray, Y: FloatArray) -> None:
    columns = np.stack([np.ones_like(x), x], axis=1) if np.ptp(x) > 0 else np.ones((x.size, 1))
    left = Y - (columns @ np.linalg.lstsq(columns, Y.T, rcond=None)[0]).T
    if not (left**2).sum() > _NOTHING_LEFT * (Y**2).sum():
        _refuse(design, "its groups have no variation within them")


def _refuse(design: Design, why: str) -> NoReturn:
    raise DesignError(
        f"explore() got the model {design.formula}, and {why}. The page computes the likelihood of two balanced models "
        "itself: y ~ 1 + (1 | g) with as many rows in every group, and y ~ x + (x | g) with the same x in every group. "
        "For any other model bl.compare(model.fit(), model.sample()) and bl.report() show the same; bl.explore() "
        "without a model has simulated data."
    )
