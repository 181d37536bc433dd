"""What joint tests of terms are about: contrasts over the reference grid, averaged over the other factors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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
from bayeslmm.means.nesting import Nesting, nesting_of, with_nesters
from bayeslmm.types import FloatArray, IntArray

# Combinations of functions whose part outside of what the data can tell is below this are estimable.
_ESTIMABLE = 1e-8
# Covariates that take two values each in one grid.
_MOST_AROUND = 10


@by_value
@dataclass(frozen=True, eq=False)
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
    grids = _grids(design, at)
    nesting = nesting_of(design)
    groups = with_nesters(nesting, groups, ())
    out = []
    for term in tested_terms(design, groups, nesting):
        grid = grids(term)
        term = tuple(name for name in term if len(grid.variable(name).values) > 1)
        if not term:
            continue
        found = averages(grid, term, groups, "equal", nesting=nesting)
        functions = weighted_functions(grid.functions, found.W)
        nesters = [name for name in term if any(name in nesting.get(one, ()) for one in term)]
        for own in found.labels.groups:
            C = _interactions(term, nesters, found.labels, own)
            if not len(C):
                continue
            L, partly = _estimable_part(design, functions.combined(C))
            levels = {name: text_of(found.labels.columns[name][own[0]]) for name in groups}
            note = "not estimable" if not len(L) else "partly estimable" if partly else ""
            out.append(JointHypothesis({"term": ":".join(term), **levels}, L, note))
    if not out:
        raise DesignError(f"{design.formula!r} has no factor or covariate besides {', '.join(groups) or 'a constant'}.")
    return out


def _grids(design: Design, at: Mapping[str, Any] | None) -> Callable[[Sequence[str]], ReferenceGrid]:
    """The grid on which a term is tested: covariates one below and one above their mean, or where `at` says.

    Where covariates are so many that their combinations would be, those of other terms are at their mean.
    """
    given, reference = given_values(at), known_recipe(design).reference
    around = {name: 1.0 for name in reference.covariates if name not in given and name not in reference.factors}
    if len(around) <= _MOST_AROUND:
        whole = reference_grid(design, at, around=around)
        return lambda term: whole
    return lambda term: reference_grid(design, at, around={name: d for name, d in around.items() if name in term})


def tested_terms(design: Design, groups: Sequence[str], nesting: Nesting) -> list[tuple[str, ...]]:
    """Sets of variables that occur together in a term, and all their parts, without those of groups.

    A nested factor goes with all that it is nested in.
    """
    order = [name for name in variables_of(design) if name not in groups]
    found: dict[tuple[str, ...], None] = {}
    for term in (*term_variables(design), *(frozenset({name, *outer}) for name, outer in nesting.items())):
        own = [name for name in order if name in term]
        for size in range(1, len(own) + 1):
            found |= dict.fromkeys(subsets(own, size))
    whole = [term for term in found if not set(with_nesters(nesting, term, groups)) - set(term)]
    return sorted(whole, key=lambda term: (len(term), [order.index(name) for name in term]))


def _interactions(term: Sequence[str], nesters: Sequence[str], labels: RowLabels, own: IntArray) -> FloatArray:
    """Products of differences of neighbouring values of the variables of a term, within one group.

    Those that others are nested in are held: differences are within their levels.
    """
    varying = [name for name in term if name not in nesters]
    inner = replace(labels, by=(*labels.by, *nesters)).groups
    blocks = [rows for rows in inner if np.isin(rows, own).all()]
    out = []
    for rows in blocks:
        C: FloatArray = np.ones((1, 1), dtype=np.float64)
        for name in varying:
            values = {labels.columns[name][i] for i in rows.tolist()}
            # The first variable changes fastest.
            C = np.asarray(np.kron(np.diff(np.eye(len(values)), axis=0), C))
        wide = np.zeros((len(C), labels.size))
        wide[:, rows] = C
        out.append(wide)
    return np.concatenate(out)


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
