"""Residual structures: how the residuals of the rows vary and hang together, given sigma."""

from bayeslmm.residual.known import KnownVariances
from bayeslmm.residual.residual import NO_PARAMETERS, Chosen, Residual, crosses, log_dets
from bayeslmm.residual.variance import Homoscedastic, IndependentRows, PrecisionWeights, make_residual

__all__ = [
    "NO_PARAMETERS",
    "Chosen",
    "Homoscedastic",
    "IndependentRows",
    "KnownVariances",
    "PrecisionWeights",
    "Residual",
    "crosses",
    "log_dets",
    "make_residual",
]
