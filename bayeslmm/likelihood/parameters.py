"""Between parameter vectors and the relative factors of the blocks.

Two vectors are in use: the *internal* one (coordinates of every term's structure, term by term in the order of the
blocks), on which the optimiser works, and the user's *theta* (terms in the order of the formula). Where the structure
allows it, internal coordinates describe the factor on the orthogonalised columns; a structure that is not closed
under a rescaling of single columns keeps to the user's columns, up to one common scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from bayeslmm.design.covariance import CovarianceStructure, canonical, factor_from_theta
from bayeslmm.likelihood.crossproducts import CrossProducts
from bayeslmm.likelihood.derivatives import Derivatives
from bayeslmm.likelihood.starts import at_an_end
from bayeslmm.likelihood.sums import Sums
from bayeslmm.types import FloatArray

# Ratios of between to within standard deviation tried beside the moment estimate before the first step: a batch of
# points costs little more than one, and a single variance can have several local minima. Between the first ratio and
# zero, and beyond the last, no level changes its weight by much.
_FIRST, _LAST, _STEP, _POINTS = 0.06, 16.0, 0.2328, 80
_FEW = np.array([0.3, 1.0, 3.0])
# Beside the typical level, one that says this many times as much has rows that dominate.
_DOMINANT = 1e4
# The same for two or three sds, in all combinations, where some level says this many times as much as another and all
# points together are no more than so many doubles.
_COARSE = np.append(0.0, np.geomspace(0.05, 20.0, 5))
_UNEQUAL, _MOST_SCALES, _AFFORDABLE = 1.5, 3, 200_000


def starts(cp: CrossProducts) -> FloatArray:
    """Candidate starts (K, k): the moment estimate and, where evaluations are cheap, multiples of the identity.

    The latter also with other shapes where a structure asks for that.
    """
    factors = cp.sums.start()
    candidates = [from_blocks(cp, factors)]
    order = cp.frame.terms
    scales = np.concatenate([s.scales for *_, s in order])
    plain = scales.sum() > 1 and all(s.plain for *_, s in order) and not at_an_end(factors)
    if cp.sums.batched and not plain:
        ratios = _ratios(cp.sums) if scales.sum() == 1 else _FEW
        ratios = ratio_grid(cp) if scales.size == 1 else ratios
        shapes = [(0.0,) if scale else s.shapes_tried for *_, s in order for scale in s.scales]
        candidates += [np.where(scales, ratio, shape) for shape in product(*shapes) for ratio in ratios]
    return np.array(candidates)


def only_minimum(cp: CrossProducts, reml: bool) -> FloatArray | None:
    """Internal vector (k,) of the only minimum, where a formula has it (`balanced.closed_form`)."""
    order = cp.frame.terms
    if cp.sigma is not None or len(order) != len(cp.blocks) or not all(s.basis_free or s.size == 1 for *_, s in order):
        return None
    roots = cp.sums.closed_form(reml)
    if roots is None:
        return None
    return np.concatenate([s.coordinates(s.theta(canonical(T))) for T, (*_, s) in zip(roots, order, strict=True)])


def ratio_grid(cp: CrossProducts) -> FloatArray:
    """The ratios among the starts of a model with a single parameter, from zero up; they come last. Else none."""
    if not cp.sums.batched or sum(len(s.rows) for *_, s in cp.frame.terms) != 1:
        return np.zeros(0)
    return np.append(0.0, _ratios(cp.sums))


def scale_grid(cp: CrossProducts) -> tuple[FloatArray, FloatArray]:
    """Ratios (R,), from zero, and the internal vectors (R, ..., R, k) with every combination of them as relative sds.

    One axis per sd. Without points where several minima are not to be expected (levels that say about as much as each
    other), where there are too many combinations, where effects share an sd and where an evaluation is dear.
    """
    order = cp.frame.terms
    scales = np.concatenate([s.scales for *_, s in order])
    count = int(scales.sum())
    wanted = 1 < count <= _MOST_SCALES and all(s.plain for *_, s in order)
    cheap = wanted and cp.sums.batched and cp.sums.between * _COARSE.size**count <= _AFFORDABLE
    if not (cheap and _unequal(cp)):
        return np.zeros(0), np.zeros((0, scales.size))
    axes = np.meshgrid(*[_COARSE] * count, indexing="ij")
    points = np.zeros((*axes[0].shape, scales.size))
    points[..., scales] = np.stack(axes, axis=-1)
    return _COARSE, points


def _unequal(cp: CrossProducts) -> bool:
    """Whether the levels of some factor differ much in what they say about an effect."""
    return any((part.max(axis=0) > _UNEQUAL * part.min(axis=0)).any() for part in cp.sums.squares())


def relative_sds(cp: CrossProducts, x: FloatArray) -> FloatArray:
    """Relative sds (K, d) of the effects on the orthogonalised columns, in the order of `scale_grid`; x (K, k)."""
    factors = internal_factors(cp, x)
    parts = [np.sqrt((factors[b][:, columns, columns] ** 2).sum(axis=2)) for b, columns, _, _, _ in cp.frame.terms]
    return np.concatenate(parts, axis=1)


def _ratios(sums: Sums) -> FloatArray:
    """Ratios at which the weights of the levels change, in equal steps of their logarithm."""
    sizes = (sums.R**2).sum(axis=(1, 2))
    sizes = sizes[sizes > 0]
    if sums.unlike:
        # Levels with a row that dominates all others say something at ratios of their own, of no use as starts.
        sizes = sizes[sizes <= _DOMINANT * np.median(sizes)]
    first = min(_FIRST, 0.3 / float(np.sqrt(sizes.max(initial=1.0))))
    last = max(_LAST, 3.0 / float(np.sqrt(sizes.min(initial=1.0))))
    return np.geomspace(first, last, min(_POINTS, round(float(np.log(last / first)) / _STEP) + 1))


def from_blocks(cp: CrossProducts, factors: Sequence[FloatArray]) -> FloatArray:
    """Internal vector (k,) from regular factors (c, c) of the blocks, or what the structures keep of them."""
    parts = []
    for b, columns, _, _, structure in cp.frame.terms:
        T, W = factors[b][columns], frame(cp, b, columns, structure)
        T = T if W is None else np.linalg.solve(W, T)
        parts.append(structure.nearest(T @ T.T))
    return np.concatenate(parts)


def frame(cp: CrossProducts, b: int, columns: slice, structure: CovarianceStructure) -> FloatArray | None:
    """W (c, c) with ``internal factor = W @ structure.factor(x)``; None for the identity."""
    if structure.scale_free:
        return None
    W = cp.blocks[b].inverse_basis[columns, columns]
    return np.asarray(W / np.linalg.norm(W))


def internal_factors(cp: CrossProducts, internal: FloatArray) -> list[FloatArray]:
    """Block factors (K, c, c) of K internal vectors (K, k)."""
    internal = internal[None] if internal.ndim == 1 else internal
    # A block without effects may come first.
    factors = [np.empty((internal.shape[0], 0, 0)) for block in cp.blocks[:1] if not block.terms]
    for b, columns, _, entries, structure in cp.frame.terms:
        T = structure.factor(internal[:, entries])
        W = frame(cp, b, columns, structure)
        T = T if W is None else W @ T
        block = cp.blocks[b]
        if len(block.slices) == 1:
            factors.append(T)
            continue
        if len(factors) == b:
            factors.append(np.zeros((internal.shape[0], block.size, block.size)))
        factors[b][:, columns, columns] = T
    return factors


def internal_from_terms(cp: CrossProducts, terms: Sequence[FloatArray]) -> FloatArray:
    """Internal vector (..., k) from factors (..., c, c) on the user's columns, terms in the order of the formula."""
    parts = []
    for b, columns, term, _, structure in cp.frame.terms:
        W = frame(cp, b, columns, structure)
        inverse = cp.blocks[b].inverse_basis[columns, columns]
        T = inverse @ terms[term] if W is None else np.linalg.solve(W, inverse @ terms[term])
        parts.append(structure.coordinates(structure.theta(canonical(T))))
    return np.concatenate(parts, axis=-1) if parts else np.empty(0)


