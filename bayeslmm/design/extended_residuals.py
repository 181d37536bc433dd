"""Residual structures of planned studies: groups of correlated residuals are copied with the levels they lie in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.design.grouping import Grouping
from bayeslmm.design.new_residuals import residual_parts_of
from bayeslmm.design.residual_groups import residual_grouping
from bayeslmm.errors import DesignError
from bayeslmm.residual import Residual, estimable
from bayeslmm.residual.structured import CorrelatedRows
from bayeslmm.types import IntArray

# Of all parameters, on their scales without bounds: a place at which each matters that has rows.
_SOMEWHERE = 0.3


def correlated_within(design: Design) -> tuple[str, ...]:
    """Columns of the factor within whose levels residuals are correlated; none where they are not."""
    if not isinstance(design.residual, CorrelatedRows):
        return ()
    return next(part.group for part in residual_parts_of(design) if part.correlated)


def all_factors(design: Design) -> dict[str, Grouping]:
    """Grouping factors of the random effects, and the one within whose levels residuals are correlated."""
    own = residual_grouping(design)
    return dict(design.groupings) if own is None else {**design.groupings, own.name: own}


def regrouped(design: Design, residual: Residual, clusters: IntArray) -> Residual:
    """The structure of rows of a design, copies of a group apart.

    Raises
    ------
    DesignError
        Two rows of one group at the same place, which the design did not have.
    """
    if not isinstance(residual, CorrelatedRows) or not isinstance(design.residual, CorrelatedRows):
        return residual
    out = replace(residual, clusters=np.unique(clusters, return_inverse=True)[1].astype(np.int64))
    if _repeated(out) and not _repeated(design.residual):
        name = ":".join(correlated_within(design))
        raise DesignError(
            f"Levels of {name} would have the same rows twice, and residuals of one of them are correlated by where "
            f"their rows are ({residual.expression}): each has at most the rows of the study. Copy whole levels of "
            f"{name} (n_groups=, groups=), or give the further rows in the data of a bl.Plan."
        )
    return out


def _repeated(residual: CorrelatedRows) -> bool:
    places = np.column_stack([residual.clusters, residual.at])
    return len(np.unique(places, axis=0)) < len(places)


def check_parameters(design: Design) -> None:
    """Refuse rows that say nothing about some parameter of the residuals.

    Raises
    ------
    DesignError
    """
    residual = design.residual
    if not residual.names:
        return
    own = estimable(residual)
    about = np.diag(own.information(np.full(len(residual.names), _SOMEWHERE))[1])
    lost = [label for label, value in zip(own.labels, about, strict=True) if not value > 0]
    if lost:
        raise DesignError(
            f"{design.n} rows of this study say nothing about residual_{', residual_'.join(lost)} "
            f"(residual={own.expression!r}): no rows are left that differ by it. Take more groups or replicates."
        )
