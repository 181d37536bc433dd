"""Colours and small helpers that the figures share (Okabe-Ito colours, readable without red-green vision)."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Any

import numpy as np

from bayeslmm.comparison.tables import is_scale
from bayeslmm.design.design import Design
from bayeslmm.design.names import in_plot
from bayeslmm.faces import Posterior
from bayeslmm.plots.subject import Subject
from bayeslmm.results.intervals import density
from bayeslmm.results.labels import Parameter
from bayeslmm.results.smooth_density import smooth_density
from bayeslmm.types import FloatArray

REML = "#D55E00"
ML = "#E69F00"
POSTERIOR = "#0072B2"
PRIOR = "#009E73"
NEUTRAL = "#777777"
# Several posteriors: a colour each, then the same with another line.
_POSTERIORS = (POSTERIOR, "#CC79A7", "#000000", "#56B4E9")
# Series that a legend tells apart: Okabe and Ito's colours, each with a mark and a line of its own.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS, LINES = "osD^v<>", ("-", "--", "-.", ":")
_HEADING, _GREY = 8.5, "0.35"
_LEGEND = 9


def posterior_style(k: int) -> dict[str, Any]:
    """Colour and line of one of several posteriors."""
    return {"color": _POSTERIORS[k % len(_POSTERIORS)], "linestyle": LINES[k // len(_POSTERIORS) % len(LINES)]}


def curve_style(k: int, several: int, points: int) -> dict[str, Any]:
    """The same for a curve; where there are several, with sparse marks, so that a grey print tells them apart."""
    if several == 1:
        return posterior_style(k)
    step = points // 6
    return {**posterior_style(k), "marker": MARKERS[k % len(MARKERS)], "markevery": (k * step // several, step)}


def series_style(k: int) -> dict[str, Any]:
    """Colour, mark and line of one of several series; readable without colours."""
    look = {"color": COLOURS[k % len(COLOURS)], "marker": MARKERS[k % len(MARKERS)], "linestyle": LINES[k % len(LINES)]}
    return {**look, "markersize": 5, "linewidth": 1.5}


def tidy_axes(axes: Any) -> None:
    """Remove what carries no information."""
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_yticks([])


def grid_for(shown: Subject, p: Parameter, points: int = 401, *, scale: str = "sd") -> FloatArray:
    """Values of a parameter that cover posteriors and profile interval; zero included for an sd or its variance.

    The estimate is one of them, so that a profile has its peak.
    """
    ends = [v for post in shown.posteriors for v in np.percentile(_draws(post, p, scale), [0.2, 99.5])]
    row = shown.reml.loc[p.label]
    fitted = [v for v in row.to_numpy(dtype=float) if np.isfinite(v)]
    if scale == "variance" and is_scale(p):
        fitted = [v**2 for v in fitted]
    low, high = (float(end) for end in (min([*ends, *fitted], default=0.0), max([*ends, *fitted], default=1.0)))
    if not shown.posteriors and is_scale(p):
        # A little beyond the profile interval, for the shape of the profile.
        low, high = max(0.0, low - 0.3 * (high - low)), high + 0.3 * (high - low)
    if p.kind == "sd":
        low = 0.0
    if p.kind == "corr":
        low, high = -1.0, 1.0
    if not high > low:
        # An estimate of zero without an interval.
        high = low + (abs(low) or 1.0)
    inside = [v for v in fitted if low <= v <= high]
    return np.union1d(np.linspace(low, high, points), inside)


def posterior_density(post: Posterior, p: Parameter, grid: FloatArray, *, scale: str = "sd") -> FloatArray:
    """Density of a parameter: exact given the others and averaged over draws where that is quick, else by a kernel.

    Kernels are reflected at the ends of the range. On the scale of variances it is that of the square.
    """
    if scale == "variance" and is_scale(p):
        # At zero the density of a square is infinite.
        found = smooth_density(post, p, np.sqrt(grid)) if grid[0] > 0 else None
        return density(_draws(post, p, scale), p.kind, grid) if found is None else found / (2.0 * np.sqrt(grid))
    found = smooth_density(post, p, grid)
    return density(post.draws(p.label), p.kind, grid) if found is None else found


def _draws(post: Posterior, p: Parameter, scale: str) -> FloatArray:
    draws = post.draws(p.label)
    return draws**2 if scale == "variance" and is_scale(p) else draws


def profile_likelihood(shown: Subject, p: Parameter, grid: FloatArray) -> FloatArray | None:
    """Profile likelihood of the fit on a grid of the sd, its maximum 1; None where the fit has no profile.

    The signed root of the criterion is nearly straight: between points of the profile it is interpolated, so that the
    curve is round at its peak and not a polygon.
    """
    from scipy.interpolate import PchipInterpolator

    if shown.fit is None or shown.fit.restraint is not None or shown.fit.optimum.fixed:
        return None
    estimate = shown.estimate(p)
    if not np.isfinite(estimate):
        return None
    # A correlation of one is a corner of the criterion that the profile need not reach.
    inside = np.clip(np.linspace(grid[0], grid[-1], 61), *((-0.999, 0.999) if p.kind == "corr" else (None, None)))
    knots = np.union1d(inside, estimate)
    rise = shown.fit.profile(p.label, knots)["criterion"].to_numpy() - shown.fit.criterion
    root = np.sign(knots - estimate) * np.sqrt(np.maximum(rise, 0.0))
    return np.asarray(np.exp(-0.5 * PchipInterpolator(knots, root)(np.clip(grid, knots[0], knots[-1])) ** 2))


def wrapped(text: str, inches: float, fontsize: float) -> str:
    """Text in lines of about `inches` at most."""
    return "\n".join(textwrap.wrap(in_plot(text), max(int(inches / _inches("x", fontsize)), 8), break_on_hyphens=False))


def _inches(text: str, fontsize: float) -> float:
    """About the width of a text, rather more: letters of Matplotlib's sans serif are 0.6 of its size wide."""
    return 0.6 * fontsize * len(text) / 72.0


