"""Blocks of the precision of y for groups of rows, where the trailing system is wide.

The rows of a group have few of all effects, each row a handful. With F their columns and C the covariance of these
effects given y, over sigma^2, the block of the precision is ``I - F C F'``. C follows from the inverse of the trailing
system and, for effects of the first block, from the sparse rows that eliminate them; no row of the data is multiplied
by the whole trailing system.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import sparse

from bayeslmm.likelihood.crossproducts import SummedDesign
from bayeslmm.likelihood.normal_prior import NormalPrior
from bayeslmm.likelihood.row_system import RowSystem, block_diagonal, solve_rows
from bayeslmm.types import FloatArray, IntArray

# Multiplications of dense rows that take as long as the calls for one group here.
_CALLS = 1_000_000
# Doubles of the covariances of the first block with the trailing effects that are held.
_MOST = 100_000_000


def pays(cp: SummedDesign, codes: IntArray) -> bool:
    """Whether this is quicker than dense rows of the eliminated system."""
    first, t = cp.blocks[0].q, sum(block.q for block in cp.blocks[1:]) + cp.p
    return bool(codes.size * t**2 > _CALLS * (codes.max() + 1) and first * t < _MOST)


@dataclass(frozen=True)
class GroupRows:
    """The rows of one group, and the effects that they have."""

    rows: IntArray  # (r,)
    levels: IntArray  # (a,) of the first block
    others: IntArray  # (b,) columns of the trailing system
    F: sparse.csr_array  # (r, a c + b)


def group_rows(system: RowSystem, codes: IntArray) -> list[GroupRows]:
    """All groups, codes 0 .. G - 1."""
    t, c, first = system.width - 1, system.Q.shape[1], system.cp.blocks[0].grouping.codes
    order, ends = np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))
    columns, found = system.columns[:, :t], []
    for start, stop in pairwise([0, *ends]):
        rows = order[start:stop]
        levels, at = np.unique(first[rows], return_inverse=True)
        own = columns[rows]
        others, place = np.unique(own.indices, return_inverse=True)
        W = sparse.csr_array((own.data, place, own.indptr), shape=(rows.size, others.size))
        places = (at[:, None] * c + np.arange(c)).ravel()
        Q = sparse.csr_array(
            (system.Q[rows].ravel(), places, c * np.arange(rows.size + 1)), shape=(rows.size, levels.size * c)
        )
        found.append(GroupRows(rows, levels, others.astype(np.int64), sparse.csr_array(sparse.hstack([Q, W]))))
    return found


def wide_blocks(
    system: RowSystem,
    groups: Sequence[GroupRows],
    factors: Sequence[FloatArray],
    sigma: FloatArray,
    prior: NormalPrior | None,
) -> Iterator[tuple[int, int, FloatArray, FloatArray]]:
    """Draw, group, block (r, r) of P, and P (y - X m) of its rows (r,)."""
    t, c = system.width - 1, system.Q.shape[1]
    within = np.arange(c)
    for k in range(sigma.size):
        solved = solve_rows(system, [T[k : k + 1] for T in factors], sigma[k : k + 1], prior)
        shrink, gain = solved.shrink[0], solved.gain[0]
        trailing = gain @ gain.T
        move = sparse.csr_array(block_diagonal(shrink) @ system.between)
        combination = np.append(-solved.effects[0], 1.0)
        residual = system.columns @ combination - system.spread @ (move @ combination)
        move = move[:, :t]
        across = move @ trailing
        for j, group in enumerate(groups):
            first = (group.levels[:, None] * c + within).ravel()
            a = first.size
            C, rows = np.empty((a + group.others.size,) * 2), across[first]
            C[:a, :a] = move[first] @ rows.T
            own = np.arange(a).reshape(-1, c)
            C[own[:, :, None], own[:, None, :]] += shrink[group.levels]
            C[:a, a:] = -rows[:, group.others]
            C[a:, :a] = C[:a, a:].T
            C[a:, a:] = trailing[group.others[:, None], group.others]
            P = np.eye(group.rows.size) - group.F @ (group.F @ C).T
            yield k, j, P, residual[group.rows]
