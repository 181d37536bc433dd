"""Log densities of groups of rows from their covariance as it is written: any dependence within a group."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from bayeslmm.bayes.variance_draws import VarianceDraws
from bayeslmm.design.design import Design
from bayeslmm.likelihood.criteria import LOG_2PI
from bayeslmm.likelihood.leave_out import check_block_size
from bayeslmm.likelihood.row_system import by_size
from bayeslmm.residual import each_point
from bayeslmm.types import FloatArray, IntArray


def dense_group_density(design: Design, draws: VarianceDraws, codes: IntArray) -> FloatArray:
    """Log p(y_g | beta, variance parameters) (K, G) of independent groups of rows, their effects integrated out.

    Parameters
    ----------
    design : Design
        Without frequencies.
    draws : VarianceDraws
        K draws.
    codes : IntArray, shape (n,)
        Group of each row, 0 .. G - 1; rows of different groups are independent.

    Raises
    ------
    FitError
        A group has more rows than a covariance is written out for.
    """
    check_block_size("group", np.bincount(codes))
    out = np.empty((draws.sigma.size, int(codes.max()) + 1))
    order = np.argsort(codes, kind="stable")
    sets = [order[members] for members in by_size(codes[order])]
    for lam, own in each_point(draws.lam):
        R = sparse.csr_array(design.residual.covariance(lam))
        for rows in sets:
            relative = diagonal_blocks(R, rows)
            for k in own:
                out[k, codes[rows[:, 0]]] = _log_density(design, draws, k, rows, relative)
    return out


def _log_density(design: Design, draws: VarianceDraws, k: int, rows: IntArray, relative: FloatArray) -> FloatArray:
    """Of the groups of some rows (G, m) at one draw, R (G, m, m) known."""
    V = relative.copy()
    for term, T in zip(design.terms, draws.factors, strict=True):
        A, level = term.Z[rows] @ T[k], design.groupings[term.group].codes[rows]
        V += (level[:, :, None] == level[:, None, :]) * (A @ A.mT)
    e = (design.y_less_offset[rows] - design.X[rows] @ draws.beta[k]) / draws.sigma[k]
    L = np.linalg.cholesky(V)
    z = np.linalg.solve(L, e[..., None])[..., 0]
    log_det = 2.0 * np.log(np.diagonal(L, axis1=1, axis2=2)).sum(1)
    return np.asarray(-0.5 * (rows.shape[1] * (LOG_2PI + 2.0 * np.log(draws.sigma[k])) + log_det + (z**2).sum(1)))


def diagonal_blocks(R: sparse.csr_array, rows: IntArray) -> FloatArray:
    """Diagonal blocks (G, m, m) at rows (G, m)."""
    G, m = rows.shape
    first, second = np.broadcast_arrays(rows[:, :, None], rows[:, None, :])
    return np.asarray(R[first.ravel(), second.ravel()]).reshape(G, m, m)
