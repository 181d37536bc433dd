"""The ECDF differences of a calibration in their simultaneous band."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from bayeslmm.arguments import instance
from bayeslmm.calibration.bands import ecdf_difference
from bayeslmm.design.names import in_plot
from bayeslmm.errors import FitError
from bayeslmm.plots.style import ML, NEUTRAL, POSTERIOR, PRIOR, REML
from bayeslmm.plots.subject import check_axes

if TYPE_CHECKING:
    from bayeslmm.calibration.result import Calibration


def plot_calibration(calibration: Calibration, ax: Any = None) -> Any:
    """Draw `Calibration.plot`."""
    import matplotlib.pyplot as plt

    if ax is not None:
        from matplotlib.axes import Axes

        instance("ax", ax, Axes, "Axes of matplotlib", FitError)
    else:
        _, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    check_axes(ax, "plot")
    places = np.arange(calibration.draws + 2) / (calibration.draws + 1)
    ends = [np.concatenate([[0.0], end, [0.0]]) for end in calibration.band]
    ax.fill_between(places, *ends, color=NEUTRAL, alpha=0.2, linewidth=0, label="simultaneous 99% band")
    striking = cycle([REML, ML, PRIOR])
    passed = calibration.table["ok"].to_numpy()
    differences = ecdf_difference(calibration.ranks, calibration.draws).T
    for name, difference, fine in zip(calibration.quantities, differences, passed, strict=True):
        style = (
            {"color": POSTERIOR, "alpha": 0.5, "linewidth": 1.0}
            if fine
            else {"color": next(striking), "linewidth": 1.8}
        )
        (line,) = ax.plot(places, [0.0, *difference, 0.0], **style)
        if not fine:
            line.set_label(in_plot(f"{name} fails"))
    if passed.any():
        ax.plot([], [], color=POSTERIOR, label=f"{int(passed.sum())} quantities pass")
    ax.axhline(0.0, color=NEUTRAL, linewidth=0.8)
    ax.set_xlabel("Rank of the true value among the draws / (L + 1)")
    ax.set_ylabel("ECDF - uniform")
    ax.set_title(in_plot(f"{calibration.task.design.formula}: {calibration.n} replicates"), fontsize=10)
    ax.legend(fontsize=8, frameon=False)
    return ax
