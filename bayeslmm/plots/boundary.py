"""Profile likelihood, prior and posterior of one standard deviation on one axis."""

from __future__ import annotations

from typing import Any

import numpy as np

from bayeslmm.comparison import Comparison
from bayeslmm.errors import DesignError
from bayeslmm.plots.style import NEUTRAL, POSTERIOR, PRIOR, REML, grid_for, posterior_density, tidy_axes
from bayeslmm.results.labels import Parameter, find
from bayeslmm.types import FloatArray


def plot_boundary(both: Comparison, parameter: str, axes: Any = None) -> Any:
    """REML profile likelihood x prior = posterior, for one standard deviation.

    The product of profile likelihood and prior, normalised, is drawn beside the posterior: they differ only in that
    the posterior averages over the other parameters where the profile maximises.

    Parameters
    ----------
    both : Comparison
    parameter : str
        ``"sd_Batch"`` or ``"sd_Subject[Days]"``.
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

    p = find(both.design, parameter)
    if p.kind not in ("sd", "sigma"):
        raise DesignError(f"plot_boundary shows standard deviations; {p.label!r} is none.")
    if axes is None:
        _, axes = plt.subplots(figsize=(6.6, 4.0), layout="constrained")
    grid = grid_for(both, p)
    posterior = posterior_density(both, p, grid)
    _curves(both, p, grid, posterior, axes)
    _marks(both, p, grid, posterior, axes)
    axes.set_xlim(grid[0], grid[-1])
    axes.set_ylim(0, 1.3 * posterior.max())
    axes.set_xlabel(f"{p.label} ({_unit(both, p)})")
    axes.set_title("likelihood x prior = posterior", fontsize=11, loc="left")
    axes.legend(frameon=False, fontsize=9, loc="upper right")
    tidy_axes(axes)
    return axes


def _unit(both: Comparison, p: Parameter) -> str:
    effect = p.term.removeprefix("sd__")
    per = "" if effect in ("Intercept", "Observation") else f" per unit of {effect}"
    return f"units of {both.design.response}{per}"


def _curves(both: Comparison, p: Parameter, grid: FloatArray, posterior: FloatArray, axes: Any) -> None:
    coarse = np.linspace(grid[0], grid[-1], 61)
    curve = both.reml.profile(p.label, coarse)["criterion"].to_numpy()
    likelihood = np.exp(-0.5 * (np.interp(grid, coarse, curve) - both.reml.criterion))
    priors = both.posterior.priors
    if p.kind == "sigma":
        prior, log_prior = priors.sigma, priors.sigma.log_density(grid)
    else:
        prior = priors.sds[p.position][p.effects[0]]
        log_prior = priors.log_density_sd(p.position, p.effects[0], grid)
    prior_density = np.exp(np.nan_to_num(log_prior, nan=0.0))
    product = likelihood * prior_density
    area = float(np.trapezoid(product, grid))
    top = posterior.max()
    axes.fill_between(grid, posterior, color=POSTERIOR, alpha=0.2, linewidth=0)
    axes.plot(grid, posterior, color=POSTERIOR, linewidth=2, label="posterior density")
    axes.plot(grid, likelihood * top, color=REML, linewidth=2, label="REML profile likelihood (scaled)")
    shown = prior_density if prior.proper else np.full(grid.size, 0.1 * top)
    axes.plot(grid, shown, color=PRIOR, linewidth=1.6, label=f"prior: {prior}")
    if area > 0:
        axes.plot(grid, product / area, color=NEUTRAL, linestyle="--", linewidth=1, label="profile likelihood x prior")


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
