"""Unconstrained coordinates of the relative standard deviations and correlations.

A relative sd t = sd / sigma whose prior is even and smooth at zero becomes ``t = c sinh(x)`` with x on the whole
line: linear near zero, so that the boundary disappears and the density is even in x, logarithmic far out.
Other priors use ``t = exp(x)``. Correlations use ``tanh`` of canonical partial correlations, for which the LKJ
density factorises.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayeslmm.design.shared import Shared
from bayeslmm.types import FloatArray


@dataclass(frozen=True)
class TermCoordinates:
    """Coordinates of one term.

    Attributes
    ----------
    size : int
        c effects.
    correlated : bool
        Whether the term has a correlation matrix (then c (c - 1) / 2 more coordinates follow the c sds).
    even : tuple of bool
        Which sds use the folded sinh coordinate.
    scale : FloatArray, shape (c,)
        c of the sinh coordinate, relative to sigma.
    shapes : FloatArray, shape (c, c)
        Shapes of the densities of the canonical partial correlations, see `Priors.partial_shapes`.
    ratio : FloatArray, shape (c,)
        Relative sd that the likelihood speaks of, in units of ``scale``; 1 unless the prior is much narrower.
    """

    size: int
    correlated: bool
    even: tuple[bool, ...]
    scale: FloatArray
    shapes: FloatArray
    ratio: FloatArray | float = 1.0

    @property
    def n_correlations(self) -> int:
        return self.size * (self.size - 1) // 2 if self.correlated else 0

    @property
    def dimension(self) -> int:
        return self.size + self.n_correlations

    @property
    def folded(self) -> tuple[bool, ...]:
        """Which coordinates the density is even in."""
        return (*self.even, *([False] * self.n_correlations))

    def sds(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Relative sds (K, c) and the log Jacobian of the map (K,)."""
        return _relative_sds(x[:, : self.size], self.even, self.scale)

    def correlation_factor(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Cholesky factor of the correlation matrix (K, c, c), and log prior density plus log Jacobian (K,).

        The canonical partial correlation of effects i > j (given those before j) has a density proportional to
        ``(1 - z^2)^(shape - 1)``; under LKJ(eta) its shape is ``eta + (c - 2 - j) / 2``, j from 0.

        References
        ----------
        Lewandowski, Kurowicka & Joe (2009), J. Multivariate Analysis 100, 1989-2001.
        """
        K, c = x.shape[0], self.size
        L = np.zeros((K, c, c))
        L[:, 0, 0] = 1.0
        log_density = np.zeros(K)
        if not self.correlated:
            L[:, range(c), range(c)] = 1.0
            return L, log_density
        position = c
        for i in range(1, c):
            left = np.ones(K)
            for j in range(i):
                w = x[:, position]
                z, log_one_minus = np.tanh(w), _log_one_minus_squared(w)
                L[:, i, j] = z * np.sqrt(left)
                left = left * np.exp(log_one_minus)
                shape = float(self.shapes[i, j])
                log_density += shape * log_one_minus - log_beta_constant(shape)
                position += 1
            L[:, i, i] = np.sqrt(left)
        return L, log_density

    def inverse(self, T: FloatArray) -> FloatArray:
        """Coordinates (d,) of a relative factor (c, c); zero sds and perfect correlations are moved inside."""
        sd = np.sqrt((T**2).sum(-1))
        x = [_from_relative_sds(sd, self.even, self.scale)]
        if self.correlated:
            L = T / np.where(sd > 0, sd, 1.0)[:, None]
            x.append(_partial_correlations(L))
        return np.concatenate(x)


@dataclass(frozen=True)
class SharedCoordinates:
    """Coordinates of a term whose effects share one sd and at most one correlation.

    The correlation is ``low + (high - low) (1 + tanh w) / 2`` on its range, so that its place on the range has a
    beta(eta, eta) prior; for two effects that is LKJ(eta).

    Attributes
    ----------
    structure : Shared
    even : tuple of bool
        Whether the sd uses the folded sinh coordinate (one entry).
    scale : FloatArray, shape (1,)
        c of the sinh coordinate, relative to sigma.
    eta : float
    ratio : FloatArray, shape (1,)
        Relative sd that the likelihood speaks of, in units of ``scale``; 1 unless the prior is much narrower.
    """

    structure: Shared
    even: tuple[bool, ...]
    scale: FloatArray
    eta: float
    ratio: FloatArray | float = 1.0

    @property
    def size(self) -> int:
        """Number of sds."""
        return 1

    @property
    def n_correlations(self) -> int:
        return int(self.structure.correlated)

    @property
    def dimension(self) -> int:
        return 1 + self.n_correlations

    @property
    def folded(self) -> tuple[bool, ...]:
        """Which coordinates the density is even in."""
        return (*self.even, *([False] * self.n_correlations))

    def sds(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Relative sd (K, 1) and the log Jacobian of the map (K,)."""
        return _relative_sds(x[:, :1], self.even, self.scale)

    def correlation_factor(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """A square root of the correlation matrix (K, c, c), and log prior plus log Jacobian (K,)."""
        theta = np.ones((x.shape[0], self.dimension))
        log_density = np.zeros(x.shape[0])
        if self.structure.correlated:
            low, high = self.structure.correlation_range
            theta[:, 1] = low + (high - low) * 0.5 * (1.0 + np.tanh(x[:, 1]))
            log_one_minus = _log_one_minus_squared(x[:, 1])
            log_density = self.eta * log_one_minus - log_beta_constant(self.eta)
        return self.structure.factor(self.structure.coordinates(theta)), log_density

    def inverse(self, T: FloatArray) -> FloatArray:
        """Coordinates (d,) of a relative factor (c, c); a zero sd and the ends of the correlation are moved inside."""
        theta = self.structure.theta(T)
        x = [_from_relative_sds(theta[:1], self.even, self.scale)]
        if self.structure.correlated:
            low, high = self.structure.correlation_range
            place = 2.0 * (theta[1:] - low) / (high - low) - 1.0
            x.append(np.arctanh(np.clip(place, -0.95, 0.95)))
        return np.concatenate(x)


type Coordinates = TermCoordinates | SharedCoordinates


def _relative_sds(x: FloatArray, even: tuple[bool, ...], scale: FloatArray) -> tuple[FloatArray, FloatArray]:
    folded = np.array(even)
    clipped = np.clip(x, -300.0, 300.0)
    t = np.where(folded, scale * np.abs(np.sinh(clipped)), np.exp(clipped))
    log_slope = np.where(folded, np.log(scale) + np.log(np.cosh(clipped)), clipped)
    return t, log_slope.sum(-1)


def _from_relative_sds(sd: FloatArray, even: tuple[bool, ...], scale: FloatArray) -> FloatArray:
    safe = np.where(even, np.maximum(sd, 0.0), np.maximum(sd, 1e-2 * scale))
    return np.where(even, np.arcsinh(safe / scale), np.log(np.maximum(safe, 1e-300)))


def _partial_correlations(L: FloatArray) -> FloatArray:
    out = []
    for i in range(1, L.shape[0]):
        left = 1.0
        for j in range(i):
            z = np.clip(L[i, j] / np.sqrt(max(left, 1e-12)), -0.95, 0.95)
            out.append(np.arctanh(z))
            left -= L[i, j] ** 2
    return np.array(out)


def _log_one_minus_squared(w: FloatArray) -> FloatArray:
    """``log(1 - tanh(w)^2)``; near zero it keeps its digits, which a large LKJ shape multiplies."""
    return np.asarray(-2.0 * np.log1p(2.0 * np.sinh(0.5 * np.clip(w, -300, 300)) ** 2))


def log_beta_constant(shape: float) -> float:
    """Log of the integral of ``(1 - z^2)^(shape - 1)`` over (-1, 1)."""
    from scipy.special import betaln

    return float(betaln(0.5, shape))
