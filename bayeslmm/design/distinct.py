"""Whether the variances of a design can be told apart: the rank of what they do to the covariance of the response.

The covariance of y is linear in the residual variance and the entries of every term's covariance. A combination of
these derivatives that vanishes, on the contrasts that the fixed effects leave, is a change of the variances that no
response can show. Their inner products decide, without a likelihood and whatever the values of the variances are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement

import numpy as np

from bayeslmm.design.covariance import CovarianceStructure
from bayeslmm.design.design import Design, RandomTerm
from bayeslmm.types import FloatArray, IntArray

# Eigenvalues of the inner products, scaled to unit diagonal, below this are zero: squares of relative distances.
_MOST_ROWS = 2_000
_NULL = 1e-12
# Rounding of the inner products beside their size before the fixed effects are swept out; and the most it may hide.
_ROUNDING, _MOST = 1e-13, 1e-4
# Beside its size before the fixed effects are swept out, a derivative (squared) this small has gone with them.
_NOTHING = 1e-13
# Share of the largest component above which a parameter takes part in a ridge.
_PART = 1e-3
# A change of a covariance smaller than this comes from a coordinate at the end of its range.
_AT_AN_END = 1e-6
# Parts of one term that are named one by one, at most.
_SHOWN = 6
RESIDUAL = "residual variance"
# Before the label of a parameter of the residuals.
OF_RESIDUALS = "residual "


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
        return f"only a combination is determined of the {', the '.join(self.shown)}"

    @property
    def shown(self) -> tuple[str, ...]:
        """The parts, those of a term with many of them taken together."""
        by_term: dict[str, list[str]] = {}
        for part in self.parts:
            by_term.setdefault(_owner(part), []).append(part)
        return tuple(
            text for parts in by_term.values() for text in (parts if len(parts) <= _SHOWN else [_together(parts)])
        )


def residual_part(label: str) -> str:
    """What a parameter of the residuals is called in a ridge."""
    return OF_RESIDUALS + label.removeprefix("residual_")


def _owner(part: str) -> str:
    """The term of a part; what stands for the residuals if it is theirs."""
    if part == RESIDUAL:
        return RESIDUAL
    return OF_RESIDUALS if part.startswith(OF_RESIDUALS) else part.partition(" in ")[2]


def _together(parts: Sequence[str]) -> str:
    """Many parameters of one term, or of the residuals, in few words."""
    if _owner(parts[0]) == OF_RESIDUALS:
        return f"{len(parts)} parameters of the residuals"
    counts = [(sum(part.startswith(what) for part in parts), what) for what in ("variance", "covariance", "parameter")]
    return f"{' and '.join(f'{n} {what}s' for n, what in counts if n)} of {_owner(parts[0])}"


@dataclass(frozen=True)
class VarianceChange:
    """One term on columns of one length, and the changes of its covariance that its structure allows."""

    codes: IntArray
    n_levels: int
    Z: FloatArray  # (n, c)
    changes: FloatArray  # (d, c, c)
    to_user: FloatArray  # (d, d): from these changes to those of the user's parameters, on columns of one length
    names: tuple[str, ...]
    basis: FloatArray  # (c, c): what the user's columns were multiplied by


def find_ridges(
    design: Design, reml: bool = True, thetas: Sequence[FloatArray | None] | None = None, flat: float = _NULL
) -> tuple[Ridge, ...]:
    """Changes of the variance parameters that a response of this design cannot show.

    Parameters
    ----------
    design : Design
    reml : bool
        Whether the fixed effects are unknown, so that only error contrasts count.
    thetas : sequence of FloatArray (k,) or None, optional
        For each term the theta at which a structure that is not linear in its parameters is looked at; an sd of 1
        and a correlation of 0.3 where there is none.
    flat : float
        Share of its size (squared) below which what is left of a change is none.

    Examples
    --------
    >>> import pandas as pd
    >>> from bayeslmm.design.build import build_design
    >>> frame = pd.DataFrame({"y": [1.0, 2.0, 4.0, 3.0], "g": ["a", "a", "b", "b"], "x": [0.0, 1.0, 0.0, 1.0]})
    >>> design = build_design("y ~ 1 + (x | g)", frame, saturated="allow")
    >>> print(find_ridges(design)[0])
    only a combination is determined of the variance of Intercept in (x | g), the covariance of Intercept and x in \
