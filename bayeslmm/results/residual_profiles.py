"""Profiles and profile intervals of a fit whose residuals have parameters, by label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from bayeslmm.arguments import labels as text_labels
from bayeslmm.arguments import shown
from bayeslmm.errors import DesignError
from bayeslmm.inference.residual_ends import residual_profile_ends
from bayeslmm.inference.residual_profile import ResidualProfile
from bayeslmm.reml.residual_optimum import ResidualOptimum
from bayeslmm.results.fit import Fit
from bayeslmm.results.labels import Parameter, find
from bayeslmm.results.profiles import OPEN, POINTS, WIDE, check_minimum, grid_of, on_a_ridge, profile_table, target_of
from bayeslmm.types import FloatArray


def profile_frame_residual(optimum: ResidualOptimum, parameter: Parameter, values: ArrayLike | None) -> pd.DataFrame:
    """Values of a parameter and the criterion minimised over the others, those of the residuals among them.

    Raises
    ------
    DesignError
        A value that is no number or outside the range of the parameter.
    """
    profile = ResidualProfile(optimum, target_of(parameter))
    grid = _grid(profile) if values is None else grid_of(values, parameter)
    if values is not None:
        _check_values(grid, profile, parameter)
    away = np.array([profile.scaled(float(value)) for value in grid]) - profile.estimate
    return profile_table(grid, profile.curve(grid), away, profile.lowest[0])


def _grid(profile: ResidualProfile) -> FloatArray:
    low, high = residual_profile_ends(profile, WIDE)
    estimate = profile.natural(profile.estimate) if np.isfinite(profile.estimate) else 0.0
    if profile.target.kind == "sd":
        low = 0.0
    width = OPEN * max(abs(estimate), 1e-300)
    low = low if np.isfinite(low) else estimate - width
    return np.linspace(low, high if np.isfinite(high) else estimate + width, POINTS)


def _check_values(grid: FloatArray, profile: ResidualProfile, parameter: Parameter) -> None:
    least, most = profile.measured.bounds
    outside = grid[~(np.isfinite(grid) & (grid >= least) & (grid <= most))]
    if outside.size or (parameter.kind == "sigma" and not (grid > 0).all()):
        worst = outside[0] if outside.size else 0.0
        raise DesignError(f"{parameter.label} cannot be {worst:g}: its values are between {least:g} and {most:g}.")


def profile_ends_residual(fit: Fit, labels: str | Sequence[str] | None, level: float) -> pd.DataFrame:
    """Profile intervals: columns ``conf_low``, ``conf_high``.

    All parameters by default; those on a ridge, whose profiles are flat, then have nan.
    """
    chosen = chosen_parameters(fit, labels)
    optimum = _residual(fit.optimum)
    check_minimum(optimum, chosen)
    flat = [labels is None and on_a_ridge(optimum, p) for p in chosen]
    rows = [
        (np.nan, np.nan) if loose else residual_profile_ends(ResidualProfile(optimum, target_of(p)), level)
        for p, loose in zip(chosen, flat, strict=True)
    ]
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
            "differs between rows, so that a ratio has no one profile. The standard deviations have: "
            f"{', '.join(p.label for p in fit._parameters if p.kind == 'sd') or 'sigma'}. method='bootstrap' computes "
            "the ratio to sigma^2, the residual variance where all factors of it are one, from every refit; "
            "bootstrap(statistic='icc') the share in the mean variance, as fit.icc()."
        )
    return find(fit.design, label)


def _residual(optimum: object) -> ResidualOptimum:
    if not isinstance(optimum, ResidualOptimum):
        raise TypeError("these residuals have no parameters")
    return optimum
