"""Split a formula into tokens that remember their place."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import count

from bayeslmm.errors import FormulaError

_PATTERN = re.compile(
    r"""(?P<space>\s+)
      | (?P<quoted>`[^`]*`)
      | (?P<string>"[^"]*"|'[^']*')
      | (?P<number>(\d+\.\d*|\.\d+|\d+)([eE][+-]?\d+)?)
      | (?P<name>[^\W\d][\w.]*)
      | (?P<operator>\|\||%in%|\*\*|==|!=|<=|>=|[-+*/:^~|(),<>=\[\]{}])
    """,
    re.VERBOSE,
)
_CLOSING = {")": "(", "]": "[", "}": "{"}


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
    """

    kind: str
    text: str
    start: int
    end: int
    depth: int


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
    position = 0
    while position < len(formula):
        match = _PATTERN.match(formula, position)
        if match is None:
            raise FormulaError(_unreadable(formula[position]), formula, position)
        kind, text = str(match.lastgroup), match.group()
        if text in _CLOSING:
            _close(formula, text, position, open_brackets)
        if kind != "space":
            tokens.append(Token(kind, text, position, match.end(), len(open_brackets)))
        if text in _CLOSING.values():
            open_brackets.append(tokens[-1])
        position = match.end()
    if open_brackets:
        last = open_brackets[-1]
        raise FormulaError(f"The bracket {last.text!r} is never closed. Add the matching bracket.", formula, last.start)
    return tuple(tokens)


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
        return "A dot alone (all other columns) is not supported. Name the predictors."
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
