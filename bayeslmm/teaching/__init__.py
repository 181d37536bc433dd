"""What a fit solves, laid open: matrices, equations, contrasts, shrinkage, groups on their own.

Plain dense and sparse linear algebra on the arrays of the design, for reading and for checking; the fast paths of
the likelihood are not used here, so that the numbers are independent of them.
"""

from __future__ import annotations

from bayeslmm.teaching.criterion import dense_criterion
from bayeslmm.teaching.error_contrasts import ErrorContrasts, error_contrasts
from bayeslmm.teaching.lm_list import LmList, lm_list
from bayeslmm.teaching.matrices import Matrices, build_matrices
from bayeslmm.teaching.mme import MixedModelEquations, henderson
from bayeslmm.teaching.shrinkage import shrinkage_table
from bayeslmm.teaching.terms import effects_by_term, factors_from_theta

__all__ = [
    "ErrorContrasts",
    "LmList",
    "Matrices",
    "MixedModelEquations",
    "build_matrices",
    "dense_criterion",
    "effects_by_term",
    "error_contrasts",
    "factors_from_theta",
    "henderson",
    "lm_list",
    "shrinkage_table",
]
