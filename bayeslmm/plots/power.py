"""Power curves of a study: one panel, a curve for every test and whatever else varies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bayeslmm.arguments import choice, instance, labels, shown
from bayeslmm.design.names import in_plot
from bayeslmm.errors import DesignError, FitError
from bayeslmm.plots.style import COLOURS, LINES, MARKERS, NEUTRAL, widest, wrapped

if TYPE_CHECKING:
    import pandas as pd

# What is usually aimed for.
_USUAL = 0.8
_TITLE = 10
# Inches: width and height of the panel, a line of the legend, and the room between its entries.
_WIDTH, _HEIGHT, _LINE, _BETWEEN = 4.6, 4.2, 0.13, 0.06
_LEGEND = 8


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
    others = [name for name in varied if name != along]
    own = table[table["parameter"].isin(known)]
    keys = ["parameter", "test", *others]
    curves = list(own.groupby(keys, sort=False, dropna=False))
    if ax is None:
        entries = [*_singular_labels(own, others), *(_label(key, others) for key, _ in curves)]
        lines = [line for entry in entries for line in entry.split("\n")]
        size = (_WIDTH + widest(lines, _LEGEND) + 0.6, max(_HEIGHT, 0.7 + _LINE * len(lines) + _BETWEEN * len(entries)))
        _, ax = plt.subplots(figsize=size, layout="constrained")
    else:
        from matplotlib.axes import Axes

        instance("ax", ax, Axes, "Axes of matplotlib", FitError)
    for (key, rows), look in zip(curves, _looks([key for key, _ in curves]), strict=True):
        at = rows[along].to_numpy() if along else np.array([0.0])
        style = {**look, "markersize": 4.5, "linewidth": 1.3, "capsize": 2}
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
    title = wrapped(f"{formula}: {what} at alpha = {alpha:g}", _WIDTH - 0.6, _TITLE)
    ax.set_title(title, fontsize=_TITLE, loc="left")
    ax.legend(fontsize=_LEGEND, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return ax


def _looks(keys: Sequence[tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Colours by what is tested (and what else varies), marks and lines by the test; no two curves look alike.

    Where colours are used up they begin anew, with further marks and lines.
    """
    tests = list(dict.fromkeys(test for _, test, *_ in keys))
    quantities = list(dict.fromkeys((parameter, *rest) for parameter, _, *rest in keys))
    out = []
    for parameter, test, *rest in keys:
        turn, colour = divmod(quantities.index((parameter, *rest)), len(COLOURS))
        kind = tests.index(test) + len(tests) * turn
        marker, line = MARKERS[kind % len(MARKERS)], LINES[kind % len(LINES)]
        out.append({"color": COLOURS[colour], "marker": marker, "linestyle": line})
    return out


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
    """The share of singular fits, one thin line for whatever else varies, told apart by dashes and marks."""
    own = rows[rows["test"] != "hdi"]
    keys = [*others, *([along] if along else [])]
    own = own.drop_duplicates(keys) if keys else own.head(1)
    groups = [part for _, part in own.groupby(list(others), sort=False)] if others else [own]
    for i, (part, label) in enumerate(zip(groups, _singular_labels(rows, others), strict=True)):
        at = part[along].to_numpy() if along else np.zeros(len(part))
        marker = "." if len(groups) == 1 else MARKERS[i % len(MARKERS)]
        style = {"color": NEUTRAL, "linewidth": 0.9, "linestyle": LINES[i % len(LINES)], "marker": marker}
        ax.plot(at, part["singular"], markersize=4 if len(groups) == 1 else 3, label=label, **style)


def _singular_labels(rows: pd.DataFrame, others: Sequence[str]) -> list[str]:
    """What the lines of singular fits are called."""
    if not others:
        return ["singular fits"]
    own = rows.loc[rows["test"] != "hdi", list(others)].drop_duplicates()
    values = own.itertuples(index=False, name=None)
    rest = [", ".join(f"{name} = {value:g}" for name, value in zip(others, one, strict=True)) for one in values]
    return [f"singular fits\n{in_plot(text)}" for text in rest]
