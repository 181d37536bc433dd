"""No pooling, REML predictions and posterior of the effects of every level."""

from __future__ import annotations

from typing import Any

import numpy as np

from bayeslmm.arguments import text
from bayeslmm.comparison import Comparison
from bayeslmm.design.names import in_plot
from bayeslmm.errors import DesignError
from bayeslmm.plots.style import NEUTRAL, POSTERIOR, REML, response_name, widest, wrapped
from bayeslmm.types import FloatArray

_MOST_LEVELS = 60
# Rows between the engines, so that equal values do not hide each other.
_APART = 0.16
# Inches that a panel has besides the names of its levels, and font sizes.
_INSIDE, _TITLE, _TEXT, _TICK = 3.3, 10, 10, 8


def plot_shrinkage(both: Comparison, group: str | None = None, effect: str | None = None) -> Any:
    """How far each level is drawn towards the mean.

    Per level: least squares on that level alone (of what the fixed effects leave), the REML prediction (BLUP) and
    the posterior mean with its equal-tailed interval. The first 60 levels by REML prediction are shown.

    Parameters
    ----------
    both : Comparison
    group : str, optional
        Grouping factor; the first by default.
    effect : str, optional
        One effect; all by default, a panel each.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes
    """
    import matplotlib.pyplot as plt

    for name, value in (("group", group), ("effect", effect)):
        if value is not None:
            text(name, value, "a name, or None", DesignError)
    group = group or next(iter(both.design.groupings))
    blups = both.reml.ranef()
    if group not in blups:
        raise DesignError(f"{group!r} is not a grouping factor. The model has: {', '.join(blups)}.")
    effects = list(blups[group].columns) if effect is None else [effect]
    unknown = set(effects) - set(blups[group].columns)
    if unknown:
        raise DesignError(f"{effect!r} is not an effect of {group}. It has: {', '.join(blups[group].columns)}.")
    levels = min(len(blups[group]), _MOST_LEVELS)
    width = max(4.2, _INSIDE + widest([str(level) for level in blups[group].index], _TICK))
    titles = [wrapped(f"{name} by {group}", _INSIDE, _TITLE) for name in effects]
    lines = max(title.count("\n") for title in titles) + _label(both).count("\n")
    size = (width * len(effects) + 0.6, 1.6 + 0.22 * levels + 0.17 * lines)
    figure, panels = plt.subplots(1, len(effects), squeeze=False, figsize=size, layout="constrained")
    for axis, title in zip(panels[0], titles, strict=True):
        axis.set_title(title, fontsize=_TITLE)
    for axis, name in zip(panels[0], effects, strict=True):
        _panel(both, group, name, axis, levels)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=3 if len(effects) > 1 else 1, frameon=False, fontsize=9
    )
    return panels[0]


def _panel(both: Comparison, group: str, effect: str, axis: Any, levels: int) -> None:
    blup = both.reml.ranef()[group][effect]
    column = list(both.reml.ranef()[group].columns).index(effect)
    mean = both.posterior.ranef()[group][effect].to_numpy()
    low, high = (ends[group][effect].to_numpy() for ends in both.posterior.ranef_interval(both.level))
    # A singular fit predicts 0 for all: the posterior then decides the order.
    order = np.lexsort((mean, blup.to_numpy()))[:levels]
    alone = no_pooling(both, group)[:, column]
    y = np.arange(order.size)
    axis.axvline(0.0, color="0.8", linewidth=1)
    axis.errorbar(
        mean[order],
        y - _APART,
        xerr=np.maximum([(mean - low)[order], (high - mean)[order]], 0.0),
        fmt="o",
        color=POSTERIOR,
        markersize=5,
        linewidth=1.4,
        label=f"posterior mean, {100 * both.level:g} % interval",
    )
    axis.plot(blup.to_numpy()[order], y + _APART, "D", color=REML, markersize=4, label="REML prediction (BLUP)")
    axis.plot(alone[order], y + _APART, "x", color=NEUTRAL, markersize=6, label="level alone (no pooling)")
    axis.set_yticks(y, [in_plot(str(blup.index[k])) for k in order], fontsize=_TICK)
    axis.set_xlabel(_label(both), fontsize=_TEXT)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _label(both: Comparison) -> str:
    return wrapped(f"deviation from the mean ({response_name(both)})", _INSIDE, _TEXT)


def no_pooling(both: Comparison, group: str) -> FloatArray:
    """Least-squares effects of every level on what the fixed effects leave, (J, c); nan where not estimable."""
    design = both.design
    residual = design.y - design.X @ both.reml.fixef().to_numpy()
    if design.offset is not None:
        residual = residual - design.offset
    Z = np.concatenate([term.Z for term in design.terms if term.group == group], axis=1)
    root = np.ones(design.n) if design.row_weights is None else np.sqrt(design.row_weights)
    codes = design.groupings[group].codes
    out = np.full((design.groupings[group].n_levels, Z.shape[1]), np.nan)
    for level in range(out.shape[0]):
        rows = codes == level
        A = Z[rows] * root[rows, None]
        if np.linalg.matrix_rank(A) == Z.shape[1]:
            out[level] = np.linalg.lstsq(A, residual[rows] * root[rows])[0]
    return out
