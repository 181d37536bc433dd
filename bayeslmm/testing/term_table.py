"""The analysis of variance table of a fit: F tests or Wald chi-squares of the terms of its fixed part."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from bayeslmm.arguments import choice, flag, shown
from bayeslmm.design.fixed_terms import FixedTerm, cell_coding
from bayeslmm.design.readable import HeadedTable, headed
from bayeslmm.errors import DesignError
from bayeslmm.inference.hypothesis import chi_square_tail, f_tail
from bayeslmm.inference.term_hypotheses import AnovaType, empty_cells
from bayeslmm.results.figures import df_text, figures, p_text
from bayeslmm.results.fit import Fit
from bayeslmm.results.linear import DDF, check_ddf
from bayeslmm.results.term_tests import (
    JointTest,
    Metric,
    TermHypotheses,
    chi_square,
    joint_test,
    term_df,
    term_hypotheses,
)

_TYPES: dict[object, AnovaType] = {1: 1, 2: 2, 3: 3, "1": 1, "2": 2, "3": 3, "I": 1, "II": 2, "III": 3}
_METRICS: tuple[Metric, ...] = ("ols", "gls")
_ROMAN = {1: "I", 2: "II", 3: "III"}
# Criteria have two places after the point: differences of less say nothing.
_CRITERIA, _LARGE = ("logLik", "deviance", "AIC", "AICc", "BIC"), 1e8
METHODS = {
    "satterthwaite": "Satterthwaite's method",
    "kenward-roger": "Kenward and Roger's method",
    "kenward-roger-linear": "Kenward and Roger's method of first order",
    "containment": "degrees of freedom by containment",
    "residual": "residual degrees of freedom",
    "knapp-hartung": "Knapp and Hartung's method",
    "z": "the normal distribution",
}


def anova(
    fit: Fit,
    type: int | str = 3,
    ddf: DDF = "satterthwaite",
    test: Literal["F", "chisq"] = "F",
    *,
    adjusted_by: Metric | None = None,
    intercept: bool = False,
) -> HeadedTable:
    """Analysis of variance: a test of every term of the fixed part.

    Parameters
    ----------
    type : {3, 2, 1}
        Which hypotheses. 1: each term adjusted for those before it; 2: for all that do not contain it; 3: each term
        on average over the cells of the terms that contain it, every cell with the same weight, whatever contrasts
        the factors are coded by.
    ddf : {"satterthwaite", "kenward-roger", "containment", "residual", "z"}
        Denominator degrees of freedom of F, as in `coefficients`.
    test : {"F", "chisq"}
        F tests, or Wald chi-squares, which take the variances as known.
    adjusted_by : {"ols", "gls"}, optional
        How types 1 and 2 adjust terms for one another: by least squares, as the sums of squares of SAS and lmerTest, or
        by generalized least squares with the fitted variances, as car's chi-squares and nlme's tables (a factor is
        then marginal to its products with numeric variables, too). By default ``"gls"`` with ``test="chisq"`` or
        containment, ``"ols"`` otherwise; the same for factors in balanced data.
    intercept : bool
        Whether the constant has a row: the average over all cells, with type 1 that before any term.

    Returns
    -------
    pandas.DataFrame
        Indexed by term. With F tests: ``Sum Sq``, ``Mean Sq`` (F times the residual variance), ``NumDF``, ``DenDF``,
        ``F value``, ``Pr(>F)``; with chi-squares: ``Chisq``, ``Df``, ``Pr(>Chisq)``.

    Raises
    ------
    DesignError
        Unknown type, test or ddf; no terms; else as `coefficients`.
    FitError
        As `coefficients`.

    Notes
    -----
    Satterthwaite's degrees of freedom of several rows are those of their principal components in the units in which
    SAS and lmerTest state them (under treatment contrasts for type 3). In unbalanced data they depend on which level
    is the first; `test_fixed` has a test of the same hypothesis that does not.

    References
    ----------
    Goodnight (1978), SAS Technical Report R-101 (types of hypotheses); Kuznetsova, Brockhoff & Christensen (2017), J.
    Stat. Softw. 82(13); Fox & Weisberg (2019), An R Companion to Applied Regression (Wald chi-squares).

    Examples
    --------
    >>> import bayeslmm as bl
    >>> oats = bl.load_dataset("Oats").assign(nitro=lambda d: d["nitro"].astype(str))
    >>> bl.Model("yield ~ Variety * nitro + (1 | Block/Variety)", oats).fit().anova()
    Type III analysis of variance with Satterthwaite's method
                    Sum Sq  Mean Sq  NumDF  DenDF  F value    Pr(>F)
    Variety          526.1   263.03      2     10    1.485    0.2724
    nitro          20020.5  6673.50      3     45   37.686  2.46e-12
    Variety:nitro    321.8    53.62      6     45    0.303    0.9322
    """
    kind = _kind(type)
    test = choice("test", test, ("F", "chisq"), DesignError)
    check_ddf(fit, ddf)
    by_gls = test == "chisq" or ddf == "containment"
    default: Metric = "gls" if by_gls else "ols"
    metric = choice("adjusted_by", adjusted_by, (None, *_METRICS), DesignError) or default
    with_constant = flag("intercept", intercept, DesignError)
    found = term_hypotheses(fit, kind, metric)
    chosen = [k for k, term in enumerate(found.fixed.all) if with_constant or term is not found.fixed.constant]
    if not chosen:
        if found.fixed.constant is None:
            raise DesignError(f"The fixed part of {fit.formula!r} is empty: there is no fixed effect to test.")
        raise DesignError(
            f"The fixed part of {fit.formula!r} has no terms to test but the constant; fit.coefficients() tests that."
        )
    labels = pd.Index([found.fixed.all[k].label for k in chosen], dtype=str)
    notes = _notes(found, kind)
    if test == "chisq":
        return _chi_squares(fit, found, chosen, labels, f"Type {_ROMAN[kind]} analysis of deviance", notes)
    heading = f"Type {_ROMAN[kind]} analysis of variance with {METHODS[ddf]}"
    return _f_tests(fit, found, chosen, labels, ddf, heading, notes)


def _kind(value: object) -> AnovaType:
    if isinstance(value, bool) or not isinstance(value, int | str) or value not in _TYPES:
        raise DesignError(f"type={shown(value)} is not known. Use 3, 2 or 1 (or 'III', 'II', 'I').")
    return _TYPES[value]


def _chi_squares(
    fit: Fit, found: TermHypotheses, chosen: list[int], labels: pd.Index, heading: str, notes: list[str]
) -> HeadedTable:
    tests = np.array([chi_square(fit, found.rows[k]) for k in chosen])
    p = chi_square_tail(tests[:, 0], tests[:, 1])
    frame = pd.DataFrame({"Chisq": tests[:, 0], "Df": tests[:, 1].astype(int), "Pr(>Chisq)": p}, index=labels)
    return headed(
        frame, f"{heading}: Wald chi-square tests of {fit.design.response}", notes, lambda: table_texts(frame)
    )


def _f_tests(
    fit: Fit, found: TermHypotheses, chosen: list[int], labels: pd.Index, ddf: DDF, heading: str, notes: list[str]
) -> HeadedTable:
    known = term_df(fit, found.fixed) if ddf == "containment" else np.full(len(found.rows), np.nan)
    tests = [joint_test(fit, found.rows[k], ddf, None if np.isnan(known[k]) else float(known[k])) for k in chosen]
    frame = f_frame(tests, labels, fit.sigma)
    return headed(frame, heading, notes, lambda: table_texts(frame))


def f_frame(tests: list[JointTest], labels: pd.Index, sigma: float) -> pd.DataFrame:
    """LmerTest's columns: mean squares are F, before any scaling, times the residual variance."""
    F, df1, df2 = (np.array([getattr(test, name) for test in tests], dtype=float) for name in ("F", "df1", "df2"))
    mean = np.array([test.wald for test in tests]) * sigma**2
    columns = {"Sum Sq": mean * df1, "Mean Sq": mean, "NumDF": df1.astype(int), "DenDF": df2, "F value": F}
    return pd.DataFrame(columns | {"Pr(>F)": f_tail(F, df1, df2)}, index=labels)


