"""Joint tests of the terms of a model from means over the reference grid: type III, whatever the coding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from bayeslmm.inference.hypothesis import rank_of
from bayeslmm.means.averages import RowLabels, averages, text_of
from bayeslmm.means.call import Names, variable_names, weighted_functions
from bayeslmm.means.grid import ReferenceGrid, given_values, reference_grid, term_variables, variables_of
from bayeslmm.results.fit import Fit
from bayeslmm.results.fit_coefficients import test_fixed, upper_tail
from bayeslmm.results.linear import DDF, check_ddf, combinations
from bayeslmm.types import FloatArray

# Combinations of functions whose part outside of what the data can tell is below this are estimable.
_ESTIMABLE = 1e-8


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
    on the coding of the factors. Covariates are at their means where others are tested.

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
    >>> fit.joint_tests()[["term", "df1", "df2", "F"]].round(3)
          term  df1   df2       F
    0  Machine  2.0  46.0  87.798
    """
    check_ddf(fit, ddf)
    combined = choice("df2", df2, ("least", "combined"), DesignError) == "combined"
    design = fit.design
    groups = variable_names(design, by, None)[0]
    given = given_values(at)
    around = {name: 1.0 for name in known_recipe(design).reference.covariates if name not in given}
    grid = reference_grid(design, at, around=around)
    rows = []
    for term in tested_terms(design, groups):
        term = tuple(name for name in term if len(grid.variable(name).values) > 1)
        if not term:
            continue
        found = averages(grid, term, groups, "equal")
        functions = weighted_functions(grid.functions, found.W)
        for own in found.labels.groups:
            kept = functions.combined(_interactions(grid, term, found.labels, own))
            label = {name: text_of(found.labels.columns[name][own[0]]) for name in groups}
            rows.append({"term": ":".join(term), **label, **_tested(fit, kept, ddf, combined)})
    if not rows:
        raise DesignError(f"{design.formula!r} has no factor or covariate besides {', '.join(groups) or 'a constant'}.")
    return readable(pd.DataFrame(rows))


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


def _tested(fit: Fit, functions: FixedFunctions, ddf: DDF, combined: bool) -> dict[str, Any]:
    L, partly = _estimable_part(fit.design, functions)
    if not len(L):
        return {"df1": 0.0, "df2": np.nan, "F": np.nan, "p_value": np.nan, "note": "not estimable"}
    found = _f_row(*test_fixed(fit, L, ddf)) if combined else _least(fit, L, ddf)
    return {**found, "note": "partly estimable" if partly else ""}


def _least(fit: Fit, L: FloatArray, ddf: DDF) -> dict[str, float]:
    """Wald's F on the smallest degrees of freedom of orthogonal rows of the same space."""
    rank = rank_of(L)
    q, r = np.linalg.qr(L.T)
    kept = np.flatnonzero(np.abs(np.diagonal(r)) > _ESTIMABLE * np.abs(r).max())[:rank]
    found = combinations(fit, q[:, kept].T, ddf)
    F = float(found.estimate @ np.linalg.solve(found.covariance, found.estimate)) / len(kept)
    df1, df2 = len(kept), float(found.df.min())
    return _f_row(F, df1, df2, upper_tail(F, df1, df2))


def _f_row(F: float, df1: float, df2: float, p_value: float) -> dict[str, float]:
    return {"df1": float(df1), "df2": df2, "F": F, "p_value": p_value}


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
