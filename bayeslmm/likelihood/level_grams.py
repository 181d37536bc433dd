"""Cross-products of the columns of two factors by the pairs of levels that occur, from sums in place of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from bayeslmm.likelihood.chain_sums import ChainSums
from bayeslmm.likelihood.conditional import internal_beta
from bayeslmm.likelihood.crossed_sums import CrossedSums
from bayeslmm.likelihood.crossproducts import CrossProducts
from bayeslmm.likelihood.level_sums import LevelSums
from bayeslmm.types import FloatArray, IntArray


@dataclass(frozen=True)
class Pairs:
    """Cross-products of the columns of two blocks.

    Attributes
    ----------
    first, second : IntArray, shape (k,)
        Levels of each pair.
    products : FloatArray, shape (k, a, b)
        Weighted, in internal coordinates.
    """

    first: IntArray
    second: IntArray
    products: FloatArray

    def dense(self, J: int, K: int) -> FloatArray:
        """Of all pairs of J and K levels, shape (J, a, K, b)."""
        out = np.zeros((J, self.products.shape[1], K, self.products.shape[2]))
        out[self.first, :, self.second] = self.products
        return out


def level_pairs(cp: CrossProducts, a: int, b: int) -> Pairs:
    """Cross-products of blocks a and b; of a block with itself level by level."""
    if a > b:
        pairs = level_pairs(cp, b, a)
        return Pairs(pairs.second, pairs.first, pairs.products.mT)
    sums = cp.sums
    if isinstance(sums, LevelSums):
        return _in_levels(sums, a, b)
    if isinstance(sums, ChainSums):
        return _in_chain(sums, a, b)
    if isinstance(sums, CrossedSums):
        return _in_operator(sums, a, b)
    raise TypeError("sums of an unknown kind")


def fixed_products(cp: CrossProducts, a: int) -> FloatArray:
    """Cross-products (J, c, p + 1) of the columns of a block with X and what is left of y."""
    sums, block = cp.sums, cp.blocks[a]
    shape = (block.n_levels, block.size, cp.p + 1)
    if isinstance(sums, LevelSums):
        q2 = cp.q_trailing
        if a == 0:
            return np.asarray(sums.R.mT @ sums.E[:, :, q2:])
        return _trailing(sums)[_span(cp, a), q2:].reshape(shape)
    if isinstance(sums, CrossedSums):
        if a == 0:
            return np.asarray(sums.R.mT @ sums.fixed)
        between = sums.cells.rows().T @ sums.fixed.reshape(-1, cp.p + 1)
        return np.asarray((sums.within + between)[sums.others[a - 1][1]]).reshape(shape)
    if not isinstance(sums, ChainSums):
        raise TypeError("sums of an unknown kind")
    chain, q = sums.plan.chain, sums.q_dense
    if a == 0:
        return np.asarray(sums.R.mT @ sums.fixed)
    if a < chain:
        return np.asarray(sums.rows[a - 1].fixed) + _by_parent(sums, a, sums.up[a - 1].mT @ sums.fixed)
    between = sums.cells.rows().T @ sums.fixed.reshape(-1, cp.p + 1)
    return np.asarray((sums.D[:q, q:] + between)[_span(cp, a)]).reshape(shape)


def squares_of_fixed(cp: CrossProducts) -> FloatArray:
    """Cross-products (p + 1, p + 1) of X and what is left of y."""
    sums = cp.sums
    if isinstance(sums, LevelSums):
        return np.asarray(_trailing(sums)[cp.q_trailing :, cp.q_trailing :])
    if isinstance(sums, CrossedSums):
        flat = sums.fixed.reshape(-1, cp.p + 1)
        return np.asarray(sums.D + flat.T @ flat)
    if not isinstance(sums, ChainSums):
        raise TypeError("sums of an unknown kind")
    flat = sums.fixed.reshape(-1, cp.p + 1)
    return np.asarray(sums.D[sums.q_dense :, sums.q_dense :] + flat.T @ flat)


def taken_out(cp: CrossProducts) -> Iterator[tuple[int, FloatArray]]:
    """Blocks with the internal effects (J, c) that were taken out of the response before it was summed."""
    if cp.sums.reference is not None:
        for b, (block, span) in enumerate(cp.frame.trailing_spans, start=cp.plan.chain):
            yield b, cp.sums.reference[span].reshape(block.n_levels, block.size)


def triangles(grams: FloatArray) -> FloatArray:
    """Upper triangular R (J, c, c) with ``R'R`` each of these."""
    values, vectors = np.linalg.eigh(grams)
    roots = np.sqrt(np.maximum(values, 0.0))[..., None] * vectors.mT
    return np.asarray(np.linalg.qr(roots, mode="r"))


def term_gram(cp: CrossProducts, position: int) -> FloatArray:
    """Weighted cross-products (c, c) of the columns of a random term over all rows, user's units."""
    return np.asarray(term_grams(cp, position).sum(0))


