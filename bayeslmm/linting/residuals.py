"""Rules of the linter about residual structures and known variances, in the words of other packages."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bayeslmm.design.residual_translation import translated
from bayeslmm.design.residual_words import MMRM
from bayeslmm.linting.of_formula import FormulaReading
from bayeslmm.linting.report import Finding, Severity

_WORDS = re.compile(
    r"(?i)\b(gls|lme|lmer|blmer|stan_lmer|brm)(?=\s*\()|cor[A-Z][A-Za-z1]+|var[A-Z][A-Za-z]+|rma(\.mv|\.uni)?|dispformula|type\s*=|[a-z0-9_]+\s*\([^()]*\|"
)


def elsewhere(reading: FormulaReading) -> Iterator[Finding]:
    """Structures of nlme, glmmTMB, SAS and metafor in or beside a formula."""
    found = translated(reading.text)
    if found is None:
        return
    place = _WORDS.search(reading.text)
    start, text = (place.start(), place[0]) if place else (0, reading.text)
    severity: Severity = "note" if reading.error is None else "error here"
    rule = "call of another package" if found.whole_model else "residual structure"
    yield Finding(rule, start, text, severity, found.words, {}, found.line)


def visits(reading: FormulaReading) -> Iterator[Finding]:
    """``us(visit | id)``: of effects here, of residuals in mmrm, whose formulas have it without a sign of that."""
    for term in reading.terms:
        if term.keyword in MMRM and re.fullmatch(r"[A-Za-z_.][\w.]*", term.left.strip()):
            line = f"residual='{term.keyword}({term.left.strip()} | {term.right.strip()})'"
            yield Finding(
                "visits of a patient",
                term.position,
                term.text,
                "note",
                "A covariance of random effects, with a residual variance on top. In mmrm the same words are the "
                f"covariance of the residuals, which is {line} here, without this term.",
                {},
            )


RULES = (elsewhere, visits)
