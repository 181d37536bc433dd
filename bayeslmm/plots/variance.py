"""Variance components of both engines, one panel each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bayeslmm.comparison import Comparison
from bayeslmm.comparison.tables import is_scale, shown_label
from bayeslmm.design.names import in_plot
from bayeslmm.faces import Posterior, REMLResult
from bayeslmm.figures.axes import given_axes
from bayeslmm.plots.panels import finish_given
from bayeslmm.plots.style import (
    ML,
    REML,
    curve_style,
    grid_for,
    headed,
    legend_entries,
    posterior_density,
    posterior_style,
    profile_likelihood,
    tidy_axes,
    units,
    wrapped,
)
from bayeslmm.plots.subject import Subject, subject
from bayeslmm.results.labels import Parameter

_WIDTH, _HEIGHT, _TITLE, _LEGEND, _UNITS = 4.4, 2.9, 10, 9, 8
# Height of a line of the titles, and of a row of marks as a share of the curve's height.
_LINE, _ROW = 0.17, 0.11


def plot_variance(both: Comparison | REMLResult | Posterior, *, ax: Any = None) -> Any:
    """Posterior density, REML and ML estimates and the intervals of every sd, correlation and sigma.

    Parameters
    ----------
    both : Comparison, REMLResult or Posterior
        With ``scale="variance"`` variances are drawn in place of sds, with the numbers of its table. Several posteriors
        have a colour each. Of a fit alone its profile likelihood is drawn in place of a density.
    ax : matplotlib.axes.Axes or sequence of these, optional
        One for each panel, in place of a new figure.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes

    Raises
    ------
    DesignError
        Not a comparison, fit or posterior; other axes than one for each panel.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))
    >>> axes = bl.plot_variance(bl.compare(model.fit(), model.sample(500, random_seed=1)))
    >>> len(axes)
    2
    """
    import matplotlib.pyplot as plt

    shown = subject(both, "plot_variance")
    chosen = [p for p in shown.parameters if p.kind != "fixed"]
    titles = [wrapped(shown_label(p, shown.scale), _WIDTH - 0.4, _TITLE) for p in chosen]
    if ax is not None:
        given = given_axes(ax, "plot_variance", len(chosen))
        _panels(shown, chosen, given, titles)
        finish_given(given)
        return np.array(given, dtype=object)
    columns = min(len(chosen), 2)
    rows = -(-len(chosen) // columns)
    height = _HEIGHT + _LINE * max(title.count("\n") for title in titles)
    figure, panels = plt.subplots(rows, columns, squeeze=False, figsize=(_WIDTH * columns, height * rows))
    figure.set_layout_engine("constrained", h_pad=0.08, w_pad=0.06)
    axes = panels.ravel()
    _panels(shown, chosen, axes[: len(chosen)], titles)
    extra = headed(figure, shown) + _legend(figure, axes, len(chosen))
    figure.set_figheight(height * rows + extra)
    return axes[: len(chosen)]


def _panels(shown: Subject, chosen: Sequence[Parameter], axes: Any, titles: Sequence[str]) -> None:
    for axis, p, title in zip(axes, chosen, titles, strict=True):
        _panel(shown, p, axis)
        axis.set_title(title, fontsize=_TITLE)


def _legend(figure: Any, axes: Any, panels: int) -> float:
    """In the place of a panel that the grid has too many, else below; the height that it adds."""
    handles, labels = legend_entries(axes[:panels])
    if panels < len(axes):
        hole = axes[panels]
        hole.set_axis_off()
        texts = [wrapped_again(label, _WIDTH - 0.9) for label in labels]
        figure.legend(
            handles,
            texts,
            loc="center",
            bbox_to_anchor=(0.5, 0.5),
            bbox_transform=hole.transAxes,
            frameon=False,
            fontsize=_LEGEND,
        )
        return 0.0
    columns = 1 if panels == 1 or max(map(len, labels)) > 45 else 3
    texts = [wrapped_again(label, figure.get_figwidth() / columns - 0.6) for label in labels]
    figure.legend(handles, texts, loc="outside lower center", ncols=columns, frameon=False, fontsize=_LEGEND)
    lines = sum(1 + text.count("\n") for text in texts)
    return 0.2 + 0.2 * -(-lines // columns)


def wrapped_again(text: str, inches: float) -> str:
    """A text that is fit for a figure already, in lines."""
    return wrapped(text.replace(r"\$", "$"), inches, _LEGEND)


def _panel(shown: Subject, p: Parameter, axis: Any) -> None:
    grid = grid_for(shown, p, scale=shown.scale)
    curves = [posterior_density(post, p, grid, scale=shown.scale) for post in shown.posteriors]
    top = max((float(curve.max()) for curve in curves), default=1.0)
    for k, curve in enumerate(curves):
        _posterior(shown, p, k, grid, curve, -(0.08 + _ROW * k) * top, axis)
    row = 0.08 + _ROW * len(curves)
    if not curves:
        _likelihood(shown, p, grid, axis)
    _fit(shown, p, -row * top, axis)
    row += _ROW * (shown.fit is not None)
    if shown.ml is not None and np.isfinite(shown.ml[p.label]):
        value = _on_scale(shown, p, shown.ml[p.label])
        axis.plot(value, -row * top, "d", color=ML, markersize=7, label="ML", clip_on=False)
        row += _ROW
    axis.set_ylim(-row * top, 1.05 * top)
    axis.locator_params(axis="x", nbins=6)
    if p.kind == "corr":
        axis.set_xlim(-1.05, 1.05)
    if is_scale(p):
        text = units(shown.design, p)
        squared = text if shown.scale == "sd" else f"squared {text}"
        axis.set_xlabel(wrapped(squared, _WIDTH - 0.4, _UNITS), fontsize=_UNITS)
    tidy_axes(axis)


def _on_scale(shown: Subject, p: Parameter, value: Any) -> Any:
    return value**2 if shown.scale == "variance" and is_scale(p) else value


def _posterior(shown: Subject, p: Parameter, k: int, grid: Any, curve: Any, y: float, axis: Any) -> None:
    """Density, interval and median; of several posteriors the legend has one line each."""
    style, several = posterior_style(k), len(shown.posteriors) > 1
    row = shown.tables[k].loc[p.label]
    low, median, high = (_on_scale(shown, p, row[name]) for name in ("hdi_low", "median", "hdi_high"))
    words = ("posterior density", f"posterior {shown.percent} HDI", "posterior median")
    if several:
        words = (f"posterior, {shown.names[k]}: density, {shown.percent} HDI, median", "_", "_")
    elif shown.named:
        words = (shown.title(words[0], k), shown.title(words[1], k), shown.title(words[2], k))
    curve_text, interval_text, median_text = map(in_plot, words)
    axis.fill_between(grid, curve, color=style["color"], alpha=0.25 / len(shown.posteriors), linewidth=0)
    axis.plot(grid, curve, **curve_style(k, len(shown.posteriors), grid.size), markersize=4, label=curve_text)
    axis.plot([low, high], [y, y], color=style["color"], linewidth=4, solid_capstyle="butt", label=interval_text)
    axis.plot(
        median, y, "o", color="white", markeredgecolor=style["color"], markersize=6, label=median_text, clip_on=False
    )


def _likelihood(shown: Subject, p: Parameter, grid: Any, axis: Any) -> None:
    curve = profile_likelihood(shown, p, grid)
    if curve is not None:
        axis.plot(grid, curve, color=REML, label=f"{shown.criterion} profile likelihood (scaled)")
    else:
        axis.set_xlim(grid[0], grid[-1])


def _fit(shown: Subject, p: Parameter, y: float, axis: Any) -> None:
    if shown.fit is None:
        return
    estimate, low, high = (_on_scale(shown, p, shown.reml.loc[p.label, name]) for name in ("estimate", "low", "high"))
    if np.isfinite([low, high]).any():
        text = f"{shown.criterion} {shown.percent} profile"
        axis.plot([low, high], [y, y], color=REML, linewidth=4, solid_capstyle="butt", label=text)
    if np.isfinite(estimate):
        style = {"color": "white", "markeredgecolor": REML, "markersize": 7}
        axis.plot(estimate, y, "s", **style, label=shown.criterion, clip_on=False)
