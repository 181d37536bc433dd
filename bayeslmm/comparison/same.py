"""Whether a fit and a posterior belong to the same model and data."""

from __future__ import annotations

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.errors import DesignError
from bayeslmm.results import Posterior, REMLResult
from bayeslmm.types import AnyArray


def check_same(reml: REMLResult, posterior: Posterior) -> None:
    """Refuse what is not a fit and a posterior of one model.

    Raises
    ------
    DesignError
    """
    if not isinstance(reml, REMLResult) or not isinstance(posterior, Posterior):
        raise DesignError(
            f"compare() got a {type(reml).__name__} and a {type(posterior).__name__}. It takes the result of "
            "model.fit() first and that of model.sample() second."
        )
    if not _same(reml.design, posterior.design):
        raise DesignError(
            f"compare() got fits of different models: {reml.formula!r} on {reml.n} observations and "
            f"{posterior.formula!r} on {posterior.n} observations. Fit and sample the same Model."
        )


def _same(a: Design, b: Design) -> bool:
    if a is b:
        return True
    if (a.formula, a.n, a.fixed_names, list(a.groupings)) != (b.formula, b.n, b.fixed_names, list(b.groupings)):
        return False
    return all(_equal(x, y) for x, y in zip(_arrays(a), _arrays(b), strict=True))


def _arrays(design: Design) -> list[AnyArray | None]:
    codes = [g.codes for g in design.groupings.values()]
    rows = [design.y, design.X, design.weights, design.offset, design.frequency]
    return [*rows, *codes, *(term.Z for term in design.terms)]


def _equal(a: AnyArray | None, b: AnyArray | None) -> bool:
    return a is b or (a is not None and b is not None and np.array_equal(a, b))
