"""Correlations that fall with the distance in order: the autoregression of order 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from bayeslmm.arguments import shown, whole
from bayeslmm.design.covariance.contract import NO_RANK, CovarianceStructure
from bayeslmm.design.covariance.entries import Diagonal
from bayeslmm.design.covariance.products import Products
from bayeslmm.errors import DesignError
from bayeslmm.types import FloatArray, IntArray


class Autoregression(Products):
    """The correlation of neighbours is the sine of an angle, so that a perfect one is an ordinary point."""

    ordered: ClassVar[bool] = True
    pymc_root: ClassVar[str] = "autoregression_factor"
    shapes_tried: ClassVar[tuple[float, ...]] = (0.0, 0.6, 1.2, -0.6)

    @property
    def _order(self) -> IntArray:
        """Times (c,) of the effects."""
        return np.arange(self.size)

    @cached_property
    def _lags(self) -> IntArray:
        return np.abs(self._order[:, None] - self._order)

    def root(self, w: FloatArray) -> FloatArray:
        angle, steps = w[..., 0, None, None], np.diff(self._order)
        root = np.tril(np.sin(angle) ** self._lags)
        # 1 - rho^(2 d) without cancellation.
        shares = np.array([(np.arange(steps.max(initial=1)) < d) for d in steps]).T
        sums = ((np.sin(angle) ** 2) ** np.arange(steps.max(initial=1))) @ shares
        root[..., 1:] *= np.cos(angle) * np.sqrt(sums)
        return np.asarray(root)

    def _powers(self, w: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """R and its first two derivatives in the angle, each (..., c, c)."""
        lags, angle = self._lags, w[..., 0, None, None]
        rho, slope = np.sin(angle), np.cos(angle)
        once = lags * rho ** np.maximum(lags - 1, 0)
        twice = lags * (lags - 1) * rho ** np.maximum(lags - 2, 0)
        return rho**lags, once * slope, twice * slope**2 - once * rho

    def by_correlation(self, correlations: FloatArray) -> tuple[FloatArray, FloatArray]:
        rho, lags = correlations[..., None], self._lags
        return rho**lags, (lags * rho ** np.maximum(lags - 1, 0))[..., None, :, :]

    def matrices(self, w: FloatArray) -> tuple[FloatArray, FloatArray]:
        R, dR, _ = self._powers(w)
        return R, dR[..., None, :, :]

    def bend(self, w: FloatArray, slopes: FloatArray) -> FloatArray:
        return np.asarray((slopes * self._powers(w)[2]).sum((-2, -1))[..., None, None])

    def singular(self, w: FloatArray, size: FloatArray, limit: float) -> FloatArray:
        small = np.abs(size[..., None] * np.cos(w)) < limit
        return np.where(small, np.copysign(0.5 * np.pi, np.sin(w)), w)

    def null(self, w: FloatArray) -> list[tuple[FloatArray, FloatArray]]:
        if abs(np.cos(w[0])) > NO_RANK:
            return []
        sign, direction = float(np.sign(np.sin(w[0]))), np.zeros(self.size)
        direction[:2] = 1.0, -(sign ** self._lags[0, 1])
        return [(direction, -sign * self._lags * sign ** np.maximum(self._lags - 1, 0))]

    def steepest(self, slopes: FloatArray) -> tuple[float, FloatArray]:
        """On a grid of correlations."""
        grid = np.sin(np.linspace(-0.5, 0.5, 41) * np.pi)
        powers = grid[:, None] ** np.arange(self._lags.max() + 1)
        falls = powers @ np.bincount(self._lags.ravel(), weights=slopes.ravel())
        best = int(np.argmin(falls))
        return float(falls[best]), np.arcsin(grid[[best]])

    def symbol(self, a: int, b: int, rho: str, first: int) -> str:
        lag = int(self._lags[a, b])
        return f"{rho}^{{{lag}}}" if lag > 1 else rho


@dataclass(frozen=True)
class AR1(Autoregression):
    """One variance, correlations rho to the power of the distance in order: ``ar1(0 + f | g)``. Two parameters.

    Coordinates are the sd (of either sign) and an angle with ``rho = sin(angle)``, which makes a perfect
    correlation an ordinary point; the angle is 0 by convention where the sd is.

    Examples
    --------
    >>> T = AR1(3).factor(AR1(3).coordinates(np.array([2.0, 0.5])))
    >>> (T @ T.T).round(12)
    array([[4., 2., 1.],
           [2., 4., 2.],
           [1., 2., 4.]])
    """

    size: int = 0
    keyword: ClassVar[str] = "ar1"
    description: ClassVar[str] = "autoregressive: correlations fall with the distance in order"

    def resized(self, size: int) -> AR1:
        return replace(self, size=size)


@dataclass(frozen=True)
class HeterogeneousAR1(Autoregression):
    """A variance for every effect, correlations rho to the power of the distance: ``ar1h(0 + f | g)``.

    c + 1 parameters; with two neighbouring effects this is the unstructured covariance. Coordinates are roots of the
    standard deviations and an angle with ``rho = sin(angle)``.

    Attributes
    ----------
    times : tuple of int
        Of effects left over where others have no variance, their places in order; 0, 1, 2, ... where it is empty.

    Examples
    --------
    >>> ar1h = HeterogeneousAR1(3)
    >>> T = ar1h.factor(ar1h.coordinates(np.array([1.0, 2.0, 4.0, 0.5])))
    >>> (T @ T.T).round(12)
    array([[ 1.,  1.,  1.],
           [ 1.,  4.,  4.],
           [ 1.,  4., 16.]])
    """

    size: int = 0
    times: tuple[int, ...] = ()
    keyword: ClassVar[str] = "ar1h"
    description: ClassVar[str] = "autoregressive with a variance for each effect"
    scale_free: ClassVar[bool] = True
    heterogeneous: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        given = self.times if isinstance(self.times, tuple) else (self.times,)
        times = [whole("times", time, 0, error=DesignError) for time in given]
        if times and (len(times) != self.size or min(np.diff(times), default=1) < 1):
            raise DesignError(f"times={shown(self.times)} has to be {self.size} increasing whole numbers, or empty.")

    @property
    def _order(self) -> IntArray:
        return np.array(self.times) if self.times else np.arange(self.size)

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """The first two neighbours."""
        if self.size < 2:
            return ()
        first = int(np.argmin(np.diff(self._order)))
        return ((first, first + 1),)

    @property
    def _free(self) -> bool:
        """Whether two effects have any correlation; at an even distance it is not negative."""
        return self.size == 2 and int(np.diff(self._order)[0]) % 2 == 1

    @property
    def mirrored(self) -> bool:
        return self._free

    @property
    def additive(self) -> bool:
        return self._free

    def resized(self, size: int) -> CovarianceStructure:
        times = self.times if size == self.size else ()
        return replace(self, size=size, times=times) if size != 1 else Diagonal(1)

    def keeping(self, kept: Sequence[int]) -> CovarianceStructure:
        times = tuple((self._order[list(kept)] - self._order[kept[0]]).tolist())
        times = () if times == tuple(range(len(kept))) else times
        return replace(self, size=len(kept), times=times) if len(kept) > 1 else Diagonal(1)

    @property
    def pymc_arguments(self) -> tuple[Any, ...]:
        return (self.size, self.times) if self.times else (self.size,)

    def correlation_of(self, G: FloatArray, a: int, b: int) -> float:
        known = np.count_nonzero(np.diagonal(G) > 0) > 1
        return float(self._by_largest(G)[0]) if known else float("nan")

    def pair_values(self, R: FloatArray) -> FloatArray:
        return self._by_largest(R)

    def _correlations_of(self, T: FloatArray, squares: FloatArray) -> FloatArray:
        return self._by_largest(T @ T.mT)

    def _by_largest(self, G: FloatArray) -> FloatArray:
        """Rho (..., 1) by the two largest of neighbours, or of others where these have no variance.

        Correlations at even distances do not tell its sign; it is positive then.
        """
        s = np.sqrt(np.diagonal(G, axis1=-2, axis2=-1))
        both = s[..., :, None] * s[..., None, :]
        a, b = np.triu_indices(self.size, 1)
        lags, sizes = self._lags[a, b], both[..., a, b]
        preferred = np.where(sizes > 0, sizes / np.maximum(sizes.max(-1, keepdims=True), 1e-300) - 2.0 * lags, -np.inf)
        best = np.argmax(preferred, axis=-1)[..., None]
        size, lag = np.take_along_axis(sizes, best, -1), lags[best]
        r = np.take_along_axis(G[..., a, b], best, -1) / np.where(size > 0, size, 1.0)
        return np.where(lag % 2 == 0, 1.0, np.sign(r)) * np.abs(r) ** (1.0 / lag)

    def _mean_correlations(self, G: FloatArray, means: FloatArray) -> FloatArray:
        near = np.triu(self._lags == 1)
        if not near.any():
            return self._by_largest(G)
        sds = np.sqrt(means)
        mean = (G / (sds[..., :, None] * sds[..., None, :]))[..., near].mean(-1, keepdims=True)
        return np.asarray(np.clip(mean, *self.correlation_range))
