"""A design without some of its rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bayeslmm.design.design import Design, rows_of
from bayeslmm.design.grouping import Grouping
from bayeslmm.types import IntArray


def without_rows(design: Design, rows: IntArray) -> Design:
    """The design without some rows; levels that no longer occur are gone."""
    keep = np.setdiff1d(np.arange(design.n), rows)
    left = rows_of(design, keep)
    groupings = {}
    for name, grouping in left.groupings.items():
        levels, codes = np.unique(grouping.codes, return_inverse=True)
        groupings[name] = Grouping(name, codes.astype(np.int64), tuple(grouping.levels[k] for k in levels))
    cells = None if design.cells is None else design.cells.part(keep)
    return replace(left, groupings=groupings, all_rows=None, cells=cells)
