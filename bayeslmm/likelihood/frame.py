"""The coordinates of a design, chosen once: bases of X and of every term, blocks, order of elimination.

Sums over rows are additive only on common coordinates. A frame says which: any rows whose columns are written in it
give sums (`Levels`, `Hierarchy`) that may be added to those of other rows, and rows that are whitened are summed again
with the frame left alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.linalg import block_diag

from bayeslmm.design.covariance import CovarianceStructure
from bayeslmm.design.design import Design, RandomTerm
from bayeslmm.design.dominant import ordinary_weights
from bayeslmm.design.grouping import Grouping
from bayeslmm.equality import by_value
from bayeslmm.likelihood.columns import Basis, Known, orthogonalise, rescale
from bayeslmm.likelihood.structure import Elimination, plan
from bayeslmm.types import FloatArray, IntArray


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

    def columns(self, design: Design) -> FloatArray:
        """Columns (n, c) of its terms side by side, in the user's units; none where it has no terms."""
        return np.concatenate([np.empty((design.n, 0)), *(design.terms[i].Z for i in self.terms)], axis=1)

    @cached_property
    def q(self) -> int:
        return self.n_levels * self.size

    @cached_property
    def inverse_basis(self) -> FloatArray:
        return np.asarray(np.linalg.inv(self.basis))


class TermPlace(NamedTuple):
    """Where a random term is.

    Its block and columns there, its position in the formula, its entries of the internal vector; and its structure.
    """

    block: int
    columns: slice
    position: int
    entries: slice
    structure: CovarianceStructure


@by_value
@dataclass(frozen=True, eq=False)
class Frame:
    """Coordinates on which sums are additive.

    Attributes
    ----------
    blocks : tuple of Block
        In the order of elimination: the chain, then the blocks that are left to the dense trailing matrix.
    plan : Elimination
    fixed : Basis
        Coordinates used for X.
    structures : tuple of CovarianceStructure
        Of the random terms, in the order of the formula.
    """

    blocks: tuple[Block, ...]
    plan: Elimination
    fixed: Basis
    structures: tuple[CovarianceStructure, ...]

    @cached_property
    def terms(self) -> tuple[TermPlace, ...]:
        """Every term, block by block: the order of the internal vectors."""
        places, start = list[TermPlace](), 0
        for b, block in enumerate(self.blocks):
            for term, columns in zip(block.terms, block.slices, strict=True):
                structure = self.structures[term]
                end = start + len(structure.rows)
                places.append(TermPlace(b, columns, term, slice(start, end), structure))
                start = end
        return tuple(places)

    @cached_property
    def trailing_blocks(self) -> tuple[Block, ...]:
        """Blocks outside the chain."""
        return self.blocks[self.plan.chain :]

    @cached_property
    def spans(self) -> tuple[slice, ...]:
        """Places of the random effects of every block among those of all blocks."""
        return _side_by_side([block.q for block in self.blocks])

    @cached_property
    def trailing_spans(self) -> tuple[tuple[Block, slice], ...]:
        """Blocks outside the chain with the places of their random effects among those of all of these."""
        spans = _side_by_side([block.q for block in self.trailing_blocks])
        return tuple(zip(self.trailing_blocks, spans, strict=True))

    @cached_property
    def p(self) -> int:
        """Number of fixed effects."""
        return int(self.fixed.transform.shape[0])

    @cached_property
    def q_trailing(self) -> int:
        """q2, the number of random effects outside the chain."""
        return sum(block.q for block in self.trailing_blocks)

    @cached_property
    def n_theta(self) -> int:
        """Number of covariance parameters besides sigma."""
        return sum(len(structure.rows) for structure in self.structures)

    def trailing_rows(self, others: FloatArray, known: Sequence[tuple[FloatArray, IntArray]]) -> FloatArray:
        """Columns (k, q2 + m) of the random effects of the blocks outside the chain, then others, for some rows.

        Parameters
        ----------
        others : FloatArray, shape (k, m)
        known : sequence of (FloatArray, IntArray)
            For every block its internal columns (k, c) and the level of each row; or columns (k, q) of all its effects.
        """
        n = others.shape[0]
        out = np.zeros((n, self.q_trailing + others.shape[1]))
        out[:, self.q_trailing :] = others
        for (block, span), (w, codes) in zip(self.trailing_spans, known[self.plan.chain :], strict=True):
            if w.shape[1] == block.q:
                out[:, span] = w
                continue
            columns = span.start + codes[:, None] * block.size + np.arange(block.size)
            out[np.arange(n)[:, None], columns] = w
        return out

    @cached_property
    def log_det_fixed(self) -> float:
        """Add this to ``log |X'V^-1X|`` in the orthogonalised columns to have it in the user's units."""
        return -2.0 * self.fixed.log_abs_det


def _side_by_side(sizes: Sequence[int]) -> tuple[slice, ...]:
    places, start = list[slice](), 0
    for size in sizes:
        places.append(slice(start, start + size))
        start += size
    return tuple(places)


def choose_blocks(
    design: Design, known: Known | None = None
) -> tuple[Elimination, tuple[Block, ...], list[FloatArray]]:
    """Merge the terms of each grouping factor and put the blocks into the order of elimination.

    Parameters
    ----------
    design : Design
    known : dict, optional
        As of `orthogonalise`, of columns under the weights of this design.

    Returns
    -------
    Elimination
    tuple of Block
    list of FloatArray, each (n, c)
        Columns of the blocks in the coordinates chosen, not weighted.
    """
    if not design.groupings:
        return plan([no_effects(design.n).grouping], [0], "levels"), (no_effects(design.n),), [np.empty((design.n, 0))]
    built: list[tuple[Block, FloatArray]] = []
    for grouping in design.groupings.values():
        members = [i for i, term in enumerate(design.terms) if term.group == grouping.name]
        bases = [_term_basis(design.terms[i], mean_weights(design), known) for i in members]
        slices = _side_by_side([basis.columns.shape[1] for basis in bases])
        transform = bases[0].transform if len(bases) == 1 else block_diag(*(basis.transform for basis in bases))
        block = Block(grouping, tuple(members), slices, transform)
        columns = [basis.columns.T for basis in bases]
        built.append((block, (columns[0] if len(columns) == 1 else np.concatenate(columns)).T))
    order = plan([block.grouping for block, _ in built], [block.q for block, _ in built], design.store)
    blocks = tuple(built[i][0] for i in order.order)
    return order, blocks, [built[i][1] for i in order.order]


def no_effects(n: int) -> Block:
    """A block of n rows without effects: what is eliminated first where nothing can be."""
    return Block(Grouping("", np.zeros(n, dtype=np.int64), ("",)), (), (), np.empty((0, 0)))


def _term_basis(term: RandomTerm, weights: FloatArray | None, known: Known | None) -> Basis:
    if term.structure.basis_free:
        return orthogonalise(term.Z, weights, known=known)
    return rescale(term.Z, weights)


def mean_weights(design: Design) -> FloatArray | None:
    """Weights of the rows under which a mean over rows is one over observations."""
    weights = None if design.weights is None else ordinary_weights(design)
    if design.frequency is None:
        return weights
    counts = design.frequency if weights is None else design.frequency * weights
    return np.asarray(counts * (design.n / design.n_observations))
