"""Intervals of many responses of one design at once, by each of the methods that a fit has for one."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri, stdtrit

from bayeslmm.inference.kenward_roger import kenward_roger_many
from bayeslmm.inference.ratio import pivot_interval
from bayeslmm.inference.satterthwaite import satterthwaite_many
from bayeslmm.inference.spectral import Spectrum
from bayeslmm.likelihood import CrossProducts, SummedDesign, beta_covariance, evaluate
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


def wald_many(cp: CrossProducts, optima: Optima, level: float) -> Ends:
    """Estimate +- z standard errors of all coefficients, (K, p)."""
    half = float(ndtri(0.5 * (1.0 + level))) * _plain_errors(cp, optima)
    return optima.beta - half, optima.beta + half


def satterthwaite_ends(cp: SummedDesign, Y: FloatArray, optima: Optima, level: float, reml: bool = True) -> Ends:
    """Intervals (K, p) of all coefficients with Satterthwaite's degrees of freedom; nan where there are none."""
    df = satterthwaite_many(cp, optima, Y, np.eye(cp.p), reml)
    half = stdtrit(df, 0.5 * (1.0 + level)) * _plain_errors(cp, optima)
    return optima.beta - half, optima.beta + half


def kenward_roger_ends(cp: SummedDesign, optima: Optima, level: float) -> Ends:
    """Intervals (K, p) of all coefficients with Kenward and Roger's errors and degrees of freedom, after REML."""
    L, adjusted = np.eye(cp.p), kenward_roger_many(cp, optima.terms)
    half = stdtrit(adjusted.df(L), 0.5 * (1.0 + level)) * optima.sigma[:, None] * adjusted.std_error(L)
    return optima.beta - half, optima.beta + half


def _plain_errors(cp: CrossProducts, optima: Optima) -> FloatArray:
    """Standard errors (K, p), variances taken as known; they depend on the responses through the estimates alone."""
    covariance = beta_covariance(cp, evaluate(cp, par.block_factors(cp, optima.terms)))
    return np.asarray(optima.sigma[:, None] * np.sqrt(np.diagonal(covariance, axis1=1, axis2=2)))
