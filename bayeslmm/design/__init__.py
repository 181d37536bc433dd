"""Formula and data to a frozen design; the only layer that knows formulae."""

from __future__ import annotations

from bayeslmm.design.build import build_design
from bayeslmm.design.covariance import CovarianceStructure, Diagonal, Unstructured, factor_from_theta
from bayeslmm.design.design import Design, RandomTerm
from bayeslmm.design.dropped import DroppedRows
from bayeslmm.design.formula import Bar, Formula, parse_formula
from bayeslmm.design.grouping import Grouping

__all__ = [
    "Bar",
    "CovarianceStructure",
    "Design",
    "Diagonal",
    "DroppedRows",
    "Formula",
    "Grouping",
    "RandomTerm",
    "Unstructured",
    "build_design",
    "factor_from_theta",
    "parse_formula",
]
