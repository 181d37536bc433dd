"""Coordinates in which one parameter of a fit is an axis, so that the criterion can be minimised over all others.

Everything is relative to the fit: standard deviations in units of its sigma, the residual by ``log(sigma / fit)``, a
coefficient in its standard errors. A term without structure is described by a lower-triangular factor in a basis of
its effects that starts with the target, the rest orthogonal; a correlation is an angle, ``rho = sin(angle)``, so that
a zero variance and a perfect correlation are ordinary points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bayeslmm.design.covariance import CovarianceStructure, Diagonal, canonical
from bayeslmm.design.shared import AR1, Shared
from bayeslmm.likelihood import parameters as par
from bayeslmm.likelihood.crossproducts import CrossProducts
from bayeslmm.types import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class ProfileTarget:
    """The parameter to profile.

    Attributes
    ----------
    kind : {"sd", "corr", "sigma", "ratio", "fixed"}
        ``"ratio"`` is the variance of an effect divided by that of the residual.
    term : int
        Position in ``design.terms``; the coefficient's for a fixed effect.
    effects : tuple of int
        The effect, or the pair of a correlation.
    """

    kind: str
    term: int = -1
    effects: tuple[int, ...] = ()


@dataclass(frozen=True)
class SharedShape:
    """A structure with one sd in the coordinates (sd, angle), many points at once.

    Attributes
    ----------
    structure : Shared
    """

    structure: Shared

    @cached_property
    def _lags(self) -> FloatArray:
        order = np.arange(self.structure.size)
        apart = np.abs(order[:, None] - order)
        return np.asarray(apart if isinstance(self.structure, AR1) else np.minimum(apart, 1), dtype=float)

    @property
    def n(self) -> int:
        """Number of coordinates."""
        return 2 if self.structure.correlated else 1

    def _matrices(self, angle: FloatArray) -> list[FloatArray]:
        """Correlation matrices (K, c, c) and their first two derivatives in the angle."""
        lags = self._lags
        if isinstance(self.structure, AR1):
            rho, once, twice = np.sin(angle), np.cos(angle), -np.sin(angle)
        else:
            scale = self.structure.size / (self.structure.size - 1.0)
            rho = self.structure.correlation(angle)
            once, twice = -scale * np.sin(2 * angle), -2.0 * scale * np.cos(2 * angle)
        rho, once, twice = (a[:, None, None] for a in (rho, once, twice))
        slope = lags * rho ** np.maximum(lags - 1, 0)
        bend = lags * (lags - 1) * rho ** np.maximum(lags - 2, 0)
        return [rho**lags, slope * once, bend * once**2 + slope * twice]

    def factor(self, x: FloatArray) -> FloatArray:
        """Factors (K, c, c) from coordinates (K, n)."""
        if self.n == 1:
            return self.structure.factor(self.structure.coordinates(x))
        theta = np.stack([np.ones_like(x[:, 0]), self.structure.correlation(x[:, 1])], axis=-1)
        return np.asarray(x[:, 0, None, None] * self.structure.factor(self.structure.coordinates(theta)))

    def directions(self, x: FloatArray) -> FloatArray:
        """``dG / dx`` (K, n, c, c)."""
        sd = x[:, 0, None, None]
        if self.n == 1:
            return np.asarray(2.0 * sd[:, None] * np.eye(self.structure.size))
        R, once, _ = self._matrices(x[:, 1])
        return np.stack([2.0 * sd * R, sd**2 * once], axis=1)

    def curvature(self, x: FloatArray, slopes: FloatArray) -> FloatArray:
        """``sum_ab slopes_ab d^2 G_ab / dx dx'`` (K, n, n)."""
        if self.n == 1:
            return np.asarray(2.0 * np.trace(slopes, axis1=1, axis2=2)[:, None, None])
        R, once, twice = ((slopes * matrix).sum((1, 2)) for matrix in self._matrices(x[:, 1]))
        sd = x[:, 0]
        rows = [np.stack([2.0 * R, 2.0 * sd * once], -1), np.stack([2.0 * sd * once, sd**2 * twice], -1)]
        return np.stack(rows, axis=1)

    def coordinates(self, T: FloatArray) -> FloatArray:
        """Coordinates (K, n) of lower-triangular factors (K, c, c)."""
        theta = self.structure.theta(T)
        return theta if self.n == 1 else np.stack([theta[:, 0], self.structure.angle(theta[:, 1])], axis=-1)


