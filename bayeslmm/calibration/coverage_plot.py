"""Coverage of the intervals of a design, one line for every parameter and method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bayeslmm.arguments import instance
from bayeslmm.design.names import in_plot
from bayeslmm.errors import FitError
from bayeslmm.plots.style import NEUTRAL, REML
from bayeslmm.plots.subject import check_axes

if TYPE_CHECKING:
    from bayeslmm.calibration.coverage_result import Coverage


def plot_shares(found: Coverage, ax: Any = None) -> Any:
    """Draw `Coverage.plot`."""
    import matplotlib.pyplot as plt

    table = found.table
    if ax is not None:
        from matplotlib.axes import Axes

        instance("ax", ax, Axes, "Axes of matplotlib", FitError)
    else:
        _, ax = plt.subplots(figsize=(7, 1.2 + 0.28 * len(table)), layout="constrained")
    check_axes(ax, "plot")
    places = np.arange(len(table))
    shares, error = table["coverage"].to_numpy(), 2.0 * table["mc_error"].to_numpy()
    ax.axvline(found.level, color=NEUTRAL, linewidth=0.8)
    ax.errorbar(shares, places, xerr=error, fmt="o", color=REML, markersize=4, linewidth=1.2)
    ax.set_yticks(places, [in_plot(f"{p}, {m}") for p, m in zip(table["parameter"], table["method"], strict=True)])
    ax.set_ylim(len(table) - 0.5, -0.5)
    ax.set_xlabel(f"Coverage of {found.level:.0%} intervals, with two Monte Carlo errors")
    ax.set_title(in_plot(f"{found.formula}: {found.done} responses"), fontsize=10)
    return ax
