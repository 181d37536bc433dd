"""Profile likelihood, prior and posterior of one standard deviation on one axis."""

from __future__ import annotations

from typing import Any

import numpy as np

from bayeslmm.arguments import instance, text
from bayeslmm.bayes.at_means import place
from bayeslmm.bayes.prior_draws import draw_term_sds
from bayeslmm.bayes.priors import Flat, SdPrior
from bayeslmm.comparison import Comparison
from bayeslmm.comparison.tables import is_scale
from bayeslmm.errors import DesignError
from bayeslmm.plots.style import (
    NEUTRAL,
    POSTERIOR,
    PRIOR,
    REML,
    grid_for,
    posterior_density,
    response_name,
    tidy_axes,
    widest,
    wrapped,
)
from bayeslmm.results.intervals import density
from bayeslmm.results.labels import Parameter, find
from bayeslmm.types import FloatArray

_TEXT, _LEGEND = 10, 9
# Inches of what a legend draws before a text.
_HANDLE = 0.45
_PRIOR_DRAWS = 20_000


def plot_boundary(both: Comparison, parameter: str, axes: Any = None) -> Any:
    """REML profile likelihood, prior and posterior of one standard deviation.

    The product of profile likelihood and prior, normalised, is drawn beside the posterior. The posterior is prior
    times the likelihood *averaged* over the other parameters and their priors, where the profile takes its maximum over
    them. With one random effect the two are alike; with correlated effects and few levels the posterior can lie far
    from the product.

    Parameters
    ----------
    both : Comparison
    parameter : str
        ``"sd_Batch"`` or ``"sd_Subject[Days]"``. The label of a variance (``"var_Batch"``, ``"sigma^2"``) will do; the
        figure is one of its square root, which the priors are densities of.
    axes : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    DesignError
        Not the label of a standard deviation.
    """
    import matplotlib.pyplot as plt

    text("parameter", parameter, "the label of a standard deviation", DesignError)
    p = find(both.design, _sd_label(both, parameter))
    if p.kind not in ("sd", "sigma"):
        known = ", ".join(q.label for q in both.parameters if is_scale(q))
        raise DesignError(f"plot_boundary shows standard deviations; {p.label!r} is none. The model has: {known}.")
    if axes is not None:
        from matplotlib.axes import Axes

        instance("axes", axes, Axes, "Axes of matplotlib", DesignError)
    else:
        _, axes = plt.subplots(figsize=(6.6, 4.8), layout="constrained")
    grid = grid_for(both, p)
    posterior = posterior_density(both, p, grid)
    top = _curves(both, p, grid, posterior, axes)
    _marks(both, p, grid, posterior, axes)
    axes.set_xlim(grid[0], grid[-1])
    axes.set_ylim(0, 1.1 * top)
    tidy_axes(axes)
    _words(both, p, axes)
    return axes


def _sd_label(both: Comparison, label: str) -> str:
    """The label of an sd for that of its variance; others as they are."""
    if label == "sigma^2":
        return "sigma"
    own = {known.label for known in both.parameters}
    return f"sd_{label[4:]}" if str(label).startswith("var_") and label not in own else label


def _words(both: Comparison, p: Parameter, axes: Any) -> None:
    inches = axes.get_position().width * axes.figure.get_figwidth()
    label = wrapped(f"{p.label} ({_unit(both, p)})", inches, _TEXT)
    axes.set_xlabel(label, fontsize=_TEXT)
    axes.set_title(wrapped("Profile likelihood, prior and posterior", inches, 11), fontsize=11, loc="left")
    # Below tick labels and label, in units of the font size: nowhere inside would it lie clear of all curves.
    pad = 3.6 + 1.35 * (1 + label.count("\n"))
    handles, labels = axes.get_legend_handles_labels()
    columns = 2 if inches > 1.7 * (widest(labels, _LEGEND) + _HANDLE) else 1
    axes.legend(
        handles,
        labels,
        frameon=False,
        fontsize=_LEGEND,
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        borderaxespad=pad,
        ncols=columns,
    )


