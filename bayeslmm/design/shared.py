"""Covariance structures in which all effects share one standard deviation, and at most one correlation.

Theta is (sd / sigma, correlation). A rescaling of single columns would leave these families, so coordinates refer
to the user's columns up to one common scale.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from bayeslmm.design.covariance import CovarianceStructure
from bayeslmm.errors import DesignError
from bayeslmm.types import BoolArray, FloatArray, IntArray

# Below this a singular value counts as zero beside the largest.
_ZERO = 1e-9


class Shared(CovarianceStructure):
    """What structures with one standard deviation have in common.

    Attributes
    ----------
    correlation_range : tuple of float
        Ends of the correlation; equal ends mean that there is none.
    """

    basis_free: ClassVar[bool] = False
    scale_free: ClassVar[bool] = False
    batched: ClassVar[bool] = False
    shapes_tried: ClassVar[tuple[float, ...]] = (0.0,)

    @property
    def shared(self) -> bool:
        return self.size > 1

    @property
    def correlation_range(self) -> tuple[float, float]:
        return 0.0, 0.0

    @property
    def correlated(self) -> bool:
        """Whether the correlation is a parameter."""
        return self.correlation_range[1] > self.correlation_range[0]

    @property
    def rows(self) -> IntArray:
        return np.arange(2 if self.correlated else 1)

    @property
    def cols(self) -> IntArray:
        return np.zeros(self.rows.size, dtype=int)

    @property
    def scales(self) -> BoolArray:
        return np.ones(self.rows.size, dtype=bool)

    def gradient(self, T: FloatArray, slopes: FloatArray) -> FloatArray:
        return np.asarray((self.directions(T) * slopes).sum((1, 2)))

    def nearest(self, G: FloatArray) -> FloatArray:
        variance = np.trace(G) / self.size
        correlation = np.diagonal(G, 1).sum() / (variance * max(self.size - 1, 1))
        theta = np.array([np.sqrt(variance), np.clip(correlation, *self.correlation_range)])
        return self.coordinates(theta[: self.rows.size])

    def theta(self, T: FloatArray) -> FloatArray:
        """Theta of a factor; the correlation is given as 0 where the sd is 0."""
        variance = (T[..., 0, :] ** 2).sum(-1)
        if not self.correlated:
            return np.sqrt(variance)[..., None]
        covariance = (T[..., 0, :] * T[..., 1, :]).sum(-1)
        correlation = covariance / np.where(variance > 0, variance, 1.0)
        return np.stack([np.sqrt(variance), np.clip(correlation, *self.correlation_range)], axis=-1)

    def theta_directions(self, theta: FloatArray) -> FloatArray:
        sd, cor = theta[..., :1, None], theta[..., 1:, None]
        R, slope = self.correlation_matrix(cor)
        return np.stack([2.0 * sd * R, sd**2 * slope][: self.rows.size], axis=-3)

    @abstractmethod
    def correlation_matrix(self, correlation: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Correlation matrices (..., c, c) with a correlation (..., 1, 1), and their derivatives in it."""

    def theta_names(self, effects: tuple[str, ...]) -> tuple[str, ...]:
        return ("sd", "cor") if self.correlated else ("sd",)

    def check(self, theta: FloatArray) -> None:
        low, high = self.correlation_range
        if self.correlated and not low <= theta[1] <= high:
            raise DesignError(
                f"The correlation {theta[1]:g} is not possible: {self.keyword} of {self.size} effects has correlations "
                f"from {low:.4g} to {high:g}."
            )

    @abstractmethod
    def correlation(self, angle: FloatArray) -> FloatArray:
        """A smooth map of the whole line onto the range of the correlation, ends included."""

    @abstractmethod
    def angle(self, correlation: FloatArray) -> FloatArray:
        """An inverse of `correlation`."""

    @abstractmethod
    def vanished(self, T: FloatArray, slopes: FloatArray) -> list[tuple[FloatArray, float]]:
        """Representative null directions (c,) of G, and the slope of the criterion along each one's variance."""

    def escape(self, slopes: FloatArray) -> FloatArray | None:
        """Coordinates (k,) of a small G along which the criterion falls from G = 0 although no coordinate shows it."""
        return None


