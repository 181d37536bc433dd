"""Profiles and profile intervals of the parameters of a fit, by label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from bayeslmm.design.design import Design
from bayeslmm.errors import DesignError
from bayeslmm.inference import Profile, ProfileTarget, profile_curve, profile_interval
from bayeslmm.likelihood import CrossProducts
from bayeslmm.reml import Optimum
from bayeslmm.results.intervals import check_range
from bayeslmm.results.labels import Parameter, find, parameters


def make_profile(cp: CrossProducts, optimum: Optimum, parameter: Parameter) -> Profile:
    """The profile of an sd, a correlation or sigma.

    Raises
    ------
    DesignError
        The parameter is a fixed effect.
    """
    if parameter.kind == "fixed":
        raise DesignError(
            f"The profile of the fixed effect {parameter.label!r} is not available; its Wald interval is in confint()."
        )
    return Profile(cp, optimum, ProfileTarget(parameter.kind, parameter.position, parameter.effects))


def profile_frame(cp: CrossProducts, optimum: Optimum, parameter: Parameter, values: ArrayLike | None) -> pd.DataFrame:
    """Values of a parameter and the criterion minimised over the others."""
    profile = make_profile(cp, optimum, parameter)
    if values is None:
        lower, upper = profile_interval(profile, 0.995)
        lower = 0.0 if parameter.kind == "sd" else lower
        grid = np.linspace(lower, upper, 41)
    else:
        grid = np.atleast_1d(np.asarray(values, dtype=float))
        check_range(grid, parameter.kind, parameter.label)
    return pd.DataFrame({"value": grid, "criterion": profile_curve(profile, grid)})


def variance_interval(
    cp: CrossProducts, optimum: Optimum, parameter: Parameter, estimate: float, level: float
) -> tuple[float, float]:
    """Profile interval; the whole range of a correlation that is not defined."""
    profile = make_profile(cp, optimum, parameter)
    if parameter.kind == "corr" and np.isnan(estimate):
        return profile.range
    return profile_interval(profile, level)


def choose_parameters(design: Design, labels: str | Sequence[str] | None, method: str) -> list[Parameter]:
    """Parameters that intervals are asked for.

    Raises
    ------
    DesignError
        Unknown method or label; Wald intervals of variance parameters.
    """
    if method not in ("profile", "wald"):
        raise DesignError(f"method={method!r} is unknown. Use 'profile' or 'wald'.")
    if labels is not None:
        chosen = [find(design, label) for label in ([labels] if isinstance(labels, str) else labels)]
    else:
        chosen = [p for p in parameters(design) if method == "profile" or p.kind == "fixed"]
    if method == "wald" and any(p.kind != "fixed" for p in chosen):
        raise DesignError(
            "Wald intervals of standard deviations and correlations are not offered: they are symmetric, can be "
            "negative and are undefined at zero. Use method='profile', or the posterior."
        )
    return chosen
