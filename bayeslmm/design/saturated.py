"""Models with as many random effects as rows: refused where their variances cannot be told apart, else in words."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from bayeslmm.design.design import Design, RandomTerm
from bayeslmm.design.distinct import RESIDUAL, Ridge, crowded, find_ridges
from bayeslmm.design.formula import Formula
from bayeslmm.design.looks import likeness
from bayeslmm.design.notes import conversion
from bayeslmm.design.tokens import tokenize
from bayeslmm.errors import DesignError

# Weights would make such a model identified, and another one than was meant.
KNOWN_VARIANCES = (
    "If the residual variances are known (the sampling variances of a meta-analysis), give their square roots: "
    "bl.Model(formula, data, residual_sd='se'). weights= is something else, relative precisions beside which sigma is "
    "still estimated."
)
_ALLOW = (
    "saturated='allow' fits the model all the same: the fit is then one of many points with the same criterion and its "
    "status is not_identified; a posterior is as wide as its prior along the combination."
)


def check_identified(
    design: Design, formula: Formula, columns: Mapping[str, pd.Series], *, correlated: bool = False
) -> None:
    """Refuse a single level, and as many random effects as rows whose variances no response could tell apart.

    Effects are only counted to find where to look. What decides is what the variances do to the covariance of the
    response: slopes that vary within levels are told from residuals although there is an effect for every row. So is
    an intercept for every row (a nugget) where the residuals of `design` stand for correlated ones.

    Raises
    ------
    DesignError
    """
    for term in design.terms:
        grouping = design.groupings[term.group]
        if grouping.n_levels == 1:
            raise DesignError(
                f"{term.group!r} has a single level ({grouping.levels[0]!r}), so the variance between its levels "
                "cannot be estimated. A random term needs at least two levels (better five or more); leave "
                f"{term.label} out, or check whether rows were lost."
            )
    suspects = [design.terms[i] for i in crowded(design)]
    ridges = find_ridges(design) if suspects else ()
    for term in suspects:
        ridge = next((r for r in ridges if any(part.endswith(f" in {term.label}") for part in r.parts)), None)
        if ridge is not None and not (correlated and RESIDUAL in ridge.parts):
            raise DesignError(_refusal(design, term, ridge, _text_columns(formula, term, columns)))


def note(design: Design) -> str:
    """A word on terms with as many random effects as rows; empty where there are none."""
    terms = [design.terms[i] for i in crowded(design)]
    if not terms or design.residual.names:
        return ""
    counts = "; ".join(f"{term.label} has {_effects(design, term)} random effects" for term in terms)
    ridges = find_ridges(design)
    if not ridges and design.sigma is not None:
        return ""
    if not ridges:
        found = "their variances and the residual variance are told apart all the same, by the values of the columns"
        weights = "" if design.weights is None else " or the weights"
        return f"{counts} for {design.n_observations} rows; {found}{weights}"
    return f"{counts} for {design.n_observations} rows, and the data do not tell all variances apart: " + "; ".join(
        map(str, ridges)
    )


def _effects(design: Design, term: RandomTerm) -> int:
    return len(term.effects) * design.groupings[term.group].n_levels


def _refusal(design: Design, term: RandomTerm, ridge: Ridge, text: str) -> str:
    levels = design.groupings[term.group].n_levels
    if len(ridge.parts) == 1:
        what = f"The data say nothing about the {ridge.parts[0]}"
    else:
        what = (
            f"These cannot be told apart: {', '.join(ridge.shown)}; what one of them loses the others can take over "
            f"without a change of the distribution of {design.response}"
        )
    weights = f" {KNOWN_VARIANCES}" if RESIDUAL in ridge.parts and levels == design.n else ""
    return (
        f"{term.label} has {_effects(design, term)} random effects ({levels} levels of {term.group!r} times "
        f"{len(term.effects)}) for {design.n_observations} rows. {what}. {text}Use a grouping factor with fewer levels "
        f"or fewer effects.{weights} {_ALLOW}"
    )


def _text_columns(formula: Formula, term: RandomTerm, columns: Mapping[str, pd.Series]) -> str:
    """Which columns of a term hold text, a likely reason for many effects."""
    left = next((bar.left for bar in formula.bars if bar.label == term.label), "")
    said = []
    for name in dict.fromkeys(token.text.strip("`") for token in tokenize(left)):
        series = columns.get(name)
        if series is None or not (pd.api.types.is_object_dtype(series.dtype) or pd.api.types.is_string_dtype(series)):
            continue
        values = series.drop_duplicates()
        shown = ", ".join(repr(str(value)) for value in values[:3])
        found = likeness([str(value) for value in values])
        if found is None and 2 * len(values) < len(series):
            continue
        remedy = ""
        if found is not None:
            what = "these are numbers" if found.words == "numbers" else f"they are {found.words}, as they look"
            cure = conversion(name, series, found).removeprefix("For a slope: ")
            remedy = f" If {what}: {cure}"
        said.append(
            f"`{name}` holds text ({shown}{', ...' if len(values) > 3 else ''}), so that it has a column for each of "
            f"its {len(values)} values.{remedy} "
        )
    return "".join(said)
