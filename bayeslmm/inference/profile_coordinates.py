"""Coordinates in which one parameter of a fit is an axis, so that the criterion can be minimised over all others.

Everything is relative to the fit: standard deviations in units of its sigma, the residual by ``log(sigma / fit)``, a
coefficient in its standard errors. A term without structure is described by a lower-triangular factor in a basis of
its effects that starts with the target, the rest orthogonal; a correlation is an angle, ``rho = sin(angle)``, so that
a zero variance and a perfect correlation are ordinary points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bayeslmm.design.covariance import CovarianceStructure, canonical
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
class Piece:
    """One term: its block, columns within it, structure in coordinates of its parameters, and their place among all.

    Attributes
    ----------
    block, term : int
    columns, span : slice
    shape : CovarianceStructure
    """

    block: int
    term: int
    columns: slice
    span: slice
    shape: CovarianceStructure


def pieces(cp: CrossProducts) -> tuple[Piece, ...]:
    """The terms of a model in the internal order."""
    out, position = [], 0
    for b, columns, term, _, structure in cp.frame.terms:
        shape = structure.apart
        out.append(Piece(b, term, columns, slice(position, position + len(shape.rows)), shape))
        position += len(shape.rows)
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
    unit, power : float
        The coordinate of an sd, to this power, is ``unit * sd / sigma``.
    ends : tuple of float
        Ends of the target's coordinate.
    functional : FloatArray, shape (p,)
        A coefficient in terms of the internal ones.
    absolute, powers : IntArray, FloatArray
        Coordinates whose powers are standard deviations (or entries of a factor) in units of the fit's sigma, not of
        sigma.
    structure : CovarianceStructure or None
        Of the target's term.
    solved : tuple or None
        Shapes of the term among the coordinates, and which of them the target, a correlation, takes the place of.
    """

    target: ProfileTarget
    frames: tuple[FloatArray, ...]
    place: int
    polar: tuple[int, int] | None
    lengths: tuple[int, int] | None
    order: IntArray
    unit: float
    power: float
    ends: tuple[float, float]
    functional: FloatArray
    absolute: IntArray
    powers: FloatArray
    structure: CovarianceStructure | None
    solved: tuple[slice, int] | None


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
    structure: CovarianceStructure | None = None
    lengths: tuple[int, int] | None = None
    for piece in known:
        own = piece.term == target.term and target.kind in ("sd", "ratio", "corr")
        W = _frame(cp, piece, target.effects if own else ())
        frames.append(W)
        if own:
            place, polar, ends = _own_place(piece, target)
            lengths = None if polar is None else (piece.span.start + piece.shape.sd_place(0), polar[1])
            unit = _unit(cp, piece, W, target)
            structure = piece.shape
    functional = np.zeros(cp.p)
    if target.kind == "fixed":
        place, functional = k + 1, cp.fixed.transform[target.term]
    free = [i for piece in known if piece.term not in held for i in range(piece.span.start, piece.span.stop)]
    scale = [k] if cp.sigma is None else []
    order = [place] + [i for i in [*free, *scale, k + 1] if i != place]
    scaled = _lengths(known, free) if target.kind in ("sd", "sigma") else {}
    return Axis(
        target,
        tuple(frames),
        place,
        polar,
        lengths,
        np.array(order),
        unit,
        structure.sd_power if structure is not None and target.kind != "corr" else 1.0,
        ends,
        functional,
        np.array(list(scaled), dtype=int),
        np.array(list(scaled.values())),
        structure,
        _solved(known, target) if structure is not None and target.kind == "corr" else None,
    )


def _lengths(known: Sequence[Piece], free: Sequence[int]) -> dict[int, float]:
    """Coordinates that are lengths, with their powers."""
    found = {i: piece.shape.sd_power for piece in known for i in piece.span.start + np.flatnonzero(piece.shape.lengths)}
    return {int(i): power for i, power in found.items() if i in free}


def _solved(known: Sequence[Piece], target: ProfileTarget) -> tuple[slice, int] | None:
    piece = next(piece for piece in known if piece.term == target.term)
    if piece.shape.entries:
        return None
    shapes = slice(piece.span.start + len(piece.shape.sd_effects), piece.span.stop)
    return shapes, piece.span.start + piece.shape.pair_place(*target.effects)[0] - shapes.start


def relative_lengths(known: Sequence[Piece], axes: Axis) -> tuple[IntArray, FloatArray]:
    """Places among the free coordinates, without the target, of sds and entries of factors relative to sigma.

    With the powers of theirs that these are.
    """
    angle = axes.polar[0] if axes.polar is not None else -1
    found = _lengths(known, axes.order.tolist())
    own = [i for i in axes.order[1:].tolist() if i in found and i not in (angle, *axes.absolute.tolist())]
    places = np.flatnonzero(np.isin(axes.order[1:], own))
    return places, np.array([found[i] for i in axes.order[1:][places].tolist()])


