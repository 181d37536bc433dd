"""Rules of the linter that need the data: types of columns, and the columns formulae really makes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.design import data as checks
from bayeslmm.design.evaluate import Evaluator
from bayeslmm.design.formula import Formula
from bayeslmm.design.groups import group_by
from bayeslmm.design.tables import to_pandas
from bayeslmm.design.tokens import tokenize
from bayeslmm.errors import DesignError
from bayeslmm.linting.calls import calls
from bayeslmm.linting.of_formula import (
    FormulaReading,
    Written,
    cells,
    factor_left,
    independent,
    may_have_several_columns,
    ours,
)
from bayeslmm.linting.reference import columns_of_formulae
from bayeslmm.linting.report import Finding, Severity
from bayeslmm.types import FloatArray

_FEW = 6
_SAME = 1e-9


@dataclass(frozen=True)
class Typed:
    """A formula with the complete rows of its columns.

    Attributes
    ----------
    reading : Reading
    formula : Formula
    columns : dict of str to pandas.Series
    missing : tuple of str
        Columns with missing values.
    """

    reading: FormulaReading
    formula: Formula
    columns: Mapping[str, pd.Series]
    missing: tuple[str, ...]

    def first(self, name: str) -> tuple[int, str]:
        """Place and text of the first mention of a column."""
        token = next(t for t in self.reading.tokens if t.text.strip("`") == name)
        return token.start, token.text


def typed(reading: FormulaReading, formula: Formula, data: Any) -> Typed:
    """Look up the columns of a formula.

    Raises
    ------
    DesignError
        Missing columns, no complete row.
    """
    frame = to_pandas(data)
    names = checks.used_columns(formula, frame, {})
    keep, _ = checks.complete_rows(frame, names, {})
    missing = tuple(name for name in names if checks.missing_values(frame[name]) is not None)
    return Typed(reading, formula, {name: frame[name][keep] for name in names}, missing)


def missing_values(known: Typed) -> Iterator[Finding]:
    """Bambi stops at missing values by default."""
    for name in known.missing:
        yield Finding(
            "missing values",
            *known.first(name),
            "error there",
            "Rows with missing values are dropped and counted.",
            {"bambi": "Error, unless dropna=True."},
            "Drop the rows beforehand.",
        )


def double_bars(known: Typed) -> Iterator[Finding]:
    """``(f || g)`` with a factor."""
    for term in known.reading.terms:
        if not term.bars or term.keyword or term.bars[0].correlated:
            continue
        wide = [name for name in ours(term.left)[0] if _width(known, f"0 + {name}") > 1]
        if wide:
            yield factor_left(term, wide)


def single_factors(known: Typed) -> Iterator[Finding]:
    """``(0 + f | g)``: several columns only if f is a factor."""
    for term in known.reading.terms:
        if not term.bars or term.keyword or term.bare or not term.bars[0].correlated:
            continue
        if not may_have_several_columns(term.left) and _width(known, term.left) > 1:
            yield independent(term)


def crowded_terms(known: Typed) -> Iterator[Finding]:
    """As many random effects as rows, where lme4 stops."""
    rows = len(next(iter(known.columns.values())))
    for term in known.reading.terms:
        for bar in term.bars:
            effects = group_by(known.columns, bar.factors).n_levels * _width(known, bar.left)
            if effects < rows:
                continue
            yield Finding(
                "as many effects as rows",
                term.position,
                term.text,
                "error there",
                f"{bar.label}: {effects} random effects for {rows} rows. Fitted if the values of the columns tell the "
                "variances apart; else refused, unless saturated='allow'.",
                {"lme4": "Error, unless control = lmerControl(check.nobs.vs.nRE = 'ignore')."},
                "Fewer effects, or a grouping factor with fewer levels. If the standard errors of the rows are known: "
                "bl.Model(formula, data, residual_sd=...).",
            )


def _width(known: Typed, left: str) -> int:
    names = {token.text.strip("`") for token in tokenize(left)}
    columns = {name: series for name, series in known.columns.items() if name in names}
    return int(Evaluator(columns, {}, {}).columns(left)[0].shape[1]) if columns else 1


def empty_cells(known: Typed) -> Iterator[Finding]:
    """Combinations of levels that do not occur."""
    for term in known.reading.terms:
        for bar in term.bars:
            if len(bar.factors) < 2:
                continue
            occurring = len(
                pd.DataFrame({name: known.columns[name].astype(str) for name in bar.factors}).value_counts()
            )
            possible = int(np.prod([known.columns[name].nunique() for name in bar.factors]))
            if possible > occurring:
                yield cells(term, [bar.group], f" ({possible} instead of {occurring})")


def numbers(known: Typed) -> Iterator[Finding]:
    """Numbers that may have been meant as labels, and the reverse."""
    groups = {name for bar in known.formula.bars for name in bar.factors}
    sides = [known.formula.fixed, *(bar.left for bar in known.formula.bars)]
    predictors = {name for side in sides for term in ours(side)[0] for name in _plain_names(term)}
    for name, series in known.columns.items():
        if not pd.api.types.is_numeric_dtype(series.dtype) or pd.api.types.is_bool_dtype(series.dtype):
            continue
        values = series.unique()
        whole = bool(np.all(np.mod(values.astype(float), 1) == 0))
        if name in groups and not whole:
            yield Finding(
                "grouping factor with decimals",
                *known.first(name),
                "note",
                f"Every distinct number is a level ({len(values)} levels).",
                {"lme4": "Numbers that agree in 15 digits are one level."},
                "A column of labels.",
            )
        if name in predictors and whole and 2 < len(values) <= _FEW:
            yield Finding(
                "few whole numbers",
                *known.first(name),
                "note",
                f"A slope over {len(values)} distinct values, as in all packages.",
                {},
                f"If the numbers are labels: data[{name!r}].astype('category').",
            )


def _plain_names(term: str) -> Iterator[str]:
    """Columns that enter a term as they are, not through a function."""
    for token, following in pairwise([*tokenize(term), None]):
        if token and token.depth == 0 and token.kind != "operator" and not (following and following.text == "("):
            yield token.text.strip("`")


def coded_numbers(known: Typed) -> Iterator[Finding]:
    """``C(m)`` of a number."""
    for token, arguments in calls(known.reading.tokens, "C"):
        series = known.columns.get(arguments[0].text.strip("`")) if len(arguments) == 1 else None
        if series is not None and pd.api.types.is_numeric_dtype(series.dtype):
            yield Finding(
                "function",
                token.start,
                token.text,
                "error there",
                "A factor, as in formulae.",
                dict.fromkeys(("lme4", "brms"), "Error: C() takes a factor."),
                f"data[{arguments[0].text.strip('`')!r}].astype('category')",
            )


def text_order(known: Typed) -> Iterator[Finding]:
    """Text sorted by code point in Python, by the language of the session in R."""
    for name in _names(known, [known.formula.fixed]):
        series = known.columns[name]
        if pd.api.types.is_numeric_dtype(series.dtype) or isinstance(series.dtype, pd.CategoricalDtype):
            continue
        levels = sorted(str(value) for value in series.unique())
        if levels[0] != min(levels, key=str.casefold):
            first = min(levels, key=str.casefold)
            yield Finding(
                "order of text",
                *known.first(name),
                "different parametrisation",
                f"Capitals first: the reference level is {levels[0]!r}.",
                dict.fromkeys(("lme4", "brms"), f"In most languages {first!r}, in the C locale as here."),
                "A categorical with the order you mean, factor(levels = ...) in R.",
            )


def not_evaluated(known: Typed) -> Iterator[Finding]:
    """Pieces of the formula that are refused once the columns are known."""
    rows = len(next(iter(known.columns.values())))
    formula = known.formula
    for text in dict.fromkeys([formula.fixed, *(bar.left for bar in formula.bars)]):
        try:
            Evaluator(known.columns, {}, {}).columns(text, rows)
        except DesignError as error:
            token = next((t for t in tokenize(text) if t.kind in ("name", "quoted")), None)
            place = known.first(token.text.strip("`")) if token else (0, text)
            yield Finding("not evaluated by bayeslmm", *place, "error here", str(error), {})


def fixed_columns(known: Typed) -> Iterator[Finding]:
    """Columns of the fixed part, here and in formulae."""
    own = _own(known, known.formula.fixed)
    other = None if own is None else columns_of_formulae(known.columns, f"y_ ~ {known.formula.fixed}", "common")
    if own is None or other is None or _same_columns(own, other):
        return
    span = _same_span(own, other)
    severity: Severity = "different parametrisation" if span else "different model"
    names = [(name, cause) for name in _names(known, [known.formula.fixed]) if (cause := _cause(known.columns[name]))]
    for name, (rule, here, there) in names:
        yield Finding(
            rule, *known.first(name), severity, here, dict.fromkeys(("bambi", "formulae"), there), _REMEDIES[rule]
        )
    if not names:
        yield Finding(
            "columns of the fixed part",
            known.reading.text.index("~"),
            "~",
            severity,
            f"{own.shape[1]} columns, as R's model.matrix: {_listed(known, known.formula.fixed)}.",
            dict.fromkeys(("bambi", "formulae"), f"{other.shape[1]} columns of another coding."),
            "Main effects before their interactions.",
        )


_REMEDIES = {
    "order of levels": "Level names whose sorted order is the one you mean.",
    "ordered factor": "Columns of your own for the trend, or an unordered factor.",
    "boolean": "data[name].astype('category') for a factor, .astype(float) for 0/1.",
}


def _cause(series: pd.Series) -> tuple[str, str, str] | None:
    if pd.api.types.is_bool_dtype(series.dtype):
        return "boolean", "A factor with levels False and True, as in R.", "The number 0 or 1."
    if not isinstance(series.dtype, pd.CategoricalDtype):
        return None
    levels = series.cat.categories
    if series.cat.ordered:
        unused = len(levels) > series.nunique()
        there = "Treatment contrasts" + (", with a column of zeros for unused levels." if unused else ".")
        return "ordered factor", "Polynomial contrasts (.L, .Q, .C), as in R.", there
    if list(levels) != sorted(levels, key=str):
        first = next(level for level in levels if bool((series == level).any()))
        least = min((level for level in levels if bool((series == level).any())), key=str)
        return (
            "order of levels",
            f"The order of the categories: the first level is {first!r}.",
            f"Levels are sorted: the first is {least!r}.",
        )
    return None


def bar_columns(known: Typed) -> Iterator[Finding]:
    """Columns within bars: the spans, since the covariance is another one anyway."""
    by_group: dict[str, list[Written]] = {}
    for term in known.reading.terms:
        for bar in term.bars:
            by_group.setdefault(bar.group, []).append(term)
    for terms in by_group.values():
        if any(term.keyword for term in terms) or _same_terms(terms):
            continue
        parts = [(term, _own(known, term.bars[0].left)) for term in terms]
        canonical = [f"({_canonical(term.left)} | one_)" for term in terms]
        if any(own is None for _, own in parts):
            continue
        other = columns_of_formulae(known.columns, f"y_ ~ 1 + {' + '.join(canonical)}", "group")
        if other is None:
            continue
        own = np.column_stack([own for _, own in parts if own is not None])
        if own.shape[1] != other.shape[1] or not _same_span(own, other):
            yield _bar_finding(known, terms, own, other)


def _canonical(left: str) -> str:
    names, intercept = ours(left)
    return " + ".join(["1" if intercept else "0", *names])


def _same_terms(terms: Sequence[Written]) -> bool:
    effects = [name for term in terms for name in (*ours(term.left)[0], *(("1",) if ours(term.left)[1] else ()))]
    return len(set(effects)) < len(effects)


def _bar_finding(known: Typed, terms: Sequence[Written], own: FloatArray, other: FloatArray) -> Finding:
    term = terms[-1]
    booleans = [
        name for name in _names(known, [term.bars[0].left]) if pd.api.types.is_bool_dtype(known.columns[name].dtype)
    ]
    why = f"{', '.join(booleans)} is the number 0 or 1." if booleans else "formulae codes factors by rules of its own."
    there = f"{other.shape[1]} column{'s' if other.shape[1] > 1 else ''} per level: {why}"
    return Finding(
        "columns within bars",
        term.position,
        term.text,
        "different model",
        f"{own.shape[1]} column{'s' if own.shape[1] > 1 else ''} per level, as R's model.matrix.",
        {"bambi": there, "formulae": there},
        _REMEDIES["boolean"] if booleans else "Write out main effects, or make the columns beforehand.",
    )


def _names(known: Typed, texts: Sequence[str]) -> list[str]:
    """Columns that are mentioned in some pieces of the formula."""
    mentioned = {token.text.strip("`") for text in texts for token in tokenize(text)}
    return [name for name in known.columns if name in mentioned]


def _listed(known: Typed, text: str) -> str:
    names = Evaluator(known.columns, {}, {}).columns(text)[1]
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")


def _own(known: Typed, text: str) -> FloatArray | None:
    try:
        rows = len(next(iter(known.columns.values())))
        own = Evaluator(known.columns, {}, {}).columns(text, rows)[0]
    except DesignError:
        return None
    return own if np.isfinite(own).all() else None


def _same_columns(a: FloatArray, b: FloatArray) -> bool:
    if a.shape != b.shape:
        return False
    # scale() differs by a factor, which a rule of its own reports.
    a, b = (np.divide(m, np.linalg.norm(m, axis=0), where=m.any(axis=0), out=np.zeros_like(m)) for m in (a, b))
    near = np.stack([np.abs(a - column[:, None]).max(axis=0) < _SAME for column in b.T])
    return bool(near.any(axis=0).all() and near.any(axis=1).all())


def _same_span(a: FloatArray, b: FloatArray) -> bool:
    ranks = {int(np.linalg.matrix_rank(m)) for m in (a, b, np.column_stack([a, b]))}
    return len(ranks) == 1


RULES = (
    missing_values,
    double_bars,
    single_factors,
    empty_cells,
    numbers,
    coded_numbers,
    text_order,
    not_evaluated,
    fixed_columns,
    bar_columns,
    crowded_terms,
)
