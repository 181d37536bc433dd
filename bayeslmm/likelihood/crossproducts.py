"""Everything of the data that the criteria need, computed once.

The largest grouping factor is eliminated level by level, so its rows of the cross-product matrix are stored
split into a between and a within part: with ``Z_l = Q_l R_l`` for level l, ``E_l = Q_l' W`` (between) and
``D = W'W - sum_l E_l'E_l`` (within), where W collects the columns of the other random terms, of X and y. For
any variances the eliminated matrix is then ``D + sum_l E_l' (I + R_l Sigma R_l')^-1 E_l``: a sum of positive
terms, without the cancellation of ``W'W - ...``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
from scipy.linalg import block_diag

from bayeslmm.design.covariance import CovarianceStructure
from bayeslmm.design.design import Design, RandomTerm
from bayeslmm.design.dominant import heavy_rows, ordinary_weights
from bayeslmm.design.grouping import Grouping
from bayeslmm.design.screen import fill
from bayeslmm.equality import by_value
from bayeslmm.likelihood.columns import Basis, Response, orthogonalise, rescale, residualise
from bayeslmm.likelihood.heavy import fixed_part, split_level
from bayeslmm.likelihood.hierarchy import Columns, Hierarchy, build
from bayeslmm.likelihood.structure import DENSE, Elimination, plan
from bayeslmm.likelihood.within import grouped_qr, level_sums, split_columns
from bayeslmm.types import BoolArray, FloatArray, IntArray

# Levels are taken together by their R up to this many kinds; beyond `_MANY` levels that has to save something.
_KINDS = 256
_MANY = 256
# Levels whose columns differ more in size cannot be compared by one measure.
_ALIKE = 1e5


@dataclass(frozen=True)
class Block:
    """All random terms of one grouping factor.

    Attributes
    ----------
    grouping : Grouping
        The factor with J levels.
    terms : tuple of int
        Positions of its terms in ``design.terms``.
    slices : tuple of slice
        Columns of each of these terms within the block.
    basis : FloatArray, shape (c, c)
        Block-diagonal change of basis: effects in the user's units are ``basis @ (internal effects)``.
    """

    grouping: Grouping
    terms: tuple[int, ...]
    slices: tuple[slice, ...]
    basis: FloatArray

    @property
    def n_levels(self) -> int:
        return self.grouping.n_levels

    @cached_property
    def size(self) -> int:
        """c, the number of effects per level."""
        return int(self.basis.shape[0])

    @cached_property
    def q(self) -> int:
        return self.n_levels * self.size

    @cached_property
    def inverse_basis(self) -> FloatArray:
        return np.asarray(np.linalg.inv(self.basis))


@dataclass(frozen=True)
class Levels:
    """Cross-products with one block eliminated level by level and all else dense.

    Attributes
    ----------
    R : FloatArray, shape (J, c, c)
        Triangular factors of the first block within each level.
    E : FloatArray, shape (J, c, m)
        Between part of the trailing columns: random effects of the other blocks (q2), X (p), y (1).
    D : FloatArray, shape (m, m)
        Within part of their cross-products.
    """

    R: FloatArray
    E: FloatArray
    D: FloatArray

    @cached_property
    def unlike(self) -> bool:
        """Whether columns differ so much in size, between levels or within one, that rounding of some hides others."""
        sizes = np.abs(self.R).max(axis=2, initial=0.0)
        return bool(sizes.max(initial=0.0) > _ALIKE * sizes.min(where=sizes > 0, initial=np.inf))

    @cached_property
    def moments(self) -> Moments | None:
        """Between parts summed over levels that share R; None where few do."""
        J, c, m = self.E.shape
        if self.unlike:
            return None
        # Half the levels are enough to see that there are too many kinds.
        if J > _MANY and _distinct(self.R[: J // 2].reshape(J // 2, -1))[1].size > _KINDS:
            return None
        which, first = _distinct(self.R.reshape(J, -1))
        kinds = first.size
        if kinds > _KINDS or kinds * c * m > max(8 * J, 64) or (J > _MANY and kinds > J / 4):
            return None
        order = np.argsort(which, kind="stable")
        counts = np.bincount(which)
        sums = np.zeros((kinds, c, c, m, m))
        for u, part in enumerate(np.split(self.E[order], np.cumsum(counts)[:-1])):
            flat = part.reshape(part.shape[0], c * m)
            sums[u] = (flat.T @ flat).reshape(c, m, c, m).transpose(0, 2, 1, 3)
        return Moments(self.R[first], counts.astype(float), sums)


@by_value
@dataclass(frozen=True)
class CrossProducts:
    """Sufficient statistics of a design for the linear mixed model with Gaussian residuals.

    Attributes
    ----------
    design : Design
    blocks : tuple of Block
        In the order of elimination: the chain, then the blocks that are left to the dense trailing matrix.
    plan : Elimination
    store : Levels or Hierarchy
        `Levels` where one block is eliminated and the rest is small, `Hierarchy` otherwise.
    fixed : Basis
        Coordinates used for X.
    response : Response
        The response with its least-squares fit taken out.
    log_weights : float
        Sum of the log precision weights over the observations (slw).
    """

    design: Design
    blocks: tuple[Block, ...]
    plan: Elimination
    store: Levels | Hierarchy
    fixed: Basis
    response: Response
    log_weights: float
    reference: FloatArray | None = None

    def __repr__(self) -> str:
        return fill(f"<Cross-products of {self.design.formula!r}: {self.design.observations}>", indent="  ")

    @property
    def n(self) -> int:
        return self.design.n_observations

    @property
    def p(self) -> int:
        return self.design.p

    @property
    def levels(self) -> Levels:
        """The dense store; an error of the program if there is a hierarchy instead."""
        if not isinstance(self.store, Levels):
            raise TypeError("these cross-products are stored as a hierarchy")
        return self.store

    @property
    def trailing_blocks(self) -> tuple[Block, ...]:
        """Blocks outside the chain."""
        return self.blocks[self.plan.chain :]

    @property
    def takes_responses(self) -> bool:
        """Whether other responses can be reduced with the columns at hand (`replicates.reduce_responses`)."""
        return isinstance(self.store, Levels) and self.reference is None and heavy_rows(self.design) is None

    @cached_property
    def sigma_unit(self) -> float:
        return sigma_unit(self.design)

    @cached_property
    def term_order(self) -> tuple[tuple[int, slice, CovarianceStructure], ...]:
        """Block, columns within it and structure of every term, in the internal order."""
        return tuple(
            (b, columns, self.design.terms[term].structure)
            for b, block in enumerate(self.blocks)
            for term, columns in zip(block.terms, block.slices, strict=True)
        )

    @cached_property
    def q_trailing(self) -> int:
        """q2, the number of random effects outside the chain."""
        return sum(block.q for block in self.trailing_blocks)

    @cached_property
    def log_det_fixed(self) -> float:
        """Add this to ``log |X'V^-1X|`` in the orthogonalised columns to have it in the user's units."""
        return -2.0 * self.fixed.log_abs_det


@dataclass(frozen=True)
class Moments:
    """Statistics of the first block, taken together over levels with the same columns.

    Attributes
    ----------
    R : FloatArray, shape (U, c, c)
        Distinct triangular factors.
    counts : FloatArray, shape (U,)
        Levels that have each.
    sums : FloatArray, shape (U, c, c, m, m)
        ``sum_l E_l[a]' E_l[b]``.
    """

    R: FloatArray
    counts: FloatArray
    sums: FloatArray


def _distinct(rows: FloatArray) -> tuple[IntArray, IntArray]:
    """Group rows that are equal up to the rounding of sums: the group of each row, a row of each group."""
    scale = np.abs(rows).max(axis=0)
    keys = np.round(rows / np.where(scale > 0, scale, 1.0), 13) + 0.0
    if (keys == keys[0]).all():
        return np.zeros(rows.shape[0], dtype=np.int64), np.zeros(1, dtype=np.int64)
    if keys.shape[1] == 1:
        _, first, which = np.unique(keys[:, 0], return_index=True, return_inverse=True)
    else:
        _, first, which = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    return which.ravel(), first


def sum_up(design: Design) -> CrossProducts:
    """Cross-products of a design, the response less its least-squares fit on X."""
    fixed, response = _fixed_part(design)
    order, blocks, columns = internal_blocks(design)
    store: Levels | Hierarchy
    if order.chain == 1 and sum(block.q for block in blocks[1:]) <= DENSE:
        store = split_levels(design, blocks, columns, fixed, response)
    else:
        Z, Xy = _weighted(design, columns, fixed, response)
        factors = [Columns(b.grouping.codes, b.n_levels, z) for b, z in zip(blocks, Z, strict=True)]
        store = build(order, factors, Xy)
    return CrossProducts(design, blocks, order, store, fixed, response, _log_weights(design))


def _fixed_part(design: Design) -> tuple[Basis, Response]:
    """Coordinates of X, and the response less a fit on it; its spread in the units of sigma."""
    y = design.y if design.offset is None else design.y - design.offset
    heavy, measure, weights = heavy_rows(design), _mean_weights(design), design.row_weights
    if heavy is None or measure is None or weights is None:
        fixed = orthogonalise(design.X, measure, rotate=False)
        response = residualise(y, fixed, weights)
    else:
        _, blocks, columns = internal_blocks(design)
        fixed, response = fixed_part(design.X, y, columns[0], blocks[0].grouping.codes, heavy, weights, measure)
    return fixed, replace(response, spread=response.spread * sigma_unit(design))


def sigma_unit(design: Design) -> float:
    """What sigma is in units of y: the root of the mean weight of an observation, heavy rows left aside."""
    weights = _mean_weights(design)
    return 1.0 if weights is None or design.weights is None else float(np.sqrt(weights.mean()))


def split_levels(
    design: Design, blocks: tuple[Block, ...], columns: list[FloatArray], fixed: Basis, response: Response
) -> Levels:
    """Sum the columns of the blocks, X and the response up."""
    Z, Xy = _weighted(design, columns, fixed, response)
    heavy = heavy_rows(design)
    if heavy is None or design.row_weights is None:
        return Levels(*_split(blocks, Z, Xy))
    return Levels(*_split_heavy(blocks, Z, Xy, heavy, np.sqrt(design.row_weights)))


def _weighted(
    design: Design, columns: list[FloatArray], fixed: Basis, response: Response
) -> tuple[list[FloatArray], FloatArray]:
    root = None if design.row_weights is None else np.sqrt(design.row_weights)
    Xy = _weigh(np.concatenate([fixed.columns.T, response.residual[None]]), root).T
    return [_weigh(z.T, root).T for z in columns], Xy


def _mean_weights(design: Design) -> FloatArray | None:
    """Weights of the rows under which a mean over rows is one over observations."""
    weights = ordinary_weights(design)
    if design.frequency is None:
        return weights
    counts = design.frequency if weights is None else design.frequency * weights
    return np.asarray(counts * (design.n / design.n_observations))


def _log_weights(design: Design) -> float:
    if design.weights is None:
        return 0.0
    logs = np.log(design.weights)
    return float(logs.sum() if design.frequency is None else design.frequency @ logs)


def _weigh(rows: FloatArray, root: FloatArray | None) -> FloatArray:
    return rows if root is None else rows * root


def _term_basis(term: RandomTerm, weights: FloatArray | None) -> Basis:
    change = orthogonalise if term.structure.basis_free else rescale
    return change(term.Z, weights)


def internal_blocks(design: Design) -> tuple[Elimination, tuple[Block, ...], list[FloatArray]]:
    """Merge the terms of each grouping factor and put the blocks into the order of elimination."""
    built: list[tuple[Block, FloatArray]] = []
    for grouping in design.groupings.values():
        members = [i for i, term in enumerate(design.terms) if term.group == grouping.name]
        bases = [_term_basis(design.terms[i], _mean_weights(design)) for i in members]
        ends = np.cumsum([0, *(basis.columns.shape[1] for basis in bases)])
        slices = tuple(slice(int(a), int(b)) for a, b in pairwise(ends))
        transform = bases[0].transform if len(bases) == 1 else block_diag(*(basis.transform for basis in bases))
        block = Block(grouping, tuple(members), slices, transform)
        columns = [basis.columns.T for basis in bases]
        built.append((block, (columns[0] if len(columns) == 1 else np.concatenate(columns)).T))
    order = plan([block.grouping for block, _ in built], [block.q for block, _ in built])
    blocks = tuple(built[i][0] for i in order.order)
    return order, blocks, [built[i][1] for i in order.order]


def _split(blocks: tuple[Block, ...], Z: list[FloatArray], Xy: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Between and within parts of the trailing columns with respect to the first block."""
    first, rest = blocks[0], blocks[1:]
    codes, n_levels, c = first.grouping.codes, first.n_levels, first.size
    Q, R = grouped_qr(Z[0], codes, n_levels)
    q2 = sum(block.q for block in rest)
    m = q2 + Xy.shape[1]
    E = np.empty((n_levels, c, m))
    residual, between = split_columns(Q, Xy, codes, n_levels)
    E[:, :, q2:] = between
    D = np.empty((m, m))
    D[q2:, q2:] = residual.T @ residual
    if rest:
        _trailing(blocks, Z, Q, residual, E, D)
    return R, E, D


