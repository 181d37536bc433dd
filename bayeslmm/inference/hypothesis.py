"""Joint hypotheses about fixed effects, in coordinates where a shift or a unit of a predictor costs no digits.

``L beta = 0`` says that beta lies in a subspace, which does not depend on where predictors are zero. The covariance of
``L beta`` does: of an intercept and a slope far from the data it is singular but for rounding. The rank is therefore
that of L, and the form is taken from the orthogonalised columns of the design.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import qr, solve_triangular

from bayeslmm.inference.sensitivity import contrasts
from bayeslmm.likelihood import CrossProducts
from bayeslmm.reml import Optimum
from bayeslmm.types import FloatArray

# Singular values of the rows, columns and rows scaled to one, below this share of the largest are rounding of theirs.
_DEPENDENT = 1e-13
# Principal components of the user's rows with sds further apart are those of the rows scaled to unit variance.
_APART = 1e-5


@dataclass(frozen=True)
class Hypothesis:
    """Combinations of the fixed effects that are all zero.

    Attributes
    ----------
    rows : FloatArray, shape (r, p)
        Independent combinations of the coefficients of the orthogonalised columns. Their estimates are uncorrelated
        with variance sigma^2; they are the principal components of the combinations that the user wrote.
    values : FloatArray, shape (r,)
        Estimates of the rows; over sigma, z statistics.
    """

    rows: FloatArray
    values: FloatArray

    def f(self, sigma: float) -> float:
        """Wald's F: the mean of squared z statistics."""
        return float(np.mean((self.values / sigma) ** 2))


def rank_of(L: FloatArray) -> int:
    """Number of rows of L (m, p) that others do not imply, whatever the units of rows and columns."""
    scaled = L / _or_one(np.abs(L).max(axis=0))
    scaled = scaled / _or_one(np.abs(scaled).max(axis=1))[:, None]
    s = np.linalg.svd(scaled, compute_uv=False)
    return int((s > _DEPENDENT * max(L.shape) * s[0]).sum())


def hypothesis(cp: CrossProducts, optimum: Optimum, L: FloatArray) -> Hypothesis:
    """Reduce ``L beta = 0`` to independent rows.

    Parameters
    ----------
    cp : CrossProducts
    optimum : Optimum
    L : FloatArray, shape (m, p)
        Of the user's coefficients; rows may depend on each other, not all are zero.

    Returns
    -------
    Hypothesis

    References
    ----------
    Cox & Higham (1998), Numer. Math. 78, 339-372, for QR that keeps the digits of small rows (sorted, with pivoting).

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()
    >>> round(hypothesis(fit.cp, fit.optimum, np.array([[0.0, 1.0]])).f(fit.sigma), 4)
    45.853
    """
    q2 = cp.q_trailing
    root = optimum.factor.chol[0, q2:, q2:]
    basis, triangle = _row_space(contrasts(cp, L), rank_of(L))
    # Columns of `whitened` span the rows where the estimates are uncorrelated; `own` are the user's rows there.
    whitened, R = np.linalg.qr(solve_triangular(root, basis, lower=True))
    own = (R @ triangle).T
    s, Vt = np.linalg.svd(own, full_matrices=False)[1:]
    if s[-1] <= _APART * s[0]:
        Vt = np.linalg.svd(own / _or_one(np.linalg.norm(own, axis=1))[:, None], full_matrices=False)[2]
    rows = (root @ whitened @ Vt.T).T
    beta = optimum.factor.solution[0, q2:] + cp.response.removed
    return Hypothesis(rows, rows @ beta)


def _row_space(rows: FloatArray, rank: int) -> tuple[FloatArray, FloatArray]:
    """Orthonormal basis (p, r) of the rows (m, p), and the rows in it (r, m)."""
    order = np.argsort(-np.abs(rows).max(axis=0), kind="stable")
    Q, R, pivots = qr(rows.T[order], mode="economic", pivoting=True)
    basis, triangle = np.empty((rows.shape[1], rank)), np.empty((rank, rows.shape[0]))
    basis[order], triangle[:, pivots] = Q[:, :rank], R[:rank]
    return basis, triangle


def _or_one(size: FloatArray) -> FloatArray:
    return np.where(size > 0, size, 1.0)
