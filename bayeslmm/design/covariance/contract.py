"""The contract of a covariance structure: all that the package asks of it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from typing import ClassVar

import numpy as np

from bayeslmm.arguments import whole
from bayeslmm.errors import DesignError
from bayeslmm.numerics import direct
from bayeslmm.types import BoolArray, FloatArray, IntArray

# A singular value below this share of the largest is none.
NO_RANK = 1e-9


class CovarianceStructure(ABC):
    """Which covariances the c effects of a term may have; ``size=0`` leaves c to the term it is given to.

    Every method takes many points at once, along leading axes of its arrays: theta (..., k) is one vector or any
    array of them. k is the number of parameters, m that of correlations.

    Attributes
    ----------
    size : int
        c, the number of effects.
    keyword : str
        Name used in formulas and printouts, e.g. ``"us"``.
    description : str
        What it says, in a few words.
    basis_free : bool
        Whether the set of covariances is closed under every change of basis ``Z -> Z C``.
    scale_free : bool
        Whether it is closed under a rescaling of single columns. If not, only a common scale leaves the model
        unchanged.
    entries : bool
        Whether theta and coordinates are entries of a lower-triangular T, in which the criterion is even by columns.
    ordered : bool
        Whether it is about effects in order of time, one for each row.
    about_correlation : bool
        Whether it says nothing about a single effect.
    shapes_tried : tuple of float
        Values of each shape (a coordinate that is no standard deviation) from which an optimiser should look for a
        start.
    pymc_root : str
        The function in `bayeslmm/bayes/pymc_functions.py` that makes the lower-triangular root of the correlation
        matrix from ``r = (1 + z) / 2``, in order of `pairs`; empty where there are none.
    """

    size: int
    keyword: ClassVar[str]
    description: ClassVar[str]
    basis_free: ClassVar[bool] = False
    scale_free: ClassVar[bool] = False
    entries: ClassVar[bool] = False
    ordered: ClassVar[bool] = False
    about_correlation: ClassVar[bool] = False
    shapes_tried: ClassVar[tuple[float, ...]] = (0.0,)
    pymc_root: ClassVar[str] = ""

    def __post_init__(self) -> None:
        whole("size", self.size, 0, error=DesignError)

    # What users see: standard deviations, correlations, theta.

    @property
    @abstractmethod
    def sd_effects(self) -> tuple[tuple[int, ...], ...]:
        """The effects that have each standard deviation."""

    @property
    @abstractmethod
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """For every correlation that is a parameter a pair of effects that has it."""

    @property
    def shared(self) -> bool:
        """Whether several effects have one standard deviation."""
        return len(self.sd_effects) < self.size

    def correlation_of(self, G: FloatArray, a: int, b: int) -> float:
        """The correlation of a pair in a covariance (c, c); nan where nothing tells it."""
        sd = np.sqrt(np.diagonal(G))
        both = sd[a] * sd[b]
        return float(G[a, b] / both) if both > 0 else float("nan")

    def sharing(self, effect: int) -> tuple[int, ...]:
        """The effects that have the standard deviation of an effect."""
        return next(own for own in self.sd_effects if effect in own)

    @property
    def correlated(self) -> bool:
        """Whether some correlation is a parameter."""
        return bool(self.pairs)

    @property
    def plain(self) -> bool:
        """Whether theta are entries of T; one effect alone has no structure."""
        return self.entries or self.size == 1

    @property
    def mirrored(self) -> bool:
        """Whether it is closed under a change of sign of single effects that have an sd of their own."""
        return True

    @property
    def additive(self) -> bool:
        """Whether its covariances may be a linear space (where they are found to be one, they are)."""
        return True

    @property
    def correlation_range(self) -> tuple[float, float]:
        """Ends of every correlation."""
        return -1.0, 1.0

    def pair_names(self, effects: tuple[str, ...], keyword: str) -> tuple[str, ...]:
        """Names of the correlations; `keyword` is the structure's, or what tells two such terms apart."""
        return (keyword,) * len(self.pairs)

    @abstractmethod
    def theta_names(self, effects: tuple[str, ...]) -> tuple[str, ...]:
        """Names of the entries of theta."""

    @abstractmethod
    def theta(self, T: FloatArray) -> FloatArray:
        """Theta (..., k) from a factor (..., c, c), lower triangular with nonnegative diagonal."""

    @abstractmethod
    def check(self, theta: FloatArray) -> None:
        """Refuse theta (k,) that describes no covariance.

        Raises
        ------
        DesignError
        """

    @abstractmethod
    def resized(self, size: int) -> CovarianceStructure:
        """The same structure for a term of `size` effects."""

    def keeping(self, kept: Sequence[int]) -> CovarianceStructure:
        """What is left of it for some of its effects where the others have no variance."""
        return self.resized(len(kept))

    # Coordinates in which the criterion is minimised.

    @property
    @abstractmethod
    def rows(self) -> IntArray:
        """For each parameter, in the order of theta, the row of T that it governs, where it is an entry."""

    @property
    @abstractmethod
    def cols(self) -> IntArray:
        """And the column."""

    @property
    @abstractmethod
    def scales(self) -> BoolArray:
        """Mask (k,) of the coordinates that are standard deviations, or grow with one; the others are shapes."""

    @property
    @abstractmethod
    def with_effect(self) -> BoolArray:
        """Masks (M, k) of the coordinates that vanish with a single effect of several, if that is possible."""

    @property
    @abstractmethod
    def growing(self) -> BoolArray:
        """Masks (M, k) of coordinates that a change of scale multiplies: of the whole term, then of single effects."""

    @abstractmethod
    def coordinates(self, theta: FloatArray) -> FloatArray:
        """X (..., k) from theta (..., k)."""

    @abstractmethod
    def theta_directions(self, theta: FloatArray) -> FloatArray:
        """``dG / dtheta``, shape (..., k, c, c), at theta (..., k)."""

    @abstractmethod
    def factor(self, x: FloatArray) -> FloatArray:
        """A square root T (..., c, c) of G from coordinates (..., k)."""

    @abstractmethod
    def gradient(self, x: FloatArray, slopes: FloatArray) -> FloatArray:
        """Derivatives (..., k) in coordinates (..., k) of what has symmetric derivatives `slopes` (..., c, c) in G."""

    @abstractmethod
    def directions(self, x: FloatArray) -> FloatArray:
        """``dG / dx``, shape (..., k, c, c), at coordinates (..., k)."""

    @abstractmethod
    def curvature(self, x: FloatArray, slopes: FloatArray) -> FloatArray:
        """``sum_ab slopes_ab d^2 G_ab / dx dx'``, shape (..., k, k), at coordinates (..., k)."""

    @abstractmethod
    def nearest(self, G: FloatArray) -> FloatArray:
        """Coordinates (..., k) of a member of the family near a positive definite G (..., c, c)."""

    @abstractmethod
    def scattered(self, sds: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Theta (K, k) in all directions, with standard deviations up to `sds` (K, c); lower ranks among them."""

    @abstractmethod
    def cleaned(self, x: FloatArray, limit: float) -> FloatArray:
        """X (..., k) with singular values of T below `limit` set to zero."""

    @abstractmethod
    def vanished(self, x: FloatArray, slopes: FloatArray) -> list[tuple[FloatArray, float]]:
        """Null directions (c,) of G at coordinates (k,), and the slope of the criterion along each one's variance."""

    def escape(self, slopes: FloatArray) -> FloatArray | None:
        """Coordinates (k,) of a small G along which the criterion falls from G = 0 although no coordinate shows it."""
        return None

    @property
    @abstractmethod
    def apart(self) -> CovarianceStructure:
        """The same family with coordinates of their own for every standard deviation and correlation.

        These come in the order of `sd_effects` and `pairs`; unlike entries of T, which have no such coordinates.
        """

    @property
    def sd_power(self) -> float:
        """Power of the coordinate of a standard deviation that it is proportional to."""
        return 1.0

    @abstractmethod
    def sd_place(self, effect: int) -> int:
        """The coordinate of the standard deviation of an effect; of an unstructured factor that of the first effect."""

    @abstractmethod
    def pair_place(self, a: int, b: int) -> tuple[int, int | None]:
        """The coordinate of a correlation; of an unstructured factor those two that give an angle and a length."""

    @abstractmethod
    def freed_by(self, pair: tuple[int, ...]) -> tuple[int, ...]:
        """Effects without whose variance the correlation of a pair may be anything."""

    @property
    @abstractmethod
    def lengths(self) -> BoolArray:
        """Mask (k,) of the coordinates that are in units of (a power of) the standard deviations."""

    @abstractmethod
    def units(self, x: FloatArray) -> FloatArray:
        """For coordinates (..., k) the sizes in which a change of each matters."""

    @property
    def shape_range(self) -> tuple[float, float]:
        """Ends of a shape that belongs to one correlation."""
        return -0.5 * np.pi, 0.5 * np.pi

    def correlations(self, w: FloatArray) -> FloatArray:
        """Correlations (..., m) of shapes (..., m)."""
        return np.sin(w)

    def shapes_of(self, correlations: FloatArray) -> FloatArray:
        """The inverse of `correlations`."""
        return np.asarray(np.arcsin(np.clip(correlations, -1.0, 1.0)))

    def solved(self, w: FloatArray, k: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """The k-th of shapes (..., m), where the k-th given is the coordinate of that correlation alone.

        With derivatives (..., m) and second derivatives (..., m, m) in what is given.
        """
        slope = np.zeros(w.shape)
        slope[..., k] = 1.0
        return w[..., k], slope, np.zeros((*w.shape, w.shape[-1]))

    def one_shape(self, correlation: FloatArray) -> FloatArray:
        """The coordinate (...) by which a single correlation (...) is held."""
        return self.shapes_of(correlation[..., None])[..., 0]

    def one_correlation(self, shape: FloatArray) -> FloatArray:
        """The inverse of `one_shape`."""
        return self.correlations(shape[..., None])[..., 0]

    def one_slope(self, shape: float) -> float:
        """Its derivative."""
        return float(np.cos(shape))

    @abstractmethod
    def sizes(self, T: FloatArray) -> FloatArray:
        """Of a factor (c, c) with a nonnegative diagonal what a penalty keeps from zero: sds, or diagonal entries."""

    @abstractmethod
    def log_sizes(self, x: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Of coordinates (k,) the absolute `sizes`, and gradient (k,), Hessian (k, k) of their summed logarithms."""

    @property
    def linear(self) -> tuple[FloatArray, FloatArray] | None:
        """Where shared parameters make G linear: a basis (k, c, c), and the changes (k, k) of theta along it."""
        return None

    # Standard deviations and correlations of their own, about which priors are.

    @property
    def partials(self) -> tuple[tuple[int, int], ...]:
        """The pairs (i, j), i > j, in the order in which `partial_root` takes what belongs to them."""
        return tuple((b, a) for a, b in self.pairs)

    def partial_shapes(self, eta: float, lkj: FloatArray) -> FloatArray:
        """Shapes (m,) of the beta densities of the places z; `lkj` (c, c) has those of canonical partials."""
        return np.full(len(self.partials), eta)

    @abstractmethod
    def correlation_root(self, correlations: FloatArray) -> FloatArray:
        """A square root (..., c, c) of the correlation matrix with given correlations (..., m), in order of `pairs`."""

    def pair_values(self, R: FloatArray) -> FloatArray:
        """The correlations (..., m) in correlation matrices (..., c, c)."""
        a, b = np.array(self.pairs, dtype=int).reshape(-1, 2).T
        return np.asarray(R[..., a, b])

    def partial_rest(self, R: FloatArray) -> FloatArray:
        """``1 - z^2`` (..., m) of correlation matrices (..., c, c)."""
        return np.asarray(1.0 - self.partial_places(R) ** 2)

    @abstractmethod
    def partial_root(self, z: FloatArray, rest: FloatArray) -> FloatArray:
        """The same from independent numbers z (..., m) between -1 and 1 and ``rest = 1 - z^2``."""

    @abstractmethod
    def factor_places(self, T: FloatArray) -> FloatArray:
        """Z (..., m) of canonical factors (..., c, c) of covariances, which keep more digits than these."""

    @abstractmethod
    def partial_places(self, R: FloatArray) -> FloatArray:
        """Z (..., m) of correlation matrices (..., c, c); 0 where it has no effect."""

    @property
    def pymc_arguments(self) -> tuple[int, ...]:
        """What `pymc_root` takes after r."""
        return (self.size,)

    @abstractmethod
    def symbol(self, a: int, b: int, rho: str, first: int) -> str:
        """LaTeX of the correlation of effects a != b; `rho` is the term's, `first` the number of its first effect."""

    def prior_subject(self, pair: tuple[int, int], label: str) -> str | None:
        """What the prior that belongs to a pair is about; None for the correlation of two effects among others."""
        return f"the correlation that the effects of {label} share"

    @abstractmethod
    def prior_text(self, eta: float) -> str:
        """The prior of the correlations that belongs to a shape eta."""


def canonical(T: FloatArray) -> FloatArray:
    """The lower-triangular square root of T T' with nonnegative diagonal, by orthogonal reduction.

    Works at singular T: an orthogonal reduction needs no pivot to be positive.
    """
    c = T.shape[-1]
    if c == 1:
        return np.abs(T)
    if c == 2:
        return _canonical_pair(T)
    if T.size == c * c:
        raw = direct.triangle(T.reshape(c, c).T).T
        return np.where(_lower(c), raw * np.where(raw.diagonal() < 0, -1.0, 1.0), 0.0).reshape(T.shape)
    upper = np.linalg.qr(np.swapaxes(T, -1, -2), mode="r")
    signs = np.where(np.diagonal(upper, axis1=-2, axis2=-1) < 0, -1.0, 1.0)
    lower: FloatArray = np.swapaxes(upper * signs[..., :, None], -1, -2)
    return np.tril(lower)


@lru_cache(maxsize=64)
def _lower(size: int) -> BoolArray:
    """Where the entries of a lower triangle are."""
    return np.tri(size, dtype=bool)


def _canonical_pair(T: FloatArray) -> FloatArray:
    """The same of 2 x 2 matrices, by one rotation."""
    if T.size == 4:
        return np.array(_turned(*T.reshape(-1).tolist())).reshape(T.shape)
    a, b, c, d = T[..., 0, 0], T[..., 0, 1], T[..., 1, 0], T[..., 1, 1]
    first = np.hypot(a, b)
    unit = np.where(first > 0, first, 1.0)
    cos, sin = np.where(first > 0, a / unit, 1.0), b / unit
    lower = np.zeros(T.shape)
    lower[..., 0, 0], lower[..., 1, 0], lower[..., 1, 1] = first, c * cos + d * sin, np.abs(d * cos - c * sin)
    return lower


def _turned(a: float, b: float, c: float, d: float) -> tuple[float, float, float, float]:
    """The same of the entries of one matrix, row by row."""
    first = float(np.hypot(a, b))
    cos, sin = (a / first, b / first) if first > 0 else (1.0, b)
    return first, 0.0, c * cos + d * sin, abs(d * cos - c * sin)


def square_root(G: FloatArray) -> FloatArray:
    """A square root (..., c, c) of positive semidefinite matrices by eigenvalues, which does not mind singular ones."""
    values, vectors = np.linalg.eigh(G)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :])


def smallest_bound(T: FloatArray) -> float:
    """A lower bound of the smallest singular value of a triangular T (c, c), without a factorisation."""
    if T.shape[0] == 1:
        return abs(float(T[0, 0]))
    size = math.sqrt(direct.squares(T.reshape(-1)))
    return abs(math.prod(T.diagonal().tolist())) / size ** (T.shape[0] - 1) if size > 0 else 0.0


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