def _unit(both: Comparison, p: Parameter) -> str:
    effect = p.term.removeprefix("sd__")
    per = "" if effect in ("Intercept", "Observation") else f" per unit of {effect}"
    return f"units of {response_name(both)}{per}"


def _curves(both: Comparison, p: Parameter, grid: FloatArray, posterior: FloatArray, axes: Any) -> float:
    """Draw them; the height of posterior and product."""
    coarse = np.linspace(grid[0], grid[-1], 61)
    curve = both.reml.profile(p.label, coarse)["criterion"].to_numpy()
    likelihood = np.exp(-0.5 * (np.interp(grid, coarse, curve) - both.reml.criterion))
    prior, text, prior_density = _prior(both, p, grid)
    product = likelihood * prior_density
    area = float(np.trapezoid(product, grid))
    top = posterior.max()
    axes.fill_between(grid, posterior, color=POSTERIOR, alpha=0.2, linewidth=0)
    axes.plot(grid, posterior, color=POSTERIOR, linewidth=2, label="posterior density")
    axes.plot(grid, likelihood * top, color=REML, linewidth=2, label="REML profile likelihood (scaled)")
    shown = prior_density if prior.proper else np.full(grid.size, 0.1 * top)
    axes.plot(grid, shown, color=PRIOR, linewidth=1.6, label=f"prior: {text}")
    if not (np.isfinite(area) and area > 0):
        return float(top)
    axes.plot(grid, product / area, color=NEUTRAL, linestyle="--", linewidth=1, label="profile likelihood x prior")
    return max(float(top), float(product.max()) / area)


def _prior(both: Comparison, p: Parameter, grid: FloatArray) -> tuple[SdPrior, str, FloatArray]:
    """The prior, in words, and its density on the grid.

    What a prior about the means of columns says of the sd at their zeros is estimated from draws.
    """
    priors, design = both.posterior.priors, both.design
    if p.kind == "sigma":
        return priors.sigma, str(priors.sigma), np.exp(priors.sigma.log_density(grid))
    prior, change = priors.sds[p.position][p.effects[0]], priors.changes[p.position]
    if change is None or not change.moved[p.effects[0]]:
        log_density = priors.log_density_sd(p.position, p.effects[0], grid)
        return prior, str(prior), np.exp(np.nan_to_num(log_density, nan=0.0))
    text = f"{prior} {place(design, p.position, p.effects[0], change)}"
    if not (all(own.proper for own in priors.sds[p.position]) and priors.sigma.proper):
        return Flat(), f"{text}, improper", np.ones(grid.size)
    rng = np.random.default_rng(0)
    draws = draw_term_sds(design, priors, p.position, _PRIOR_DRAWS, rng)[:, p.effects[0]]
    # Beyond the grid the long tail would only widen the kernel.
    inside = draws[draws <= 2.0 * grid[-1]]
    return prior, text, density(inside, p.kind, grid) * (inside.size / draws.size)


def _marks(both: Comparison, p: Parameter, grid: FloatArray, posterior: FloatArray, axes: Any) -> None:
    row = both.sd_table.loc[p.label]
    axes.plot(
        row["reml"], 0, "o", color=REML, markersize=9, clip_on=False, zorder=5, label=f"REML estimate {row['reml']:.3g}"
    )
    if p.kind != "sd":
        return
    axes.axvline(row["delta"], color=NEUTRAL, linewidth=1, linestyle=":")
    below = np.append(grid[grid < row["delta"]], row["delta"])
    axes.fill_between(
        below,
        np.interp(below, grid, posterior),
        color=POSTERIOR,
        alpha=0.45,
        linewidth=0,
        label=f"P(sd < {row['delta']:.2g}) = {row['p_below']:.2g}",
    )
