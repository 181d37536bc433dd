"""Covariance structures of one random-effects term: the contract, and one module per family.

The covariance of the c effects of a term is ``sigma^2 G`` with ``G = T T'``. A structure is one class that says
which G are possible and describes each of them twice: by *theta*, the numbers users see and fix, and by
*coordinates* x without bounds in which G is analytic, also where it loses rank: a zero variance and a perfect
correlation are ordinary points.
"""

from __future__ import annotations

from bayeslmm.design.covariance.autoregressive import AR1, HeterogeneousAR1
from bayeslmm.design.covariance.compound import CompoundSymmetry, HeterogeneousCompoundSymmetry
from bayeslmm.design.covariance.contract import (
    CovarianceStructure,
    canonical,
    factor_from_theta,
    smallest_bound,
    square_root,
)
from bayeslmm.design.covariance.entries import Diagonal, Entries, Unstructured
from bayeslmm.design.covariance.products import Identity
from bayeslmm.design.covariance.toeplitz import Toeplitz

# By keyword, in the order of the documentation.
KNOWN: dict[str, CovarianceStructure] = {
    structure.keyword: structure
    for structure in (
        Unstructured(),
        Diagonal(),
        Identity(),
        CompoundSymmetry(),
        HeterogeneousCompoundSymmetry(),
        AR1(),
        HeterogeneousAR1(),
        Toeplitz(),
    )
}

__all__ = [
    "AR1",
    "KNOWN",
    "CompoundSymmetry",
    "CovarianceStructure",
    "Diagonal",
    "Entries",
    "HeterogeneousAR1",
    "HeterogeneousCompoundSymmetry",
    "Identity",
    "Toeplitz",
    "Unstructured",
    "canonical",
    "factor_from_theta",
    "smallest_bound",
    "square_root",
]
