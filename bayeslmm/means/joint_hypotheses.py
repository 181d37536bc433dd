"""What joint tests of terms are about: contrasts over the reference grid, averaged over the other factors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations as subsets
from typing import Any

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.design.grid import FixedFunctions
from bayeslmm.design.newdata import known_recipe
from bayeslmm.equality import by_value
from bayeslmm.errors import DesignError
from bayeslmm.inference.hypothesis import rank_of
from bayeslmm.means.averages import RowLabels, averages, text_of
from bayeslmm.means.call import Names, variable_names, weighted_functions
from bayeslmm.means.grid import ReferenceGrid, given_values, reference_grid, term_variables, variables_of
from bayeslmm.types import FloatArray

# Combinations of functions whose part outside of what the data can tell is below this are estimable.
_ESTIMABLE = 1e-8


@by_value
@dataclass(frozen=True)
class JointHypothesis:
    """That some combinations of the fixed effects are all zero.

    Attributes
    ----------
    labels : dict of str to str
        ``term``, and the level of every variable of `by`.
    L : FloatArray, shape (m, p)
        Combinations that can be estimated; m is 0 if there are none.
    note : str
        ``"partly estimable"`` where empty cells leave only some, ``"not estimable"`` where they leave none.
    """

    labels: dict[str, str]
    L: FloatArray
    note: str


def joint_hypotheses(design: Design, by: Names, at: Mapping[str, Any] | None) -> list[JointHypothesis]:
    """One hypothesis for every term, and every combination of the variables of `by`; as `joint.joint_tests`.

    Raises
    ------
    DesignError
        Unknown names, or nothing to test.
    """
    groups = variable_names(design, by, None)[0]
    given = given_values(at)
    around = {name: 1.0 for name in known_recipe(design).reference.covariates if name not in given}
    grid = reference_grid(design, at, around=around)
    out = []
    for term in tested_terms(design, groups):
        term = tuple(name for name in term if len(grid.variable(name).values) > 1)
        if not term:
            continue
        found = averages(grid, term, groups, "equal")
        functions = weighted_functions(grid.functions, found.W)
        for own in found.labels.groups:
            L, partly = _estimable_part(design, functions.combined(_interactions(grid, term, found.labels, own)))
            levels = {name: text_of(found.labels.columns[name][own[0]]) for name in groups}
            note = "not estimable" if not len(L) else "partly estimable" if partly else ""
            out.append(JointHypothesis({"term": ":".join(term), **levels}, L, note))
    if not out:
        raise DesignError(f"{design.formula!r} has no factor or covariate besides {', '.join(groups) or 'a constant'}.")
    return out


def tested_terms(design: Design, groups: Sequence[str]) -> list[tuple[str, ...]]:
    """Sets of variables that occur together in a term, and all their parts, without those of groups."""
    order = [name for name in variables_of(design) if name not in groups]
    found: dict[tuple[str, ...], None] = {}
    for term in term_variables(design):
        own = [name for name in order if name in term]
        for size in range(1, len(own) + 1):
            found |= dict.fromkeys(subsets(own, size))
    return sorted(found, key=lambda term: (len(term), [order.index(name) for name in term]))


def _interactions(grid: ReferenceGrid, term: Sequence[str], labels: RowLabels, own: Any) -> FloatArray:
    """Products of differences of neighbouring values of all variables of a term, within one group."""
    C: FloatArray = np.ones((1, 1), dtype=np.float64)
    for name in term:
        # The first variable changes fastest.
        C = np.asarray(np.kron(np.diff(np.eye(len(grid.variable(name).values)), axis=0), C))
    out = np.zeros((len(C), labels.size))
    out[:, own] = C
    return out


def _estimable_part(design: Design, functions: FixedFunctions) -> tuple[FloatArray, bool]:
    """Rows that span the combinations of some functions that can be estimated, and whether these are fewer."""
    if not functions.left_out.size:
        return functions.L, False
    excess = functions.excess(design)
    size = np.maximum(np.abs(functions.left_out).max(), 1.0)
    u, s, _ = np.linalg.svd(excess / size)
    rank = int((s > _ESTIMABLE).sum())
    if not rank:
        return functions.L, False
    return u[:, rank:].T @ functions.L, True


def orthogonal_rows(L: FloatArray) -> FloatArray:
    """Orthonormal rows (k, p) that span those of L."""
    q, r = np.linalg.qr(L.T)
    kept = np.flatnonzero(np.abs(np.diagonal(r)) > _ESTIMABLE * np.abs(r).max())[: rank_of(L)]
    return np.asarray(q[:, kept].T)
