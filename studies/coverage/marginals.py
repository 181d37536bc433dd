"""Intervals from many gridded densities at once: quantiles, shortest intervals, mixtures of normals."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import ndtr

from bayeslmm.types import FloatArray

type Ends = tuple[FloatArray, FloatArray]

# Halvings after which an end is exact to rounding in units of a cell of the grid, or of the whole range.
_IN_CELL, _IN_RANGE = 40, 45
_NEWTON = 60


@dataclass(frozen=True)
class Marginals:
    """Densities of one sd in K posteriors, on the grid ``s = scale sinh(x)``.

    Attributes
    ----------
    x : FloatArray, shape (G,)
        Equally spaced from 0.
    scale : FloatArray, shape (K,)
    mass : FloatArray, shape (K, G)
        Density in x, up to a factor. It is even in x.
    """

    x: FloatArray
    scale: FloatArray
    mass: FloatArray

    @cached_property
    def cdf(self) -> FloatArray:
        """Distribution function at the nodes (K, G): cumulative trapezoids with the correction by end slopes."""
        h, f, slope = self.x[1] - self.x[0], self._density, self._slope
        cells = 0.5 * h * (f[:, 1:] + f[:, :-1]) - h**2 / 12.0 * (slope[:, 1:] - slope[:, :-1])
        return np.concatenate([np.zeros((f.shape[0], 1)), np.cumsum(np.maximum(cells, 0.0), axis=1)], axis=1)

    @cached_property
    def _density(self) -> FloatArray:
        h = self.x[1] - self.x[0]
        total = h * (self.mass.sum(axis=1) - 0.5 * self.mass[:, 0])
        return np.asarray(self.mass / total[:, None])

    @cached_property
    def _slope(self) -> FloatArray:
        """Fourth-order differences; the density is even at the left end and nothing at the right."""
        f = self._density
        f = np.concatenate([f[:, 2:0:-1], f, np.zeros((f.shape[0], 2))], axis=1)
        h = self.x[1] - self.x[0]
        return np.asarray((8.0 * (f[:, 3:-1] - f[:, 1:-3]) - (f[:, 4:] - f[:, :-4])) / (12.0 * h))

    def quantile(self, p: FloatArray) -> FloatArray:
        """Place x (K,) below which there is the mass p (K,)."""
        cdf = self.cdf
        p = np.clip(p, 0.0, cdf[:, -1])
        cell = np.minimum((cdf <= p[:, None]).sum(axis=1) - 1, self.x.size - 2)
        rows, h = np.arange(p.size), self.x[1] - self.x[0]
        left, right = cdf[rows, cell], cdf[rows, cell + 1]
        slopes = h * self._density[rows, cell], h * self._density[rows, cell + 1]
        low, high = np.zeros(p.size), np.ones(p.size)
        for _ in range(_IN_CELL):
            middle = 0.5 * (low + high)
            below = _hermite(middle, left, right, *slopes) < p
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return np.asarray(self.x[cell] + h * 0.5 * (low + high))

    def below(self, x: FloatArray) -> FloatArray:
        """Mass below the places x (K,)."""
        return self._interpolate(x, self.cdf, self._density)

    def height(self, x: FloatArray) -> FloatArray:
        """Density in s (times the scale) at the places x (K,)."""
        return np.asarray(self._interpolate(x, self._density, self._slope) / np.cosh(x))

    def _interpolate(self, x: FloatArray, values: FloatArray, slopes: FloatArray) -> FloatArray:
        h = self.x[1] - self.x[0]
        cell = np.clip((x / h).astype(int), 0, self.x.size - 2)
        rows = np.arange(x.size)
        return _hermite(
            x / h - cell,
            values[rows, cell],
            values[rows, cell + 1],
            h * slopes[rows, cell],
            h * slopes[rows, cell + 1],
        )

    def sd(self, x: FloatArray) -> FloatArray:
        """The sd at the places x (K,)."""
        return np.asarray(self.scale * np.sinh(x))

    def equal_tailed(self, level: float) -> Ends:
        """Interval with the same mass above and below."""
        p = np.full(self.scale.size, 0.5 * (1.0 - level))
        return self.sd(self.quantile(p)), self.sd(self.quantile(1.0 - p))

    def hdi(self, level: float) -> Ends:
        """Shortest interval in s: from 0 where the density there is no lower than at the upper end."""
        zero = np.zeros(self.scale.size)
        high = self.quantile(zero + level)
        at_zero = self.height(zero) >= self.height(high)
        low_p, high_p = zero, zero + (1.0 - level)
        for _ in range(_IN_RANGE):
            middle = 0.5 * (low_p + high_p)
            rising = self.height(self.quantile(middle)) < self.height(self.quantile(middle + level))
            low_p, high_p = np.where(rising, middle, low_p), np.where(rising, high_p, middle)
        low_p = np.where(at_zero, 0.0, 0.5 * (low_p + high_p))
        low = np.where(at_zero, 0.0, self.sd(self.quantile(low_p)))
        return low, self.sd(self.quantile(low_p + level))


def _hermite(t: FloatArray, left: FloatArray, right: FloatArray, rise: FloatArray, last: FloatArray) -> FloatArray:
    """Cubic through two values with slopes, at t in [0, 1]."""
    change = right - left
    return np.asarray(left + t * (rise + t * (3 * change - 2 * rise - last + t * (rise + last - 2 * change))))


def mixture_quantile(weights: FloatArray, means: FloatArray, sds: FloatArray, p: float) -> FloatArray:
    """Quantiles of K mixtures of normal distributions, by Newton's method inside a shrinking bracket.

    Parameters
    ----------
    weights, means, sds : FloatArray, shape (K, M)
        Weights sum to 1 in every row.
    p : float

    Returns
    -------
    FloatArray, shape (K,)
    """
    centre = (weights * means).sum(axis=1)
    spread = np.sqrt((weights * (sds**2 + (means - centre[:, None]) ** 2)).sum(axis=1))
    # Chebyshev's inequality bounds every quantile.
    reach = spread / np.sqrt(min(p, 1.0 - p))
    low, high = centre - reach, centre + reach
    q = centre + (1.8 if p > 0.5 else -1.8) * spread
    for _ in range(_NEWTON):
        z = (q[:, None] - means) / sds
        excess = (weights * ndtr(z)).sum(axis=1) - p
        slope = (weights / sds * np.exp(-0.5 * z**2)).sum(axis=1) / np.sqrt(2.0 * np.pi)
        low, high = np.where(excess < 0, q, low), np.where(excess < 0, high, q)
        step = q - excess / np.maximum(slope, 1e-300)
        new = np.where((step > low) & (step < high), step, 0.5 * (low + high))
        if (np.abs(new - q) <= 1e-9 * spread).all():
            return np.asarray(new)
        q = new
    return q
