"""Gradient of the profiled criterion in the parameters of the residual structure, at the cost of few whitenings.

The criterion is a function of the cross-products S of the whitened columns A = W (Z, X, y): its derivative is
``tr(F dS) = 2 <A F, dA>`` with ``F = C + (nu / r2) s s'``, C the covariance of the effects over sigma^2 (zero for y)
and ``A s`` the residuals; 1 / sigma^2 stands for nu / r2 where sigma is known. So the rows ``A F`` are formed once, and
the structure says what they make of dW.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_triangular

from bayeslmm.likelihood.criteria import degrees_of_freedom
from bayeslmm.likelihood.crossproducts import SummedDesign
from bayeslmm.likelihood.factor import Factor, apply_lambda
from bayeslmm.likelihood.reduction import level_sums_of
from bayeslmm.likelihood.whitened import RowsAtPoints
from bayeslmm.residual import estimable
from bayeslmm.types import FloatArray


def residual_slopes(
    rows: RowsAtPoints,
    cp: SummedDesign,
    factors: list[FloatArray],
    factor: Factor,
    lam: FloatArray,
    reml: bool,
    sigma: float | None = None,
) -> FloatArray:
    """Derivatives (k,) of the criterion in lam, profiled over sigma, or at a given one or the one that the sums have.

    Parameters
    ----------
    rows : RowsAtPoints
    cp : SummedDesign
        ``rows.at(lam)``.
    factors : list of FloatArray, each (1, c, c)
    factor : Factor
        ``evaluate(cp, factors)``.
    lam : FloatArray, shape (k,)
    reml : bool
    sigma : float, optional
    """
    design = rows.design
    if not design.residual.names:
        return np.empty(0)
    residual, trailing, Z = estimable(design.residual), rows.trailing(), rows.Z[0]
    columns = np.hstack([trailing, Z])
    if design.frequency is not None:
        columns = columns * np.sqrt(design.frequency)[:, None]
    white = residual.whiten(lam, columns)
    sigma = cp.sigma if sigma is None else sigma
    weight = degrees_of_freedom(cp, reml) / float(factor.r2[0]) if sigma is None else sigma**-2.0
    left = _left(cp, factors, factor, white[:, : trailing.shape[1]], white[:, trailing.shape[1] :], reml, weight)
    return 2.0 * residual.inner_slopes(lam, columns, left, white) + _log_det_slopes(rows, lam)


def _log_det_slopes(rows: RowsAtPoints, lam: FloatArray) -> FloatArray:
    design = rows.design
    if design.frequency is None:
        return design.residual.log_det_slopes(lam)
    # Half of what log precisions move by, row by row, is what `inner_slopes` adds up for columns of one.
    ones = np.ones((design.n, 1))
    counted = design.frequency[:, None] / design.residual.whiten(lam, ones)
    return -2.0 * estimable(design.residual).inner_slopes(lam, ones, counted)


def _left(
    cp: SummedDesign,
    factors: list[FloatArray],
    factor: Factor,
    trailing: FloatArray,
    Z: FloatArray,
    reml: bool,
    weight: float,
) -> FloatArray:
    """Rows ``A F`` (n, m + c) from whitened rows of the trailing columns and of the first block."""
    sums, codes = level_sums_of(cp), cp.blocks[0].grouping.codes
    T = factors[0][0]
    s = factor.residual[0]
    F = _covariance(cp, factors, factor, reml) + weight * np.outer(s, s)
    if not T.shape[0]:
        return np.asarray(trailing @ F)
    RT = sums.R @ T
    D = T @ np.linalg.solve(np.eye(T.shape[0]) + RT.mT @ RT, np.broadcast_to(T.T, (len(RT), *T.shape)))
    P = D @ sums.R.mT @ sums.E
    adjusted = (trailing - (Z[:, None] @ P[codes])[:, 0]) @ F
    own = (Z[:, None] @ D[codes])[:, 0] - (P[codes] @ adjusted[..., None])[..., 0]
    return np.hstack([adjusted, own])


def _covariance(cp: SummedDesign, factors: list[FloatArray], factor: Factor, reml: bool) -> FloatArray:
    """Covariance (m, m) of the trailing effects and beta over sigma^2, beta known for ML; zero for y."""
    q2, t = cp.q_trailing, cp.q_trailing + cp.p
    C = np.zeros((t + 1, t + 1))
    used = t if reml else q2
    if used:
        half = solve_triangular(factor.chol[0, :used, :used], np.eye(used), lower=True)
        whole = np.zeros((1, t, t))
        whole[0, :used, :used] = half.T @ half
        if q2:
            whole = apply_lambda(cp.frame, factors[1:], whole, transposed=False)
            whole = apply_lambda(cp.frame, factors[1:], whole.mT, transposed=False)
        C[:t, :t] = whole[0]
    return C
