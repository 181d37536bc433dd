"""One correlation for all pairs of effects: compound symmetry, with one variance or with many."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from bayeslmm.arguments import whole
from bayeslmm.design.covariance.contract import NO_RANK, CovarianceStructure
from bayeslmm.design.covariance.entries import Diagonal
from bayeslmm.design.covariance.products import Products
from bayeslmm.errors import DesignError
from bayeslmm.types import BoolArray, FloatArray


class Compound(Products):
    """The correlation, between ``-1 / (c - 1)`` and 1, by an angle: independence at 0, the ends where G is singular."""

    pymc_root: ClassVar[str] = "compound_symmetry_factor"

    @property
    def correlation_range(self) -> tuple[float, float]:
        return -1.0 / (self._among - 1), 1.0

    @property
    def _among(self) -> int:
        """Number of effects that the correlation could be one of."""
        return self.size

    @cached_property
    def _projections(self) -> FloatArray:
        """On the mean of the effects, and on their differences (2, c, c)."""
        mean = np.full((self.size, self.size), 1.0 / self.size)
        return np.stack([mean, np.eye(self.size) - mean])

    @property
    def _one(self) -> float:
        """Angle between a perfect correlation and none."""
        return float(np.arccos(np.sqrt(1.0 / self._among)))

    @property
    def shape_range(self) -> tuple[float, float]:
        return -self._one, 0.5 * np.pi - self._one

    def _roots(self, w: FloatArray) -> FloatArray:
        """Signed roots (..., 2) of the eigenvalues."""
        angle, c = w[..., :1] + self._one, float(self.size)
        return np.concatenate([np.sqrt(c) * np.cos(angle), np.sqrt(c / (c - 1.0)) * np.sin(angle)], axis=-1)

    def root(self, w: FloatArray) -> FloatArray:
        return np.tensordot(self._roots(w), self._projections, axes=1)

    def shapes_of(self, correlations: FloatArray) -> FloatArray:
        share = (1.0 + (self._among - 1) * correlations) / self._among
        return np.asarray(np.arccos(np.sqrt(np.clip(share, 0.0, 1.0))) - self._one)

    def correlations(self, w: FloatArray) -> FloatArray:
        return np.asarray((self._among * np.cos(w + self._one) ** 2 - 1.0) / (self._among - 1))

    def matrices(self, w: FloatArray) -> tuple[FloatArray, FloatArray]:
        apart = 1.0 - np.eye(self.size)
        return np.eye(self.size) + self.correlations(w)[..., None] * apart, self._slope(w, 1)[..., None, None] * apart

    def _slope(self, w: FloatArray, order: int) -> FloatArray:
        """First or second derivatives of the correlation in the angle."""
        double = 2.0 * (w + self._one)
        share = self._among / (self._among - 1.0)
        return np.asarray(-share * np.sin(double) if order == 1 else -2.0 * share * np.cos(double))

    def one_slope(self, shape: float) -> float:
        return float(self._slope(np.array([shape]), 1)[0])

    def bend(self, w: FloatArray, slopes: FloatArray) -> FloatArray:
        apart = slopes.sum((-2, -1)) - np.trace(slopes, axis1=-2, axis2=-1)
        return np.asarray((self._slope(w, 2) * apart[..., None])[..., None])

    def singular(self, w: FloatArray, size: FloatArray, limit: float) -> FloatArray:
        small = np.abs(self._roots(w)) * size[..., None] < limit
        ends = np.where(small[..., 1:], -self._one, w)
        return np.where(small[..., :1] & ~small[..., 1:], 0.5 * np.pi - self._one, ends)

    def null(self, w: FloatArray) -> list[tuple[FloatArray, FloatArray]]:
        mean, rest = np.abs(self._roots(w))
        difference, apart = np.zeros(self.size), 1.0 - np.eye(self.size)
        difference[:2] = 1.0, -1.0
        found = [(np.ones(self.size), apart)] if mean <= NO_RANK * rest else []
        return found + ([(difference, -apart)] if rest <= NO_RANK * mean else [])

    def steepest(self, slopes: FloatArray) -> tuple[float, FloatArray]:
        """At one of the ends, G being linear in the correlation; a little inside for the shapes."""
        own, ends = np.trace(slopes), np.array(self.correlation_range)
        values = own + ends * (slopes.sum() - own)
        return float(values.min()), self.shapes_of(0.99 * ends[[np.argmin(values)]])


@dataclass(frozen=True)
class _ByAngle(Compound):
    """One variance, in the coordinates sd and angle."""

    size: int = 0
    keyword: ClassVar[str] = "cs"
    description: ClassVar[str] = "compound symmetry: one common variance and one common correlation"

    def resized(self, size: int) -> _ByAngle:
        return replace(self, size=size)


@dataclass(frozen=True)
class CompoundSymmetry(Compound):
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
    description: ClassVar[str] = "compound symmetry: one common variance and one common correlation"

    def resized(self, size: int) -> CompoundSymmetry:
        return replace(self, size=size)

    @property
    def scales(self) -> BoolArray:
        return np.ones(self.rows.size, dtype=bool)

    @property
    def growing(self) -> BoolArray:
        return np.concatenate([self.scales[None], np.eye(self.rows.size, dtype=bool)])

    def factor(self, x: FloatArray) -> FloatArray:
        return np.tensordot(x, self._projections, axes=1)

    def directions(self, x: FloatArray) -> FloatArray:
        return np.asarray(2.0 * x[..., None, None] * self._projections)

    def curvature(self, x: FloatArray, slopes: FloatArray) -> FloatArray:
        return np.asarray(2.0 * self._along(slopes)[..., None] * np.eye(2))

    def nearest(self, G: FloatArray) -> FloatArray:
        return np.asarray(np.sqrt(self._along(G) / np.array([1.0, self.size - 1.0])))

    def _along(self, slopes: FloatArray) -> FloatArray:
        return np.asarray((self._projections * slopes[..., None, :, :]).sum((-2, -1)))

    def coordinates(self, theta: FloatArray) -> FloatArray:
        sd, correlation = theta[..., 0], theta[..., 1]
        mean = 1.0 + (self.size - 1) * correlation
        return np.stack(
            [sd * np.sqrt(np.maximum(mean, 0.0)), sd * np.sqrt(np.maximum(1.0 - correlation, 0.0))], axis=-1
        )

    def correlation_root(self, correlations: FloatArray) -> FloatArray:
        return self.factor(self.coordinates(np.concatenate([np.ones_like(correlations), correlations], axis=-1)))

    def cleaned(self, x: FloatArray, limit: float) -> FloatArray:
        return np.where(np.abs(x) < limit, 0.0, x)

    def vanished(self, x: FloatArray, slopes: FloatArray) -> list[tuple[FloatArray, float]]:
        mean, rest = np.abs(x)
        along = self._along(slopes)
        difference = np.zeros(self.size)
        difference[:2] = 1.0, -1.0
        largest = max(mean, rest)
        found = [(np.ones(self.size), float(along[0]))] if mean <= NO_RANK * largest else []
        return found + ([(difference, float(along[1]))] if rest <= NO_RANK * largest else [])

    def escape(self, slopes: FloatArray) -> FloatArray | None:
        return None

    @property
    def apart(self) -> CovarianceStructure:
        return _ByAngle(self.size)

    @property
    def linear(self) -> tuple[FloatArray, FloatArray]:
        """The variance at a given covariance, which changes the correlation too, and the covariance."""
        return np.stack([np.eye(self.size), 1.0 - np.eye(self.size)]), np.array([[1.0, 0.0], [-0.5, 1.0]])

    def log_sizes(self, x: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """From those of ``log G[0, 0] / 2``."""
        T, first = self.factor(x), np.zeros((self.size, self.size))
        first[0, 0] = 1.0
        variance = float(T[0] @ T[0])
        slope = self.gradient(x, first) / variance
        bend = self.curvature(x, first) / variance - np.outer(slope, slope)
        return np.sqrt([variance]), 0.5 * slope, 0.5 * bend


@dataclass(frozen=True)
class HeterogeneousCompoundSymmetry(Compound):
    """A variance for every effect and one correlation for all pairs: ``csh(0 + f | g)``. c + 1 parameters.

    The correlation lies between ``-1 / (c - 1)`` and 1; with two effects this is the unstructured covariance.
    Coordinates are roots of the standard deviations and an angle.

    Attributes
    ----------
    among : int
        Of effects left over where others have no variance, how many there were: they keep the range of these.

    Examples
    --------
    >>> csh = HeterogeneousCompoundSymmetry(3)
    >>> T = csh.factor(csh.coordinates(np.array([1.0, 2.0, 4.0, 0.5])))
    >>> (T @ T.T).round(12)
    array([[ 1.,  1.,  2.],
           [ 1.,  4.,  4.],
           [ 2.,  4., 16.]])
    """

    size: int = 0
    among: int = 0
    keyword: ClassVar[str] = "csh"
    description: ClassVar[str] = "compound symmetry with a variance for each effect and one common correlation"
    scale_free: ClassVar[bool] = True
    heterogeneous: ClassVar[bool] = True
    shapes_tried: ClassVar[tuple[float, ...]] = (0.0, -0.5)

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("among", self.among, 0, error=DesignError)

    @property
    def mirrored(self) -> bool:
        return self._among == 2

    @property
    def additive(self) -> bool:
        return self._among == 2

    def resized(self, size: int) -> CovarianceStructure:
        among = max(self.size, self.among)
        return replace(self, size=size, among=among if among > size else 0) if size != 1 else Diagonal(1)

    @property
    def _among(self) -> int:
        return self.among or self.size

    @property
    def pymc_arguments(self) -> tuple[int, ...]:
        return (self.size, self.among) if self.among else (self.size,)

    def _roots(self, w: FloatArray) -> FloatArray:
        angle, c, m = w[..., :1] + self._one, self.size, self._among
        mean = np.sqrt((m - c + (c - 1) * m * np.cos(angle) ** 2) / (m - 1))
        return np.concatenate([mean, np.sqrt(m / (m - 1)) * np.sin(angle)], axis=-1)

    def correlation_of(self, G: FloatArray, a: int, b: int) -> float:
        """By other effects where one of the pair has no variance."""
        if not G[a, a] * G[b, b] > 0:
            a, b = np.argsort(-np.diagonal(G), kind="stable")[:2].tolist()
        return super().correlation_of(G, a, b)

    def _correlations_of(self, T: FloatArray, squares: FloatArray) -> FloatArray:
        """By the two largest effects."""
        two = np.argsort(-squares, axis=-1)[..., :2]
        rows = np.take_along_axis(T, two[..., None], axis=-2)
        size = np.sqrt(np.take_along_axis(squares, two, axis=-1).prod(-1))
        return np.asarray((rows.prod(-2).sum(-1) / np.where(size > 0, size, 1.0))[..., None])

    def _mean_correlations(self, G: FloatArray, means: FloatArray) -> FloatArray:
        sds = np.sqrt(means)
        R = G / (sds[..., :, None] * sds[..., None, :])
        mean = (R.sum((-2, -1)) - self.size) / (self.size * (self.size - 1))
        return np.asarray(np.clip(mean[..., None], *self.correlation_range))
