"""Quantiles of many rows of draws at once, from their tails alone."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from bayeslmm.types import BoolArray, FloatArray

# Of the draws beyond the quantile so many times as many, and at least so many more, are meant to be in a tail.
_MORE, _FEWEST = 1.5, 30
# Values looked at together: they and a few arrays of their size stay in a cache.
_CHUNK = 250_000
# Draws of a row that its limits are found from.
_ENOUGH = 500


def two_quantiles(draws: FloatArray, probability: float) -> FloatArray:
    """Quantiles (n, 2) at `probability` and at one less it of every row of draws (n, S), as `numpy.quantile` has them.

    Only the values beyond a limit are ordered, where a normal distribution would have some more than needed. Rows that
    have too few there are ordered whole. No draw may be nan.

    Examples
    --------
    >>> draws = np.random.default_rng(0).standard_normal((3, 1000))
    >>> np.allclose(two_quantiles(draws, 0.025), np.quantile(draws, [0.025, 0.975], axis=1).T)
    True
    """
    n, S = draws.shape
    below = probability * (S - 1)
    wanted = max(_MORE * (below + 2.0), below + _FEWEST)
    out = np.empty((n, 2))
    if wanted > 0.25 * S:
        out[:] = np.quantile(draws, [probability, 1.0 - probability], axis=1).T
        return out
    reach = -float(ndtri(wanted / S))
    every = max(1, S // _ENOUGH)
    step = max(1, _CHUNK // S)
    for start in range(0, n, step):
        part = draws[start : start + step]
        some = part[:, ::every]
        mean, far = some.mean(axis=1), reach * some.std(axis=1)
        lower, at_lower = _lowest(part, part < (mean - far)[:, None], 1.0, below)
        upper, at_upper = _lowest(part, part > (mean + far)[:, None], -1.0, below)
        found = np.column_stack([lower, -upper])
        lost = np.flatnonzero(~(at_lower & at_upper))
        if lost.size:
            found[lost] = np.quantile(part[lost], [probability, 1.0 - probability], axis=1).T
        out[start : start + step] = found
    return out


def _lowest(values: FloatArray, tail: BoolArray, sign: float, place: float) -> tuple[FloatArray, BoolArray]:
    """What `sign` times a tail has at a place, counted from the lowest and interpolated; whether it reaches there."""
    places = np.flatnonzero(tail)
    counts = np.diff(np.searchsorted(places, np.arange(len(tail) + 1) * tail.shape[1]))
    first = int(place)
    enough = counts >= first + 2
    width = max(int(counts.max(initial=0)), first + 2)
    tails = np.full((counts.size, width), np.inf)
    tails[np.arange(width) < counts[:, None]] = sign * values.ravel()[places]
    tails.partition([first, first + 1], axis=1)
    low, high = tails[:, first], tails[:, first + 1]
    with np.errstate(invalid="ignore"):
        return low + (high - low) * (place - first), enough
