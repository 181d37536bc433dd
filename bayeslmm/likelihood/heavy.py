"""Reduction of designs in which few rows outweigh all others by many orders of magnitude.

A row of weight W enters sums of squares with W, and what the other rows say is lost in the rounding of it. Orthogonal
reductions do not lose it if heavy rows come first: the reflections then leave every row an error of its own size
(Powell & Reid 1969; Cox & Higham 1998). The first heavy rows of a level are taken up by its effects. Those that are
left decide coefficients of X: in the coordinates chosen here each of them has one column and no response, so that no
later step has to subtract heavy numbers either.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import qr

from bayeslmm.likelihood.columns import Basis, Response, orthogonalise
from bayeslmm.types import BoolArray, FloatArray, IntArray

# Beside the size that a row had, what is left of it below this is rounding.
_ROUNDING = 1e-12


def fixed_part(
    X: FloatArray,
    y: FloatArray,
    Z: FloatArray,
    codes: IntArray,
    heavy: BoolArray,
    weights: FloatArray,
    measure: FloatArray,
) -> tuple[Basis, Response]:
    """Coordinates of X, and the response less a fit on it that is exact where heavy rows decide it.

    Parameters
    ----------
    X : FloatArray, shape (n, p)
    y : FloatArray, shape (n,)
    Z : FloatArray, shape (n, c)
        Columns of the effects that are eliminated level by level.
    codes : IntArray, shape (n,)
        Their levels.
    heavy : BoolArray, shape (n,)
    weights : FloatArray, shape (n,)
    measure : FloatArray, shape (n,)
        Weights by which columns are measured.
    """
    start = orthogonalise(X, measure)
    L, T, root = np.array(start.columns), start.transform.copy(), np.sqrt(weights)
    light = np.sqrt(measure)
    coef = np.linalg.lstsq(L * light[:, None], y * light)[0] if L.shape[1] else np.zeros(0)
    rows, size, free = _by_levels(np.column_stack([L, y - L @ coef]), Z, codes, heavy, root)
    exchange, pivots = _echelon(rows, size, free)
    L, T, coef = L @ exchange, T @ exchange, np.linalg.solve(exchange, coef)
    for j, i in enumerate(pivots):
        step = rows[i, -1] / rows[i, j]
        rows[:, -1] = _cleaned(rows[:, -1], -step * rows[:, j])
        rows[i, -1] = 0.0
        coef[j] += step
    residual = y - L @ coef
    spread = float(np.sqrt(measure @ residual**2 / measure.sum()))
    return Basis(L, T, None, True), Response(residual, coef, 0.0, np.zeros(coef.size), spread)


def _echelon(rows: FloatArray, size: FloatArray, free: BoolArray) -> tuple[FloatArray, list[int]]:
    """Change of coordinates (p, p) after which later columns are zero in the row that decides an earlier one.

    Parameters
    ----------
    rows : FloatArray, shape (h, p + 1)
        Heavy rows, changed in place; the response last.
    size : FloatArray, shape (h,)
        Roots of their weights: heavier ones decide first.
    free : BoolArray, shape (h,)
        Rows that no effect of a level takes up; they decide before all others.
    """
    p = rows.shape[1] - 1
    exchange, pivots = np.eye(p), list[int]()
    for done in range(p):
        weighted = np.abs(rows[:, done:-1]) * size[:, None]
        first = weighted * free[:, None]
        weighted = first if first.max(initial=0.0) > 0 else weighted
        if not weighted.max(initial=0.0) > 0:
            break
        i, k = np.unravel_index(int(np.argmax(weighted)), weighted.shape)
        swap = [done, done + int(k)]
        rows[:, swap], exchange[:, swap] = rows[:, swap[::-1]], exchange[:, swap[::-1]]
        share = -rows[i, done + 1 : -1] / rows[i, done]
        rows[:, done + 1 : -1] = _cleaned(rows[:, done + 1 : -1], rows[:, [done]] * share)
        rows[i, done + 1 : -1] = 0.0
        exchange[:, done + 1 :] += exchange[:, [done]] * share
        pivots.append(int(i))
    return exchange, pivots


def _cleaned(values: FloatArray, added: FloatArray) -> FloatArray:
    """A sum, zero where it is rounding."""
    total = values + added
    return np.where(np.abs(total) > _ROUNDING * (np.abs(values) + np.abs(added)), total, 0.0)


def _by_levels(
    columns: FloatArray, Z: FloatArray, codes: IntArray, heavy: BoolArray, root: FloatArray
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Heavy rows after the reflections of their levels over the roots of their weights; which the effects leave."""
    found, sizes, free = list[FloatArray](), list[FloatArray](), list[BoolArray]()
    for level in np.unique(codes[heavy]):
        rows = np.flatnonzero(codes == level)
        _, E, rest, order = split_level(Z[rows] * root[rows, None], columns[rows] * root[rows, None], root[rows])
        both, size = np.concatenate([E[: rows.size - len(rest)], rest]), root[rows][order]
        keep = size >= root[heavy].min()
        found.append(both[keep] / size[keep, None])
        sizes.append(size[keep])
        free.append((np.arange(rows.size) >= rows.size - len(rest))[keep])
    return np.concatenate(found), np.concatenate(sizes), np.concatenate(free)