@dataclass(frozen=True)
class EntryShape:
    """A structure whose coordinates are entries of a lower-triangular factor.

    Attributes
    ----------
    structure : CovarianceStructure
    """

    structure: CovarianceStructure

    @property
    def n(self) -> int:
        """Number of coordinates."""
        return int(self.structure.rows.size)

    def factor(self, x: FloatArray) -> FloatArray:
        """Factors (K, c, c) from coordinates (K, n)."""
        return self.structure.factor(x)

    def directions(self, x: FloatArray) -> FloatArray:
        """``dG / dx`` (K, n, c, c)."""
        return self.structure.directions(self.structure.factor(x))

    def curvature(self, x: FloatArray, slopes: FloatArray) -> FloatArray:
        """``sum_ab slopes_ab d^2 G_ab / dx dx'`` (K, n, n)."""
        return self.structure.curvature(self.structure.factor(x), slopes)

    def coordinates(self, T: FloatArray) -> FloatArray:
        """Coordinates (K, n) of lower-triangular factors (K, c, c)."""
        return np.asarray(T[:, self.structure.rows, self.structure.cols])

    def place(self, row: int, col: int) -> int:
        """Coordinate of an entry of the factor."""
        return int(np.flatnonzero((self.structure.rows == row) & (self.structure.cols == col))[0])


@dataclass(frozen=True)
class Piece:
    """One term: its block, columns within it, coordinates, and their place among all.

    Attributes
    ----------
    block, term : int
    columns, span : slice
    shape : EntryShape or SharedShape
    """

    block: int
    term: int
    columns: slice
    span: slice
    shape: EntryShape | SharedShape


def pieces(cp: CrossProducts) -> tuple[Piece, ...]:
    """The terms of a model in the internal order."""
    out, position = [], 0
    for b, (columns, term) in par.enumerate_terms(cp):
        structure = cp.design.terms[term].structure
        shape = SharedShape(structure) if isinstance(structure, Shared) else EntryShape(structure)
        out.append(Piece(b, term, columns, slice(position, position + shape.n), shape))
        position += shape.n
    return tuple(out)


@dataclass(frozen=True)
class Axis:
    """How a target is described by the coordinates u = (terms, log sigma, coefficient).

    Attributes
    ----------
    target : ProfileTarget
    frames : tuple of FloatArray, each (c, c)
        For every piece W with ``internal factor = W @ factor(u)``.
    place : int
        Coordinate of u that the target takes.
    polar : tuple of int or None
        Coordinates that an angle and a length take the place of.
    lengths : tuple of int or None
        Coordinates of both standard deviations of a correlation that is an angle.
    order : IntArray, shape (d,)
        Coordinates of u that are free, the target first.
    unit : float
        The coordinate of an sd is ``unit * sd / sigma``.
    ends : tuple of float
        Ends of the target's coordinate.
    functional : FloatArray, shape (p,)
        A coefficient in terms of the internal ones.
    absolute : IntArray
        Coordinates that are standard deviations (or entries of a factor) in units of the fit's sigma, not of sigma.
    shared : Shared or None
        The structure of the target's term, if its effects share a correlation.
    """

    target: ProfileTarget
    frames: tuple[FloatArray, ...]
    place: int
    polar: tuple[int, int] | None
    lengths: tuple[int, int] | None
    order: IntArray
    unit: float
    ends: tuple[float, float]
    functional: FloatArray
    absolute: IntArray
    shared: Shared | None


