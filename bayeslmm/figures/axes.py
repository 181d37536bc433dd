"""Axes to draw into: those that are given, or those of a new figure."""

from __future__ import annotations

from typing import Any

import numpy as np

from bayeslmm.arguments import kind_of
from bayeslmm.arguments import shown as shown_value
from bayeslmm.errors import DesignError


def found(given: object) -> str:
    """What somebody gave, for messages."""
    if given is None:
        return "None"
    kind = kind_of(given)
    if isinstance(given, str | bool | int | float):
        return f"{shown_value(given)}, {kind}"
    if isinstance(given, list | tuple | dict | set):
        return f"{kind} of length {len(given)}"
    return kind


def axes_or_new(axes: Any, function: str, inches: tuple[float, float]) -> Any:
    """The axes that were given, or those of a new figure of some width and height.

    Raises
    ------
    DesignError
        Something else than axes.
    """
    import matplotlib.pyplot as plt

    if axes is None:
        return plt.subplots(figsize=inches, layout="constrained")[1]
    check_axes(axes, function)
    return axes


def check_axes(axes: Any, function: str) -> None:
    """Refuse what cannot be drawn into.

    Raises
    ------
    DesignError
    """
    from matplotlib.axes import Axes

    if not isinstance(axes, Axes):
        raise DesignError(
            f"{function}() got {found(axes)} as the axes to draw into. Give one matplotlib.axes.Axes, e.g. that of "
            "figure, axes = plt.subplots(); with several, one of them: axes[0]."
        )
    if axes.name != "rectilinear":
        raise DesignError(
            f"{function}() got {axes.name} axes to draw into, whose scales and spines are others than those of its "
            "figure. Give axes without projection=, e.g. that of figure, axes = plt.subplots()."
        )


def panels_or_new(ax: Any, function: str, count: int, inches: tuple[float, float], across: int = 3) -> list[Any]:
    """The axes that were given, one for each panel, or those of a new figure with panels of some width and height.

    Raises
    ------
    DesignError
        Something else than axes, or too few or too many of them.
    """
    import matplotlib.pyplot as plt

    if ax is None:
        columns = 2 if count == 4 else min(across, count)
        rows = -(-count // columns)
        size = (inches[0] * columns, inches[1] * rows)
        _, grid = plt.subplots(rows, columns, squeeze=False, figsize=size, layout="constrained")
        for spare in grid.ravel()[count:]:
            spare.remove()
        return list(grid.ravel()[:count])
    return given_axes(ax, function, count)


def given_axes(ax: Any, function: str, count: int) -> list[Any]:
    """The axes that were given, one for each panel.

    Raises
    ------
    DesignError
        Something else than axes, or too few or too many of them.
    """
    given = list(ax.ravel()) if isinstance(ax, np.ndarray) else list(ax) if isinstance(ax, list | tuple) else [ax]
    for one in given:
        check_axes(one, function)
    if len(given) != count:
        raise DesignError(
            f"{function}() draws {count} panel{'s' * (count != 1)}, and ax= has {len(given)} axes. Give one for each, "
            "or ask for fewer panels."
        )
    return given
