"""Means and slopes of a REML or ML fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from bayeslmm.arguments import flag
from bayeslmm.errors import DesignError
from bayeslmm.means.averages import Weights
from bayeslmm.means.call import Names, Scale, asked_means, asked_slopes, given_variance, method_words
from bayeslmm.means.functions import adjustment
from bayeslmm.means.grid import Centre
from bayeslmm.means.marginal import MarginalMeans
from bayeslmm.means.sources import FitSource
from bayeslmm.results.fit import Fit
from bayeslmm.results.linear import DDF, check_ddf

# Residual variances that differ by a smaller share are one.
_ALIKE = 1e-9


def fit_means(
    fit: Fit,
    of: Names = None,
    *,
    by: Names = None,
    at: Mapping[str, Any] | None = None,
    weights: Weights = "equal",
    ddf: DDF = "satterthwaite",
    level: float = 0.95,
    type: Scale = "link",
    adjust: str = "none",
    bias_adjust: bool = False,
    sigma: float | None = None,
    centre: Centre = "mean",
) -> MarginalMeans:
    """Estimated marginal means (least-squares means) of factors, to be compared by ``.pairs()`` and ``.contrast()``.

    Parameters
    ----------
    of : str or sequence of str, optional
        Factors whose levels have means; of several, all combinations. None: one mean over all.
    by : str or sequence of str, optional
        Factors whose combinations are groups: contrasts stay within them.
    at : mapping, optional
        Column to values in place of all levels, or of the mean of a number: ``at={"age": [20, 40]}``.
    weights : {"equal", "proportional", "cells", "outer", "flat"}
        Of the levels that a mean is over; see `bayeslmm.means.averages.averages`.
    ddf : {"satterthwaite", "kenward-roger", "containment", "residual", "z"}
        Degrees of freedom, as in `coefficients`.
    level : float
    type : {"link", "response"}
        Of a response that the formula transforms (``log(y)``): means on that scale, or taken back to units of y, where
        contrasts of logarithms are ratios. Standard errors by the delta method, intervals from those of the link.
    adjust : str
        Of the intervals, for the number of means.
    bias_adjust : bool
        Whether means taken back allow for the variation about them: a mean of y, not the median.
    sigma : float, optional
        The standard deviation of that variation; by default that of a new observation of a new group.
    centre : {"mean", "median"}
        Where numbers are for which `at` says nothing. One with two values in the data takes both.

    Returns
    -------
    MarginalMeans
        Prints as a table; ``.frame`` is a data frame.

    Raises
    ------
    DesignError
        Names that are not in the fixed part, a number without values, unknown levels or options.
    FitError
        No residual variance, or no minimum (Satterthwaite).

    References
    ----------
    Searle, Speed & Milliken (1980), American Statistician 34, 216-221.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("score ~ Machine + (1 | Worker)", bl.load_dataset("Machines")).fit()
    >>> fit.means("Machine")
    Means of Machine (95 % intervals, Satterthwaite df)
    <BLANKLINE>
    Machine  estimate  std_error   df  conf_low  conf_high
    A           52.36       2.23  5.8     46.86      57.85
    B           60.32       2.23  5.8     54.83      65.82
    C           66.27       2.23  5.8     60.78      71.77
    """
    check_ddf(fit, ddf)
    asked = asked_means(fit.design, of, by, at, weights, type, level, centre)
    display = replace(asked.display, adjust=adjustment(adjust, "none"), method=method_words(ddf))
    if flag("bias_adjust", bias_adjust, DesignError):
        own = given_variance(display, sigma)
        if own is None:
            _check_one_variance(fit)
        display = replace(display, variance=float(fit._explained.unexplained[0]) if own is None else own)
    return MarginalMeans(FitSource(fit, asked.functions, ddf), asked.labels, display)


def _check_one_variance(fit: Fit) -> None:
    """Refuse one variance for all means where residual variances differ by a structure.

    Raises
    ------
    DesignError
    """
    if not fit.design.residual.names:
        return
    variance = fit.design.residual.variance(fit.optimum.lam)
    if np.ptp(variance) > _ALIKE * variance.max():
        low, high = (f"{fit.sigma * float(np.sqrt(v)):.4g}" for v in (variance.min(), variance.max()))
        raise DesignError(
            f"bias_adjust=True takes one variance for all means, and residual sds are between {low} and {high} in this "
            "fit (its residuals have parameters of their own). Give the sd of what the means are about, sigma=."
        )


def fit_trends(
    fit: Fit,
    variable: str,
    of: Names = None,
    *,
    by: Names = None,
    at: Mapping[str, Any] | None = None,
    weights: Weights = "equal",
    ddf: DDF = "satterthwaite",
    level: float = 0.95,
    adjust: str = "none",
    centre: Centre = "mean",
) -> MarginalMeans:
    """Slopes of a numeric column, for the levels of factors, to be compared by ``.pairs()`` and ``.contrast()``.

    Parameters
    ----------
    variable : str
        The column; the slope is the derivative of the mean at its centre, or at the value that `at` gives.
    of, by, at, weights, ddf, level, adjust, centre
        As in `fit_means`.

    Returns
    -------
    MarginalMeans

    Raises
    ------
    DesignError
        `variable` is a factor, or is not in the fixed part; else as `fit_means`.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("distance ~ age * Sex + (age | Subject)", bl.load_dataset("Orthodont")).fit()
    >>> fit.trends("age", "Sex").frame.set_index("Sex")["estimate"].round(3).to_dict()
    {'Male': 0.784, 'Female': 0.48}
    """
    check_ddf(fit, ddf)
    asked = asked_slopes(fit.design, variable, of, by, at, weights, level, centre)
    display = replace(asked.display, adjust=adjustment(adjust, "none"), method=method_words(ddf))
    return MarginalMeans(FitSource(fit, asked.functions, ddf), asked.labels, display)
