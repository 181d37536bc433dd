"""Rules of the linter that need the formula only.

What formulae makes of a piece is not remembered but asked: it is parsed here and now. What lme4, brms and bambi
do is written down and tested against stored answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from formulae import model_description

from bayeslmm.design.algebra import expanded
from bayeslmm.design.covariance import KNOWN
from bayeslmm.design.expressions import Call, Name, Node
from bayeslmm.design.formula import Bar, Formula
from bayeslmm.design.tokens import Token, quoted, tokenize, unquoted
from bayeslmm.errors import FormulaError
from bayeslmm.linting.report import Finding

_BARS = ("|", "||")


@dataclass(frozen=True)
class Written:
    """A random term as the user typed it.

    Attributes
    ----------
    position : int
        Of its first character, the opening bracket if there is one.
    text, left, right : str
        The whole term and its two sides.
    bars : tuple of Bar
        What it expands to.
    bare : bool
        Without brackets around it.
    keyword : str
        Name in front of the bracket, e.g. ``"us"``.
    """

    position: int
    text: str
    left: str
    right: str
    bars: tuple[Bar, ...]
    bare: bool
    keyword: str


@dataclass(frozen=True)
class FormulaReading:
    """A formula as the rules see it; `formula` is None if bayeslmm refuses it for the reason in `error`."""

    text: str
    tokens: tuple[Token, ...]
    formula: Formula | None
    error: FormulaError | None
    terms: tuple[Written, ...]


def read(text: str, formula: Formula | None, error: FormulaError | None) -> FormulaReading:
    """Tokens and random terms of a formula; none if it cannot be split."""
    try:
        tokens = tokenize(text)
    except FormulaError:
        tokens = ()
    places = [i for i, token in enumerate(tokens) if token.text in _BARS and not token.inside] if formula else []
    terms = tuple(_written(text, tokens, i, formula) for i in places if formula)
    return FormulaReading(text, tokens, formula, error, terms)


def _written(text: str, tokens: Sequence[Token], i: int, formula: Formula) -> Written:
    bar = tokens[i]
    bars = tuple(b for b in formula.bars if b.position == bar.start)
    opening = next((j for j in range(i, -1, -1) if tokens[j].text == "(" and tokens[j].depth == bar.depth - 1), None)
    if opening is None:
        tilde = next(token for token in tokens if token.text == "~")
        start, end = tilde.end, len(text)
        left = text[start : bar.start].strip()
        position = start + len(text[start:]) - len(text[start:].lstrip())
        return Written(position, text[position:].rstrip(), left, text[bar.end :].strip(), bars, True, "")
    closing = next(t for t in tokens[i:] if t.text == ")" and t.depth == bar.depth - 1)
    start, end = tokens[opening].start, closing.end
    before = tokens[opening - 1]
    keyword = before.text if before.kind == "name" else ""
    start = before.start if keyword else start
    left = text[tokens[opening].end : bar.start].strip()
    return Written(start, text[start:end], left, text[bar.end : closing.start].strip(), bars, False, keyword)


def random_terms(reading: FormulaReading) -> Iterator[Finding]:
    """Everything about bars."""
    for term in reading.terms:
        if not term.bars:
            continue
        if term.keyword:
            yield _keyword(term)
            continue
        if term.bare:
            yield _bare(term)
        if not term.bars[0].correlated:
            yield _double_bar(term)
        else:
            yield from _left_side(term)
            if not term.bare and may_have_several_columns(term.left):
                yield independent(term)
    yield from _repeated(reading.terms)


def may_have_several_columns(left: str) -> bool:
    """Whether a left side has more than one column whatever the types of its variables."""
    tokens = tokenize(left)
    terms, intercept = ours(left)
    calls = any(a.text == "poly" and b.text == "(" for a, b in pairwise(tokens))
    return calls or len(terms) + intercept > 1


def ours(left: str) -> tuple[tuple[str, ...], bool]:
    """Terms of a left side as R (and bayeslmm) expands it, and whether it has an intercept."""
    terms, intercept, operands = expanded(left)
    return tuple(":".join(_typed(operands[name]) for name in term) for term in terms), intercept


def _typed(node: Node) -> str:
    return node.text if isinstance(node, Call) else quoted(node.name) if isinstance(node, Name) else ""


def _readable(text: str) -> str:
    return text.replace("^", "**").replace("%in%", ":")


def formulae_reads(text: str) -> Any:
    """The parsed description, or the error formulae raises, as it is."""
    try:
        return model_description(text)
    except Exception as error:
        return error


def raised(error: Exception) -> str:
    """What the error says, as a sentence."""
    return f"Error: {str(error).rstrip('.')}."


def independent(term: Written) -> Finding:
    """Bambi has no correlations."""
    return Finding(
        "independent effects",
        term.position,
        term.text,
        "different model",
        "The effects of a level have an unstructured covariance: a variance each and all correlations.",
        {
            "bambi": "One variance per effect and no correlations: it reads | as ||.",
            "formulae": "One block of columns per effect; nothing ties them together.",
        },
        f"Correlations cannot be written in bambi. Without them: {split(term)} if every column is one number.",
    )


def split(term: Written) -> str:
    """The term as a sum of independent ones, e.g. ``(1 | g) + (0 + x | g)``."""
    terms, intercept = ours(term.left)
    parts = ["1"] * intercept + [f"0 + {name}" for name in terms]
    return " + ".join(f"({part} | {term.right})" for part in parts)


def _double_bar(term: Written) -> Finding:
    return Finding(
        "double bar",
        term.position,
        term.text,
        "error there",
        "All columns of the left side are independent, also those of one factor.",
        {"bambi": "Syntax error.", "formulae": "Syntax error."},
        f"{split(term)} for numeric columns; make 0/1 columns of a factor first.",
    )


def factors_unknown(reading: FormulaReading) -> Iterator[Finding]:
    """``(f || g)`` where f may be a factor."""
    for term in reading.terms:
        if term.bars and not term.keyword and not term.bars[0].correlated and ours(term.left)[0]:
            yield factor_left(term, ours(term.left)[0], "If it is a factor: ")


def factor_left(term: Written, names: Sequence[str], condition: str = "") -> Finding:
    """lme4 does not make the columns of one factor independent."""
    what = f"{'the' if condition else 'The'} columns of{' each of' if len(names) > 1 else ''}"
    return Finding(
        "factor left of a double bar",
        term.position,
        term.text,
        "note" if condition else "different model",
        "Independent effects, contrasts of a factor included; so also in brms and MixedModels.jl.",
        {
            "lme4": f"{condition}{what} {', '.join(names)} stay correlated, one per level if the intercept is split "
            "off; so also in 2.x unless options(lme4.doublevert.default = 'diag_special')."
        },
        "0/1 columns of the factor, each as a term of its own.",
    )


def _bare(term: Written) -> Finding:
    return Finding(
        "random term without brackets",
        term.position,
        term.text,
        "different model",
        f"Read as 1 + ({term.left} | {term.right}).",
        {
            "brms": "Error: random terms have to be in brackets.",
            "bambi": f"The random term is dropped without a word and {term.left} becomes the fixed part.",
            "formulae": f"The random term is dropped without a word and {term.left} becomes the fixed part.",
        },
        f"1 + ({term.left} | {term.right})",
    )


def _left_side(term: Written) -> Iterator[Finding]:
    """How formulae expands the left side of a bar, against R's expansion."""
    if "^" in term.left or "%in%" in term.left:
        return
    text, written = unquoted(term.left)
    answer = formulae_reads(f"0 + ({text} | g_)")
    terms, intercept = ours(term.left)
    canonical = " + ".join(["1" if intercept else "0", *terms])
    if isinstance(answer, Exception):
        yield Finding(
            "left side of a bar",
            term.position,
            term.text,
            "error there",
            f"Columns of ~ {canonical}.",
            dict.fromkeys(("bambi", "formulae"), written(raised(answer))),
            f"({canonical} | {term.right})",
        )
        return
    names = [written(group.name.removesuffix("|g_")) for group in answer.group_terms]
    if sorted(names) != sorted([*(["1"] if intercept else []), *terms]):
        there = f"Effects {', '.join(names)}."
        yield Finding(
            "left side of a bar",
            term.position,
            term.text,
            "different model",
            f"Columns of ~ {canonical}.",
            {"bambi": there, "formulae": there},
            f"({canonical} | {term.right})",
        )