def term_factors(cp: CrossProducts, factors: Sequence[FloatArray]) -> list[FloatArray]:
    """Canonical lower-triangular factors on the user's columns, terms in the order of the formula.

    Parameters
    ----------
    factors : sequence of FloatArray, each (K, c, c)
        Internal factors of the blocks.

    Returns
    -------
    list of FloatArray, each (K, c, c)
        Nonnegative diagonal.
    """
    out: list[FloatArray] = [np.zeros((0, 0, 0))] * len(cp.frame.structures)
    for block, T in zip(cp.blocks, factors, strict=True):
        for term, columns in zip(block.terms, block.slices, strict=True):
            out[term] = canonical(block.basis[columns, columns] @ T[:, columns, columns])
    return out


def block_factors(cp: CrossProducts, terms: Sequence[FloatArray]) -> list[FloatArray]:
    """Internal factors of the blocks from factors (K, c, c) on the user's columns, term by term."""
    factors, points = [], terms[0].shape[0] if terms else 1
    for block in cp.blocks:
        T = np.zeros((points, block.size, block.size))
        for term, columns in zip(block.terms, block.slices, strict=True):
            T[:, columns, columns] = block.inverse_basis[columns, columns] @ terms[term]
        factors.append(T)
    return factors


def theta_from_terms(cp: CrossProducts, terms: Sequence[FloatArray]) -> FloatArray:
    """The user's theta (K, k) from factors on the user's columns."""
    parts = [structure.theta(T) for structure, T in zip(cp.frame.structures, terms, strict=True)]
    return np.concatenate(parts, axis=-1) if parts else np.empty((1, 0))


