"""Colours and small helpers that the figures share (Okabe-Ito colours, readable without red-green vision)."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np

from bayeslmm.comparison import Comparison
from bayeslmm.comparison.tables import is_scale
from bayeslmm.design.names import in_plot
from bayeslmm.results.intervals import density
from bayeslmm.results.labels import Parameter
from bayeslmm.types import FloatArray

REML = "#D55E00"
ML = "#E69F00"
POSTERIOR = "#0072B2"
PRIOR = "#009E73"
NEUTRAL = "#777777"


def tidy_axes(axes: Any) -> None:
    """Remove what carries no information."""
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.set_yticks([])


def grid_for(both: Comparison, p: Parameter, points: int = 401, *, scale: str = "sd") -> FloatArray:
    """Values of a parameter that cover posterior and REML interval; zero included for an sd or its variance."""
    low, high = np.percentile(_draws(both, p, scale), [0.2, 99.5])
    row = both.sd_table.loc[p.label]
    ends = [v for v in (row["reml_low"], row["reml_high"]) if np.isfinite(v)]
    if scale == "variance" and is_scale(p):
        ends = [v**2 for v in ends]
    low, high = min([low, *ends]), max([high, *ends])
    if p.kind == "sd":
        low = 0.0
    if p.kind == "corr":
        low, high = -1.0, 1.0
    return np.linspace(low, high, points)


def posterior_density(both: Comparison, p: Parameter, grid: FloatArray, *, scale: str = "sd") -> FloatArray:
    """Kernel density of the draws, reflected at the ends of the range; on the scale of variances that of squares."""
    return density(_draws(both, p, scale), p.kind, grid)


def _draws(both: Comparison, p: Parameter, scale: str) -> FloatArray:
    draws = both.posterior.draws(p.label)
    return draws**2 if scale == "variance" and is_scale(p) else draws


def wrapped(text: str, inches: float, fontsize: float) -> str:
    """Text in lines of about `inches` at most."""
    return "\n".join(textwrap.wrap(in_plot(text), max(int(inches / _inches("x", fontsize)), 8), break_on_hyphens=False))


def _inches(text: str, fontsize: float) -> float:
    """About the width of a text, rather more: letters of Matplotlib's sans serif are 0.6 of its size wide."""
    return 0.6 * fontsize * len(text) / 72.0


def widest(texts: list[str], fontsize: float) -> float:
    """About the width of the longest of some texts, inches."""
    return max(_inches(text, fontsize) for text in texts)


def response_name(both: Comparison) -> str:
    """The response as it is called, without the quotes that a formula needs."""
    return both.design.response.replace("`", "")