@dataclass(frozen=True)
class Identity(Shared):
    """Independent effects with one variance: ``id(f | g)``. One parameter.

    Examples
    --------
    >>> Identity(2).factor(np.array([3.0]))
    array([[3., 0.],
           [0., 3.]])
    """

    size: int = 0
    keyword: ClassVar[str] = "id"

    def resized(self, size: int) -> Identity:
        return replace(self, size=size)

    def factor(self, x: FloatArray) -> FloatArray:
        return np.asarray(x[..., None] * np.eye(self.size))

    def directions(self, T: FloatArray) -> FloatArray:
        return np.asarray(2.0 * T[0, 0] * np.eye(self.size)[None])

    def curvature(self, T: FloatArray, slopes: FloatArray) -> FloatArray:
        return np.array([[2.0 * np.trace(slopes)]])

    def coordinates(self, theta: FloatArray) -> FloatArray:
        return theta

    def cleaned(self, x: FloatArray, limit: float) -> FloatArray:
        return np.where(np.abs(x) < limit, 0.0, x)

    def correlation_matrix(self, correlation: FloatArray) -> tuple[FloatArray, FloatArray]:
        return np.eye(self.size), np.zeros((self.size, self.size))

    def correlation(self, angle: FloatArray) -> FloatArray:
        return np.zeros_like(angle)

    def angle(self, correlation: FloatArray) -> FloatArray:
        return np.zeros_like(correlation)

    def vanished(self, T: FloatArray, slopes: FloatArray) -> list[tuple[FloatArray, float]]:
        return [] if T[0, 0] != 0 else [(np.ones(self.size), float(np.trace(slopes)))]


@dataclass(frozen=True)
class CompoundSymmetry(Shared):
    """One variance and one correlation for all pairs: ``cs(0 + f | g)``. Two parameters.

    The correlation lies between ``-1 / (c - 1)`` and 1. Coordinates are signed roots of the two eigenvalues of G:
    that of the mean of the effects and that of their differences.

    Examples
    --------
    >>> T = CompoundSymmetry(3).factor(CompoundSymmetry(3).coordinates(np.array([2.0, -0.25])))
    >>> (T @ T.T).round(12)
    array([[ 4., -1., -1.],
           [-1.,  4., -1.],
           [-1., -1.,  4.]])
    """

    size: int = 0
    keyword: ClassVar[str] = "cs"

    def resized(self, size: int) -> CompoundSymmetry:
        return replace(self, size=size)

    @property
    def correlation_range(self) -> tuple[float, float]:
        return -1.0 / (self.size - 1), 1.0

    @cached_property
    def _projections(self) -> FloatArray:
        mean = np.full((self.size, self.size), 1.0 / self.size)
        return np.stack([mean, np.eye(self.size) - mean])

    def factor(self, x: FloatArray) -> FloatArray:
        return np.tensordot(x, self._projections, axes=1)

    def directions(self, T: FloatArray) -> FloatArray:
        mean = T[0].sum()
        rest = (np.trace(T) - mean) / (self.size - 1)
        return 2.0 * np.array([mean, rest])[:, None, None] * self._projections

    def curvature(self, T: FloatArray, slopes: FloatArray) -> FloatArray:
        return np.diag(2.0 * self._along(slopes))

    def nearest(self, G: FloatArray) -> FloatArray:
        return np.asarray(np.sqrt(self._along(G) / np.array([1.0, self.size - 1.0])))

    def _along(self, slopes: FloatArray) -> FloatArray:
        return np.asarray((self._projections * slopes).sum((1, 2)))

    def coordinates(self, theta: FloatArray) -> FloatArray:
        sd, correlation = theta[..., 0], theta[..., 1]
        mean = 1.0 + (self.size - 1) * correlation
        return np.stack(
            [sd * np.sqrt(np.maximum(mean, 0.0)), sd * np.sqrt(np.maximum(1.0 - correlation, 0.0))], axis=-1
        )

    def cleaned(self, x: FloatArray, limit: float) -> FloatArray:
        return np.where(np.abs(x) < limit, 0.0, x)

    def correlation_matrix(self, correlation: FloatArray) -> tuple[FloatArray, FloatArray]:
        others = 1.0 - np.eye(self.size)
        return np.eye(self.size) + correlation * others, np.broadcast_to(
            others, (*correlation.shape[:-2], *others.shape)
        )

    def correlation(self, angle: FloatArray) -> FloatArray:
        return np.asarray((self.size * np.cos(angle) ** 2 - 1.0) / (self.size - 1))

    def angle(self, correlation: FloatArray) -> FloatArray:
        share = (1.0 + (self.size - 1) * correlation) / self.size
        return np.asarray(np.arccos(np.sqrt(np.clip(share, 0.0, 1.0))))

    def vanished(self, T: FloatArray, slopes: FloatArray) -> list[tuple[FloatArray, float]]:
        mean, rest = np.abs(self._along(T)) / np.array([1.0, self.size - 1.0])
        along = self._along(slopes)
        difference = np.zeros(self.size)
        difference[:2] = 1.0, -1.0
        largest = max(mean, rest)
        found = [(np.ones(self.size), float(along[0]))] if mean <= _ZERO * largest else []
        return found + ([(difference, float(along[1]))] if rest <= _ZERO * largest else [])


