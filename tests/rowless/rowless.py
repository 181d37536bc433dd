"""A model in memory put into the state of one whose rows are elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

import bayeslmm as bl
from bayeslmm.design.design import Design, rows_of
from bayeslmm.design.row_facts import RowFacts
from bayeslmm.design.rows_elsewhere import with_rows_elsewhere
from bayeslmm.likelihood.rowless import summed_without_rows
from bayeslmm.types import AnyArray
from tests.streaming.chunked import chunked

UNLIMITED = 1 << 40
ABOUT_SOURCES = ("memory", "progress", "n_jobs", "client", "checkpoint", "cells")


@dataclass
class KeptRows:
    """The rows of a design, handed out as if they were read from a file."""

    design: Design
    name: str = "rows.parquet"
    passes: list[tuple[str, ...]] = field(default_factory=list)

    def read(self, names: Sequence[str]) -> Mapping[str, AnyArray]:
        self.passes.append(tuple(names))
        design = self.design
        known: dict[str, Any] = {name: getattr(design, name) for name in ("y", "X", "offset", "index", "frequency")}
        known |= {f"Z{k}": term.Z for k, term in enumerate(design.terms)}
        known |= {f"codes{k}": grouping.codes for k, grouping in enumerate(design.groupings.values())}
        known |= {"weights": design.weights, "sd": getattr(design.residual, "sd", None)}
        return {name: known[name].copy() for name in names}


def facts(model: bl.Model, most: int) -> RowFacts:
    """What is recorded of the rows of a model in memory as they are read, so many at a time."""
    given = {name: value for name, value in (model._arguments or {}).items() if name not in ABOUT_SOURCES}
    found = chunked(model.formula, [model._table], most=most, **given).design.facts
    assert found is not None
    return found


def rowless(model: bl.Model, limit: int = 0, chunk: int = 50) -> tuple[bl.Model, KeptRows]:
    """The model without its rows, and where these are read from."""
    design = model.design
    kept = KeptRows(design)
    elsewhere = with_rows_elsewhere(rows_of(design, np.arange(0)), kept, facts(model, chunk), limit)
    cp = model.cross_products
    frame = replace(cp.frame, fixed=replace(cp.fixed, columns=np.empty((0, design.p))))
    response = replace(cp.response, residual=np.empty(0))
    own = bl.Model._from_design(elsewhere)
    vars(own)["cross_products"] = summed_without_rows(elsewhere, cp.sums.on(frame), response)
    return own, kept
