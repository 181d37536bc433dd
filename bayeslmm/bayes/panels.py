"""Adaptive integration of many one-dimensional densities at once, by panels that are bisected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bayeslmm.types import FloatArray, IntArray

# Gauss-Legendre nodes of a panel; what is this far below the peak is nothing; relative error of a panel; bisections.
_NODES, _DEPTH, _SMALL, _ROUNDS = 12, 30.0, 1e-6, 60
# A panel is not resolved if its largest value, maybe at an end, would make it this much more than the whole.
_UNSEEN = 2.0
_PLACES, _WEIGHTS = np.polynomial.legendre.leggauss(_NODES)
_PLACES = np.concatenate([[-1.0], _PLACES, [1.0]])

# Log density at log sigma, at points given by number.
type LogDensity = Callable[[FloatArray, IntArray], FloatArray]


@dataclass(frozen=True)
class LineIntegral:
    """An integral over log sigma at each of K points.

    Attributes
    ----------
    log_integral, mean, sd : FloatArray, shape (K,)
        Of the integrand, and of log sigma under it.
    """

    log_integral: FloatArray
    mean: FloatArray
    sd: FloatArray


def integrate_panels(density: LogDensity, edges: FloatArray) -> LineIntegral:
    """Gauss-Legendre on panels, bisected until both halves say what the whole said."""
    size = edges.shape[0]
    low, high = edges[:, :-1].ravel(), edges[:, 1:].ravel()
    owner = np.repeat(np.arange(size), edges.shape[1] - 1)
    keep = high > low
    low, high, owner = low[keep], high[keep], owner[keep]
    whole = _panel(density, low, high, owner)
    done: list[tuple[IntArray, FloatArray]] = []
    for _ in range(_ROUNDS):
        middle = 0.5 * (low + high)
        both = _panel(density, np.append(low, middle), np.append(middle, high), np.append(owner, owner))
        left, right = both[: low.size], both[low.size :]
        merged = _merged(left, right)
        total = np.full(size, -np.inf)
        for rows, sums in [*done, (owner, merged)]:
            np.logaddexp.at(total, rows, sums[:, 0])
        within = merged[:, 1] + np.log(high - low) - total[owner]
        error = np.abs(np.expm1(whole[:, 0] - merged[:, 0])) * np.exp(merged[:, 0] - total[owner])
        settled = ((error < _SMALL) & (within < _UNSEEN)) | (within < -_DEPTH) | (merged[:, 1] == -np.inf)
        close = settled | (middle <= low) | (middle >= high)
        done.append((owner[close], merged[close]))
        split = ~close
        if not split.any():
            break
        low, high = np.append(low[split], middle[split]), np.append(middle[split], high[split])
        owner, whole = np.append(owner[split], owner[split]), np.concatenate([left[split], right[split]])
    return _summed(done, size)


def _merged(left: FloatArray, right: FloatArray) -> FloatArray:
    """What `_panel` gives of two halves, (M, 4), of both together."""
    log_integral = np.logaddexp(left[:, 0], right[:, 0])
    share = np.exp(left[:, 0] - log_integral)
    share = np.where(np.isnan(share), 0.5, share)
    mean = share * left[:, 2] + (1.0 - share) * right[:, 2]
    variance = (
        share * left[:, 3] + (1.0 - share) * right[:, 3] + share * (1.0 - share) * (left[:, 2] - right[:, 2]) ** 2
    )
    return np.stack([log_integral, np.maximum(left[:, 1], right[:, 1]), mean, variance], axis=1)


def _panel(density: LogDensity, low: FloatArray, high: FloatArray, owner: IntArray) -> FloatArray:
    """Log integral, largest value (ends included), mean and variance of log sigma of every panel, (M, 4)."""
    half = 0.5 * (high - low)
    z = (0.5 * (high + low))[:, None] + half[:, None] * _PLACES
    values = density(z.ravel(), np.repeat(owner, _PLACES.size)).reshape(z.shape)
    values = np.where(np.isnan(values), -np.inf, values)
    largest, top = values.max(axis=1), values[:, 1:-1].max(axis=1)
    safe = np.where(np.isfinite(top), top, 0.0)
    mass = np.exp(values[:, 1:-1] - safe[:, None]) * _WEIGHTS
    total, inner = mass.sum(1), z[:, 1:-1]
    share = mass / np.where(total > 0, total, 1.0)[:, None]
    mean = (share * inner).sum(1)
    variance = (share * (inner - mean[:, None]) ** 2).sum(1)
    return np.stack([safe + np.log(total) + np.log(half), largest, mean, variance], axis=1)


def _summed(done: Sequence[tuple[IntArray, FloatArray]], size: int) -> LineIntegral:
    owner = np.concatenate([rows for rows, _ in done])
    sums = np.concatenate([values for _, values in done])
    total = np.full(size, -np.inf)
    np.logaddexp.at(total, owner, sums[:, 0])
    share = np.exp(sums[:, 0] - total[owner])
    share = np.where(np.isnan(share), 0.0, share)
    mean = np.bincount(owner, share * sums[:, 2], size)
    variance = np.bincount(owner, share * (sums[:, 3] + (sums[:, 2] - mean[owner]) ** 2), size)
    return LineIntegral(total, mean, np.sqrt(variance))