@dataclass(frozen=True)
class AR1(Shared):
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
    shapes_tried: ClassVar[tuple[float, ...]] = (0.0, 0.6, 1.2, -0.6)

    def resized(self, size: int) -> AR1:
        return replace(self, size=size)

    @property
    def correlation_range(self) -> tuple[float, float]:
        return -1.0, 1.0

    @property
    def scales(self) -> BoolArray:
        return np.array([True, False])

    @cached_property
    def _lags(self) -> IntArray:
        order = np.arange(self.size)
        return np.abs(order[:, None] - order)

    def factor(self, x: FloatArray) -> FloatArray:
        sd, angle = x[..., 0, None, None], x[..., 1, None, None]
        root = np.tril(np.sin(angle) ** self._lags) * sd
        root[..., 1:] *= np.cos(angle)
        return np.asarray(root)

    def _read(self, T: FloatArray) -> tuple[float, float]:
        return float(T[0, 0]), float(np.arctan2(T[1, 0] * np.sign(T[0, 0]), T[1, 1] * np.sign(T[0, 0])))

    def _powers(self, angle: float) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Correlation matrix and its first two derivatives in the angle."""
        lags, rho, slope = self._lags, np.sin(angle), np.cos(angle)
        once = lags * rho ** np.maximum(lags - 1, 0)
        twice = lags * (lags - 1) * rho ** np.maximum(lags - 2, 0)
        return rho**lags, once * slope, twice * slope**2 - once * rho

    def directions(self, T: FloatArray) -> FloatArray:
        sd, angle = self._read(T)
        R, dR, _ = self._powers(angle)
        return np.stack([2.0 * sd * R, sd**2 * dR])

    def curvature(self, T: FloatArray, slopes: FloatArray) -> FloatArray:
        sd, angle = self._read(T)
        R, dR, ddR = (float((slopes * matrix).sum()) for matrix in self._powers(angle))
        return np.array([[2.0 * R, 2.0 * sd * dR], [2.0 * sd * dR, sd**2 * ddR]])

    def coordinates(self, theta: FloatArray) -> FloatArray:
        return np.stack([theta[..., 0], self.angle(theta[..., 1])], axis=-1)

    def cleaned(self, x: FloatArray, limit: float) -> FloatArray:
        sd, angle = x
        if abs(sd) < limit:
            return np.zeros(2)
        if abs(sd * np.cos(angle)) < limit:
            angle = np.copysign(0.5 * np.pi, np.sin(angle))
        return np.array([sd, angle])

    def correlation_matrix(self, correlation: FloatArray) -> tuple[FloatArray, FloatArray]:
        return correlation**self._lags, self._lags * correlation ** np.maximum(self._lags - 1, 0)

    def correlation(self, angle: FloatArray) -> FloatArray:
        return np.sin(angle)

    def angle(self, correlation: FloatArray) -> FloatArray:
        return np.asarray(np.arcsin(np.clip(correlation, -1.0, 1.0)))

    def vanished(self, T: FloatArray, slopes: FloatArray) -> list[tuple[FloatArray, float]]:
        sd, angle = self._read(T)
        if sd == 0:
            return [(np.ones(self.size), float(self._slopes_at_zero(slopes)[1].min()))]
        if abs(np.cos(angle)) > _ZERO:
            return []
        sign = np.sign(np.sin(angle))
        combination = np.zeros(self.size)
        combination[:2] = 1.0, -sign
        # the variance of the combination is 2 sd^2 (1 - |rho|)
        along = (slopes * self._lags * sign ** np.maximum(self._lags - 1, 0)).sum()
        return [(combination, float(-0.5 * sign * along))]

    def _slopes_at_zero(self, slopes: FloatArray) -> tuple[FloatArray, FloatArray]:
        """A grid of correlations, and the slope of the criterion in the variance from zero at each."""
        grid = np.sin(np.linspace(-0.5, 0.5, 41) * np.pi)
        powers = grid[:, None] ** np.arange(self.size)
        by_lag = np.bincount(self._lags.ravel(), weights=slopes.ravel())
        return grid, powers @ by_lag

    def escape(self, slopes: FloatArray) -> FloatArray | None:
        grid, falls = self._slopes_at_zero(slopes)
        best = int(np.argmin(falls))
        return None if falls[best] >= 0 else np.array([0.3, np.arcsin(grid[best])])
