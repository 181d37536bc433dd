"""Sums over the cells of two crossed factors that occur in the data.

Compiled by numba where it is installed and works; otherwise the same sums through SciPy's sparse products.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from types import ModuleType

import numpy as np
from scipy import sparse

from bayeslmm.types import FloatArray, IntArray


@cache
def _compiled() -> ModuleType | None:
    try:
        from bayeslmm.likelihood import _numba_kernels
    except Exception:
        # Not there, or of another version than NumPy or LLVM, or its settings are no good: each has its own exception.
        return None
    return _numba_kernels


def there() -> bool:
    """Whether loops can be compiled."""
    return _compiled() is not None


def done(name: str, *arguments: object) -> bool:
    """Whether a compiled loop did its work; if it cannot be compiled or read from its cache, it has not begun it."""
    loops = _compiled()
    if loops is None:
        return False
    try:
        getattr(loops, name)(*arguments)
    except Exception:
        return False
    return True


@dataclass(frozen=True)
class Cells:
    """Rows of a sparse matrix with c numbers in every cell, grouped by the level they belong to.

    Attributes
    ----------
    starts : IntArray, shape (J + 1,)
        Level l has the cells ``starts[l]:starts[l + 1]``.
    columns : IntArray, shape (nnz,)
        Ascending within a level.
    width : int
        Number of columns.
    values : FloatArray, shape (nnz, c)
    """

    starts: IntArray
    columns: IntArray
    width: int
    values: FloatArray

    @cached_property
    def levels(self) -> IntArray:
        """Level of every cell, shape (nnz,)."""
        return np.repeat(np.arange(self.starts.size - 1), np.diff(self.starts))

    def with_values(self, values: FloatArray) -> Cells:
        """The same cells with other numbers."""
        new = Cells(self.starts, self.columns, self.width, values)
        new.__dict__["levels"] = self.levels
        return new

    def matrix(self, a: int) -> sparse.csr_array:
        """The a-th number of every cell as a (J, width) matrix."""
        shape = (self.starts.size - 1, self.width)
        return sparse.csr_array((self.values[:, a], self.columns, self.starts), shape=shape)

    def rows(self) -> sparse.csr_array:
        """All numbers as a (J c, width) matrix, the c rows of a level one after the other."""
        J, c = self.starts.size - 1, self.values.shape[1]
        places = (self.levels[:, None] * c + np.arange(c)).ravel(), np.repeat(self.columns, c)
        return sparse.coo_array((self.values.ravel(), places), shape=(J * c, self.width)).tocsr()

    def times(self, right: FloatArray) -> FloatArray:
        """``V_l right`` for every level: (width, k) to (J, c, k)."""
        if self.values.shape[1] == 1:
            return np.asarray((self.matrix(0) @ right)[:, None])
        return np.stack([self.matrix(a) @ right for a in range(self.values.shape[1])], axis=1)

    def transposed_times(self, left: FloatArray) -> FloatArray:
        """``sum_l V_l' left_l``: (J, c, k) to (width, k)."""
        parts = [self.matrix(a).T @ left[:, a] for a in range(self.values.shape[1])]
        return np.asarray(sum(parts[1:], parts[0]))


def add_outer_products(cells: Cells, out: FloatArray, sign: float = 1.0) -> None:
    """Add ``sign sum_l V_l' V_l`` to the lower triangle of out, shape (width, width).

    What becomes of the upper triangle is left open.
    """
    if done("add_outer_products", cells.starts, cells.columns, cells.values, sign, out):
        return
    for a in range(cells.values.shape[1]):
        matrix = cells.matrix(a)
        out += sign * (matrix.T @ matrix).toarray()


def explain_each(cells: Cells, weights: FloatArray, right: FloatArray, out: FloatArray) -> None:
    """Add ``sum_l V_l' W_l V_l right`` to out (width, k), with matrices of their own for every column.

    Parameters
    ----------
    cells : Cells
    weights : FloatArray, shape (c (c + 1) / 2, J, k)
        The lower triangles of W, row by row.
    right : FloatArray, shape (width, k)
    out : FloatArray, shape (width, k)
    """
    if not done("explain_each", cells.starts, cells.columns, cells.values, weights, right, out):
        out += cells.transposed_times(weighed(weights, cells.times(right)))


def weighed(weights: FloatArray, rows: FloatArray) -> FloatArray:
    """``W_l rows_l`` (J, c, k), with weights as of `explain_each`."""
    if len(weights) == 1:
        return np.asarray(weights[0][:, None] * rows)
    c = rows.shape[1]
    out = np.zeros_like(rows)
    for a in range(c):
        for b in range(c):
            out[:, a] += weights[max(a, b) * (max(a, b) + 1) // 2 + min(a, b)] * rows[:, b]
    return out


def mirror(lower: FloatArray) -> FloatArray:
    """Fill the upper triangle of a square matrix from its lower one, in place."""
    size = lower.shape[0]
    step = 256  # tiles that stay in cache
    for i in range(0, size, step):
        for j in range(0, i, step):
            lower[j : j + step, i : i + step] = lower[i : i + step, j : j + step].T
        tile = lower[i : i + step, i : i + step]
        tile += np.tril(tile, -1).T - np.triu(tile, 1)
    return lower


def quadratic_forms(cells: Cells, table: FloatArray) -> FloatArray:
    """``V_l table V_l'`` for every level, shape (J, c, c), from the lower triangle of a symmetric table.

    Parameters
    ----------
    cells : Cells
    table : FloatArray, shape (width, width)
    """
    J, c = cells.starts.size - 1, cells.values.shape[1]
    out = np.zeros((J, c, c))
    if done("quadratic_forms", cells.starts, cells.columns, cells.values, table, out):
        return out
    table = mirror(table.copy())
    for a in range(c):
        swept = cells.matrix(a) @ table
        for b in range(a + 1):
            rows = cells.matrix(b).multiply(swept).sum(axis=1)
            out[:, a, b] = out[:, b, a] = np.asarray(rows).ravel()
    return out
