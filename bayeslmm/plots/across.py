"""The horizontal axis of a figure by levels: numbers and dates at their places, names side by side."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

import numpy as np

from bayeslmm.design.names import in_plot
from bayeslmm.means.averages import text_of
from bayeslmm.plots.style import widest, wrapped

# Font sizes, the second of upright labels.
_FONT, _SMALL = 10, 8
# Inches between two labels, of a line of upright ones, and of such a line at most.
_APART, _LINE, _UPRIGHT = 0.1, 0.135, 1.8
# Margins of Matplotlib at both ends together, as a share of the data.
_MARGINS = 1.1


@dataclass(frozen=True)
class Across:
    """Where values stand, and what the places mean."""

    kind: Literal["numbers", "dates", "names"]
    places: dict[Any, float]

    def dress(self, ax: Any) -> str:
        """Ticks that do not touch each other; what they leave out, in words."""
        names, at, inches = [label(value) for value in self.places], list(self.places.values()), _inches(ax)
        if self.kind == "names":
            return _named(ax, names, inches)
        gap = float(np.diff(np.sort(at)).min(initial=np.inf)) * inches / (_MARGINS * (np.ptp(at) or 1.0))
        if gap >= widest(names, _FONT) + _APART:
            ax.set_xticks(at, [in_plot(name) for name in names])
        elif self.kind == "dates":
            _dated(ax)
        # Else round numbers, as on any scale.
        return ""


def across(values: Sequence[Any]) -> Across:
    """Places of distinct values, in their order."""
    if values and all(isinstance(value, dt.date) for value in values):
        dates: Any = import_module("matplotlib.dates")
        return Across("dates", {value: float(dates.date2num(value)) for value in values})
    try:
        numbers = {value: float(str(value)) for value in values}
    except ValueError:
        numbers = {}
    if numbers and np.isfinite(list(numbers.values())).all():
        return Across("numbers", numbers)
    return Across("names", {value: float(k) for k, value in enumerate(values)})


def label(value: Any) -> str:
    """A value as text; a date without the hour of midnight."""
    if isinstance(value, dt.datetime) and value.time() == dt.time():
        return str(value.date())
    return text_of(value)


def _inches(ax: Any) -> float:
    """Width of the panel as it will be drawn, next to its legend."""
    figure = ax.figure.figure
    figure.draw_without_rendering()
    return float(ax.get_window_extent().width / figure.dpi)


def _dated(ax: Any) -> None:
    dates: Any = import_module("matplotlib.dates")
    locator = dates.AutoDateLocator(maxticks=8)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))


def _named(ax: Any, names: list[str], inches: float) -> str:
    """Names below their places, in lines if need be, else upright; of very many every second, third and so on."""
    room = inches / (_MARGINS * max(len(names) - 1, 1)) - _APART
    words = [word for name in names for word in name.split()]
    if max(widest(words, _FONT), 8 * widest(["x"], _FONT)) <= room or widest(names, _FONT) <= room:
        ax.set_xticks(range(len(names)), [wrapped(name, room, _FONT) for name in names])
        return ""
    texts = [wrapped(name, _UPRIGHT, _SMALL) for name in names]
    thick = _LINE * (1 + max(text.count("\n") for text in texts))
    every = int(np.ceil(_MARGINS * (len(names) - 1) * thick / inches)) or 1
    ax.set_xticks(range(0, len(names), every), texts[::every], rotation=90, fontsize=_SMALL)
    return f"one level in {every} is labelled" if every > 1 else ""
