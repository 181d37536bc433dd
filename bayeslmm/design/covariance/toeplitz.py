"""A correlation for every distance in order, positive definite by construction.

Any positive semidefinite Toeplitz correlation matrix has partial autocorrelations ``phi_1 .. phi_(c-1)``, numbers of
their own between -1 and 1, and any such numbers belong to one matrix. With ``phi = sin(angle)`` the normalised lattice
makes a root of it by rotations alone, without a division, also where some phi is 1 or -1.

References
----------
Barndorff-Nielsen & Schou (1973), J. Multivariate Analysis 3, 408-419; Gray & Markel (1975), IEEE Trans. ASSP 23,
268-277.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from bayeslmm.design.covariance.contract import NO_RANK
from bayeslmm.design.covariance.products import Products
from bayeslmm.errors import DesignError
from bayeslmm.types import FloatArray, IntArray

# Of a matrix that is nearly one of the family, partial autocorrelations at most this large are kept.
_INSIDE = 0.95
# Rounding of partial autocorrelations that are 1.
_ROUNDING = 1e-8


class Banded(Products):
    """Correlations by the distance in order: shapes are the angles of the partial autocorrelations."""

    ordered: ClassVar[bool] = True
    pymc_root: ClassVar[str] = "toeplitz_factor"

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        return tuple((0, lag) for lag in range(1, self.size))

    @cached_property
    def _lags(self) -> IntArray:
        order = np.arange(self.size)
        return np.abs(order[:, None] - order)

    def pair_names(self, effects: tuple[str, ...], keyword: str) -> tuple[str, ...]:
        return tuple(f"{keyword}.{lag}" for _, lag in self.pairs)

    def root(self, w: FloatArray) -> FloatArray:
        return self._lattice(np.sin(w), np.cos(w))

    def _lattice(self, sin: FloatArray, cos: FloatArray) -> FloatArray:
        parts = [[a[..., k, None] for k in range(self.size - 1)] for a in (sin, cos)]
        units = np.zeros((*sin.shape[:-1], self.size, self.size)) + np.eye(self.size)
        return np.stack(lattice([units[..., t, :] for t in range(self.size)], *parts), axis=-2)

    def partial_autocorrelations(self, correlations: FloatArray) -> FloatArray:
        """Partial autocorrelations (..., m) of correlations (..., m) at lags 1, 2, ..., by Durbin-Levinson.

        They are 0 after a perfect one.
        """
        phi = np.zeros(correlations.shape)
        a, left = np.zeros(correlations.shape), np.ones(correlations.shape[:-1])
        for k in range(correlations.shape[-1]):
            rest = correlations[..., k] - (a[..., :k] * correlations[..., :k][..., ::-1]).sum(-1)
            own = np.divide(rest, left, out=np.zeros_like(rest), where=left > NO_RANK)
            a[..., :k] -= own[..., None] * a[..., :k][..., ::-1]
            a[..., k] = phi[..., k] = own
            left = left * (1.0 - own**2)
        return phi

    def shapes_of(self, correlations: FloatArray) -> FloatArray:
        return np.asarray(np.arcsin(np.clip(self.partial_autocorrelations(correlations), -1.0, 1.0)))

    def correlations(self, w: FloatArray) -> FloatArray:
        return self.correlations_at(np.sin(w))

    def one_shape(self, correlation: FloatArray) -> FloatArray:
        return np.asarray(np.arcsin(np.clip(correlation, -1.0, 1.0)))

    def one_correlation(self, shape: FloatArray) -> FloatArray:
        return np.sin(shape)

    def solved(self, w: FloatArray, k: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """A correlation is linear in its partial autocorrelation, ``rho = a + v phi``; nan where phi is beyond 1."""
        if k == 0:
            return super().solved(w, k)
        ends = [self._jets(np.where(np.arange(w.shape[-1]) == k, end, w)) for end in (0.0, 0.5 * np.pi)]
        (a, da, dda), (v, dv, ddv) = ([jet[:, k + 1] for jet in end] for end in _differences(*ends))
        da[..., k] = dv[..., k] = 0.0
        for bend in (dda, ddv):
            bend[..., k, :] = bend[..., :, k] = 0.0
        unit = (np.arange(w.shape[-1]) == k) * 1.0
        rho = np.sin(w[..., k]) - a
        drho = np.cos(w[..., k, None]) * unit - da
        ddrho = -np.sin(w[..., k, None, None]) * unit[:, None] * unit - dda
        phi = rho / v
        dphi = (drho - phi[..., None] * dv) / v[..., None]
        cross = dphi[..., :, None] * dv[..., None, :]
        ddphi = (ddrho - phi[..., None, None] * ddv - cross - cross.mT) / v[..., None, None]
        with np.errstate(invalid="ignore", divide="ignore"):
            cos = np.sqrt(1.0 - phi**2)
            slope = dphi / cos[..., None]
            bend = (
                ddphi / cos[..., None, None] + (phi / cos)[..., None, None] * slope[..., :, None] * slope[..., None, :]
            )
            return np.arcsin(phi), slope, bend

    def correlations_at(self, z: FloatArray) -> FloatArray:
        return np.asarray(self._lattice(z, np.sqrt(np.maximum(1.0 - z**2, 0.0)))[..., 1:, 0])

    def places_of(self, correlations: FloatArray) -> FloatArray:
        return self.partial_autocorrelations(correlations)

    def partial_root(self, z: FloatArray, rest: FloatArray) -> FloatArray:
        return self._lattice(z, np.sqrt(rest))

    def _jets(self, w: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Correlations at all lags from 0 (..., c), their derivatives (..., c, m) and second ones (..., c, m, m)."""
        m = self.size - 1
        zero = _Jet(np.zeros(w.shape[:-1]), np.zeros((*w.shape[:-1], m)), np.zeros((*w.shape[:-1], m, m)))
        one = _Jet(zero.value + 1.0, zero.slope, zero.bend)
        turns = [(np.sin(w[..., k]), np.cos(w[..., k])) for k in range(m)]
        sin = [_Turn(k, s, c, -s) for k, (s, c) in enumerate(turns)]
        cos = [_Turn(k, c, -s, -c) for k, (s, c) in enumerate(turns)]
        rows = lattice([one, *[zero] * m], sin, cos)
        return (
            np.stack([row.value for row in rows], axis=-1),
            np.stack([row.slope for row in rows], axis=-2),
            np.stack([row.bend for row in rows], axis=-3),
        )

    @property
    def patterns(self) -> FloatArray:
        return np.asarray(self._lags == np.arange(1, self.size)[:, None, None], dtype=float)

    def matrices(self, w: FloatArray) -> tuple[FloatArray, FloatArray]:
        rho, slope, _ = self._jets(w)
        return rho[..., self._lags], np.moveaxis(slope[..., self._lags, :], -1, -3)

    def bend(self, w: FloatArray, slopes: FloatArray) -> FloatArray:
        return np.asarray(np.einsum("...l,...lij->...ij", self._by_lag(slopes), self._jets(w)[2]))

    def _by_lag(self, slopes: FloatArray) -> FloatArray:
        """Sums (..., c) of the entries at each distance."""
        return np.stack([(slopes * (self._lags == lag)).sum((-2, -1)) for lag in range(self.size)], axis=-1)

    def singular(self, w: FloatArray, size: FloatArray, limit: float) -> FloatArray:
        left = size[..., None] * np.cumprod(np.abs(np.cos(w)), axis=-1)
        small = left < limit
        first = small & (np.cumsum(small, axis=-1) == 1)
        return np.where(first, np.copysign(0.5 * np.pi, np.sin(w)), np.where(small, 0.0, w))

    def null(self, w: FloatArray) -> list[tuple[FloatArray, FloatArray]]:
        perfect = np.flatnonzero(np.abs(np.cos(w)) <= NO_RANK)
        if not perfect.size:
            return []
        j = int(perfect[0])
        L, direction = self.root(w), np.zeros(self.size)
        direction[: j + 2] = np.append(-np.linalg.solve(L[: j + 1, : j + 1].T, L[j + 1, : j + 1]), 1.0)
        # At a sine of 1 its second derivative in the angle is the first one in itself, downwards.
        return [(direction, self._jets(w)[2][..., j, j][self._lags])]

    def steepest(self, slopes: FloatArray) -> tuple[float, FloatArray]:
        """Any R is a mixture of cosines of the distance; a little inside for the shapes."""
        frequency = np.linspace(0.0, np.pi, 181)
        waves = np.cos(frequency[:, None] * np.arange(self.size))
        falls = waves @ self._by_lag(slopes)
        best = int(np.argmin(falls))
        return float(falls[best]), self.shapes_of(0.99 * waves[best, 1:])

    def _mean_correlations(self, G: FloatArray, means: FloatArray) -> FloatArray:
        sds = np.sqrt(means)
        R = G / (sds[..., :, None] * sds[..., None, :])
        rho = self._by_lag(R)[..., 1:] / (2.0 * np.arange(self.size - 1, 0, -1))
        return self.correlations_at(np.clip(self.partial_autocorrelations(rho), -_INSIDE, _INSIDE))

    def check(self, theta: FloatArray) -> None:
        phi = self.partial_autocorrelations(theta[self._n :])
        if not (np.abs(phi) <= 1.0 + _ROUNDING).all():
            k = int(np.flatnonzero(~(np.abs(phi) <= 1.0 + _ROUNDING))[0])
            raise DesignError(
                f"The correlations {', '.join(f'{value:g}' for value in theta[self._n :])} are not possible: with "
                f"those before it, the correlation {theta[self._n + k]:g} at distance {k + 1} has a partial "
                f"autocorrelation of {phi[k]:.4g}, beyond -1 or 1. Give correlations of a positive semidefinite matrix."
            )

    def symbol(self, a: int, b: int, rho: str, first: int) -> str:
        return f"{rho[:-1]},{abs(a - b)}}}"

    def prior_text(self, eta: float) -> str:
        return f"{super().prior_text(eta)} on each partial autocorrelation"

    def prior_subject(self, pair: tuple[int, int], label: str) -> str:
        return f"the partial autocorrelation of the effects of {label} at distance {pair[1]}"


