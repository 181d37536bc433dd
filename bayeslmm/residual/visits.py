"""Correlations of residuals over a list of visits: unstructured, Toeplitz, ante-dependence."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from bayeslmm.equality import by_value
from bayeslmm.residual.correlation import START, AtanhParameters, DenseCorrelation
from bayeslmm.residual.laws import Law, UniformLaw, sphere_laws
from bayeslmm.types import FloatArray, IntArray


def _between(whole: FloatArray, at: FloatArray) -> FloatArray:
    """Entries (..., m, m) of matrices (..., K, K) of all visits for rows at some of them."""
    visit = at[..., 0].astype(np.int64)
    return np.asarray(whole[..., visit[..., :, None], visit[..., None, :]])


def _moments(K: int, at: FloatArray, products: FloatArray) -> FloatArray:
    """Mean products of every pair of visits (K, K), those of pairs that do not occur from their neighbours."""
    a, b = at[0, :, 0].astype(np.int64), at[1, :, 0].astype(np.int64)
    low, high = np.minimum(a, b), np.maximum(a, b)
    counts = np.bincount(low * K + high, minlength=K * K).reshape(K, K)
    sums = np.bincount(low * K + high, weights=products, minlength=K * K).reshape(K, K)
    overall = float(products.mean()) if products.size else 0.0
    means = np.where(counts > 1, sums / np.maximum(counts, 1), overall)
    upper = np.triu(np.clip(means, -START, START), 1)
    return np.asarray(upper + upper.T + np.eye(K))


def _positive(R: FloatArray) -> FloatArray:
    """A correlation matrix near R with eigenvalues clearly above zero."""
    values, vectors = np.linalg.eigh(R)
    S = (vectors * np.maximum(values, 0.05)) @ vectors.T
    scale = np.sqrt(np.diagonal(S))
    return np.asarray(S / (scale * scale[:, None]))


@dataclass(frozen=True)
class _OfVisits(ABC):
    """What families over a list of K visits share.

    Attributes
    ----------
    visits : tuple of str
    """

    visits: tuple[str, ...]

    @property
    def K(self) -> int:
        return len(self.visits)

    @property
    @abstractmethod
    def labels(self) -> tuple[str, ...]: ...

    @property
    def ranges(self) -> tuple[str, ...]:
        return ("correlation",) * len(self.labels)

    @property
    def pymc_options(self) -> tuple[Any, ...]:
        return (self.K,)

    def laws(self, distance: float) -> tuple[Law, ...]:
        """Partial correlations uniform on their ranges."""
        return (UniformLaw(0.5),) * len(self.labels)


@by_value
@dataclass(frozen=True, eq=False)
class FreeCorrelation(DenseCorrelation, _OfVisits):
    """Any correlation matrix of K visits.

    Row i of its Cholesky factor is ``(lam_i1, .., lam_i,i-1, 1)`` over the length of that, which reaches every
    correlation matrix once.

    Attributes
    ----------
    visits : tuple of str
    """

    pymc: ClassVar[str] = "free_correlation"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"chol_{i + 1}_{j + 1}" for i, j in self._pairs)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(f"corr[{self.visits[j]}.{self.visits[i]}]" for i, j in self._pairs)

    @cached_property
    def _pairs(self) -> tuple[tuple[int, int], ...]:
        return tuple((i, j) for i in range(self.K) for j in range(i))

    @cached_property
    def _lower(self) -> tuple[IntArray, IntArray]:
        pairs = np.array(self._pairs, dtype=np.int64).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]

    def _root(self, lam: FloatArray) -> tuple[FloatArray, FloatArray]:
        raw = np.zeros((*lam.shape[:-1], self.K, self.K))
        raw[...] = np.eye(self.K)
        raw[..., *self._lower] = lam
        length = np.sqrt((raw**2).sum(-1))
        return raw / length[..., None], length

    def matrix(self, lam: FloatArray, at: FloatArray) -> FloatArray:
        L, _ = self._root(lam)
        return _between(L @ L.mT, at)

    @cached_property
    def _last(self) -> dict[bytes, FloatArray]:
        return {}

    def _slopes(self, lam: FloatArray) -> FloatArray:
        """Slopes (k, K, K) of the matrix of all visits, kept until another point is asked for."""
        key = lam.tobytes()
        if key not in self._last:
            self._last.clear()
            self._last[key] = self._made_slopes(lam)
        return self._last[key]

    def _made_slopes(self, lam: FloatArray) -> FloatArray:
        L, length = self._root(lam)
        i, j = self._lower
        k = np.arange(i.size)
        moved = np.zeros((i.size, self.K))
        moved[k, j] = 1.0
        moved = (moved - L[i, j][:, None] * L[i]) / length[i][:, None]
        rows = moved @ L.T
        out = np.zeros((i.size, self.K, self.K))
        out[k, i] = rows
        out[k, :, i] += rows
        return out

    def slopes(self, lam: FloatArray, at: FloatArray) -> FloatArray:
        return _between(self._slopes(lam), at)

    def laws(self, distance: float) -> tuple[Law, ...]:
        return sphere_laws(self.K)

    def natural(self, lam: FloatArray) -> FloatArray:
        L, _ = self._root(lam)
        return np.asarray((L @ L.mT)[..., *self._lower])

    def natural_slopes(self, lam: FloatArray) -> FloatArray:
        i, j = self._lower
        return np.asarray(self._slopes(lam)[:, i, j].T)

    def start(self, at: FloatArray, products: FloatArray) -> FloatArray:
        L = np.linalg.cholesky(_positive(_moments(self.K, at, products)))
        return np.asarray((L / np.diagonal(L)[:, None])[self._lower])


@by_value
@dataclass(frozen=True, eq=False)
class BandedCorrelation(DenseCorrelation, _OfVisits):
    """One correlation for every lag between K visits (Toeplitz); lam has atanh of the partial correlations.

    Attributes
    ----------
    visits : tuple of str

    References
    ----------
    Barndorff-Nielsen & Schou (1973), J. Multivariate Anal. 3, 408-419; Durbin's recursion.
    """

    pymc: ClassVar[str] = "banded_correlation"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"atanh_partial_{k}" for k in range(1, len(self.visits)))

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(f"rho[lag {k}]" for k in range(1, len(self.visits)))

    def _by_lag(self, lam: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Correlations (K,) at lags 0 .. K - 1 and their slopes (k, K)."""
        K, k = self.K, lam.size
        partial, d_partial = np.tanh(lam), np.diag(1.0 / np.cosh(lam) ** 2)
        r, dr = np.ones(K), np.zeros((k, K))
        a, da = np.empty(0), np.empty((k, 0))
        left, d_left = 1.0, np.zeros(k)
        for h in range(1, K):
            p, dp = partial[h - 1], d_partial[h - 1]
            past, d_past = r[h - 1 : 0 : -1], dr[:, h - 1 : 0 : -1]
            r[h] = a @ past + p * left
            dr[:, h] = da @ past + d_past @ a + dp * left + p * d_left
            flipped, d_flipped = a[::-1], da[:, ::-1]
            da = np.concatenate([da - dp[:, None] * flipped - p * d_flipped, dp[:, None]], axis=1)
            a = np.append(a - p * flipped, p)
            d_left = d_left * (1.0 - p**2) - 2.0 * left * p * dp
            left *= 1.0 - p**2
        return r, dr

    def matrix(self, lam: FloatArray, at: FloatArray) -> FloatArray:
        return self._each_by_lag(lam)[..., _visit_lags(at)]

    def _each_by_lag(self, lam: FloatArray) -> FloatArray:
        """Correlations (..., K) at many points."""
        each = [self._by_lag(one)[0] for one in lam.reshape(-1, lam.shape[-1])]
        return np.reshape(each, (*lam.shape[:-1], -1))

    def slopes(self, lam: FloatArray, at: FloatArray) -> FloatArray:
        return np.asarray(self._by_lag(lam)[1][:, _visit_lags(at)])

    def natural(self, lam: FloatArray) -> FloatArray:
        return self._each_by_lag(lam)[..., 1:]

    def natural_slopes(self, lam: FloatArray) -> FloatArray:
        return np.asarray(self._by_lag(lam)[1][:, 1:].T)

    def start(self, at: FloatArray, products: FloatArray) -> FloatArray:
        K = self.K
        R = _moments(K, at, products)
        r = np.array([np.diagonal(R, h).mean() for h in range(K)])
        lags = np.abs(np.arange(K)[:, None] - np.arange(K))
        smallest = float(np.linalg.eigvalsh(r[lags])[0])
        if smallest < 0.05:
            # Mixing in the identity keeps the matrix banded.
            share = (0.05 - smallest) / (1.0 - smallest)
            r = np.append(1.0, (1.0 - share) * r[1:])
        return np.arctanh(_partial(r))


