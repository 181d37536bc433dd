"""Whether the data can tell the variance parameters of a model apart at all.

The criterion is constant along a combination of the variances that does not change the covariance of y: a ridge, on
which every point is as good. The question is one about the design (`design.distinct`), not about the point at which a
fit has ended, nor about how much each row weighs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bayeslmm.design import distinct
from bayeslmm.design.distinct import Ridge as Ridge
from bayeslmm.likelihood import SummedDesign
from bayeslmm.likelihood import parameters as par
from bayeslmm.types import FloatArray

# What is left of a change of the variances, squared and beside its size, drowns in rounding below this.
_FLAT = 1e-12
# A relative factor this small is none.
_ZERO = 1e-6


def find_ridges(cp: SummedDesign, factors: Sequence[FloatArray], reml: bool) -> tuple[Ridge, ...]:
    """Ridges of a model.

    Parameters
    ----------
    cp : SummedDesign
    factors : sequence of FloatArray, each (1, c, c)
        Internal relative factors; only structures that are not linear in their parameters depend on them.
    reml : bool
    """
    at: list[FloatArray | None] = [None] * len(cp.design.terms)
    for b, part, position, _, structure in cp.frame.terms:
        if not structure.plain:
            T, W = factors[b][0, part, part], par.frame(cp, b, part, structure)
            T = cp.blocks[b].basis[part, part] @ T if W is None else np.linalg.solve(W, T)
            # At a zero covariance the shape has no effect; what matters is what the structure could do.
            at[position] = structure.theta(T) if np.abs(T).max() > _ZERO else None
    if cp.design.facts is not None:
        from bayeslmm.likelihood.ridges_of_sums import ridges_of_sums

        return ridges_of_sums(cp, reml, at, _FLAT)
    return distinct.find_ridges(cp.design, reml, at, _FLAT)