def _repeated(terms: Sequence[Written]) -> Iterator[Finding]:
    seen: dict[frozenset[str], list[tuple[str, ...]]] = {}
    for term in terms:
        if term.keyword:
            continue
        expanded, intercept = ours(term.left)
        effects = (*(("1",) if intercept else ()), *expanded)
        for bar in term.bars:
            earlier = seen.setdefault(frozenset(bar.factors), [])
            twice = [name for name in effects if any(name in other for other in earlier)]
            if twice:
                yield _twice(term, bar, twice, exact=effects in earlier)
            earlier.append(effects)


def _twice(term: Written, bar: Bar, twice: Sequence[str], exact: bool) -> Finding:
    names = ", ".join("the intercept" if name == "1" else name for name in twice)
    brms = "An exact copy of a term is dropped." if exact else "Error: duplicated group-level effects are not allowed."
    return Finding(
        "effect given twice",
        term.position,
        term.text,
        "different model",
        f"Two sets of effects for {names} by {bar.group}, as written. Only the sum of their variances is identified.",
        {"brms": brms, "bambi": "The two are merged into one.", "formulae": "The two are merged into one."},
        "Give each effect once per grouping factor, e.g. (1 | g) + (0 + x | g).",
    )


def _keyword(term: Written) -> Finding:
    name = term.keyword
    later = "2.x knows it" if name in ("us", "diag", "ar1") else "2.x does not know it either"
    missing = "Error: no covariance keywords."
    remedy = {"us": f"({term.left} | {term.right})", "diag": f"{split(term)} for numeric columns"}
    if name == "csh":
        later, remedy[name] = "2.x calls it cs", f"cs({term.left} | {term.right}) in lme4 2.x and glmmTMB."
    if name == "ar1h":
        later, remedy[name] = "2.x calls it ar1", f"ar1({term.left} | {term.right}) in lme4 2.x, hetar1 in glmmTMB."
    if name == "toep":
        remedy[name] = f"homtoep({term.left} | {term.right}) in glmmTMB."
    if name == "cs":
        # In one column the two models are the same.
        later = "2.x has a variance for each effect (hom = FALSE)"
        remedy["cs"] = f"cs({term.left} | {term.right}, hom = TRUE) in lme4 2.x and glmmTMB."
    return Finding(
        "covariance keyword",
        term.position,
        term.text,
        "different model" if name == "cs" else "error there",
        f"{name}(): {KNOWN[name].description if name in KNOWN else 'the covariance structure of that name'}.",
        {
            "lme4": f"1.x: error; {later}.",
            "brms": "No covariance keywords around a bar: | is unstructured, || independent.",
            "bambi": missing,
            "formulae": missing,
        },
        remedy.get(name, ""),
    )


