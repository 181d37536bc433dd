"""Several panels: those of a new figure, or axes that are given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bayeslmm.errors import DesignError
from bayeslmm.plots.style import headed, legend_below, legend_entries, wrapped
from bayeslmm.plots.subject import Subject, check_axes


def panels_or_new(ax: Any, function: str, count: int, inches: tuple[float, float], across: int = 3) -> list[Any]:
    """The axes that were given, one for each panel, or those of a new figure with panels of some width and height.

    Raises
    ------
    DesignError
        Something else than axes, or too few or too many of them.
    """
    import matplotlib.pyplot as plt

    if ax is None:
        columns = count if count <= across else min(across, 2 if count == 4 else across)
        rows = -(-count // columns)
        size = (inches[0] * columns, inches[1] * rows)
        _, grid = plt.subplots(rows, columns, squeeze=False, figsize=size, layout="constrained")
        for spare in grid.ravel()[count:]:
            spare.set_axis_off()
        return list(grid.ravel()[:count])
    return given_axes(ax, function, count)


def given_axes(ax: Any, function: str, count: int) -> list[Any]:
    """The axes that were given, one for each panel.

    Raises
    ------
    DesignError
        Something else than axes, or too few or too many of them.
    """
    given = list(np.ravel(ax)) if isinstance(ax, list | tuple | np.ndarray) else [ax]
    for one in given:
        check_axes(one, function)
    if len(given) != count:
        raise DesignError(
            f"{function}() draws {count} panel{'s' * (count != 1)}, and ax= has {len(given)} axes. Give one for each, "
            "or ask for fewer panels."
        )
    return given


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