def terms_from_theta(cp: CrossProducts, theta: FloatArray) -> list[FloatArray]:
    """Factors (K, c, c) on the user's columns from theta (K, k)."""
    theta = np.atleast_2d(theta)
    ends = np.cumsum([0, *(len(structure.rows) for structure in cp.frame.structures)])
    return [
        factor_from_theta(structure, theta[:, a:b])
        for structure, a, b in zip(cp.frame.structures, ends[:-1], ends[1:], strict=True)
    ]


def without_small(cp: CrossProducts, internal: FloatArray, limit: float) -> FloatArray:
    """Internal vectors (K, k) with singular values of the structures' factors below the limit replaced by zeros."""
    out = internal.copy()
    for *_, entries, structure in cp.frame.terms:
        out[:, entries] = structure.cleaned(internal[:, entries], limit)
    return out


def slopes_in_frame(first: Derivatives, b: int, columns: slice, W: FloatArray | None) -> FloatArray:
    """Gradient (K, c, c) in the covariance of one term in the frame W of its structure."""
    slopes = first.blocks[b][:, columns, columns]
    return slopes if W is None else W.T @ slopes @ W


def sizes(cp: CrossProducts, factors: Sequence[FloatArray]) -> FloatArray:
    """Size of the relative factor of its term for every entry of the internal vector, shape (K, k)."""
    parts = []
    for b, columns, _, _, structure in cp.frame.terms:
        T, W = factors[b][:, columns, columns], frame(cp, b, columns, structure)
        T = T if W is None else np.linalg.solve(W, T)
        parts.append(np.repeat(np.abs(T).max((1, 2))[:, None], len(structure.rows), axis=1))
    return np.concatenate(parts, axis=1)


def gradient(cp: CrossProducts, internal: FloatArray, first: Derivatives) -> FloatArray:
    """Gradient (K, k) of the profiled criterion in K internal vectors (K, k)."""
    internal, parts = np.atleast_2d(internal), list[FloatArray]()
    for b, columns, _, entries, structure in cp.frame.terms:
        slopes = slopes_in_frame(first, b, columns, frame(cp, b, columns, structure))
        parts.append(structure.gradient(internal[:, entries], slopes))
    return np.concatenate(parts, axis=1) if parts else np.empty((internal.shape[0], 0))


def hessian(cp: CrossProducts, internal: FloatArray, first: Derivatives, traces_of: bool | None = None) -> FloatArray:
    """Hessian (K, k, k) of the profiled criterion in K internal vectors (K, k); see `Derivatives.second`."""
    internal = np.atleast_2d(internal)
    directions: list[list[FloatArray]] = [[] for _ in cp.blocks]
    curvature: list[tuple[slice, FloatArray]] = []
    for b, columns, _, entries, structure in cp.frame.terms:
        W, x, size = frame(cp, b, columns, structure), internal[:, entries], cp.blocks[b].size
        change = structure.directions(x)
        change = change if W is None else W @ change @ W.T
        if len(cp.blocks[b].slices) > 1:
            whole = np.zeros((*change.shape[:2], size, size))
            whole[:, :, columns, columns] = change
            change = whole
        directions[b].append(change)
        curvature.append((entries, structure.curvature(x, slopes_in_frame(first, b, columns, W))))
    stacks = [d[0] if len(d) == 1 else np.concatenate(d, axis=1) for d in directions]
    H = first.second(stacks, traces_of)
    for entries, local in curvature:
        H[:, entries, entries] += local
    return H
