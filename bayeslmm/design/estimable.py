"""Which rows the fixed effects can predict where columns were left out of X because others span them."""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_triangular

from bayeslmm.design.design import Design
from bayeslmm.types import BoolArray, FloatArray

# What `rank.independent_columns` takes for dependent: shares of the length about the mean, and about zero.
_DEPENDENT = 1e-7
_ROUNDING = 1e-13
# Units of rounding in a sum of products.
_EPSILONS = 64.0 * np.finfo(float).eps
# Times as far from the data as a nearly dependent column is followed.
_FAR = 1e3


def combinations(kept: FloatArray, left_out: FloatArray) -> FloatArray:
    """Columns (n, a) as combinations (p, a) of independent ones (n, p), whatever the units of either.

    Examples
    --------
    >>> x = np.arange(4.0)
    >>> combinations(np.column_stack([np.ones(4), 1e-8 * x]), np.column_stack([3.0 - x])).round(3).tolist()
    [[3.0], [-100000000.0]]
    """
    if not left_out.size or not kept.size:
        return np.zeros((kept.shape[1], left_out.shape[1]))
    unit, own = _units(kept), _units(left_out)
    scaled, target = kept / unit, left_out / own
    Q, R = np.linalg.qr(scaled)
    B = np.zeros((kept.shape[1], left_out.shape[1]))
    for _ in range(2):
        B += solve_triangular(R, Q.T @ (target - scaled @ B))
    return np.asarray(B / unit[:, None] * own)


def not_estimable(
    X: FloatArray, B: FloatArray, kept: FloatArray, left_out: FloatArray, *, triangle: bool = False
) -> BoolArray:
    """Rows (m,) at which a column that was left out is not the combination of the others that it was in the data.

    A row can be predicted if it is orthogonal to the null space of the data's columns, whose basis is ``[B; -I]``.
    What is left is compared with the size of the left-out column in the data, not in the row, where it may be zero; and
    with the rounding of B, which grows as the row is further from the data than they are from one another.

    Parameters
    ----------
    X : FloatArray, shape (n, p)
        Independent columns of the data.
    B : FloatArray, shape (p, a)
        ``combinations`` of them that gave the columns left out.
    kept, left_out : FloatArray, shape (m, p), (m, a)
        All columns at the rows asked about.
    triangle : bool
        Whether X is the triangular factor of the columns beside ones, which come first, in place of the columns.
    """
    unit, before = _units(X), X @ B
    spread = np.linalg.norm(before[1:] if triangle else before - before.mean(axis=0), axis=0)
    length = np.linalg.norm(before, axis=0)
    size = np.abs(left_out) + np.abs(kept) @ np.abs(B)
    far = np.ones(len(kept))
    if X.shape[1]:
        R = np.linalg.qr(X / unit, mode="r")
        far = np.maximum(1.0, np.linalg.norm(solve_triangular(R, (kept / unit).T, trans="T"), axis=0))
    tolerance = _DEPENDENT * np.minimum(far, _FAR)[:, None] * spread + _ROUNDING * far[:, None] * length
    tolerance += _EPSILONS * (1.0 + X.shape[1]) * size
    return np.asarray((np.abs(left_out - kept @ B) > tolerance).any(axis=1))


def not_estimable_by(design: Design, B: FloatArray, kept: FloatArray, left_out: FloatArray) -> BoolArray:
    """The same of the columns of a design, also where its rows are elsewhere."""
    facts = design.facts
    own = design.X if facts is None else facts.triangle[:, facts.X]
    return not_estimable(own, B, kept, left_out, triangle=facts is not None)


def _units(X: FloatArray) -> FloatArray:
    """Powers of two of the size of the columns."""
    return np.asarray(np.exp2(np.frexp(np.abs(X).max(axis=0, initial=0.0))[1]))
