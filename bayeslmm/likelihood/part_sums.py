"""Cross-products of a model with fewer columns, from those of the larger one, where rows are not in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import block_diag

from bayeslmm.design.design import Design
from bayeslmm.likelihood.columns import Basis, Response
from bayeslmm.likelihood.crossproducts import SummedDesign
from bayeslmm.likelihood.frame import Block, Frame
from bayeslmm.likelihood.level_grams import fixed_products, level_pairs, squares_of_fixed, taken_out, triangles
from bayeslmm.likelihood.levels import Levels
from bayeslmm.likelihood.reduction import cross_products
from bayeslmm.likelihood.rowless import summed_without_rows
from bayeslmm.likelihood.structure import plan
from bayeslmm.types import FloatArray

# Effects outside the first factor, which become one dense piece.
_MOST = 3000


@dataclass(frozen=True)
class KeptColumns:
    """Columns of a model that a smaller one has.

    Attributes
    ----------
    fixed : tuple of int
        Of X.
    terms : tuple of (int, tuple of int)
        Positions of terms, and the effects of each that are kept.
    """

    fixed: tuple[int, ...]
    terms: tuple[tuple[int, tuple[int, ...]], ...]


def kept_columns(design: Design, term: int, effects: Sequence[int]) -> KeptColumns:
    """All columns but those of one term, of which some effects, or none, are kept."""
    kept = [(k, tuple(range(len(other.effects)))) for k, other in enumerate(design.terms)]
    kept[term : term + 1] = [(term, tuple(effects))] if len(effects) else []
    return KeptColumns(tuple(range(design.p)), tuple(kept))


def smaller_products(cp: SummedDesign, design: Design, kept: KeptColumns) -> SummedDesign:
    """Cross-products of a design with some of the columns of another one: of its rows, or from those of the other."""
    return cross_products(design) if design.facts is None else products_of_part(cp, design, kept)


@dataclass(frozen=True)
class _Own:
    """A block of the smaller model: the block it comes from, and its internal columns as combinations of its."""

    block: Block
    old: int
    change: FloatArray


def products_of_part(cp: SummedDesign, design: Design, kept: KeptColumns) -> SummedDesign:
    """Cross-products of a smaller design.

    Parameters
    ----------
    cp : SummedDesign
    design : Design
        The smaller one, with what is recorded of its rows.
    kept : KeptColumns
        Its columns among those of the larger.
    """
    blocks = [_block(cp, design, name, kept) for name in design.groupings]
    order = plan([own.block.grouping for own in blocks], [own.block.q for own in blocks], "levels")
    blocks = [blocks[k] for k in order.order]
    if sum(own.block.q for own in blocks[1:]) > _MOST:
        return cross_products(design)
    T, M = _fixed(cp, kept)
    fixed = Basis(np.empty((0, len(kept.fixed))), T, _constant(cp, kept), True)
    gram, start = _grams(cp, blocks, M)
    X = slice(start, start + len(kept.fixed))
    coef = np.linalg.solve(gram[X, X], gram[X, -1]) if len(kept.fixed) else np.zeros(0)
    left = np.eye(len(gram))
    left[X, -1] = -coef
    R = triangles(level_pairs_of(cp, blocks[0]))
    W = np.concatenate([*(_dense(cp, blocks[0], own) for own in blocks[1:]), _with_fixed(cp, blocks[0], M)], axis=2)
    E = (np.linalg.pinv(R).mT @ W) @ left
    flat = E.reshape(-1, len(gram))
    D = left.T @ gram @ left - flat.T @ flat
    frame = Frame(tuple(own.block for own in blocks), order, fixed, tuple(term.structure for term in design.terms))
    one = fixed.one
    constant = 0.0 if one is None else cp.response.constant
    spread = np.sqrt(max(float((left.T @ gram @ left)[-1, -1]), 0.0) / cp.n)
    response = Response(np.empty(0), coef, constant, np.zeros(len(coef)) if one is None else one, spread)
    found = summed_without_rows(design, Levels(frame, cp.n, R, E, 0.5 * (D + D.T)), response)
    return replace(found, log_weights=cp.log_weights, sigma_unit=cp.sigma_unit)


def _block(cp: SummedDesign, design: Design, name: str, kept: KeptColumns) -> _Own:
    old = next(b for b, block in enumerate(cp.blocks) if block.grouping.name == name)
    block, facts = cp.blocks[old], design.facts
    assert facts is not None
    places = dict(zip(block.terms, block.slices, strict=True))
    members = [k for k, term in enumerate(design.terms) if term.group == name]
    bases, changes, slices, start = [], [], [], 0
    for k in members:
        position, effects = kept.terms[k]
        columns = places[position]
        own, back = block.basis[columns, columns], block.inverse_basis[columns, columns]
        if len(effects) == len(own):
            basis, change = own, np.eye(block.size)[:, columns]
        else:
            size = np.sqrt((facts.moments(k) ** 2).sum(0))
            basis = np.diag(1.0 / np.where(size > 0, size, 1.0))
            change = np.zeros((block.size, len(effects)))
            change[columns] = back[:, list(effects)] @ basis
        bases.append(basis)
        changes.append(change)
        slices.append(slice(start, start + len(effects)))
        start += len(effects)
    made = Block(design.groupings[name], tuple(members), tuple(slices), block_diag(*bases))
    return _Own(made, old, np.concatenate(changes, axis=1))


def _fixed(cp: SummedDesign, kept: KeptColumns) -> tuple[FloatArray, FloatArray]:
    """Change of basis (f, f) of the columns kept, and their internal columns as combinations (p, f) of the old ones."""
    if len(kept.fixed) == cp.p:
        return cp.fixed.transform, np.eye(cp.p)
    back = np.linalg.inv(cp.fixed.transform)[:, list(kept.fixed)]
    gram = back.T @ squares_of_fixed(cp)[:-1, :-1] @ back
    size = np.sqrt(np.diagonal(gram) / cp.n)
    lower = np.linalg.cholesky(gram / (size[:, None] * size) / cp.n) if len(size) else np.empty((0, 0))
    T = np.linalg.inv(lower).T / size[:, None]
    return T, back @ T


def _constant(cp: SummedDesign, kept: KeptColumns) -> tuple[int, float] | None:
    known = cp.fixed.constant
    if known is None or known[0] not in kept.fixed:
        return None
    return kept.fixed.index(known[0]), known[1]


def _right(cp: SummedDesign, M: FloatArray) -> FloatArray:
    """Of X and what is left of y (p + 1): the columns kept, and y with all that the constant does not take out."""
    out = np.zeros((cp.p + 1, M.shape[1] + 1))
    out[:-1, :-1] = M
    back = cp.response.coef
    if not cp.response.constant_coef.any() or not _spans_one(cp, M):
        back = cp.response.removed
    out[:-1, -1], out[-1, -1] = back, 1.0
    return out


def _spans_one(cp: SummedDesign, M: FloatArray) -> bool:
    one = cp.response.constant_coef
    return bool(np.allclose(M @ np.linalg.lstsq(M, one)[0], one, rtol=1e-9, atol=1e-12)) if M.shape[1] else False


def _with_fixed(cp: SummedDesign, own: _Own, M: FloatArray) -> FloatArray:
    """Cross-products (J, c, f + 1) of a block with the columns of X kept and y, effects put back."""
    products = np.array(fixed_products(cp, own.old))
    products[..., -1] += _with_taken_out(cp, own.old)
    return np.asarray(own.change.T @ products @ _right(cp, M))


def _with_taken_out(cp: SummedDesign, b: int) -> FloatArray:
    """Cross-products (J, c) of a block with all that effects were taken out of y."""
    total = np.zeros((cp.blocks[b].n_levels, cp.blocks[b].size))
    for other, effects in taken_out(cp):
        pairs = level_pairs(cp, b, other)
        np.add.at(total, pairs.first, (pairs.products @ effects[pairs.second][..., None])[..., 0])
    return total


def _squares(cp: SummedDesign, M: FloatArray) -> FloatArray:
    """Cross-products (f + 1, f + 1) of the columns of X kept and y, effects put back."""
    whole = squares_of_fixed(cp).copy()
    back, squares = np.zeros(cp.p + 1), 0.0
    for b, effects in taken_out(cp):
        back += np.einsum("lc,lcm->m", effects, fixed_products(cp, b))
        squares += float((effects * _with_taken_out(cp, b)).sum())
    whole[:, -1] += back
    whole[-1] += back
    whole[-1, -1] += squares
    right = _right(cp, M)
    return np.asarray(right.T @ whole @ right)


def level_pairs_of(cp: SummedDesign, own: _Own) -> FloatArray:
    """Cross-products (J, c, c) of the columns of a block of the smaller model within its levels."""
    return np.asarray(own.change.T @ level_pairs(cp, own.old, own.old).products @ own.change)


def _dense(cp: SummedDesign, a: _Own, b: _Own) -> FloatArray:
    """Cross-products (J, c, J' c') of the columns of two blocks."""
    pairs = level_pairs(cp, a.old, b.old)
    pairs = replace(pairs, products=a.change.T @ pairs.products @ b.change)
    out = pairs.dense(a.block.n_levels, b.block.n_levels)
    return out.reshape(a.block.n_levels, a.block.size, b.block.q)


def _grams(cp: SummedDesign, blocks: Sequence[_Own], M: FloatArray) -> tuple[FloatArray, int]:
    """Cross-products of the effects of all blocks but the first, X and y; and where X starts."""
    rest = blocks[1:]
    ends = np.cumsum([0, *(own.block.q for own in rest)])
    start = int(ends[-1])
    gram = np.zeros((start + M.shape[1] + 1,) * 2)
    for i, own in enumerate(rest):
        rows = slice(ends[i], ends[i + 1])
        gram[rows, start:] = _with_fixed(cp, own, M).reshape(own.block.q, -1)
        for j, other in enumerate(rest[i:], start=i):
            gram[rows, ends[j] : ends[j + 1]] = _dense(cp, own, other).reshape(own.block.q, -1)
    gram[start:, start:] = _squares(cp, M)
    return np.triu(gram) + np.triu(gram, 1).T, start
