"""Weights and resampling."""

from __future__ import annotations

import numpy as np

from bayeslmm.types import FloatArray, IntArray

# Beyond this the tail of the weights is too heavy for their mean to be trusted ...
_GOOD_K = 0.7
# ... unless no weight stands out: k can be large for weights that are bounded.
_LARGE_WEIGHT = 20.0
_LEAST_EFFICIENT = 0.05


def normalised(log_weights: FloatArray) -> FloatArray:
    """Weights that sum to one; nan if all are zero."""
    if not log_weights.max() > -np.inf:
        return np.full(log_weights.shape, np.nan)
    weights = np.exp(log_weights - log_weights.max())
    return np.asarray(weights / weights.sum())


def kish(weights: FloatArray) -> float:
    """Kish's effective sample size of normalised weights."""
    return float(1.0 / np.sum(weights**2))


def trustworthy(pareto_k: float, largest: float, efficiency: float) -> bool:
    """Whether means under importance weights can be relied on.

    Parameters
    ----------
    pareto_k : float
        Shape of the tail of the weights.
    largest : float
        Largest weight in units of their mean.
    efficiency : float
        Kish's effective size over the number of weights.

    References
    ----------
    Vehtari, Simpson, Gelman, Yao & Gabry (2024), JMLR 25(72), for the limit of k.
    """
    heavy = pareto_k > _GOOD_K and largest > _LARGE_WEIGHT
    return not heavy and efficiency >= _LEAST_EFFICIENT


def systematic(weights: FloatArray, size: int, rng: np.random.Generator) -> IntArray:
    """Systematic resampling: indices (size,) in random order, each drawn about ``size * weight`` times.

    Raises
    ------
    ValueError
        Some weight is not finite.
    """
    places = (rng.random() + np.arange(size)) / size
    if not np.isfinite(weights).all():
        raise ValueError("weights are not finite: every draw would be the same")
    cumulative = np.cumsum(weights)
    cumulative[-1] = 1.0
    return np.asarray(rng.permutation(np.searchsorted(cumulative, places, side="right")))
