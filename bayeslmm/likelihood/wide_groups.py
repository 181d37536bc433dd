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
# Multiplications of a group below which its columns are multiplied as a dense matrix: less than a sparse call takes.
_DENSE = 4_000_000
# Columns that a cache holds of all dense effects.
_TILE = 128


def pays(cp: SummedDesign, codes: IntArray) -> bool:
    """Whether this is quicker than dense rows of the eliminated system."""
    t = sum(block.q for block in cp.blocks[1:]) + cp.p
    return bool(codes.size * t**2 > _CALLS * (codes.max() + 1) and (cp.blocks[0].q + t) ** 2 < _MOST)


@dataclass(frozen=True)
class RowsOfGroup:
    """The rows of one group, and the effects that they have."""

    rows: IntArray  # (r,)
    effects: IntArray  # (a,) those of the first block before all others
    F: sparse.csr_array | FloatArray  # (r, a)

    def block(self, C: FloatArray) -> FloatArray:
        """``I - F C F'`` from the lower triangle of C."""
        low, high = np.minimum.outer(self.effects, self.effects), np.maximum.outer(self.effects, self.effects)
        own = C.ravel().take(high * C.shape[0] + low)
        P = np.asarray(self.F @ (self.F @ own).T)
        np.negative(P, out=P)
        P.flat[:: self.rows.size + 1] += 1.0
        return P


def group_rows(system: RowSystem, codes: IntArray) -> list[RowsOfGroup]:
    """All groups, codes 0 .. G - 1."""
    columns = sparse.csr_array(sparse.hstack([system.spread, system.columns[:, : system.width - 1]]))
    order, ends = np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))
    found = []
    for start, stop in pairwise([0, *ends]):
        own = columns[order[start:stop]]
        effects, place = np.unique(own.indices, return_inverse=True)
        F = sparse.csr_array((own.data, place, own.indptr), shape=(stop - start, effects.size))
        few = F.shape[0] * F.shape[1] * (F.shape[0] + F.shape[1]) < _DENSE
        found.append(RowsOfGroup(order[start:stop], effects.astype(np.int64), F.toarray() if few else F))
    return found


def wide_blocks(
    system: RowSystem,
    groups: Sequence[RowsOfGroup],
    factors: Sequence[FloatArray],
    sigma: FloatArray,
    prior: NormalPrior | None,
) -> Iterator[tuple[int, int, FloatArray, FloatArray]]:
    """Draw, group, block (r, r) of P, and P (y - X m) of its rows (r,)."""
    width = system.spread.shape[1] + system.width - 1
    # One for all draws: memory that is new to the process costs as much as what is written there.
    C = np.empty((width, width))
    for k in range(sigma.size):
        solved = solve_rows(system, [T[k : k + 1] for T in factors], sigma[k : k + 1], prior)
        move = sparse.csr_array(block_diagonal(solved.shrink[0]) @ system.between)
        combination = np.append(-solved.effects[0], 1.0)
        residual = system.columns @ combination - system.spread @ (move @ combination)
        _covariance(solved.gain[0], solved.shrink[0], move[:, : system.width - 1], C)
        for j, group in enumerate(groups):
            yield k, j, group.block(C), residual[group.rows]


def _covariance(gain: FloatArray, shrink: FloatArray, move: sparse.csr_array, C: FloatArray) -> None:
    """Into C the covariance over sigma^2 of all effects on the coordinates of the system, the first block's first.

    The lower triangle; of the upper one only squares on the diagonal have meaning.
    """
    first, t = move.shape
    C[first:, first:] = gain @ gain.T
    across = np.empty((t, first))
    for a in range(0, t, _TILE):
        columns = slice(a, a + _TILE)
        across[columns] = (move @ np.ascontiguousarray(C[first:, first:][:, columns])).T
    np.negative(across, out=C[first:, :first])
    for a in range(0, first, _TILE):
        columns = slice(a, a + _TILE)
        C[a:first, :first][:, columns] = move[a:] @ np.ascontiguousarray(across[:, columns])
    own = np.arange(first).reshape(shrink.shape[:2])
    C[own[:, :, None], own[:, None, :]] += shrink
