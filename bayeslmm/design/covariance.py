"""Covariance structures of one random-effects term.

The covariance of the c effects of a term is ``sigma^2 G`` with ``G = T T'``. A structure is one class that says
which G are possible and describes each of them twice: by *theta*, the numbers users see and fix, and by
*coordinates* x without bounds in which G is analytic, also where it loses rank: a zero variance and a perfect
correlation are ordinary points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Protocol, Self

import numpy as np

from bayeslmm.types import BoolArray, FloatArray, IntArray


class CovarianceStructure(Protocol):
    """The contract of a covariance structure; ``size=0`` leaves c to the term it is given to.

    Attributes
    ----------
    size : int
        c, the number of effects.
    keyword : str
        Name used in formulas and printouts, e.g. ``"us"``.
    rows, cols : IntArray, shape (k,)
        For each parameter an entry of the lower-triangular T that it governs, in the order of theta.
    basis_free : bool
        Whether the set of covariances is closed under every change of basis ``Z -> Z C``.
    scale_free : bool
        Whether it is closed under a rescaling of single columns. If not, only a common scale leaves the model
        unchanged.
    shared : bool
        Whether several effects have one standard deviation (and at most one correlation).
    batched : bool
        Whether `gradient`, `directions`, `curvature` and `cleaned` take many points at once, along a leading axis.
    scales : BoolArray, shape (k,)
        Coordinates that are standard deviations of either sign; the others are shapes.
    shapes_tried : tuple of float
        Values of each shape from which an optimiser should look for a start.
    """

    @property
    def size(self) -> int: ...
    @property
    def keyword(self) -> str: ...
    @property
    def rows(self) -> IntArray: ...
    @property
    def cols(self) -> IntArray: ...
    @property
    def basis_free(self) -> bool: ...
    @property
    def scale_free(self) -> bool: ...
    @property
    def shared(self) -> bool: ...
    @property
    def batched(self) -> bool: ...
    @property
    def scales(self) -> BoolArray: ...
    @property
    def shapes_tried(self) -> tuple[float, ...]: ...

    def resized(self, size: int) -> Self:
        """The same structure for a term of `size` effects."""
        ...

    def factor(self, x: FloatArray) -> FloatArray:
        """A square root T (..., c, c) of G from coordinates (..., k)."""
        ...

    def gradient(self, T: FloatArray, slopes: FloatArray) -> FloatArray:
        """Derivatives (k,) in x, at ``T = factor(x)``, of what has symmetric derivatives `slopes` (c, c) in G."""
        ...

    def directions(self, T: FloatArray) -> FloatArray:
        """``dG / dx``, shape (k, c, c), at ``T = factor(x)``."""
        ...

    def curvature(self, T: FloatArray, slopes: FloatArray) -> FloatArray:
        """``sum_ab slopes_ab d^2 G_ab / dx dx'``, shape (k, k), at ``T = factor(x)``."""
        ...

    def coordinates(self, theta: FloatArray) -> FloatArray:
        """X (..., k) from theta (..., k)."""
        ...

    def theta_directions(self, theta: FloatArray) -> FloatArray:
        """``dG / dtheta``, shape (..., k, c, c), at theta (..., k)."""
        ...

    def nearest(self, G: FloatArray) -> FloatArray:
        """Coordinates (k,) of a member of the family near a positive definite G (c, c)."""
        ...

    def theta(self, T: FloatArray) -> FloatArray:
        """Theta (..., k) from a factor (..., c, c), lower triangular with nonnegative diagonal."""
        ...

    def theta_names(self, effects: tuple[str, ...]) -> tuple[str, ...]:
        """Names of the entries of theta."""
        ...

    def cleaned(self, x: FloatArray, limit: float) -> FloatArray:
        """X (k,) with singular values of T below `limit` set to zero."""
        ...

    def check(self, theta: FloatArray) -> None:
        """Refuse theta (k,) that describes no covariance.

        Raises
        ------
        DesignError
        """
        ...


def canonical(T: FloatArray) -> FloatArray:
    """The lower-triangular square root of T T' with nonnegative diagonal, by orthogonal reduction.

    Works at singular T: an orthogonal reduction needs no pivot to be positive.
    """
    if T.shape[-1] == 1:
        return np.abs(T)
    upper = np.linalg.qr(np.swapaxes(T, -1, -2), mode="r")
    signs = np.where(np.diagonal(upper, axis1=-2, axis2=-1) < 0, -1.0, 1.0)
    lower: FloatArray = np.swapaxes(upper * signs[..., :, None], -1, -2)
    return np.tril(lower)


def smallest_bound(T: FloatArray) -> float:
    """A lower bound of the smallest singular value of a triangular T (c, c), without a factorisation."""
    size = math.sqrt(float((T * T).sum()))
    return abs(math.prod(T.diagonal().tolist())) / size ** (T.shape[0] - 1) if size > 0 else 0.0


