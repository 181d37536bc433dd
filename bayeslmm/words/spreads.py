"""What standard deviations and correlations are, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping

from bayeslmm.design.design import Design
from bayeslmm.results.labels import Parameter
from bayeslmm.words.numbers import Measured, in_brackets
from bayeslmm.words.residuals import residual_sentences, where_factors_are_one

# Correlations nearer to 0 than this are hardly one, and nearer to +-1 perfect.
_HARDLY, _PERFECT = 0.1, 1e-6


def spread_sentences(design: Design, numbers: Mapping[Parameter, Measured], level: float) -> list[str]:
    """A sentence or two for every standard deviation, correlation and residual parameter.

    Parameters
    ----------
    design : Design
    numbers : mapping of Parameter to Measured
        In the order of the tables.
    level : float
        Of the intervals.
    """
    averages = {p.label: number.value for p, number in numbers.items() if p.kind == "fixed"}
    out = []
    for p, number in numbers.items():
        match p.kind:
            case "sd":
                out.append(_sd(design, p, number, averages, level))
            case "corr":
                out.append(_correlation(design, p, number, level))
            case "sigma":
                out.append(_residual(design, number, level))
    return [sentence for sentence in [*out, *residual_sentences(design, numbers, level)] if sentence]


def subject(design: Design, p: Parameter) -> str:
    """What varies with a standard deviation: ``"the level of yield between levels of Block"``."""
    term = design.terms[p.position]
    if len(p.effects) > 1:
        return f"what the effects of {term.label} share"
    effect = term.effects[p.effects[0]]
    others = [name for name in term.effects if name != "Intercept"]
    if effect != "Intercept":
        return f"the effect of {effect} on {design.response} between levels of {p.group}"
    where = f" where {others[0]} is 0" if len(others) == 1 else " where its other effects are 0" if others else ""
    return f"the average {design.response}{where} between levels of {p.group}"


def _sd(design: Design, p: Parameter, number: Measured, averages: Mapping[str, float], level: float) -> str:
    what, brackets = subject(design, p), in_brackets(number, level)
    if number.value == 0:
        most = (
            f"; any value up to {number.write(number.high)} is within the {100 * level:g} % interval"
            if number.ends and number.high > 0
            else ""
        )
        return (
            f"The standard deviation of {what} is estimated as exactly 0: the levels differ no more than chance alone "
            f"would make them differ. Zero is the best value and not the only one{most}."
        )
    said = f"The standard deviation of {what} is {number.text}{brackets}"
    effects = design.terms[p.position].effects
    average = averages.get(effects[p.effects[0]]) if len(p.effects) == 1 else None
    if average is None:
        return f"{said}."
    low, high = (number.write(average + sign * number.value) for sign in (-1, 1))
    return f"{said}: about two in three levels are between {low} and {high}."


def _correlation(design: Design, p: Parameter, number: Measured, level: float) -> str:
    if not math.isfinite(number.value):
        return ""
    effects = design.terms[p.position].effects
    a, b = (effects[k] for k in p.effects)
    value, size = f"{number.value:.2f}", abs(number.value)
    if 1.0 - size < _PERFECT:
        sign = "" if number.value > 0 else "-"
        return (
            f"Between levels of {p.group}, {a} and {b} are estimated as perfectly correlated ({sign}1): "
            "one can be computed from the other, which is the edge of what is possible."
        )
    ends = f", {100 * level:g} % interval {number.low:.2f} to {number.high:.2f}" if number.ends else ""
    open_ = ", so that its sign is not settled" if number.ends and number.holds_zero else ""
    more = (
        "hardly related to"
        if size < _HARDLY
        else ("higher with a higher" if number.value > 0 else "lower with a higher")
    )
    return f"Between levels of {p.group}, {b} is {more} {a} (correlation {value}{ends}{open_})."


def _residual(design: Design, number: Measured, level: float) -> str:
    same = "with the same predictors and levels of the groups" if design.terms else "with the same predictors"
    size = f"{number.text}{in_brackets(number, level)}"
    where = where_factors_are_one(design)
    return f"Observations {same}{where} still scatter by a residual standard deviation of {size}."
