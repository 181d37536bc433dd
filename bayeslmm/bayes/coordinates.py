"""Unconstrained coordinates of the relative standard deviations and correlations.

A relative sd t = sd / sigma whose prior is even and smooth at zero becomes ``t = c sinh(x)`` with x on the whole
line: linear near zero, so that the boundary disappears and the density is even in x, logarithmic far out.
Other priors use ``t = exp(x)``. Correlations use ``tanh`` of canonical partial correlations, for which the LKJ
density factorises.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
    eta : float
        Shape of the LKJ prior.
    """

    size: int
    correlated: bool
    even: tuple[bool, ...]
    scale: FloatArray
    eta: float

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
        even = np.array(self.even)
        part = x[:, : self.size]
        clipped = np.clip(part, -300.0, 300.0)
        t = np.where(even, self.scale * np.abs(np.sinh(clipped)), np.exp(clipped))
        log_slope = np.where(even, np.log(self.scale) + np.log(np.cosh(clipped)), clipped)
        return t, log_slope.sum(-1)

    def correlation_factor(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Cholesky factor of the correlation matrix (K, c, c), and log LKJ density plus log Jacobian (K,).

        The canonical partial correlation of effects i > j (given those before j) has under LKJ(eta) the
        density proportional to ``(1 - z^2)^(eta + (c - 2 - j) / 2 - 1)``, j from 0.

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
                z, log_one_minus = np.tanh(w), -2.0 * np.log(np.cosh(np.clip(w, -300, 300)))
                L[:, i, j] = z * np.sqrt(left)
                left = left * np.exp(log_one_minus)
                shape = self.eta + (c - 2 - j) / 2.0
                log_density += shape * log_one_minus - _log_beta_constant(shape)
                position += 1
            L[:, i, i] = np.sqrt(left)
        return L, log_density

    def inverse(self, T: FloatArray) -> FloatArray:
        """Coordinates (d,) of a relative factor (c, c); zero sds and perfect correlations are moved inside."""
        sd = np.sqrt((T**2).sum(-1))
        even = np.array(self.even)
        floor = 1e-2 * self.scale
        safe = np.where(even, np.maximum(sd, 0.0), np.maximum(sd, floor))
        x = [np.where(even, np.arcsinh(safe / self.scale), np.log(np.maximum(safe, 1e-300)))]
        if self.correlated:
            L = T / np.where(sd > 0, sd, 1.0)[:, None]
            x.append(_partial_correlations(L))
        return np.concatenate(x)


def _partial_correlations(L: FloatArray) -> FloatArray:
    out = []
    for i in range(1, L.shape[0]):
        left = 1.0
        for j in range(i):
            z = np.clip(L[i, j] / np.sqrt(max(left, 1e-12)), -0.95, 0.95)
            out.append(np.arctanh(z))
            left -= L[i, j] ** 2
    return np.array(out)


def _log_beta_constant(shape: float) -> float:
    """Log of the integral of ``(1 - z^2)^(shape - 1)`` over (-1, 1)."""
    from scipy.special import gammaln

    return float(0.5 * np.log(np.pi) + gammaln(shape) - gammaln(shape + 0.5))
