"""Means, slopes or contrasts with their intervals, and the letters that means share which do not differ."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.arguments import choice, instance
from bayeslmm.comparison.means import ComparedMeans
from bayeslmm.design.names import in_plot
from bayeslmm.errors import DesignError
from bayeslmm.figures.axes import axes_or_new
from bayeslmm.means.adjust import ADJUSTMENTS
from bayeslmm.means.averages import text_of
from bayeslmm.means.marginal import MarginalMeans, adjustment
from bayeslmm.means.of_draws import PosteriorMeans
from bayeslmm.plots.style import REML, posterior_style, widest, wrapped
from bayeslmm.types import FloatArray

type AnyMeans = MarginalMeans | PosteriorMeans
_FONT, _ROW, _WIDTH = 9, 0.3, 4.6
# Rows between groups, and between the engines of a row.
_GAP, _APART = 1.2, 0.26


def plot_means(means: MarginalMeans | PosteriorMeans | ComparedMeans, *, adjust: str = "tukey", ax: Any = None) -> Any:
    """Means, slopes or contrasts with their intervals; means that share a letter do not differ.

    The label says how the intervals of a fit are adjusted for their number, as those of ``pairs()`` are by Tukey's
    method unless asked for otherwise. Those of a posterior are not: beside each other, ``pairs("none")`` compares like
    with like.

    Parameters
    ----------
    means : MarginalMeans, PosteriorMeans or ComparedMeans
        What ``fit.means(...)``, ``post.means(...)``, ``both.means(...)``, ``.pairs()`` or ``.trends(...)`` returned.
    adjust : str
        Of the pairwise tests that the letters of a fit come from; a posterior's come from the intervals of the
        differences.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    DesignError
        Not means; axes of another kind.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("score ~ Machine + (1 | Worker)", bl.load_dataset("Machines")).fit()
    >>> axis = bl.plot_means(fit.means("Machine"))
    >>> [text.get_text() for text in axis.texts]
    ['a', 'b', 'c']
    """
    kinds = (MarginalMeans, PosteriorMeans, ComparedMeans)
    instance("means", means, kinds, "what fit.means(), post.means() or both.means() returned", DesignError)
    choice("adjust", adjust, ADJUSTMENTS, DesignError)
    engines = _engines(means)
    first = engines[0][1]
    places, heads = _rows(first)
    names = [in_plot(first.labels.name(i)) for i in range(first.labels.size)]
    texts = [*names, *heads.values()]
    height = _ROW * (places.max() + 1 + 0.4 * (len(engines) - 1)) + 1.2
    ax = axes_or_new(ax, "plot_means", (_WIDTH + min(widest(texts, _FONT), 3.0), height))
    # One mean has nothing to share a letter with.
    lettered = first.display.kind == "mean" and any(len(rows) > 1 for rows in first.labels.groups)
    for k, (name, own) in enumerate(engines):
        _engine(ax, own, places + _APART * (k - (len(engines) - 1) / 2), name, k)
        if lettered:
            _letters(ax, own, places, adjust, k, len(engines))
    _dress(ax, first, places, names, heads)
    notes = [means._heading, *_adjusted(means)]
    if lettered:
        tests, differences = f"adjust={adjust!r}", "HDI of the difference"
        how = {MarginalMeans: tests, PosteriorMeans: differences}.get(
            type(means), f"REML: {tests}; posterior: {differences}"
        )
        notes.append(f"Means that share a letter do not differ ({how})")
    ax.set_xlabel("\n".join(wrapped(note, _WIDTH, _FONT) for note in notes), fontsize=_FONT)
    if len(engines) > 1:
        ax.legend(frameon=False, fontsize=_FONT, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=len(engines))
    return ax


def _adjusted(means: AnyMeans | ComparedMeans) -> list[str]:
    """How the intervals of a fit are widened for their number; those of a posterior never are."""
    fit = means.reml if isinstance(means, ComparedMeans) else means
    how = "" if isinstance(fit, PosteriorMeans) else adjustment(fit)
    if not how:
        return []
    if isinstance(means, ComparedMeans):
        return [f"REML intervals adjusted: {how}", "HDI not adjusted: each for itself"]
    return [f"Intervals adjusted: {how}"]


def _engines(means: AnyMeans | ComparedMeans) -> list[tuple[str, AnyMeans]]:
    """What is drawn in a row, by name; a single engine needs none."""
    if not isinstance(means, ComparedMeans):
        return [("", means)]
    one = len(means.posteriors) == 1
    return [("REML", means.reml), *(("posterior" if one else name, own) for name, own in means.posteriors.items())]


def _rows(means: AnyMeans) -> tuple[FloatArray, dict[float, str]]:
    """Heights of the rows from above, groups apart, and the headings of the groups."""
    labels = means.labels
    places, heads, top = np.zeros(labels.size), dict[float, str](), 0.0
    for rows in labels.groups:
        if labels.by:
            values = (f"{name} = {text_of(labels.columns[name][rows[0]])}" for name in labels.by)
            heads[top] = in_plot(", ".join(values))
            top += 1.0
        places[rows] = top + np.arange(len(rows))
        top += len(rows) + (_GAP - 1.0)
    return places, heads


def _engine(ax: Any, means: AnyMeans, at: FloatArray, name: str, k: int) -> None:
    """Estimates and intervals of one engine."""
    bayes = isinstance(means, PosteriorMeans)
    columns = ["mean", "hdi_low", "hdi_high"] if bayes else ["estimate", "conf_low", "conf_high"]
    middle, low, high = pd.DataFrame(means._frame)[columns].to_numpy(dtype=float).T
    style = posterior_style(max(k - 1, 0)) if bayes else {"color": REML, "linestyle": "-"}
    ax.hlines(at, low, high, color=style["color"], linestyle=style["linestyle"], linewidth=2.2)
    mark = {"marker": "o" if bayes else "D", "color": style["color"], "markersize": 5.5}
    ax.plot(middle, at, **mark, linestyle="none", label=in_plot(name) or None)


def _letters(ax: Any, means: AnyMeans, places: FloatArray, adjust: str, k: int, engines: int) -> None:
    """Letters right of the panel, a column for every engine."""
    level = means.display.level
    found = (
        means._lettered(means.labels, level)
        if isinstance(means, PosteriorMeans)
        else means._lettered(means.labels, level, adjust)
    )
    color = "0.2" if engines == 1 else REML if k == 0 else posterior_style(k - 1)["color"]
    for place, letters in zip(places, found["letters"].sort_index(), strict=True):
        across = ax.get_yaxis_transform()
        ax.text(1.03 + 0.1 * k, place, letters, transform=across, color=color, fontsize=_FONT, va="center")


def _dress(ax: Any, means: AnyMeans, places: FloatArray, names: list[str], heads: dict[float, str]) -> None:
    display = means.display
    if display.kind != "mean":
        ax.axvline(1.0 if display.ratio else 0.0, color="0.6", linewidth=0.8, zorder=0)
    rows = sorted([*zip(places.tolist(), names, strict=True), *heads.items()])
    ax.set_yticks(
        [place for place, _ in rows],
        [wrapped(text.replace(r"\$", "$"), 3.0, _FONT) for _, text in rows],
        fontsize=_FONT,
    )
    for tick, (place, _) in zip(ax.get_yticklabels(), rows, strict=True):
        tick.set_fontweight("bold" if place in heads else "normal")
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(places.max() + 0.6, -0.6)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.grid(axis="x", color="0.92")
    ax.set_axisbelow(True)