def axis(cp: CrossProducts, held: Sequence[int], target: ProfileTarget) -> Axis:
    """Coordinates for one target.

    Parameters
    ----------
    cp : CrossProducts
    held : sequence of int
        Terms that are not estimated.
    target : ProfileTarget
        Not of such a term.
    """
    known = pieces(cp)
    k = known[-1].span.stop if known else 0
    frames: list[FloatArray] = []
    place, unit, ends = k, 1.0, (-np.inf, np.inf)
    polar: tuple[int, int] | None = None
    lengths: tuple[int, int] | None = None
    shared: Shared | None = None
    for piece in known:
        own = piece.term == target.term and target.kind in ("sd", "ratio", "corr")
        W = _frame(cp, piece, target.effects if own else ())
        frames.append(W)
        if own:
            place, polar, ends = _own_place(piece, target)
            if polar is not None and isinstance(piece.shape, EntryShape):
                lengths = (piece.span.start + piece.shape.place(0, 0), polar[1])
            unit = _unit(cp, piece, W, target)
            shared = piece.shape.structure if isinstance(piece.shape, SharedShape) else None
    functional = np.zeros(cp.p)
    if target.kind == "fixed":
        place, functional = k + 1, cp.fixed.transform[target.term]
    free = [i for piece in known if piece.term not in held for i in range(piece.span.start, piece.span.stop)]
    order = [place] + [i for i in [*free, k, k + 1] if i != place]
    entries = [i for piece in known for i in _entries(piece)] if target.kind in ("sd", "sigma") else []
    absolute = np.array([i for i in entries if i in free], dtype=int)
    return Axis(target, tuple(frames), place, polar, lengths, np.array(order), unit, ends, functional, absolute, shared)


def _entries(piece: Piece) -> range:
    return range(piece.span.start, piece.span.start + 1 if isinstance(piece.shape, SharedShape) else piece.span.stop)


def relative_lengths(known: Sequence[Piece], axes: Axis) -> IntArray:
    """Places among the free coordinates, without the target, of sds and entries of factors relative to sigma."""
    angle = axes.polar[0] if axes.polar is not None else -1
    own = {i for piece in known for i in _entries(piece)} - {angle, *axes.absolute.tolist()}
    return np.flatnonzero(np.isin(axes.order[1:], sorted(own)))


def signed_lengths(known: Sequence[Piece], axes: Axis) -> IntArray:
    """Places, as above, of the lengths that a correlation changes its sign with; none for other targets."""
    if axes.polar is None:
        return np.zeros(0, dtype=np.int64)
    angle, length = axes.polar
    first = next(piece.span.start for piece in known if piece.span.start <= angle < piece.span.stop)
    return np.flatnonzero(np.isin(axes.order[1:], (first, length)))


def _own_place(piece: Piece, target: ProfileTarget) -> tuple[int, tuple[int, int] | None, tuple[float, float]]:
    start, shape = piece.span.start, piece.shape
    if isinstance(shape, SharedShape):
        if target.kind != "corr":
            return start, None, (0.0, np.inf)
        return start + 1, None, (-0.5 * np.pi if isinstance(shape.structure, AR1) else 0.0, 0.5 * np.pi)
    if target.kind == "corr":
        angle, length = start + shape.place(1, 0), start + shape.place(1, 1)
        return angle, (angle, length), (-0.5 * np.pi, 0.5 * np.pi)
    row = target.effects[0] if isinstance(shape.structure, Diagonal) else 0
    return start + shape.place(row, row), None, (0.0, np.inf)


def _frame(cp: CrossProducts, piece: Piece, first: Sequence[int]) -> FloatArray:
    """W of a term; of the target's term with the target's effects first and the others orthogonal to one another."""
    N, structure = cp.blocks[piece.block].inverse_basis[piece.columns, piece.columns], piece.shape.structure
    if isinstance(piece.shape, SharedShape):
        return np.asarray(N / np.linalg.norm(N))
    if isinstance(structure, Diagonal) or not first:
        return np.eye(N.shape[0])
    rest = [a for a in range(N.shape[0]) if a not in first]
    others, _ = np.linalg.qr(N[:, rest])
    own = N[:, list(first)]
    for _ in range(2):
        own = own - others @ (others.T @ own)
    return np.column_stack([own / np.linalg.norm(own, axis=0), others])


