"""Hypotheses of the terms of a fit, and their tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from bayeslmm.design.fixed_terms import FixedTerms, fixed_terms
from bayeslmm.inference.hypothesis import hypothesis, rank_of
from bayeslmm.inference.kenward_roger import kenward_roger_f, kenward_roger_scale
from bayeslmm.inference.satterthwaite import satterthwaite_components_f
from bayeslmm.inference.term_hypotheses import AnovaType, marginal, partial, sequential
from bayeslmm.results.fit import Fit
from bayeslmm.results.linear import DDF, inflation, plain_df, strata
from bayeslmm.types import FloatArray

type Metric = Literal["ols", "gls"]


@dataclass(frozen=True, eq=False)
class TermHypotheses:
    """What an analysis of variance tests.

    Attributes
    ----------
    fixed : FixedTerms
    rows : tuple of FloatArray, each (m, p)
        Combinations of the coefficients that are zero, for each of ``fixed.all``.
    by_cells : bool
        Whether type III could be stated on cells; else its rows are the coefficients as they are coded.
    """

    fixed: FixedTerms
    rows: tuple[FloatArray, ...]
    by_cells: bool = True


def term_hypotheses(fit: Fit, kind: AnovaType, metric: Metric = "ols") -> TermHypotheses:
    """Hypotheses of all terms of the fixed part, the constant first where there is one.

    That of the constant is of the average over all cells, except for type 1.

    Raises
    ------
    DesignError
        The design has no formula, or functions of it were lost.
    """
    fixed, p = fixed_terms(fit.design), fit.design.p
    coefficients = [np.eye(p)[term.columns] for term in fixed.all]
    by_cells = None if kind == 1 else partial(fixed)
    # A single term is adjusted for the constant whatever the type.
    if kind == 1 or len(fixed.terms) == 1:
        rows = sequential(fixed, _root(fit, metric))
    elif kind == 2:
        rows = marginal(fixed, _root(fit, metric), by_variables=metric == "gls")
    else:
        rows = coefficients if by_cells is None else by_cells
    if kind != 1 and fixed.constant is not None:
        rows[0] = coefficients[0] if by_cells is None else by_cells[0]
    return TermHypotheses(fixed, tuple(rows), by_cells=kind == 1 or by_cells is not None)


def _root(fit: Fit, metric: Metric) -> FloatArray:
    """R (p, p) with ``R'R`` the cross-products of the columns of X, of observations or of generalized least squares."""
    design, cp = fit.design, fit.cp
    if metric == "gls":
        chol = fit.optimum.factor.chol[0, cp.q_trailing :, cp.q_trailing :]
        return np.asarray(np.linalg.solve(cp.fixed.transform.T, chol).T)
    X = design.X if design.frequency is None else design.X * np.sqrt(design.frequency)[:, None]
    return np.asarray(np.linalg.qr(X, mode="r"))


def term_df(fit: Fit, fixed: FixedTerms) -> FloatArray:
    """Degrees of freedom of ``fixed.all`` by containment."""
    return strata(fit).of_terms([term.columns for term in fixed.all])


@dataclass(frozen=True)
class JointTest:
    """An F test.

    Attributes
    ----------
    F : float
        nan of rows that say nothing.
    df1 : int
    df2 : float
    wald : float
        The mean of squared z statistics: F before Kenward and Roger scale it.
    """

    F: float
    df1: int
    df2: float
    wald: float


def joint_test(fit: Fit, rows: FloatArray, ddf: DDF, df2: float | None = None) -> JointTest:
    """F test that combinations of the fixed effects are all zero.

    Parameters
    ----------
    fit : Fit
    rows : FloatArray, shape (m, p)
        As they are stated: their principal components are those that Satterthwaite's degrees of freedom are put
        together from.
    ddf : {"satterthwaite", "kenward-roger", "containment", "residual", "knapp-hartung", "z"}
    df2 : float, optional
        Denominator degrees of freedom that are known.
    """
    rows = rows[rows.any(axis=1)]
    if not rows.size:
        return JointTest(np.nan, 0, np.nan, np.nan)
    if ddf == "kenward-roger":
        F, df1, df, _ = kenward_roger_f(fit.cp, fit.optimum, fit._kenward_roger, rows)
        return JointTest(F, df1, df, F / kenward_roger_scale(fit.cp, fit.optimum, fit._kenward_roger, rows))
    if ddf == "satterthwaite":
        independent = rank_of(rows) == rows.shape[0]
        F, df1, df = satterthwaite_components_f(fit.cp, fit.optimum, rows, as_stated=independent)
        return JointTest(F, df1, df, F)
    tested = hypothesis(fit.cp, fit.optimum, rows)
    df, F = (
        float(plain_df(fit, rows, ddf).min()) if df2 is None else df2,
        tested.f(fit.optimum.sigma) / inflation(fit, ddf),
    )
    return JointTest(F, tested.values.size, df, F)


def chi_square(fit: Fit, rows: FloatArray) -> tuple[float, int]:
    """Wald's chi-square and its degrees of freedom."""
    rows = rows[rows.any(axis=1)]
    if not rows.size:
        return np.nan, 0
    tested = hypothesis(fit.cp, fit.optimum, rows)
    return tested.f(fit.optimum.sigma) * tested.values.size, tested.values.size
