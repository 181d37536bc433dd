"""Arrays of every random term: its factor, its effects, its sparse columns and their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from bayeslmm.arguments import real, shown
from bayeslmm.design.covariance import factor_from_theta
from bayeslmm.design.design import Design
from bayeslmm.design.labels import group_labels
from bayeslmm.design.theta import check_theta, split_theta
from bayeslmm.errors import ArgumentError, DesignError
from bayeslmm.types import FloatArray


def factors_from_theta(design: Design, theta: ArrayLike) -> tuple[FloatArray, ...]:
    """Relative factors T (c, c) of the terms from theta (k,), lme4's order.

    Raises
    ------
    DesignError
        Wrong length, not finite, or no covariance.
    """
    parts = split_theta(design, check_theta(design, theta))
    return tuple(factor_from_theta(term.structure, part) for term, part in zip(design.terms, parts, strict=True))


def check_sigma(sigma: float) -> None:
    """Refuse a residual standard deviation that leaves no R^-1.

    Raises
    ------
    DesignError
    """
    try:
        # Its square is finite, and so is one over it.
        real("sigma", sigma, least=1e-150, most=1e150)
    except ArgumentError:
        raise DesignError(
            f"sigma is {shown(sigma)}. The equations divide by the residual variance, so it has to be a positive "
            "number; a "
            "model that fits perfectly leaves nothing to weigh the data with."
        ) from None


def effects_by_term(design: Design, groups: Mapping[str, FloatArray]) -> tuple[FloatArray, ...]:
    """Effects (J, c) of every term from those of every grouping factor (J, sum of c).

    Parameters
    ----------
    design : Design
    groups : mapping
        Grouping factor to array, columns as in ``ranef()``.
    """
    out: list[FloatArray] = [np.zeros((0, 0))] * len(design.terms)
    for labels in group_labels(design):
        for term, part in zip(labels.terms, labels.slices, strict=True):
            out[term] = groups[labels.group][:, part]
    return tuple(out)


def effect_names(design: Design) -> list[tuple[str, str, str]]:
    """(group, level, effect) of every column of Z: term after term, within a term level by level."""
    names = [(labels.group, term, labels) for labels in group_labels(design) for term in labels.terms]
    return [
        (group, level, effect)
        for group, term, labels in sorted(names, key=lambda item: item[1])
        for level in labels.levels
        for effect in labels.term_effects(term)
    ]


def sparse_Z(design: Design) -> sparse.csc_array:
    """Z (n, q), term after term, within a term level by level with its effects."""
    parts = [sparse.csc_array((design.n, 0))]
    for term in design.terms:
        grouping = design.groupings[term.group]
        c = len(term.effects)
        rows = np.repeat(np.arange(design.n), c)
        columns = (grouping.codes[:, None] * c + np.arange(c)).ravel()
        shape = (design.n, grouping.n_levels * c)
        parts.append(sparse.csc_array(sparse.coo_array((term.Z.ravel(), (rows, columns)), shape=shape)))
    Z = sparse.csc_array(sparse.hstack(parts, format="csc"))
    Z.eliminate_zeros()
    return Z


def block_diagonal(design: Design, tiles: Sequence[FloatArray]) -> sparse.csc_array:
    """Block diagonal (q, q): the tile (c, c) of every term repeated for its levels."""
    blocks = [
        sparse.kron(sparse.eye_array(design.groupings[term.group].n_levels), sparse.coo_array(tile))
        for term, tile in zip(design.terms, tiles, strict=True)
    ]
    out = sparse.csc_array(sparse.block_diag(blocks, format="csc") if blocks else (0, 0))
    out.eliminate_zeros()
    return out
