"""Split a formula into tokens that remember their place."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count

from bayeslmm.design.covariance import KNOWN
from bayeslmm.errors import FormulaError

_PATTERN = re.compile(
    r"""(?P<space>\s+)
      | (?P<quoted>`[^`]*`)
      | (?P<string>"[^"]*"|'[^']*')
      | (?P<number>(\d+\.\d*|\.\d+|\d+)([eE][+-]?\d+)?)
      | (?P<name>[^\W\d][\w.]*)
      | (?P<operator>\|\||&&|%in%|%/%|%%|\*\*|//|==|!=|<=|>=|[-+*/:^~|&!%(),<>=\[\]{}])
    """,
    re.VERBOSE,
)
_IDENTIFIER = re.compile(r"[^\W\d][\w.]*")
_CLOSING = {")": "(", "]": "[", "}": "{"}
# Words before the brackets of a random term: no functions.
STRUCTURES = tuple(KNOWN)
# What operators are called in labels, outside and inside function calls.
_SPELLING = {"^": "**", "%in%": ":"}
_SPELLING_INSIDE = {"^": "**", "and": "&", "or": "|"}
_TIGHT = {":", "**"}
# Operators that are written as words, inside function calls.
WORDS = ("and", "or", "not", "in")
_RESERVED = {*WORDS, "True", "False", "None", "TRUE", "FALSE", "NULL"}


@dataclass(frozen=True)
class Token:
    """A piece of a formula.

    Attributes
    ----------
    kind : str
        ``name``, ``quoted``, ``string``, ``number`` or ``operator``.
    text : str
    start, end : int
        Offsets into the formula.
    depth : int
        Number of brackets open around it; an opening bracket and its closing one have the same depth.
    inside : bool
        Whether it is part of an argument of a function, where signs mean arithmetic and a bar means "or".
    """

    kind: str
    text: str
    start: int
    end: int
    depth: int
    inside: bool = False


@lru_cache(maxsize=1024)
def tokenize(formula: str) -> tuple[Token, ...]:
    """Tokens of a formula.

    Raises
    ------
    FormulaError
        Characters that mean nothing, quotes or brackets that do not close.

    Examples
    --------
    >>> [token.text for token in tokenize("y ~ x + (1 | g)")]
    ['y', '~', 'x', '+', '(', '1', '|', 'g', ')']
    """
    tokens: list[Token] = []
    open_brackets: list[Token] = []
    arguments: list[bool] = []
    position = 0
    while position < len(formula):
        match = _PATTERN.match(formula, position)
        if match is None:
            raise FormulaError(_unreadable(formula[position]), formula, position)
        kind, text = str(match.lastgroup), match.group()
        if text in _CLOSING:
            _close(formula, text, position, open_brackets)
            arguments.pop()
        if kind != "space":
            within = bool(arguments) and arguments[-1]
            tokens.append(Token(kind, text, position, match.end(), len(open_brackets), within))
        if text in _CLOSING.values():
            arguments.append(within or _opens_arguments(tokens))
            open_brackets.append(tokens[-1])
        position = match.end()
    if open_brackets:
        last = open_brackets[-1]
        raise FormulaError(f"The bracket {last.text!r} is never closed. Add the matching bracket.", formula, last.start)
    return tuple(tokens)


@lru_cache(maxsize=1024)
def words(*texts: str) -> frozenset[str]:
    """Texts of all tokens, without backquotes.

    Examples
    --------
    >>> sorted(words("`a b` * x", "y"))
    ['*', 'a b', 'x', 'y']
    """
    return frozenset(token.text.strip("`") for text in texts for token in tokenize(text))


def alone_behind_others(tokens: Sequence[Token], i: int) -> bool:
    """Whether token i is an argument of a call by itself, and not the first one.

    Examples
    --------
    >>> tokens = tokenize("C(f, sum)")
    >>> [alone_behind_others(tokens, i) for i in (2, 4)]
    [False, True]
    """
    return tokens[i].inside and tokens[i - 1].text in (",", "=") and tokens[i + 1].text in (",", ")")


def dots(formula: str) -> tuple[int, ...]:
    """Where dots stand alone, as R's name of all other columns.

    Examples
    --------
    >>> dots("y ~ . + a.b + .5 + `.` + (1 | g)")
    (4,)
    """
    if "." not in formula:
        return ()
    found, position = [], 0
    while position < len(formula):
        match = _PATTERN.match(formula, position)
        following = formula[position + 1 : position + 2]
        if match is None and formula[position] == "." and not re.match(r"[\w.]", following):
            found.append(position)
        position = position + 1 if match is None else match.end()
    return tuple(found)


