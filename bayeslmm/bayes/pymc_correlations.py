"""Correlation matrices of random effects in PyMC: LKJ priors by independent partial correlations."""

from __future__ import annotations

from typing import Any

import numpy as np

from bayeslmm.bayes.at_means import group_change
from bayeslmm.bayes.layout import GroupLayout
from bayeslmm.bayes.priors import Priors
from bayeslmm.design.design import Design
from bayeslmm.types import FloatArray


def correlation_factors(design: Design, group: GroupLayout, priors: Priors) -> list[Any] | None:
    """Cholesky factors of the correlations of a group's effects, term by term; None if all are independent.

    Adds the free variable ``r_<group>`` and the correlations ``corr_<group>`` (those at the means, where the priors are
    about these) to the model.
    """
    import pymc as pm
    import pytensor.tensor as pt

    if not group.pairs:
        return None
    shapes = beta_shapes(design, group, priors)
    r = pm.Beta(f"r_{group.name}", shapes, shapes, dims=group.pair_dim)
    blocks, correlations, start = [], [], 0
    for k in group.labels.terms:
        size, structure = len(group.labels.term_effects(k)), design.terms[k].structure
        free = sum(pair[0] == k for pair in group.labels.pairs)
        part = r[start : start + free]
        start += free
        if not free:
            blocks.append(pt.eye(size))
        else:
            L = structure.symbolic_root(part)
            blocks.append(L)
            R = L @ L.T
            correlations.append(pt.stack([R[a, b] for a, b in structure.pairs]))
    name = group.corr if group_change(group, priors.changes) is None else group.corr_at_mean
    pm.Deterministic(name, pt.concatenate(correlations), dims=group.pair_dim)
    return blocks


def joined(blocks: list[Any]) -> Any:
    """One block-diagonal matrix."""
    import pytensor.tensor as pt

    return blocks[0] if len(blocks) == 1 else pt.linalg.block_diag(*blocks)


def beta_shapes(design: Design, group: GroupLayout, priors: Priors) -> FloatArray:
    """Both beta shapes of ``(1 + z) / 2`` of every pair, z what a structure makes its correlations of."""
    shapes = []
    for k in group.labels.terms:
        structure = design.terms[k].structure
        own = dict(zip(structure.partials, priors.shapes(k, structure), strict=True))
        shapes += [own[b, a] for a, b in structure.pairs]
    return np.array(shapes)