@dataclass(frozen=True)
class Toeplitz(Banded):
    """One variance and a correlation for every distance in order: ``toep(0 + f | g)``. c parameters.

    As TOEP in SAS (homtoep in glmmTMB, whose toep has a variance for every effect). Coordinates are the sd (of either
    sign) and the angles of the partial autocorrelations, 0 by convention where they have no effect.

    Examples
    --------
    >>> T = Toeplitz(3).factor(Toeplitz(3).coordinates(np.array([2.0, 0.5, -0.25])))
    >>> (T @ T.T).round(12)
    array([[ 4.,  2., -1.],
           [ 2.,  4.,  2.],
           [-1.,  2.,  4.]])
    """

    size: int = 0
    keyword: ClassVar[str] = "toep"
    description: ClassVar[str] = "Toeplitz: one common variance and a correlation for every distance in order"

    def resized(self, size: int) -> Toeplitz:
        return replace(self, size=size)


def _differences(first: tuple[FloatArray, ...], second: tuple[FloatArray, ...]) -> tuple[list[FloatArray], ...]:
    """Copies of some arrays, and what others differ from them by."""
    return [a.copy() for a in first], [b - a for a, b in zip(first, second, strict=True)]


def lattice(units: Sequence[Any], sin: Sequence[Any], cos: Sequence[Any]) -> list[Any]:
    """A stationary sequence from independent innovations: rows of the lower-triangular root of its correlations.

    Parameters
    ----------
    units : sequence
        The innovations, of whatever can be added and multiplied by sines and cosines.
    sin, cos : sequence
        Of the angles of the partial autocorrelations.
    """
    rows: list[Any] = []
    backward: list[Any] = []
    for t, forward in enumerate(units):
        errors = list[Any]()
        for n in range(t - 1, -1, -1):
            errors.append(cos[n] * backward[n] - sin[n] * forward)
            forward = cos[n] * forward + sin[n] * backward[n]
        rows.append(forward)
        backward = [forward, *errors[::-1]]
    return rows


@dataclass(frozen=True)
class _Jet:
    """A number (...) with its derivatives (..., m) and second derivatives (..., m, m)."""

    value: FloatArray
    slope: FloatArray
    bend: FloatArray

    def __add__(self, other: _Jet) -> _Jet:
        return _Jet(self.value + other.value, self.slope + other.slope, self.bend + other.bend)

    def __sub__(self, other: _Jet) -> _Jet:
        return _Jet(self.value - other.value, self.slope - other.slope, self.bend - other.bend)


@dataclass(frozen=True)
class _Turn:
    """A function of the angle k, with its first two derivatives."""

    k: int
    value: FloatArray
    slope: FloatArray
    bend: FloatArray

    def __mul__(self, jet: _Jet) -> _Jet:
        k, own, once = self.k, self.value[..., None], self.slope[..., None]
        slope = own * jet.slope
        slope[..., k] += self.slope * jet.value
        bend = own[..., None] * jet.bend
        bend[..., k, :] += once * jet.slope
        bend[..., :, k] += once * jet.slope
        bend[..., k, k] += self.bend * jet.value
        return _Jet(self.value * jet.value, slope, bend)
