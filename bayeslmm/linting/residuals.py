"""Rules of the linter about residual structures and known variances, in the words of other packages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from bayeslmm.design.residual_text import ResidualPart, is_independent, parse_residual, residual_columns
from bayeslmm.design.residual_translation import translated
from bayeslmm.design.residual_words import CORRELATIONS, MMRM
from bayeslmm.errors import DesignError
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


# Correlations that brms has, as it calls them.
_IN_BRMS = {"ar1": "ar(p = 1, cov = TRUE)", "arma": "arma(p = 1, q = 1, cov = TRUE)", "cs": "cosy()", "us": "unstr()"}
_ONE_VARIANCE = "lmer() has residuals that are independent and have one variance; nlme's {} says otherwise."


def structure(text: str, columns: Sequence[str] | None) -> Iterator[Finding]:
    """What other packages make of every summand of ``residual=``.

    Parameters
    ----------
    text : str
        Of the residual structure.
    columns : sequence of str, optional
        Of the data.

    Raises
    ------
    DesignError
        A column is missing.
    """
    try:
        parts = () if is_independent(text) else parse_residual(text)
    except DesignError as error:
        yield Finding("residual structure", 0, text, "error here", str(error), {}, source=text)
        return
    if columns is not None:
        residual_columns(parts, columns)
    for part in parts:
        here, there = _correlation(part) if part.correlated else _variance(part)
        place = max(text.find(part.text), 0)
        yield Finding("residual structure", place, part.text, "error there", here, there, source=text)


def _correlation(part: ResidualPart) -> tuple[str, dict[str, str]]:
    family, heterogeneous = CORRELATIONS[part.keyword]
    brms = f"{_IN_BRMS[family]} in the formula" if family in _IN_BRMS and not part.by else "None."
    if brms != "None.":
        brms += ", and sigma ~ factor(visit)." if heterogeneous and family != "us" else "."
    here = f"A correlation of the residuals within {':'.join(part.group)}"
    here += ", and a standard deviation for every visit." if heterogeneous else "."
    return here, {"lme4": _ONE_VARIANCE.format("correlation="), "brms": brms, "bambi": "None."}


def _variance(part: ResidualPart) -> tuple[str, dict[str, str]]:
    here = "Residual standard deviations that differ between rows, as ratios to the first or along a column."
    second = "A formula of sigma, with a log link: {}."
    brms, bambi = second.format("bf(y ~ ..., sigma ~ ...)"), second.format('bmb.Formula("y ~ ...", "sigma ~ ...")')
    return here, {"lme4": _ONE_VARIANCE.format("weights="), "brms": brms, "bambi": bambi}


RULES = (elsewhere, visits)
