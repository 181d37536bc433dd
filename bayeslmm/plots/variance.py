"""Variance components of both engines, one panel each."""

from __future__ import annotations

from typing import Any

import numpy as np

from bayeslmm.comparison import Comparison
from bayeslmm.comparison.tables import shown_label
from bayeslmm.plots.style import ML, POSTERIOR, REML, grid_for, posterior_density, tidy_axes, wrapped
from bayeslmm.results.labels import Parameter

_WIDTH, _HEIGHT, _TITLE = 4.4, 2.7, 10
# Height of a line of the titles.
_LINE = 0.17


def plot_variance(both: Comparison) -> Any:
    """Posterior density, REML and ML estimates and the intervals of every sd, correlation and sigma.

    Parameters
    ----------
    both : Comparison
        With ``scale="variance"`` variances are drawn in place of sds, with the numbers of its table.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))
    >>> axes = bl.plot_variance(bl.compare(model.fit(), model.sample(500, random_seed=1)))
    >>> len(axes)
    2
    """
    import matplotlib.pyplot as plt

    chosen = [p for p in both.parameters if p.kind != "fixed"]
    columns = min(len(chosen), 2)
    rows = -(-len(chosen) // columns)
    titles = [wrapped(shown_label(p, both.scale), _WIDTH - 0.4, _TITLE) for p in chosen]
    height = _HEIGHT + _LINE * max(title.count("\n") for title in titles)
    figure, panels = plt.subplots(rows, columns, squeeze=False, figsize=(_WIDTH * columns, height * rows + 0.6))
    figure.set_layout_engine("constrained", h_pad=0.08, w_pad=0.06)
    axes = panels.ravel()
    for axis, p, title in zip(axes, chosen, titles, strict=False):
        _panel(both, p, axis)
        axis.set_title(title, fontsize=_TITLE)
    for axis in axes[len(chosen) :]:
        axis.set_visible(False)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return axes[: len(chosen)]


def _panel(both: Comparison, p: Parameter, axis: Any) -> None:
    row = both.table.loc[shown_label(p, both.scale)]
    grid = grid_for(both, p, scale=both.scale)
    height = posterior_density(both, p, grid, scale=both.scale)
    top = float(height.max())
    percent = f"{100 * both.level:g} %"
    axis.fill_between(grid, height, color=POSTERIOR, alpha=0.25, linewidth=0)
    axis.plot(grid, height, color=POSTERIOR, label="posterior density")
    axis.plot(
        [row["hdi_low"], row["hdi_high"]],
        [-0.08 * top] * 2,
        color=POSTERIOR,
        linewidth=4,
        solid_capstyle="butt",
        label=f"posterior {percent} HDI",
    )
    axis.plot(
        [row["reml_low"], row["reml_high"]],
        [-0.19 * top] * 2,
        color=REML,
        linewidth=4,
        solid_capstyle="butt",
        label=f"REML {percent} profile",
    )
    if np.isfinite(row["reml"]):
        axis.plot(
            row["reml"],
            -0.19 * top,
            "o",
            color="white",
            markeredgecolor=REML,
            markersize=7,
            label="REML",
            clip_on=False,
        )
    if np.isfinite(row["ml"]):
        axis.plot(row["ml"], -0.30 * top, "d", color=ML, markersize=7, label="ML", clip_on=False)
    axis.plot(
        row["median"],
        -0.08 * top,
        "o",
        color="white",
        markeredgecolor=POSTERIOR,
        markersize=6,
        label="posterior median",
    )
    axis.set_ylim(-0.38 * top, 1.05 * top)
    axis.locator_params(axis="x", nbins=6)
    if p.kind == "corr":
        axis.set_xlim(-1.05, 1.05)
    tidy_axes(axis)
