"""The studentised range: what Tukey's adjustment for all pairs of means asks for, by fixed rules.

SciPy's ``studentized_range`` has the same numbers and takes 12 ms for a probability and 200 ms for a quantile; a
table of six pairs would cost 300 ms.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.special import gammainccinv, gammaincinv, gammaln, ndtr

from bayeslmm.types import FloatArray

# Nodes for the location of the largest mean (and for each of the means), and for the estimated standard deviation.
_LOCATIONS, _EACH, _SCALES = 48, 6, 48
_FAR = 8.5
# Degrees of freedom from which on the density of the standard deviation is smooth at zero for any rule.
_SMOOTH = 8.0
_TAIL = 1e-17


def upper(q: FloatArray, k: int, df: FloatArray) -> FloatArray:
    """P(Q > q) of the range of k means over their standard error.

    Parameters
    ----------
    q, df : FloatArray, shape (m,)
    k : int

    Returns
    -------
    FloatArray, shape (m,)

    Examples
    --------
    >>> from scipy.stats import studentized_range
    >>> found, scipys = upper(np.array([3.5]), 4, np.array([12.3]))[0], studentized_range.sf(3.5, 4, 12.3)
    >>> bool(abs(found - scipys) < 1e-9)
    True
    """
    out = np.empty(len(q))
    for i, (own, nu) in enumerate(zip(np.abs(q), df, strict=True)):
        if not np.isfinite(own) or not nu > 0:
            out[i] = 0.0 if np.isinf(own) else np.nan
            continue
        s, weights = _scales(float(nu))
        out[i] = np.clip(weights @ (1.0 - _range(own * s, k)), 0.0, 1.0)
    return out


@lru_cache(maxsize=256)
def critical(level: float, k: int, df: float) -> float:
    """Q with P(Q <= q) = level."""
    from scipy.optimize import brentq

    if not df > 0:
        return float("nan")
    nu, top = np.array([df]), 8.0
    while upper(np.array([top]), k, nu)[0] > 1.0 - level:
        top *= 2.0
    return float(brentq(lambda q: upper(np.array([q]), k, nu)[0] - (1.0 - level), 0.0, top, xtol=1e-10, rtol=1e-12))


def _range(w: FloatArray, k: int) -> FloatArray:
    """P(range of k standard normals <= w)."""
    z, weights = _locations(_LOCATIONS + _EACH * k)
    inside = ndtr(z) - ndtr(z - w[:, None])
    return np.asarray(k * (inside ** (k - 1)) @ weights)


@lru_cache(maxsize=16)
def _locations(nodes: int) -> tuple[FloatArray, FloatArray]:
    x, w = np.polynomial.legendre.leggauss(nodes)
    z = _FAR * x
    return z, _FAR * w * np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi)


@lru_cache(maxsize=128)
def _scales(df: float) -> tuple[FloatArray, FloatArray]:
    """Nodes and weights for the square root of a chi-square over its degrees of freedom."""
    if np.isinf(df):
        return np.ones(1), np.ones(1)
    half = 0.5 * df
    low, high = np.sqrt(gammaincinv(half, _TAIL) / half), np.sqrt(gammainccinv(half, _TAIL) / half)
    x, w = np.polynomial.legendre.leggauss(_SCALES)
    # The density is a power of s near zero, of any exponent above -1: powers of the nodes make it smooth.
    power = 1 if df > _SMOOTH else 4
    v = 0.5 * (x + 1.0)
    s = low + (high - low) * v**power
    w = w * power * v ** (power - 1)
    log = np.log(2.0) + half * np.log(half) - gammaln(half) + (df - 1.0) * np.log(s) - half * s**2
    return s, 0.5 * (high - low) * w * np.exp(log)
