"""A model in memory put into the state of one whose rows are elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

import bayeslmm as bl
from bayeslmm.design.design import Design
from bayeslmm.design.fact_counter import FactCounter
from bayeslmm.design.rows_elsewhere import without_rows
from bayeslmm.likelihood.rowless import summed_without_rows
from bayeslmm.types import AnyArray

UNLIMITED = 1 << 40


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


def part(design: Design, rows: AnyArray) -> Design:
    """Some rows of a design, with the levels of all."""
    return replace(
        design,
        y=design.y[rows],
        X=design.X[rows],
        terms=tuple(replace(term, Z=term.Z[rows]) for term in design.terms),
        groupings={name: replace(g, codes=g.codes[rows]) for name, g in design.groupings.items()},
        residual=design.residual.part(rows),
        offset=None if design.offset is None else design.offset[rows],
        index=design.index[rows],
        frequency=None if design.frequency is None else design.frequency[rows],
    )


def chunks(design: Design, size: int) -> Iterator[Design]:
    for start in range(0, design.n, size):
        yield part(design, np.arange(start, min(start + size, design.n)))


def rowless(model: bl.Model, limit: int = 0, chunk: int = 50) -> tuple[bl.Model, KeptRows]:
    """The model without its rows, and where these are read from."""
    design = model.design
    counter = FactCounter(design)
    for rows in chunks(design, chunk):
        counter.add(rows)
    kept = KeptRows(design)
    none = part(design, np.arange(0))
    elsewhere = without_rows(none, kept, counter.facts(), limit)
    cp = model.cross_products
    frame = replace(cp.frame, fixed=replace(cp.fixed, columns=np.empty((0, design.p))))
    response = replace(cp.response, residual=np.empty(0))
    own = bl.Model._from_design(elsewhere)
    vars(own)["cross_products"] = summed_without_rows(elsewhere, cp.sums.on(frame), response)
    return own, kept
