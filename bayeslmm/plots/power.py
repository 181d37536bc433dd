"""Power curves of a study: one panel, a curve for every test and whatever else varies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bayeslmm.arguments import choice, instance, labels, shown
from bayeslmm.design.names import in_plot
from bayeslmm.errors import DesignError, FitError
from bayeslmm.plots.style import NEUTRAL, wrapped

if TYPE_CHECKING:
    import pandas as pd

# Okabe and Ito's, readable without red-green vision.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_MARKERS = "osD^v<>"
# What is usually aimed for.
_USUAL = 0.8
_TITLE = 10
_WIDTH = 7.0


def plot_power(
    table: pd.DataFrame,
    varied: Sequence[str],
    alpha: float,
    what: str,
    formula: str,
    chosen: str | Sequence[str] | None = None,
    x: str | None = None,
    ax: Any = None,
) -> Any:
    """Draw `PowerStudy.plot`: the table of a result and what was varied in it."""
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(table["parameter"]))
    known = names if chosen is None else labels("parameters", chosen, names, DesignError)
    along = _axis(table, varied, x)
    if ax is None:
        _, ax = plt.subplots(figsize=(_WIDTH, 4.2), layout="constrained")
    else:
        from matplotlib.axes import Axes

        instance("ax", ax, Axes, "Axes of matplotlib", FitError)
    others = [name for name in varied if name != along]
    own = table[table["parameter"].isin(known)]
    keys = ["parameter", "test", *others]
    for i, (key, rows) in enumerate(own.groupby(keys, sort=False, dropna=False)):
        colour, marker = _COLOURS[i % len(_COLOURS)], _MARKERS[i % len(_MARKERS)]
        at = rows[along].to_numpy() if along else np.array([0.0])
        style = {"color": colour, "marker": marker, "markersize": 4.5, "linewidth": 1.3, "capsize": 2}
        ax.errorbar(at, rows["power"], yerr=2.0 * rows["mc_error"], label=_label(key, others), **style)
    _singular(ax, own, along, others)
    ax.axhline(_USUAL, color=NEUTRAL, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    ax.axhline(alpha, color=NEUTRAL, linewidth=0.8, linestyle=(0, (1, 2)), zorder=0)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_ylim(-0.02, 1.02)
    ax.set_ylabel(f"{what.capitalize()} (bars: two Monte Carlo errors)")
    if along:
        ax.set_xlabel(in_plot(along))
        values = np.unique(table[along])
        if values.size <= 10:
            ax.set_xticks(values)
    else:
        ax.set_xticks([])
    ax.set_title(wrapped(in_plot(f"{formula}: {what} at alpha = {alpha:g}"), _WIDTH - 0.5, _TITLE), fontsize=_TITLE)
    ax.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return ax


def _axis(table: pd.DataFrame, varied: Sequence[str], x: str | None) -> str | None:
    """The column along which curves run."""
    if x is not None:
        if not varied:
            raise DesignError(f"x={shown(x)} names nothing that varies: the study has one size only. Leave x out.")
        return choice("x", x, list(varied), DesignError)
    return max(varied, key=lambda name: table[name].nunique()) if varied else None


def _label(key: tuple[Any, ...], others: Sequence[str]) -> str:
    parameter, test, *values = key
    rest = ", ".join(f"{name} = {value:g}" for name, value in zip(others, values, strict=True))
    return in_plot(f"{parameter} ({test})") + (f"\n{in_plot(rest)}" if rest else "")


def _singular(ax: Any, rows: pd.DataFrame, along: str | None, others: Sequence[str]) -> None:
    """The share of singular fits, one thin line for whatever else varies."""
    own = rows[rows["test"] != "hdi"]
    keys = [*others, *([along] if along else [])]
    own = own.drop_duplicates(keys) if keys else own.head(1)
    groups = [part for _, part in own.groupby(list(others), sort=False)] if others else [own]
    for i, part in enumerate(groups):
        at = part[along].to_numpy() if along else np.zeros(len(part))
        label = "singular fits" if i == 0 else None
        ax.plot(at, part["singular"], color=NEUTRAL, linewidth=0.9, marker=".", markersize=4, label=label)