def _visit_lags(at: FloatArray) -> FloatArray:
    visit = at[..., 0].astype(np.int64)
    return np.asarray(np.abs(visit[..., :, None] - visit[..., None, :]))


def _partial(r: FloatArray) -> FloatArray:
    """Partial correlations (K - 1,) of correlations (K,) by lag."""
    out, a, left = [], np.empty(0), 1.0
    for h in range(1, r.size):
        p = float(np.clip((r[h] - a @ r[h - 1 : 0 : -1]) / left, -0.95, 0.95))
        a = np.append(a - p * a[::-1], p)
        left *= 1.0 - p**2
        out.append(p)
    return np.array(out)


@by_value
@dataclass(frozen=True, eq=False)
class AntedependentCorrelation(AtanhParameters, _OfVisits):
    """Ante-dependence of order one: a correlation for every pair of neighbouring visits, their products beyond.

    Attributes
    ----------
    visits : tuple of str
    """

    chain: ClassVar[bool] = True
    pymc: ClassVar[str] = "antedependent_correlation"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"atanh_rho_{k}" for k in range(1, len(self.visits)))

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(f"corr[{a}.{b}]" for a, b in zip(self.visits[:-1], self.visits[1:], strict=True))

    def _correlations(self, lam: FloatArray) -> FloatArray:
        """Correlations (..., K, K) of all visits."""
        K, rho = lam.shape[-1] + 1, np.tanh(lam)
        R = np.zeros((*lam.shape[:-1], K, K))
        R[...] = np.eye(K)
        for i in range(1, K):
            R[..., i, :i] = R[..., :i, i] = np.cumprod(rho[..., i - 1 :: -1], axis=-1)[..., ::-1]
        return R

    def _slopes(self, lam: FloatArray) -> FloatArray:
        """Their derivatives (k, K, K) at one point."""
        K, rho = lam.size + 1, np.tanh(lam)
        slopes = np.zeros((lam.size, K, K))
        for i in range(K):
            for j in range(i):
                for k in range(j, i):
                    others = np.prod(np.delete(rho[j:i], k - j))
                    slopes[k, i, j] = slopes[k, j, i] = others * (1.0 - rho[k] ** 2)
        return slopes

    def matrix(self, lam: FloatArray, at: FloatArray) -> FloatArray:
        return _between(self._correlations(lam), at)

    def slopes(self, lam: FloatArray, at: FloatArray) -> FloatArray:
        return _between(self._slopes(lam), at)

    def step(self, lam: FloatArray, before: FloatArray, after: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        R, slopes = self._correlations(lam), self._slopes(lam)
        i, j = before[:, 0].astype(np.int64), after[:, 0].astype(np.int64)
        return R[i, j], 1.0 - R[i, j] ** 2, slopes[:, i, j]

    def start(self, at: FloatArray, products: FloatArray) -> FloatArray:
        return np.arctanh(np.diagonal(_moments(self.K, at, products), 1))
