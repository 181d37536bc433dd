"""Monte Carlo standard errors of what is computed from draws: moments, quantiles, shortest intervals, modes."""

from __future__ import annotations

import numpy as np

from bayeslmm.results.intervals import bandwidth, density, hdi, mode
from bayeslmm.types import FloatArray

# Draws that a batch needs at least, and how many batches at most; fewer draws than so many have no known error.
_BATCH, _BATCHES, _FEWEST = 100, 12, 40
# Draws that are this close together, relative to their size, have no density to speak of.
_NARROW = 1e-12
# Ends of shortest intervals come nearer to their limit with the number of draws to this power (measured; 1/3 for
# intervals whose width is flat in their place, 1/2 for quantiles).
_RATE = 0.37


def standard_errors(draws: FloatArray, level: float, kind: str, dependent: bool, inflation: float) -> dict[str, float]:
    """Standard errors of the summaries of a parameter.

    Parameters
    ----------
    draws : FloatArray, shape (S,)
        In the order of the chains.
    level : float
        Of the shortest interval.
    kind : {"sd", "corr", "sigma", "fixed"}
    dependent : bool
        Whether neighbouring draws are dependent, so that errors are measured on batches of them.
    inflation : float
        Factor on the errors of independent draws, for weights that are not equal.

    Returns
    -------
    dict
        ``mean``, ``sd``, ``median``, ``mode``, ``hdi_low``, ``hdi_high``; nan where there are too few draws.
    """
    size = draws.size
    if size < _FEWEST:
        return dict.fromkeys(("mean", "sd", "median", "mode", "hdi_low", "hdi_high"), np.nan)
    factor = inflation * (dependence(draws) if dependent else 1.0)
    low, high = interval_errors(draws, level, kind, factor)
    return {
        "mean": factor * _spread(draws) / np.sqrt(size),
        "sd": factor * _sd_error(draws),
        "median": quantile_error(draws, 0.5, factor),
        "mode": factor * mode_error(draws, kind),
        "hdi_low": low,
        "hdi_high": high,
    }


def effect_errors(draws: FloatArray, measured: str | float, dependent: bool, inflation: float) -> FloatArray:
    """Standard errors of one summary of many quantities.

    Parameters
    ----------
    draws : FloatArray, shape (S, ...)
        In the order of the chains.
    measured : {"mean", "sd"} or float
        The summary; a number is the probability of a quantile.
    dependent : bool
    inflation : float
        As in `standard_errors`.

    Returns
    -------
    FloatArray, shape (...)
    """
    out = np.empty(draws.shape[1:])
    for place in np.ndindex(*out.shape):
        own = draws[(slice(None), *place)]
        factor = inflation * (dependence(own) if dependent else 1.0)
        if own.size < _FEWEST:
            out[place] = np.nan
        elif measured == "mean":
            out[place] = factor * _spread(own) / np.sqrt(own.size)
        elif measured == "sd":
            out[place] = factor * _sd_error(own)
        else:
            out[place] = quantile_error(own, float(measured), factor)
    return out


def _spread(draws: FloatArray) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        return float(draws.std())


def _sd_error(draws: FloatArray) -> float:
    """Of independent draws, from their fourth moment."""
    spread = _spread(draws)
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = (draws - draws.mean()) / (spread if spread > 0 else 1.0)
        return float(spread * np.sqrt(max(float(np.mean(scaled**4)) - 1.0, 0.0) / (4.0 * draws.size)))


def dependence(draws: FloatArray) -> float:
    """Standard error of the mean over that of independent draws, by batches."""
    if draws.size < _FEWEST:
        return 1.0
    parts, spread = _batches(draws), float(draws.std())
    if spread == 0 or len(parts) < 2:
        return 1.0
    return float(max(parts.mean(axis=1).std(ddof=1) * np.sqrt(parts.shape[1]) / spread, 1.0))


def _batches(draws: FloatArray) -> FloatArray:
    count = int(np.clip(draws.size // _BATCH, 4, _BATCHES))
    return draws[: draws.size // count * count].reshape(count, -1)


def quantile_error(draws: FloatArray, probability: float, factor: float) -> float:
    """Half the distance of the order statistics one standard error of their number around a quantile."""
    size = draws.size
    half = factor * np.sqrt(probability * (1.0 - probability) / size)
    ends = np.quantile(draws, np.clip([probability - half, probability + half], 0.0, 1.0))
    return float(ends[1] - ends[0]) / 2.0


def interval_errors(draws: FloatArray, level: float, kind: str, factor: float) -> tuple[float, float]:
    """Errors of both ends of the shortest interval; an end of the parameter's range has none.

    The other end is then a quantile. Elsewhere both ends move along the range together, more than quantiles do: their
    spread over batches of draws says how much.
    """
    low, high = hdi(draws, level, kind)
    if kind in ("sd", "sigma") and low == 0:
        return 0.0, quantile_error(draws, level, factor)
    if kind == "corr" and (low == -1.0 or high == 1.0):
        found = quantile_error(draws, level if low == -1.0 else 1.0 - level, factor)
        return (0.0, found) if low == -1.0 else (found, 0.0)
    parts = _batches(draws)
    spread = np.std([hdi(part, level, kind) for part in parts], axis=0, ddof=1) * len(parts) ** -_RATE
    return float(spread[0]), float(spread[1])


def mode_error(draws: FloatArray, kind: str) -> float:
    """Standard deviation of the mode of a Gaussian kernel density, from its height and curvature there.

    References
    ----------
    Romano (1988), Annals of Statistics 16, 629-647.
    """
    place, width = mode(draws, kind), bandwidth(draws)
    if place == 0 and kind in ("sd", "sigma"):
        return 0.0
    spread = float(draws.std())
    if width <= _NARROW * abs(place):
        return spread
    heights = width * density(draws, kind, np.array([place - width, place, place + width]))
    bend = 2.0 * heights[1] - heights[0] - heights[2]
    noise = width * float(np.sqrt(heights[1] / (4.0 * np.sqrt(np.pi) * draws.size)))
    # A density that is flat there says no more than that the mode is somewhere within the draws.
    return min(noise / bend, spread) if bend > 0 else spread
