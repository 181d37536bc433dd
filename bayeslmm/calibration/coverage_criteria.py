"""What a coverage study has to show: exact intervals are exact, honest ones honest, posteriors calibrated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.special import ndtri

from bayeslmm.bayes.prior_families import SdPrior
from bayeslmm.calibration.coverage_cells import Cell
from bayeslmm.calibration.coverage_marginals import Ends
from bayeslmm.calibration.coverage_oneway import reduce
from bayeslmm.calibration.coverage_oneway_posterior import posterior
from bayeslmm.types import FloatArray

EXACT = ("pivot",)
HONEST = ("reml_profile", "hdi")
# Probability that some cell of an exact method is out by chance.
_FAMILY = 0.05
# What a cell may fall short of the level besides: a posterior owes its level on average over its prior only.
SLACK = 0.02
_CHUNK = 500


def band(level: float, replicates: int, cells: int) -> tuple[float, float]:
    """Two-sided band for the coverage of an exact interval in `cells` cells together (Bonferroni).

    Examples
    --------
    >>> [round(end, 3) for end in band(0.95, 4000, 75)]
    [0.938, 0.962]
    """
    z = ndtri(1.0 - 0.5 * _FAMILY / cells)
    reach = float(z * np.sqrt(level * (1.0 - level) / replicates))
    return level - reach, level + reach


def criteria(table: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """Verdicts on the intervals of standard deviations.

    The F pivot has to be inside `band` in every cell. REML profile and HDI may not be more than 0.02 below it in
    any cell, and have to reach the level on average over cells.

    Parameters
    ----------
    table : pandas.DataFrame
        Of a `CoverageStudy`.
    level : float

    Returns
    -------
    pandas.DataFrame
        One row for every design, parameter and method: number of ``cells``, ``mean``, ``least`` and ``largest``
        coverage, the ``lower`` limit of a cell (and for the pivot the ``upper`` one), the mean ``width_ratio`` to the
        pivot and ``ok``.
    """
    rows = []
    chosen = table[table["method"].isin([*EXACT, *HONEST])]
    for (design, parameter, method), own in chosen.groupby(
        ["design", "parameter", "method"], sort=False, observed=True
    ):
        lower, upper = band(level, int(own["replicates"].min()), len(own))
        exact = method in EXACT
        lower, upper = (lower, upper) if exact else (lower - SLACK, 1.0)
        coverage = own["coverage"]
        rows.append(
            {
                "design": design,
                "parameter": parameter,
                "method": method,
                "cells": len(own),
                "mean": coverage.mean(),
                "least": coverage.min(),
                "largest": coverage.max(),
                "lower": lower,
                "upper": upper,
                "width_ratio": own["width_ratio"].mean(),
                "ok": bool(coverage.between(lower, upper).all() and (exact or coverage.mean() >= level)),
            }
        )
    return pd.DataFrame(rows)


def prior_averaged(
    groups: int, size: int, prior: SdPrior, replicates: int = 10_000, *, level: float = 0.95, seed: int = 1
) -> dict[str, float]:
    """Coverage of a posterior's intervals with the standard deviations drawn from their prior: the level, if right.

    That holds for every prior and design, without slack, and tests the computation rather than the method. The mean has
    a flat prior, under which its coverage does not depend on its value.

    Parameters
    ----------
    groups, size : int
        Of a balanced one-way layout.
    prior : SdPrior
        Proper; smooth and even at zero.
    replicates : int
    level : float
    seed : int

    Returns
    -------
    dict
        Coverage by interval: ``hdi`` and ``equal_tailed`` of the sd between groups, and ``mean``.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> prior_averaged(5, 3, bl.HalfNormal(2.0), 500)["hdi"] > 0.9
    True
    """
    rng = np.random.default_rng(seed)
    cell, hits = Cell("balanced", groups, size), []
    for start in range(0, replicates, _CHUNK):
        K = min(_CHUNK, replicates - start)
        sd, sigma = (np.array([prior.quantile(u) for u in rng.random(K)]) for _ in range(2))
        b = sd * rng.standard_normal((groups, K))
        Y = np.repeat(b, size, axis=0) + sigma * rng.standard_normal((groups * size, K))
        post = posterior(reduce(cell, Y), level, prior)
        hits.append(
            [_holds(post.sd.hdi(level), sd), _holds(post.sd.equal_tailed(level), sd), _holds(post.mean, 0.0 * sd)]
        )
    shares = np.concatenate(hits, axis=1).mean(axis=1)
    return dict(zip(("hdi", "equal_tailed", "mean"), map(float, shares), strict=True))


def _holds(ends: Ends, value: FloatArray) -> Sequence[bool]:
    inside: Sequence[bool] = ((ends[0] <= value) & (value <= ends[1])).tolist()
    return inside
