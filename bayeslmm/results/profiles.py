"""Profiles and profile intervals of the parameters of a fit, by label."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from bayeslmm.arguments import numbers_of, shown
from bayeslmm.design.design import Design
from bayeslmm.design.distinct import residual_part
from bayeslmm.errors import ArgumentError, BayesLMMWarning, ConvergenceWarning, DesignError, FitError
from bayeslmm.inference.profile import Profile, profile_curve, profile_ends
from bayeslmm.inference.profile_coordinates import ProfileTarget
from bayeslmm.likelihood import SummedDesign
from bayeslmm.reml import Optimum
from bayeslmm.reml.status import FitStatus
from bayeslmm.residual import KnownVariances
from bayeslmm.results.intervals import check_range
from bayeslmm.results.labels import Parameter, find, parameters
from bayeslmm.types import FloatArray

# Values at which a profile is asked for.
MOST_POINTS = 10_000
_DERIVED = ("ratio", "icc")
# Values of a profile that nobody asked for, and of what interval.
POINTS, WIDE = 41, 0.995
# Upper end of the values shown of a profile that does not rise to the cut, in units of the estimate and of sigma.
OPEN = 10.0


class LabelTypeError(DesignError, TypeError):
    """What was given as the label of a parameter is no text."""


def check_minimum(optimum: Optimum, chosen: Sequence[Parameter]) -> None:
    """Whether the fit is a minimum that intervals of the parameters chosen can be measured from.

    Raises
    ------
    FitError
        The criterion has no finite minimum: nothing is left for the residual.

    Warns
    -----
    BayesLMMWarning
        The fit is on a ridge that some of the parameters take part in, or is not a minimum (ConvergenceWarning).
    """
    status, sigma = optimum.status, optimum.sigma
    if status is FitStatus.non_finite or not sigma > 0:
        raise FitError(
            f"The fit has no intervals (status {status.name}): the residual standard deviation is {sigma:.3g}, zero "
            "but for rounding, so that the criterion has no finite minimum to measure a rise from and there is no "
            "distribution to simulate from. The model reproduces the response: remove a random term, or check for a "
            "response that is duplicated or computed from the predictors. fit.estimates() has the estimates."
        )
    if status is FitStatus.not_identified:
        loose = [p.label for p in chosen if on_a_ridge(optimum, p)]
        if loose:
            ridges = "; ".join(str(ridge) for ridge in optimum.ridges)
            warnings.warn(
                f"Not identified: {', '.join(loose)} ({ridges}). Their estimates are one of many points with the same "
                "criterion: bootstrap draws of them mean nothing, and profile intervals reach as far as the ridge "
                "does, without end where nothing bounds them. The other parameters are not concerned. Leave out one "
                "of the terms.",
                BayesLMMWarning,
                stacklevel=4,
            )
    elif not status.ok:
        warnings.warn(
            f"The fit is not a minimum of the criterion ({status}). Intervals are measured from the point where it "
            "stopped and should not be relied on.",
            ConvergenceWarning,
            stacklevel=4,
        )


def on_a_ridge(optimum: Optimum, p: Parameter) -> bool:
    """Whether a parameter can change along a ridge."""
    if p.kind == "fixed":
        return False
    if p.kind == "residual":
        return any(residual_part(p.label) in ridge.parts for ridge in optimum.ridges)
    names = {"residual variance"} if p.kind in ("sigma", *_DERIVED) else set[str]()
    parts = {part for ridge in optimum.ridges for part in ridge.parts}
    if p.kind == "sigma" or p.position in optimum.fixed:
        return p.kind != "corr" and bool(names & parts)
    term = optimum.cp.design.terms[p.position]
    effects = [term.effects[i] for i in p.effects]
    names |= {f"variance of {effect} in {term.label}" for effect in effects}
    names.add(f"variance in {term.label}")
    names |= {f"covariance of {a} and {b} in {term.label}" for a in effects for b in effects}
    shared = any(part.startswith("parameter ") and part.endswith(f" in {term.label}") for part in parts)
    return shared or bool(names & parts)


def refuse_ratio(design: Design) -> None:
    """Refuse ratios to a residual variance that is another one in every row.

    Raises
    ------
    DesignError
    """
    if isinstance(design.residual, KnownVariances):
        raise DesignError(
            "Ratios and intraclass correlations are those of a variance to sigma^2, and in this model every row has a "
            "residual variance of its own, which is known. fit.heterogeneity() has I2 and H2, the share and the ratio "
            "beside a typical residual variance, with their intervals; fit.icc() a share beside the mean one."
        )


def find_derived(design: Design, label: str) -> Parameter:
    """The parameter of a label, that of a variance ratio or intraclass correlation included.

    ``ratio_g[x]`` is ``sd_g[x]^2 / sigma^2``, ``icc_g[x]`` is ``sd_g[x]^2 / (sd_g[x]^2 + sigma^2)``.

    Raises
    ------
    DesignError
        No such parameter, or several.
    """
    if not isinstance(label, str):
        raise LabelTypeError(
            f"{shown(label)} is no label of a parameter, such as 'sigma'. fit.estimates().index has them."
        )
    kind, _, rest = label.partition("_")
    if kind not in _DERIVED or not rest:
        return find(design, label)
    refuse_ratio(design)
    try:
        sd = find(design, f"sd_{rest}")
    except DesignError as error:
        sds = [p.label for p in parameters(design) if p.kind == "sd"]
        several = sum(known.split("[")[0] == f"sd_{rest}" for known in sds) > 1
        what = "more than one effect of the model: it takes one" if several else "no parameter of the model"
        raise DesignError(
            f"{label!r} names {what}. There are: {', '.join(f'{kind}_{known[3:]}' for known in sds)}."
        ) from error
    if sd.kind != "sd":
        raise DesignError(f"{label!r} names no effect of a grouping factor.")
    return replace(sd, label=f"{kind}_{sd.label[3:]}", kind=kind)


def target_of(parameter: Parameter) -> ProfileTarget:
    """What is profiled for a parameter."""
    if parameter.kind == "sigma":
        return ProfileTarget("sigma")
    kind = "ratio" if parameter.kind in _DERIVED else parameter.kind
    effects = () if kind == "fixed" else parameter.effects if kind == "corr" else parameter.effects[:1]
    return ProfileTarget(kind, parameter.position, effects)


def share(ratio: FloatArray) -> FloatArray:
    """The intraclass correlation of a variance ratio."""
    return np.where(np.isinf(ratio), 1.0, ratio / (1.0 + np.where(np.isinf(ratio), 0.0, ratio)))


def profile_frame(cp: SummedDesign, optimum: Optimum, parameter: Parameter, values: ArrayLike | None) -> pd.DataFrame:
    """Values of a parameter, the criterion minimised over the others, and the signed root of its rise."""
    target = target_of(parameter)
    if values is None:
        ends = profile_ends(cp, optimum, [target], WIDE)
        lower, upper = float(ends[0][0]), float(ends[1][0])
        if parameter.kind == "icc":
            lower, upper = (float(share(np.array(end))) for end in (lower, upper))
        lower = 0.0 if parameter.kind in ("sd", *_DERIVED) else lower
        if not np.isfinite([lower, upper]).all():
            lower, upper = _shown(Profile(cp, optimum, target).estimate, optimum.sigma, parameter.kind, lower, upper)
        grid = np.linspace(lower, upper, POINTS)
    else:
        grid = grid_of(values, parameter)
        _check_values(grid, parameter)
    with np.errstate(divide="ignore"):
        at = grid / (1.0 - grid) if parameter.kind == "icc" else grid
    profile = Profile(cp, optimum, target)
    return profile_table(grid, profile_curve(profile, at), away=at - profile.estimate, minimum=profile.minimum)


def profile_table(values: FloatArray, criterion: FloatArray, away: FloatArray, minimum: float) -> pd.DataFrame:
    """A profile as a table, with zeta: the root of the rise from the minimum, negative below the estimate."""
    zeta = np.sign(away) * np.sqrt(np.maximum(criterion - minimum, 0.0))
    return pd.DataFrame({"value": values, "criterion": criterion, "zeta": zeta})


def _shown(estimate: float, sigma: float, kind: str, lower: float, upper: float) -> tuple[float, float]:
    """Ends of the values shown of a profile, in place of those at infinity."""
    width = OPEN * max(abs(estimate), 1.0 if kind == "ratio" else sigma)
    return max(lower, estimate - width), min(upper, estimate + width)


def grid_of(values: ArrayLike, parameter: Parameter) -> FloatArray:
    """Values (m,) at which a parameter is profiled.

    Raises
    ------
    DesignError
        No numbers, none, or too many.
    """
    try:
        grid = np.atleast_1d(numbers_of("values", values, finite=False))
    except ArgumentError as error:
        raise DesignError(
            f"{parameter.label} cannot be profiled at values={shown(values)}: they are no numbers. Give a number or "
            "a list "
            "of numbers."
        ) from error
    if grid.ndim > 1 or not grid.size:
        what = "is empty" if not grid.size else f"has {grid.ndim} axes"
        raise DesignError(
            f"values={shown(values)} {what}; a profile needs a number or a list of numbers. Leave values out for a "
            "grid "
            "over the interval."
        )
    if grid.size > MOST_POINTS:
        raise DesignError(
            f"values has {grid.size:,} numbers (limit {MOST_POINTS:,}), and the criterion is minimised at "
            "each. Some hundred are enough for a curve."
        )
    return grid


def _check_values(grid: FloatArray, parameter: Parameter) -> None:
    if parameter.kind == "icc" and not ((grid >= 0) & (grid < 1)).all():
        raise DesignError(f"{parameter.label} takes values from 0 to below 1; {grid.tolist()} were asked for.")
    check_range(grid, "sd" if parameter.kind in _DERIVED else parameter.kind, parameter.label)


def profile_intervals(
    cp: SummedDesign, optimum: Optimum, chosen: Sequence[Parameter], estimates: pd.Series, level: float
) -> list[tuple[float, float]]:
    """Profile intervals; the whole range of a correlation that is not defined."""
    targets = [target_of(p) for p in chosen]
    ends = []
    for p, target, low, high in zip(chosen, targets, *profile_ends(cp, optimum, targets, level), strict=True):
        one = (float(low), float(high))
        if p.kind == "corr" and np.isnan(estimates[p.label]):
            one = Profile(cp, optimum, target).range
        if p.kind == "icc":
            one = (float(share(np.array(low))), float(share(np.array(high))))
        ends.append(one)
    return ends


def choose_parameters(design: Design, labels: str | Sequence[str] | None) -> list[Parameter]:
    """Parameters that intervals are asked for.

    Raises
    ------
    DesignError
        Unknown label, none, or (LabelTypeError, also a TypeError) one that is no text.
    """
    if labels is None:
        return list(parameters(design))
    try:
        asked = [labels] if isinstance(labels, str) else list(labels)
    except Exception as error:
        raise LabelTypeError(
            f"parameters={shown(labels)} is neither a label nor a list of labels. Labels are: "
            f"{', '.join(p.label for p in parameters(design))}."
        ) from error
    if not asked:
        raise DesignError(f"parameters={shown(labels)} names no parameter. Leave it out (None) for all of them.")
    return [find_derived(design, label) for label in asked]
