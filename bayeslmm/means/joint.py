"""Joint tests of the terms of a model from means over the reference grid: type III, whatever the coding."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations as subsets
from typing import Any, Literal

import numpy as np
import pandas as pd

from bayeslmm.arguments import choice
from bayeslmm.design.design import Design
from bayeslmm.design.grid import FixedFunctions
from bayeslmm.design.newdata import known_recipe
from bayeslmm.design.readable import readable
from bayeslmm.errors import DesignError
from bayeslmm.inference.hypothesis import f_tail, rank_of
from bayeslmm.means.averages import RowLabels, averages, text_of
from bayeslmm.means.call import Names, variable_names, weighted_functions
from bayeslmm.means.grid import ReferenceGrid, given_values, reference_grid, term_variables, variables_of
from bayeslmm.means.nesting import Nesting, nesting_of, with_nesters
from bayeslmm.results.figures import column_texts
from bayeslmm.results.fit import Fit
from bayeslmm.results.linear import DDF, check_ddf, combinations
from bayeslmm.results.term_tests import joint_test
from bayeslmm.types import FloatArray, IntArray

# Combinations of functions whose part outside of what the data can tell is below this are estimable.
_ESTIMABLE = 1e-8
# Covariates that take two values each in one grid.
_MOST_AROUND = 10


def joint_tests(
    fit: Fit,
    by: Names = None,
    *,
    at: Mapping[str, Any] | None = None,
    ddf: DDF = "satterthwaite",
    df2: Literal["least", "combined"] = "least",
) -> pd.DataFrame:
    """F tests that all contrasts of a factor, all slopes, or all interactions are zero.

    They are averages over the other factors, with equal weights. Tests of this kind are of type III: they do not depend
    on the coding of the factors. Covariates are at their means where others are
    tested; one with two values takes both. A factor that is nested in
    another (``f / h``, or levels that occur with one level of the other each) is tested within it, as ``f:h``.

    Parameters
    ----------
    by : str or sequence of str, optional
        Factors for whose combinations the others are tested separately.
    at : mapping, optional
        As in `fit_means`.
    ddf : {"satterthwaite", "kenward-roger", "containment", "residual", "z"}
        Of single functions, as in `fit_means`.
    df2 : {"least", "combined"}
        How those of several functions become one number. ``"least"``: the smallest of orthogonal functions, with
        Wald's F (emmeans; in unbalanced data it depends a little on the reference levels). ``"combined"``: the test of
        `test_fixed` and of ANOVA tables (Fai and Cornelius, or Kenward and Roger with their scaled F).

    Returns
    -------
    pandas.DataFrame
        ``term``, the columns of `by`, ``df1``, ``df2``, ``F``, ``p_value``, and ``note``: ``"partly estimable"``
        where empty cells leave only some of the contrasts, ``"not estimable"`` where they leave none.

    Raises
    ------
    DesignError
        Unknown names.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("score ~ Machine + (1 | Worker)", bl.load_dataset("Machines")).fit()
    >>> fit.joint_tests()
       term     df1  df2       F    p_value  note
    0  Machine    2   46  87.798  < 2.2e-16
    """
    check_ddf(fit, ddf)
    combined = choice("df2", df2, ("least", "combined"), DesignError) == "combined"
    design = fit.design
    groups = variable_names(design, by, None)[0]
    grids = _grids(design, at)
    nesting = nesting_of(design)
    groups = with_nesters(nesting, groups, ())
    rows = []
    for term in tested_terms(design, groups, nesting):
        grid = grids(term)
        term = tuple(name for name in term if len(grid.variable(name).values) > 1)
        if not term:
            continue
        found = averages(grid, term, groups, "equal")
        functions = weighted_functions(grid.functions, found.W)
        nesters = [name for name in term if any(name in nesting.get(one, ()) for one in term)]
        for own in found.labels.groups:
            C = _interactions(term, nesters, found.labels, own)
            if not len(C):
                continue
            kept = functions.combined(C)
            label = {name: text_of(found.labels.columns[name][own[0]]) for name in groups}
            rows.append({"term": ":".join(term), **label, **_tested(fit, kept, ddf, combined)})
    if not rows:
        raise DesignError(f"{design.formula!r} has no factor or covariate besides {', '.join(groups) or 'a constant'}.")
    frame = pd.DataFrame(rows)
    return readable(frame, lambda: column_texts(frame))


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


def _tested(fit: Fit, functions: FixedFunctions, ddf: DDF, combined: bool) -> dict[str, Any]:
    L, partly = _estimable_part(fit.design, functions)
    if not len(L):
        return {"df1": 0.0, "df2": np.nan, "F": np.nan, "p_value": np.nan, "note": "not estimable"}
    found = _combined(fit, L, ddf) if combined else _least(fit, L, ddf)
    return {**found, "note": "partly estimable" if partly else ""}


def _least(fit: Fit, L: FloatArray, ddf: DDF) -> dict[str, float]:
    """Wald's F on the smallest degrees of freedom of orthogonal rows of the same space."""
    rank = rank_of(L)
    q, r = np.linalg.qr(L.T)
    kept = np.flatnonzero(np.abs(np.diagonal(r)) > _ESTIMABLE * np.abs(r).max())[:rank]
    found = combinations(fit, q[:, kept].T, ddf)
    F = float(found.estimate @ np.linalg.solve(found.covariance, found.estimate)) / len(kept)
    df1, df2 = len(kept), float(found.df.min())
    return {"df1": float(df1), "df2": df2, "F": F, "p_value": float(f_tail(F, df1, df2))}


def _combined(fit: Fit, L: FloatArray, ddf: DDF) -> dict[str, float]:
    found = joint_test(fit, L, ddf, as_stated=False)
    return {"df1": float(found.df1), "df2": found.df2, "F": found.F, "p_value": found.p_value}


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
