"""Residual structures that have no estimate whatever the search does, each refused with its reason."""

from __future__ import annotations

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.design.residual_groups import residual_grouping
from bayeslmm.errors import FitError
from bayeslmm.residual import estimable
from bayeslmm.residual.bounded import too_few_groups
from bayeslmm.residual.correlation import EqualCorrelation
from bayeslmm.residual.spread import SpreadByLevel
from bayeslmm.residual.structured import CorrelatedRows, spread_parts
from bayeslmm.types import FloatArray

# Residuals beside the response where there are none.
_EXACT = 1e-12
# Columns differ by less from what is in the span of X.
_WITHIN = 1e-8


def check_estimable(design: Design) -> None:
    """Refuse residual structures of which the likelihood of a design has no maximum, or is flat in a parameter.

    Raises
    ------
    FitError
    """
    _check_varied(design)
    _check_shared(design)
    _check_groups(design)


def _check_varied(design: Design) -> None:
    """Levels with a variance of their own in which the response does not vary."""
    y = design.y_less_offset
    for part in spread_parts(design.residual):
        if not isinstance(part, SpreadByLevel):
            continue
        for k, level in enumerate(part.levels):
            rows = part.codes == k
            beta, _, rank, _ = np.linalg.lstsq(design.X[rows], y[rows])
            left = np.abs(y[rows] - design.X[rows] @ beta).max(initial=0.0)
            if rows.sum() > rank and left <= _EXACT * np.abs(y[rows]).max():
                raise FitError(
                    f"{estimable(design.residual).expression} has no estimate: the fixed effects fit all {rows.sum()} "
                    f"rows of {part.factor_name} {level!r} exactly, so that the likelihood grows without bound as the "
                    "standard deviation of this level goes to zero. Is the response there a constant, or a copy? Leave "
                    "these rows out, join the level with another, or take a structure without a variance for it."
                )


def _check_shared(design: Design) -> None:
    """One correlation of all pairs, where the fixed effects have a constant for every group."""
    own = design.residual
    if not isinstance(own, CorrelatedRows) or not isinstance(own.correlation, EqualCorrelation) or own.spreads.names:
        return
    groups = np.flatnonzero(np.bincount(own.clusters) > 1)
    shared = (own.clusters[:, None] == groups) * np.exp(own.spreads.log_sd(np.empty(0)))[:, None]
    if groups.size > design.p or not _spans(design, shared):
        return
    grouping = residual_grouping(design)
    name = "group" if grouping is None else grouping.name
    why = (
        f"there is one {name} with more than one row"
        if groups.size == 1
        else f"the fixed effects have a constant for each of the {groups.size} levels of {name}"
    )
    raise FitError(
        f"{own.expression} has no estimate: {why}, and a constant takes up all that its residuals share. Only "
        f"sigma^2 (1 - rho) can be estimated, which residual='independent' does. Give more groups, or take {name} out "
        "of the fixed effects."
    )


def _check_groups(design: Design) -> None:
    """Covariances of visits that a few groups determine."""
    few = too_few_groups(design.residual, _spans(design, np.ones((design.n, 1))))
    if few is None:
        return
    s, arm = len(few.visits), f" of {few.arm}" if few.arm else ""
    raise FitError(
        f"{estimable(design.residual).expression} has no estimate: {few.groups} groups{arm} have all of the {s} visits "
        f"{', '.join(few.visits[:3])}{', ...' if s > 3 else ''}, and the residuals of {few.groups} groups leave some "
        f"combination of {s} visits no variance, so that the likelihood grows without bound. More than {s} such groups "
        "have a maximum. Take a structure with fewer parameters (toeph, adh, ar1h, csh), join arms or visits, or use "
        "model.sample(), whose priors keep correlations from 1."
    )


def _spans(design: Design, columns: FloatArray) -> bool:
    """Whether X spans some columns (n, k)."""
    if not design.p:
        return False
    return bool(np.abs(columns - design.X @ np.linalg.lstsq(design.X, columns)[0]).max(initial=0.0) < _WITHIN)
