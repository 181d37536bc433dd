"""What other packages do with formulas that bayeslmm refuses to read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from bayeslmm.design.formula import CALL
from bayeslmm.design.tokens import Token
from bayeslmm.errors import FormulaError
from bayeslmm.linting.of_formula import FormulaReading, formulae_reads, raised
from bayeslmm.linting.report import Finding

type Others = tuple[Mapping[str, str], str]
_AGREED: Others = ({}, "")


def refused(reading: FormulaReading) -> Iterator[Finding]:
    """The reason why bayeslmm refuses, and what others do there as far as it is known."""
    error = reading.error
    # A call of another package is a finding of its own.
    if error is None or error.problem.startswith(CALL):
        return
    position = error.position or 0
    token = next((t for t in reading.tokens if t.start == position), None)
    text = token.text if token else reading.text[position : position + 1]
    if found := unparsable(reading.tokens):
        elsewhere, remedy = _broken(reading.text, found)
    else:
        elsewhere, remedy = _unreadable(text) if token is None else _others(reading, token, error)
    yield Finding("not read by bayeslmm", position, text, "error here", error.problem, elsewhere, remedy)


def _unreadable(character: str) -> Others:
    if character != ".":
        return _AGREED
    everything = "All other columns, the grouping factors among them."
    return {"lme4": everything, "bambi": "Syntax error.", "formulae": "Syntax error."}, (
        "Give the data, or name the predictors."
    )


def _others(reading: FormulaReading, token: Token, error: FormulaError) -> Others:
    bars = [t for t in reading.tokens if t.text in ("|", "||")]
    before = [t for t in bars if t.start < token.start]
    if not bars and any(t.text == "~" for t in reading.tokens):
        return _without_bars(reading.text, token)
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


def unparsable(tokens: Sequence[Token]) -> str:
    """What stops R's parser, in words; empty if nothing does."""
    operand, previous, holds_arguments = False, "", list[bool]()
    for token in tokens:
        text, unexpected = token.text, f"an unexpected {token.text}"
        may_be_empty = previous in ("(", "[", ",", "=")
        if token.kind != "operator" or text == "{":
            if operand:
                return unexpected
            operand = text != "{"
            holds_arguments += [] if operand else [False]
        elif text in ("(", "["):
            if text == "[" and not operand:
                return unexpected
            holds_arguments.append(operand)
            operand = False
        elif text in (")", "]", "}"):
            arguments = holds_arguments.pop()
            if not operand and not (arguments and may_be_empty) and previous != "{":
                return unexpected
            operand = True
        elif text == ",":
            if not any(holds_arguments[-1:]) or not (operand or may_be_empty):
                return unexpected
            operand = False
        elif operand or text in ("+", "-", "~"):
            operand = False
        else:
            return unexpected
        previous = text
    return "" if operand or not tokens else "an incomplete expression"


def _broken(text: str, found: str) -> Others:
    """R cannot parse the formula; formulae cannot, or stops reading before its end."""
    answer = formulae_reads(text)
    if isinstance(answer, Exception):
        there = raised(answer)
    else:
        terms = ["1" if term.name == "Intercept" else term.name for term in answer.common_terms]
        left = f"{answer.response.term.name} ~ " if answer.response else ""
        read = " + ".join([*terms, *(f"({term.name})" for term in answer.group_terms)])
        there = f"Read as {left}{read}; the rest is dropped without a word."
    return dict.fromkeys(("lme4", "brms"), f"Error: R finds {found}.") | dict.fromkeys(("bambi", "formulae"), there), ""


def _without_bars(text: str, token: Token) -> Others:
    """No random term: an ordinary regression elsewhere, if nothing else is wrong."""
    plain, answer = "An ordinary regression.", formulae_reads(text)
    if token.kind == "number" or token.text == "~":
        there = raised(answer) if isinstance(answer, Exception) else "Error."
        return {"lme4": "Error as well.", "brms": "Error."} | dict.fromkeys(("bambi", "formulae"), there), ""
    there = raised(answer) if isinstance(answer, Exception) else plain
    return {"lme4": "Error as well.", "brms": plain, "bambi": there, "formulae": there}, ""


def _power(sign: str) -> Others:
    column = "The column itself: a power outside I() counts interactions."
    there = "Syntax error." if sign == "^" else column
    return {"lme4": column, "brms": column, "bambi": there, "formulae": there}, "I(x**2) for the square."


def _label(reading: FormulaReading, token: Token) -> Others:
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
