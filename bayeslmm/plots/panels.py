"""What stands about the panels: names and notes of our own figure, or in axes that are given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bayeslmm.plots.style import headed, legend_below, legend_entries, wrapped
from bayeslmm.plots.subject import Subject


def finish_given(axes: Sequence[Any], notes: Sequence[str] = ()) -> None:
    """In somebody's own figure, whose size stays: notes under the first panel, names of all in the last."""
    if notes:
        first = axes[0]
        inches = first.get_position().width * first.figure.get_figwidth()
        first.set_xlabel("\n".join([first.get_xlabel(), *(wrapped(text, inches, 8) for text in notes)]))
    handles, names = legend_entries(axes)
    axes[-1].legend(handles, [wrapped(name.replace(r"\$", "$"), 2.6, 8) for name in names], frameon=False, fontsize=8)


def finish_panel(axis: Any, shown: Subject, notes: Sequence[str], *, own: bool) -> None:
    """Model and notes above, names below a figure of one panel that is our own; else as `finish_given`."""
    if not own:
        finish_given([axis], notes)
        return
    figure = axis.figure
    extra = headed(figure, shown, *notes) + legend_below(figure, [axis])
    figure.set_figheight(figure.get_figheight() + extra)
