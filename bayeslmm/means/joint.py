"""Joint tests of the terms of a model from means over the reference grid: type III, whatever the coding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd

from bayeslmm.arguments import choice
from bayeslmm.design.readable import readable
from bayeslmm.errors import DesignError
from bayeslmm.means.call import Names
from bayeslmm.means.joint_hypotheses import JointHypothesis, joint_hypotheses, orthogonal_rows
from bayeslmm.results.fit import Fit
from bayeslmm.results.fit_coefficients import test_fixed, upper_tail
from bayeslmm.results.linear import DDF, check_ddf, combinations
from bayeslmm.types import FloatArray


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
    rows = [{**own.labels, **_tested(fit, own, ddf, combined)} for own in joint_hypotheses(fit.design, by, at)]
    return readable(pd.DataFrame(rows))


def _tested(fit: Fit, own: JointHypothesis, ddf: DDF, combined: bool) -> dict[str, Any]:
    if not len(own.L):
        return {"df1": 0.0, "df2": np.nan, "F": np.nan, "p_value": np.nan, "note": own.note}
    found = _f_row(*test_fixed(fit, own.L, ddf)) if combined else _least(fit, own.L, ddf)
    return {**found, "note": own.note}


def _least(fit: Fit, L: FloatArray, ddf: DDF) -> dict[str, float]:
    """Wald's F on the smallest degrees of freedom of orthogonal rows of the same space."""
    rows = orthogonal_rows(L)
    found = combinations(fit, rows, ddf)
    df1 = len(rows)
    F = float(found.estimate @ np.linalg.solve(found.covariance, found.estimate)) / df1
    df2 = float(found.df.min())
    return _f_row(F, df1, df2, upper_tail(F, df1, df2))


def _f_row(F: float, df1: float, df2: float, p_value: float) -> dict[str, float]:
    return {"df1": float(df1), "df2": df2, "F": F, "p_value": p_value}
