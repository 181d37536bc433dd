"""Whether two designs are of the same model and data."""

from __future__ import annotations

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.equality import same_values
from bayeslmm.types import AnyArray


def same_design(a: Design, b: Design) -> bool:
    """Whether two designs have the same formula, names and numbers."""
    if a is b:
        return True
    if (a.formula, a.n, a.fixed_names, list(a.groupings)) != (b.formula, b.n, b.fixed_names, list(b.groupings)):
        return False
    rows_there = a.facts is None or b.facts is None
    if (rows_there and not same_values(a.residual, b.residual)) or not same_values(a.cells, b.cells):
        return False
    if a.facts is not None and b.facts is not None:
        return same_values(a.facts, b.facts)
    return all(_equal(x, y) for x, y in zip(_arrays(a), _arrays(b), strict=True))


def _arrays(design: Design) -> list[AnyArray | None]:
    codes = [g.codes for g in design.groupings.values()]
    rows = [design.y, design.X, design.offset, design.frequency]
    return [*rows, *codes, *(term.Z for term in design.terms)]


def _equal(a: AnyArray | None, b: AnyArray | None) -> bool:
    return a is b or (a is not None and b is not None and np.array_equal(a, b))
