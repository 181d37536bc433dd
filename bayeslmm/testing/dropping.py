"""Terms left out of a fit, one at a time: F tests, and backward elimination."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.linalg import null_space

from bayeslmm.arguments import real
from bayeslmm.design.fixed_terms import FixedTerm, FixedTerms, fixed_terms
from bayeslmm.design.readable import HeadedTable, headed
from bayeslmm.design.screen import fill
from bayeslmm.errors import DesignError
from bayeslmm.inference.hypothesis import chi_square_tail
from bayeslmm.inference.null_model import clamp
from bayeslmm.results.fit import Fit
from bayeslmm.results.linear import DDF, check_ddf
from bayeslmm.results.term_tests import joint_test
from bayeslmm.testing.reduced import RandomUnit, random_units, without_fixed, without_random
from bayeslmm.testing.term_table import METHODS, f_frame, table_texts
from bayeslmm.types import FloatArray


@dataclass(frozen=True)
class BackwardElimination:
    """What backward elimination did.

    Attributes
    ----------
    random : DataFrame
        Likelihood-ratio tests of the random terms: eliminated ones with the step at which they went, then the rest.
    fixed : DataFrame
        F tests of the terms of the fixed part, likewise.
    fit : REMLResult
        The model that is left.
    """

    random: HeadedTable
    fixed: HeadedTable
    fit: Fit

    def __repr__(self) -> str:
        last = fill(f"Model that is left: {self.fit.formula}", indent="  ")
        return f"{self.random!r}\n\n{self.fixed!r}\n\n{last}"

    def _repr_html_(self) -> str:
        return "\n".join([self.random._repr_html_() or "", self.fixed._repr_html_() or "", self.fit.formula])


def drop1(fit: Fit, ddf: DDF = "satterthwaite") -> HeadedTable:
    """F test of every term of the fixed part that can be left out by itself: those that no other term contains.

    Parameters
    ----------
    ddf : {"satterthwaite", "kenward-roger", "containment", "residual", "z"}
        As in `anova`.

    Returns
    -------
    pandas.DataFrame
        Columns as `anova`; nan for a term whose columns others span, without which the model is the same.

    Raises
    ------
    DesignError
        Unknown ddf; no terms; else as `coefficients`.
    FitError
        As `coefficients`.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()
    >>> fit.drop1()
    Terms left out one at a time, F tests with Satterthwaite's method
          Sum Sq  Mean Sq  NumDF  DenDF  F value    Pr(>F)
    Days   30031    30031      1     17   45.853  3.26e-06
    """
    check_ddf(fit, ddf)
    frame = _drop_tests(fit, fixed_terms(fit.design), ddf)
    if not len(frame):
        raise DesignError(f"The fixed part of {fit.formula!r} has no terms but the constant.")
    heading = f"Terms left out one at a time, F tests with {METHODS[ddf]}"
    return headed(frame, heading, (), lambda: table_texts(frame))


def step(
    fit: Fit, ddf: DDF = "satterthwaite", *, alpha_random: float = 0.1, alpha_fixed: float = 0.05
) -> BackwardElimination:
    """Backward elimination: random terms by likelihood ratios, then terms of the fixed part by F tests.

    Parameters
    ----------
    ddf : {"satterthwaite", "kenward-roger", "containment", "residual", "z"}
        Of the F tests.
    alpha_random, alpha_fixed : float
        A term with a larger p value is left out, the one with the largest first.

    Returns
    -------
    BackwardElimination
        ``random`` and ``fixed`` (tables), ``fit`` (what is left).

    Raises
    ------
    DesignError
        Levels outside 0 to 1; else as `drop1`.
    FitError
        As `drop1`.

    Notes
    -----
    P values after a selection are too small, and what is left out is not shown to be zero. Likelihood ratios of
    variances are referred to chi-square, which keeps random terms less often than the mixture of `bayeslmm.ranova`
    would. The last random term is never left out, nor is any where theta was given (``fix=``).

    References
    ----------
    Kuznetsova, Brockhoff & Christensen (2017), J. Stat. Softw. 82(13).

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Reaction ~ Days + I(Days**2) + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()
    >>> fit.step().fit.formula
    'Reaction ~ 1 + Days + (Days | Subject)'
    """
    levels = [
        real(name, value, least=0.0, most=1.0, error=DesignError)
        for name, value in (("alpha_random", alpha_random), ("alpha_fixed", alpha_fixed))
    ]
    check_ddf(fit, ddf)
    random, fit = _random_steps(fit, levels[0])
    fixed, fit = _fixed_steps(fit, ddf, levels[1])
    return BackwardElimination(random, fixed, fit)


def _drop_tests(fit: Fit, fixed: FixedTerms, ddf: DDF) -> pd.DataFrame:
    droppable = [term for term in fixed.terms if not _contained(fixed, term)]
    tests = [joint_test(fit, _marginal_rows(fixed, term), ddf) for term in droppable]
    return f_frame(tests, pd.Index([term.label for term in droppable], dtype=str), fit.sigma)


def _contained(fixed: FixedTerms, term: FixedTerm) -> bool:
    """Whether another term has all variables of this one."""
    own = term.factors | term.numeric
    return any(own < other.factors | other.numeric for other in fixed.terms)


def _marginal_rows(fixed: FixedTerms, term: FixedTerm) -> FloatArray:
    """Combinations of coefficients that are zero without the columns of a term."""
    p = fixed.full.shape[0]
    others = np.delete(fixed.full, np.arange(term.place.start, term.place.stop), axis=1)
    missing = p - int(np.linalg.matrix_rank(others)) if others.size else p
    if missing == 0:
        return np.zeros((0, p))
    if missing == term.columns.size:
        return np.eye(p)[term.columns]
    return np.asarray(null_space(others.T).T)


def _random_steps(fit: Fit, alpha: float) -> tuple[HeadedTable, Fit]:
    rows: list[dict[str, float]] = []
    labels: list[str] = []
    tests = _ratio_tests(fit)
    first = fit
    while tests:
        worst, (row, smaller) = max(tests.items(), key=lambda item: item[1][0]["Pr(>Chisq)"])
        if row["Pr(>Chisq)"] <= alpha or smaller is None:
            break
        rows.append({"Eliminated": len(rows) + 1.0, **row})
        labels.append(worst.label)
        fit = smaller
        tests = _ratio_tests(fit)
    for unit, (row, _) in tests.items():
        rows.append({"Eliminated": 0.0, **row})
        labels.append(unit.label)
    start = {"npar": float(first.df), "logLik": first.loglik, "AIC": first.aic}
    columns = ["Eliminated", "npar", "logLik", "AIC", "LRT", "Df", "Pr(>Chisq)"]
    frame = pd.DataFrame([start, *rows], index=pd.Index(["<none>", *labels], dtype=str), columns=columns)
    frame = frame.astype({"npar": int})
    heading = f"Random terms left out backward, {'REML' if first.reml else 'ML'} likelihood ratios"
    return headed(frame, heading, (), lambda: _texts(frame)), fit


def _ratio_tests(fit: Fit) -> dict[RandomUnit, tuple[dict[str, float], Fit | None]]:
    """What each random term adds, and the fit without it; no fit without the last random term."""
    found: dict[RandomUnit, tuple[dict[str, float], Fit | None]] = {}
    for unit in () if fit.optimum.fixed else random_units(fit.design):
        smaller = without_random(fit, unit)
        if smaller is None:
            continue
        ratio = float(clamp(np.array(smaller.criterion - fit.criterion), fit.criterion))
        df = fit.df - smaller.df
        p = float(chi_square_tail(np.array(ratio), np.array(df)))
        row = {"npar": float(smaller.df), "logLik": smaller.loglik, "AIC": smaller.aic}
        found[unit] = {**row, "LRT": ratio, "Df": float(df), "Pr(>Chisq)": p}, smaller
    return found


def _fixed_steps(fit: Fit, ddf: DDF, alpha: float) -> tuple[HeadedTable, Fit]:
    parts: list[pd.DataFrame] = []
    while True:
        fixed = fixed_terms(fit.design)
        tests = _drop_tests(fit, fixed, ddf)
        known = tests["Pr(>F)"].fillna(-1.0)
        if not len(tests) or known.max() <= alpha:
            break
        worst = str(known.idxmax())
        parts.append(tests.loc[[worst]].assign(Eliminated=len(parts) + 1))
        fit = without_fixed(fit, next(term for term in fixed.terms if term.label == worst))
    parts.append(tests.assign(Eliminated=0))
    whole = [part for part in parts if len(part)]
    frame = pd.concat(whole) if whole else parts[-1]
    frame = frame[["Eliminated", *[name for name in frame if name != "Eliminated"]]]
    heading = f"Terms of the fixed part left out backward, F tests with {METHODS[ddf]}"
    return headed(frame, heading, (), lambda: _texts(frame)), fit


def _texts(frame: pd.DataFrame) -> pd.DataFrame:
    out = table_texts(frame)
    out["Eliminated"] = ["" if np.isnan(v) else f"{v:.0f}" for v in frame["Eliminated"].astype(float)]
    return out