def signed_lengths(known: Sequence[Piece], axes: Axis) -> IntArray:
    """Places, as above, of the lengths that a correlation changes its sign with; none for other targets."""
    if axes.polar is None:
        return np.zeros(0, dtype=np.int64)
    angle, length = axes.polar
    first = next(piece.span.start for piece in known if piece.span.start <= angle < piece.span.stop)
    return np.flatnonzero(np.isin(axes.order[1:], (first, length)))


def _own_place(piece: Piece, target: ProfileTarget) -> tuple[int, tuple[int, int] | None, tuple[float, float]]:
    start, shape = piece.span.start, piece.shape
    if target.kind != "corr":
        return start + shape.sd_place(target.effects[0]), None, (0.0, np.inf)
    angle, length = shape.pair_place(target.effects[0], target.effects[1])
    polar = None if length is None else (start + angle, start + length)
    return start + angle, polar, shape.shape_range


def _frame(cp: CrossProducts, piece: Piece, first: Sequence[int]) -> FloatArray:
    """W of a term; of the target's term with the target's effects first and the others orthogonal to one another."""
    N = cp.blocks[piece.block].inverse_basis[piece.columns, piece.columns]
    if not piece.shape.scale_free:
        return np.asarray(N / np.linalg.norm(N))
    if not piece.shape.basis_free or not first:
        return np.eye(N.shape[0])
    rest = [a for a in range(N.shape[0]) if a not in first]
    others, _ = np.linalg.qr(N[:, rest])
    own = N[:, list(first)]
    for _ in range(2):
        own = own - others @ (others.T @ own)
    return np.column_stack([own / np.linalg.norm(own, axis=0), others])


def _unit(cp: CrossProducts, piece: Piece, W: FloatArray, target: ProfileTarget) -> float:
    N = cp.blocks[piece.block].inverse_basis[piece.columns, piece.columns]
    if not piece.shape.scale_free:
        return float(np.linalg.norm(N))
    effect = target.effects[0]
    if not piece.shape.basis_free:
        return float(N[effect, effect])
    # The first effect of the new basis is the user's, multiplied by this.
    return float(np.linalg.solve(W, N[:, effect])[0])


def start(cp: CrossProducts, axes: Axis, factors: Sequence[FloatArray]) -> FloatArray:
    """Coordinates u (K, k + 2) of fits from their internal factors (K, c, c) of the blocks; a correlation as angle."""
    known = pieces(cp)
    u = np.zeros((factors[0].shape[0], (known[-1].span.stop if known else 0) + 2))
    for piece, W in zip(known, axes.frames, strict=True):
        T = np.linalg.solve(W, factors[piece.block][:, piece.columns, piece.columns])
        u[:, piece.span] = piece.shape.coordinates(piece.shape.theta(canonical(T)))
    if axes.polar is not None:
        a, b = axes.polar
        u[:, a], u[:, b] = np.arctan2(u[:, a], u[:, b]), np.hypot(u[:, a], u[:, b])
    if axes.solved is not None and axes.structure is not None:
        own, k = axes.solved
        u[:, own.start + k] = axes.structure.one_shape(axes.structure.correlations(u[:, own])[:, k])
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
        sizes[:, piece.span] = piece.shape.units(u[:, piece.span])
    if axes.polar is not None:
        sizes[:, axes.polar[0]] = 1.0
    with np.errstate(divide="ignore"):
        return np.asarray(np.exp2(np.floor(np.log2(np.maximum(sizes, 1.0)))))


def to_value(axes: Axis, x: FloatArray, sigma: FloatArray) -> FloatArray:
    """Values of a target (not a coefficient) from its coordinate (K,) and the sigma of the fit."""
    kind = axes.target.kind
    if kind == "sd":
        return np.asarray(x**axes.power * sigma / axes.unit)
    if kind == "sigma":
        return np.asarray(sigma * np.exp(x))
    if kind == "ratio":
        return np.asarray((x**axes.power / axes.unit) ** 2)
    return np.sin(x) if axes.structure is None else axes.structure.one_correlation(x)


def from_value(axes: Axis, value: FloatArray, sigma: FloatArray) -> FloatArray:
    """The inverse of `to_value`."""
    kind = axes.target.kind
    if kind == "sd":
        return np.asarray((value * axes.unit / sigma) ** (1.0 / axes.power))
    if kind == "sigma":
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(value / sigma))
    if kind == "ratio":
        return np.asarray((np.sqrt(value) * axes.unit) ** (1.0 / axes.power))
    return np.arcsin(np.clip(value, -1.0, 1.0)) if axes.structure is None else axes.structure.one_shape(value)


def value_slope(axes: Axis, x: float) -> float:
    """Derivative of a correlation in its angle."""
    return float(np.cos(x)) if axes.structure is None else axes.structure.one_slope(x)