def _unit(cp: CrossProducts, piece: Piece, W: FloatArray, target: ProfileTarget) -> float:
    N = cp.blocks[piece.block].inverse_basis[piece.columns, piece.columns]
    if isinstance(piece.shape, SharedShape):
        return float(np.linalg.norm(N))
    effect = target.effects[0]
    if isinstance(piece.shape.structure, Diagonal):
        return float(N[effect, effect])
    # The first effect of the new basis is the user's, multiplied by this.
    return float(np.linalg.solve(W, N[:, effect])[0])


def start(cp: CrossProducts, axes: Axis, factors: Sequence[FloatArray]) -> FloatArray:
    """Coordinates u (K, k + 2) of fits from their internal factors (K, c, c) of the blocks; a correlation as angle."""
    known = pieces(cp)
    u = np.zeros((factors[0].shape[0], (known[-1].span.stop if known else 0) + 2))
    for piece, W in zip(known, axes.frames, strict=True):
        T = np.linalg.solve(W, factors[piece.block][:, piece.columns, piece.columns])
        u[:, piece.span] = piece.shape.coordinates(canonical(T))
    if axes.polar is not None:
        a, b = axes.polar
        u[:, a], u[:, b] = np.arctan2(u[:, a], u[:, b]), np.hypot(u[:, a], u[:, b])
    return u


def mirrored(axes: Axis, u: FloatArray) -> BoolArray:
    """Whether coordinates u (K, k + 2) have standard deviations of opposite signs: the correlation is minus its own."""
    if axes.lengths is None:
        return np.zeros(u.shape[0], dtype=bool)
    first, second = axes.lengths
    return np.asarray(np.sign(u[:, first]) * np.sign(u[:, second]) < 0)


def units(known: Sequence[Piece], axes: Axis, u: FloatArray) -> FloatArray:
    """Powers of two (K, k + 2) in which coordinates u (K, k + 2) of fits are of the size that changes the criterion.

    The entries of one row of a factor are of the size of the row's own standard deviation, where that is beyond 1; a
    correlation, log sigma and a coefficient in standard errors are of size 1.
    """
    sizes = np.ones(u.shape)
    for piece in known:
        if isinstance(piece.shape, SharedShape):
            sizes[:, piece.span.start] = np.abs(u[:, piece.span.start])
            continue
        own = np.array([piece.shape.place(row, row) for row in piece.shape.structure.rows])
        sizes[:, piece.span] = np.abs(u[:, piece.span.start + own])
    if axes.polar is not None:
        sizes[:, axes.polar[0]] = 1.0
    with np.errstate(divide="ignore"):
        return np.asarray(np.exp2(np.floor(np.log2(np.maximum(sizes, 1.0)))))


def to_value(axes: Axis, x: FloatArray, sigma: FloatArray) -> FloatArray:
    """Values of a target (not a coefficient) from its coordinate (K,) and the sigma of the fit."""
    kind = axes.target.kind
    if kind == "sd":
        return np.asarray(x * sigma / axes.unit)
    if kind == "sigma":
        return np.asarray(sigma * np.exp(x))
    if kind == "ratio":
        return np.asarray((x / axes.unit) ** 2)
    return np.asarray(np.sin(x) if axes.shared is None else axes.shared.correlation(x))


def from_value(axes: Axis, value: FloatArray, sigma: FloatArray) -> FloatArray:
    """The inverse of `to_value`."""
    kind = axes.target.kind
    if kind == "sd":
        return np.asarray(value * axes.unit / sigma)
    if kind == "sigma":
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(value / sigma))
    if kind == "ratio":
        return np.asarray(np.sqrt(value) * axes.unit)
    return np.asarray(np.arcsin(np.clip(value, -1.0, 1.0)) if axes.shared is None else axes.shared.angle(value))


def value_slope(axes: Axis, x: float) -> float:
    """Derivative of a correlation in its angle."""
    if axes.shared is None or isinstance(axes.shared, AR1):
        return float(np.cos(x))
    return float(-np.sin(2.0 * x) * axes.shared.size / (axes.shared.size - 1.0))
