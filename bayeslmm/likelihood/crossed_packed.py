"""K and its inverse as a full packed triangle: half the numbers of a square matrix, at the speed of one.

References
----------
Gustavson, Wasniewski, Dongarra & Langou (2010), ACM Trans. Math. Softw. 37(2), 18 (rectangular full packed format).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.linalg import lapack

from bayeslmm.likelihood import small
from bayeslmm.likelihood.crossed_kernels import add_outer_packed, add_sparse, packed_forms, packed_length, packed_places
from bayeslmm.likelihood.crossed_lanczos import LogDet
from bayeslmm.likelihood.crossed_operator import Operator, is_regular
from bayeslmm.likelihood.kernels import Cells
from bayeslmm.types import FloatArray

# Columns of a product with the inverse at a time.
_CHUNK = 256


@dataclass(frozen=True)
class Packed:
    """A Cholesky factor of K, or its inverse, as a packed lower triangle of even order.

    Attributes
    ----------
    numbers : FloatArray, shape (half (2 half + 1),)
    half : int
    """

    numbers: FloatArray
    half: int

    def log_det(self) -> float:
        """Of K, from its factor."""
        every = np.arange(2 * self.half)
        return 2.0 * float(np.log(self.numbers[packed_places(every, every, self.half)]).sum())

    def solve(self, right: FloatArray) -> FloatArray:
        """``K^-1 right`` (q, k) from the factor."""
        whole = np.zeros((2 * self.half, right.shape[1]), order="F")
        whole[: right.shape[0]] = right
        solved, _ = lapack.dpftrs(2 * self.half, self.numbers, whole, uplo="L", overwrite_b=1)
        return np.ascontiguousarray(solved[: right.shape[0]])

    def inverse(self) -> Packed:
        """``K^-1`` from the factor, which is overwritten."""
        inverse, _ = lapack.dpftri(2 * self.half, self.numbers, uplo="L", overwrite_a=1)
        return Packed(inverse, self.half)

    def tiles(self, operator: Operator) -> list[FloatArray]:
        """Diagonal tiles (J, c, c) of the blocks of an inverse."""
        out = []
        for block, span in operator.s.others:
            J, c = block.n_levels, block.size
            own = span.start + np.arange(J) * c
            tile = np.empty((J, c, c))
            for a in range(c):
                for b in range(a + 1):
                    tile[:, a, b] = tile[:, b, a] = self.numbers[packed_places(own + a, own + b, self.half)]
            out.append(tile)
        return out


def factor_packed(operator: Operator) -> Packed:
    """Cholesky factor of K.

    Raises
    ------
    numpy.linalg.LinAlgError
        Not positive definite to rounding.
    """
    s = operator.s
    half = (s.q + 1) // 2
    out = np.zeros(packed_length(half))
    every = np.arange(2 * half)
    out[packed_places(every, every, half)] = 1.0
    turned = _turned(operator)
    add_sparse(out, turned.T @ s.products @ turned, half)
    add_outer_packed(explained_cells(operator), out, half, -1.0)
    if half:
        out, failed = lapack.dpftrf(2 * half, out, uplo="L", overwrite_a=1)
        if failed:
            raise np.linalg.LinAlgError("the packed matrix is not positive definite")
    return Packed(out, half)


def _turned(operator: Operator) -> sparse.csr_array:
    """T of all other blocks as a sparse matrix (q, q)."""
    blocks = [
        sparse.kron(sparse.eye_array(block.n_levels), sparse.coo_array(np.atleast_2d(T)))
        for (block, _), T in zip(operator.s.others, operator.T[1:], strict=True)
    ]
    return sparse.csr_array(sparse.block_diag(blocks, format="csr"))


def scaled_cells(operator: Operator, left: FloatArray) -> Cells:
    """``left_l E_l T`` in the cells; left (J, c, c)."""
    cells, s = operator.s.cells, operator.s
    values = np.empty_like(cells.values)
    start_of = np.diff(cells.starts)
    for (block, span), T in zip(s.others, operator.T[1:], strict=True):
        c = block.size
        whole = span.start == 0 and span.stop == cells.width
        if c == 1:
            own = slice(None) if whole else (cells.columns >= span.start) & (cells.columns < span.stop)
            values[own] = cells.values[own] * T[0, 0]
            continue
        own = (cells.columns >= span.start) & (cells.columns < span.stop)
        # All columns of a level are there, one after the other.
        tiles = cells.values[own].reshape(-1, c, values.shape[1])
        values[own] = np.einsum("tae,ab->tbe", tiles, T).reshape(-1, values.shape[1])
    if values.shape[1] == 1:
        values *= np.repeat(left[:, :, 0], start_of, axis=0)
    else:
        values = np.einsum("xab,xb->xa", left[cells.levels], values)
    return cells.with_values(values)


def explained_cells(operator: Operator) -> Cells:
    """Cells H with ``sum_l H_l'H_l = T'(sum_l E_l'W_l E_l) T``."""
    F = small.dot(operator.s.R, operator.T[0])
    if F.shape[1] == 1:
        return scaled_cells(operator, F / np.sqrt(1.0 + F * F))
    lower = small.cholesky(small.add_identity(small.dot(small.transpose(F), F)))
    return scaled_cells(operator, small.solve_lower(lower, small.transpose(F)))


def exact_log_det(operator: Operator) -> tuple[LogDet, Packed]:
    """``log |K|`` with its gradient by one factorisation and the inverse, which is returned too."""
    factor = factor_packed(operator)
    value = factor.log_det()
    singular = {
        b: _at_singular(operator, factor, b) for b, T in enumerate(operator.T[1:], start=1) if not is_regular(T)
    }
    inverse = factor.inverse()
    nothing = np.zeros(0)
    slopes = exact_slopes(operator, inverse, singular)
    return LogDet(value, tuple(slopes), nothing, tuple(np.zeros((0, *x.shape)) for x in slopes)), inverse


def exact_slopes(operator: Operator, inverse: Packed, singular: dict[int, FloatArray]) -> list[FloatArray]:
    """Gradient (c, c) of ``log |K|`` in the covariance of every block from ``K^-1``."""
    s = operator.s
    inner = small.dot(small.transpose(s.R), operator.M)
    out = [-packed_forms(scaled_cells(operator, inner), inverse.numbers, inverse.half).sum(0)]
    for b, (T, tiles) in enumerate(zip(operator.T[1:], inverse.tiles(operator), strict=True), start=1):
        if b in singular:
            out.append(singular[b])
            continue
        back = np.linalg.inv(T)
        out.append(back.T @ (tiles.shape[0] * np.eye(T.shape[0]) - tiles.sum(0)) @ back)
    return out


def _at_singular(operator: Operator, factor: Packed, b: int) -> FloatArray:
    """Sum of the diagonal tiles of ``S - S T K^-1 T'S`` of one block, column by column."""
    block, span = operator.s.others[b - 1]
    c, total = block.size, operator.tiles[b - 1].sum(0)
    if not any(T.any() for T in operator.T[1:]):
        return np.asarray(total)
    levels = max(_CHUNK // c, 1)
    for start in range(0, block.n_levels, levels):
        stop = min(start + levels, block.n_levels)
        own = np.arange(start * c, stop * c)
        unit = np.zeros((operator.s.q, own.size))
        unit[span.start + own, np.arange(own.size)] = 1.0
        right = operator.scaled(operator.products(unit), transposed=True)
        forms = right.T @ factor.solve(right)
        tiles = forms.reshape(stop - start, c, stop - start, c)
        total = total - np.einsum("iaib->ab", tiles)
    return np.asarray(total)
