"""Intervals of the parameters of a REML or ML fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from bayeslmm.arguments import choice
from bayeslmm.design.readable import headed, readable
from bayeslmm.errors import DesignError
from bayeslmm.habits import CONFINT_ARGUMENTS, no_argument
from bayeslmm.reml.residual_optimum import ResidualOptimum
from bayeslmm.results import interval_methods as methods
from bayeslmm.results.bootstrap_kinds import check_kind
from bayeslmm.results.bootstrap_runs import bootstrap, count
from bayeslmm.results.fit import Fit
from bayeslmm.results.fit_coefficients import coefficients
from bayeslmm.results.interval_methods import or_nan
from bayeslmm.results.intervals import check_level
from bayeslmm.results.linear import DDF, default_intervals
from bayeslmm.results.profiles import check_minimum, find_derived, profile_frame
from bayeslmm.results.residual_intervals import wald_residual
from bayeslmm.results.residual_profiles import found_parameter, profile_ends_residual, profile_frame_residual
from bayeslmm.results.sampling import generator
from bayeslmm.results.tables import tidy_table

_KINDS = {"profile": "profile likelihood intervals", "wald": "Wald intervals", "pivot": "exact intervals by F"}


def profile(
    fit: Fit, label: str, values: ArrayLike | None = None, *, criterion: Literal["REML", "ML"] | None = None
) -> pd.DataFrame:
    """Profile of the criterion: minimised over all parameters but one, those of the residuals among them.

    Parameters
    ----------
    label : str
        E.g. ``"sd_Subject[Days]"``, ``"corr_Subject[Intercept.Days]"``, ``"sigma"``, ``"residual_rho"``, a fixed
        effect, or ``"ratio_Subject[Days]"`` (variance / residual variance) and ``"icc_Subject[Days]"``
        (ratio / (1 + ratio)), where residuals have no parameters.
    values : array-like, optional
        Where to evaluate, in the units of the parameter; by default 41 points over the 99.5 % interval, zero included
        for an sd.
    criterion : {"REML", "ML"}, optional
        By default the one that was fitted. The REML profile of a fixed effect is minus twice the log likelihood
        with the other fixed effects integrated over a flat prior.

    Returns
    -------
    pandas.DataFrame
        Columns ``value``; ``criterion``, inf where no covariance of a residual structure has that value; and ``zeta``,
        the signed root of its rise from the minimum: a straight line where the criterion is a parabola, and beyond
        +-1.96 outside of the 95 % interval. `plot_profile` draws it.

    Raises
    ------
    DesignError
        No such parameter, or it was fixed; a value is no number or outside its range.
    FitError
        The fit leaves no residual: the criterion has no finite minimum.

    Warns
    -----
    BayesLMMWarning
        The parameter is not identified, or the fit is not a minimum.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()
    >>> curve = fit.profile("sd_Batch", [0.0, 42.0])
    >>> (curve["criterion"] - fit.criterion).round(2).tolist()
    [6.37, 0.0]
    >>> fit = bl.Model("Reaction ~ Days", bl.load_dataset("sleepstudy"), residual="ar1(Days | Subject)").fit()
    >>> curve = fit.profile("residual_rho", [0.0, 0.8])
    >>> (curve["criterion"] - fit.criterion).round(2).tolist()
    [154.46, 0.0]
    """
    optimum = fit._by_criterion(criterion)
    if isinstance(optimum, ResidualOptimum):
        parameter = found_parameter(fit, label)
        check_minimum(optimum, [parameter])
        return readable(profile_frame_residual(optimum, parameter, values))
    parameter = find_derived(fit.design, label)
    check_minimum(optimum, [parameter])
    return readable(profile_frame(fit.cp, optimum, parameter, values))


def confint(
    fit: Fit,
    level: float = 0.95,
    method: Literal["profile", "bootstrap", "wald", "pivot"] = "profile",
    parameters: str | Sequence[str] | None = None,
    *,
    criterion: Literal["REML", "ML"] | None = None,
    kind: Literal["percentile", "basic", "norm", "bca", "shortest"] = "percentile",
    n: int = 1000,
    random_seed: int | np.random.Generator | None = None,
    **unknown: Any,
) -> pd.DataFrame:
    """Intervals of the parameters, those of the residuals among them.

    Parameters
    ----------
    level : float
    method : {"profile", "bootstrap", "wald", "pivot"}
        ``"profile"``: all values for which the criterion, minimised over the other parameters, rises by less than
        the chi-square quantile; roots, one-sided at zero and at correlations of +-1. ``"wald"``: estimate +- z
        standard errors for fixed effects; on the scale of log sd, log sigma and atanh correlation for variance
        parameters that are asked for by name, refused at the boundary. ``"pivot"``: exact interval of variance
        ratios and intraclass correlations from F (Wald 1940), whatever the other variances are. ``"bootstrap"``:
        parametric, see `bootstrap`. Where residuals have parameters there is no pivot, and ``"wald"`` is by the
        curvature of the criterion in all covariance parameters together, ratios of standard deviations on the log
        scale, correlations by atanh: quicker than the profile where a structure has dozens of parameters.
    parameters : str or sequence of str, optional
        Labels. By default all sds, correlations, sigma and fixed effects (profile, bootstrap), the fixed effects
        (wald), all ratios and intraclass correlations that have a pivot (pivot). ``"ratio_g[x]"``, the variance of
        an effect divided by sigma^2, and ``"icc_g[x]"``, ratio / (1 + ratio), can be asked for by all methods. Where
        residuals have parameters, all by default (wald: nan for an estimate at the end of its range), and no ratios.
    criterion : {"REML", "ML"}, optional
        By default the one that was fitted. The REML profile of a fixed effect is that of the likelihood with the
        other fixed effects integrated over a flat prior; the ML profile is the one of lme4.
    kind : {"percentile", "basic", "norm", "bca", "shortest"}
        Of bootstrap intervals, see `Bootstrap.confint`.
    n : int
        Simulated responses of a bootstrap.
    random_seed : int or numpy.random.Generator, optional
        Of a bootstrap.

    Returns
    -------
    pandas.DataFrame
        Columns ``conf_low``, ``conf_high``; indexed by label. ``attrs`` says how they were made.

    Raises
    ------
    DesignError
        The level is not strictly between 0 and 1; a label, method or criterion is unknown; the method has no
        interval for a parameter (with the reason, and what to use instead).
    FitError
        The fit leaves no residual: the criterion has no finite minimum. (The pivot does not need one.)

    Warns
    -----
    BayesLMMWarning
        Some of the parameters are not identified, with their names, or the fit is not a minimum.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()
    >>> fit.confint().round(2)
                         conf_low  conf_high
    sd_Batch[Intercept]     15.66     101.07
    sigma                   38.23      67.66
    Intercept             1486.45    1568.55
    >>> fit.confint(method="pivot", parameters="icc_Batch").round(3)
                          conf_low  conf_high
    icc_Batch[Intercept]     0.084      0.848
    >>> fit = bl.Model("Reaction ~ Days", bl.load_dataset("sleepstudy"), residual="ar1(Days | Subject)").fit()
    >>> fit.confint().round(2)
                  conf_low  conf_high
    sigma            41.63      62.66
    residual_rho      0.71       0.88
    Intercept       231.51     276.17
    Days              7.12      13.81
    """
    no_argument("fit.confint", confint, unknown, CONFINT_ARGUMENTS, DesignError)
    level = check_level(level)
    optimum = fit._by_criterion(criterion)
    pivot = () if isinstance(optimum, ResidualOptimum) else ("pivot",)
    choice("method", method, ("profile", "wald", *pivot, "bootstrap"), DesignError)
    check_kind(kind)
    generator(random_seed), count(fit.design, n)
    if method == "bootstrap":
        return bootstrap(fit, n, random_seed, criterion=criterion).confint(level, kind, parameters)
    if isinstance(optimum, ResidualOptimum):
        own = fit if optimum is fit.optimum else replace(fit, cp=optimum.cp, optimum=optimum)
        ends = (profile_ends_residual if method == "profile" else wald_residual)(own, parameters, level)
    elif method == "profile":
        ends = methods.profile(fit.design, fit.cp, optimum, fit._estimates_of(optimum), parameters, level)
    elif method == "wald":
        ends = methods.wald(fit.design, fit.cp, optimum, fit._estimates_of(optimum), parameters, level)
    else:
        ends = methods.pivot(fit.design, fit.cp, parameters, level)
    ends.attrs.update(method=method, level=level)
    if method != "pivot":
        ends.attrs["criterion"] = "REML" if optimum.reml else "ML"
    by = f" ({ends.attrs['criterion']})" if method != "pivot" else ""
    return headed(ends, f"{100 * level:g} % {_KINDS[method]}{by}")


def tidy(fit: Fit, level: float = 0.95, ddf: DDF | None = None) -> pd.DataFrame:
    """One row per parameter with broom.mixed's columns (effect, group, term, estimate, ...).

    Intervals are those of the summary and of all tables: of fixed effects by t with Satterthwaite's degrees of freedom
    (as ``coefficients()``), of variance parameters from the profile (as ``confint()``). With `ddf`, standard errors and
    intervals of fixed effects are those of ``coefficients(ddf)``.
    """
    variances = [p.label for p in fit._parameters if p.kind != "fixed"]
    level = check_level(level)
    errors, ends = fixed_intervals(fit, level, ddf)
    parts = [or_nan(lambda: confint(fit, level, parameters=variances), variances), ends]
    interval = pd.concat(parts).loc[[p.label for p in fit._parameters]]
    std_error = [errors.get(p.label, np.nan) if p.kind == "fixed" else np.nan for p in fit._parameters]
    return tidy_table(fit._parameters, fit.estimates().to_numpy(), np.array(std_error), interval)


def fixed_intervals(fit: Fit, level: float, ddf: DDF | None, say: bool = False) -> tuple[pd.Series, pd.DataFrame]:
    """Standard errors and intervals of the fixed effects: those of all tables, or by other degrees of freedom.

    With `say` there is a warning where there are none.
    """
    if ddf is None:
        ends = or_nan(lambda: default_intervals(fit, level), fit.design.fixed_names, say)
        return fit.std_error(), ends
    table = coefficients(fit, ddf, level)
    return table["std_error"], pd.DataFrame(table[["conf_low", "conf_high"]])
