"""The ECDF differences of a calibration in their simultaneous band."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import Any

import numpy as np

from bayeslmm.arguments import instance
from bayeslmm.calibration.bands import ecdf_difference
from bayeslmm.design.names import in_plot
from bayeslmm.errors import FitError
from bayeslmm.figures.axes import check_axes
from bayeslmm.plots.style import ML, NEUTRAL, POSTERIOR, PRIOR, REML
from bayeslmm.types import FloatArray, IntArray


def plot_calibration(
    ranks: IntArray,
    draws: int,
    band: tuple[FloatArray, FloatArray],
    passed: Mapping[str, bool],
    title: str,
    ax: Any = None,
) -> Any:
    """Draw `Calibration.plot`.

    Parameters
    ----------
    ranks : IntArray, shape (replicates, quantities)
        From 0 to `draws`.
    draws : int
    band : tuple of FloatArray, shape (draws,) each
        Lower and upper end.
    passed : mapping of str to bool
        Quantity to whether it stays inside.
    title : str
    ax : matplotlib Axes, optional
    """
    import matplotlib.pyplot as plt

    if ax is not None:
        from matplotlib.axes import Axes

        instance("ax", ax, Axes, "Axes of matplotlib", FitError)
    else:
        _, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    check_axes(ax, "plot")
    places = np.arange(draws + 2) / (draws + 1)
    ends = [np.concatenate([[0.0], end, [0.0]]) for end in band]
    ax.fill_between(places, *ends, color=NEUTRAL, alpha=0.2, linewidth=0, label="simultaneous 99% band")
    striking = cycle([REML, ML, PRIOR])
    differences = ecdf_difference(ranks, draws).T
    for name, difference, fine in zip(passed, differences, passed.values(), strict=True):
        style = (
            {"color": POSTERIOR, "alpha": 0.5, "linewidth": 1.0}
            if fine
            else {"color": next(striking), "linewidth": 1.8}
        )
        (line,) = ax.plot(places, [0.0, *difference, 0.0], **style)
        if not fine:
            line.set_label(in_plot(f"{name} fails"))
    if any(passed.values()):
        ax.plot([], [], color=POSTERIOR, label=f"{sum(passed.values())} quantities pass")
    ax.axhline(0.0, color=NEUTRAL, linewidth=0.8)
    ax.set_xlabel("Rank of the true value among the draws / (L + 1)")
    ax.set_ylabel("ECDF - uniform")
    ax.set_title(in_plot(title), fontsize=10)
    ax.legend(fontsize=9, frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return ax
