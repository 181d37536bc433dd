"""No pooling, REML predictions and posterior of the effects of every level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bayeslmm.arguments import shown as shown_value
from bayeslmm.comparison import Comparison
from bayeslmm.design.labels import group_labels
from bayeslmm.design.names import in_plot
from bayeslmm.errors import DesignError
from bayeslmm.faces import Posterior, REMLResult
from bayeslmm.figures.axes import given_axes
from bayeslmm.plots.levels import (
    DrawnLevels,
    Effects,
    alone,
    check_levels,
    known_levels,
    lost_effects,
    no_pooling,
    note,
)
from bayeslmm.plots.panels import finish_given
from bayeslmm.plots.style import (
    NEUTRAL,
    REML,
    headed,
    legend_below,
    posterior_style,
    response_name,
    slope_of,
    widest,
    wrapped,
)
from bayeslmm.plots.subject import Subject, subject
from bayeslmm.types import FloatArray

__all__ = ["no_pooling", "plot_shrinkage"]

# Inches between the rows of methods of a level, and of a level with room to spare; least height of a level.
_METHOD, _LEVEL, _LEAST = 0.075, 0.13, 0.045
# Inches that the levels of a factor take before they are set closer, and that a label needs.
_ROOM, _LABEL = 13.5, 0.125
# Inches that a panel has besides the names of its levels, and font sizes.
_INSIDE, _TITLE, _TEXT, _TICK = 3.3, 10, 10, 8
_ACROSS = 4
# Inches of a label in one line.
_LONGEST = 3.4


def plot_shrinkage(
    both: Comparison | REMLResult | Posterior,
    group: str | None = None,
    effect: str | None = None,
    *,
    levels: int | Sequence[object] | None = None,
    ax: Any = None,
) -> Any:
    """How far each level is drawn towards the mean.

    Per level: least squares on that level alone (of what the fixed effects leave), the REML prediction (BLUP) with its
    interval at variances taken as known, and the posterior mean with its equal-tailed interval; several posteriors have
    a colour each. The levels of a factor have the same order in all its panels, that of the first effect.

    Parameters
    ----------
    both : Comparison, REMLResult or Posterior
        A fit alone has no posterior, and a posterior alone no prediction.
    group : str, optional
        Grouping factor; all by default, one below the other.
    effect : str, optional
        One effect; all by default, a panel each.
    levels : int or sequence, optional
        How many levels of a factor to show at most, half of them the lowest and half the highest, or the labels of
        those to show. By default 400. The figure says how many are left out.
    ax : matplotlib.axes.Axes or sequence of these, optional
        One for each panel, in place of a new figure.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes
        Factor by factor, its effects in their order.

    Raises
    ------
    DesignError
        No such factor, effect or level; not a comparison, fit or posterior.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("diameter ~ 1 + (1 | plate) + (1 | sample)", bl.load_dataset("Penicillin"))
    >>> [axis.get_title() for axis in bl.plot_shrinkage(model.fit())]
    ['Intercept by plate', 'Intercept by sample']
    """
    return effects_figure(both, "plot_shrinkage", group, effect, levels, separate=True, ax=ax)


def effects_figure(both: Any, function: str, group: Any, effect: Any, levels: Any, *, separate: bool, ax: Any) -> Any:
    """Panels of the effects of all levels; `separate`: with the estimate of every level on its own."""
    import matplotlib.pyplot as plt

    shown = subject(both, function)
    if not shown.design.terms:
        raise DesignError(f"{shown.design.formula!r} has no random effects, so that {function}() has nothing to draw.")
    check_levels(levels)
    blocks = [_block(shown, name, own, levels, separate) for name, own in _asked(shown, group, effect)]
    notes = [text for block in blocks for text in block.notes(levels is not None)]
    if ax is not None:
        given = iter(given_axes(ax, function, sum(len(block.effects) for block in blocks)))
        axes = [axis for block in blocks for axis in block.draw([next(given) for _ in block.effects])]
        finish_given(axes, notes)
        return np.array(axes, dtype=object)
    figure = plt.figure(figsize=(max(block.width for block in blocks), 4.0), layout="constrained")
    grid = figure.add_gridspec(len(blocks), 1, height_ratios=[block.height for block in blocks])
    axes = [axis for k, block in enumerate(blocks) for axis in block.draw(block.panels(figure, grid[k, 0]))]
    extra = headed(figure, shown, *notes) + legend_below(figure, axes)
    figure.set_figheight(sum(block.height for block in blocks) + extra + 0.3)
    return np.array(axes, dtype=object)


def _asked(shown: Subject, group: Any, effect: Any) -> list[tuple[str, list[str]]]:
    """Grouping factors and their effects to draw."""
    known = {labels.group: list(labels.effects) for labels in group_labels(shown.design)}
    if group is not None and not (isinstance(group, str) and group in known):
        raise DesignError(f"{shown_value(group)} is not a grouping factor. The model has: {', '.join(known)}.")
    own = known if group is None else {group: known[group]}
    if effect is None:
        return list(own.items())
    found = [(name, [effect]) for name, effects in own.items() if isinstance(effect, str) and effect in effects]
    if not found:
        listed = "; ".join(f"{name} has: {', '.join(effects)}" for name, effects in own.items())
        raise DesignError(f"{shown_value(effect)} is not an effect of {' or '.join(own)}. {listed}.")
    return found


def _block(shown: Subject, group: str, effects: list[str], levels: Any, separate: bool) -> _Block:
    positions = [shown.labels(group).effects.index(name) for name in effects]
    drawn, known = known_levels(shown, group, positions[0], levels)
    return _Block(shown, drawn, effects, positions, known[0], tuple(known[1:]), separate)


@dataclass(frozen=True)
class _Block:
    """The panels of one grouping factor."""

    shown: Subject
    levels: DrawnLevels
    effects: list[str]
    positions: list[int]
    fitted: Effects | None
    drawn: tuple[Effects | None, ...]
    separate: bool

    @property
    def methods(self) -> int:
        return sum(effects is not None for effects in (self.fitted, *self.drawn))

    @property
    def columns(self) -> int:
        return -(-len(self.effects) // self.rows)

    @property
    def rows(self) -> int:
        return -(-len(self.effects) // _ACROSS)

    @property
    def step(self) -> float:
        """Height of a level, inches."""
        wanted = _LEVEL + _METHOD * (self.methods - 1)
        return max(min(wanted, _ROOM / len(self.levels.labels)), _LEAST)

    @property
    def every(self) -> int:
        """Which levels have a label: every one, every second, and so on."""
        return int(np.ceil(_LABEL / self.step))

    def notes(self, asked: bool) -> list[str]:
        """What the panels do not show, in words."""
        shown, group = self.shown, self.levels.group
        found = [note(shown, self.levels, self.effects[0], asked)]
        ordinal = {2: "2nd", 3: "3rd"}.get(self.every, f"{self.every}th")
        found.append(f"every {ordinal} level of {group} is labelled" if self.every > 1 else "")
        found += lost_effects(shown, group, self.drawn)
        return [text for text in found if text]

    @cached_property
    def ticks(self) -> list[str]:
        return [_in_lines(label) for label in self.levels.labels[:: self.every]]

    @property
    def width(self) -> float:
        names = widest([line for label in self.ticks for line in label.split("\n")], _TICK)
        return max((_INSIDE + names) * self.columns + 0.6, 4.8)

    @property
    def titles(self) -> list[str]:
        return [wrapped(f"{name} by {self.levels.group}", _INSIDE, _TITLE) for name in self.effects]

    @property
    def height(self) -> float:
        lines = max(t.count("\n") for t in self.titles) + max(_label(self, k).count("\n") for k in self.positions)
        rows = self.step * max(float(self.levels.places[-1]) + 1.5, 2.0)
        labels = _LABEL * sum(1 + tick.count("\n") for tick in self.ticks)
        return self.rows * (0.85 + max(rows, labels) + 0.17 * lines)

    def panels(self, figure: Any, place: Any) -> list[Any]:
        """Axes of a figure, one for each effect, that share their heights."""
        cells = place.subgridspec(self.rows, self.columns)
        axes: list[Any] = []
        for k in range(len(self.effects)):
            cell = cells[k // self.columns, k % self.columns]
            axes.append(figure.add_subplot(cell, sharey=axes[0] if axes else None))
        return axes

    def draw(self, axes: list[Any]) -> list[Any]:
        separate = on_their_own(self.shown, self.levels) if self.separate else None
        for axis, title, position in zip(axes, self.titles, self.positions, strict=True):
            axis.set_title(title, fontsize=_TITLE)
            _panel(self, position, None if separate is None else separate[:, position], axis)
            axis.set_xlabel(_label(self, position), fontsize=_TEXT)
            axis.set_yticks(self.levels.places[:: self.every], self.ticks, fontsize=_TICK)
            axis.set_ylim(-0.75, self.levels.places[-1] + 0.75)
        return axes


def _in_lines(label: str) -> str:
    """A level's label as it is; a long one in lines."""
    whole = in_plot(label)
    return whole if widest([whole], _TICK) <= _LONGEST else wrapped(label, _LONGEST, _TICK)


