"""Colours and small helpers that the figures share (Okabe-Ito colours, readable without red-green vision)."""

from __future__ import annotations

from typing import Any

import numpy as np

from bayeslmm.comparison import Comparison
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


def grid_for(both: Comparison, p: Parameter, points: int = 401) -> FloatArray:
    """Values of a parameter that cover posterior and REML interval; zero included for an sd."""
    draws = both.posterior.draws(p.label)
    low, high = np.percentile(draws, [0.2, 99.5])
    row = both.sd_table.loc[p.label]
    ends = [v for v in (row["reml_low"], row["reml_high"]) if np.isfinite(v)]
    low, high = min([low, *ends]), max([high, *ends])
    if p.kind == "sd":
        low = 0.0
    if p.kind == "corr":
        low, high = -1.0, 1.0
    return np.linspace(low, high, points)


def posterior_density(both: Comparison, p: Parameter, grid: FloatArray) -> FloatArray:
    """Kernel density of the draws, reflected at the ends of the range."""
    return density(both.posterior.draws(p.label), p.kind, grid)
