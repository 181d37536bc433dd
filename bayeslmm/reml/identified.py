"""Whether the data can tell the variance parameters of a model apart at all.

The covariance of y is linear in the residual variance and the entries of every term's covariance. If a combination
of these derivatives vanishes, the criterion is constant along it: a ridge, on which every point is as good.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bayeslmm.design.covariance import CovarianceStructure
from bayeslmm.likelihood import CrossProducts
from bayeslmm.likelihood import parameters as par
from bayeslmm.likelihood.derivatives import Derivatives, information
from bayeslmm.types import FloatArray

# Eigenvalues of the information, scaled to unit diagonal, below this are zero: exact dependence leaves rounding, the
# more the larger the variances are beside the residual one.
_NULL = 1e-8
# Share of the largest component above which a parameter takes part in a ridge.
_PART = 1e-3
# A change of G smaller than this comes from a coordinate at the end of its range.
_AT_AN_END = 1e-6
# Information below this share of the largest is none at all, on columns scaled to unit length.
_NOTHING = 1e-13


@dataclass(frozen=True)
class Ridge:
    """A change of the variance parameters that the distribution of y does not show.

    Attributes
    ----------
    parts : tuple of str
        The variances and covariances that change together.
    """

    parts: tuple[str, ...]

    def __str__(self) -> str:
        if len(self.parts) == 1:
            return f"the data say nothing about the {self.parts[0]}"
        return "only a combination is determined of the " + ", the ".join(self.parts)


def find_ridges(cp: CrossProducts, factors: Sequence[FloatArray], first: Derivatives, reml: bool) -> tuple[Ridge, ...]:
    """Ridges of a model, from the null space of the information at one point.

    Parameters
    ----------
    cp : CrossProducts
    factors : sequence of FloatArray, each (1, c, c)
        Internal relative factors.
    first : Derivatives
        There.
    reml : bool
    """
    full = information(cp, factors, first, reml)
    basis, names = _parameters(cp, factors)
    basis = np.pad(basis, ((0, 1), (0, 1)))
    basis[-1, -1] = 1.0
    names = [*names, "residual variance"]
    reduced = basis.T @ full @ basis
    diagonal = np.diagonal(reduced)
    blank = diagonal <= _NOTHING * diagonal.max()
    found = [Ridge((names[i],)) for i in np.flatnonzero(blank)]
    rest = np.flatnonzero(~blank)
    scale = np.sqrt(diagonal[rest])
    values, vectors = np.linalg.eigh(reduced[np.ix_(rest, rest)] / np.outer(scale, scale))
    null = vectors[:, values < _NULL]
    if null.shape[1]:
        found += [Ridge(tuple(names[rest[i]] for i in group)) for group in _groups(null)]
    return tuple(found)


def _groups(null: FloatArray) -> list[list[int]]:
    """Parameters that take part in the null space, those connected by it together."""
    projector = np.abs(null @ null.T)
    linked = projector > _PART * projector.max()
    left = set(np.flatnonzero(np.diagonal(linked)).tolist())
    groups = []
    while left:
        group, reached = set[int](), {min(left)}
        while reached - group:
            group |= reached
            reached = {int(j) for i in group for j in np.flatnonzero(linked[i])} & left
        groups.append(sorted(group))
        left -= group
    return groups


def _parameters(cp: CrossProducts, factors: Sequence[FloatArray]) -> tuple[FloatArray, list[str]]:
    """Directions (entries of all G, k) that the structures allow, and their names."""
    offsets = np.cumsum([0, *(block.size * (block.size + 1) // 2 for block in cp.blocks)])
    columns, names = [], []
    for b, (part, position) in par.enumerate_terms(cp):
        term = cp.design.terms[position]
        allowed, own = _allowed(cp, factors, b, part, term.structure, term.effects)
        rows, cols = np.tril_indices(cp.blocks[b].size)
        for change, name in zip(allowed, own, strict=True):
            whole = np.zeros((cp.blocks[b].size,) * 2)
            whole[part, part] = change / np.linalg.norm(change)
            column = np.zeros(int(offsets[-1]))
            column[offsets[b] : offsets[b + 1]] = whole[rows, cols]
            columns.append(column)
            names.append(f"{name} in {term.label}")
    return np.array(columns).reshape(len(columns), int(offsets[-1])).T, names


def _allowed(
    cp: CrossProducts,
    factors: Sequence[FloatArray],
    b: int,
    part: slice,
    structure: CovarianceStructure,
    effects: tuple[str, ...],
) -> tuple[list[FloatArray], list[str]]:
    """Changes (c, c) of one term's internal covariance."""
    c = structure.size
    inverse = cp.blocks[b].inverse_basis[part, part]
    if structure.shared:
        W = par.frame(cp, b, part, structure)
        T = factors[b][0, part, part] if W is None else np.linalg.solve(W, factors[b][0, part, part])
        changes = [change if W is None else W @ change @ W.T for change in structure.directions(T)]
        named = zip(changes, structure.theta_names(effects), strict=True)
        # At a zero covariance its shape has no effect, nor has a correlation at the end of its range: no ridges.
        kept = [(change, f"parameter {name}") for change, name in named if np.abs(change).max() > _AT_AN_END]
        return [change for change, _ in kept], [name for _, name in kept]
    found, names = [], []
    for i in range(c):
        for j in range(i + 1 if structure.basis_free else 0):
            found.append(_unit(inverse, i, j))
            names.append(f"variance of {effects[i]}" if i == j else f"covariance of {effects[j]} and {effects[i]}")
        if not structure.basis_free:
            found.append(_unit(inverse, i, i))
            names.append(f"variance of {effects[i]}")
    return found, names


def _unit(inverse: FloatArray, i: int, j: int) -> FloatArray:
    """A unit change of the covariance of effects i and j on the user's columns, in internal ones."""
    product = np.outer(inverse[:, i], inverse[:, j])
    return product if i == j else product + product.T
