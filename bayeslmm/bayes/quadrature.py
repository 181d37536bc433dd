"""Deterministic integration of the collapsed posterior on a grid, and exact draws from it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.special import logsumexp

from bayeslmm.bayes.importance import Weighted, find_mode
from bayeslmm.bayes.target import Points, Target
from bayeslmm.errors import FitError
from bayeslmm.types import BoolArray, FloatArray, IntArray

# The grid reaches to where the log density is this far below its maximum.
_DEPTH = {1: 34.0, 2: 34.0, 3: 24.0}
# All nodes together, tried until the error is small enough; shared out over the axes in proportion to their extent
# in widths of the posterior.
_NODES = {1: (101, 301, 1201), 2: (1_600, 4_500, 11_000, 30_000), 3: (90_000,)}
_SMALL = 1e-8
# Rounds in which the box is found: a narrow peak needs one for every factor of ten or so. Coordinates end at _FARTHEST.
_BOXES, _FARTHEST = 30, 299.0
# Relative error from which on a grid is not to be trusted: well below what thousands of independent draws leave
# uncertain (1 / sqrt(4000) is 1.6 %), and before halving the spacing no longer squares the error, which is what the
# estimate rests on: where it does not, at a near jump, the error is the change by halving itself, 0.3 % at this limit.
TOLERABLE = 1e-4


@dataclass(frozen=True)
class Grid:
    """A tensor grid with the posterior on it.

    Attributes
    ----------
    axes : tuple of FloatArray
        Equally spaced nodes of each coordinate; a folded one starts at 0.
    points : Points
        All nodes in C order.
    log_mass : FloatArray, shape (K,)
        Log of quadrature weight times density, unnormalised.
    log_evidence : float
    error : float
        Estimated relative error of evidence and second moments: ten times the squared change when every second node is
        left out, because the rule converges geometrically and halving the spacing squares the error.
    """

    axes: tuple[FloatArray, ...]
    points: Points
    log_mass: FloatArray
    log_evidence: float
    error: float


def integrate(target: Target, start: FloatArray) -> Grid:
    """Integrate the collapsed posterior by the trapezoidal rule.

    Parameters
    ----------
    target : Target
        At most three relative sds and correlations.
    start : FloatArray, shape (d,)

    Returns
    -------
    Grid

    References
    ----------
    Trefethen & Weideman (2014), SIAM Review 56, 385-458: exponential convergence of the trapezoidal rule.
    """
    d = target.dimension
    if d not in _NODES:
        raise FitError(
            f"Quadrature was asked for {d} relative standard deviations and correlations; a grid is practical "
            "for at most 3. Use method='importance' or method='nuts'."
        )
    mode = find_mode(target, start)
    lower, upper = _box(target, mode.x)
    extent = (upper - lower) / mode.widths
    grid = _on_grid(target, lower, upper, _share_nodes(extent, _NODES[d][0]))
    for budget in _NODES[d][1:]:
        if grid.error < _SMALL:
            break
        grid = _on_grid(target, lower, upper, _share_nodes(extent, budget))
    return grid


def _on_grid(target: Target, lower: FloatArray, upper: FloatArray, counts: IntArray) -> Grid:
    axes = tuple(np.linspace(a, b, n) for a, b, n in zip(lower, upper, counts, strict=True))
    points = target.evaluate(_mesh(axes))
    log_mass = points.log_density + _log_weights(target, axes)
    evidence = float(logsumexp(log_mass))
    return Grid(axes, points, log_mass, evidence, _error(target, axes, points, log_mass, evidence))


def _share_nodes(extent: FloatArray, budget: int) -> IntArray:
    """Odd numbers of nodes, proportional to the extents, whose product is the budget."""
    d = extent.size
    shares = extent / np.exp(np.log(extent).mean())
    counts = shares * budget ** (1.0 / d)
    return np.asarray(np.maximum(2 * (counts / 2).astype(int) + 1, 9))


def _mesh(axes: tuple[FloatArray, ...]) -> FloatArray:
    return np.stack([a.ravel() for a in np.meshgrid(*axes, indexing="ij")], axis=1)


def _log_weights(target: Target, axes: tuple[FloatArray, ...]) -> FloatArray:
    total = np.zeros(1)
    for axis, folded in zip(axes, target.folded, strict=True):
        w = np.full(axis.size, axis[1] - axis[0])
        if folded and axis[0] == 0.0:
            w[0] *= 0.5
        total = np.add.outer(total, np.log(w)).ravel()
    return total


def _box(target: Target, mode: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Box outside which the density is negligible: coarse grids, shrunk to what carries mass, grown where it ends."""
    lower = np.where(target.folded, 0.0, mode - 12.0)
    upper = np.where(target.folded, np.maximum(12.0 + _log_ratios(target), mode + 8.0), mode + 12.0)
    lower = np.where(_log_coordinates(target), mode - 25.0, lower)
    coarse = {1: 121, 2: 33, 3: 15}[target.dimension]
    for _ in range(_BOXES):
        axes = tuple(np.linspace(a, b, coarse) for a, b in zip(lower, upper, strict=True))
        # The mode is added to every axis, or a coarse grid could step over a narrow peak.
        with_mode = tuple(np.unique(np.append(a, m)) for a, m in zip(axes, mode, strict=True))
        density = target.evaluate(_mesh(with_mode)).log_density.reshape([a.size for a in with_mode])
        inside = density > density.max() - _DEPTH[target.dimension]
        new = [_extent(inside, k, axis) for k, axis in enumerate(with_mode)]
        new_lower = np.array([n[0] for n in new])
        new_upper = np.array([n[1] for n in new])
        length = upper - lower
        grown_lower = np.where(target.folded & (lower == 0.0), 0.0, np.maximum(lower - length, -_FARTHEST))
        grown_upper = np.minimum(upper + length, _FARTHEST)
        cut_lower = np.array([n[2] for n in new]) & (grown_lower < lower)
        cut_upper = np.array([n[3] for n in new]) & (grown_upper > upper)
        new_lower, new_upper = np.where(cut_lower, grown_lower, new_lower), np.where(cut_upper, grown_upper, new_upper)
        changed = (new_upper - new_lower) / length
        lower, upper = new_lower, new_upper
        if (changed > 0.9).all() and not (cut_lower | cut_upper).any():
            break
    if target.dimension > 2:
        # Every node is dear, and a cell of so coarse a grid is much of the box.
        trimmed = [_crossings(density, k, axis, _DEPTH[target.dimension]) for k, axis in enumerate(with_mode)]
        lower = np.maximum(lower, [t[0] for t in trimmed])
        upper = np.minimum(upper, [t[1] for t in trimmed])
    return lower, upper


