"""Whether the data can tell the variance parameters of a model apart at all.

The covariance of y is linear in the residual variance and the entries of every term's covariance. If a combination
of these derivatives vanishes, the criterion is constant along it: a ridge, on which every point is as good.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import block_diag

from bayeslmm.design.covariance import CovarianceStructure
from bayeslmm.design.design import RandomTerm
from bayeslmm.likelihood import CrossProducts, derivatives, evaluate
from bayeslmm.likelihood import parameters as par
from bayeslmm.likelihood.information import information
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


def find_ridges(cp: CrossProducts, factors: Sequence[FloatArray], reml: bool) -> tuple[Ridge, ...]:
    """Ridges of a model, from the null space of the information.

    The covariance of y is linear in the variances, so that the null space is the same at every point; it is looked
    at where all relative factors are the identity, which is well conditioned.

    Parameters
    ----------
    cp : CrossProducts
    factors : sequence of FloatArray, each (1, c, c)
        Internal relative factors; only structures that are not linear in their parameters depend on them.
    reml : bool
    """
    unit = [np.eye(block.size)[None] for block in cp.blocks]
    full = information(cp, unit, derivatives(cp, unit, evaluate(cp, unit), reml), reml)
    basis, to_user, names = _parameters(cp, factors)
    basis, to_user = (np.pad(part, ((0, 1), (0, 1))) for part in (basis, to_user))
    basis[-1, -1] = to_user[-1, -1] = 1.0
    names = [*names, "residual variance"]
    reduced = basis.T @ full @ basis
    diagonal = np.diagonal(reduced)
    blank = diagonal <= _NOTHING * diagonal.max()
    scale = np.sqrt(np.where(blank, 1.0, diagonal))
    scaled = np.where(blank | blank[:, None], 0.0, reduced / np.outer(scale, scale))
    values, vectors = np.linalg.eigh(scaled)
    null = to_user @ (vectors[:, values < _NULL] / scale[:, None])
    if not null.shape[1]:
        return ()
    length = np.linalg.norm(null, axis=0)
    # A column of zeros has no unit on which its variance could be shown.
    null = np.linalg.qr(null / np.where(length > 0, length, 1.0))[0]
    return tuple(Ridge(tuple(names[i] for i in group)) for group in _groups(null))


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


def _parameters(cp: CrossProducts, factors: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray, list[str]]:
    """Changes of all G that the structures allow, on internal columns.

    Returns
    -------
    FloatArray, shape (entries, k)
        One change per column.
    FloatArray, shape (k, k)
        To changes of the user's parameters, on columns brought to one length.
    list of str
        Names of these.
    """
    offsets = np.cumsum([0, *(block.size * (block.size + 1) // 2 for block in cp.blocks)])
    columns, maps, names = list[FloatArray](), list[FloatArray](), list[str]()
    for b, (part, position) in par.enumerate_terms(cp):
        term = cp.design.terms[position]
        allowed, own = _allowed(cp, factors, b, part, term.structure, term.effects)
        rows, cols = np.tril_indices(cp.blocks[b].size)
        for change in allowed:
            whole = np.zeros((cp.blocks[b].size,) * 2)
            whole[part, part] = change / np.linalg.norm(change)
            column = np.zeros(int(offsets[-1]))
            column[offsets[b] : offsets[b + 1]] = whole[rows, cols]
            columns.append(column)
        maps.append(_to_user(cp.blocks[b].basis[part, part], term, allowed))
        names += [f"{name} in {term.label}" for name in own]
    basis = np.array(columns).reshape(len(columns), int(offsets[-1])).T
    return basis, np.asarray(block_diag(*maps)) if columns else np.zeros((0, 0)), names


def _to_user(transform: FloatArray, term: RandomTerm, allowed: list[FloatArray]) -> FloatArray:
    """From changes of a term's internal covariance to those of the user's entries."""
    if not term.structure.basis_free:
        return np.eye(len(allowed))
    length = np.sqrt(np.mean(term.Z**2, axis=0))
    length = np.where(length > 0, length, 1.0)
    scaled = length[:, None] * transform
    rows, cols = np.tril_indices(len(length))
    return np.array([(scaled @ change @ scaled.T)[rows, cols] / np.linalg.norm(change) for change in allowed]).T


def _allowed(
    cp: CrossProducts,
    factors: Sequence[FloatArray],
    b: int,
    part: slice,
    structure: CovarianceStructure,
    effects: tuple[str, ...],
) -> tuple[list[FloatArray], list[str]]:
    """Changes (c, c) of one term's internal covariance, and the user's parameters (in the same number)."""
    c = structure.size
    if structure.shared:
        W = par.frame(cp, b, part, structure)
        T = factors[b][0, part, part] if W is None else np.linalg.solve(W, factors[b][0, part, part])
        changes = [change if W is None else W @ change @ W.T for change in structure.directions(T)]
        named = zip(changes, structure.theta_names(effects), strict=True)
        # At a zero covariance its shape has no effect, nor has a correlation at the end of its range: no ridges.
        kept = [(change, f"parameter {name}") for change, name in named if np.abs(change).max() > _AT_AN_END]
        return [change for change, _ in kept], [name for _, name in kept]
    pairs = [(i, j) for i in range(c) for j in range(i + 1) if structure.basis_free or i == j]
    found = []
    for i, j in pairs:
        change = np.zeros((c, c))
        change[i, j] = change[j, i] = 1.0
        found.append(change)
    names = [
        f"variance of {effects[i]}" if i == j else f"covariance of {effects[j]} and {effects[i]}" for i, j in pairs
    ]
    return found, names
