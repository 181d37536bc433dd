"""Correlation matrices of random effects in PyMC: LKJ priors by independent partial correlations."""

from __future__ import annotations

from typing import Any

import numpy as np

from bayeslmm.bayes.at_means import group_change
from bayeslmm.bayes.layout import GroupLayout
from bayeslmm.bayes.priors import Priors
from bayeslmm.design.design import Design
from bayeslmm.design.shared import AR1, CompoundSymmetry, Shared
from bayeslmm.errors import PriorError
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
        elif isinstance(structure, Shared):
            low, high = structure.correlation_range
            rho = low + (high - low) * part[0]
            blocks.append(_factor_of_one(structure, rho))
            correlations.append(pt.stack([rho]))
        else:
            L = _factor_from_partials(part, size)
            blocks.append(L)
            correlations.append((L @ L.T)[np.triu_indices(size, 1)])
    name = group.corr if group_change(group, priors.changes) is None else group.corr_at_mean
    pm.Deterministic(name, pt.concatenate(correlations), dims=group.pair_dim)
    return blocks


def joined(blocks: list[Any]) -> Any:
    """One block-diagonal matrix."""
    import pytensor.tensor as pt

    return blocks[0] if len(blocks) == 1 else pt.linalg.block_diag(*blocks)


def beta_shapes(design: Design, group: GroupLayout, priors: Priors) -> FloatArray:
    """Both beta shapes of ``(1 + partial correlation) / 2`` of every pair, see `Priors.partial_shapes`.

    A correlation that all effects share has both shapes eta.
    """
    shapes = []
    for k, a, b, _ in group.labels.pairs:
        size = len(group.labels.term_effects(k))
        shapes.append(priors.lkj[k] if design.terms[k].structure.shared else priors.partial_shapes(k, size)[b, a])
    return np.array(shapes)


def _factor_of_one(structure: Shared, rho: Any) -> Any:
    """Lower-triangular L with unit rows of a correlation matrix with one correlation."""
    import pytensor.tensor as pt

    size = structure.size
    rows: list[list[Any]] = [[pt.zeros(())] * size for _ in range(size)]
    if isinstance(structure, CompoundSymmetry):
        for j in range(size):
            before, here = 1.0 + (j - 1) * rho, 1.0 + j * rho
            rows[j][j] = pt.sqrt((1.0 - rho) * here / before) if j else pt.ones(())
            for i in range(j + 1, size):
                rows[i][j] = rho * (pt.sqrt((1.0 - rho) / (before * here)) if j else 1.0)
    elif isinstance(structure, AR1):
        powers = [pt.ones(())]
        for _ in range(size - 1):
            powers.append(powers[-1] * rho)
        rest = pt.sqrt(1.0 - rho**2)
        for i in range(size):
            rows[i][: i + 1] = [powers[i], *(powers[i - j] * rest for j in range(1, i + 1))]
    else:
        raise PriorError(
            f"The covariance structure {structure.keyword} has no counterpart in PyMC yet. Sample with "
            "method='importance' or method='quadrature'."
        )
    return pt.stack([pt.stack(row) for row in rows])


def _factor_from_partials(r: Any, size: int) -> Any:
    """Lower-triangular L with unit rows from ``r = (1 + partial correlation) / 2``, pairs a < b."""
    import pytensor.tensor as pt

    pairs = list(zip(*np.triu_indices(size, 1), strict=True))
    rows: list[list[Any]] = [[0.0] * size for _ in range(size)]
    left: list[Any] = [1.0] * size
    for k, (a, b) in enumerate(pairs):
        rows[b][a] = (2.0 * r[k] - 1.0) * left[b]
        left[b] = left[b] * 2.0 * pt.sqrt(r[k] * (1.0 - r[k]))
    for k in range(size):
        rows[k][k] = left[k]
    return pt.stack([pt.stack(row) for row in rows])
