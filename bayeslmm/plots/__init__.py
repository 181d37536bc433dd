"""Figures; each function returns Matplotlib axes."""

from __future__ import annotations

from bayeslmm.plots.boundary import plot_boundary
from bayeslmm.plots.coverage import plot_coverage
from bayeslmm.plots.shrinkage import plot_shrinkage
from bayeslmm.plots.variance import plot_variance

__all__ = ["plot_boundary", "plot_coverage", "plot_shrinkage", "plot_variance"]
