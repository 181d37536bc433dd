"""Satterthwaite's degrees of freedom of linear combinations of the fixed effects, from exact derivatives.

The variance ``f = l'Cl`` of a contrast is estimated; if ``2 f^2 / var(f)`` is its degrees of freedom, f is about as
variable as a mean square with that many. The variance of f follows from its gradient and the Hessian of the criterion.
With sigma profiled out, in coordinates x of the relative covariance, this becomes

    1 / df = 1 / nu + h' H^-1 h,    h = d log(f r2 / sigma^2) / dx,    H the Hessian of the profiled criterion,

nu = n - p (REML) or n (ML), which does not depend on the unit of y.

At a singular fit the coordinates of a direction without variance have no influence on f to first order, so that it is
treated as known to be zero. This is the method as published, and its weakness there: see `kenward_roger`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.linalg import solve_triangular

from bayeslmm.errors import FitError
from bayeslmm.inference.hypothesis import hypothesis
from bayeslmm.inference.residual_degrees import structured_df
from bayeslmm.inference.sensitivity import MOVED, UNDETERMINED, Sensitivity, contrasts, scaled_inverse, sensitivity
from bayeslmm.likelihood import CrossProducts, Derivatives, SummedDesign, cross_products, derivatives, evaluate
from bayeslmm.likelihood import parameters as par
from bayeslmm.likelihood.criteria import residual_df
from bayeslmm.likelihood.reduction import takes_responses
from bayeslmm.likelihood.replicates import reduce_responses
from bayeslmm.mode import PosteriorMode
from bayeslmm.mode.degrees import mode_df
from bayeslmm.reml import Optimum
from bayeslmm.reml.fixed import free_entries
from bayeslmm.reml.many import Optima
from bayeslmm.reml.residual_optimum import ResidualOptimum
from bayeslmm.types import BoolArray, FloatArray

# Curvatures below this, after scaling to a unit diagonal, are none: along a vanished direction, or a ridge.
_FLAT = 1e-8
# Doubles in the widest array of a batch.
_CHUNK = 2_000_000


def satterthwaite_df(cp: CrossProducts, optimum: Optimum, L: FloatArray) -> FloatArray:
    """Degrees of freedom of contrasts of the fixed effects.

    Parameters
    ----------
    cp : CrossProducts
    optimum : Optimum
        REML or ML; terms that were held fixed count as known.
    L : FloatArray, shape (m, p)
        Contrasts of the user's coefficients.

    Returns
    -------
    FloatArray, shape (m,)
        nan for a contrast of zeros.

    Raises
    ------
    FitError
        The criterion does not curve upwards at the optimum (a fit that did not converge), the residual variance
        is zero, or the variance of a contrast depends on variances of which the data say nothing.

    References
    ----------
    Satterthwaite (1946), Biometrics Bulletin 2, 110-114; Giesbrecht & Burns (1985), Biometrics 41, 477-486; Kuznetsova,
    Brockhoff & Christensen (2017), J. Stat. Softw. 82(13).

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()
    >>> satterthwaite_df(fit.cp, fit.optimum, np.eye(2)).round(6)
    array([17., 17.])
    """
    return _of_own(cp, optimum, contrasts(cp, L))


def _of_own(cp: CrossProducts, optimum: Optimum, own: FloatArray) -> FloatArray:
    """Degrees of freedom (m,) of contrasts (m, p) of the coefficients of the orthogonalised columns."""
    if cp.sigma is None and not optimum.factor.r2[0] > 0:
        raise FitError(
            "The residual variance is zero: the model reproduces the response exactly, so that no contrast has an "
            "error whose degrees of freedom could be asked for. Remove a random term."
        )
    if isinstance(optimum, PosteriorMode):
        df = mode_df(optimum, own)
    elif isinstance(optimum, ResidualOptimum):
        df = structured_df(optimum, own)
    else:
        df = _of_relative_variances(cp, optimum, own)
    asked = np.abs(own).sum(1) > 0
    if np.isnan(df[asked]).any():
        raise FitError(_no_minimum(optimum))
    return np.where(asked, df, np.nan)


def _of_relative_variances(cp: CrossProducts, optimum: Optimum, own: FloatArray) -> FloatArray:
    """The same where theta is all that was estimated beside sigma; nan where there are none."""
    factors = list(optimum.factors)
    first = derivatives(cp, factors, optimum.factor, optimum.reml)
    free = free_entries(cp, optimum.fixed)
    pieces = sensitivity(cp, factors, optimum.factor, first)
    sizes = par.sizes(cp, factors)[:, free] if optimum.ridges else None
    df = _df(cp, optimum.internal[None], first, pieces, optimum.hessian[None], free, optimum.reml, own, sizes)
    return np.asarray(df[0])


def df_of_slopes(cp: CrossProducts, optimum: Optimum, slopes: FloatArray) -> FloatArray:
    """Degrees of freedom of estimated variances from how they move with the relative covariance.

    Parameters
    ----------
    cp : CrossProducts
    optimum : Optimum
    slopes : FloatArray, shape (m, k)
        Derivatives of ``log(f)`` in the internal vector, where the variances are ``f sigma^2``.

    Returns
    -------
    FloatArray, shape (m,)
        nan where the criterion does not curve upwards, or a variance depends on what the data say nothing of.
    """
    factors, free = list(optimum.factors), free_entries(cp, optimum.fixed)
    first = derivatives(cp, factors, optimum.factor, optimum.reml)
    h = (slopes + slopes_of_log_r2(cp, optimum.internal, first))[:, free]
    sizes = par.sizes(cp, factors)[:, free] if optimum.ridges else None
    known = scaled_inverse(optimum.hessian[None], _FLAT, sizes)
    curved = np.einsum("mi,ij,mj->m", h, known.inverse[0], h)
    said = (known.smallest[0] > -_FLAT) & (known.lost(h[None])[0] <= MOVED)
    return np.where(said, _inverse(1.0 / residual_df(cp, optimum.reml) + curved), np.nan)


def slopes_of_log_r2(cp: CrossProducts, internal: FloatArray, first: Derivatives) -> FloatArray:
    """Gradient (k,) of log r2 in the internal vector."""
    nothing = tuple(np.zeros_like(trace) for trace in first.traces)
    return np.asarray(par.gradient(cp, internal, replace(first, traces=nothing, scale=1.0 / first.r2))[0])


def _no_minimum(optimum: Optimum) -> str:
    if optimum.ridges:
        return UNDETERMINED
    return (
        f"Satterthwaite's degrees of freedom need a minimum of the criterion, and it does not curve upwards where "
        f"the optimisation ended ({optimum.status}). Use ddf='z' for standard errors alone, or see fit.status."
    )


def satterthwaite_many(cp: SummedDesign, optima: Optima, Y: FloatArray, L: FloatArray, reml: bool = True) -> FloatArray:
    """The same for many responses of one design.

    Parameters
    ----------
    cp : SummedDesign
    optima : Optima
        ``optimise_many(cp, Y, reml)`` with no term held.
    Y : FloatArray, shape (n, K)
        The responses.
    L : FloatArray, shape (m, p)
    reml : bool

    Returns
    -------
    FloatArray, shape (K, m)
        nan where a response has no regular minimum or no residual variance.
    """
    together = takes_responses(cp)
    step = max(1, _CHUNK // max(cp.sums.between, 1)) if together else 1
    parts = []
    for start in range(0, Y.shape[1], step):
        part = slice(start, start + step)
        internal = par.internal_from_terms(cp, [T[part] for T in optima.terms])
        parts.append(_many(cp, internal, Y[:, part], L, reml, together))
    return np.concatenate(parts) if parts else np.zeros((0, np.atleast_2d(L).shape[0]))


def _many(
    cp: SummedDesign, internal: FloatArray, Y: FloatArray, L: FloatArray, reml: bool, together: bool
) -> FloatArray:
    replicates = None
    if together:
        replicates = reduce_responses(cp, Y).replicates
    else:
        cp = cross_products(replace(cp.design, y=Y[:, 0]))
    factors = par.internal_factors(cp, internal)
    factor = evaluate(cp, factors, replicates=replicates, keep=together)
    factor = replace(factor, r2=np.where(factor.r2 > 0, factor.r2, np.nan))
    first = derivatives(cp, factors, factor, reml)
    hessian = par.hessian(cp, internal, first)
    if not first.exact:
        raise FitError(
            "Satterthwaite's degrees of freedom of many responses need exact second derivatives, which designs with "
            "many levels of crossed or nested factors do not have. Fit the responses one at a time."
        )
    free = np.ones(internal.shape[1], dtype=bool)
    pieces = sensitivity(cp, factors, factor, first)
    return _df(cp, internal, first, pieces, hessian, free, reml, contrasts(cp, L), None)


def _df(
    cp: CrossProducts,
    internal: FloatArray,
    first: Derivatives,
    pieces: Sensitivity,
    hessian: FloatArray,
    free: BoolArray,
    reml: bool,
    own: FloatArray,
    sizes: FloatArray | None,
) -> FloatArray:
    known = scaled_inverse(hessian, _FLAT, sizes)
    regular = known.smallest > -_FLAT
    out = np.full((hessian.shape[0], own.shape[0]), np.nan)
    for i, row in enumerate(own):
        if not row.any():
            continue
        variance = (pieces.C @ row) @ row
        moved = [W @ row for W in pieces.W]
        shares = tuple(np.swapaxes(w, 1, 2) @ w / variance[:, None, None] for w in moved)
        # Minus `squares` is the gradient of r2: the sum is that of log(f r2).
        h = par.gradient(cp, internal, replace(first, traces=shares, scale=1.0 / first.r2))[:, free]
        curved = (h[:, None, :] @ known.inverse @ h[:, :, None])[:, 0, 0]
        said = regular & (known.lost(h[:, None, :])[:, 0] <= MOVED)
        out[:, i] = np.where(said, _inverse(1.0 / residual_df(cp, reml) + curved), np.nan)
    return out


def _inverse(share: FloatArray) -> FloatArray:
    """Degrees of freedom from a relative variance: infinite where nothing was estimated."""
    with np.errstate(divide="ignore"):
        return np.asarray(1.0 / share)


def combined_df(df: FloatArray) -> float:
    """Denominator degrees of freedom of a mean of squared t statistics that are independent.

    The F distribution is given the mean of the sum of ``t_i^2``, which is ``sum df_i / (df_i - 2)``.

    References
    ----------
    Fai & Cornelius (1996), J. Stat. Comput. Simul. 54, 363-378.
    """
    if np.ptp(df) <= 1e-8 * df.max():
        return float(df.mean())
    if (df <= 2).any():
        return 2.0
    mean = float((df / (df - 2.0)).sum())
    return 2.0 * mean / (mean - df.size)


def satterthwaite_f(
    cp: SummedDesign, optimum: Optimum, L: FloatArray, c: FloatArray | None = None, *, as_stated: bool = False
) -> tuple[float, int, float]:
    """F and degrees of freedom of ``L beta = c``.

    Parameters
    ----------
    cp : SummedDesign
    optimum : Optimum
    L : FloatArray, shape (m, p)
    c : FloatArray, shape (m,), optional
        Zeros by default.
    as_stated : bool
        Take the principal components of the rows in their own units (SAS, lmerTest); they have to be independent.
        Otherwise those of `hypothesis`, which do not depend on how the rows were chosen: all rows that span one space
        have the same test.

    References
    ----------
    Fai & Cornelius (1996), J. Stat. Comput. Simul. 54, 363-378.
    """
    tested = hypothesis(cp, optimum, L, c)
    F, rank, rows = tested.f(optimum.sigma), tested.values.size, tested.rows
    if as_stated and rank > 1:
        own, q2 = contrasts(cp, L), cp.q_trailing
        half = solve_triangular(optimum.factor.chol[0, q2:, q2:], own.T, lower=True)
        rows = np.linalg.svd(half, full_matrices=False)[2] @ own
    return F, rank, combined_df(_of_own(cp, optimum, rows))