def _span(cp: CrossProducts, a: int) -> slice:
    """Effects of a block outside the chain among those of all such."""
    return cp.frame.trailing_spans[a - cp.plan.chain][1]


def _trailing(sums: LevelSums) -> FloatArray:
    flat = sums.E.reshape(-1, sums.E.shape[-1])
    return np.asarray(sums.D + flat.T @ flat)


def _in_levels(sums: LevelSums, a: int, b: int) -> Pairs:
    frame = sums.frame
    if a == b == 0:
        return _alone(sums.R.mT @ sums.R)
    block = frame.blocks[b]
    own = frame.trailing_spans[b - 1][1]
    if a == 0:
        return _occurring((sums.R.mT @ sums.E[:, :, own]), block.n_levels)
    rows = _trailing(sums)[frame.trailing_spans[a - 1][1], own]
    rows = rows.reshape(frame.blocks[a].n_levels, frame.blocks[a].size, -1)
    return _diagonal(rows, block.n_levels) if a == b else _occurring(rows, block.n_levels)


def _in_chain(sums: ChainSums, a: int, b: int) -> Pairs:
    frame, chain, up = sums.frame, sums.plan.chain, sums.plan.up
    if b < chain:
        if a == b == 0:
            return _alone(sums.R.mT @ sums.R)
        if a == 0:
            return Pairs(np.arange(len(sums.R)), up[0][b - 1], sums.R.mT @ sums.up[b - 1])
        between = _by_parent(sums, a, sums.up[a - 1].mT @ sums.up[b - 1])
        if a == b:
            return _alone(sums.rows[a - 1].own + between)
        products = sums.rows[a - 1].up[b - a - 1] + between
        return Pairs(np.arange(len(products)), up[a][b - a - 1], products)
    own, levels = frame.trailing_spans[b - chain][1], frame.blocks[b].n_levels
    if a == 0:
        return _cells(sums, own, levels)
    if a < chain:
        between = _sums_with_cells(sums, a)
        return _occurring((sums.rows[a - 1].effects + between)[:, :, own], levels)
    flat = sums.cells.rows()
    dense = sums.D[: sums.q_dense, : sums.q_dense] + (flat.T @ flat).toarray()
    rows = dense[frame.trailing_spans[a - chain][1], own].reshape(frame.blocks[a].n_levels, frame.blocks[a].size, -1)
    return _diagonal(rows, levels) if a == b else _occurring(rows, levels)


