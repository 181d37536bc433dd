"""A design without some of its rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.design.grouping import Grouping
from bayeslmm.types import FloatArray, IntArray


def without_rows(design: Design, rows: IntArray) -> Design:
    """The design without some rows; levels that no longer occur are gone."""
    keep = np.setdiff1d(np.arange(design.n), rows)
    groupings = {}
    for name, grouping in design.groupings.items():
        levels, codes = np.unique(grouping.codes[keep], return_inverse=True)
        groupings[name] = Grouping(name, codes.astype(np.int64), tuple(grouping.levels[k] for k in levels))
    terms = tuple(replace(term, Z=term.Z[keep]) for term in design.terms)

    def part[Array: (FloatArray, IntArray)](values: Array | None) -> Array | None:
        return None if values is None else values[keep]

    return replace(
        design,
        y=design.y[keep],
        X=design.X[keep],
        terms=terms,
        groupings=groupings,
        residual=design.residual.part(keep),
        offset=part(design.offset),
        frequency=part(design.frequency),
        index=design.index[keep],
        all_rows=None,
        cells=None if design.cells is None else design.cells.part(keep),
    )
