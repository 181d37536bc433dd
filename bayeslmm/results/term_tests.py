"""Hypotheses of the terms of a fit, and their tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from bayeslmm.design.fixed_terms import FixedTerms, fixed_terms
from bayeslmm.inference.hypothesis import f_tail, hypothesis, rank_of
from bayeslmm.inference.kenward_roger import kenward_roger_f
from bayeslmm.inference.satterthwaite import satterthwaite_f
from bayeslmm.inference.term_hypotheses import AnovaType, marginal, partial, sequential
from bayeslmm.results.fit import Fit
from bayeslmm.results.linear import DDF, inflation, kenward_roger_of, plain_df, strata
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
    if design.facts is not None:
        return np.asarray(np.linalg.qr(design.facts.triangle[:, design.facts.X], mode="r"))
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

    @property
    def p_value(self) -> float:
        return float(f_tail(self.F, self.df1, self.df2))


def joint_test(
    fit: Fit,
    rows: FloatArray,
    ddf: DDF,
    df2: float | None = None,
    *,
    c: FloatArray | None = None,
    as_stated: bool = True,
) -> JointTest:
    """F test that combinations of the fixed effects are all zero, or have given values.

    Parameters
    ----------
    fit : Fit
    rows : FloatArray, shape (m, p)
    ddf : {"satterthwaite", "kenward-roger", "containment", "residual", "knapp-hartung", "z"}
    df2 : float, optional
        Denominator degrees of freedom that are known.
    c : FloatArray, shape (m,), optional
        Zeros by default.
    as_stated : bool
        Whether Satterthwaite's degrees of freedom are put together from those of the principal components of the rows
        as they are (lmerTest); False: of what the rows span, however they are stated.

    Raises
    ------
    DesignError
        No coefficients have these values.
    """
    if c is None:
        rows = rows[rows.any(axis=1)]
    if not rows.size:
        return JointTest(np.nan, 0, np.nan, np.nan)
    if ddf in ("kenward-roger", "kenward-roger-linear"):
        F, df1, df, scale = kenward_roger_f(fit.cp, fit.optimum, kenward_roger_of(fit, ddf), rows, c)
        return JointTest(F, df1, df, F / scale)
    if ddf == "satterthwaite":
        own = as_stated and rank_of(rows) == rows.shape[0]
        F, df1, df = satterthwaite_f(fit.cp, fit.optimum, rows, c, as_stated=own)
        return JointTest(F, df1, df, F)
    tested = hypothesis(fit.cp, fit.optimum, rows, c)
    F = tested.f(fit.optimum.sigma) / inflation(fit, ddf)
    df = float(plain_df(fit, rows, ddf).min()) if df2 is None else df2
    return JointTest(F, tested.values.size, df, F)


def chi_square(fit: Fit, rows: FloatArray) -> tuple[float, int]:
    """Wald's chi-square and its degrees of freedom."""
    rows = rows[rows.any(axis=1)]
    if not rows.size:
        return np.nan, 0
    tested = hypothesis(fit.cp, fit.optimum, rows)
    return tested.f(fit.optimum.sigma) * tested.values.size, tested.values.size
