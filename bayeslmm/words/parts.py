"""Paragraphs that explanations of fits and posteriors share."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bayeslmm.design.design import Design
from bayeslmm.design.screen import enumerated
from bayeslmm.results.labels import Parameter
from bayeslmm.words.coefficients import meanings
from bayeslmm.words.numbers import Measured, in_brackets
from bayeslmm.words.spreads import spread_sentences

# Coefficients that have a sentence each.
_MOST = 8


def model_paragraph(design: Design) -> str:
    """What was measured, and what the model says of it."""
    groups = [f"{own.n_levels} levels of {own.name}" for own in design.groupings.values()]
    of = f" in {enumerated(groups)}" if groups else ""
    fixed = f"{design.p} fixed effect{'s' if design.p != 1 else ''}" if design.p else "no fixed effects"
    own = [f"{enumerated(term.effects)} of every level of {term.group}" for term in design.terms]
    random = f", random effects ({enumerated(own)})" if own else ""
    left = f" {len(design.dropped)} rows with missing values were left out." if len(design.dropped) else ""
    observed = f"{design.response} was observed {design.n_observations} times{of}."
    return f"{observed}{left} The model has {fixed}{random} and residuals."


def fixed_paragraph(design: Design, numbers: Mapping[Parameter, Measured], level: float) -> str:
    """The fixed effects, a sentence each, and which of their directions are open."""
    said = fixed_sentences(design, numbers, lambda p: in_brackets(numbers[p], level))
    open_ = [
        p.label
        for p, number in numbers.items()
        if p.kind == "fixed" and p.label != "Intercept" and number.ends and number.holds_zero
    ]
    if open_:
        own_intervals = "its interval holds" if len(open_) == 1 else "their intervals hold"
        said += f" The direction of {enumerated(open_)} is not settled: {own_intervals} zero."
    return said


def fixed_sentences(design: Design, numbers: Mapping[Parameter, Measured], brackets: Callable[[Parameter], str]) -> str:
    """The fixed effects, a sentence each with something in brackets; empty if there are none."""
    own = [(p, number) for p, number in numbers.items() if p.kind == "fixed"]
    if not own:
        return ""
    known = meanings(design)
    said = [known[p.position].sentence(design.response, number, brackets(p)) for p, number in own[:_MOST]]
    if len(own) > _MOST:
        said.append(f"{len(own) - _MOST} more coefficients are in the table.")
    return " ".join(["On average over the levels of the groups:" if design.terms else "", *said]).strip()


def spread_paragraph(design: Design, numbers: Mapping[Parameter, Measured], level: float) -> str:
    """Standard deviations and correlations, and the shares of variance where these are plain."""
    return " ".join([*spread_sentences(design, numbers, level), *_shares(design, numbers)])


def _shares(design: Design, numbers: Mapping[Parameter, Measured]) -> list[str]:
    """Shares of the variance in a model of intercepts alone whose residuals are alike."""
    plain = all(term.effects == ("Intercept",) for term in design.terms) and design.terms
    if not plain or design.weights is not None or design.residual.names or design.sigma is not None:
        return []
    parts = {p.group: number.value**2 for p, number in numbers.items() if p.kind in ("sd", "sigma")}
    total = sum(parts.values())
    if not min(parts.values(), default=0.0) > 0 or len(parts) != len(design.terms) + 1:
        return []
    within = parts.pop("Residual")
    shares = [f"{100 * value / total:.0f} % is between levels of {group}" for group, value in parts.items()]
    shares.append(f"{100 * within / total:.0f} % is residual")
    return [f"Of the variance that the fixed effects leave, {enumerated(shares)}."]