def on_their_own(shown: Subject, levels: DrawnLevels) -> FloatArray:
    """Least-squares effects (K, c) of the levels that are drawn, on what the fixed effects leave."""
    return alone(shown.design, _fixed(shown), levels.group, levels.which, shown.lam)


def _fixed(shown: Subject) -> FloatArray:
    if shown.fit is not None:
        return np.asarray(shown.fit.fixef().to_numpy())
    return shown.tables[0]["mean"].loc[list(shown.design.fixed_names)].to_numpy(dtype=float)


def _label(block: _Block, position: int) -> str:
    design = block.shown.design
    columns = [(k, j) for k, t in enumerate(design.terms) if t.group == block.levels.group for j in range(t.Z.shape[1])]
    term, column = columns[position]
    per = f" per {design.terms[term].effects[column]}" if slope_of(design, term, column) else ""
    return wrapped(f"deviation from the mean ({response_name(design)}{per})", _INSIDE, _TEXT)


def _panel(block: _Block, position: int, separate: FloatArray | None, axis: Any) -> None:
    levels, shown = block.levels, block.shown
    y, size = levels.places, min(1.0, float(np.sqrt(block.step / 0.2)))
    axis.axvline(0.0, color="0.8", linewidth=1, zorder=0)
    if block.step > _LABEL:
        axis.hlines(y, 0, 1, transform=axis.get_yaxis_transform(), color="0.93", linewidth=0.6, zorder=-1)
    rows = 0.34 * (np.arange(block.methods) - (block.methods - 1) / 2) * min(2 / max(block.methods, 2), 1.0)
    drawn = [(k, effects) for k, effects in enumerate(block.drawn) if effects is not None]
    for row, (k, effects) in zip(rows, drawn, strict=False):
        _posterior(shown, k, _shown(effects, position, levels), y + row, size, axis)
    upper, last = y + rows[-1], block.fitted or drawn[-1][1]
    aim = _shown(last, position, levels)
    if separate is not None:
        axis.hlines(upper, separate, aim.mean, color="0.75", linewidth=0.7 * size, zorder=1)
    if block.fitted is not None:
        _prediction(shown, aim, upper, size, axis)
    if separate is not None:
        axis.plot(separate, upper, "x", color=NEUTRAL, markersize=6 * size, label="level alone (no pooling)", zorder=2)
    axis.spines[["top", "right"]].set_visible(False)
    if levels.cut:
        _gap(levels, axis)


