"""Rules of the linter about functions and constants, whose names differ between R and Python."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from bayeslmm.design.algebra import operand_node, operand_places
from bayeslmm.design.expressions import Node, Raised, Sign, walk
from bayeslmm.design.functions import ARGUMENT_CODINGS
from bayeslmm.design.tokens import WORDS, Token
from bayeslmm.linting.of_formula import FormulaReading, formulae_reads, raised
from bayeslmm.linting.report import Finding, Severity

_UNKNOWN = "Error: no function of that name."
_R_ONLY: Mapping[str, str] = {"bambi": _UNKNOWN, "formulae": _UNKNOWN}
_PYTHON_ONLY: Mapping[str, str] = {"lme4": _UNKNOWN, "brms": _UNKNOWN}
_ALIASES = ("log", "log2", "log10", "exp", "abs")
_NUMPY = ("log1p", "expm1", "sqrt", "sin", "cos", "tan")
_FACTORS = {
    "factor": "data[name].astype('category')",
    "as.factor": "data[name].astype('category')",
    "ordered": "pandas.Categorical(..., ordered=True)",
    "as.ordered": "pandas.Categorical(..., ordered=True)",
}
_PYTHON_SIGNS = ("//", "%", "[", "not", "and", "or", "in", "~")
_R_SUMMARIES = ("mean", "sd", "var", "median", "min", "max", "sum", "quantile")
_R_ELEMENTS = ("pmin", "pmax", "ifelse", "round", "relevel", "sign", "floor", "ceiling", "asin", "acos", "atan")
_FORMULAE_ONLY = ("center", "standardize", "S", "T", "binary", "B", "proportion", "prop")
_LME4_ONLY: Mapping[str, str] = {"brms": _UNKNOWN, **_R_ONLY}


def functions(reading: FormulaReading) -> Iterator[Finding]:
    """Calls that not all packages know, or not with the same meaning."""
    for name in dict.fromkeys(t.text for t in reading.tokens if t.kind == "name"):
        for token, arguments in calls(reading.tokens, name):
            finding = _call(token, arguments)
            if finding is not None:
                yield finding


def _call(token: Token, arguments: list[Token]) -> Finding | None:
    name = token.text
    if name in _ALIASES:
        here = f"numpy's {name}, as in R and in recent bambi."
        return _known(token, here, {"formulae": _UNKNOWN}, f"{name}() for all but formulae by itself (np.{name}).")
    if name in _NUMPY:
        return _known(token, f"numpy's {name}, as in R.", _R_ONLY, "A column computed beforehand.")
    if name.startswith("np."):
        short = name.removeprefix("np.")
        remedy = f"{short}(), which bambi knows too." if short in _ALIASES else "A column computed beforehand."
        return _known(token, "The numpy function.", _PYTHON_ONLY, remedy)
    if name in _FACTORS:
        return _known(token, "A factor, as in R.", _R_ONLY, f"A column made before: {_FACTORS[name]}.")
    if name in _FORMULAE_ONLY:
        return _known(token, "As in formulae.", _PYTHON_ONLY, "A column computed beforehand.")
    if name in ("bs", "ns"):
        return _splines(token)
    if name == "dummy":
        return _known(token, "As lme4's dummy().", _LME4_ONLY, "I(f == 'level'), or a column computed beforehand.")
    if name == "fulldummy":
        there = {"lme4": _UNKNOWN, **_LME4_ONLY}
        return _known(token, "A column for every level, as in MixedModels.jl.", there, "Columns made beforehand.")
    if name in _R_ELEMENTS:
        return _known(token, "As in R.", _R_ONLY, "A column computed beforehand.")
    if name in _R_SUMMARIES:
        return _known(
            token, "As in R; new rows use the value of the model's own.", _R_ONLY, "A column computed beforehand."
        )
    if name == "scale":
        return _scale(token, len({t.text for t in arguments if t.depth == token.depth + 1} & {",", "="}) > 0)
    return _coding(token, arguments) if name == "C" else None


def _known(
    token: Token, here: str, elsewhere: Mapping[str, str], remedy: str, severity: Severity = "error there"
) -> Finding:
    return Finding("function", token.start, token.text, severity, here, elsewhere, remedy)


def _splines(token: Token) -> Finding:
    after = {"lme4": "Only after library(splines)."}
    if token.text == "ns":
        return _known(token, "As R's splines::ns.", {**after, **_R_ONLY}, "A column computed beforehand.")
    there = dict.fromkeys(("bambi", "formulae"), "The same curves, from formulae 0.9 on in another basis.")
    return _known(token, "As R's splines::bs.", {**after, **there}, "")


def _scale(token: Token, options: bool) -> Finding:
    here = "Divides by the standard deviation with n - 1, as in R."
    if options:
        there = dict.fromkeys(("bambi", "formulae"), "Error: scale() takes the column only.")
        return _known(token, here, there, "A column computed beforehand.")
    there = dict.fromkeys(("bambi", "formulae"), "Divides by the standard deviation with n.")
    return _known(token, here, there, "A column computed beforehand.", "different parametrisation")


def _coding(token: Token, arguments: list[Token]) -> Finding | None:
    """``C(f, Sum)`` is formulae's, ``C(f, contr.sum)`` and ``C(f, sum)`` are R's."""
    if len(arguments) == 1:
        return None
    names = {token.text for token in arguments[2:]}
    if any(name in ARGUMENT_CODINGS or name.startswith("contr.") for name in names):
        return _known(token, "A coding in R's words.", _R_ONLY, "The column itself, with contrasts={...} here.")
    if names & {"Poly", "Helmert", "Diff"}:
        there = {**_PYTHON_ONLY, **dict.fromkeys(("bambi", "formulae"), "Error: only Treatment and Sum are known.")}
        return _known(token, "A coding in patsy's words.", there, "The column itself, with contrasts={...} here.")
    return Finding(
        "function",
        token.start,
        token.text,
        "error there",
        "A coding in formulae's words.",
        dict.fromkeys(("lme4", "brms"), "Error: R names codings contr.treatment, contr.sum, ..."),
        "The column itself, with contrasts={...} here, contrasts = list(...) in lme4.",
    )


def syntax(reading: FormulaReading) -> Iterator[Finding]:
    """Arithmetic in calls that the parsers of others do not read."""
    for start, end in operand_places(reading.tokens):
        tokens = reading.tokens[start:end]
        if reading.formula is None or len(tokens) < 2 or any(t.text in ("^", "%in%") for t in tokens):
            continue
        text = reading.text[tokens[0].start : tokens[-1].end]
        there: dict[str, str] = {}
        if any(t.text in _PYTHON_SIGNS and t.kind != "quoted" for t in tokens[1:]):
            there |= dict.fromkeys(("lme4", "brms"), "Syntax error: that is Python's spelling.")
        answer = formulae_reads(f"0 + {text}")
        if isinstance(answer, Exception):
            there |= dict.fromkeys(("bambi", "formulae"), raised(answer))
        elif any(t.text in WORDS and t.kind == "name" for t in tokens[1:]):
            there |= dict.fromkeys(("bambi", "formulae"), "Error: words are no operators there.")
        if there:
            here, remedy = "Arithmetic, in R's or Python's spelling.", "A column computed beforehand."
            yield Finding("arithmetic", tokens[0].start, text, "error there", here, there, remedy)


def powers(reading: FormulaReading) -> Iterator[Finding]:
    """``-x**2`` and ``a**b**c`` within calls, which formulae reads from the left."""
    for start, end in operand_places(reading.tokens):
        tokens = reading.tokens[start:end]
        if reading.formula is None or not any(token.text in ("**", "^") for token in tokens):
            continue
        node = operand_node(tokens)
        if any(_signed_power(part) or _tower(part) for part in walk(node)):
            yield Finding(
                "signs and powers",
                tokens[0].start,
                reading.text[tokens[0].start : tokens[-1].end],
                "different model",
                "Powers come before signs and from the right, as in R: -x**2 is -(x**2), a**b**c is a**(b**c).",
                dict.fromkeys(
                    ("bambi", "formulae"), "Signs come before powers: -x**2 is (-x)**2; a**b**c is (a**b)**c."
                ),
                "Brackets: -(x**2), a**(b**c).",
            )


def _signed_power(node: Node) -> bool:
    return isinstance(node, Sign) and isinstance(node.operand, Raised)


def _tower(node: Node) -> bool:
    return isinstance(node, Raised) and isinstance(node.exponent, Raised)


def constants(reading: FormulaReading) -> Iterator[Finding]:
    """``TRUE`` is R's and ``True`` is Python's."""
    for before, token in pairwise(reading.tokens):
        if token.kind != "name" or before.text not in ("=", ",", "("):
            continue
        if token.text in ("TRUE", "FALSE"):
            yield _constant(token, ("bambi", "formulae"))
        elif token.text in ("True", "False"):
            yield _constant(token, ("lme4", "brms"))


def _constant(token: Token, packages: tuple[str, ...]) -> Finding:
    return Finding(
        "constant",
        token.start,
        token.text,
        "error there",
        "R's and Python's spelling are both understood.",
        dict.fromkeys(packages, f"Error: {token.text} is not defined."),
        "A column computed beforehand.",
    )


def offsets(reading: FormulaReading) -> Iterator[Finding]:
    """``offset()``."""
    for token, _ in calls(reading.tokens, "offset"):
        yield Finding(
            "offset",
            token.start,
            token.text,
            "note",
            "A known part of the mean, without a coefficient; so also in lme4, brms and bambi.",
            {"formulae": "A column of the design like any other."},
        )


def calls(tokens: Sequence[Token], *names: str) -> Iterator[tuple[Token, list[Token]]]:
    """Calls of these functions: the name and the tokens of the arguments."""
    for i, (token, following) in enumerate(pairwise(tokens)):
        if token.kind == "name" and token.text in names and following.text == "(":
            inner = tokens[i + 2 :]
            end = next(j for j, t in enumerate(inner) if t.text == ")" and t.depth == following.depth)
            yield token, list(inner[:end])


RULES = (functions, syntax, powers, constants, offsets)