def widest(texts: list[str], fontsize: float) -> float:
    """About the width of the longest of some texts, inches."""
    return max(_inches(text, fontsize) for text in texts)


def headed(figure: Any, shown: Subject, *notes: str) -> float:
    """The model and notes, small, above all panels; their height in inches."""
    text = "\n".join(wrapped(line, figure.get_figwidth() - 0.2, _HEADING) for line in (shown.heading, *notes))
    figure.suptitle(text, fontsize=_HEADING, color=_GREY)
    return 0.16 * (1 + text.count("\n"))


def headed_axes(axes: Any, shown: Subject, title: str, inches: float, fontsize: float) -> None:
    """A title, and under it, small, the model."""
    text = wrapped(shown.heading, inches, _HEADING)
    lines = 1 + text.count("\n")
    axes.set_title(wrapped(title, inches, fontsize), fontsize=fontsize, loc="left", pad=9 + 1.3 * _HEADING * lines)
    axes.annotate(
        text, (0, 1), (0, 5), "axes fraction", "offset points", fontsize=_HEADING, color=_GREY, ha="left", va="bottom"
    )


def legend_entries(axes: Iterable[Any]) -> tuple[list[Any], list[str]]:
    """Handles and labels of all panels, each label once."""
    entries: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    return list(entries.values()), list(entries)


def legend_below(figure: Any, axes: Iterable[Any]) -> float:
    """All that the panels name below them; the height that it needs."""
    handles, labels = legend_entries(axes)
    width = figure.get_figwidth() - 0.3
    columns = max(1, min(len(labels), int(width / (widest(labels, _LEGEND) + 0.5))))
    lines = [wrapped(label.replace(r"\$", "$"), width / columns - 0.5, _LEGEND) for label in labels]
    figure.legend(handles, lines, loc="outside lower center", ncols=columns, frameon=False, fontsize=_LEGEND)
    return 0.25 + 0.19 * -(-sum(1 + line.count("\n") for line in lines) // columns)


def response_name(design: Design) -> str:
    """The response as it is called, without the quotes that a formula needs."""
    return design.response.replace("`", "")


def slope_of(design: Design, position: int, effect: int) -> bool:
    """Whether an effect counts per unit of its column: that of a factor's level, or of a contrast, does not."""
    return not bool(np.isin(design.terms[position].Z[:, effect], (-1.0, 0.0, 1.0)).all())


def units(design: Design, p: Parameter) -> str:
    """Units of an sd or of sigma in words."""
    per = ""
    if p.kind == "sd" and any(slope_of(design, p.position, effect) for effect in p.effects):
        per = f" per unit of {p.term.removeprefix('sd__')}"
    return f"units of {response_name(design)}{per}"


def probability(share: float, draws: int) -> str:
    """A share of draws as far as their number tells: ``= 0.012``, ``< 0.001``."""
    least = max(0.001, 1.0 / draws)
    if share < least:
        return f"< {least:.1g}"
    return f"> {1 - least:.4g}" if share > 1 - least else f"= {share:.2g}"
