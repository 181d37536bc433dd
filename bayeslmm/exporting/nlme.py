"""Calls of R's nlme, whose random effects are nested."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from bayeslmm.design.names import literal
from bayeslmm.design.script import Script
from bayeslmm.errors import ArgumentError
from bayeslmm.exporting.dialects import written
from bayeslmm.exporting.notes import DROPPED, FREQUENCY, GIVEN, NET, WEIGHTS, method_note, missing, title
from bayeslmm.exporting.parts import ModelParts, WrittenTerm, renamed
from bayeslmm.exporting.r_language import r_columns, r_dialect, r_name, r_sum, r_text, r_values
from bayeslmm.exporting.residuals import nlme_pieces
from bayeslmm.exporting.sheet import Sheet

KNOWN = "Standard errors are known: their squares are the residual variances, with sigma held at 1."
_CLASSES = {"us": "pdSymm", "diag": "pdDiag", "id": "pdIdent", "cs": "pdCompSymm"}


@dataclass(frozen=True)
class _Random:
    """The argument ``random``, lines that make its grouping columns, and words on it."""

    argument: str
    lines: list[str]
    notes: list[str]


def nlme(parts: ModelParts) -> Script:
    """``lme``."""
    if parts.aliased:
        raise ArgumentError(
            f"lme stops at columns that others span: {', '.join(parts.aliased)} would have to be left out of the "
            "formula."
        )
    parts, copied = _plain_names(parts)
    function = "lme" if parts.random else "gls"
    random = _random(parts) if parts.random else _Random("", [], [])
    data = [*copied, *r_columns(parts, "nlme"), *random.lines]
    notes, options, variances = [method_note(parts, function, "REML"), *random.notes], list[str](), list[str]()
    notes += [NET] if parts.offsets else []
    if parts.known and parts.weights is not None:
        if parts.reml:
            raise ArgumentError(
                "nlme's restricted likelihood with a sigma that is held cannot be had: its estimates are those of "
                "another criterion (3.1-162; on BCG with latitude tau is 0.2736 there, 0.2763 by metafor and here). "
                "metafor has it, model.to('metafor'); of ML nlme's is the same, reml=False."
            )
        data.append(f"{parts.data}$sampling_variance <- ({r_values(parts.weights, parts.data, 'nlme')})^2")
        variances.append("varFixed(~ sampling_variance)")
        options.append("control = lmeControl(sigma = 1)")
        notes += [KNOWN, *([GIVEN.replace("weights", "standard errors", 1)] if parts.given_weights else [])]
    elif parts.weights is not None:
        data.append(f"{parts.data}$inverse_weight <- 1 / ({r_values(parts.weights, parts.data, 'nlme')})")
        variances.append("varFixed(~ inverse_weight)")
        notes += [WEIGHTS + f" {function} is told its inverse.", *([GIVEN] if parts.given_weights else [])]
    if parts.residual is not None:
        _check_groups(parts)
        pieces = nlme_pieces(parts.residual, parts.data, variances)
        data += pieces.lines
        options += pieces.options
        notes += pieces.notes
    elif variances:
        options.append(f"weights = {variances[0]}")
    if parts.dropped:
        notes.append(DROPPED + f" {function} itself would stop at them.")
    notes += [FREQUENCY] if parts.frequency else []
    if function == "lme":
        notes.append("Degrees of freedom in summary() are by containment (inner and outer); here Satterthwaite's.")
    else:
        notes.append("Degrees of freedom in summary() are rows less coefficients; here Satterthwaite's.")
    notes.append("intervals() are Wald intervals on transformed scales; confint() here profiles the criterion.")
    method = "REML" if parts.reml else "ML"
    formula = f"{written(parts.net_response, r_dialect('nlme'))} ~ {r_sum(parts.fixed, 'nlme')}"
    short = [option for option in options if len(options) == 1]
    call = [
        f"fit <- {function}(",
        f"  {formula},",
        *([f"  random = {random.argument},"] if random.argument else []),
        *(f"  {option}," for option in options if option not in short),
        f"  {', '.join([f'data = {parts.data}', f'method = {literal(method)}', *short])}",
        ")",
        "summary(fit)",
    ]
    return Sheet(notes, ["library(nlme)"], data, call).script(title(parts, "nlme"), "r", "# ")


def _check_groups(parts: ModelParts) -> None:
    """Nlme's correlations are within the innermost level of the random effects."""
    residual = parts.residual
    groups = {frozenset(part.factors) for part in parts.random}
    if residual is not None and residual.correlation is not None and groups and groups != {frozenset(residual.group)}:
        raise residual.refused(
            "nlme",
            f"correlation within {':'.join(residual.group)} beside random effects of other groups",
            "bayeslmm fits it.",
        )


