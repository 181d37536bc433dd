"""Shares of replicates: whether intervals hold the truth, and the Monte Carlo error of how often they do."""

from __future__ import annotations

import numpy as np

from bayeslmm.types import FloatArray, IntArray


def mc_error(coverage: float, replicates: int) -> float:
    """Monte Carlo error of a share: half the width of Wilson's interval of one standard error.

    With many replicates it is ``sqrt(p (1 - p) / R)``; where the share is 0 or 1, ``1 / (2 (R + 1))``, because R
    replicates do not tell a probability that is one from one that is nearly so.

    Parameters
    ----------
    coverage : float
        Share p of the replicates.
    replicates : int
        Their number R.

    References
    ----------
    Wilson (1927), Journal of the American Statistical Association 22, 209-212.

    Examples
    --------
    >>> mc_error(1.0, 1), round(mc_error(1.0, 200), 5), round(mc_error(0.95, 4000), 5)
    (0.25, 0.00249, 0.00345)
    """
    return float(np.sqrt(replicates * coverage * (1.0 - coverage) + 0.25) / (replicates + 1))


def where_truth_is(low: FloatArray, high: FloatArray, value: float) -> IntArray:
    """0 where intervals hold a value, -1 where it is below them, 1 where it is above; 1 also where an end is nan.

    Examples
    --------
    >>> where_truth_is(np.array([0.0, 2.0, np.nan]), np.array([1.0, 3.0, np.nan]), 0.5).tolist()
    [0, -1, 1]
    """
    missing = np.isnan(low) | np.isnan(high)
    return np.where(missing | (value > high), 1, np.where(value < low, -1, 0)).astype(np.int8)
