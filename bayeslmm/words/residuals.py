"""What parameters of residual structures are, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from bayeslmm.design.design import Design
from bayeslmm.design.new_residuals import residual_parts_of
from bayeslmm.design.residual_text import ResidualPart
from bayeslmm.design.residual_words import CORRELATIONS
from bayeslmm.errors import DesignError
from bayeslmm.residual.correlation import Correlation, CorrelationByArm
from bayeslmm.residual.spread import ConstantPlusPower, ExponentialSpread, PowerSpread, Spread, SpreadByLevel
from bayeslmm.residual.structured import CorrelatedRows, UnequalVariances
from bayeslmm.results.labels import Parameter
from bayeslmm.words.numbers import Measured, in_brackets

# Parameters that have a sentence each.
_MOST = 8
# Correlations at a distance of one range.
_AT_RANGE = {"exp": "0.37", "gaussian": "0.37", "matern": "0.74"}

type Phrase = tuple[str, str]


def residual_sentences(design: Design, numbers: Mapping[Parameter, Measured], level: float) -> list[str]:
    """A sentence for every residual parameter; of many only where they lie.

    Parameters
    ----------
    design : Design
    numbers : mapping of Parameter to Measured
    level : float
        Of the intervals.
    """
    own = [(p, number) for p, number in numbers.items() if p.kind == "residual"]
    if len(own) > _MOST:
        return _ranges(design, own)
    try:
        phrases = _phrases(design)
    except DesignError:
        phrases = [(f"The residual parameter {p.term.removeprefix('residual__')} is", "") for p, _ in own]
    return [
        f"{before} {number.text}{in_brackets(number, level)}{after}."
        for (before, after), (_, number) in zip(phrases, own, strict=True)
    ]


def where_factors_are_one(design: Design) -> str:
    """Of which rows sigma is the residual standard deviation; empty where of all."""
    residual = design.residual
    if not isinstance(residual, UnequalVariances | CorrelatedRows):
        return ""
    found = [_one(part) for part in residual.spreads.parts]
    return f" where {' and '.join(found)}" if found else ""


def _one(part: Spread) -> str:
    x = _inside(part)
    match part:
        case SpreadByLevel():
            return f"{part.factor_name} = {part.levels[0]}"
        case PowerSpread():
            return f"|{x}| = 1"
        case ExponentialSpread():
            return f"{x} = 0"
        case _:
            return "the factor of its covariate is 1"


def _inside(part: Spread) -> str:
    return part.text.partition("(")[2].removesuffix(")") or part.text


def _phrases(design: Design) -> list[Phrase]:
    """What stands before and after the number of every parameter.

    Raises
    ------
    DesignError
        A structure that was put together by hand.
    """
    parts, residual = residual_parts_of(design), design.residual
    if not isinstance(residual, UnequalVariances | CorrelatedRows):
        return []
    found = [phrase for part in residual.spreads.parts for phrase in _of_spread(part)]
    if not isinstance(residual, CorrelatedRows):
        return found
    own = next(part for part in parts if part.correlated)
    visits = design.recipe.residual_visits if design.recipe is not None else ()
    family = residual.correlation
    if not isinstance(family, CorrelationByArm):
        return [*found, *_of_correlation(own, family, visits)]
    once = _of_correlation(own, family.family, visits)
    return found + [
        (f"At {own.by} = {arm}, {before[0].lower()}{before[1:]}", after)
        for arm in family.arms
        for before, after in once
    ]


def _of_spread(part: Spread) -> list[Phrase]:
    x = _inside(part)
    match part:
        case SpreadByLevel():
            name, first = part.factor_name, part.levels[0]
            start = "The residual standard deviation at"
            return [(f"{start} {name} = {level} is", f" times that at {name} = {first}") for level in part.levels[1:]]
        case PowerSpread():
            return [(f"The residual standard deviation is proportional to |{x}| to the power", "")]
        case ExponentialSpread():
            return [(f"With one more unit of {x} the log of the residual standard deviation changes by", "")]
        case ConstantPlusPower():
            return [
                (f"The residual standard deviation is proportional to |{x}|^power plus a constant, which is", ""),
                ("This power is", ""),
            ]
        case _:
            return [(f"The residual parameter {label} is", "") for label in part.labels]


def _of_correlation(part: ResidualPart, family: Correlation, visits: Sequence[str]) -> list[Phrase]:
    group, place = ":".join(part.group), " + ".join(part.left)
    same, by = f"Residuals of the same {group}", "are correlated by"
    step = f"from one {place} to the next" if visits else f"one unit of {place} apart"
    match CORRELATIONS[part.keyword][0]:
        case "ar1" | "car1":
            return [(f"{same} {step} {by}", "")]
        case "cs":
            return [(f"Any two residuals of the same {group} {by}", "")]
        case "us":
            return [(f"{same} at {visits[j]} and {visits[i]} {by}", "") for i in range(len(visits)) for j in range(i)]
        case "ad":
            return [(f"{same} at {a} and {b} {by}", "") for a, b in pairwise(visits)]
        case "toep":
            steps = range(1, len(family.labels) + 1)
            return [(f"{same} {k} step{'s' if k > 1 else ''} of {place} apart {by}", "") for k in steps]
        case "arma":
            what = f"correlations of residuals of the same {group}"
            return [
                (f"From the second unit of {place} on, {what} fall by the factor phi with each, which is", ""),
                ("The moving average's parameter theta, which the first unit has besides, is", ""),
            ]
        case keyword:
            return [(f"{same} {by} {_AT_RANGE[keyword]} at a distance ({place}) of", "")]


def _ranges(design: Design, own: Sequence[tuple[Parameter, Measured]]) -> list[str]:
    """Smallest and largest of many parameters of a kind."""
    ratios = [number for p, number in own if p.label.startswith("residual_sd_ratio")]
    others = [number for p, number in own if not p.label.startswith("residual_sd_ratio")]
    first = f"ratios of residual standard deviations to that{where_factors_are_one(design)}"
    out = []
    for name, numbers in ((first, ratios), ("parameters of the correlation of residuals", others)):
        if numbers:
            low, high = (by(numbers, key=lambda number: number.value) for by in (min, max))
            out.append(f"The {len(numbers)} {name} are between {low.text} and {high.text}; the table has each.")
    return out
