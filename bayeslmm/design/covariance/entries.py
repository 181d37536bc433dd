"""Structures whose theta and coordinates are entries of a lower-triangular T."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import ClassVar

import numpy as np

from bayeslmm.design.covariance.contract import NO_RANK, CovarianceStructure, canonical, smallest_bound, square_root
from bayeslmm.types import BoolArray, FloatArray, IntArray

# Singular values relative to the largest of a start that is nearly of lower rank.
_LOWER_RANK = 0.02
# What is left of a row of unit length below this is rounding.
_NOTHING = 1e-6


class Entries(CovarianceStructure):
    """What they have in common: every effect has a standard deviation of its own."""

    scale_free: ClassVar[bool] = True
    entries: ClassVar[bool] = True

    @property
    @abstractmethod
    def rows(self) -> IntArray: ...

    @property
    @abstractmethod
    def cols(self) -> IntArray: ...

    @property
    def sd_effects(self) -> tuple[tuple[int, ...], ...]:
        return tuple((k,) for k in range(self.size))

    @cached_property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        return tuple((int(j), int(i)) for i, j in zip(self.rows, self.cols, strict=True) if i != j)

    @property
    def scales(self) -> BoolArray:
        return np.asarray(self.rows == self.cols)

    @property
    def with_effect(self) -> BoolArray:
        effects = np.arange(self.size if self.size > 1 else 0)
        return np.asarray(self.rows == effects[:, None])

    @property
    def growing(self) -> BoolArray:
        each = self.rows == np.arange(self.size)[:, None]
        return each if self.size == 1 else np.concatenate([np.ones_like(each[:1]), each])

    def factor(self, x: FloatArray) -> FloatArray:
        if self.size == 1:
            return x[..., None].copy()
        factor = np.zeros((*x.shape[:-1], self.size, self.size))
        factor[..., self.rows, self.cols] = x
        return factor

    def gradient(self, x: FloatArray, slopes: FloatArray) -> FloatArray:
        if self.size == 1:
            return np.asarray(2.0 * slopes[..., 0] * x)
        full = 2.0 * (slopes @ self.factor(x))
        return np.asarray(full[..., self.rows, self.cols])

    def directions(self, x: FloatArray) -> FloatArray:
        if self.size == 1:
            return 2.0 * x[..., None, None]
        half = np.zeros((*x.shape, self.size, self.size))
        half[..., np.arange(self.rows.size), self.rows, :] = self.factor(x).mT[..., self.cols, :]
        return half + half.mT

    def curvature(self, x: FloatArray, slopes: FloatArray) -> FloatArray:
        if self.size == 1:
            return 2.0 * slopes
        same = 2.0 * (self.cols[:, None] == self.cols)
        return np.asarray(slopes[..., self.rows[:, None], self.rows] * same)

    def coordinates(self, theta: FloatArray) -> FloatArray:
        return theta

    def theta_directions(self, theta: FloatArray) -> FloatArray:
        return self.directions(theta)

    @cached_property
    def _places(self) -> IntArray:
        """Of the entries in T, written row by row."""
        return np.asarray(self.rows * self.size + self.cols)

    def theta(self, T: FloatArray) -> FloatArray:
        return T.reshape(*T.shape[:-2], -1).take(self._places, axis=-1)

    def theta_names(self, effects: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(
            effects[i] if i == j else f"{effects[j]}.{effects[i]}" for i, j in zip(self.rows, self.cols, strict=True)
        )

    def cleaned(self, x: FloatArray, limit: float) -> FloatArray:
        if x.ndim == 1 or len(x) == 1:
            one = self.factor(x.reshape(-1))
            if smallest_bound(one) > limit:
                return x
        T = self.factor(np.atleast_2d(x))
        suspect = np.flatnonzero(~(_smallest_bounds(T) > limit))
        if suspect.size == 0:
            return x
        U, s, Vt = np.linalg.svd(T[suspect])
        small = s < limit
        changed = small.any(axis=1)
        if not changed.any():
            return x
        new = canonical((U * np.where(small, 0.0, s)[:, None, :]) @ Vt)
        new[np.abs(new) < 1e-14 * np.maximum(s[:, :1, None], 1e-300)] = 0.0
        new[small[:, 0]] = 0.0
        T[suspect[changed]] = new[changed]
        return np.asarray(T[:, self.rows, self.cols]).reshape(x.shape)

    def check(self, theta: FloatArray) -> None:
        pass

    def vanished(self, x: FloatArray, slopes: FloatArray) -> list[tuple[FloatArray, float]]:
        U, s, _ = np.linalg.svd(self.factor(x))
        null = np.flatnonzero(s <= NO_RANK * max(s[0], 1e-300))
        return [(U[:, i], float(U[:, i] @ slopes @ U[:, i])) for i in null]

    @property
    def apart(self) -> CovarianceStructure:
        return self

    def freed_by(self, pair: tuple[int, ...]) -> tuple[int, ...]:
        return pair

    @property
    def lengths(self) -> BoolArray:
        return np.ones(self.rows.size, dtype=bool)

    def units(self, x: FloatArray) -> FloatArray:
        """The entries of one row are of the size of the row's own standard deviation."""
        return np.abs(x[..., [self._place(int(row), int(row)) for row in self.rows]])

    def _place(self, row: int, col: int) -> int:
        """Coordinate of an entry of the factor."""
        return int(np.flatnonzero((self.rows == row) & (self.cols == col))[0])

    def sd_place(self, effect: int) -> int:
        row = 0 if self.basis_free else effect
        return self._place(row, row)

    def pair_place(self, a: int, b: int) -> tuple[int, int | None]:
        return self._place(1, 0), self._place(1, 1)

    def sizes(self, T: FloatArray) -> FloatArray:
        return np.abs(np.diagonal(T))

    def log_sizes(self, x: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Those of ``log |det T|`` for triangular T."""
        slope = np.where(self.scales, 1.0 / np.where(self.scales, x, 1.0), 0.0)
        return np.abs(x[self.scales]), slope, np.diag(-(slope**2))

    def factor_places(self, T: FloatArray) -> FloatArray:
        sd = np.sqrt((T**2).sum(-1, keepdims=True))
        L, places = T / np.where(sd > 0, sd, 1.0), list[FloatArray]()
        left = np.ones(T.shape[:-1])
        for i, j in self.partials:
            places.append(L[..., i, j] / np.sqrt(np.maximum(left[..., i], _NOTHING**2)))
            left[..., i] -= L[..., i, j] ** 2
        return np.stack(places, axis=-1) if places else np.zeros((*T.shape[:-2], 0))

    def prior_subject(self, pair: tuple[int, int], label: str) -> str | None:
        return None

    def prior_text(self, eta: float) -> str:
        return f"LKJ({eta:g})"


@lru_cache
def _lower_triangle(size: int) -> tuple[IntArray, IntArray]:
    """Rows and columns of the entries of a lower triangle, column by column."""
    cols, rows = np.triu_indices(size)
    rows.flags.writeable = cols.flags.writeable = False
    return rows, cols


@dataclass(frozen=True)
class Unstructured(Entries):
    """Every variance and covariance free: ``(f | g)``, ``us(f | g)``. c (c + 1) / 2 parameters.

    Theta holds the entries of T column by column, as lme4's does.

    Examples
    --------
    >>> Unstructured(2).rows, Unstructured(2).cols
    (array([0, 1, 1]), array([0, 0, 1]))
    """

    size: int = 0
    keyword: ClassVar[str] = "us"
    pymc_root: ClassVar[str] = "correlation_factor"
    description: ClassVar[str] = "unstructured covariance, the same as without the keyword"
    basis_free: ClassVar[bool] = True

    def resized(self, size: int) -> Unstructured:
        return _unstructured(size)

    @cached_property
    def rows(self) -> IntArray:
        return _lower_triangle(self.size)[0]

    @cached_property
    def cols(self) -> IntArray:
        return _lower_triangle(self.size)[1]

    def nearest(self, G: FloatArray) -> FloatArray:
        return np.asarray(np.linalg.cholesky(G)[..., self.rows, self.cols])

    def scattered(self, sds: FloatArray, rng: np.random.Generator) -> FloatArray:
        count, c = sds.shape
        if c == 1:
            return self.theta(sds[:, :, None] * np.eye(c))
        Q = np.linalg.qr(rng.normal(size=(count, c, c)))[0]
        shares = np.where(rng.random((count, c)) < 0.5, 1.0, _LOWER_RANK)
        return self.theta(canonical(Q * (sds[:, :1] * shares)[:, None, :]))

    def pair_names(self, effects: tuple[str, ...], keyword: str) -> tuple[str, ...]:
        return tuple(f"{effects[a]}.{effects[b]}" for a, b in self.pairs)

    @property
    def partials(self) -> tuple[tuple[int, int], ...]:
        """Row by row."""
        return tuple((i, j) for i in range(1, self.size) for j in range(i))

    def partial_shapes(self, eta: float, lkj: FloatArray) -> FloatArray:
        return np.array([lkj[i, j] for i, j in self.partials])

    def correlation_root(self, correlations: FloatArray) -> FloatArray:
        R = np.zeros((*correlations.shape[:-1], self.size, self.size)) + np.eye(self.size)
        a, b = np.array(self.pairs, dtype=int).reshape(-1, 2).T
        R[..., a, b] = R[..., b, a] = correlations
        return square_root(R)

    def partial_root(self, z: FloatArray, rest: FloatArray) -> FloatArray:
        L = np.zeros((*z.shape[:-1], self.size, self.size))
        left = np.ones((*z.shape[:-1], self.size))
        for k, (i, j) in enumerate(self.partials):
            L[..., i, j] = z[..., k] * np.sqrt(left[..., i])
            left[..., i] = left[..., i] * rest[..., k]
        L[..., range(self.size), range(self.size)] = np.sqrt(left)
        return L

    def partial_places(self, R: FloatArray) -> FloatArray:
        L = np.zeros_like(R)
        for j in range(self.size):
            below = R[..., j:, j] - np.einsum("...ik,...k->...i", L[..., j:, :j], L[..., j, :j])
            pivot = np.sqrt(np.maximum(below[..., :1], 0.0))
            L[..., j:, j] = np.divide(below, pivot, out=np.zeros_like(below), where=pivot > _NOTHING)
        left = np.sqrt(np.maximum(1.0 - np.cumsum(L**2, axis=-1) + L**2, 0.0))
        z = np.divide(L, left, out=np.zeros_like(L), where=left > _NOTHING)
        rows, cols = np.array(self.partials, dtype=int).reshape(-1, 2).T
        return np.asarray(z[..., rows, cols])

    def partial_rest(self, R: FloatArray) -> FloatArray:
        """As a share of the row's length that is left, which keeps its digits near the edge."""
        out, L = np.ones_like(R), np.zeros_like(R)
        left = np.ones(R.shape[:-1])
        for j in range(self.size):
            L[..., j, j] = np.sqrt(np.maximum(left[..., j], 0.0))
            for i in range(j + 1, self.size):
                cross = R[..., i, j] - (L[..., i, :j] * L[..., j, :j]).sum(-1)
                L[..., i, j] = np.divide(cross, L[..., j, j], out=np.zeros_like(cross), where=L[..., j, j] > 0)
                before = left[..., i].copy()
                left[..., i] = np.maximum(before - L[..., i, j] ** 2, 0.0)
                out[..., i, j] = np.divide(left[..., i], before, out=np.zeros_like(before), where=before > 0)
        rows, cols = np.array(self.partials, dtype=int).reshape(-1, 2).T
        return np.asarray(out[..., rows, cols])

    def symbol(self, a: int, b: int, rho: str, first: int) -> str:
        low, high = sorted((a, b))
        return f"{rho[:-1]}{first + low}{first + high}}}"


@lru_cache
def _unstructured(size: int) -> Unstructured:
    return Unstructured(size)


@dataclass(frozen=True)
class Diagonal(Entries):
    """Independent effects with a variance each: ``(f || g)``, ``diag(f | g)``. c parameters.

    Examples
    --------
    >>> Diagonal(2).factor(np.array([3.0, 4.0]))
    array([[3., 0.],
           [0., 4.]])
    """

    size: int = 0
    keyword: ClassVar[str] = "diag"
    description: ClassVar[str] = "independent effects with a variance each"

    def resized(self, size: int) -> Diagonal:
        return replace(self, size=size)

    @cached_property
    def rows(self) -> IntArray:
        return np.arange(self.size)

    @cached_property
    def cols(self) -> IntArray:
        return np.arange(self.size)

    def nearest(self, G: FloatArray) -> FloatArray:
        return np.sqrt(np.diagonal(G, axis1=-2, axis2=-1))

    def scattered(self, sds: FloatArray, rng: np.random.Generator) -> FloatArray:
        return sds

    def correlation_root(self, correlations: FloatArray) -> FloatArray:
        return np.zeros((*correlations.shape[:-1], self.size, self.size)) + np.eye(self.size)

    def partial_root(self, z: FloatArray, rest: FloatArray) -> FloatArray:
        return self.correlation_root(z)

    def partial_places(self, R: FloatArray) -> FloatArray:
        return np.zeros((*R.shape[:-2], 0))

    def symbol(self, a: int, b: int, rho: str, first: int) -> str:
        return "0"


def _smallest_bounds(T: FloatArray) -> FloatArray:
    """Lower bounds (K,) of the smallest singular values of triangular T (K, c, c)."""
    size = np.sqrt((T * T).sum(axis=(1, 2)))
    with np.errstate(invalid="ignore", divide="ignore"):
        bound = np.abs(np.diagonal(T, axis1=1, axis2=2).prod(axis=1)) / size ** (T.shape[1] - 1)
    return np.where(size > 0, bound, 0.0)
