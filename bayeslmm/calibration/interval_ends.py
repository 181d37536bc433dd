"""Intervals of many responses of one design at once, by each of the methods that a fit has for one."""

from __future__ import annotations

import numpy as np
from scipy.special import stdtrit

from bayeslmm.inference.kenward_roger import kenward_roger_many
from bayeslmm.inference.ratio import pivot_interval
from bayeslmm.inference.satterthwaite import satterthwaite_many
from bayeslmm.inference.spectral import Spectrum
from bayeslmm.likelihood import SummedDesign, beta_covariance, evaluate
from bayeslmm.likelihood import parameters as par
from bayeslmm.reml.many import Optima
from bayeslmm.types import FloatArray

type Ends = tuple[FloatArray, FloatArray]


def pivot_many(spectrum: Spectrum, level: float) -> Ends:
    """Exact intervals (K,) of the ratio of a variance to that of the residual; nan where no ratio is in the interval.

    `pivot_interval` gives 0 and 0 there. An interval that were to hold a true zero in these responses would be none of
    its level.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> from bayeslmm.inference.spectral import spectrum
    >>> design = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).design
    >>> low, high = pivot_many(spectrum(design, 0, (0,)), 0.95)
    >>> low.round(3).tolist(), high.round(3).tolist()
    ([0.092], [5.574])
    """
    low, high = pivot_interval(spectrum, level)
    empty = high <= 0.0
    return np.where(empty, np.nan, low), np.where(empty, np.nan, high)


def coefficient_ends(
    ddf: str, cp: SummedDesign, Y: FloatArray, optima: Optima, level: float, reml: bool = True
) -> Ends:
    """Intervals (K, p) of all coefficients; nan where there are no degrees of freedom. See `errors_and_df`."""
    error, df = errors_and_df(ddf, cp, Y, optima, reml)
    half = stdtrit(df, 0.5 * (1.0 + level)) * error
    return optima.beta - half, optima.beta + half


def errors_and_df(
    ddf: str, cp: SummedDesign, Y: FloatArray, optima: Optima, reml: bool = True
) -> tuple[FloatArray, FloatArray]:
    """Standard errors and degrees of freedom (K, p) of all coefficients.

    Parameters
    ----------
    ddf : {"satterthwaite", "kenward-roger", "z"}
        Kenward and Roger's after REML only.
    cp : SummedDesign
    Y : FloatArray, shape (n, K)
    optima : Optima
        ``optimise_many(cp, Y, reml)``.
    reml : bool
    """
    L = np.eye(cp.p)
    if ddf == "kenward-roger":
        adjusted = kenward_roger_many(cp, optima.terms)
        return np.asarray(optima.sigma[:, None] * adjusted.std_error(L)), adjusted.df(L)
    # They depend on the responses through the estimates alone.
    covariance = beta_covariance(cp, evaluate(cp, par.block_factors(cp, optima.terms)))
    error = np.asarray(optima.sigma[:, None] * np.sqrt(np.diagonal(covariance, axis1=1, axis2=2)))
    df = np.full(error.shape, np.inf) if ddf == "z" else satterthwaite_many(cp, optima, Y, L, reml)
    return error, df
