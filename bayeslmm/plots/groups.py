"""The data of every group with its own line, the line of the population and that of the model: the lattice figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bayeslmm.arguments import choice
from bayeslmm.arguments import shown as shown_value
from bayeslmm.comparison import Comparison
from bayeslmm.design.formula import parse_formula
from bayeslmm.design.names import in_plot
from bayeslmm.design.newdata import known_recipe
from bayeslmm.design.observations import shown_responses
from bayeslmm.design.recipe import columns_in
from bayeslmm.design.recovered import columns_of_group, recovered_columns
from bayeslmm.errors import DesignError
from bayeslmm.faces import Posterior, REMLResult
from bayeslmm.figures.axes import given_axes
from bayeslmm.plots.group_lines import (
    GroupRows,
    group_rows,
    population_line,
    posterior_lines,
    predicted_line,
    separate_lines,
)
from bayeslmm.plots.levels import Effects, check_levels, known_levels, lost_effects, note
from bayeslmm.plots.panels import finish_given
from bayeslmm.plots.style import (
    NEUTRAL,
    REML,
    headed,
    legend_below,
    posterior_style,
    response_name,
    wrapped,
)
from bayeslmm.plots.subject import Subject, subject

# Panels that a page has room for, side by side at most; inches of one, font sizes.
_MOST, _ACROSS = 36, 9
_WIDTH, _HEIGHT, _TITLE, _TICK, _SMALL, _TEXT = 1.55, 1.5, 8.5, 7.5, 8.5, 10
_LEAST = 5.0


def plot_groups(
    both: Comparison | REMLResult | Posterior,
    x: str | None = None,
    group: str | None = None,
    *,
    levels: int | Sequence[object] | None = None,
    data: Any = None,
    ax: Any = None,
) -> Any:
    """A panel for every group: its data, and the lines that complete, no and partial pooling draw through them.

    Per group: least squares on its rows alone (no pooling), the line of the fixed effects (complete pooling, but at the
    covariates of the group), and with the effects of the group those of the fit (BLUP) and of the posterior (mean, with
    the equal-tailed interval of the group's mean). Other covariates are at the means of the group, factors at its most
    frequent level, other grouping factors at zero effects. The line of a group alone goes as far as its data.

    Parameters
    ----------
    both : Comparison, REMLResult or Posterior
        A fit alone has no posterior, and a posterior alone no prediction.
    x : str, optional
        The number along which lines run; by default the first of those whose effects vary between groups, else the
        first of the fixed part.
    group : str, optional
        Grouping factor; by default the first one in which effects of `x` vary, else the first.
    levels : int or sequence, optional
        How many groups to show at most, half of them those with the lowest and half those with the highest first
        effect, or the labels of those to show. By default 36. The figure says how many are left out.
    data : table, optional
        That which the model was made of. It is needed where a model does not keep the values of a column, as with
        ``log(x)`` or a factor that only the random part has.
    ax : sequence of matplotlib.axes.Axes, optional
        One for each group that is shown, in place of a new figure.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes
        Group by group, in the order of the levels.

    Raises
    ------
    DesignError
        No such factor, level or number; not a comparison, fit or posterior; columns that only `data` would tell.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()
    >>> axes = bl.plot_groups(fit)
    >>> len(axes), axes[0].get_title()
    (18, '308')
    """
    import matplotlib.pyplot as plt

    shown = subject(both, "plot_groups")
    if not shown.design.terms:
        raise DesignError(
            f"{shown.design.formula!r} has no random effects, so that plot_groups() has no groups to draw."
        )
    check_levels(levels)
    x, group = _asked(shown, x, group)
    drawn, (_, *known) = known_levels(shown, group, 0, _MOST if levels is None else levels)
    order = np.sort(drawn.which)
    names = columns_of_group(shown.design, group)
    at = group_rows(shown.design, group, order, recovered_columns(shown.design, names, data), x)
    left_out = note(shown, drawn, shown.labels(group).effects[0], levels is not None)
    if ax is not None:
        given = given_axes(ax, "plot_groups", len(order))
        lost = _draw(shown, at, given, known)
        _dress(shown, at, given, 1, x)
        finish_given(given, [text for text in (left_out, *lost) if text])
        return np.array(given, dtype=object)
    columns = min(len(order), max(3, min(_ACROSS, int(np.ceil(np.sqrt(2.0 * len(order)))))))
    rows = -(-len(order) // columns)
    width = max(_WIDTH * columns + 0.6, _LEAST)
    figure = plt.figure(figsize=(width, 4.0), layout="constrained")
    axes: list[Any] = []
    for k in range(len(order)):
        first = axes[0] if axes else None
        axes.append(figure.add_subplot(rows, columns, k + 1, sharex=first, sharey=first))
    lost = _draw(shown, at, axes, known)
    _dress(shown, at, axes, columns, x)
    figure.supylabel(in_plot(response_name(shown.design)), fontsize=_TEXT)
    notes = [text for text in (left_out, *lost) if text]
    extra = headed(figure, shown, *notes) + legend_below(figure, axes)
    figure.set_figheight(_HEIGHT * rows + extra + 0.5)
    return np.array(axes, dtype=object)


def _asked(shown: Subject, x: str | None, group: str | None) -> tuple[str, str]:
    """The number along which lines run, and the grouping factor."""
    design = shown.design
    known = known_recipe(design).columns
    groups = list(design.groupings)
    if group is not None:
        choice("group", group, groups, DesignError)
    own = {name: [c for c in columns_of_group(design, name) if known[c].kind == "number"] for name in groups}
    # With backquotes, which labels of effects do not have.
    bars = parse_formula(design.formula).bars
    varying = {name: columns_in([b.left for b in bars if b.group == name], dict.fromkeys(own[name])) for name in groups}
    asked = groups if group is None else [group]
    numbers = list(dict.fromkeys(c for name in asked for c in (*varying[name], *own[name])))
    if not numbers:
        raise DesignError(
            f"{design.formula!r} has no number for lines to run along, so that groups have means and no lines. "
            "plot_shrinkage() draws these."
        )
    if x is None:
        x = next((c for name in asked for c in varying[name]), numbers[0])
    elif not (isinstance(x, str) and x in numbers):
        raise DesignError(f"x={shown_value(x)} is no number of the model. It has: {', '.join(numbers)}.")
    return x, group or next((name for name in groups if x in varying[name]), groups[0])


def _draw(shown: Subject, at: GroupRows, axes: list[Any], known: Sequence[Effects | None]) -> list[str]:
    """Everything in all panels, of posteriors those whose effects are known; what cannot be drawn, in words."""
    lost = lost_effects(shown, at.group, known)
    for k, (post, effects) in enumerate(zip(shown.posteriors, known, strict=True)):
        if effects is None:
            continue
        mean, low, high = posterior_lines(post, at, shown.level)
        style = posterior_style(k)
        text = in_plot(shown.title(f"posterior mean, {shown.percent} interval", k))
        for axis, centre, bottom, top in zip(axes, mean, low, high, strict=True):
            axis.fill_between(at.grid, bottom, top, color=style["color"], alpha=0.2, linewidth=0, zorder=1)
            axis.plot(at.grid, centre, **style, linewidth=2.6, label=text, zorder=3)
    separate = separate_lines(at, shown.lam)
    _each(axes, at, separate, color=NEUTRAL, linestyle="--", linewidth=1.0, label="group alone (no pooling)", zorder=2)
    if shown.fit is None:
        population = posterior_lines(shown.posteriors[0], at, shown.level, effects=False)[0]
    else:
        population = population_line(shown.fit, at)
        own = {"color": REML, "linewidth": 1.2, "zorder": 4}
        _each(axes, at, predicted_line(shown.fit, at), label=f"{shown.criterion} prediction (BLUP)", **own)
    own = {"color": "black", "linestyle": ":", "linewidth": 1.2, "zorder": 2}
    _each(axes, at, population, label="population (fixed effects alone)", **own)
    for k, axis in enumerate(axes):
        rows = at.own(k)
        style = {"color": "0.25", "markersize": 2.8, "zorder": 5}
        text = "data" if shown.design.cells is None else "means of cells"
        axis.plot(at.x[rows], shown_responses(shown.design)[rows], "o", label=text, **style)
    alone = int(np.isnan(separate).all(axis=1).sum())
    if alone:
        lost.append(f"{alone} of {len(axes)} groups have too few rows for a line of their own")
    return lost


def _each(axes: list[Any], at: GroupRows, lines: Any, **style: Any) -> None:
    for axis, line in zip(axes, lines, strict=True):
        axis.plot(at.grid, line, **style)


def _dress(shown: Subject, at: GroupRows, axes: list[Any], columns: int, x: str) -> None:
    """Titles, and the numbers of the axes at the rim only."""
    labels = [shown.design.groupings[at.group].levels[level] for level in at.levels]
    for k, (axis, label) in enumerate(zip(axes, labels, strict=True)):
        axis.set_title(wrapped(label, _WIDTH, _TITLE), fontsize=_TITLE)
        axis.spines[["top", "right"]].set_visible(False)
        below, left = k + columns >= len(axes), k % columns == 0
        axis.tick_params(labelsize=_TICK, labelbottom=below, labelleft=left)
        axis.set_xlabel(wrapped(x, _WIDTH, _SMALL) if below else "", fontsize=_SMALL)
    drawn = np.concatenate([shown_responses(shown.design)[at.own(k)] for k in range(len(axes))])
    for axis in axes:
        axis.set_xlim(*_with_margin(float(at.x.min()), float(at.x.max())))
        axis.set_ylim(*_with_margin(float(drawn.min()), float(drawn.max()), 0.12))


def _with_margin(low: float, high: float, share: float = 0.05) -> tuple[float, float]:
    room = share * (high - low) or share * (abs(low) or 1.0)
    return low - room, high + room
