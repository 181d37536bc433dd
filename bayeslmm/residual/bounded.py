"""Unstructured covariances of visits that a few groups determine exactly, so that no likelihood has a maximum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayeslmm.residual.correlation import CorrelationByArm, within_arms
from bayeslmm.residual.residual import Residual
from bayeslmm.residual.structured import CorrelatedRows
from bayeslmm.residual.visits import FreeCorrelation
from bayeslmm.types import FloatArray


@dataclass(frozen=True)
class TooFewGroups:
    """Visits whose covariance is more than the groups that have them can bound.

    Attributes
    ----------
    visits : tuple of str
    groups : int
        Groups with all of these visits.
    arm : str
        Of which these are; empty where all arms have one covariance.
    """

    visits: tuple[str, ...]
    groups: int
    arm: str


def too_few_groups(residual: Residual, free_mean: bool) -> TooFewGroups | None:
    """Visits of which some combination has no variance in any group that has them all; None if there are none.

    The m residual vectors of groups with all of s visits are orthogonal to some combination of these if ``m < s``,
    whatever the mean is, and for ``m = s`` at some mean, if one may be added to all rows. As the variance of the
    combination goes to zero the densities of these groups grow without bound, and those of groups with fewer of the
    visits do not.

    Parameters
    ----------
    residual : Residual
    free_mean : bool
        Whether a constant can be added to the mean of all rows.
    """
    if not isinstance(residual, CorrelatedRows):
        return None
    own = residual.correlation
    family, arms = within_arms(own), own.arms if isinstance(own, CorrelationByArm) else ("",)
    if not isinstance(family, FreeCorrelation):
        return None
    present = np.zeros((int(residual.clusters.max()) + 1, family.K))
    present[residual.clusters, residual.at[:, 0].astype(np.int64)] = 1.0
    of_group = np.zeros(len(present), dtype=np.int64)
    if isinstance(own, CorrelationByArm):
        of_group[residual.clusters] = residual.at[:, -1].astype(np.int64)
    for k, arm in enumerate(arms):
        found = _fewest(present[of_group == k], free_mean)
        if found is not None:
            pattern, groups = found
            visits = tuple(name for name, there in zip(family.visits, pattern, strict=True) if there)
            return TooFewGroups(visits, groups, arm)
    return None


def _fewest(present: FloatArray, free_mean: bool) -> tuple[FloatArray, int] | None:
    """The first pattern (K,) of visits that too few groups (G, K) have, and how many have it."""
    patterns = np.unique(present, axis=0)
    sizes = patterns.sum(1)
    groups = (present @ patterns.T == sizes).sum(0)
    short = (sizes > 1) & ((groups < sizes) | (free_mean & (groups == sizes)))
    if not short.any():
        return None
    # The largest pattern says most.
    worst = int(np.where(short, sizes, 0).argmax())
    return patterns[worst], int(groups[worst])