def _opens_arguments(tokens: Sequence[Token]) -> bool:
    """Whether the last token, a bracket, begins arithmetic: that of a call, or braces."""
    if tokens[-1].text == "{":
        return True
    before = tokens[-2] if len(tokens) > 1 else None
    named = before is not None and (
        before.kind == "quoted" or (before.kind == "name" and before.text not in STRUCTURES)
    )
    return tokens[-1].text == "(" and named


def spelled(tokens: Sequence[Token]) -> str:
    """Text of some tokens with settled spaces: brackets are kept, ``^`` becomes ``**``.

    Examples
    --------
    >>> spelled(tokenize("I( (x-5)^2 )+log(-x,base = 2)"))
    'I((x - 5) ** 2) + log(-x, base=2)'
    """
    out = ""
    for i, token in enumerate(tokens):
        before = tokens[i - 1] if i else None
        word = token.text
        if token.kind == "quoted":
            word = quoted(word[1:-1])
        elif token.kind != "string":
            word = (_SPELLING_INSIDE if token.inside else _SPELLING).get(word, word)
        out += word if before is None or _joined(tokens, i, word) else f" {word}"
    return out


def quoted(name: str) -> str:
    """A name as it is written in a formula: in backquotes unless it is an identifier.

    Examples
    --------
    >>> quoted("x.1"), quoted("t [s]")
    ('x.1', '`t [s]`')
    """
    return name if _IDENTIFIER.fullmatch(name) and name not in _RESERVED else f"`{name}`"


def _joined(tokens: Sequence[Token], i: int, word: str) -> bool:
    """Whether no space stands before token i."""
    token, before = tokens[i], tokens[i - 1]
    if before.kind == "operator" and (before.text in "([{" or (before.inside and before.text in "!~")):
        return True
    if word in (")", "]", "}", ","):
        return True
    if token.kind == "operator" and word in "([{" and _ends_operand(before):
        return True
    if "=" in (token.text, before.text) and token.inside and token.kind != "string":
        return True
    if not token.inside and (word in _TIGHT or _SPELLING.get(before.text, before.text) in _TIGHT):
        return True
    return before.kind == "operator" and before.text in "+-" and _is_sign(tokens, i - 1)


def _ends_operand(token: Token) -> bool:
    if token.kind == "operator":
        return token.text in (")", "]", "}")
    return not (token.inside and token.text in WORDS)


def _is_sign(tokens: Sequence[Token], i: int) -> bool:
    """Whether a plus or minus has no left operand."""
    return i == 0 or not _ends_operand(tokens[i - 1])


def respelled(text: str) -> str:
    """A name with settled spaces, as labels have it; the text itself if it cannot be read.

    Examples
    --------
    >>> respelled("sd_g[I(x^2)]")
    'sd_g[I(x ** 2)]'
    """
    try:
        return spelled(tokenize(text))
    except FormulaError:
        return text


def unquoted(formula: str) -> tuple[str, Callable[[str], str]]:
    """A text with plain names in place of those in backquotes, and what puts these back into a text made from it.

    Backquotes are lost where formulae names terms.

    Examples
    --------
    >>> text, written = unquoted("x + `t [s]`")
    >>> text
    'x + q0_'
    >>> written("log(q0_):x")
    'log(`t [s]`):x'
    """
    tokens = tokenize(formula)
    quoted = list(dict.fromkeys(token.text for token in tokens if token.kind == "quoted"))
    used = {token.text for token in tokens}
    free = (name for name in map("q{}_".format, count()) if name not in used)
    names = dict(zip(quoted, free, strict=False))
    back = {name: text for text, name in names.items()}
    out, end = "", 0
    for i, token in enumerate(tokens):
        called = tokens[i + 1 : i + 2] and tokens[i + 1].text == "("
        # x is the same column as `x`.
        same = f"`{token.text}`" if token.kind == "name" and not called else token.text
        out += formula[end : token.start] + names.get(same, token.text)
        end = token.end
    return out + formula[end:], lambda text: re.sub(r"\bq\d+_(?!\w)", lambda m: back.get(m.group(), m.group()), text)


def _unreadable(character: str) -> str:
    if character in "`\"'":
        return f"The quote {character} is never closed. Add the second one."
    if character == ".":
        return (
            "A dot alone stands for all other columns of the data, which are known where the data are given: "
            "bl.Model(formula, data). A column whose name begins with a dot is written in backquotes, e.g. `.x`."
        )
    return (
        f"The character {character!r} has no meaning in a formula. Column names with spaces or other "
        "signs are written in backquotes, e.g. `reaction time`."
    )


def _close(formula: str, text: str, position: int, open_brackets: list[Token]) -> None:
    if not open_brackets:
        raise FormulaError(f"The bracket {text!r} closes nothing. Remove it or add the opening one.", formula, position)
    if open_brackets[-1].text != _CLOSING[text]:
        raise FormulaError(
            f"The bracket {text!r} does not match {open_brackets[-1].text!r} before it.", formula, position
        )
    open_brackets.pop()
