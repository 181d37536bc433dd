"""Cross-products of nested factors (a chain) and of sparse crossed ones.

The members of the chain stay block diagonal when they are eliminated one after the other, because every level of
one lies in a single level of the next. Only cells that occur are kept of the couplings between the first member
and the factors that are crossed with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from bayeslmm.likelihood.frame import Frame
from bayeslmm.likelihood.kernels import Cells, add_outer_products, mirror
from bayeslmm.likelihood.structure import Elimination
from bayeslmm.likelihood.within import grouped_qr, level_products, split_columns
from bayeslmm.types import FloatArray, IntArray


@dataclass(frozen=True)
class ChainRows:
    """Rows of a cross-product matrix that belong to the levels of one factor.

    Attributes
    ----------
    own : FloatArray, shape (J, c, c)
    up : tuple of FloatArray, each (J, c, c_m)
        Columns of the levels of the later chain members that each level lies in.
    effects : FloatArray, shape (J, c, q_d)
        Columns of the random effects in the dense block.
    fixed : FloatArray, shape (J, c, p + 1)
        Columns of X and y.
    """

    own: FloatArray
    up: tuple[FloatArray, ...]
    effects: FloatArray
    fixed: FloatArray

    def plus(self, other: ChainRows) -> ChainRows:
        """Sums of both."""
        up = tuple(a + b for a, b in zip(self.up, other.up, strict=True))
        return ChainRows(self.own + other.own, up, self.effects + other.effects, self.fixed + other.fixed)


@dataclass(frozen=True)
class ChainSums:
    """Between and within cross-products with respect to the first member of the chain: what `Hierarchy` works on.

    Attributes
    ----------
    frame : Frame
    n : int
        Observations summed.
    R : FloatArray, shape (J, c, c)
        Triangular factors of the first member within each level.
    up : tuple of FloatArray, each (J, c, c_m)
        Between part of the later members' columns.
    cells : Cells
        Between part of the dense block's random effects, where it is not zero.
    fixed : FloatArray, shape (J, c, p + 1)
        Between part of X and y.
    rows : tuple of ChainRows
        Within part of the rows of the later members.
    D : FloatArray, shape (m, m)
        Within part of the dense block: random effects (q_d), X (p), y (1).
    """

    frame: Frame
    n: int
    R: FloatArray
    up: tuple[FloatArray, ...]
    cells: Cells
    fixed: FloatArray
    rows: tuple[ChainRows, ...]
    D: FloatArray

    @property
    def plan(self) -> Elimination:
        return self.frame.plan

    @property
    def q_dense(self) -> int:
        return int(self.cells.width)


@dataclass(frozen=True)
class FactorColumns:
    """Weighted columns of one factor: its levels by row and its effects' columns."""

    codes: IntArray
    n_levels: int
    Z: FloatArray  # (n, c)

    @property
    def q(self) -> int:
        return self.n_levels * int(self.Z.shape[1])


@dataclass(frozen=True)
class ChainParts:
    """The arrays of `ChainSums` for some rows."""

    R: FloatArray
    up: tuple[FloatArray, ...]
    cells: Cells
    fixed: FloatArray
    rows: tuple[ChainRows, ...]
    D: FloatArray


def split_chain(
    first: FactorColumns, chain: Sequence[FactorColumns], indicators: sparse.csr_array, Xy: FloatArray
) -> ChainParts:
    """Sum the columns of some rows up.

    Parameters
    ----------
    first : FactorColumns
        Of the factor that is eliminated first.
    chain : sequence of FactorColumns
        Of the factors that it is nested in, in the order of elimination.
    indicators : csr_array, shape (n, q_d)
        Columns of the random effects of the dense block.
    Xy : FloatArray, shape (n, p + 1)
    """
    Q, R = grouped_qr(first.Z, first.codes, first.n_levels)
    split = [split_columns(Q, member.Z, first.codes, first.n_levels) for member in chain]
    rest_up, up = [part[0] for part in split], tuple(part[1] for part in split)
    rest, fixed = split_columns(Q, Xy, first.codes, first.n_levels)
    cells = _cells(Q, first, indicators)
    rows = tuple(
        ChainRows(
            own=level_products(member.codes, rest_up[k], rest_up[k], member.n_levels),
            up=tuple(level_products(member.codes, rest_up[k], later, member.n_levels) for later in rest_up[k + 1 :]),
            effects=_cell_products(member, rest_up[k], indicators),
            fixed=level_products(member.codes, rest_up[k], rest, member.n_levels),
        )
        for k, member in enumerate(chain)
    )
    q = cells.width
    D = np.empty((q + Xy.shape[1],) * 2)
    D[q:, q:] = rest.T @ rest
    D[:q, q:] = indicators.T @ rest
    D[q:, :q] = D[:q, q:].T
    D[:q, :q] = (indicators.T @ indicators).toarray()
    add_outer_products(cells, D[:q, :q], sign=-1.0)
    mirror(D[:q, :q])
    return ChainParts(R, up, cells, fixed, rows, D)


def effect_columns(factors: Sequence[FactorColumns], n: int) -> sparse.csr_array:
    """Columns of the random effects of some factors, one block per level, shape (n, q)."""
    width, columns, values = 0, [], []
    for factor in factors:
        c = factor.Z.shape[1]
        columns.append(width + factor.codes[:, None] * c + np.arange(c))
        values.append(factor.Z)
        width += factor.q
    if not factors:
        return sparse.csr_array((n, 0), dtype=float)
    stacked = np.hstack(columns)
    starts = np.arange(n + 1) * stacked.shape[1]
    return sparse.csr_array((np.hstack(values).ravel(), stacked.ravel(), starts), shape=(n, width))


def _cells(Q: FloatArray, first: FactorColumns, indicators: sparse.csr_array) -> Cells:
    width, c = indicators.shape[1], Q.shape[1]
    if not width:
        empty = np.zeros(0, dtype=np.int64)
        return Cells(np.zeros(first.n_levels + 1, dtype=np.int64), empty, 0, np.zeros((0, c)))
    per_row = np.diff(indicators.indptr)
    rows = np.repeat(first.codes, per_row)
    values, pattern = [], None
    for a in range(c):
        entries = np.repeat(Q[:, a], per_row) * indicators.data
        pattern = sparse.coo_array((entries, (rows, indicators.indices)), shape=(first.n_levels, width)).tocsr()
        pattern.sum_duplicates()
        values.append(pattern.data)
    assert pattern is not None
    starts, columns = pattern.indptr.astype(np.int64), pattern.indices.astype(np.int64)
    return Cells(starts, columns, width, np.stack(values, axis=1))


def _cell_products(member: FactorColumns, left: FloatArray, indicators: sparse.csr_array) -> FloatArray:
    """``left' Z_d`` by level, shape (J, c, q_d)."""
    n, width = indicators.shape
    out = np.zeros((member.n_levels, left.shape[1], width))
    if width:
        starts = np.arange(n + 1)
        for a in range(left.shape[1]):
            by_row = sparse.csr_array((left[:, a], member.codes, starts), shape=(n, member.n_levels))
            out[:, a] = (by_row.T @ indicators).toarray()
    return out
