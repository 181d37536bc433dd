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
# Doubles of the covariance of all effects, which is held.
_MOST = 50_000_000


def pays(cp: SummedDesign, codes: IntArray) -> bool:
    """Whether this is quicker than dense rows of the eliminated system."""
    t = sum(block.q for block in cp.blocks[1:]) + cp.p
    return bool(codes.size * t**2 > _CALLS * (codes.max() + 1) and (cp.blocks[0].q + t) ** 2 < _MOST)


@dataclass(frozen=True)
class RowsOfGroup:
    """The rows of one group, and the effects that they have."""

    rows: IntArray  # (r,)
    effects: IntArray  # (a,) those of the first block before all others
    F: sparse.csr_array  # (r, a)


def group_rows(system: RowSystem, codes: IntArray) -> list[RowsOfGroup]:
    """All groups, codes 0 .. G - 1."""
    columns = sparse.csr_array(sparse.hstack([system.spread, system.columns[:, : system.width - 1]]))
    order, ends = np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))
    found = []
    for start, stop in pairwise([0, *ends]):
        own = columns[order[start:stop]]
        effects, place = np.unique(own.indices, return_inverse=True)
        F = sparse.csr_array((own.data, place, own.indptr), shape=(stop - start, effects.size))
        found.append(RowsOfGroup(order[start:stop], effects.astype(np.int64), F))
    return found


def wide_blocks(
    system: RowSystem,
    groups: Sequence[RowsOfGroup],
    factors: Sequence[FloatArray],
    sigma: FloatArray,
    prior: NormalPrior | None,
) -> Iterator[tuple[int, int, FloatArray, FloatArray]]:
    """Draw, group, block (r, r) of P, and P (y - X m) of its rows (r,)."""
    for k in range(sigma.size):
        solved = solve_rows(system, [T[k : k + 1] for T in factors], sigma[k : k + 1], prior)
        move = sparse.csr_array(block_diagonal(solved.shrink[0]) @ system.between)
        combination = np.append(-solved.effects[0], 1.0)
        residual = system.columns @ combination - system.spread @ (move @ combination)
        C = _covariance(solved.gain[0], solved.shrink[0], move[:, : system.width - 1])
        for j, group in enumerate(groups):
            own = C[group.effects[:, None], group.effects]
            P = -(group.F @ (group.F @ own).T)
            P.flat[:: group.rows.size + 1] += 1.0
            yield k, j, P, residual[group.rows]


def _covariance(gain: FloatArray, shrink: FloatArray, move: sparse.csr_array) -> FloatArray:
    """Covariance over sigma^2 of all effects on the coordinates of the system, those of the first block first."""
    first, t = move.shape
    C = np.empty((first + t, first + t))
    C[first:, first:] = gain @ gain.T
    across = move @ C[first:, first:]
    C[:first, first:], C[first:, :first] = -across, -across.T
    C[:first, :first] = move @ np.ascontiguousarray(across.T)
    own = np.arange(first).reshape(shrink.shape[:2])
    C[own[:, :, None], own[:, None, :]] += shrink
    return C
