"""Whether one of two models is the other with something left out, and what that is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayeslmm.design.alike import columns_of, elsewhere, known_columns, same_groups
from bayeslmm.design.design import Design, RandomTerm
from bayeslmm.inference.mixture import Mixture
from bayeslmm.inference.null_model import Removal
from bayeslmm.results.labels import parameters
from bayeslmm.testing.residual_nesting import not_within, residual_law
from bayeslmm.types import BoolArray, FloatArray

# What columns leave of a column, relative to its length about its mean, is rounding below this.
_SPANNED = 1e-7


@dataclass(frozen=True)
class Nesting:
    """How a smaller model comes from a larger one.

    Attributes
    ----------
    fixed : int
        Fixed effects that the larger has more.
    obstacle : str
        Why the models are not nested; empty where they are, as far as terms tell.
    variances : int
        Standard deviations that the larger has more: their zero is a boundary.
    removal : Removal or None
        What is taken out of the random part, where it is one term or some effects of one.
    residual : Mixture, str or None
        Distribution of the likelihood ratio where parameters of the residuals are left out, or why none is known;
        None where the residual structures have as many.
    """

    fixed: int
    obstacle: str
    variances: int
    removal: Removal | None
    residual: Mixture | str | None = None


def step_between(small: Design, large: Design) -> Nesting:
    """Compare two designs on the same rows."""
    extra = large.p - small.p
    outside = _outside(small, None, large, [None])
    obstacle = ""
    if outside.any():
        names = [name for name, out in zip(small.fixed_names, outside, strict=True) if out]
        obstacle = f"the fixed effect(s) {', '.join(names)} of the smaller are not in the larger"
    rest, more = _unmatched(small, large)
    lost = next((term for term in rest if not _has(large, small, term)), None)
    if lost is not None and not obstacle:
        obstacle = f"the random term {lost.label} of the smaller is not in the larger"
    variances = _count_sds(large) - _count_sds(small)
    obstacle = obstacle or not_within(small.residual, large.residual)
    removal = None if obstacle else _removal(small, large, rest, more)
    if obstacle or len(large.residual.names) == len(small.residual.names):
        return Nesting(extra, obstacle, variances, removal)
    # Where both random terms and parameters of residuals are left out, no mixture is known.
    law = residual_law(small.residual, large.residual, bool(large.terms))
    return Nesting(extra, obstacle, variances, None, law)


def not_spanned(columns: FloatArray, by: FloatArray) -> BoolArray:
    """Which of the columns (n, k) are no combinations of the others (n, p)."""
    if not columns.shape[1]:
        return np.zeros(0, dtype=bool)
    scale = np.abs(by).max(axis=0)
    basis = np.linalg.qr(by / np.where(scale > 0, scale, 1.0))[0]
    left = columns
    for _ in range(2):
        left = left - basis @ (basis.T @ left)
    spread = np.linalg.norm(columns - columns.mean(axis=0), axis=0)
    size = np.where(spread > 0, spread, np.linalg.norm(columns, axis=0))
    return np.asarray(np.linalg.norm(left, axis=0) > _SPANNED * size)


def same_levels(a: Design, b: Design, group_a: str, group_b: str) -> bool:
    """Whether two grouping factors put the rows into the same groups."""
    known = same_groups(a, b, group_a, group_b)
    if known is not None:
        return known
    first, second = a.groupings[group_a].codes, b.groupings[group_b].codes
    pairs = len(set(zip(first.tolist(), second.tolist(), strict=True)))
    return a.groupings[group_a].n_levels == b.groupings[group_b].n_levels == pairs


def _outside(a: Design, part: int | None, b: Design, parts: list[int | None]) -> BoolArray:
    """Which columns of one design are no combinations of those of another."""
    if elsewhere(a, b):
        known = known_columns(a, part, b, parts)
        if known.all():
            return ~known
    return not_spanned(columns_of(a, part), np.hstack([columns_of(b, k) for k in parts]))


def _unmatched(small: Design, large: Design) -> tuple[list[RandomTerm], list[int]]:
    """Terms of the smaller model that the larger does not have as they are, and those only the larger has."""
    left, rest = list(range(len(large.terms))), []
    for i, term in enumerate(small.terms):
        own = next((k for k in left if _same(small, large, i, k)), None)
        if own is None:
            rest.append(term)
        else:
            left.remove(own)
    return rest, left


def _same(small: Design, large: Design, i: int, k: int) -> bool:
    a, b = small.terms[i], large.terms[k]
    return (
        a.structure.keyword == b.structure.keyword
        and a.Z.shape == b.Z.shape
        and same_levels(small, large, a.group, b.group)
        and not _outside(small, i, large, [k]).any()
    )


def _has(large: Design, small: Design, term: RandomTerm) -> bool:
    """Whether the effects of a term are among those of the larger model, whatever their covariances."""
    own: list[int | None] = [
        k for k, other in enumerate(large.terms) if same_levels(small, large, term.group, other.group)
    ]
    place = next(i for i, other in enumerate(small.terms) if other is term)
    return bool(own) and not _outside(small, place, large, own).any()


def _removal(small: Design, large: Design, rest: list[RandomTerm], more: list[int]) -> Removal | None:
    if len(more) != 1 or len(rest) > 1:
        return None
    term, effects = large.terms[more[0]], range(large.terms[more[0]].Z.shape[1])
    if not rest:
        return Removal(more[0], tuple(effects))
    if elsewhere(small, large):
        place = next(i for i, other in enumerate(small.terms) if other is rest[0])
        kept = np.flatnonzero(known_columns(large, more[0], small, [place])).tolist()
    else:
        kept = [k for k in effects if any(np.array_equal(term.Z[:, k], column) for column in rest[0].Z.T)]
    if len(kept) != rest[0].Z.shape[1] or len(kept) == len(effects):
        return None
    return Removal(more[0], tuple(k for k in effects if k not in kept), tuple(kept))


def _count_sds(design: Design) -> int:
    return sum(parameter.kind == "sd" for parameter in parameters(design))