def _crossings(density: FloatArray, k: int, axis: FloatArray, depth: float) -> tuple[float, float]:
    """Where along an axis the log density has fallen by the depth: chords of its profile, which bends little there."""
    profile = density.max(axis=tuple(j for j in range(density.ndim) if j != k)) - density.max() + depth
    inside = np.flatnonzero(profile > 0)
    ends = []
    for at, step in ((inside[0], -1), (inside[-1], 1)):
        beyond = min(max(at + step, 0), axis.size - 1)
        # At the end of the axis, and beside no density at all, the node itself.
        share = profile[at] / (profile[at] - profile[beyond]) if np.isfinite(profile[beyond]) and beyond != at else 1.0
        ends.append(float(axis[at] + share * (axis[beyond] - axis[at])))
    return ends[0], ends[1]


def _log_coordinates(target: Target) -> BoolArray:
    flags = [
        not even and k < c.size
        for c in target.coordinates
        for k, even in enumerate((*c.even, *([True] * c.n_correlations)))
    ]
    return np.array([*flags, *([False] * (target.dimension - target.n_effects))])


def _log_ratios(target: Target) -> FloatArray:
    """How far out, on each coordinate, the likelihood is that a narrow prior is followed to."""
    ratios = [np.append(np.broadcast_to(c.ratio, c.size), np.ones(c.n_correlations)) for c in target.coordinates]
    return np.asarray(np.log(np.concatenate([*ratios, np.ones(target.dimension - target.n_effects)])))


def _extent(inside: BoolArray, k: int, axis: FloatArray) -> tuple[float, float, bool, bool]:
    """Ends of what is inside along an axis, and whether the axis ends there."""
    hit = np.flatnonzero(inside.any(axis=tuple(j for j in range(inside.ndim) if j != k)))
    if hit.size == 0:
        raise FitError(
            "The posterior is finite nowhere on the grid: the model reproduces the response exactly, or all but for "
            "rounding, so that the residual standard deviation has no posterior. Remove a random term or check for "
            "duplicated responses."
        )
    first, last = max(hit[0] - 1, 0), min(hit[-1] + 1, axis.size - 1)
    return float(axis[first]), float(axis[last]), bool(hit[0] == 0), bool(hit[-1] == axis.size - 1)


