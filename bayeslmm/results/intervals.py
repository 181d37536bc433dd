"""Posterior intervals and modes that respect the ends of a parameter's range."""

from __future__ import annotations

import numpy as np

from bayeslmm.types import FloatArray

_BOUNDS = {"sd": (0.0, np.inf), "sigma": (0.0, np.inf), "corr": (-1.0, 1.0), "fixed": (-np.inf, np.inf)}


def hdi(draws: FloatArray, level: float, kind: str) -> tuple[float, float]:
    """Shortest interval with the given mass; its end is the end of the range if the density falls from there.

    Parameters
    ----------
    draws : FloatArray, shape (S,)
    level : float
    kind : {"sd", "sigma", "corr", "fixed"}

    Returns
    -------
    tuple of float
        For an sd whose density is highest at 0 the lower end is exactly 0.
    """
    ordered = np.sort(draws)
    size = ordered.size
    inside = max(int(np.ceil(level * size)), 1)
    widths = ordered[inside - 1 :] - ordered[: size - inside + 1]
    # With draws whose density is flat or falling from the bound, the shortest sample interval starts among
    # the first few order statistics; from the bound it is hardly longer.
    k = int(np.argmin(widths))
    low, high = float(ordered[k]), float(ordered[k + inside - 1])
    lower, upper = _BOUNDS[kind]
    if np.isfinite(lower) and ordered[inside - 1] - lower <= (1.0 + 2.0 / np.sqrt(size)) * (high - low):
        return lower, float(ordered[inside - 1])
    if np.isfinite(upper) and upper - ordered[size - inside] <= (1.0 + 2.0 / np.sqrt(size)) * (high - low):
        return float(ordered[size - inside]), upper
    return low, high


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
    bandwidth = _scott(draws)
    # Binned, then smoothed; the bins reach beyond the grid so that mirrored draws count at its ends.
    margin = 4.5 * bandwidth
    edges = np.linspace(grid[0] - margin, grid[-1] + margin, 1601)
    centres = 0.5 * (edges[1:] + edges[:-1])
    counts = np.histogram(np.concatenate(mirrored), bins=edges)[0]
    kernel = np.exp(-0.5 * ((grid[:, None] - centres) / bandwidth) ** 2)
    total = kernel @ counts / (draws.size * bandwidth * np.sqrt(2 * np.pi))
    return np.where((grid >= lower) & (grid <= upper), total, 0.0)


def _scott(draws: FloatArray) -> float:
    spread = min(float(draws.std()), float(np.subtract(*np.percentile(draws, [75, 25]))) / 1.34)
    return float(1.06 * max(spread, 1e-300) * draws.size ** (-0.2))


def mode(draws: FloatArray, kind: str) -> float:
    """Mode of the kernel density."""
    low, high = np.percentile(draws, [0.0, 99.5])
    lower, _ = _BOUNDS[kind]
    start = lower if kind in ("sd", "sigma") else low
    grid = np.linspace(start, high, 401)
    return float(grid[np.argmax(density(draws, kind, grid))])
