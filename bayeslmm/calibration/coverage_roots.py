"""Roots of many functions of one variable at once, and the ends of likelihood intervals by them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import chdtri

from bayeslmm.calibration.coverage_marginals import Ends
from bayeslmm.types import FloatArray, IntArray

# Steps of the false-position method, and its relative accuracy.
_STEPS, _TOLERANCE = 60, 1e-9

type Many = Callable[[FloatArray, IntArray], FloatArray]


def likelihood_ends(height: Many, top: FloatArray, unit: FloatArray, level: float) -> Ends:
    """Where a profile of an sd is the chi-square quantile above its minimum; 0 where that is not so below the optimum.

    Parameters
    ----------
    height : callable
        Maps places (A,) and the numbers (A,) of the responses to -2 log profile likelihood above its minimum.
    top, unit : FloatArray, shape (K,)
        Optima, and the first step upwards from them.
    level : float
    """
    cut = float(np.sqrt(chdtri(1, 1.0 - level)))

    # The root is nearly linear away from the optimum.
    def excess(s: FloatArray, rows: IntArray) -> FloatArray:
        return np.sqrt(np.maximum(height(s, rows), 0.0)) - cut

    everyone = np.arange(top.size)
    high, growing = top + unit, everyone
    while growing.size:
        growing = growing[excess(high[growing], growing) < 0.0]
        high[growing] *= 2.0
    upper = false_position(excess, top, high, np.full(top.size, -cut))
    lower = np.zeros(top.size)
    at_zero = excess(lower, everyone)
    crossed = np.flatnonzero(at_zero > 0.0)
    lower[crossed] = false_position(
        lambda s, rows: -excess(s, crossed[rows]), lower[crossed], top[crossed], -at_zero[crossed]
    )
    return lower, upper


def false_position(function: Many, low: FloatArray, high: FloatArray, at_low: FloatArray) -> FloatArray:
    """Roots (K,) of increasing functions between `low` and `high` by the Illinois method.

    Parameters
    ----------
    function : callable
        Maps places (A,) and the numbers (A,) of the functions to values (A,).
    low, high, at_low : FloatArray, shape (K,)
        Bracket, and the values at its left end.
    """
    K = low.size
    low, high, f_low = low.copy(), high.copy(), at_low.copy()
    f_high = function(high, np.arange(K))
    side, running = np.zeros(K), np.arange(K)
    for _ in range(_STEPS):
        running = running[high[running] - low[running] > _TOLERANCE * high[running]]
        if running.size == 0:
            break
        a, b, fa, fb = low[running], high[running], f_low[running], f_high[running]
        middle = np.clip((a * fb - b * fa) / (fb - fa), a, b)
        value = function(middle, running)
        left = value < 0.0
        f_high[running] = np.where(left, np.where(side[running] == -1, 0.5 * fb, fb), value)
        f_low[running] = np.where(left, value, np.where(side[running] == 1, 0.5 * fa, fa))
        low[running], high[running] = np.where(left, middle, a), np.where(left, b, middle)
        side[running] = np.where(left, -1, 1)
        hit = np.abs(value) < 1e-10
        low[running[hit]] = high[running[hit]] = middle[hit]
    return np.asarray(0.5 * (low + high))