(x | g), the variance of x in (x | g), the residual variance
    """
    scale, residual = _rows(design)
    terms = changes_of(design, [term.Z for term in design.terms], thetas or [None] * len(design.terms))
    terms = [replace(term, Z=term.Z * scale[:, None]) for term in terms]
    before, after = _inner_products(design, terms, scale, residual, reml)
    return ridges_among(design, terms, before, after, flat)


def ridges_among(
    design: Design, terms: Sequence[VarianceChange], before: FloatArray, after: FloatArray, flat: float
) -> tuple[Ridge, ...]:
    """Ridges from the inner products (k, k) of the changes, before and after the fixed effects are swept out."""
    names = [name for term in terms for name in term.names] + [RESIDUAL]
    if design.sigma is not None:
        before, after = before[:-1, :-1], after[:-1, :-1]
    vectors = _null_vectors(before, after, flat)
    if not vectors.shape[1]:
        return ()
    ends = np.cumsum([0, *(len(term.names) for term in terms)])
    null = vectors.copy()
    for term, start, stop in zip(terms, ends[:-1], ends[1:], strict=True):
        null[start:stop] = term.to_user @ vectors[start:stop]
    length = np.linalg.norm(null, axis=0)
    # A column of zeros has no unit on which its variance could be shown.
    null = np.linalg.qr(null / np.where(length > 0, length, 1.0))[0]
    return tuple(Ridge(tuple(names[i] for i in group)) for group in _connected(null))


def crowded(design: Design) -> tuple[int, ...]:
    """Terms that have at least as many random effects as there are observations."""
    return tuple(
        i
        for i, term in enumerate(design.terms)
        if len(term.effects) * design.groupings[term.group].n_levels >= design.n_observations
    )


def reproduces_any_response(design: Design) -> bool:
    """Whether the effects and coefficients can give whatever response: likelihoods are bounded where sigma is zero.

    Decided for at most `_MOST_ROWS` rows; with more, False.
    """
    n = design.n
    widths = [(design.groupings[term.group].n_levels, len(term.effects)) for term in design.terms]
    if n != design.n_observations or n > _MOST_ROWS or sum(J * c for J, c in widths) + design.p < n:
        return False
    columns = [design.X]
    for term, (levels, c) in zip(design.terms, widths, strict=True):
        wide = np.zeros((n, levels, c))
        wide[np.arange(n), design.groupings[term.group].codes] = term.Z
        columns.append(wide.reshape(n, -1))
    return bool(np.linalg.matrix_rank(np.concatenate(columns, axis=1)) == n)


def _rows(design: Design) -> tuple[FloatArray, FloatArray]:
    """What each row is multiplied by, and its residual variance (up to a factor) afterwards.

    Rows with less weight than most are shrunk, which changes no rank: their residual variances would hide all others.
    """
    if design.weights is None:
        return np.ones(design.n), np.ones(design.n)
    share = design.weights / np.median(design.weights)
    light = share < 1.0
    return np.where(light, np.sqrt(np.where(light, share, 1.0)), 1.0), np.where(light, 1.0, 1.0 / share)


def changes_of(
    design: Design, columns: Sequence[FloatArray], thetas: Sequence[FloatArray | None]
) -> list[VarianceChange]:
    """Changes of every term, whose columns (n, c) are given, or others with the same cross-products."""
    return [_on_one_length(design, *known) for known in zip(design.terms, columns, thetas, strict=True)]


def _on_one_length(design: Design, term: RandomTerm, columns: FloatArray, theta: FloatArray | None) -> VarianceChange:
    grouping, structure = design.groupings[term.group], term.structure
    Z, length = _scaled(columns)
    basis = np.diag(1.0 / length)
    if not structure.plain:
        x = structure.coordinates(_regular(structure) if theta is None else theta)
        named = [
            (change / np.linalg.norm(change), f"parameter {name} in {term.label}")
            for change, name in zip(structure.directions(x), structure.theta_names(term.effects), strict=True)
            # A correlation at the end of its range has no effect: no ridge.
            if np.abs(change).max() > _AT_AN_END
        ]
        changes = np.array([change for change, _ in named]).reshape(-1, structure.size, structure.size)
        to_user, names = np.eye(len(named)), tuple(name for _, name in named)
        if structure.linear is not None:
            changes, to_user = structure.linear
            names = tuple(f"parameter {name} in {term.label}" for name in structure.theta_names(term.effects))
        Z = columns / max(float(length.max()), 1e-300)
        basis = np.eye(len(length)) / max(float(length.max()), 1e-300)
    elif structure.basis_free:
        Z, back = _orthogonal(Z)
        basis = basis @ back
        rows, cols = np.tril_indices(structure.size)
        changes = _pairs(rows, cols, structure.size)
        to_user = np.array([(back @ change @ back.T)[rows, cols] for change in changes]).T
        names = tuple(_entry(term, int(i), int(j)) for i, j in zip(rows, cols, strict=True))
    else:
        diagonal = np.arange(structure.size)
        changes, to_user = _pairs(diagonal, diagonal, structure.size), np.eye(structure.size)
        names = tuple(_entry(term, int(i), int(i)) for i in diagonal)
    return VarianceChange(grouping.codes, grouping.n_levels, Z, changes, to_user, names, basis)


def _regular(structure: CovarianceStructure) -> FloatArray:
    """Theta with sds of 1 and a first correlation of 0.3."""
    theta = np.ones(len(structure.rows))
    theta[len(structure.sd_effects) :] = 0.3 * (np.arange(len(structure.pairs)) == 0)
    return theta


def _scaled(Z: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Columns with a root mean square of 1, where they are not zero, and what they were divided by."""
    largest = np.abs(Z).max(axis=0)
    length = largest * np.sqrt(np.mean((Z / np.where(largest > 0, largest, 1.0)) ** 2, axis=0))
    length = np.where(length > 0, length, 1.0)
    return Z / length, length