def _split_heavy(
    blocks: tuple[Block, ...], Z: list[FloatArray], Xy: FloatArray, heavy: BoolArray, root: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The same where few rows outweigh the others: their levels one by one."""
    codes = blocks[0].grouping.codes
    chosen = np.zeros(blocks[0].n_levels, dtype=bool)
    chosen[codes[heavy]] = True
    plain = ~chosen[codes]
    # Rows of no weight leave the levels of heavy rows out.
    R, E, D = _split(blocks, [z * plain[:, None] for z in Z], Xy * plain[:, None])
    q2 = D.shape[0] - Xy.shape[1]
    for level in np.flatnonzero(chosen):
        rows = np.flatnonzero(codes == level)
        others, start = np.zeros((rows.size, D.shape[0])), 0
        others[:, q2:] = Xy[rows]
        for block, z in zip(blocks[1:], Z[1:], strict=True):
            columns = start + block.grouping.codes[rows, None] * block.size + np.arange(block.size)
            others[np.arange(rows.size)[:, None], columns] = z[rows]
            start += block.q
        R[level], E[level], rest, _ = split_level(Z[0][rows], others, root[rows])
        D += rest.T @ rest
    return R, E, D


def _trailing(
    blocks: tuple[Block, ...],
    Z: list[FloatArray],
    Q: FloatArray,
    residual: FloatArray,
    E: FloatArray,
    D: FloatArray,
) -> None:
    """Fill the rows and columns of E and D that belong to the other grouping factors."""
    q2 = D.shape[0] - residual.shape[1]
    offsets = np.cumsum([0, *(block.q for block in blocks[1:])])
    spans = [slice(int(a), int(b)) for a, b in pairwise(offsets)]
    for j, (block, span) in enumerate(zip(blocks[1:], spans, strict=True), start=1):
        E[:, :, span] = _cross(Q, blocks[0], Z[j], block).reshape(*E.shape[:2], block.q)
        for k in range(1, j + 1):
            tile = _cross(Z[j], block, Z[k], blocks[k]).reshape(block.q, blocks[k].q)
            D[span, spans[k - 1]] = tile
            D[spans[k - 1], span] = tile.T
        sums = np.stack([level_sums(block.grouping.codes, z[:, None] * residual, block.n_levels) for z in Z[j].T], 1)
        D[span, q2:] = sums.reshape(block.q, -1)
        D[q2:, span] = D[span, q2:].T
    between = E[:, :, :q2].reshape(-1, q2)
    D[:q2, :q2] -= between.T @ between


def _cross(A: FloatArray, a: Block, B: FloatArray, b: Block) -> FloatArray:
    """Cross-products of two blocks, shape (J_a, c_a, J_b, c_b)."""
    cell = a.grouping.codes * b.n_levels + b.grouping.codes
    size = a.n_levels * b.n_levels
    out = np.empty((a.n_levels, a.size, b.n_levels, b.size))
    for i in range(a.size):
        for k in range(b.size):
            sums = np.bincount(cell, weights=A[:, i] * B[:, k], minlength=size)
            out[:, i, :, k] = sums.reshape(a.n_levels, b.n_levels)
    return out
