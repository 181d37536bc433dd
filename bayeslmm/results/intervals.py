"""Posterior intervals and modes that respect the ends of a parameter's range."""

from __future__ import annotations

import numpy as np

from bayeslmm.arguments import level as probability
from bayeslmm.errors import DesignError
from bayeslmm.types import FloatArray

_BOUNDS = {
    "sd": (0.0, np.inf),
    "sigma": (0.0, np.inf),
    "corr": (-1.0, 1.0),
    # Draws are within the ranges, none of which is closed.
    "residual": (-np.inf, np.inf),
    "fixed": (-np.inf, np.inf),
}


def check_level(level: float) -> float:
    """The level, if it is a probability; of an array without axes its number.

    Raises
    ------
    DesignError
        No number, or not strictly between 0 and 1.
    """
    return probability("level", level, DesignError)


def near_end(correlation: float) -> str:
    """A correlation at the end of its range, or how far from it.

    Examples
    --------
    >>> near_end(-1.0), near_end(7e-13 - 1.0)
    ('-1', 'within 7e-13 of -1')
    """
    end = f"{np.sign(correlation):.0f}"
    return end if abs(correlation) >= 1.0 else f"within {1.0 - abs(correlation):.1g} of {end}"


def check_range(values: FloatArray, kind: str, label: str) -> None:
    """Refuse values that a parameter of this kind cannot take.

    Raises
    ------
    DesignError
        Some value is not finite or outside the range; sigma must be positive.
    """
    lower, upper = _BOUNDS[kind]
    if not np.isfinite(values).all():
        raise DesignError(f"{label} cannot be {values[~np.isfinite(values)][0]:g}: give finite numbers.")
    inside = (values >= lower) & (values <= upper)
    if kind == "sigma":
        inside &= values > 0
    if not inside.all():
        end = "-1 to 1" if kind == "corr" else "positive" if kind == "sigma" else "0 or more"
        raise DesignError(f"{label} cannot be {values[~inside][0]:g}; its values are {end}.")


def hdi(draws: FloatArray, level: float, kind: str) -> tuple[float, float]:
    """Shortest interval with the given mass; it starts at the end of the range if the density asks for that.

    Parameters
    ----------
    draws : FloatArray, shape (S,)
    level : float
    kind : {"sd", "corr", "sigma", "fixed"}

    Returns
    -------
    tuple of float
        For an sd whose density at 0 is no lower than at the upper end, the lower end is exactly 0.
    """
    ordered = np.sort(draws)
    size = ordered.size
    inside = max(int(np.ceil(level * size)), 1)
    lower, upper = _BOUNDS[kind]
    low, high = float(ordered[size - inside]), float(ordered[inside - 1])
    if _ends_at(lower, high, ordered, kind):
        return lower, high
    if _ends_at(upper, low, ordered, kind):
        return low, upper
    k = int(np.argmin(ordered[inside - 1 :] - ordered[: size - inside + 1]))
    return float(ordered[k]), float(ordered[k + inside - 1])


def _ends_at(bound: float, other: float, draws: FloatArray, kind: str) -> bool:
    # The shortest sample interval cannot tell: draws never equal the bound, and where the density has about the
    # same height at both ends its place is mostly noise. Density at the two ends decides.
    if not np.isfinite(bound) or bandwidth(draws) < 1e-12 * (abs(other) + abs(float(draws[0]))):
        return False
    at = dict(zip(sorted((bound, other)), density(draws, kind, np.sort([bound, other])), strict=False))
    # Far from narrow posteriors both underflow to zero.
    return bool(at[bound] >= at[other] > 0.0)


def density(draws: FloatArray, kind: str, grid: FloatArray) -> FloatArray:
    """Kernel density on a grid, reflected at the ends of the parameter's range.

    Parameters
    ----------
    draws : FloatArray, shape (S,)
    kind : str
    grid : FloatArray, shape (G,)
    """
    lower, upper = _BOUNDS[kind]
    mirrored = [draws]
    if np.isfinite(lower):
        mirrored.append(2 * lower - draws)
    if np.isfinite(upper):
        mirrored.append(2 * upper - draws)
    smoothing = bandwidth(draws)
    # Binned, then smoothed; the bins reach beyond the grid so that mirrored draws count at its ends.
    margin = 4.5 * smoothing
    edges = np.linspace(grid[0] - margin, grid[-1] + margin, 1601)
    centres = 0.5 * (edges[1:] + edges[:-1])
    counts = np.histogram(np.concatenate(mirrored), bins=edges)[0]
    kernel = np.exp(-0.5 * ((grid[:, None] - centres) / smoothing) ** 2)
    total = kernel @ counts / (draws.size * smoothing * np.sqrt(2 * np.pi))
    return np.where((grid >= lower) & (grid <= upper), total, 0.0)


def bandwidth(draws: FloatArray) -> float:
    """Of the kernel of `density`."""
    spread = min(float(draws.std()), float(np.subtract(*np.percentile(draws, [75, 25]))) / 1.34)
    return float(1.06 * max(spread, 1e-300) * draws.size ** (-0.2))


def mode(draws: FloatArray, kind: str) -> float:
    """Mode of the kernel density; the lower end of the range if the density there is the highest to sampling error."""
    low, first, third, high = np.percentile(draws, [0.0, 25.0, 75.0, 99.5])
    if first == third:
        # Half of the draws are one number.
        return float(first)
    lower, _ = _BOUNDS[kind]
    start = lower if kind in ("sd", "sigma") else low
    grid = np.linspace(start, high, 401)
    height = density(draws, kind, grid)
    top = int(np.argmax(height))
    # Variance of a Gaussian kernel estimate at a point; twice that where it is reflected.
    error = np.sqrt(height[top] / (np.sqrt(np.pi) * draws.size * max(bandwidth(draws), 1e-300)))
    if start == lower and height[0] >= height[top] - 2.0 * error:
        return float(lower)
    return float(grid[top])
