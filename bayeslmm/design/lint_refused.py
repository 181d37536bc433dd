"""What other packages do with formulas that bayeslmm refuses to read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bayeslmm.design.lint_formula import Reading
from bayeslmm.design.lint_report import Finding
from bayeslmm.design.tokens import Token
from bayeslmm.errors import FormulaError

type Others = tuple[Mapping[str, str], str]
_AGREED: Others = ({}, "")


def refused(reading: Reading) -> Iterator[Finding]:
    """The reason why bayeslmm refuses, and what others do there as far as it is known."""
    error = reading.error
    if error is None:
        return
    position = error.position or 0
    token = next((t for t in reading.tokens if t.start == position), None)
    text = token.text if token else reading.text[position : position + 1]
    elsewhere, remedy = _unreadable(text) if token is None else _others(reading, token, error)
    yield Finding("not read by bayeslmm", position, text, "error here", error.problem, elsewhere, remedy)


def _unreadable(character: str) -> Others:
    if character != ".":
        return _AGREED
    everything = "All other columns, the grouping factors among them."
    return {"lme4": everything, "bambi": "Syntax error.", "formulae": "Syntax error."}, "Name the predictors."


def _others(reading: Reading, token: Token, error: FormulaError) -> Others:
    bars = [t for t in reading.tokens if t.text in ("|", "||")]
    before = [t for t in bars if t.start < token.start]
    if not bars and any(t.text == "~" for t in reading.tokens):
        plain = "An ordinary regression."
        return {"lme4": "Error as well.", "brms": plain, "bambi": plain, "formulae": plain}, ""
    if token.text in ("^", "**"):
        return _power(token.text)
    if token.text == "|" and any(t.depth == token.depth > 0 for t in before):
        return _label(reading, token)
    if before and token.text in ("*", "+") and token.depth == before[-1].depth:
        return _sum_of_groups(token.text)
    if before and token.text in ("gr", "mm"):
        return dict.fromkeys(("lme4", "bambi", "formulae"), "Error.") | {"brms": f"Its own {token.text}()."}, ""
    if token.kind == "number":
        return dict.fromkeys(("lme4", "bambi", "formulae"), "Error."), f"I({token.text} * x)"
    if "Nothing stands before this minus" in error.problem:
        nothing = {"lme4": "Nothing is there to be taken away: the term is ignored."}
        return nothing | dict.fromkeys(("bambi", "formulae"), "Error."), "I(-x)"
    return _AGREED


def _power(sign: str) -> Others:
    column = "The column itself: a power outside I() counts interactions."
    there = "Syntax error." if sign == "^" else column
    return {"lme4": column, "brms": column, "bambi": there, "formulae": there}, "I(x**2) for the square."


def _label(reading: Reading, token: Token) -> Others:
    middle = reading.tokens[reading.tokens.index(token) - 1].text
    there = f"{middle} and the first bar are dropped without a word."
    return {
        "lme4": "Error.",
        "brms": "The middle is a label: terms that share it are correlated.",
        "bambi": there,
        "formulae": there,
    }, ""


def _sum_of_groups(sign: str) -> Others:
    there = "One random term per factor" + (" and one for the combinations." if sign == "*" else ".")
    remedy = "(1 | a) + (1 | b)" + (" + (1 | a:b)" if sign == "*" else "")
    return {"lme4": "1.x: error.", "bambi": there, "formulae": there}, remedy
