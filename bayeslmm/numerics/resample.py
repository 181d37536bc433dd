"""Weights and resampling."""

from __future__ import annotations

import numpy as np

from bayeslmm.types import FloatArray, IntArray


def normalised(log_weights: FloatArray) -> FloatArray:
    """Weights that sum to one."""
    weights = np.exp(log_weights - log_weights.max())
    return np.asarray(weights / weights.sum())


def kish(weights: FloatArray) -> float:
    """Kish's effective sample size of normalised weights."""
    return float(1.0 / np.sum(weights**2))


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
