"""Profiles and profile intervals of a fit whose residuals have parameters, by label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from bayeslmm.arguments import labels as text_labels
from bayeslmm.arguments import shown
from bayeslmm.design.readable import readable
from bayeslmm.errors import DesignError
from bayeslmm.inference.residual_ends import residual_profile_ends
from bayeslmm.inference.residual_profile import ResidualProfile
from bayeslmm.reml.residual_optimum import ResidualOptimum
from bayeslmm.results.fit import Fit
from bayeslmm.results.labels import Parameter, find
from bayeslmm.results.profiles import check_minimum, grid_of, target_of
from bayeslmm.types import FloatArray

# Values of a profile that nobody asked for, and of what interval.
_POINTS, _WIDE = 41, 0.995
# Where a parameter has no end, values are shown up to this many times its estimate.
_OPEN = 10.0


def profile_residual(
    fit: Fit, label: str, values: ArrayLike | None = None, *, criterion: Literal["REML", "ML"] | None = None
) -> pd.DataFrame:
    """Profile of the criterion: minimised over all parameters but one, those of the residuals among them.

    Parameters
    ----------
    label : str
        As in ``estimates()``: ``"sd_Subject[Days]"``, ``"sigma"``, ``"residual_rho"``, a fixed effect.
    values : array-like, optional
        Where to evaluate, in the units of the parameter; by default 41 points over the 99.5 % interval.
    criterion : {"REML", "ML"}, optional
        By default the one that was fitted. The REML profile of a fixed effect is minus twice the log likelihood
        with the other fixed effects integrated over a flat prior.

    Returns
    -------
    pandas.DataFrame
        Columns ``value`` and ``criterion``; inf where no covariance of the structure has that value.

    Raises
    ------
    DesignError
        No such parameter; a value that is no number or outside its range.
    FitError
        The fit leaves no residual: the criterion has no finite minimum.

    Warns
    -----
    BayesLMMWarning
        The parameter is not identified, or the fit is not a minimum.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Reaction ~ Days", bl.load_dataset("sleepstudy"), residual="ar1(Days | Subject)").fit()
    >>> curve = fit.profile("residual_rho", [0.0, 0.8])
    >>> (curve["criterion"] - fit.criterion).round(2).tolist()
    [154.46, 0.0]
    """
    parameter = found_parameter(fit, label)
    optimum = fit._by_criterion(criterion)
    check_minimum(optimum, [parameter])
    profile = ResidualProfile(_residual(optimum), target_of(parameter))
    grid = _grid(profile) if values is None else grid_of(values, parameter)
    if values is not None:
        _check_values(grid, profile, parameter)
    return readable(pd.DataFrame({"value": grid, "criterion": profile.curve(grid)}))


def _grid(profile: ResidualProfile) -> FloatArray:
    low, high = residual_profile_ends(profile, _WIDE)
    estimate = profile.natural(profile.estimate) if np.isfinite(profile.estimate) else 0.0
    if profile.target.kind == "sd":
        low = 0.0
    width = _OPEN * max(abs(estimate), 1e-300)
    low = low if np.isfinite(low) else estimate - width
    return np.linspace(low, high if np.isfinite(high) else estimate + width, _POINTS)


def _check_values(grid: FloatArray, profile: ResidualProfile, parameter: Parameter) -> None:
    least, most = profile.measured.bounds
    outside = grid[~(np.isfinite(grid) & (grid >= least) & (grid <= most))]
    if outside.size or (parameter.kind == "sigma" and not (grid > 0).all()):
        worst = outside[0] if outside.size else 0.0
        raise DesignError(f"{parameter.label} cannot be {worst:g}: its values are between {least:g} and {most:g}.")


def profile_ends_residual(fit: Fit, labels: str | Sequence[str] | None, level: float) -> pd.DataFrame:
    """Profile intervals: columns ``conf_low``, ``conf_high``, all parameters by default."""
    chosen = chosen_parameters(fit, labels)
    optimum = _residual(fit.optimum)
    check_minimum(optimum, chosen)
    profiles = [ResidualProfile(optimum, target_of(p)) for p in chosen]
    rows = [residual_profile_ends(own, level) for own in profiles]
    return pd.DataFrame(rows, index=[p.label for p in chosen], columns=["conf_low", "conf_high"], dtype=float)


def chosen_parameters(fit: Fit, labels: str | Sequence[str] | None) -> list[Parameter]:
    """The parameters of labels, all by default.

    Raises
    ------
    DesignError
        An unknown label, or none.
    """
    if labels is None:
        return list(fit._parameters)
    asked = text_labels("parameters", labels, error=DesignError)
    if not asked:
        raise DesignError(f"parameters={shown(labels)} names no parameter. Leave it out (None) for all of them.")
    return [found_parameter(fit, label) for label in asked]


def found_parameter(fit: Fit, label: str) -> Parameter:
    """The parameter of a label.

    Raises
    ------
    DesignError
        No such parameter; a ratio to the residual variance, which is not one number here.
    """
    if isinstance(label, str) and label.startswith(("ratio_", "icc_")):
        raise DesignError(
            f"{label!r} would be a ratio to sigma^2, and residuals with parameters are correlated, or their variance "
            "differs between rows: a ratio has no one meaning. The standard deviations have intervals: "
            f"{', '.join(p.label for p in fit._parameters if p.kind == 'sd') or 'sigma'}."
        )
    return find(fit.design, label)


def _residual(optimum: object) -> ResidualOptimum:
    if not isinstance(optimum, ResidualOptimum):
        raise TypeError("these residuals have no parameters")
    return optimum
