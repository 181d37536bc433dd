"""Profiles and profile intervals of the parameters of a fit, by label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from bayeslmm.design.design import Design
from bayeslmm.errors import DesignError
from bayeslmm.inference import Profile, ProfileTarget, profile_curve, profile_ends
from bayeslmm.likelihood import CrossProducts
from bayeslmm.reml import Optimum
from bayeslmm.results.intervals import check_range
from bayeslmm.results.labels import Parameter, find, parameters
from bayeslmm.types import FloatArray

_DERIVED = ("ratio", "icc")


def find_derived(design: Design, label: str) -> Parameter:
    """The parameter of a label, that of a variance ratio or intraclass correlation included.

    ``ratio_g[x]`` is ``sd_g[x]^2 / sigma^2``, ``icc_g[x]`` is ``sd_g[x]^2 / (sd_g[x]^2 + sigma^2)``.

    Raises
    ------
    DesignError
        No such parameter, or several.
    """
    kind, _, rest = label.partition("_")
    if kind not in _DERIVED or not rest:
        return find(design, label)
    sd = find(design, f"sd_{rest}")
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


def profile_frame(cp: CrossProducts, optimum: Optimum, parameter: Parameter, values: ArrayLike | None) -> pd.DataFrame:
    """Values of a parameter and the criterion minimised over the others."""
    target = target_of(parameter)
    if values is None:
        ends = profile_ends(cp, optimum, [target], 0.995)
        lower, upper = float(ends[0][0]), float(ends[1][0])
        if parameter.kind == "icc":
            lower, upper = (float(share(np.array(end))) for end in (lower, upper))
        lower = 0.0 if parameter.kind in ("sd", *_DERIVED) else lower
        grid = np.linspace(lower, upper, 41)
    else:
        grid = np.atleast_1d(np.asarray(values, dtype=float))
        _check_values(grid, parameter)
    with np.errstate(divide="ignore"):
        at = grid / (1.0 - grid) if parameter.kind == "icc" else grid
    return pd.DataFrame({"value": grid, "criterion": profile_curve(Profile(cp, optimum, target), at)})


def _check_values(grid: FloatArray, parameter: Parameter) -> None:
    if parameter.kind == "icc" and not ((grid >= 0) & (grid < 1)).all():
        raise DesignError(f"{parameter.label} takes values from 0 to below 1; {grid.tolist()} were asked for.")
    check_range(grid, "sd" if parameter.kind in _DERIVED else parameter.kind, parameter.label)


def profile_intervals(
    cp: CrossProducts, optimum: Optimum, chosen: Sequence[Parameter], estimates: pd.Series, level: float
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
        Unknown label, or one twice.
    """
    if labels is None:
        return list(parameters(design))
    return [find_derived(design, label) for label in ([labels] if isinstance(labels, str) else labels)]