def _shown(effects: Effects, position: int, levels: DrawnLevels) -> Effects:
    """One effect of the levels that are drawn."""
    return Effects(*(values[levels.which, position] for values in (effects.mean, effects.low, effects.high)))


def _posterior(shown: Subject, k: int, effects: Effects, y: FloatArray, size: float, axis: Any) -> None:
    mean = effects.mean
    axis.errorbar(
        mean,
        y,
        xerr=np.maximum([mean - effects.low, effects.high - mean], 0.0),
        fmt="o",
        color=posterior_style(k)["color"],
        markersize=5 * size / np.sqrt(max(1, len(shown.posteriors) - 1)),
        linewidth=1.4 * size,
        label=in_plot(shown.title(f"posterior mean, {shown.percent} interval", k)),
    )


def _prediction(shown: Subject, effects: Effects, y: FloatArray, size: float, axis: Any) -> None:
    text = f"{shown.criterion} {shown.percent} interval, variances taken as known"
    axis.hlines(y, effects.low, effects.high, color=REML, linewidth=1.1 * size, alpha=0.7, label=text, zorder=2)
    style = {"color": REML, "markersize": 4 * size, "zorder": 3}
    axis.plot(effects.mean, y, "D", label=f"{shown.criterion} prediction (BLUP)", **style)


def _gap(levels: DrawnLevels, axis: Any) -> None:
    """Where levels are left out."""
    middle = levels.cut + 0.5
    text = f"{levels.left_out:,} levels left out"
    axis.axhspan(middle - 0.7, middle + 0.7, color="0.95", linewidth=0, zorder=-2)
    axis.text(0.5, middle, text, transform=axis.get_yaxis_transform(), ha="center", va="center", fontsize=7)