def table_texts(frame: pd.DataFrame) -> pd.DataFrame:
    """A table of tests as it is printed."""
    out: dict[str, list[str]] = {}
    for name, values in frame.items():
        if str(name).startswith("Pr("):
            out[str(name)] = [p_text(v) for v in values]
        elif name in ("DenDF", "NumDF", "Df", "df", "npar"):
            out[str(name)] = [df_text(v) for v in values]
        elif name in _CRITERIA and values.abs().max() < _LARGE:
            out[str(name)] = [f"{v:.2f}" for v in values]
        elif values.dtype.kind == "f":
            out[str(name)] = figures(values.tolist())
        else:
            out[str(name)] = [str(v) for v in values]
    return pd.DataFrame(out, index=frame.index, dtype=object)


def _notes(found: TermHypotheses, kind: AnovaType) -> list[str]:
    notes = []
    if kind == 3 and not found.by_cells:
        notes.append(
            "The columns of a factor do not tell all its levels apart, or cells are very many: each term was tested by "
            "its own coefficients, as they are coded."
        )
    elif kind == 3 and found.fixed.all and empty_cells(cell_coding(found.fixed)):
        losing = [term for term in found.fixed.terms if _loses(term)]
        cells = ", as where cells have no observations" if any(len(term.factors) > 1 for term in losing) else ""
        notes.append(
            f"Some columns were left out because others span them ({', '.join(term.label for term in losing)}){cells}: "
            "type III hypotheses are then averages over what can be estimated."
        )
    return notes


def _loses(term: FixedTerm) -> bool:
    return bool(term.columns.size < term.place.stop - term.place.start)
