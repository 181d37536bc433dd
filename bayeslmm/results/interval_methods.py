"""Intervals of a fit by each method, as tables."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.special import ndtri

from bayeslmm.design.design import Design
from bayeslmm.errors import BayesLMMWarning, DesignError, FitError
from bayeslmm.inference.wald import wald_ends
from bayeslmm.likelihood import SummedDesign, beta_covariance
from bayeslmm.reml import Optimum
from bayeslmm.results.intervals import near_end
from bayeslmm.results.labels import Parameter, parameters
from bayeslmm.results.profiles import (
    check_minimum,
    choose_parameters,
    on_a_ridge,
    profile_intervals,
    refuse_ratio,
    share,
    target_of,
)

type Labels = str | Sequence[str] | None


def _frame(chosen: Sequence[Parameter], ends: Sequence[tuple[float, float]]) -> pd.DataFrame:
    return pd.DataFrame(ends, index=[p.label for p in chosen], columns=["conf_low", "conf_high"], dtype=float)


def or_nan(make: Callable[[], pd.DataFrame], labels: Sequence[str], say: bool = True) -> pd.DataFrame:
    """Intervals, or nan (and a warning) where the fit has none: for tables that have other columns too."""
    try:
        return make()
    except FitError as error:
        if say:
            warnings.warn(f"Intervals are missing. {error}", BayesLMMWarning, stacklevel=3)
        return pd.DataFrame(np.nan, index=list(labels), columns=["conf_low", "conf_high"])


def profile(
    design: Design, cp: SummedDesign, optimum: Optimum, estimates: pd.Series, labels: Labels, level: float
) -> pd.DataFrame:
    """Profile intervals."""
    chosen = choose_parameters(design, labels)
    check_minimum(optimum, chosen)
    return _frame(chosen, profile_intervals(cp, optimum, chosen, estimates, level))


def wald(
    design: Design, cp: SummedDesign, optimum: Optimum, estimates: pd.Series, labels: Labels, level: float
) -> pd.DataFrame:
    """Wald intervals; by default of the fixed effects.

    Raises
    ------
    DesignError
        A parameter at the end of its range, of a term that was fixed, or without curvature.
    FitError
        The fit leaves no residual.
    """
    chosen = choose_parameters(design, labels)
    if labels is None:
        chosen = [p for p in chosen if p.kind == "fixed"]
    variances = [p for p in chosen if p.kind != "fixed"]
    check_minimum(optimum, [p for p in chosen if p.kind == "fixed"])
    ends = dict(_wald_variances(cp, optimum, estimates, variances, level)) if variances else {}
    error = ndtri(0.5 + level / 2) * optimum.sigma * np.sqrt(np.diagonal(beta_covariance(cp, optimum.factor)[0]))
    for p in chosen:
        if p.kind == "fixed":
            ends[p.label] = estimates[p.label] - error[p.position], estimates[p.label] + error[p.position]
    return _frame(chosen, [ends[p.label] for p in chosen])


def _wald_variances(
    cp: SummedDesign, optimum: Optimum, estimates: pd.Series, chosen: Sequence[Parameter], level: float
) -> list[tuple[str, tuple[float, float]]]:
    for p in chosen:
        if p.kind != "sigma" and p.position in optimum.fixed:
            raise DesignError(f"{p.label} was fixed, not estimated: it has no standard error.")
        _refuse_at_boundary(p, estimates)
    out = []
    for p, low, high in zip(chosen, *wald_ends(cp, optimum, [target_of(p) for p in chosen], level), strict=True):
        if np.isnan(low) or on_a_ridge(optimum, p):
            raise DesignError(
                f"{p.label} has no Wald interval: the criterion has no curvature along it at the estimate, as on a "
                "ridge or at a boundary, so that there is no standard error. Use method='profile', or the posterior."
            )
        ends = (float(low), float(high))
        if p.kind == "icc":
            ends = float(share(np.array(low))), float(share(np.array(high)))
        out.append((p.label, ends))
    return out


def _refuse_at_boundary(p: Parameter, estimates: pd.Series) -> None:
    if p.kind == "sigma":
        return
    value = estimates[f"sd_{p.label.partition('_')[2]}" if p.kind in ("ratio", "icc") else p.label]
    why = ""
    if p.kind == "corr":
        if np.isnan(value):
            why = "it is not defined, since one of its standard deviations is estimated as 0"
        elif abs(value) > 1.0 - 1e-9:
            why = f"its estimate is {near_end(value)}, the end of its range"
    elif value == 0:
        why = "its estimate is 0, the end of its range"
    if why:
        raise DesignError(
            f"{p.label} has no Wald interval: {why}. There the criterion has a slope, not a minimum, so that its "
            "curvature is no standard error and the estimate is not approximately normal. Use method='profile' "
            "(one-sided at the boundary), method='pivot' for the ratio or ICC, or the posterior."
        )


def pivot(design: Design, cp: SummedDesign, labels: Labels, level: float) -> pd.DataFrame:
    """Exact intervals of variance ratios and intraclass correlations; by default of all effects that have one.

    Raises
    ------
    DesignError
        A label of another kind of parameter, or an effect without a pivot.
    """
    refuse_ratio(design)
    if labels is not None:
        chosen = choose_parameters(design, labels)
        for p in chosen:
            if p.kind not in ("ratio", "icc"):
                what = p.label.partition("_")[2] if p.kind == "sd" else "g[x]"
                raise DesignError(
                    f"{p.label} has no pivot: F is one for the ratio of a variance to the residual variance. Ask for "
                    f"'ratio_{what}' or 'icc_{what}', or use method='profile'."
                )
        return _frame(chosen, [_pivot(design if design.facts is None else cp, p, level) for p in chosen])
    found, refused = {}, {}
    for sd in [p for p in parameters(design) if p.kind == "sd"]:
        for kind in ("ratio", "icc"):
            p = replace(sd, kind=kind, label=f"{kind}_{sd.label[3:]}")
            try:
                found[p] = _pivot(design if design.facts is None else cp, p, level)
            except DesignError as error:
                refused[p.label] = str(error)
    if not found:
        raise DesignError(next(iter(refused.values())))
    frame = _frame(list(found), list(found.values()))
    frame.attrs["refused"] = refused
    return frame


def _pivot(source: Design | SummedDesign, p: Parameter, level: float) -> tuple[float, float]:
    from bayeslmm.inference.ratio import pivot_interval
    from bayeslmm.inference.spectral import spectrum

    low, high = (float(end[0]) for end in pivot_interval(spectrum(source, p.position, p.effects), level))
    return (float(share(np.array(low))), float(share(np.array(high)))) if p.kind == "icc" else (low, high)
