"""What the coverage atlas has to show: exact intervals are exact, honest ones honest."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import ndtri

EXACT = ("pivot",)
HONEST = ("reml_profile", "hdi")
# Probability that some cell of an exact method is out by chance.
_FAMILY = 0.05
# What a cell may fall short of the level besides: a posterior owes its level on average over its prior only.
SLACK = 0.02


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
