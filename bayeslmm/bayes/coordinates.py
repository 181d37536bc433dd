"""Unconstrained coordinates of the relative standard deviations and correlations.

A relative sd t = sd / sigma whose prior is even and smooth at zero becomes ``t = c sinh(x)`` with x on the whole
line: linear near zero, so that the boundary disappears and the density is even in x, logarithmic far out.
Other priors use ``t = exp(x)``. Correlations are canonical partial correlations, for which the LKJ density factorises,
mostly as ``z = erf(x / sqrt(2))``: uniform ones are standard normal x, so that a correlation about which little is
known, and one that is about 1, has no longer tail than a normal density.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayeslmm.design.covariance import CovarianceStructure
from bayeslmm.types import FloatArray, IntArray

# Of erf(w / sqrt(2)): the factor of w, and the logarithm of its slope at zero.
_ROOT_HALF, _LOG_SLOPE = float(np.sqrt(0.5)), float(0.5 * np.log(2.0 / np.pi))

# Beyond that 1 - z^2 is from the tails.
_FAR = 3.0


@dataclass(frozen=True)
class TermCoordinates:
    """Coordinates of one term: of its standard deviations, then of its correlations.

    A structure makes its correlations of independent places, z = erf(w / sqrt(2)) or tanh(w) (see `normal`): canonical
    partial correlations, the place of a shared correlation on its range, partial autocorrelations.

    Attributes
    ----------
    structure : CovarianceStructure
    even : tuple of bool
        Which sds use the folded sinh coordinate.
    scale : FloatArray, shape (sds,)
        c of the sinh coordinate, relative to sigma.
    shapes : FloatArray, shape (m,)
        The density of a place is proportional to ``(1 - z^2)^(shape - 1)``; see `Priors.shapes`.
    ratio : FloatArray, shape (sds,)
        Relative sd that the likelihood speaks of, in units of ``scale``; 1 unless the prior is much narrower.
    """

    structure: CovarianceStructure
    even: tuple[bool, ...]
    scale: FloatArray
    shapes: FloatArray
    ratio: FloatArray | float = 1.0

    @property
    def size(self) -> int:
        """Number of sds."""
        return len(self.structure.sd_effects)

    @property
    def normal(self) -> bool:
        """Whether a uniform correlation is a normal coordinate.

        One that all pairs share is known better and on a grid, where tanh takes fewer nodes; densities that are
        infinite at 1 have mass where erf has no digits left.
        """
        return not self.structure.shared and bool((self.shapes >= 1.0).all())

    @property
    def n_correlations(self) -> int:
        return len(self.structure.pairs)

    @property
    def dimension(self) -> int:
        return self.size + self.n_correlations

    @property
    def folded(self) -> tuple[bool, ...]:
        """Which coordinates the density is even in."""
        return (*self.even, *([False] * self.n_correlations))

    def freed_by(self, k: int) -> IntArray:
        """Which correlations nothing but their prior determines where sd k is zero."""
        pairs, effects = self.structure.pairs, self.structure.size
        if self.structure.shared or len(pairs) < effects * (effects - 1) // 2:
            return np.empty(0, dtype=np.int64)
        return np.array([j for j, pair in enumerate(pairs) if k in pair], dtype=np.int64)

    def sds(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Relative sds (K, sds) and the log Jacobian of the map (K,)."""
        return _relative_sds(x[:, : self.size], self.even, self.scale)

    def correlation_factor(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """A square root of the correlation matrix (K, c, c), and log prior density plus log Jacobian (K,).

        References
        ----------
        Lewandowski, Kurowicka & Joe (2009), J. Multivariate Analysis 100, 1989-2001.
        """
        from scipy.special import erf

        w = x[:, self.size :]
        if self.normal:
            z = erf(w * _ROOT_HALF)
            log_one_minus = _log_one_minus_squared(w, z)
            log_slopes = _LOG_SLOPE - 0.5 * w**2
        else:
            z, log_one_minus = np.tanh(w), _log_one_minus_tanh_squared(w)
            log_slopes = log_one_minus
        log_density = log_slopes.sum(1)
        for k, shape in enumerate(self.shapes.tolist()):
            log_density += (shape - 1.0) * log_one_minus[:, k] - log_beta_constant(shape)
        return self.structure.partial_root(z, np.exp(log_one_minus)), log_density

    def inverse(self, T: FloatArray) -> FloatArray:
        """Coordinates (d,) of a relative factor (c, c); zero sds and perfect correlations are moved inside."""
        sd = np.sqrt((T**2).sum(-1))
        z = self.structure.factor_places(T)
        own = sd[[effects[0] for effects in self.structure.sd_effects]]
        return np.concatenate([_from_relative_sds(own, self.even, self.scale), self._from_places(z)])

    def _from_places(self, z: FloatArray) -> FloatArray:
        from scipy.special import erfinv

        inside = np.clip(z, -0.95, 0.95)
        return np.asarray(erfinv(inside) / _ROOT_HALF if self.normal else np.arctanh(inside))


def _relative_sds(x: FloatArray, even: tuple[bool, ...], scale: FloatArray) -> tuple[FloatArray, FloatArray]:
    folded = np.array(even)
    clipped = np.clip(x, -300.0, 300.0)
    t = np.where(folded, scale * np.abs(np.sinh(clipped)), np.exp(clipped))
    log_slope = np.where(folded, np.log(scale) + np.log(np.cosh(clipped)), clipped)
    return t, log_slope.sum(-1)


def _from_relative_sds(sd: FloatArray, even: tuple[bool, ...], scale: FloatArray) -> FloatArray:
    safe = np.where(even, np.maximum(sd, 0.0), np.maximum(sd, 1e-2 * scale))
    return np.where(even, np.arcsinh(safe / scale), np.log(np.maximum(safe, 1e-300)))


def _log_one_minus_squared(w: FloatArray, z: FloatArray) -> FloatArray:
    """``log(1 - z^2)`` of ``z = erf(w / sqrt(2))``, with its digits near zero, which a large LKJ shape multiplies."""
    from scipy.special import log_ndtr

    far = np.abs(w) > _FAR
    found = np.log1p(-(np.where(far, 0.0, z) ** 2))
    found[far] = 2.0 * np.log(2.0) + log_ndtr(w[far]) + log_ndtr(-w[far])
    return np.asarray(found)


def _log_one_minus_tanh_squared(w: FloatArray) -> FloatArray:
    """``log(1 - tanh(w)^2)``; near zero it keeps its digits, which a large LKJ shape multiplies."""
    return np.asarray(-2.0 * np.log1p(2.0 * np.sinh(0.5 * np.clip(w, -300, 300)) ** 2))


def log_beta_constant(shape: float) -> float:
    """Log of the integral of ``(1 - z^2)^(shape - 1)`` over (-1, 1)."""
    from scipy.special import betaln

    return float(betaln(0.5, shape))
