"""Products with cells in parts that run side by side, and full packed triangles.

Compiled by numba where it is installed and works; otherwise the same sums through SciPy's sparse products. The parts
are always the same, so that results do not depend on how many processors there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
from scipy import sparse
from scipy.linalg import lapack

from bayeslmm.likelihood import small
from bayeslmm.likelihood.kernels import Cells, done
from bayeslmm.types import FloatArray, IntArray

_PARTS = 4
# Cells for which parts pay.
_FEW = 200_000
# Rows of a packed triangle that are unpacked at a time without numba.
_ROWS = 256


def workers() -> int:
    """Threads that loops over cells may use."""
    try:
        from numba import config
    except Exception:
        return 1
    return max(1, min(_PARTS, int(getattr(config, "NUMBA_NUM_THREADS", 1))))


def _side_by_side(name: str, tasks: Sequence[tuple[object, ...]]) -> bool:
    """Whether a compiled loop did its work on the arguments of every task, as `kernels.done`."""
    threads = min(workers(), len(tasks))
    if threads < 2:
        return all(done(name, *task) for task in tasks)
    with ThreadPoolExecutor(threads) as pool:
        return all(future.result() for future in [pool.submit(done, name, *task) for task in tasks])


def _parts(cells: Cells) -> list[tuple[int, int]]:
    """Ranges of levels with about as many cells each."""
    if cells.columns.size < _FEW:
        return [(0, cells.starts.size - 1)]
    goals = np.linspace(0, cells.columns.size, _PARTS + 1)
    ends = np.searchsorted(cells.starts, goals)
    ends[0], ends[-1] = 0, cells.starts.size - 1
    return [(int(a), int(b)) for a, b in pairwise(ends)]


def explained_products(cells: Cells, middle: FloatArray, right: FloatArray) -> FloatArray:
    """``sum_l E_l' middle_l E_l right`` for right (q, k)."""
    right, parts = np.ascontiguousarray(right), _parts(cells)
    out = np.zeros((len(parts), *right.shape))
    arrays = cells.starts, cells.columns, cells.values, middle, right
    if _side_by_side("explain", [(a, b, *arrays, own) for (a, b), own in zip(parts, out, strict=True)]):
        return np.asarray(out.sum(axis=0)) if len(parts) > 1 else out[0]
    return cells.transposed_times(small.dot(middle, cells.times(right)))


def packed_length(half: int) -> int:
    """Numbers of a full packed triangle of order 2 half."""
    return half * (2 * half + 1)


def packed_places(rows: IntArray, columns: IntArray, half: int) -> IntArray:
    """Places of entries on or below the diagonal in a full packed lower triangle of even order 2 half."""
    lead, i, j = 2 * half + 1, rows.astype(np.int64), columns.astype(np.int64)
    return np.where(j < half, j * lead + 1 + i, (i - half) * lead + j - half)


def add_outer_packed(cells: Cells, out: FloatArray, half: int, sign: float) -> None:
    """Add ``sign sum_l V_l' V_l`` to a full packed lower triangle."""
    parts = 1 if cells.columns.size < _FEW else _PARTS
    arrays = cells.starts, cells.columns, cells.values, sign, half, out
    if not _side_by_side("add_outer_packed", [(i, parts, *arrays) for i in range(parts)]):
        rows = cells.rows()
        add_sparse(out, rows.T @ rows, half, sign)


def add_sparse(out: FloatArray, symmetric: sparse.sparray, half: int, sign: float = 1.0) -> None:
    """Add a sparse symmetric matrix to a full packed lower triangle."""
    entries = sparse.coo_array(sparse.tril(symmetric))
    rows, columns = (np.asarray(x, dtype=np.int64) for x in entries.coords)
    np.add.at(out, packed_places(rows, columns, half), sign * entries.data)


def packed_forms(cells: Cells, table: FloatArray, half: int) -> FloatArray:
    """``V_l table V_l'`` (J, c, c) from a full packed lower triangle."""
    J, c = cells.starts.size - 1, cells.values.shape[1]
    out = np.zeros((J, c, c))
    arrays = cells.starts, cells.columns, cells.values, table, half, out
    if _side_by_side("packed_forms", [(a, b, *arrays) for a, b in _parts(cells)]):
        return out
    full = unpacked(table, half)[: cells.width, : cells.width]
    for a in range(c):
        swept = cells.matrix(a) @ full
        for b in range(a + 1):
            out[:, a, b] = out[:, b, a] = np.asarray(cells.matrix(b).multiply(swept).sum(axis=1)).ravel()
    return out


def unpacked(table: FloatArray, half: int) -> FloatArray:
    """The whole symmetric matrix (2 half, 2 half)."""
    full, _ = lapack.dtfttr(2 * half, table, transr="N", uplo="L")
    return np.asarray(np.tril(full) + np.tril(full, -1).T)
