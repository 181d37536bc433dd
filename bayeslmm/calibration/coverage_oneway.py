"""One-way layouts, balanced or not, for thousands of responses at once: estimates, profiles, likelihood on a grid.

Everything is a function of the group means and the sum of squares within groups. With ``a_i = sigma^2 + n_i s^2`` the
means are independent N(mu, a_i / n_i), so that -2 log likelihood is

    (n - J) log sigma^2 + SSE / sigma^2 + sum log a_i + sum n_i (mean_i - mu)^2 / a_i [+ log sum n_i / a_i for REML].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import fdtri

from bayeslmm.calibration.coverage_cells import Cell
from bayeslmm.calibration.coverage_marginals import Ends
from bayeslmm.calibration.coverage_roots import likelihood_ends
from bayeslmm.types import BoolArray, FloatArray, IntArray

_NODES, _HALVINGS = 81, 60
_INNER_NODES, _INNER_HALVINGS = 13, 26


@dataclass(frozen=True)
class OneWay:
    """K responses of one layout, reduced. Groups of the same size are taken together.

    Attributes
    ----------
    sizes, counts : FloatArray, shape (D,)
        Distinct group sizes, and how many groups have them.
    first, second : FloatArray, shape (K, D)
        Sums of the group means, and of their squares, less `shift`.
    within : FloatArray, shape (K,)
        SSE.
    shift : FloatArray, shape (K,)
        Mean of all observations.
    variance : FloatArray, shape (K,)
        Sample variance of all observations.
    """

    sizes: FloatArray
    counts: FloatArray
    first: FloatArray
    second: FloatArray
    within: FloatArray
    shift: FloatArray
    variance: FloatArray

    @property
    def n(self) -> int:
        """Observations."""
        return int(self.sizes @ self.counts)

    @property
    def groups(self) -> int:
        """J."""
        return int(self.counts.sum())

    def part(self, rows: slice | IntArray | BoolArray) -> OneWay:
        """Some of the responses."""
        own = (self.first, self.second, self.within, self.shift, self.variance)
        return OneWay(self.sizes, self.counts, *(values[rows] for values in own))

    def between(self, v: FloatArray, w: FloatArray, slopes: bool = True) -> Between:
        """What the criteria need of the means at ``sigma^2 = v`` and ``s^2 = w``, arrays (K, ...)."""
        extra = (slice(None),) + (None,) * (v.ndim - 1)
        log_det = info = m1 = m2 = np.zeros(1)
        parts = []
        for size, count, y1, y2 in zip(self.sizes, self.counts, self.first.T, self.second.T, strict=True):
            a = v + size * w
            precision = size / a
            if slopes:
                parts.append((a, precision, count, y1[extra], y2[extra]))
            log_det = log_det + count * np.log(a)
            info = info + count * precision
            m1 = m1 + precision * y1[extra]
            m2 = m2 + precision * y2[extra]
        return Between(log_det, info, m1 / info, m2 - m1**2 / info, parts)

    def deviance(self, v: FloatArray, w: FloatArray, reml: bool) -> FloatArray:
        """-2 log likelihood less its constant at ``sigma^2 = v`` and ``s^2 = w``, arrays (K, ...)."""
        between = self.between(v, w)
        within = self.within.reshape(-1, *([1] * (v.ndim - 1)))
        total = (self.n - self.groups) * np.log(v) + within / v + between.log_det + between.squares
        return np.asarray(total + np.log(between.info) if reml else total)


@dataclass(frozen=True)
class Between:
    """Of the group means: ``sum log a``, ``sum n / a``, the mean, squares about it, and the parts by group size."""

    log_det: FloatArray
    info: FloatArray
    mean: FloatArray
    squares: FloatArray
    parts: list[tuple[FloatArray, FloatArray, float, FloatArray, FloatArray]]

    def slope_v(self, reml: bool) -> FloatArray:
        """Derivative in ``sigma^2`` of what the means contribute to -2 log likelihood."""
        return self._slope(reml, False)

    def slope_w(self, reml: bool) -> FloatArray:
        """Derivative in ``s^2``."""
        return self._slope(reml, True)

    def _slope(self, reml: bool, by_size: bool) -> FloatArray:
        total = inner = np.zeros(1)
        for a, precision, count, y1, y2 in self.parts:
            factor = precision if by_size else 1.0 / a
            squares = y2 - 2.0 * self.mean * y1 + count * self.mean**2
            total = total + factor * (count - precision * squares)
            inner = inner + count * factor * precision
        return np.asarray(total - inner / self.info if reml else total)


@dataclass(frozen=True)
class Estimates:
    """REML or ML estimates, each (K,): squares of sd and sigma, the criterion."""

    w: FloatArray
    v: FloatArray
    criterion: FloatArray


def reduce(cell: Cell, Y: FloatArray) -> OneWay:
    """Sufficient statistics of responses (n, K), group after group."""
    sizes = cell.sizes
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    shift = Y.mean(axis=0)
    residual = Y - shift
    means = np.add.reduceat(residual, starts, axis=0) / sizes[:, None]
    within = ((residual - np.repeat(means, sizes, axis=0)) ** 2).sum(axis=0)
    distinct, codes = np.unique(sizes, return_inverse=True)
    member = (codes == np.arange(distinct.size)[:, None]).astype(float)
    return OneWay(
        distinct.astype(float),
        member.sum(axis=1),
        (member @ means).T,
        (member @ means**2).T,
        within,
        shift,
        (residual**2).sum(axis=0) / (Y.shape[0] - 1),
    )


def estimate(data: OneWay, reml: bool) -> Estimates:
    """Minimise the criterion over the ratio ``s^2 / sigma^2``: the best node of a grid, then halving on the slope."""
    K, nu = data.within.size, data.n - int(reml)
    ratio = np.sinh(np.linspace(0.0, 6.0, _NODES)) ** 2 / data.sizes.max()
    value, _ = _ratio_profile(data, np.broadcast_to(ratio, (K, _NODES)), nu, reml)
    best = np.argmin(value, axis=1)
    low, high = ratio[np.maximum(best - 1, 0)], ratio[np.minimum(best + 1, _NODES - 1)]
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        rising = _ratio_profile(data, middle, nu, reml)[1] > 0
        low, high = np.where(rising, low, middle), np.where(rising, middle, high)
    at_zero = (best <= 1) & (_ratio_profile(data, np.zeros(K), nu, reml)[1] >= 0)
    found = np.where(at_zero, 0.0, 0.5 * (low + high))
    between = data.between(np.ones(K), found)
    v = (data.within + between.squares) / nu
    w = found * v
    return Estimates(w, v, data.deviance(v, w, reml))


def _ratio_profile(data: OneWay, ratio: FloatArray, nu: int, reml: bool) -> tuple[FloatArray, FloatArray]:
    """Criterion with sigma profiled out, and its slope, at ratios (K, ...)."""
    between = data.between(np.ones_like(ratio), ratio)
    r2 = data.within.reshape(-1, *([1] * (ratio.ndim - 1))) + between.squares
    value = nu * np.log(r2) + between.log_det + (np.log(between.info) if reml else 0.0)
    total = inner = squares = np.zeros(1)
    for _, precision, count, y1, y2 in between.parts:
        squares = squares + precision**2 * (y2 - 2.0 * between.mean * y1 + count * between.mean**2)
        total = total + count * precision
        inner = inner + count * precision**2
    slope = total - nu * squares / r2 - (inner / between.info if reml else 0.0)
    return value, slope


def profile(data: OneWay, s: FloatArray, reml: bool) -> FloatArray:
    """Least -2 log likelihood (K,) over sigma with the sd held at s (K,)."""
    w = s**2
    low = 0.5 * np.log(data.within / data.n) - 1.0
    high = 0.5 * np.log(data.variance) + 0.7
    nodes = low[:, None] + (high - low)[:, None] * np.linspace(0.0, 1.0, _INNER_NODES)
    best = np.argmin(data.deviance(np.exp(2.0 * nodes), np.repeat(w[:, None], _INNER_NODES, axis=1), reml), axis=1)
    rows = np.arange(s.size)
    low, high = nodes[rows, np.maximum(best - 1, 0)], nodes[rows, np.minimum(best + 1, _INNER_NODES - 1)]
    for _ in range(_INNER_HALVINGS):
        middle = 0.5 * (low + high)
        v = np.exp(2.0 * middle)
        slope = (data.n - data.groups) / v - data.within / v**2 + data.between(v, w).slope_v(reml)
        low, high = np.where(slope > 0, low, middle), np.where(slope > 0, middle, high)
    return data.deviance(np.exp(low + high), w, reml)


def profile_ends(data: OneWay, reml: bool, level: float) -> Ends:
    """Where the profile of the sd is the chi-square quantile above its minimum; 0 where it is not below the optimum."""
    best = estimate(data, reml)

    def height(s: FloatArray, rows: IntArray) -> FloatArray:
        return profile(data.part(rows), s, reml) - best.criterion[rows]

    return likelihood_ends(height, np.sqrt(best.w), np.sqrt(data.variance / data.sizes.mean()), level)


def pivot_ends(data: OneWay, level: float) -> Ends:
    """Exact interval for ``s / sigma``: F quantiles of the pivot, which falls with the ratio, inverted; cut off at 0.

    Where even a ratio of 0 is too large for the data no ratio is in the interval: nan.

    References
    ----------
    Wald (1940), Annals of Mathematical Statistics 11, 96-99; Harville & Fenech (1985), Biometrics 41, 137-152.
    """
    r, f = data.groups - 1, data.n - data.groups
    mean_square = data.within / f
    high, low = (fdtri(r, f, p) * r * mean_square for p in (0.5 * (1.0 + level), 0.5 * (1.0 - level)))
    zero = np.zeros(data.within.size)
    empty = data.between(zero + 1.0, zero).squares < low
    ends = [np.sqrt(_invert_pivot(data, target)) for target in (high, low)]
    return np.where(empty, np.nan, ends[0]), np.where(empty, np.nan, ends[1])


def _invert_pivot(data: OneWay, target: FloatArray) -> FloatArray:
    """Ratios ``s^2 / sigma^2`` (K,) at which the squares of the means are `target`; 0 where they never are as large."""
    one = np.ones(target.size)
    # Squares are at most those at ratio 0 over (1 + ratio min n).
    high = data.between(one, 0.0 * one).squares / (target * data.sizes.min())
    low = np.zeros(target.size)
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        above = data.between(one, middle).squares > target
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.where(data.between(one, 0.0 * one).squares <= target, 0.0, 0.5 * (low + high))
