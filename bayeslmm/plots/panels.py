"""What stands about the panels: names and notes of our own figure, or in axes that are given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bayeslmm.plots.style import headed, legend_below, legend_entries, wrapped
from bayeslmm.plots.subject import Subject

# Font size of names, inches of their marks, of a line of theirs at most, and the largest share of a panel for them.
_NAMES, _HANDLE, _LONGEST, _MOST_ROOM = 8, 0.6, 2.6, 0.6


def finish_given(axes: Sequence[Any], notes: Sequence[str] = ()) -> None:
    """In somebody's own figure, whose size stays: notes under the first panel, names of all at the top of the last."""
    for axis in axes:
        words, size = axis.get_xlabel(), axis.xaxis.label.get_fontsize()
        if "\n" in _rewrapped(words, _width(axis), size):
            # Two small lines fit into Matplotlib's margin.
            size, axis.xaxis.labelpad = _NAMES, 0.0
        axis.set_xlabel(_rewrapped(words, _width(axis), size), fontsize=size)
    if notes:
        lines = [wrapped(text, _width(axes[0]), _NAMES) for text in notes]
        axes[0].set_xlabel("\n".join([axes[0].get_xlabel(), *lines]))
    handles, names = legend_entries(axes)
    inches = min(_width(axes[-1]) - _HANDLE, _LONGEST)
    names = [_rewrapped(name, inches, _NAMES) for name in names]
    axes[-1].legend(handles, names, edgecolor="none", framealpha=1.0, fontsize=_NAMES, loc="upper left")
    _make_room(axes)


def _make_room(axes: Sequence[Any]) -> None:
    """Rows and data of all panels below the legend of the last; all, since rows of panels belong to each other."""
    legend, panel = axes[-1].get_legend(), axes[-1].get_window_extent()
    share = min((panel.y1 - legend.get_window_extent().y0) / panel.height, _MOST_ROOM)
    # Read before any is set: axes may share their heights.
    limits = [axis.get_ylim() for axis in axes]
    for axis, (bottom, top) in zip(axes, limits, strict=True):
        axis.set_ylim(bottom, bottom + (top - bottom) / (1.0 - share))


def _width(axis: Any) -> float:
    """Of a panel, inches."""
    return float(axis.get_window_extent().width / axis.figure.dpi)


def _rewrapped(text: str, inches: float, fontsize: float) -> str:
    """A text of a figure in lines of another width."""
    return wrapped(text.replace("\n", " ").replace(r"\$", "$"), inches, fontsize)


def finish_panel(axis: Any, shown: Subject, notes: Sequence[str], *, own: bool) -> None:
    """Model and notes above, names below a figure of one panel that is our own; else as `finish_given`."""
    if not own:
        finish_given([axis], notes)
        return
    figure = axis.figure
    extra = headed(figure, shown, *notes) + legend_below(figure, [axis])
    figure.set_figheight(figure.get_figheight() + extra)
