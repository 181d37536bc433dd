"""How far rows or groups move the estimates: Cook's distances, and what each does to the fit's parameters."""

from __future__ import annotations

from typing import Any

import numpy as np

from bayeslmm.arguments import instance
from bayeslmm.design.names import in_plot
from bayeslmm.errors import DesignError
from bayeslmm.faces import REMLResult
from bayeslmm.figures.axes import axes_or_new
from bayeslmm.plots.style import NEUTRAL, POSTERIOR, REML
from bayeslmm.results.influence import Influence

# Cases that bear their label, and from how many cases on points stand for stems.
_NAMED, _MANY = 6, 400
# Beside the largest, points below this share lie on the axis.
_VISIBLE = 0.1
# Levels with their names on the axis, and the characters that stand side by side.
_TICKS, _CHARACTERS = 40, 90


def plot_influence(of: Influence | REMLResult, by: Any = None, *, ax: Any = None) -> Any:
    """Cook's distance of every case in the order of the data, the largest with their labels.

    Cases without which the fit turns singular, or is singular no longer, are marked.

    Parameters
    ----------
    of : Influence or REMLResult
        ``fit.influence(...)``, or a fit whose influence is then computed.
    by : str or sequence, optional
        As in `REMLResult.influence`, for a fit.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    DesignError
        Neither a fit nor its influence; a model without fixed effects; axes of another kind.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()
    >>> bl.plot_influence(fit, "Subject").get_ylabel()
    "Cook's distance"
    """
    what = "a fit or what fit.influence() returned"
    found = of.influence(by) if isinstance(of, REMLResult) else instance("of", of, Influence, what, DesignError)
    values = found.cooks_d.to_numpy()
    axes = axes_or_new(ax, "plot_influence", (7.0, 3.6))
    x = np.arange(values.size)
    if values.size <= _MANY:
        axes.vlines(x, 0.0, values, color=NEUTRAL, linewidth=1)
    axes.plot(x, values, "o", color=POSTERIOR, markersize=4 if values.size <= _MANY else 2)
    _mark_flips(found, x, values, axes)
    known = np.nan_to_num(values)
    for k in [k for k in np.argsort(-known)[:_NAMED] if known[k] > _VISIBLE * known.max()]:
        label = in_plot(str(found.dfbetas.index[k]))
        axes.annotate(label, (x[k], values[k]), (4, 3), textcoords="offset points", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_ylim(bottom=0.0)
    _name_cases(found, axes)
    axes.set_ylabel("Cook's distance")
    how = "variances estimated anew" if found.theta == "estimated" else "relative variances held"
    axes.set_title(in_plot(f"{found.formula.replace('`', '')}: each left out, {how}"), fontsize=9, loc="left")
    return axes


def _name_cases(found: Influence, axes: Any) -> None:
    """Levels by name where they fit, numbers of rows as whole numbers."""
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("row of the data" if found.by == "row" else in_plot(f"{found.by}, in order"))
    names = [in_plot(str(case)) for case in found.dfbetas.index]
    if found.by != "row" and len(names) <= _TICKS:
        upright = sum(map(len, names)) + 2 * len(names) > _CHARACTERS
        axes.set_xticks(range(len(names)), names, fontsize=8, rotation=90 if upright else 0)


def _mark_flips(found: Influence, x: Any, values: Any, axes: Any) -> None:
    singular = found.in_order["singular"].tolist()
    flips = [k for k, s in enumerate(singular) if s is not None and bool(s) != found.singular]
    if flips:
        text = "without it not singular" if found.singular else "without it singular"
        axes.plot(x[flips], values[flips], "D", color=REML, markersize=7, fillstyle="none", label=text)
        axes.legend(frameon=False, fontsize=8)