def _smallest_bounds(T: FloatArray) -> FloatArray:
    """The same for many points (K, c, c)."""
    size = np.sqrt((T * T).sum(axis=(1, 2)))
    with np.errstate(invalid="ignore", divide="ignore"):
        bound = np.abs(np.diagonal(T, axis1=1, axis2=2).prod(axis=1)) / size ** (T.shape[1] - 1)
    return np.where(size > 0, bound, 0.0)


class _Entries:
    """Structures whose theta and coordinates are entries of a lower-triangular T."""

    size: int
    scale_free: ClassVar[bool] = True
    shared: ClassVar[bool] = False
    batched: ClassVar[bool] = True
    shapes_tried: ClassVar[tuple[float, ...]] = (0.0,)

    @property
    def rows(self) -> IntArray:
        raise NotImplementedError

    @property
    def cols(self) -> IntArray:
        raise NotImplementedError

    @property
    def scales(self) -> BoolArray:
        return np.asarray(self.rows == self.cols)

    def factor(self, x: FloatArray) -> FloatArray:
        factor = np.zeros((*x.shape[:-1], self.size, self.size))
        factor[..., self.rows, self.cols] = x
        return factor

    def gradient(self, T: FloatArray, slopes: FloatArray) -> FloatArray:
        full = 2.0 * (slopes @ T)
        return np.asarray(full[..., self.rows, self.cols])

    def directions(self, T: FloatArray) -> FloatArray:
        half = np.zeros((*T.shape[:-2], self.rows.size, self.size, self.size))
        half[..., np.arange(self.rows.size), self.rows, :] = T.mT[..., self.cols, :]
        return half + half.mT

    def curvature(self, T: FloatArray, slopes: FloatArray) -> FloatArray:
        same = 2.0 * (self.cols[:, None] == self.cols)
        return np.asarray(slopes[..., self.rows[:, None], self.rows] * same)

    def coordinates(self, theta: FloatArray) -> FloatArray:
        return theta

    def theta_directions(self, theta: FloatArray) -> FloatArray:
        return self.directions(self.factor(theta))

    def theta(self, T: FloatArray) -> FloatArray:
        return np.asarray(T[..., self.rows, self.cols])

    def theta_names(self, effects: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(
            effects[i] if i == j else f"{effects[j]}.{effects[i]}" for i, j in zip(self.rows, self.cols, strict=True)
        )

    def cleaned(self, x: FloatArray, limit: float) -> FloatArray:
        """Also of many points (..., k) at once."""
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


@dataclass(frozen=True)
class Unstructured(_Entries):
    """Every variance and covariance free: ``(f | g)``, ``us(f | g)``. c (c + 1) / 2 parameters.

    Theta holds the entries of T column by column, as lme4's does.

    Examples
    --------
    >>> Unstructured(2).rows, Unstructured(2).cols
    (array([0, 1, 1]), array([0, 0, 1]))
    """

    size: int = 0
    keyword: ClassVar[str] = "us"
    basis_free: ClassVar[bool] = True

    def resized(self, size: int) -> Unstructured:
        return replace(self, size=size)

    def nearest(self, G: FloatArray) -> FloatArray:
        return np.asarray(np.linalg.cholesky(G)[self.rows, self.cols])

    @cached_property
    def rows(self) -> IntArray:
        return np.concatenate([np.arange(j, self.size) for j in range(self.size)])

    @cached_property
    def cols(self) -> IntArray:
        return np.concatenate([np.full(self.size - j, j) for j in range(self.size)])


@dataclass(frozen=True)
class Diagonal(_Entries):
    """Independent effects with a variance each: ``(f || g)``, ``diag(f | g)``. c parameters.

    Examples
    --------
    >>> Diagonal(2).factor(np.array([3.0, 4.0]))
    array([[3., 0.],
           [0., 4.]])
    """

    size: int = 0
    keyword: ClassVar[str] = "diag"
    basis_free: ClassVar[bool] = False

    def resized(self, size: int) -> Diagonal:
        return replace(self, size=size)

    def nearest(self, G: FloatArray) -> FloatArray:
        return np.sqrt(np.diagonal(G))

    @cached_property
    def rows(self) -> IntArray:
        return np.arange(self.size)

    @cached_property
    def cols(self) -> IntArray:
        return np.arange(self.size)


def factor_from_theta(structure: CovarianceStructure, theta: FloatArray) -> FloatArray:
    """A square root T of the relative covariance from theta.

    Parameters
    ----------
    structure : CovarianceStructure
    theta : FloatArray, shape (..., k)
        Relative scale (standard deviations divided by sigma).

    Returns
    -------
    FloatArray, shape (..., c, c)
        Lower triangular for the structures whose theta are entries of T.
    """
    return structure.factor(structure.coordinates(np.asarray(theta, dtype=float)))