def groups(reading: FormulaReading) -> Iterator[Finding]:
    """Combined grouping factors."""
    for term in reading.terms:
        combined = [bar.group for bar in term.bars if len(bar.factors) > 1]
        if combined:
            yield cells(term, combined)


def cells(term: Written, combined: Sequence[str], counts: str = "") -> Finding:
    """Formulae makes one level for every conceivable combination."""
    there = f"One effect for every combination of levels of {', '.join(combined)}, occurring or not{counts}."
    return Finding(
        "combined grouping factor",
        term.position,
        term.text,
        "note",
        "One effect for every combination that occurs.",
        {
            "bambi": f"{there} Those without data are drawn from the prior: the same model, more memory.",
            "formulae": there,
        },
        "A column with the combinations, e.g. data['a_b'] = data['a'].astype(str) + ':' + data['b'].astype(str).",
    )


def fixed_power(reading: FormulaReading) -> Iterator[Finding]:
    """``^``, which formulae cannot read, and ``%in%``, at which it stops reading."""
    for token in reading.tokens:
        if token.text == "^" and not (reading.error and reading.error.position == token.start):
            yield Finding(
                "caret",
                token.start,
                "^",
                "error there",
                "The same as **.",
                {"bambi": "Syntax error.", "formulae": "Syntax error."},
                "**, which R reads as ^ too.",
            )
        elif token.text == "%in%" and not token.inside:
            yield _in(reading, token)


def _in(reading: FormulaReading, token: Token) -> Finding:
    inside = token.depth > 0
    there = "Syntax error." if inside else "Everything from here to the end of the formula is dropped without a word."
    return Finding(
        "%in%",
        token.start,
        token.text,
        "error there" if inside else "different model",
        "The interaction, as in R.",
        {"bambi": there, "formulae": there},
        ":",
    )


def response(reading: FormulaReading) -> Iterator[Finding]:
    """Arithmetic left of the tilde."""
    tilde = next((i for i, token in enumerate(reading.tokens) if token.text == "~"), 0)
    left = reading.tokens[:tilde]
    signs = [token for token in left if token.depth == 0 and token.kind == "operator" and token.text not in "()"]
    if not signs or left[-1] in signs:
        return
    text = reading.text[left[0].start : left[-1].end]
    answer = formulae_reads(f"{text} ~ 1")
    failed = isinstance(answer, Exception)
    if failed:
        there = raised(answer)
    elif answer.response is None:
        there = "The response is dropped."
    else:
        there = f"The response is {answer.response.term.name}; the rest is dropped."
    yield Finding(
        "arithmetic in the response",
        left[0].start,
        text,
        "error there" if failed else "different model",
        "Arithmetic, as in R.",
        {"bambi": there, "formulae": there},
        f"I({_readable(text)})",
    )


RULES = (random_terms, fixed_power, response)
WITHOUT_DATA = (groups, factors_unknown)