def split_level(
    Z: FloatArray, others: FloatArray, root: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, IntArray]:
    """Between and within parts of one level by reflections, heavy rows first.

    Parameters
    ----------
    Z : FloatArray, shape (r, c)
        Weighted columns of the level's random effects.
    others : FloatArray, shape (r, m)
        Weighted columns to be split.
    root : FloatArray, shape (r,)
        Roots of the weights.

    Returns
    -------
    R : FloatArray, shape (c, c)
        ``R'R = Z'Z``; rows of heavy numbers first, not triangular if columns were exchanged.
    E : FloatArray, shape (c, m)
    rest : FloatArray, shape (r - c, m)
        Rows whose cross-products are the within part; zero where only rounding is left.
    order : IntArray, shape (r,)
        Row of the level that each row of E (as many as are not zero) and of `rest` stands for.

    Examples
    --------
    >>> R, E, rest, _ = split_level(np.array([[1.0], [1.0]]), np.array([[1.0], [3.0]]), np.ones(2))
    >>> abs(R).round(4), abs(E).round(4), (rest**2).round(4)
    (array([[1.4142]]), array([[2.8284]]), array([[2.]]))
    """
    c = Z.shape[1]
    order = np.argsort(-np.abs(Z).max(axis=1), kind="stable")
    A, root = np.hstack([Z, others])[order], root[order]
    largest = np.abs(A / root[:, None]).max(axis=0)
    columns = np.arange(c)
    done = 0
    while done < min(c, A.shape[0]):
        left = np.abs(A[done:, columns[done:]])
        left = np.where(left > _ROUNDING * root[done:, None] * largest[columns[done:]], left, 0.0)
        i, k = np.unravel_index(int(np.argmax(left)), left.shape)
        if left[i, k] == 0:
            break
        exchange = [done, done + int(k)]
        columns[exchange] = columns[exchange[::-1]]
        swap = [done, done + int(i)]
        A[swap], root[swap], order[swap] = A[swap[::-1]], root[swap[::-1]], order[swap[::-1]]
        A[done:] = _reflect(A[done:], int(columns[done]))
        done += 1
    A = np.where(np.abs(A) > _ROUNDING * root[:, None] * largest, A, 0.0)
    top = np.zeros((c, A.shape[1]))
    top[:done] = A[:done]
    return top[:, :c], top[:, c:], A[done:, c:], order


def _reflect(A: FloatArray, column: int) -> FloatArray:
    """A with the reflection applied that leaves only the first entry of a column."""
    x = A[:, column] / A[0, column]
    length = np.sqrt(x @ x)
    v = x.copy()
    v[0] += length
    v /= v[0]
    out = A - np.outer(v, (1.0 + 1.0 / length) * (v @ A))
    out[1:, column] = 0.0
    return np.asarray(out)


def log_volume_ratio(rows: FloatArray, root: FloatArray, other: FloatArray) -> float:
    """Change of the log determinant of a matrix that heavy rows are part of when their weights change.

    Parameters
    ----------
    rows : FloatArray, shape (h, q)
        Not weighted; they need not be independent.
    root, other : FloatArray, shape (h,)
        Roots of the weights, and of those before.

    Examples
    --------
    >>> ratio = log_volume_ratio(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([4.0, 3.0]), np.array([1.0, 1.0]))
    >>> round(float(np.exp(ratio)), 10)
    12.5
    """
    new, before = _spanning(rows, root), _spanning(rows, other)
    if not len(new):
        return 0.0
    # Both span the same, so that any minor tells their ratio.
    size = np.abs(new).max(axis=1)
    _, _, columns = qr(new / size[:, None], mode="economic", pivoting=True)
    chosen = columns[: len(new)]
    beside = np.abs(before).max(axis=1)
    logs = [
        np.linalg.slogdet(part[:, chosen] / one[:, None])[1] + np.log(one).sum()
        for part, one in ((new, size), (before, beside))
    ]
    return float(2.0 * (logs[0] - logs[1]))


def _spanning(rows: FloatArray, root: FloatArray) -> FloatArray:
    """As few weighted rows as have the same cross-products."""
    R = split_level(rows * root[:, None], np.zeros((root.size, 0)), root)[0]
    return np.asarray(R[np.abs(R).max(axis=1, initial=0.0) > 0])
