"""Minima reached from many starts at once, where a model is small and its levels are few or very unequal.

With about as many parameters as levels, or where a few levels hold nearly all rows, the criterion has minima that no
grid of standard deviations comes near: they differ in correlations, or in which of several terms a variance is given
to. All starts are followed together by one vectorised Newton iteration, at the cost of a few evaluations each.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bayeslmm.design.design import rows_of_levels
from bayeslmm.likelihood import conditional_means, derivatives, evaluate, profiled
from bayeslmm.likelihood import parameters as par
from bayeslmm.likelihood.crossproducts import CrossProducts, SummedDesign
from bayeslmm.numerics.newton_many import minimise_many
from bayeslmm.reml.criterion import Criterion
from bayeslmm.types import FloatArray, IntArray

# Points that are compared, those followed because they are low and others, and evaluations of each.
_CANDIDATES, _FOLLOWED, _OTHERS, _EVALUATIONS = 160, 8, 4, 15
# Doubles of the widest array of one batch of evaluations.
_AFFORDABLE = 200_000
# Levels per parameter of a term below which several minima are to be expected, and how many times as many rows some
# level may have as another.
_LEVELS, _UNEQUAL = 5, 3.0
# Relative sds of the starts are at least this, and at most what the data leave open, within limits.
_SMALLEST, _LARGEST, _MARGIN = 0.08, (3.0, 1e4), 4.0
_WIDE = 1e5
# Relative sds under which effects are predicted.
_RATIOS = (0.5, 3.0, 30.0, 300.0, 1e4)
# A fall of the criterion (-2 log likelihood) by less is no other minimum.
_LOWER = 1e-7


def several_expected(cp: SummedDesign) -> bool:
    """Whether a model is one whose criterion may have several minima, and small enough to look for them."""
    if not cp.sums.batched or cp.frame.n_theta < 2:
        return False
    if _FOLLOWED * max(cp.sums.between, (cp.q_trailing + cp.p + 1) ** 2) > _AFFORDABLE:
        return False
    terms = cp.design.terms
    few = any(cp.design.groupings[t.group].n_levels < _LEVELS * len(t.structure.rows) for t in terms)
    return few or any(_is_unequal(rows_of_levels(cp.design, block.grouping)) for block in cp.blocks)


def _is_unequal(rows: IntArray) -> bool:
    return bool(rows.max() > _UNEQUAL * rows.min())


def lower_minima(criterion: Criterion, reached: float) -> FloatArray:
    """Free entries of points below a value of the criterion, shape (M, f); the lowest first."""
    held = criterion.held
    x = _promising(criterion)

    def function(x: FloatArray, which: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        return _evaluate(criterion, x)

    with np.errstate(all="ignore"):
        found = minimise_many(function, x, _EVALUATIONS)
    order = np.argsort(found.value)
    chosen, values = list[FloatArray](), list[float]()
    for k in order[np.isfinite(found.value[order])]:
        value = float(found.value[k])
        if value < reached - _LOWER * (1.0 + abs(reached)) and not any(abs(value - v) < _LOWER for v in values):
            chosen.append(found.x[k])
            values.append(value)
    return np.array(chosen).reshape(-1, int(held.free.sum()))


def _promising(criterion: Criterion) -> FloatArray:
    """Free entries (M, f) of the starts with the lowest criteria, and of some others."""
    cp, held = criterion.cp, criterion.held
    full = np.concatenate([starts(cp, _CANDIDATES, _largest(criterion)), from_effects(cp)])
    full = held.full(full[:, held.free])
    with np.errstate(all="ignore"):
        factor = evaluate(cp, par.internal_factors(cp, full))
        values = profiled(cp, replace(factor, r2=np.maximum(factor.r2, np.finfo(float).tiny)), criterion.reml)
    order = np.argsort(np.where(np.isnan(values), np.inf, values))
    chosen = np.concatenate([order[:_FOLLOWED], order[_FOLLOWED :: max(_CANDIDATES // _OTHERS, 1)]])
    return np.asarray(full[chosen][:, held.free])


def _evaluate(criterion: Criterion, x: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Values (K,), gradients and Hessians in the free entries; not finite where undefined."""
    cp, held = criterion.cp, criterion.held
    full = held.full(x)
    factors = par.internal_factors(cp, full)
    factor = evaluate(cp, factors, keep=True)
    factor = replace(factor, r2=np.where(factor.r2 > 0, factor.r2, np.nan))
    value = profiled(cp, factor, criterion.reml)
    first = derivatives(cp, factors, factor, criterion.reml)
    gradient, hessian = par.gradient(cp, full, first), par.hessian(cp, full, first)
    return value, gradient[:, held.free], hessian[:, held.free][:, :, held.free]


def starts(cp: CrossProducts, count: int, largest: float) -> FloatArray:
    """Internal vectors (count, k) with covariances in all directions; always the same for a model.

    Parameters
    ----------
    cp : CrossProducts
    count : int
    largest : float
        Relative sds are below this.
    """
    rng = np.random.default_rng(cp.frame.n_theta)
    spread = np.log(largest / _SMALLEST)
    parts = []
    for _, columns, _, _, structure in cp.frame.terms:
        c = columns.stop - columns.start
        sds = _SMALLEST * np.exp(spread * rng.random((count, c)))
        parts.append(structure.coordinates(structure.scattered(sds, rng)))
    return np.concatenate(parts, axis=1)


def from_effects(cp: CrossProducts) -> FloatArray:
    """Internal vectors (M, k): covariances of effects predicted under several ratios, of full and of lower rank."""
    ratios = np.array(_RATIOS)[:, None, None]
    factors = [ratios * np.eye(block.size) for block in cp.blocks]
    factor = evaluate(cp, factors)
    effects = conditional_means(cp, factors, factor).b
    variance = np.maximum(factor.r2 / cp.n, 1e-300)[:, None, None]
    most = max(columns.stop - columns.start for _, columns, _, _, _ in cp.frame.terms)
    terms = [np.zeros((0, 0, 0))] * len(cp.frame.structures)
    for b, columns, term, _, _ in cp.frame.terms:
        block, B = cp.blocks[b], effects[b][:, :, columns]
        B = B @ block.inverse_basis[columns, columns].T
        values, vectors = np.linalg.eigh(B.mT @ B / (block.n_levels * variance))
        c = values.shape[1]
        kept = [np.arange(c) >= c - rank for rank in range(most, 0, -1)]
        roots = np.concatenate([np.sqrt(np.maximum(values, 0.0)) * keep for keep in kept])
        terms[term] = block.basis[columns, columns] @ (np.tile(vectors, (most, 1, 1)) * roots[:, None, :])
    found = par.internal_from_terms(cp, terms)
    return found[np.isfinite(found).all(axis=1)]


def _largest(criterion: Criterion) -> float:
    """A relative sd beyond which no minimum is to be expected: by what all effects together can explain."""
    cp, k = criterion.cp, len(criterion.cp.blocks)
    wide = [np.array([0.0, _WIDE])[:, None, None] * np.eye(cp.blocks[b].size) for b in range(k)]
    none, all_ = np.maximum(evaluate(cp, wide).r2, 1e-300)
    ratio = np.sqrt(none / all_) if np.isfinite(all_) else np.inf
    return float(np.clip(_MARGIN * ratio, *_LARGEST))