def _orthogonal(Z: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Orthogonal columns of length sqrt(n), and the change (c, c) of coordinates back, where there are such.

    Centred first where a column is constant: a covariate far from zero then loses no digits.
    """
    n, c = Z.shape
    constant = next((k for k in range(c) if Z[0, k] != 0 and (Z[:, k] == Z[0, k]).all()), None)
    shift = np.eye(c)
    if constant is not None and c > 1:
        others = np.arange(c) != constant
        shift[constant, others] = -Z[:, others].mean(axis=0) / Z[0, constant]
        Z = Z.copy()
        Z[:, others] -= Z[:, others].mean(axis=0)
    spread = np.sqrt(np.mean(Z**2, axis=0))
    spread = np.where(spread > 0, spread, 1.0)
    Q, R = np.linalg.qr(Z / spread)
    diagonal = np.abs(np.diagonal(R))
    if R.shape[0] < c or diagonal.min() < 1e-11 * diagonal.max():
        return Z / spread, shift / spread
    return Q * np.sqrt(n), (shift / spread) @ np.linalg.inv(R) * np.sqrt(n)


def _pairs(rows: IntArray, cols: IntArray, c: int) -> FloatArray:
    """Symmetric matrices (d, c, c) with ones at one entry and its mirror image."""
    out = np.zeros((len(rows), c, c))
    out[np.arange(len(rows)), rows, cols] = out[np.arange(len(rows)), cols, rows] = 1.0
    return out


def _entry(term: RandomTerm, i: int, j: int) -> str:
    effects = term.effects
    what = f"variance of {effects[i]}" if i == j else f"covariance of {effects[j]} and {effects[i]}"
    return f"{what} in {term.label}"


def _inner_products(
    design: Design, terms: Sequence[VarianceChange], scale: FloatArray, residual: FloatArray, reml: bool
) -> tuple[FloatArray, FloatArray]:
    """``tr(V_a V_b)`` and ``tr(M V_a M V_b)``, each (k, k), the residual last; M sweeps the fixed effects out."""
    count = design.counts
    U = _fixed_basis(design.X * scale[:, None], count) if reml else np.zeros((design.n, 0))
    sums = [_by_level(term.codes, term.n_levels, count[:, None] * term.Z, U) for term in terms]
    ends = np.cumsum([0, *(len(term.changes) for term in terms)])
    k = int(ends[-1]) + 1
    before, after, swept = np.zeros((k, k)), np.zeros((k, k)), np.zeros((k, U.shape[1], U.shape[1]))
    for i, j in combinations_with_replacement(range(len(terms)), 2):
        tile = np.s_[ends[i] : ends[i + 1], ends[j] : ends[j + 1]]
        before[tile], after[tile] = _pair(terms[i], terms[j], sums[i], sums[j], count)
    for term, B, start, stop in zip(terms, sums, ends[:-1], ends[1:], strict=True):
        own = _by_level(term.codes, term.n_levels, (count * residual)[:, None] * term.Z, np.hstack([term.Z, U]))
        c = term.Z.shape[1]
        before[start:stop, -1] = np.tensordot(term.changes, own[:, :, :c].sum(axis=0), 2)
        after[start:stop, -1] = np.tensordot(term.changes, np.einsum("lap,lbp->ab", B, own[:, :, c:]), 2)
        middle = np.einsum("lap,lbq->abpq", B, B)
        swept[start:stop] = np.einsum("dab,abpq->dpq", term.changes, middle)
    before[-1, -1], after[-1, -1] = count @ residual**2, (count * residual**2) @ (U**2).sum(axis=1)
    swept[-1] = (U * (count * residual)[:, None]).T @ U
    before, after = (np.triu(part) + np.triu(part, 1).T for part in (before, after))
    return before, before - 2.0 * after + np.einsum("apq,bqp->ab", swept, swept)


def _fixed_basis(X: FloatArray, count: FloatArray) -> FloatArray:
    """Columns (n, p) that span X and are orthonormal over the observations."""
    root = np.sqrt(count)[:, None]
    largest = np.abs(X).max(axis=0, initial=0.0)
    scaled = X / np.where(largest > 0, largest, 1.0)
    return np.asarray(np.linalg.qr(scaled * root)[0] / root)


def _by_level(codes: IntArray, n_levels: int, left: FloatArray, right: FloatArray) -> FloatArray:
    """``sum_i left_i right_i'`` over the rows of each level, shape (J, a, b)."""
    out = np.empty((n_levels, left.shape[1], right.shape[1]))
    for a, column in enumerate(left.T):
        for b, other in enumerate(right.T):
            out[:, a, b] = np.bincount(codes, weights=column * other, minlength=n_levels)
    return out


def _pair(
    s: VarianceChange, t: VarianceChange, B: FloatArray, C: FloatArray, count: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """``tr(V_a V_b)`` and ``tr(U'V_a V_b U)`` for the changes of two terms, summed over the cells that occur."""
    cells, cell = np.unique(s.codes * t.n_levels + t.codes, return_inverse=True)
    S = _by_level(cell.ravel(), cells.size, count[:, None] * s.Z, t.Z)
    first, second = cells // t.n_levels, cells % t.n_levels
    # tr(da S db S') = sum da[a, b] S[b, e] db[e, f] S[a, f], and the same with B' and C in place of the second S.
    whole = np.einsum("lbe,laf->abef", S, S, optimize=True)
    swept = np.einsum("lbe,laf->abef", S, np.einsum("lap,lfp->laf", B[first], C[second]), optimize=True)
    both = [np.einsum("xab,abef,yef->xy", s.changes, part, t.changes, optimize=True) for part in (whole, swept)]
    return both[0], both[1]


def _null_vectors(before: FloatArray, after: FloatArray, flat: float = _NULL) -> FloatArray:
    """Combinations (k, r) of the parameters that change nothing."""
    size, left = np.diagonal(before), np.diagonal(after)
    blank = left <= _NOTHING * size
    scale = np.sqrt(np.where(blank, 1.0, left))
    scaled = np.where(blank | blank[:, None], 0.0, after / np.outer(scale, scale))
    lost = float(np.where(blank, 1.0, size / np.where(blank, 1.0, left)).max())
    values, vectors = np.linalg.eigh(scaled)
    return np.asarray(vectors[:, values < max(flat, min(_ROUNDING * lost, _MOST))] / scale[:, None])


def _connected(null: FloatArray) -> list[list[int]]:
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
