"""Other minima of the profiled criterion than the one that was found.

With very unequal levels the criterion can have several local minima, zero often among them: the few small levels
speak for a variance that the large ones do not show. A minimum is therefore compared with what the criterion is at
zero of each term and with the local minima of a grid: fine for a single variance, coarse for two or three, and then
only where levels are very unequal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from bayeslmm.equality import made_fast
from bayeslmm.likelihood import CrossProducts, evaluate, profiled
from bayeslmm.likelihood import parameters as par
from bayeslmm.numerics.newton import Ending, NewtonResult
from bayeslmm.reml.criterion import Criterion
from bayeslmm.reml.multistart import lower_minima, several_expected
from bayeslmm.reml.penalty import off_zero, penalty_value
from bayeslmm.reml.zeros import ROUNDING
from bayeslmm.types import BoolArray, FloatArray

# A rise at zero above this, by the curvature at the minimum, is not looked at where every look costs a factorisation.
_CLEAR = 50.0
# Relative sd that a penalised start has at least: at zero the penalty is infinite.
_OFF_ZERO = 0.1
# Lower points that are followed to their minimum.
_TRIED = 3


@made_fast
@dataclass(frozen=True)
class Starts:
    """Points at which the criterion was compared before the first step.

    Attributes
    ----------
    best : FloatArray, shape (k,)
    ratios : FloatArray, shape (R,)
        Increasing values of a single variance parameter, from zero; none for other models.
    values : FloatArray, shape (R,)
        Criterion there.
    others : FloatArray, shape (M, k)
        Further points worth a search of their own.
    only : bool
        Whether `best` is the only minimum there is, but for rounding.
    """

    best: FloatArray
    ratios: FloatArray = field(default_factory=lambda: np.zeros(0))
    values: FloatArray = field(default_factory=lambda: np.zeros(0))
    others: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))
    only: bool = False


def choose_start(criterion: Criterion) -> Starts:
    """Compare the criterion at the candidates, all at once."""
    cp, held = criterion.cp, criterion.held
    if criterion.penalty is None and not held.terms:
        only = par.only_minimum(cp, criterion.reml)
        if only is not None:
            return Starts(only, only=True)
    with np.errstate(invalid="ignore" if cp.sigma is not None else "warn"):
        candidates, ratios = par.starts(cp), par.ratio_grid(cp)
    if cp.sigma is not None:
        # Moments of a response that is reproduced are no numbers, and no obstacle here.
        candidates = np.where(np.isfinite(candidates), candidates, _OFF_ZERO)
    if criterion.penalty is not None:
        candidates, ratios = off_zero(cp, candidates, _OFF_ZERO), np.zeros(0)
    if cp.sigma is not None and cp.sums.batched and cp.response.spread > cp.sigma:
        # Effects may be larger than known residuals by any factor.
        candidates = np.insert(candidates, 1, candidates[0] * (cp.response.spread / cp.sigma), axis=0)
    if held.terms:
        candidates, ratios = np.unique(held.full(candidates[:, held.free]), axis=0), np.zeros(0)
    if candidates.shape[0] == 1:
        return Starts(np.asarray(candidates[0]))
    values = values_at(criterion, candidates)
    best = int(np.argmin(values))
    others = candidates[:1] if best else candidates[:0]
    return Starts(np.asarray(candidates[best]), ratios, values[values.size - ratios.size :], others)


def values_at(criterion: Criterion, x: FloatArray) -> FloatArray:
    """The criterion at internal vectors (K, k), in one evaluation; shape (K,)."""
    cp, held = criterion.cp, criterion.held
    factor = evaluate(cp, par.internal_factors(cp, x))
    factor = replace(factor, r2=np.maximum(factor.r2, np.finfo(float).tiny))
    values = profiled(cp, factor, criterion.reml)
    if criterion.penalty is not None:
        values = values + [penalty_value(cp, criterion.penalty, one, held.terms) for one in x]
    return values


def find_lower(
    criterion: Criterion, result: NewtonResult, starts: Starts, solve: Callable[[FloatArray], NewtonResult]
) -> NewtonResult:
    """Continue from where another minimum may be lower; keep the lowest.

    Parameters
    ----------
    criterion : Criterion
    result : NewtonResult
        A minimum.
    starts : Starts
        What the criterion is known to be elsewhere.
    solve : callable
        A minimum from the free entries of a start.
    """
    if criterion.penalty is not None or starts.only:
        return result
    if starts.ratios.size:
        found = np.abs(result.x[None])
        chosen = rivals(starts.ratios, starts.values[None], found, np.array([result.value]))[0]
        points = starts.ratios[chosen, None]
    else:
        points = np.concatenate([_zeros_to_try(criterion, result), _rivals_to_try(criterion, result)])
    result = _lowest(result, points, solve)
    if result.x.size and several_expected(criterion.cp):
        result = _lowest(result, lower_minima(criterion, result.value)[:_TRIED], solve)
    return result


def _lowest(result: NewtonResult, points: FloatArray, solve: Callable[[FloatArray], NewtonResult]) -> NewtonResult:
    """The lowest of a minimum and those reached from some points (M, f)."""
    for x in points:
        again = solve(x)
        total = result.evaluations + again.evaluations
        lower = again.ending is Ending.converged and is_lower(again.value, result.value)
        result = replace(again if lower else result, evaluations=total, steps=result.steps + again.steps)
    return result


def is_lower(value: float | FloatArray, than: float | FloatArray) -> BoolArray:
    """Whether criteria are lower than others by more than rounding."""
    return np.asarray(value < than - ROUNDING * (1.0 + np.abs(than)))


def rivals(ratios: FloatArray, values: FloatArray, found: FloatArray, reached: FloatArray) -> BoolArray:
    """Points of a grid beside which there may be a lower minimum than the one found.

    Parameters
    ----------
    ratios : FloatArray, shape (R,)
        Increasing, from zero; the same in each of d directions.
    values : FloatArray, shape (K, R, ..., R)
        Criteria there.
    found : FloatArray, shape (K, d)
        The minimum.
    reached : FloatArray, shape (K,)
        The criterion there.

    Returns
    -------
    BoolArray, shape (K, R, ..., R)
        Local minima of the grid with no other neighbours than the found minimum has, from which a parabola through
        three points in each direction, with a margin, falls below it.
    """
    d = found.shape[1]
    low, beside = np.ones(values.shape, dtype=bool), np.ones(values.shape, dtype=bool)
    fall = np.zeros(values.shape)
    for axis in range(1, d + 1):
        along = np.moveaxis(values, axis, 1)
        # The criterion is even.
        left = np.moveaxis(np.concatenate([along[:, 1:2], along[:, :-1]], axis=1), 1, axis)
        right = np.moveaxis(np.concatenate([along[:, 1:], along[:, -1:]], axis=1), 1, axis)
        low &= (values <= left) & (values <= right)
        with np.errstate(invalid="ignore"):
            # A parabola with its lowest point at most half a step away falls by an eighth of the second difference.
            fall += 0.25 * (left + right - 2.0 * values)
        near = _neighbours(ratios, found[:, axis - 1])
        beside &= near.reshape(-1, *(ratios.size if i == axis else 1 for i in range(1, d + 1)))
    with np.errstate(invalid="ignore"):
        below = values - fall < reached.reshape(-1, *[1] * d)
    return np.asarray(low & ~beside & below)


def _neighbours(ratios: FloatArray, found: FloatArray) -> BoolArray:
    """Whether a point lies beside what was found (K,), shape (K, R); zero is a point of its own."""
    below = np.append(-1.0, ratios[:-1])
    above = np.append(ratios[1:], np.inf)
    positive = (found[:, None] > below) & (found[:, None] < above) & (found > 0)[:, None] & (ratios > 0)
    return np.asarray(positive | ((found == 0)[:, None] & (ratios == 0)))


def zero_sets(cp: CrossProducts, held: tuple[int, ...] = ()) -> BoolArray:
    """Entries of the internal vector that vanish with a term, or with one of its effects, shape (M, k)."""
    k, found = cp.frame.n_theta, list[BoolArray]()
    for _, _, term, part, structure in cp.frame.terms:
        if term in held:
            continue
        for mask in [np.ones(len(structure.rows), dtype=bool), *structure.with_effect]:
            one = np.zeros(k, dtype=bool)
            one[part] = mask
            found.append(one)
    return np.array(found, dtype=bool).reshape(-1, k)


def _zeros_to_try(criterion: Criterion, result: NewtonResult) -> FloatArray:
    """Free entries with some set to zero where that is lower, shape (M, f); the most promising first."""
    cp, free = criterion.cp, criterion.held.free
    full = criterion.held.full(result.x)
    sets = zero_sets(cp, criterion.held.terms)
    sets = sets[(sets & (full != 0)).any(axis=1)]
    if not cp.sums.batched:
        sets = sets[_expected_rise(result, sets[:, free]) < _CLEAR]
    if not len(sets):
        return np.zeros((0, result.x.size))
    points = np.where(sets, 0.0, full)
    one_by_one = not cp.sums.batched
    values = np.array([criterion(x[free]).value for x in points]) if one_by_one else values_at(criterion, points)
    order = np.argsort(values)
    lower = order[is_lower(values[order], result.value)]
    return np.asarray(points[lower][:, free])


def _rivals_to_try(criterion: Criterion, result: NewtonResult) -> FloatArray:
    """Free entries at local minima of a coarse grid, shape (M, f); the most promising first."""
    ratios, grid = par.scale_grid(criterion.cp)
    if criterion.held.terms or not ratios.size:
        return np.zeros((0, result.x.size))
    values = values_at(criterion, grid.reshape(-1, result.x.size)).reshape(grid.shape[:-1])
    found = par.relative_sds(criterion.cp, result.x[None])
    chosen = rivals(ratios, values[None], found, np.array([result.value]))[0]
    return np.asarray(grid[chosen][np.argsort(values[chosen])])


def _expected_rise(result: NewtonResult, sets: BoolArray) -> FloatArray:
    """Rise of the criterion at zeros by the curvature at the minimum, shape (M,)."""
    away = np.where(sets, result.x, 0.0)
    return np.asarray(0.5 * np.einsum("mi,ij,mj->m", away, result.hessian, away))