def _error(
    target: Target,
    axes: tuple[FloatArray, ...],
    points: Points,
    log_mass: FloatArray,
    evidence: float,
) -> float:
    shape = [a.size for a in axes]
    half = np.zeros(shape, dtype=bool)
    half[np.ix_(*[np.arange(0, s, 2) for s in shape])] = True
    keep = half.ravel()
    coarse = log_mass[keep] + len(axes) * np.log(2.0)
    coarse_evidence = float(logsumexp(coarse))
    _, sds, _ = target.terms(points.x)
    # Second moments are even where an axis is folded at zero, as the density is. Far out they are dominated by the
    # tail of the prior, which says nothing about the rule.
    squares = np.minimum(np.concatenate([*sds, np.abs(points.x[:, target.n_effects :])], axis=1), 1e8) ** 2
    fine = np.exp(log_mass - evidence) @ squares
    half = np.exp(coarse - coarse_evidence) @ squares[keep]
    change = max(abs(coarse_evidence - evidence), float(np.abs(half / fine - 1.0).max()))
    return 10.0 * min(change, 1.0) ** 2 + _cut_off(target, axes, np.exp(log_mass - evidence))


def _cut_off(target: Target, axes: tuple[FloatArray, ...], p: FloatArray) -> float:
    """Estimate of the mass beyond the box: at every face the geometric series that the last two layers begin."""
    mass, total = p.reshape([a.size for a in axes]), 0.0
    for k, axis in enumerate(axes):
        layers = mass.sum(tuple(j for j in range(len(axes)) if j != k))
        faces = [layers[::-1][:2]] if target.folded[k] and axis[0] == 0.0 else [layers[::-1][:2], layers[:2]]
        for last, before in faces:
            falls = last < before
            total += last * last / (before - last) if falls else last * axis.size
    return float(total)


def draw_from_grid(target: Target, grid: Grid, size: int, rng: np.random.Generator) -> Weighted:
    """Points from the multilinear interpolant of the gridded density, weighted to be exact."""
    p = np.exp(grid.log_mass - grid.log_evidence)
    shape = [a.size for a in grid.axes]
    node = np.searchsorted(np.cumsum(p / p.sum()), (rng.random() + np.arange(size)) / size)
    index = np.stack(np.unravel_index(np.minimum(node, p.size - 1), shape), axis=1)
    tent = rng.random((size, 2, len(shape))).sum(1) - 1.0
    x = np.empty((size, len(shape)))
    for k, axis in enumerate(grid.axes):
        x[:, k] = axis[index[:, k]] + (axis[1] - axis[0]) * tent[:, k]
    x = np.where(target.folded & (np.array([a[0] for a in grid.axes]) == 0.0), np.abs(x), x)
    points = target.evaluate(x, keep=True)
    return Weighted(points, points.log_density - _log_interpolant(grid, p.reshape(shape), x))


def _log_interpolant(grid: Grid, p: FloatArray, x: FloatArray) -> FloatArray:
    """Log density of the mixture of tents at x."""
    d = len(grid.axes)
    steps = np.array([a[1] - a[0] for a in grid.axes])
    position = (x - np.array([a[0] for a in grid.axes])) / steps
    base = np.floor(position).astype(int)
    total = np.zeros(x.shape[0])
    for corner in product((0, 1), repeat=d):
        index = base + np.array(corner)
        height = 1.0 - np.abs(position - index)
        inside = np.all((index >= 0) & (index < np.array(p.shape)), axis=1)
        safe = np.clip(index, 0, np.array(p.shape) - 1)
        value = p[tuple(safe.T)] * np.prod(height, axis=1)
        # A tent at a folded zero has half the weight but both its halves land on the positive side.
        mirror = np.prod(np.where((safe == 0) & _folded_axes(grid), 2.0, 1.0), axis=1)
        total += np.where(inside, value * mirror, 0.0)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(total) - np.log(steps).sum())


def _folded_axes(grid: Grid) -> BoolArray:
    return np.array([a[0] == 0.0 for a in grid.axes])
