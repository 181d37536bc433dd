"""The likelihood both engines share: cross-products, one blocked elimination, three densities, derivatives."""

from __future__ import annotations

from bayeslmm.likelihood.conditional import (
    Conditional,
    beta_covariance,
    conditional_draws,
    conditional_means,
    conditional_variances,
)
from bayeslmm.likelihood.criteria import (
    degrees_of_freedom,
    derivatives,
    evaluate,
    minus_two_log_density,
    profiled,
)
from bayeslmm.likelihood.crossproducts import CrossProducts, SummedDesign
from bayeslmm.likelihood.derivatives import Derivatives
from bayeslmm.likelihood.factor import Factor
from bayeslmm.likelihood.frame import Block
from bayeslmm.likelihood.normal_prior import NormalPrior, minus_two_log_density_normal
from bayeslmm.likelihood.reduction import cross_products

__all__ = [
    "Block",
    "Conditional",
    "CrossProducts",
    "Derivatives",
    "Factor",
    "NormalPrior",
    "SummedDesign",
    "beta_covariance",
    "conditional_draws",
    "conditional_means",
    "conditional_variances",
    "cross_products",
    "degrees_of_freedom",
    "derivatives",
    "evaluate",
    "minus_two_log_density",
    "minus_two_log_density_normal",
    "profiled",
]
