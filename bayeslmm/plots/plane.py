"""Two effects of every level in their plane: no pooling, REML predictions and posterior means."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.arguments import shown as shown_value
from bayeslmm.comparison import Comparison
from bayeslmm.design.labels import group_labels
from bayeslmm.design.names import in_plot
from bayeslmm.errors import DesignError
from bayeslmm.faces import Posterior, REMLResult
from bayeslmm.figures.axes import axes_or_new
from bayeslmm.plots.levels import check_levels, known_levels, lost_effects, note
from bayeslmm.plots.panels import finish_panel
from bayeslmm.plots.shrinkage import on_their_own
from bayeslmm.plots.style import (
    LINES,
    NEUTRAL,
    REML,
    posterior_style,
    response_name,
    wrapped,
)
from bayeslmm.plots.subject import Subject, subject
from bayeslmm.types import FloatArray

# Share of all levels that an ellipse holds.
_SHARE = 0.5
_WIDTH, _HEIGHT, _LABEL = 5.6, 4.6, 10


def plot_plane(
    both: Comparison | REMLResult | Posterior,
    group: str | None = None,
    effects: Sequence[str] | None = None,
    *,
    levels: int | Sequence[object] | None = None,
    ax: Any = None,
) -> Any:
    """How far every level is drawn to the mean in the plane of two effects, such as intercept and slope.

    Per level an arrow from its own least-squares estimate (of what the fixed effects leave) to its prediction, and on
    to its posterior means. Ellipses hold half of all levels by the covariance of the effects: the estimate, and the
    posterior mean of its entries. A singular estimate is a line, or the point zero.

    Parameters
    ----------
    both : Comparison, REMLResult or Posterior
        A fit alone has no posterior, and a posterior alone no prediction.
    group : str, optional
        Grouping factor; by default the first that has two effects.
    effects : sequence of two str, optional
        Horizontal and vertical effect; the first two by default.
    levels : int or sequence, optional
        As in `plot_shrinkage`.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    DesignError
        No such factor, effect or level; no factor with two effects; not a comparison, fit or posterior.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy"))
    >>> axis = bl.plot_plane(model.fit())
    >>> axis.get_xlabel(), axis.get_ylabel()
    ('Intercept by Subject, deviation from the mean', 'Days by Subject, deviation from the mean')
    """
    shown = subject(both, "plot_plane")
    check_levels(levels)
    name, pair = _asked(shown, group, effects)
    which = [shown.labels(name).effects.index(effect) for effect in pair]
    drawn, (fitted, *posteriors) = known_levels(shown, name, which[0], levels)
    separate = on_their_own(shown, drawn)[:, which]
    axis = axes_or_new(ax, "plot_plane", (_WIDTH, _HEIGHT))
    steps = [separate]
    axis.plot(*separate.T, "x", color=NEUTRAL, markersize=6, label="level alone (no pooling)", zorder=2)
    if fitted is not None and shown.fit is not None:
        steps.append(fitted.mean[drawn.which][:, which])
        axis.plot(*steps[-1].T, "D", color=REML, markersize=5.5, label=f"{shown.criterion} prediction (BLUP)", zorder=3)
        _ellipse(
            shown.fit.varcorr_matrices()[name].loc[list(pair), list(pair)].to_numpy(),
            {"color": REML, "linestyle": "-"},
            f"{shown.criterion}: half of all levels",
            axis,
        )
    for k, (post, own) in enumerate(zip(shown.posteriors, posteriors, strict=True)):
        style = posterior_style(k)
        if own is not None:
            steps.append(own.mean[drawn.which][:, which])
            text = in_plot(shown.title("posterior mean", k))
            axis.plot(*steps[-1].T, "o", color=style["color"], markersize=3.5, label=text, zorder=4)
        covariance = _covariance(post.varcorr(), name, pair)
        if covariance is not None:
            look = {"color": style["color"], "linestyle": LINES[1 + k % (len(LINES) - 1)]}
            _ellipse(covariance, look, in_plot(shown.title("posterior: half of all levels", k)), axis)
    _arrows(steps, axis)
    _name_axes(shown, name, pair, axis)
    notes = [note(shown, drawn, pair[0], levels is not None), *lost_effects(shown, name, posteriors)]
    finish_panel(axis, shown, [text for text in notes if text], own=ax is None)
    return axis


def _asked(shown: Subject, group: Any, effects: Any) -> tuple[str, tuple[str, str]]:
    """The factor and its two effects.

    Raises
    ------
    DesignError
    """
    known = {labels.group: labels.effects for labels in group_labels(shown.design)}
    several = [name for name, own in known.items() if len(own) > 1]
    if not several:
        raise DesignError(
            f"plot_plane() draws two effects of a factor, and no factor of {shown.design.formula!r} has two. "
            "plot_shrinkage() draws one."
        )
    name = several[0] if group is None else group
    if not (isinstance(name, str) and name in several):
        raise DesignError(
            f"{shown_value(group)} is no grouping factor with two effects. There is: {', '.join(several)}."
        )
    if effects is None:
        return name, (known[name][0], known[name][1])
    own = known[name]
    listed = list(effects) if isinstance(effects, list | tuple) else [effects]
    if len(listed) != 2 or any(not isinstance(e, str) or e not in own for e in listed) or listed[0] == listed[1]:
        raise DesignError(f"effects={shown_value(effects)} are not two effects of {name}. It has: {', '.join(own)}.")
    return name, (listed[0], listed[1])


def _covariance(table: pd.DataFrame, group: str, pair: tuple[str, str]) -> FloatArray | None:
    """Posterior means (2, 2) of variances and covariance of two effects; None where effects share a variance."""
    own = table[table["group"] == group]
    found = np.zeros((2, 2))
    for first, second, value in zip(own["effect1"], own["effect2"], own["vcov"], strict=True):
        ends = [first] if pd.isna(second) else [first, second]
        if set(ends) <= set(pair):
            i, j = pair.index(ends[0]), pair.index(ends[-1])
            found[i, j] = found[j, i] = value
    return found if (np.diag(found) > 0).all() else None


def _ellipse(covariance: FloatArray, look: dict[str, Any], label: str, axis: Any) -> None:
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    angle = np.linspace(0.0, 2 * np.pi, 181)
    # The square of the radius is chi-square with two degrees of freedom.
    radius = np.sqrt(-2.0 * np.log(1.0 - _SHARE))
    points = radius * root @ np.stack([np.cos(angle), np.sin(angle)])
    axis.plot(*points, **look, linewidth=1.2, label=label, zorder=1)


def _arrows(steps: Sequence[FloatArray], axis: Any) -> None:
    """From every place of a level to the next; levels that have no estimate of their own begin at the second."""
    for start, end in pairwise(steps):
        style = {"angles": "xy", "scale_units": "xy", "scale": 1, "width": 0.003, "headwidth": 4, "minlength": 0}
        held = np.isfinite(start).all(axis=1)
        axis.quiver(*start[held].T, *(end - start)[held].T, color="0.6", zorder=1.5, **style)


def _name_axes(shown: Subject, group: str, pair: tuple[str, str], axis: Any) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    for line in (axis.axhline, axis.axvline):
        line(0.0, color="0.85", linewidth=1, zorder=0)
    texts = [f"{effect} by {group}, deviation from the mean" for effect in pair]
    axis.set_xlabel(wrapped(texts[0], _WIDTH - 1.2, _LABEL), fontsize=_LABEL)
    axis.set_ylabel(wrapped(texts[1], _HEIGHT - 1.0, _LABEL), fontsize=_LABEL)
    axis.set_title(wrapped(f"Shrinkage of {response_name(shown.design)}", _WIDTH - 1.2, _LABEL), fontsize=_LABEL)
