"""Residuals of a fit by their kinds, leverages, and the Cook's distances that follow from both without a refit."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import pandas as pd

from bayeslmm.arguments import choice, flag
from bayeslmm.design.observations import need_observations
from bayeslmm.design.padding import by_row
from bayeslmm.errors import DesignError, FitError
from bayeslmm.likelihood.correlated_rows import CorrelatedSystem, RowNumbers, row_numbers
from bayeslmm.likelihood.deletion import Leverages, leverages
from bayeslmm.results.draws import Draws
from bayeslmm.results.fit import Fit
from bayeslmm.types import FloatArray

type ResidualKind = Literal["raw", "pearson", "standardised", "marginal", "normalized"]

# A leverage this close to one leaves its residual no variance.
_NO_VARIANCE = 1e-10


def residuals(fit: Fit, kind: ResidualKind = "raw", *, scaled: bool = False) -> pd.Series:
    """Residuals, indexed as the rows kept.

    Parameters
    ----------
    kind : {"raw", "pearson", "standardised", "marginal", "normalized"}
        ``"raw"``: response minus fitted values, random effects included. ``"pearson"``: these times the root of the
        precision (over the standard deviation beside sigma), so that all have the same variance before the fit.
        ``"normalized"``: whitened by the residual covariance and over sigma, so that rows of one group are independent,
        too, in the order of their times or visits (nlme's word; scaled in any case). ``"standardised"``: over their
        estimated standard deviation, ``sigma sqrt((1 - leverage) / weight)``, theta taken as known (lme4's
        ``rstudent``); where residuals are correlated, covariance ``sigma^2 R``, over the root of the diagonal of
        ``sigma^2 R P R``, P the precision of y over ``sigma^2`` with all effects integrated out.
        ``"marginal"``: response minus the fixed part, so that random effects are in them.
    scaled : bool
        In standard deviations: raw and Pearson residuals over sigma (lme4's scaled residuals), marginal ones over the
        standard deviation of the row with its random effects; standardised ones are scaled in any case.

    Returns
    -------
    pandas.Series
        Standardised ones are nan where the leverage is 1.

    Raises
    ------
    DesignError
        Another kind.
    FitError
        Scaled or standardised residuals of a fit with sigma 0.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()
    >>> fit.residuals().round(2).head(2).tolist()
    [-4.1, -14.63]
    >>> fit.residuals("pearson", scaled=True).abs().max().round(3), fit.residuals("standardised").abs().max().round(3)
    (np.float64(5.179), np.float64(5.527))
    """
    choice("kind", kind, get_args(ResidualKind.__value__), DesignError)
    flag("scaled", scaled, DesignError)
    values = residual_values(fit, kind, scaled)
    return by_row(fit.design, values, "residual" if kind == "raw" else f"{kind} residual")


def residual_values(fit: Fit, kind: ResidualKind, scaled: bool = False) -> FloatArray:
    """The same for the rows of the design (n,)."""
    design = fit.design
    need_observations(design, "Residuals are", "fit.fitted() has the fitted value of every cell.")
    values = design.y - (fixed_part(fit) if kind == "marginal" else fit._fitted)
    if kind == "pearson" or kind == "standardised":
        values = values / np.sqrt(design.residual.variance(fit.optimum.lam))
    elif kind == "normalized":
        return np.asarray(design.residual.whiten(fit.optimum.lam, values[:, None])[:, 0] / positive_sigma(fit))
    if kind == "standardised":
        values = values / (positive_sigma(fit) * _spread(_share_left(fit)))
    elif scaled:
        sigma = positive_sigma(fit)
        values = values / (marginal_sd(fit) if kind == "marginal" else sigma)
    return np.asarray(values)


def positive_sigma(fit: Fit) -> float:
    """Sigma, where it is something to measure residuals by."""
    if fit.sigma > 0:
        return fit.sigma
    raise FitError(
        "The residual standard deviation is estimated at zero: the model reproduces the response, and residuals have "
        "no scale to be measured on. residuals() has them as they are."
    )


def _share_left(fit: Fit) -> FloatArray:
    """Variances (n,) of the residuals of the fit over those of the residuals of the model."""
    found = _correlated_rows(fit)
    if found is None:
        return 1.0 - leverage_pair(fit).total
    return found.variance / fit.design.residual.variance(fit.optimum.lam)


def _spread(share: FloatArray) -> FloatArray:
    return np.where(share > _NO_VARIANCE, np.sqrt(np.maximum(share, 0.0)), np.nan)


def fixed_part(result: Fit | Draws) -> FloatArray:
    """Fixed part (n,) of the mean of every row, offset included, at the estimates or posterior means."""
    mean = result.design.X @ result.fixef().to_numpy()
    return np.asarray(mean if result.design.offset is None else mean + result.design.offset)


def marginal_sd(fit: Fit) -> FloatArray:
    """Standard deviation (n,) of every observation about the fixed part, units of y."""
    design = fit.design
    variance = design.residual.variance(fit.optimum.lam)
    for term, T in zip(design.terms, fit.optimum.terms, strict=True):
        variance = variance + ((term.Z @ T) ** 2).sum(axis=1)
    return np.asarray(fit.sigma * np.sqrt(variance))


def correlated_system(fit: Fit) -> CorrelatedSystem | None:
    """Rows that depend on one another beside the sums of the whitened ones; None if all are independent."""
    if fit.design.residual.clusters is None:
        return None
    return CorrelatedSystem(fit.design, fit.cp, fit.optimum.lam, fit.optimum.factors)


def _correlated_rows(fit: Fit) -> RowNumbers | None:
    """Numbers of single rows that depend on one another; None if all are independent."""
    memo = fit._memo
    if "correlated rows" not in memo:
        system = correlated_system(fit)
        memo["correlated rows"] = None if system is None else row_numbers(system)
    found: RowNumbers | None = memo["correlated rows"]
    return found


def leverage_pair(fit: Fit) -> Leverages:
    """Leverages of the whole fit and of its fixed part."""
    found = _correlated_rows(fit)
    return leverages(fit.cp, fit.optimum.factors, fit.optimum.lam) if found is None else found.leverages


def _off_without_itself(fit: Fit) -> FloatArray:
    """Response (n,) less its prediction without itself, over the sd of a residual beside sigma; nan without one."""
    found, h = _correlated_rows(fit), leverage_pair(fit).total
    if found is not None:
        off = found.given_others / np.sqrt(fit.design.residual.variance(fit.optimum.lam))
        return np.where(_share_left(fit) > _NO_VARIANCE, off, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(1.0 - h > _NO_VARIANCE, residual_values(fit, "pearson") / (1.0 - h), np.nan)


def leverage(fit: Fit, part: Literal["all", "fixed"] = "all") -> pd.Series:
    """Leverage of every row: by how much its fitted value follows its own response, theta taken as known.

    Parameters
    ----------
    part : {"all", "fixed"}
        The diagonal of ``H`` in ``fitted = H y`` with random effects (lme4's ``hatvalues``), or of the fixed part
        alone, ``X (X'V^-1 X)^-1 X'V^-1``, whose sum over the observations is the number of fixed effects. Residual
        correlations are in V; a row that others pull harder than itself can have a negative one.

    Returns
    -------
    pandas.Series
        Of a row that stands for several observations (``frequency=``) that of one of them: the sum weighted by the
        frequencies counts parameters.

    Raises
    ------
    DesignError
        Another part.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()
    >>> fit.leverage().round(4).head(2).tolist(), round(float(fit.leverage("fixed").sum()), 6)
    ([0.2293, 0.1697], 2.0)
    """
    choice("part", part, ("all", "fixed"), DesignError)
    pair = leverage_pair(fit)
    return by_row(fit.design, pair.total if part == "all" else pair.fixed, "leverage")


def cooks_distance(fit: Fit) -> pd.Series:
    """Conditional Cook's distance of every row, from its residual and leverage, random effects held as predicted.

    ``e^2 h / (p sigma^2 (1 - h)^2)`` with Pearson residual e and leverage h: lme4's ``cooks.distance(fit)``. It speaks
    of the fitted values with their random effects, and another quantity has the same name: how far the *fixed effects*
    move when a row or a group is left out and theta estimated anew, ``influence().cooks_d``
    (``cooks.distance(influence(fit, ...))`` in R). Rows of a small group can be large in one and small in the other.

    Where residuals are correlated, ``e / (1 - h)``, by how much a row is off when it is predicted without itself, is
    what it is off when predicted from all others, the residuals of its own group included: ``(P y)_i / P_ii``.

    Returns
    -------
    pandas.Series
        Indexed as `residuals`; ``.attrs["quantity"]`` says which of the two it is.

    Raises
    ------
    DesignError
        The model has no fixed effect.
    FitError
        Sigma is 0.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()
    >>> fit.cooks_distance().nlargest(2).round(3).to_dict()
    {59: 4.332, 56: 2.12}
    """
    if not fit.design.p:
        raise DesignError("The model has no fixed effect, by whose number Cook's distance is divided.")
    h, off = leverage_pair(fit).total, _off_without_itself(fit)
    values = off**2 * h / (fit.design.p * positive_sigma(fit) ** 2)
    out = by_row(fit.design, values, "cooks_distance")
    out.attrs["quantity"] = "conditional Cook's distance: of fitted values, random effects held (lme4's cooks.distance)"
    return out
