"""Coverage of the intervals of a design, one line for every parameter and method."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.arguments import instance
from bayeslmm.design.names import in_plot
from bayeslmm.errors import FitError
from bayeslmm.figures.axes import check_axes
from bayeslmm.plots.style import NEUTRAL, REML


def plot_shares(table: pd.DataFrame, level: float, title: str, ax: Any = None) -> Any:
    """Draw `Coverage.plot`: the table of a result, its level, and a title."""
    import matplotlib.pyplot as plt

    if ax is not None:
        from matplotlib.axes import Axes

        instance("ax", ax, Axes, "Axes of matplotlib", FitError)
    else:
        _, ax = plt.subplots(figsize=(7, 1.2 + 0.28 * len(table)), layout="constrained")
    check_axes(ax, "plot")
    places = np.arange(len(table))
    shares, error = table["coverage"].to_numpy(), 2.0 * table["mc_error"].to_numpy()
    ax.axvline(level, color=NEUTRAL, linewidth=0.8)
    ax.errorbar(shares, places, xerr=error, fmt="o", color=REML, markersize=4, linewidth=1.2)
    ax.set_yticks(places, [in_plot(f"{p}, {m}") for p, m in zip(table["parameter"], table["method"], strict=True)])
    ax.set_ylim(len(table) - 0.5, -0.5)
    ax.set_xlabel(f"Coverage of {level:.0%} intervals, with two Monte Carlo errors")
    ax.set_title(in_plot(title), fontsize=10)
    ax.spines[["top", "right"]].set_visible(False)
    return ax