def _in_operator(sums: CrossedSums, a: int, b: int) -> Pairs:
    if a == b == 0:
        return _alone(sums.R.mT @ sums.R)
    block, own = sums.others[b - 1]
    if a == 0:
        return _cells(sums, own, block.n_levels)
    if a == b:
        return _alone(sums.diagonal_tiles[b - 1])
    first, rows = sums.others[a - 1]
    entries = sparse.coo_array(sums.products[rows, own])
    i, j = entries.coords
    pairs, place = np.unique(i // first.size * block.n_levels + j // block.size, return_inverse=True)
    out = np.zeros((pairs.size, first.size, block.size))
    out[place, i % first.size, j % block.size] = entries.data
    return Pairs(pairs // block.n_levels, pairs % block.n_levels, out)


def _cells(sums: ChainSums | CrossedSums, own: slice, levels: int) -> Pairs:
    """Of the first factor with a crossed one: only what is stored occurs."""
    cells, size = sums.cells, (own.stop - own.start) // levels
    inside = (cells.columns >= own.start) & (cells.columns < own.stop)
    level, column = cells.levels[inside], cells.columns[inside] - own.start
    products = (sums.R.mT[level] @ cells.values[inside][:, :, None])[..., 0]
    pairs, place = np.unique(level * levels + column // size, return_inverse=True)
    out = np.zeros((pairs.size, products.shape[1], size))
    out[place, :, column % size] = products
    return Pairs(pairs // levels, pairs % levels, out)


def _sums_with_cells(sums: ChainSums, a: int) -> FloatArray:
    """Between part (J, c, q_d) of a later member with the crossed factors."""
    cells = sums.cells
    parents = sums.plan.up[0][a - 1]
    products = (sums.up[a - 1].mT[cells.levels] @ cells.values[:, :, None])[..., 0]
    out = np.zeros((sums.frame.blocks[a].n_levels, sums.up[a - 1].shape[2], sums.q_dense))
    np.add.at(out, (parents[cells.levels][:, None], np.arange(out.shape[1]), cells.columns[:, None]), products)
    return out


def _by_parent(sums: ChainSums, a: int, products: FloatArray) -> FloatArray:
    """Sums over the levels of the first member that lie in each level of member a."""
    out = np.zeros((sums.frame.blocks[a].n_levels, *products.shape[1:]))
    np.add.at(out, sums.plan.up[0][a - 1], products)
    return out


def _alone(products: FloatArray) -> Pairs:
    levels = np.arange(len(products))
    return Pairs(levels, levels, np.asarray(products))


def _diagonal(rows: FloatArray, levels: int) -> Pairs:
    blocks = rows.reshape(len(rows), rows.shape[1], levels, -1)
    return _alone(np.stack([blocks[j, :, j] for j in range(levels)]))


def _occurring(rows: FloatArray, levels: int) -> Pairs:
    """Of products (J, a, J' b) with all levels of the second those that are not zero."""
    blocks = rows.reshape(len(rows), rows.shape[1], levels, -1).transpose(0, 2, 1, 3)
    first, second = np.nonzero((blocks != 0).any(axis=(2, 3)))
    return Pairs(first, second, np.asarray(blocks[first, second]))


def residual_scores(cp: CrossProducts, beta: FloatArray, effects: Sequence[FloatArray]) -> list[FloatArray]:
    """Weighted sums (J, c) over the rows of each level of every block, its columns times the residual, user's units.

    Parameters
    ----------
    cp : CrossProducts
    beta : FloatArray, shape (p,)
        User's units.
    effects : sequence of FloatArray, each (J, c)
        Of every block.
    """
    fixed = np.append(-internal_beta(cp, beta[None])[0], 1.0)
    own = [b @ block.inverse_basis.T for block, b in zip(cp.blocks, effects, strict=True)]
    for b, known in taken_out(cp):
        own[b] = own[b] - known
    scores = [fixed_products(cp, a) @ fixed for a in range(len(cp.blocks))]
    for a in range(len(cp.blocks)):
        for b in range(a, len(cp.blocks)):
            pairs = level_pairs(cp, a, b)
            np.add.at(scores[a], pairs.first, -(pairs.products @ own[b][pairs.second][..., None])[..., 0])
            if a != b:
                np.add.at(scores[b], pairs.second, -(pairs.products.mT @ own[a][pairs.first][..., None])[..., 0])
    return [score @ block.inverse_basis for score, block in zip(scores, cp.blocks, strict=True)]


def term_grams(cp: CrossProducts, position: int) -> FloatArray:
    """Weighted cross-products (J, c, c) of the columns of a random term in every level, user's units."""
    b, columns = next((b, columns) for b, columns, term, *_ in cp.frame.terms if term == position)
    back = cp.blocks[b].inverse_basis[columns, columns]
    return np.asarray(back.T @ level_pairs(cp, b, b).products[:, columns, columns] @ back)


def projected_gram(cp: CrossProducts, effects: Sequence[tuple[int, Sequence[int]]], change: FloatArray) -> FloatArray:
    """Cross-products (m, m) of the columns of some effects of some terms, of length 1, once X is projected out.

    Parameters
    ----------
    cp : CrossProducts
    effects : sequence of (int, sequence of int)
        Positions of terms, and of effects in them.
    change : FloatArray, shape (p, f)
        The columns of X that are projected out are ``X @ change``.
    """
    places = {term: (b, columns) for b, columns, term, *_ in cp.frame.terms}
    internal = np.linalg.solve(cp.fixed.transform, change)
    chosen, sizes, with_fixed = [], [], []
    for term, own in effects:
        b, columns = places[term]
        back = cp.blocks[b].inverse_basis[columns, columns][:, list(own)]
        chosen.append((b, columns, back))
        sizes.append(cp.blocks[b].n_levels * len(own))
        products = back.T @ fixed_products(cp, b)[:, columns, :-1] @ internal
        with_fixed.append(products.reshape(sizes[-1], -1))
    ends = np.cumsum([0, *sizes])
    gram = np.zeros((ends[-1], ends[-1]))
    for i, (a, own_a, back_a) in enumerate(chosen):
        for j, (b, own_b, back_b) in enumerate(chosen[i:], start=i):
            pairs = level_pairs(cp, a, b)
            pairs = replace(pairs, products=back_a.T @ pairs.products[:, own_a, own_b] @ back_b)
            tile = pairs.dense(cp.blocks[a].n_levels, cp.blocks[b].n_levels)
            gram[ends[i] : ends[i + 1], ends[j] : ends[j + 1]] = tile.reshape(sizes[i], sizes[j])
    gram = np.triu(gram) + np.triu(gram, 1).T
    if internal.shape[1]:
        squares = internal.T @ squares_of_fixed(cp)[:-1, :-1] @ internal
        half = np.linalg.solve(np.linalg.cholesky(squares), np.concatenate(with_fixed).T)
        projected = gram - half.T @ half
    else:
        projected = gram
    length = np.sqrt(np.diagonal(gram))
    there = length > 0
    return np.asarray(projected[np.ix_(there, there)] / (length[there][:, None] * length[there]))
