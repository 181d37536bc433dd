"""Correlation matrices of random effects in PyMC: LKJ priors by independent partial correlations."""

from __future__ import annotations

from typing import Any

import numpy as np

from bayeslmm.bayes.at_means import group_change
from bayeslmm.bayes.layout import GroupLayout
from bayeslmm.bayes.priors import Priors
from bayeslmm.bayes.statements import Node, Statement, Symbol
from bayeslmm.design.covariance import CovarianceStructure
from bayeslmm.design.design import Design
from bayeslmm.errors import PriorError
from bayeslmm.types import FloatArray

# Structure's keyword to the function of `pymc_functions` that makes the factor of its correlations.
_FACTORS = {"us": "correlation_factor", "cs": "compound_symmetry_factor", "ar1": "autoregression_factor"}
_np, _pm, _pt = Symbol("np"), Symbol("pm"), Symbol("pt")


def factor_of(structure: CovarianceStructure, r: Node) -> Node:
    """The Cholesky factor of a structure's correlations from its numbers r between 0 and 1.

    Raises
    ------
    PriorError
        The structure has no counterpart in PyMC.
    """
    if structure.keyword not in _FACTORS:
        raise PriorError(
            f"The covariance structure {structure.keyword} has no counterpart in PyMC yet. Sample with "
            "method='importance' or method='quadrature'."
        )
    return Symbol(_FACTORS[structure.keyword])(r, structure.size)


def correlations_of(structure: CovarianceStructure, L: Node) -> Node:
    """The correlations that are parameters, from their Cholesky factor."""
    return L[1:2, 0] if structure.shared else (L @ L.T)[_np.triu_indices(structure.size, 1)]


def correlation_statements(design: Design, group: GroupLayout, priors: Priors, own: str) -> list[Statement]:
    """``r_<group>``, ``L<k>`` of every term, ``L_<own>`` of all, and the correlations of a group that has any.

    The correlations are ``corr_<group>``, or those at the means, where the priors are about these.
    """
    shapes = beta_shapes(design, group, priors)
    r = _pm.Beta(f"r_{group.name}", shapes, shapes, dims=group.pair_dim)
    out, correlations, start = [Statement("r", r)], list[Any](), 0
    for k in group.labels.terms:
        structure, free = design.terms[k].structure, sum(pair[0] == k for pair in group.labels.pairs)
        L = Symbol(f"L{k}")
        if not free:
            out.append(Statement(L.identifier, _pt.eye(structure.size)))
            continue
        out.append(Statement(L.identifier, factor_of(structure, Symbol("r")[start : start + free])))
        correlations.append(correlations_of(structure, L))
        start += free
    blocks = [Symbol(f"L{k}") for k in group.labels.terms]
    out.append(Statement(f"L_{own}", blocks[0] if len(blocks) == 1 else _pt.linalg.block_diag(*blocks)))
    name = group.corr if group_change(group, priors.changes) is None else group.corr_at_mean
    together = correlations[0] if len(correlations) == 1 else _pt.concatenate(correlations)
    return [*out, Statement(None, _pm.Deterministic(name, together, dims=group.pair_dim))]


def beta_shapes(design: Design, group: GroupLayout, priors: Priors) -> FloatArray:
    """Both beta shapes of ``(1 + partial correlation) / 2`` of every pair, see `Priors.partial_shapes`.

    A correlation that all effects share has both shapes eta.
    """
    shapes = []
    for k, a, b, _ in group.labels.pairs:
        size = len(group.labels.term_effects(k))
        shapes.append(priors.lkj[k] if design.terms[k].structure.shared else priors.partial_shapes(k, size)[b, a])
    return np.array(shapes)
