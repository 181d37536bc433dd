"""Joint hypotheses about fixed effects, in coordinates where a shift or a unit of a predictor costs no digits.

``L beta = 0`` says that beta lies in a subspace, which does not depend on where predictors are zero. The covariance of
``L beta`` does: of an intercept and a slope far from the data it is singular but for rounding. The rank is therefore
that of L, and the form is taken from the orthogonalised columns of the design.

F depends on the subspace alone. Degrees of freedom that are put together from those of single rows depend on the rows,
of which a subspace has many sets that are uncorrelated. Principal components of ``L beta`` change with the reference
level of a factor and with the unit of a row, because "principal" needs a unit of length for rows. It is taken from the
design: a row has unit length if least squares, the model without random effects, would estimate it with variance
sigma^2. The rows are then those combinations whose variances differ most from what least squares claims, which is a
property of model and hypothesis alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import qr, solve_triangular
from scipy.special import chdtrc, fdtrc

from bayeslmm.errors import DesignError
from bayeslmm.inference.sensitivity import contrasts
from bayeslmm.likelihood import SummedDesign
from bayeslmm.likelihood.level_grams import squares_of_fixed
from bayeslmm.reml import Optimum
from bayeslmm.types import FloatArray

# Singular values of the rows, columns and rows scaled to one, below this share of the largest are rounding of theirs.
_DEPENDENT = 1e-13
# Right sides that are off by more than this from what other rows imply are others.
_CONTRADICTION = 1e-9


@dataclass(frozen=True)
class Hypothesis:
    """Combinations of the fixed effects that are all zero.

    Attributes
    ----------
    rows : FloatArray, shape (r, p)
        Independent combinations of the coefficients of the orthogonalised columns. Their estimates are uncorrelated
        with variance sigma^2, in the fitted model and, with other variances, by least squares.
    values : FloatArray, shape (r,)
        Estimates of the rows; over sigma, z statistics.
    """

    rows: FloatArray
    values: FloatArray

    def f(self, sigma: float) -> float:
        """Wald's F: the mean of squared z statistics; infinite where it is beyond all numbers."""
        with np.errstate(over="ignore"):
            return float(np.mean((self.values / sigma) ** 2))


def rank_of(L: FloatArray) -> int:
    """Number of rows of L (m, p) that others do not imply, whatever the units of rows and columns."""
    scaled = L / _or_one(np.abs(L).max(axis=0))
    scaled = scaled / _or_one(np.abs(scaled).max(axis=1))[:, None]
    s = np.linalg.svd(scaled, compute_uv=False)
    return int((s > _DEPENDENT * max(L.shape) * s[0]).sum())


def hypothesis(cp: SummedDesign, optimum: Optimum, L: FloatArray, c: FloatArray | None = None) -> Hypothesis:
    """Reduce ``L beta = c`` to independent rows.

    Parameters
    ----------
    cp : SummedDesign
    optimum : Optimum
    L : FloatArray, shape (m, p)
        Of the user's coefficients; rows may depend on each other, not all are zero.
    c : FloatArray, shape (m,), optional
        Zeros by default.

    Returns
    -------
    Hypothesis

    Raises
    ------
    DesignError
        No coefficients have these values.

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
    upper = _least_squares(cp)
    own = solve_triangular(upper, contrasts(cp, L).T, trans="T").T
    basis = upper.T @ _row_space(own, rank_of(L))
    # Columns of `whitened` span the rows where the estimates are uncorrelated. What least squares says of any
    # orthonormal basis is the unit matrix, so that the principal components there are the same for all.
    whitened, triangle = np.linalg.qr(solve_triangular(root, basis, lower=True))
    rows = (root @ whitened @ np.linalg.svd(triangle)[0]).T
    beta = optimum.factor.solution[0, q2:] + cp.response.removed
    return Hypothesis(rows, rows @ (beta if c is None else beta - _with_values(contrasts(cp, L), c)))


def f_tail(F: FloatArray | float, df1: FloatArray | float, df2: FloatArray | float) -> FloatArray:
    """Upper tail of F, of chi-square over its degrees of freedom where the denominator's are infinite.

    Examples
    --------
    >>> f_tail(4.0, 1, np.array([10.0, np.inf])).round(6).tolist()
    [0.073388, 0.0455]
    """
    F, df1, df2 = np.asarray(F), np.asarray(df1), np.asarray(df2)
    finite = fdtrc(df1, np.where(np.isinf(df2), 1.0, df2), F)
    return np.where(np.isinf(df2), chi_square_tail(F * df1, df1), finite)


def chi_square_tail(x: FloatArray | float, df: FloatArray | float) -> FloatArray:
    """Upper tail of chi-square; nan without degrees of freedom."""
    df = np.asarray(df)
    return np.where(df > 0, chdtrc(np.where(df > 0, df, 1.0), x), np.nan)


def _with_values(own: FloatArray, c: FloatArray) -> FloatArray:
    """Coefficients (p,) of the orthogonalised columns whose combinations (m, p) have given values."""
    size = _or_one(np.abs(own).max(axis=1))
    rows, values = own / size[:, None], c / size
    columns = _or_one(np.abs(rows).max(axis=0))
    found = np.linalg.lstsq(rows / columns, values, rcond=_DEPENDENT * max(own.shape))[0] / columns
    if np.abs(rows @ found - values).max() > _CONTRADICTION * max(1.0, float(np.abs(values).max())):
        raise DesignError(
            "The values that the combinations of coefficients should have contradict each other: some rows of L follow "
            "from others, their values do not. Leave out the rows that others imply."
        )
    return np.asarray(found)


def _least_squares(cp: SummedDesign) -> FloatArray:
    """Upper triangle R (p, p) with ``R'R = X'WX`` of the orthogonalised columns."""
    if cp.design.facts is not None:
        return np.asarray(np.linalg.cholesky(squares_of_fixed(cp)[:-1, :-1]).T)
    return np.asarray(np.linalg.qr(cp.design.whitened(cp.fixed.columns), mode="r"))


def _row_space(rows: FloatArray, rank: int) -> FloatArray:
    """Orthonormal basis (p, r) of the rows (m, p)."""
    order = np.argsort(-np.abs(rows).max(axis=0), kind="stable")
    basis = np.empty((rows.shape[1], rank))
    basis[order] = qr(rows.T[order], mode="economic", pivoting=True)[0][:, :rank]
    return basis


def _or_one(size: FloatArray) -> FloatArray:
    return np.where(size > 0, size, 1.0)
