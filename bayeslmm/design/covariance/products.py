"""Structures that are standard deviations times a correlation matrix: ``G = D R D``.

Coordinates are those of the standard deviations, then shapes w on which R depends: a subclass says how. One standard
deviation of all effects is its own coordinate, of either sign. Where every effect has its own, coordinates are their
roots: with a correlation that effects share, G changes when one standard deviation changes its sign, and its square
root makes zero a stationary point again.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from bayeslmm.design.covariance.contract import NO_RANK, CovarianceStructure
from bayeslmm.errors import DesignError
from bayeslmm.types import BoolArray, FloatArray, IntArray

# Length of the step from a zero covariance into a better one, relative to sigma.
_AWAY = 0.3


class Products(CovarianceStructure):
    """What they have in common.

    Attributes
    ----------
    heterogeneous : bool
        Whether every effect has a standard deviation of its own.
    """

    heterogeneous: ClassVar[bool] = False
    about_correlation: ClassVar[bool] = True

    @property
    def sd_effects(self) -> tuple[tuple[int, ...], ...]:
        return tuple((k,) for k in range(self.size)) if self.heterogeneous else (tuple(range(self.size)),)

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        return ((0, 1),) if self.size > 1 else ()

    @cached_property
    def _n(self) -> int:
        """Number of standard deviations."""
        return self.size if self.heterogeneous else 1

    @cached_property
    def rows(self) -> IntArray:
        return np.arange(self._n + len(self.pairs))

    @property
    def cols(self) -> IntArray:
        return np.zeros(self.rows.size, dtype=int)

    @property
    def scales(self) -> BoolArray:
        return np.asarray(self.rows < self._n)

    @property
    def with_effect(self) -> BoolArray:
        return np.eye(self._n, self.rows.size, dtype=bool) if self._n > 1 else np.zeros((0, self.rows.size), dtype=bool)

    @property
    def growing(self) -> BoolArray:
        return np.concatenate([self.scales[None], self.with_effect])

    def theta_names(self, effects: tuple[str, ...]) -> tuple[str, ...]:
        sds = effects if self.heterogeneous else ("sd",)
        return (*sds, *(("cor",) if len(self.pairs) == 1 else (f"cor{b}" for _, b in self.pairs)))

    # A subclass describes the correlation matrix.

    @abstractmethod
    def root(self, w: FloatArray) -> FloatArray:
        """A square root (..., c, c) of R from shapes (..., m)."""

    @abstractmethod
    def matrices(self, w: FloatArray) -> tuple[FloatArray, FloatArray]:
        """R (..., c, c) and its derivatives (..., m, c, c)."""

    @abstractmethod
    def bend(self, w: FloatArray, slopes: FloatArray) -> FloatArray:
        """``sum_ab slopes_ab d^2 R_ab / dw dw'``, shape (..., m, m)."""

    @abstractmethod
    def singular(self, w: FloatArray, size: FloatArray, limit: float) -> FloatArray:
        """Shapes (..., m) with singular values of ``size R^(1/2)`` below a limit set to zero."""

    @abstractmethod
    def null(self, w: FloatArray) -> list[tuple[FloatArray, FloatArray]]:
        """Null directions (c,) of R, and the change (c, c) of R away from each, up to its size."""

    def steepest(self, slopes: FloatArray) -> tuple[float, FloatArray]:
        """The least ``sum_ab slopes_ab R_ab``, and shapes (m,) of an R where it is about that."""
        return float(np.trace(slopes)), np.zeros(len(self.pairs))

    # The rest follows.

    def _sds(self, x: FloatArray) -> FloatArray:
        own = x[..., : self._n]
        return own**2 if self.heterogeneous else np.repeat(own, self.size, axis=-1)

    def _spread(self, x: FloatArray) -> FloatArray:
        """Derivatives (..., n, c) of the standard deviations in their coordinates."""
        own = x[..., : self._n, None]
        return 2.0 * own * np.eye(self.size) if self.heterogeneous else np.ones((*own.shape[:-1], self.size))

    def factor(self, x: FloatArray) -> FloatArray:
        return self._sds(x)[..., None] * self.root(x[..., self._n :])

    def directions(self, x: FloatArray) -> FloatArray:
        s, D = self._sds(x), self._spread(x)
        R, dR = self.matrices(x[..., self._n :])
        half = D[..., :, None] * (s[..., None, None, :] * R[..., None, :, :])
        return np.concatenate([half + half.mT, (s[..., :, None] * s[..., None, :])[..., None, :, :] * dR], axis=-3)

    def gradient(self, x: FloatArray, slopes: FloatArray) -> FloatArray:
        return np.asarray((self.directions(x) * slopes[..., None, :, :]).sum((-2, -1)))

    def curvature(self, x: FloatArray, slopes: FloatArray) -> FloatArray:
        n, w = self._n, x[..., self._n :]
        R, dR = self.matrices(w)
        H = np.zeros((*x.shape, x.shape[-1]))
        inside, beside = slopes * R, slopes[..., None, :, :] * dR
        if self.heterogeneous:
            s, D = self._sds(x), self._spread(x)
            H[..., :n, :n] = 2.0 * D @ inside @ D.mT
            H[..., range(n), range(n)] += 4.0 * (inside @ s[..., None])[..., 0]
            mixed = 2.0 * (D[..., None, :, :] @ beside @ s[..., None, :, None])[..., 0]
            H[..., n:, n:] = self.bend(w, slopes * s[..., :, None] * s[..., None, :])
        else:
            sd = x[..., :1, None]
            H[..., :1, :1] = 2.0 * inside.sum((-2, -1))[..., None, None]
            mixed = 2.0 * sd * beside.sum((-2, -1))[..., None]
            H[..., n:, n:] = sd**2 * self.bend(w, slopes)
        H[..., n:, :n], H[..., :n, n:] = mixed, mixed.mT
        return H

    def coordinates(self, theta: FloatArray) -> FloatArray:
        sds = theta[..., : self._n]
        sds = np.sqrt(np.maximum(sds, 0.0)) if self.heterogeneous else sds
        return np.concatenate([sds, self.shapes_of(theta[..., self._n :])], axis=-1)

    @property
    def patterns(self) -> FloatArray:
        """Where the correlation matrix has each correlation (m, c, c), if its entries are these themselves."""
        return np.broadcast_to(1.0 - np.eye(self.size), (len(self.pairs), self.size, self.size))

    def by_correlation(self, correlations: FloatArray) -> tuple[FloatArray, FloatArray]:
        """R (..., c, c) with given correlations (..., m), and its derivatives (..., m, c, c) in these."""
        return np.eye(self.size) + np.tensordot(correlations, self.patterns, axes=1), self.patterns

    def theta_directions(self, theta: FloatArray) -> FloatArray:
        sds, (R, dR) = theta[..., : self._n], self.by_correlation(theta[..., self._n :])
        D = np.eye(self.size) if self.heterogeneous else np.ones((1, self.size))
        s = sds @ D
        half = D[:, :, None] * (s[..., None, None, :] * R[..., None, :, :])
        return np.concatenate([half + half.mT, (s[..., :, None] * s[..., None, :])[..., None, :, :] * dR], axis=-3)

    def theta(self, T: FloatArray) -> FloatArray:
        """Theta of a factor; correlations are given as 0 where the sds are."""
        squares = (T**2).sum(-1)
        sds = np.sqrt(squares if self.heterogeneous else squares[..., :1])
        return np.concatenate([sds, np.clip(self._correlations_of(T, squares), *self.correlation_range)], axis=-1)

    def _correlations_of(self, T: FloatArray, squares: FloatArray) -> FloatArray:
        others = [b for _, b in self.pairs]
        covariance = (T[..., :1, :] * T[..., others, :]).sum(-1)
        return np.asarray(covariance / np.where(squares[..., :1] > 0, squares[..., :1], 1.0))

    def nearest(self, G: FloatArray) -> FloatArray:
        variances = np.diagonal(G, axis1=-2, axis2=-1)
        means = variances if self.heterogeneous else variances.mean(axis=-1, keepdims=True)
        return self.coordinates(np.concatenate([np.sqrt(means), self._mean_correlations(G, means)], axis=-1))

    def _mean_correlations(self, G: FloatArray, means: FloatArray) -> FloatArray:
        """From the mean covariance of neighbours."""
        covariance = np.diagonal(G, 1, axis1=-2, axis2=-1).sum(-1)[..., None]
        return np.clip(covariance / (means * (self.size - 1)), *self.correlation_range)

    def scattered(self, sds: FloatArray, rng: np.random.Generator) -> FloatArray:
        """With the ends of the correlations too."""
        z = np.clip(2.4 * rng.random((max(len(self.pairs), 1), sds.shape[0])).T - 1.2, -1.0, 1.0)
        rho = self.correlations_at(z[:, : len(self.pairs)])
        return np.concatenate([sds[:, : self._n], rho], axis=-1)

    def cleaned(self, x: FloatArray, limit: float) -> FloatArray:
        n, s = self._n, np.abs(self._sds(x))
        sds = np.where(s[..., :n] < limit, 0.0, x[..., :n])
        largest = s.max(axis=-1)
        left = (s >= limit).sum(axis=-1)
        w = self.singular(x[..., n:], largest, limit)
        return np.concatenate([sds, np.where((left > 1)[..., None], w, 0.0)], axis=-1)

    def vanished(self, x: FloatArray, slopes: FloatArray) -> list[tuple[FloatArray, float]]:
        s, w = np.abs(self._sds(x)), x[self._n :]
        zero = s <= NO_RANK * s.max()
        if zero.all():
            return [(np.ones(self.size), self._steepest_of_all(slopes)[0])]
        if zero.any():
            return [(np.eye(self.size)[k], float(slopes[k, k])) for k in np.flatnonzero(zero)]
        found = []
        for direction, away in self.null(w):
            change = away * s[:, None] * s
            v = direction / s
            v = v / v[np.argmax(np.abs(v))]
            found.append((v, float((slopes * change).sum() / (v @ change @ v))))
        return found

    def escape(self, slopes: FloatArray) -> FloatArray | None:
        fall, sds, w = self._steepest_of_all(slopes)
        if fall >= 0:
            return None
        return np.concatenate([np.sqrt(_AWAY * sds) if self.heterogeneous else _AWAY * sds, w])

    def _steepest_of_all(self, slopes: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        """The least slope from G = 0 in the mean variance, with sds (n,) of size 1 and shapes where it is.

        With sds of their own: at one correlation, all effects alike, one alone, or those that fall together.
        """
        fall, w = self.steepest(slopes)
        if not self.heterogeneous:
            return fall, np.ones(1), w
        best = fall, np.ones(self.size), w
        for shape in (w, np.zeros_like(w)):
            M = slopes * self.matrices(shape)[0]
            _, vectors = np.linalg.eigh(M)
            for s in np.concatenate([np.eye(self.size), vectors.T, -vectors.T]):
                sds = np.maximum(s, 0.0)
                value = float(sds @ M @ sds / max(sds @ sds, 1e-300)) * self.size
                best = (value, sds / sds.max(), shape) if value < best[0] and sds.any() else best
        return best

    @property
    def apart(self) -> CovarianceStructure:
        return self

    def sd_place(self, effect: int) -> int:
        return [effect in own for own in self.sd_effects].index(True)

    def pair_place(self, a: int, b: int) -> tuple[int, int | None]:
        return self._n + self.pairs.index((a, b)), None

    def freed_by(self, pair: tuple[int, ...]) -> tuple[int, ...]:
        if self.heterogeneous:
            return pair if self.mirrored else ()
        return pair[:1]

    @property
    def sd_power(self) -> float:
        return 2.0 if self.heterogeneous else 1.0

    @property
    def lengths(self) -> BoolArray:
        return self.scales

    def units(self, x: FloatArray) -> FloatArray:
        return np.where(self.scales, np.abs(x), 1.0)

    def sizes(self, T: FloatArray) -> FloatArray:
        return np.asarray(np.linalg.norm(T[: self._n], axis=1))

    def log_sizes(self, x: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        power = 2.0 if self.heterogeneous else 1.0
        slope = np.where(self.scales, power / np.where(self.scales, x, 1.0), 0.0)
        return np.abs(self._sds(x)[: self._n]), slope, np.diag(-(slope**2) / power)

    def check(self, theta: FloatArray) -> None:
        if self.heterogeneous and (theta[: self._n] < 0).any():
            raise DesignError(
                f"The standard deviations {', '.join(f'{value:g}' for value in theta[: self._n])} are not possible: "
                "one is negative. Give numbers of 0 or more; signs belong to the correlation."
            )
        low, high = self.correlation_range
        for value in theta[self._n :]:
            if not low <= value <= high:
                raise DesignError(
                    f"The correlation {value:g} is not possible: {self.keyword} of {self.size} effects has "
                    f"correlations from {low:.4g} to {high:g}."
                )

    # Priors: of one correlation its place on the range.

    def correlations_at(self, z: FloatArray) -> FloatArray:
        """Correlations (..., m) at places (..., m) between -1 and 1."""
        low, high = self.correlation_range
        return np.asarray(low + (high - low) * 0.5 * (1.0 + z))

    def places_of(self, correlations: FloatArray) -> FloatArray:
        """The inverse of `correlations_at`."""
        low, high = self.correlation_range
        return np.asarray(2.0 * (correlations - low) / (high - low) - 1.0)

    def correlation_root(self, correlations: FloatArray) -> FloatArray:
        return self.root(self.shapes_of(correlations))

    def partial_root(self, z: FloatArray, rest: FloatArray) -> FloatArray:
        return self.correlation_root(self.correlations_at(z))

    def factor_places(self, T: FloatArray) -> FloatArray:
        return self.places_of(self.theta(T)[..., self._n :])

    def partial_places(self, R: FloatArray) -> FloatArray:
        return self.places_of(self.pair_values(R))

    def symbol(self, a: int, b: int, rho: str, first: int) -> str:
        return rho if self.pairs else "0"

    def prior_text(self, eta: float) -> str:
        low, high = self.correlation_range
        return f"uniform({low:.4g}, {high:g})" if eta == 1 else f"beta({eta:g}, {eta:g}) on ({low:.4g}, {high:g})"


@dataclass(frozen=True)
class Identity(Products):
    """Independent effects with one variance: ``id(f | g)``. One parameter.

    Examples
    --------
    >>> Identity(2).factor(np.array([3.0]))
    array([[3., 0.],
           [0., 3.]])
    """

    size: int = 0
    keyword: ClassVar[str] = "id"
    description: ClassVar[str] = "independent effects with one common variance"
    about_correlation: ClassVar[bool] = False

    def resized(self, size: int) -> Identity:
        return replace(self, size=size)

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        return ()

    @property
    def correlation_range(self) -> tuple[float, float]:
        return 0.0, 0.0

    def root(self, w: FloatArray) -> FloatArray:
        return np.zeros((*w.shape[:-1], self.size, self.size)) + np.eye(self.size)

    def matrices(self, w: FloatArray) -> tuple[FloatArray, FloatArray]:
        return self.root(w), np.zeros((*w.shape, self.size, self.size))

    def bend(self, w: FloatArray, slopes: FloatArray) -> FloatArray:
        return np.zeros((*w.shape, 0))

    def singular(self, w: FloatArray, size: FloatArray, limit: float) -> FloatArray:
        return w

    def null(self, w: FloatArray) -> list[tuple[FloatArray, FloatArray]]:
        return []

    def _correlations_of(self, T: FloatArray, squares: FloatArray) -> FloatArray:
        return np.zeros((*squares.shape[:-1], 0))

    def _mean_correlations(self, G: FloatArray, means: FloatArray) -> FloatArray:
        return np.zeros((*G.shape[:-2], 0))

    def partial_places(self, R: FloatArray) -> FloatArray:
        return np.zeros((*R.shape[:-2], 0))

    def places_of(self, correlations: FloatArray) -> FloatArray:
        return correlations

    def escape(self, slopes: FloatArray) -> FloatArray | None:
        return None
