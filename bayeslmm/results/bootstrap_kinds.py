"""Bootstrap intervals of one quantity from its draws, by each method."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import ndtr, ndtri

from bayeslmm.arguments import choice
from bayeslmm.errors import DesignError
from bayeslmm.types import FloatArray

KINDS = ("percentile", "basic", "norm", "bca", "shortest")
# As boot.ci of R calls them.
_ALSO = {"perc": "percentile", "normal": "norm", "BCa": "bca", "shortestcov": "shortest"}


def check_kind(kind: object) -> str:
    """The name of a method.

    Raises
    ------
    DesignError
    """
    known = _ALSO.get(kind) if isinstance(kind, str) else None
    return choice("kind", known or kind, KINDS, DesignError)


def interval(
    values: FloatArray,
    estimate: float,
    level: float,
    kind: str,
    ends: tuple[float, float] | None,
    acceleration: Callable[[], float],
) -> tuple[float, float]:
    """Ends of an interval, within the range of the quantity.

    Parameters
    ----------
    values : FloatArray, shape (m,)
        Finite draws.
    estimate : float
        What was simulated from.
    level : float
    kind : {"percentile", "basic", "norm", "bca", "shortest"}
    ends : tuple of float, optional
        The range.
    acceleration : callable
        Of BCa.

    References
    ----------
    Davison & Hinkley (1997), Bootstrap Methods and their Application, ch. 5; Efron (1987), J. Am. Stat. Assoc. 82,
    171-185.

    Examples
    --------
    >>> draws = np.array([1.0, 2.0, 3.0, 4.0, 10.0])
    >>> interval(draws, 3.0, 0.8, "shortest", None, lambda: 0.0)
    (1.0, 4.0)
    """
    if not values.size:
        return ends or (np.nan, np.nan)
    low, high = _raw(values, estimate, level, kind, acceleration)
    least, most = ends or (-np.inf, np.inf)
    return float(np.clip(low, least, most)), float(np.clip(high, least, most))


def _raw(
    values: FloatArray, estimate: float, level: float, kind: str, acceleration: Callable[[], float]
) -> tuple[float, float]:
    probabilities = np.array([0.5 - level / 2.0, 0.5 + level / 2.0])
    if kind == "shortest":
        return shortest(values, level)
    if kind == "norm":
        centre = 2.0 * estimate - values.mean()
        half = float(ndtri(probabilities[1])) * values.std(ddof=1) if values.size > 1 else np.nan
        return float(centre - half), float(centre + half)
    if kind == "bca":
        probabilities = _corrected(probabilities, values, estimate, acceleration())
        if not np.isfinite(probabilities).all():
            return np.nan, np.nan
    low, high = np.quantile(values, probabilities)
    if kind == "basic" and np.isfinite(estimate):
        low, high = 2.0 * estimate - high, 2.0 * estimate - low
    return float(low), float(high)


def shortest(values: FloatArray, level: float) -> tuple[float, float]:
    """The shortest interval between two draws that holds a share of at least `level` of all."""
    ordered = np.sort(values)
    # The product of a level and a number of draws is a whole number up to rounding.
    count = int(np.ceil(level * ordered.size - 1e-9 * ordered.size))
    widths = ordered[count - 1 :] - ordered[: ordered.size - count + 1]
    first = int(np.argmin(widths))
    return float(ordered[first]), float(ordered[first + count - 1])


def _corrected(probabilities: FloatArray, values: FloatArray, estimate: float, acceleration: float) -> FloatArray:
    """Probabilities of the quantiles of BCa; nan where all draws lie on one side of the estimate."""
    below = float((values < estimate).mean() + 0.5 * (values == estimate).mean())
    if not 0.0 < below < 1.0 or not np.isfinite(acceleration):
        return np.full(2, np.nan)
    bias = ndtri(below)
    shifted = bias + ndtri(probabilities)
    return np.asarray(ndtr(bias + shifted / (1.0 - acceleration * shifted)))


def acceleration_of(without: FloatArray) -> float:
    """Efron's acceleration from estimates (J,) without each group in turn; nan of them are left out."""
    influence = np.nanmean(without) - without[np.isfinite(without)]
    squares = float((influence**2).sum())
    return float((influence**3).sum() / (6.0 * squares**1.5)) if squares > 0 else 0.0
