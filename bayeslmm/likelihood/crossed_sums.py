"""Cross-products of one factor that is eliminated level by level and of all others, of which nothing is filled in.

The other factors' effects stand in cells (of the first factor) and in the sparse products among themselves; their
trailing matrix after the elimination is an operator, see `crossed_operator`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
from scipy import sparse

from bayeslmm.likelihood import small
from bayeslmm.likelihood.chain_sums import FactorColumns
from bayeslmm.likelihood.frame import Block, Frame
from bayeslmm.likelihood.frame_rows import FrameRows
from bayeslmm.likelihood.kernels import Cells
from bayeslmm.likelihood.within import grouped_qr, split_columns
from bayeslmm.types import FloatArray, IntArray


@dataclass(frozen=True)
class CrossedSums:
    """What `Crossed` works on.

    Attributes
    ----------
    frame : Frame
    n : int
        Observations summed.
    R : FloatArray, shape (J, c, c)
        Triangular factors of the first factor within each level.
    cells : Cells
        Between part of the other factors' effects (q), where it is not zero.
    fixed : FloatArray, shape (J, c, p + 1)
        Between part of X and y.
    products : csr_array, shape (q, q)
        ``Z2'Z2`` of the other factors, between and within part together.
    within : FloatArray, shape (q, p + 1)
        Within part of the products with X and y.
    D : FloatArray, shape (p + 1, p + 1)
        Within part of the products of X and y.
    """

    frame: Frame
    n: int
    R: FloatArray
    cells: Cells
    fixed: FloatArray
    products: sparse.csr_array
    within: FloatArray
    D: FloatArray

    @property
    def q(self) -> int:
        """Effects of all factors but the first."""
        return int(self.cells.width)

    @cached_property
    def others(self) -> tuple[tuple[Block, slice], ...]:
        """The blocks of the other factors with their places among the q effects."""
        found, start = [], 0
        for block in self.frame.blocks[1:]:
            found.append((block, slice(start, start + block.q)))
            start += block.q
        return tuple(found)

    @cached_property
    def diagonal_tiles(self) -> tuple[FloatArray, ...]:
        """Diagonal tiles (J, c, c) of ``Z2'Z2`` of each other block."""
        return tuple(tiles_of(self.products, block, span) for block, span in self.others)

    def tile_forms(self, middle: FloatArray) -> list[FloatArray]:
        """Diagonal tiles (J, c, c) of ``sum_l E_l' middle_l E_l`` of each other block; middle (J_1, c_1, c_1)."""
        return [cell_tiles(self.cells, middle, block, span) for block, span in self.others]


