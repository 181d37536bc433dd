"""Residual structures: how the residuals of the rows vary and hang together, given sigma."""

from bayeslmm.residual.estimable import (
    Estimable,
    estimable,
    natural_parameters,
    refuse_parameters,
    refuse_regression,
    residual_labels,
)
from bayeslmm.residual.known import KnownVariances
from bayeslmm.residual.residual import (
    NO_PARAMETERS,
    Chosen,
    Residual,
    cluster_blocks,
    crosses,
    each_point,
    log_dets,
)
from bayeslmm.residual.variance import Homoscedastic, IndependentRows, PrecisionWeights, make_residual

__all__ = [
    "NO_PARAMETERS",
    "Chosen",
    "Estimable",
    "Homoscedastic",
    "IndependentRows",
    "KnownVariances",
    "PrecisionWeights",
    "Residual",
    "cluster_blocks",
    "crosses",
    "each_point",
    "estimable",
    "log_dets",
    "make_residual",
    "natural_parameters",
    "refuse_parameters",
    "refuse_regression",
    "residual_labels",
]
