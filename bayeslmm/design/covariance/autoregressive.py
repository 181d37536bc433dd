"""Correlations that fall with the distance in order: the autoregression of order 1."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from bayeslmm.design.covariance.contract import NO_RANK
from bayeslmm.design.covariance.products import Products
from bayeslmm.types import FloatArray, IntArray


class Autoregression(Products):
    """The correlation of neighbours is the sine of an angle, so that a perfect one is an ordinary point."""

    ordered: ClassVar[bool] = True
    pymc_root: ClassVar[str] = "autoregression_factor"
    shapes_tried: ClassVar[tuple[float, ...]] = (0.0, 0.6, 1.2, -0.6)

    @cached_property
    def _lags(self) -> IntArray:
        order = np.arange(self.size)
        return np.abs(order[:, None] - order)

    def root(self, w: FloatArray) -> FloatArray:
        angle = w[..., 0, None, None]
        root = np.tril(np.sin(angle) ** self._lags)
        root[..., 1:] *= np.cos(angle)
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
        direction[:2] = 1.0, -sign
        return [(direction, -sign * self._lags * sign ** np.maximum(self._lags - 1, 0))]

    def steepest(self, slopes: FloatArray) -> tuple[float, FloatArray]:
        """On a grid of correlations."""
        grid = np.sin(np.linspace(-0.5, 0.5, 41) * np.pi)
        powers = grid[:, None] ** np.arange(self.size)
        falls = powers @ np.bincount(self._lags.ravel(), weights=slopes.ravel())
        best = int(np.argmin(falls))
        return float(falls[best]), np.arcsin(grid[[best]])

    def symbol(self, a: int, b: int, rho: str, first: int) -> str:
        return f"{rho}^{{{abs(a - b)}}}" if abs(a - b) > 1 else rho


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