def tiles_of(matrix: sparse.csr_array, block: Block, span: slice) -> FloatArray:
    """Diagonal tiles (J, c, c) of the columns of one block."""
    c, J = block.size, block.n_levels
    if c == 1:
        return np.asarray(matrix.diagonal()[span], dtype=float).reshape(J, 1, 1)
    out = np.zeros((J, c, c))
    own = sparse.coo_array(matrix[span, span])
    row, column = own.coords
    same = row // c == column // c
    np.add.at(out, (row[same] // c, row[same] % c, column[same] % c), own.data[same])
    return out


def cell_tiles(cells: Cells, middle: FloatArray, block: Block, span: slice) -> FloatArray:
    """Diagonal tiles (J, c, c) of ``sum_l E_l' middle_l E_l`` in the columns of one block."""
    c, J, k = block.size, block.n_levels, cells.values.shape[1]
    out = np.zeros((J, c, c))
    whole = span.start == 0 and span.stop == cells.width
    place = [_columns_at(cells, span, c, a, whole) for a in range(c)]
    for a in range(c):
        left = cells.values[place[a]]
        columns = (cells.columns[place[a]] - span.start) // c
        weights = middle[cells.levels[place[a]]]
        swept = left * weights[:, 0] if k == 1 else (left[:, None] @ weights)[:, 0]
        for b in range(a + 1):
            entries = (swept * cells.values[place[b]]).sum(axis=1)
            out[:, a, b] = out[:, b, a] = np.bincount(columns, weights=entries, minlength=J)
    return out


def _columns_at(cells: Cells, span: slice, c: int, a: int, whole: bool) -> slice | IntArray:
    """Cells of a block's a-th column; every level of a block has all of its columns in a cell."""
    if whole and c == 1:
        return slice(None)
    own = (cells.columns >= span.start) & (cells.columns < span.stop) & ((cells.columns - span.start) % c == a)
    return np.flatnonzero(own)


def sum_crossed(frame: Frame, rows: FrameRows) -> CrossedSums:
    """Sum some rows up."""
    codes, J = rows.codes[0], frame.blocks[0].n_levels
    Q, R = grouped_qr(rows.Z[0], codes, J)
    rest, fixed = split_columns(Q, rows.Xy, codes, J)
    others = [
        FactorColumns(code, block.n_levels, Z)
        for block, code, Z in zip(frame.blocks[1:], rows.codes[1:], rows.Z[1:], strict=True)
    ]
    D = np.asarray(rest.T @ rest)
    within = np.concatenate([_totals(factor, rest) for factor in others])
    cells = _all_cells(Q, codes, J, others)
    return CrossedSums(frame, rows.n, R, cells, fixed, _products(others), within, D)


def _totals(factor: FactorColumns, columns: FloatArray) -> FloatArray:
    """``Z'columns``, shape (J c, k)."""
    J, c = factor.n_levels, factor.Z.shape[1]
    out = np.empty((J, c, columns.shape[1]))
    for a in range(c):
        for k in range(columns.shape[1]):
            out[:, a, k] = np.bincount(factor.codes, weights=factor.Z[:, a] * columns[:, k], minlength=J)
    return out.reshape(J * c, -1)


def _products(others: Sequence[FactorColumns]) -> sparse.csr_array:
    blocks: list[list[sparse.csr_array | None]] = [[None] * len(others) for _ in others]
    for i, x in enumerate(others):
        for j, z in enumerate(others[: i + 1]):
            blocks[i][j] = own = _couplings(x, z, diagonal=i == j)
            blocks[j][i] = sparse.csr_array(own.T)
    return sparse.csr_array(sparse.block_array(blocks, format="csr"))


def _couplings(x: FactorColumns, z: FactorColumns, diagonal: bool) -> sparse.csr_array:
    """``X'Z`` of the columns of two factors over the cells that occur."""
    c, k = x.Z.shape[1], z.Z.shape[1]
    total: sparse.csr_array | None = None
    for a in range(c):
        for b in range(k):
            entries, shape = x.Z[:, a] * z.Z[:, b], (x.q, z.q)
            if diagonal:
                sums = np.bincount(x.codes, weights=entries, minlength=x.n_levels)
                where = np.arange(x.n_levels)
                one = sparse.csr_array((sums, (where * c + a, where * c + b)), shape=shape)
            else:
                one = sparse.csr_array((entries, (x.codes * c + a, z.codes * k + b)), shape=shape)
            total = one if total is None else total + one
    assert total is not None
    return total


def _all_cells(Q: FloatArray, codes: IntArray, J: int, others: Sequence[FactorColumns]) -> Cells:
    """Between part of the other factors' effects; every cell of a level has all columns of that level."""
    width, k = sum(factor.q for factor in others), Q.shape[1]
    if not width:
        return Cells(np.zeros(J + 1, dtype=np.int64), np.zeros(0, dtype=np.int64), 0, np.zeros((0, k)))
    single = len(others) == 1 and others[0].Z.shape[1] == 1
    values, pattern = [], None
    for e in range(k):
        parts = list(_entries(Q[:, e], codes, others))
        entries, rows, columns = parts[0] if single else (np.concatenate(x) for x in zip(*parts, strict=True))
        # Explicit zeros stay: they keep the pattern of all columns of a cell.
        pattern = sparse.coo_array((entries, (rows, columns)), shape=(J, width)).tocsr()
        del parts, entries, rows, columns
        pattern.sum_duplicates()
        values.append(pattern.data)
    assert pattern is not None
    stacked = values[0][:, None] if k == 1 else np.stack(values, axis=1)
    # One type for both: SciPy would copy them for every product.
    return Cells(cast("IntArray", pattern.indptr), cast("IntArray", pattern.indices), width, stacked)


def _entries(
    weights: FloatArray, codes: IntArray, others: Sequence[FactorColumns]
) -> Iterator[tuple[FloatArray, IntArray, IntArray]]:
    start, rows = 0, codes.astype(np.int32)
    for factor in others:
        c = factor.Z.shape[1]
        for a in range(c):
            place = factor.codes.astype(np.int32)
            if c > 1 or start:
                place = place * np.int32(c) + np.int32(start + a)
            yield weights * factor.Z[:, a], cast("IntArray", rows), cast("IntArray", place)
        start += factor.q


def whitening(R: FloatArray, T: FloatArray) -> tuple[FloatArray, FloatArray]:
    """``M = (I + R G R')^-1`` (J, c, c) of the first factor, and ``log |I + R G R'|`` (J,)."""
    F = small.dot(R, T)
    if R.shape[1] == 1:
        own = 1.0 + F * F
        return 1.0 / own, np.log1p(F[:, 0, 0] ** 2)
    lower = small.cholesky(small.add_identity(small.dot(F, small.transpose(F))))
    half = small.solve_lower(lower, np.broadcast_to(np.eye(R.shape[1]), R.shape))
    return small.dot(small.transpose(half), half), small.log_det(lower)


def explained(R: FloatArray, T: FloatArray) -> FloatArray:
    """``W = I - (I + R G R')^-1 = F (I + F'F)^-1 F'`` (J, c, c), without cancellation."""
    F = small.dot(R, T)
    if R.shape[1] == 1:
        return F * F / (1.0 + F * F)
    lower = small.cholesky(small.add_identity(small.dot(small.transpose(F), F)))
    half = small.solve_lower(lower, small.transpose(F))
    return small.dot(small.transpose(half), half)
