"""Figures; each function returns Matplotlib axes."""

from __future__ import annotations

from bayeslmm.plots.boundary import plot_boundary
from bayeslmm.plots.coverage import plot_coverage
from bayeslmm.plots.forest import plot_forest
from bayeslmm.plots.groups import plot_groups
from bayeslmm.plots.influence import plot_influence
from bayeslmm.plots.interaction import plot_interaction
from bayeslmm.plots.means import plot_means
from bayeslmm.plots.models import plot_models
from bayeslmm.plots.plane import plot_plane
from bayeslmm.plots.profile import plot_profile
from bayeslmm.plots.ranef import plot_ranef
from bayeslmm.plots.serial import plot_acf, plot_semivariogram
from bayeslmm.plots.shrinkage import plot_shrinkage
from bayeslmm.plots.sweep import plot_prior_sweep
from bayeslmm.plots.variance import plot_variance

__all__ = [
    "plot_acf",
    "plot_boundary",
    "plot_coverage",
    "plot_forest",
    "plot_groups",
    "plot_influence",
    "plot_interaction",
    "plot_means",
    "plot_models",
    "plot_plane",
    "plot_prior_sweep",
    "plot_profile",
    "plot_ranef",
    "plot_semivariogram",
    "plot_shrinkage",
    "plot_variance",
]