def _random(parts: ModelParts) -> _Random:
    """Nested factors from the coarsest on; crossed ones as blocks of a single group."""
    groups = list(dict.fromkeys(part.group for part in parts.random))
    groups.sort(key=lambda group: int(parts.codes[group].max()))
    chain = all(parts.nested(inner, outer) for outer, inner in pairwise(groups))
    if not chain:
        return _crossed(parts)
    names, lines = list[str](), list[str]()
    for group in groups:
        own = [part for part in parts.random if part.group == group]
        name = _grouping(own[0], parts, lines)
        names.append(f"{name} = {_blocks(own)}")
    word = "Levels of list(...) are nested: each within the one before it, as they are in these data."
    return _Random(f"list({', '.join(names)})", lines, [word] if len(groups) > 1 else [])


def _grouping(part: WrittenTerm, parts: ModelParts, lines: list[str]) -> str:
    """The name of a grouping column; lines that make it are added."""
    if len(part.factors) == 1:
        return part.factors[0]
    name = "_".join(part.factors)
    columns = ", ".join(f"{parts.data}${r_name(factor)}" for factor in part.factors)
    lines.append(f"{parts.data}${name} <- interaction({columns}, drop = TRUE)")
    return name


def _plain_names(parts: ModelParts) -> tuple[ModelParts, list[str]]:
    """The model on copies of the columns whose names are none of R's: lme reads names as code."""
    names = {name: f"column_{k + 1}" for k, name in enumerate(parts.columns) if r_name(name) != name}
    copied = [f"{parts.data}${new} <- {parts.data}${r_name(old)}" for old, new in names.items()]
    return renamed(parts, names), copied


def _blocks(own: Sequence[WrittenTerm]) -> str:
    blocks = [_block(part) for part in own]
    return blocks[0] if len(blocks) == 1 else f"pdBlocked(list({', '.join(blocks)}))"


def _block(part: WrittenTerm) -> str:
    if part.keyword not in _CLASSES:
        instead = "its corAR1() is about residuals" if part.keyword == "ar1" else "glmmTMB and SAS have it"
        raise missing(part, "nlme", instead)
    left = r_sum(part.left, "nlme")
    return f"{_CLASSES[part.keyword]}(~ {left})" if len(part.effects) > 1 else f"pdSymm(~ {left})"


def _crossed(parts: ModelParts) -> _Random:
    """Factors that are not nested: indicators of all levels, as independent blocks with one variance each."""
    blocks, lines = list[str](), list[str]()
    for part in parts.random:
        if len(part.effects) > 1 or not (part.numeric or part.factor):
            raise ArgumentError(
                "nlme has nested grouping factors only; crossed ones can be written for single effects, and "
                f"{part.label} has {len(part.effects)}. lme4 has it."
            )
        group = _grouping(part, parts, lines)
        lines.append(f"{parts.data}${group} <- factor({parts.data}${group})")
        slope = "" if part.intercept else f":{':'.join(r_text(node, 'nlme') for node in part.terms[0])}"
        blocks.append(f"pdIdent(~ 0 + {group}{slope})")
    lines.append(f"{parts.data}$all <- factor(1)")
    word = "Grouping factors that cross are blocks of one group, all: slow where they have many levels."
    return _Random(f"list(all = pdBlocked(list({', '.join(blocks)})))", lines, [word])
