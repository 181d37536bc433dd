"""Column names that need backquotes and stand in a formula without them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bayeslmm.design.formula import Formula, parse_formula
from bayeslmm.design.tokens import quoted
from bayeslmm.errors import FormulaError

_IN_QUOTES = re.compile(r"`[^`]*`|\"[^\"]*\"|'[^']*'")
# patsy's, formulae's and bambi's way to write such names.
_Q_CALL = re.compile(r"\bQ\(\s*(?P<quote>['\"])(?P<name>.+?)(?P=quote)\s*\)")
_WORD = re.compile(r"[^\W\d][\w.]*")


def parse_with(text: str, available: Sequence[str]) -> Formula:
    """`parse_formula`, with a word on names that need backquotes if it fails.

    Parameters
    ----------
    text : str
    available : sequence of str
        Names of the columns.

    Raises
    ------
    FormulaError
    """
    try:
        return parse_formula(text)
    except FormulaError as error:
        raise explained(error, text, available) from None


def explained(error: FormulaError, text: str, available: Sequence[str]) -> FormulaError:
    """The error that says which names lack backquotes, if it can be read once they have them; else the given.

    Examples
    --------
    >>> error = explained(FormulaError("?"), "y ~ 1 + (1 | Vp Nr.)", ["y", "Vp Nr."])
    >>> error.problem.partition(":")[0]
    "The column 'Vp Nr.' has a name that is written in backquotes"
    """
    places = unquoted(text, available)
    for chosen in ([p for p in places if not _of_columns(p[1], available)], places):
        written = with_backquotes(text, chosen)
        if not chosen or not _readable(written):
            continue
        start, _, length = chosen[0]
        names = list(dict.fromkeys(repr(name) for _, name, _ in chosen))
        what = f"The column {names[0]} has a name" if len(names) == 1 else f"The columns {', '.join(names)} have names"
        verb = "is" if len(names) == 1 else "are"
        return FormulaError(f"{what} that {verb} written in backquotes: {written}", text, start, length)
    return error


def unquoted(text: str, available: Sequence[str]) -> list[tuple[int, str, int]]:
    """Places where columns that need backquotes stand without them: start, name, length; the longer of two.

    Examples
    --------
    >>> unquoted("y ~ t [s] + `a b`", ["y", "t [s]", "a b"])
    [(4, 't [s]', 5)]
    """
    taken = [match.span() for match in _IN_QUOTES.finditer(text)]
    found = []
    for match in _Q_CALL.finditer(text):
        if match["name"] in available:
            found.append((match.start(), match["name"], len(match.group())))
            taken.append(match.span())
    for name in sorted(set(available), key=lambda name: (-len(name), name)):
        if not name.strip() or "`" in name or quoted(name) == name:
            continue
        for match in re.finditer(_bounded(name), text):
            if all(match.end() <= start or match.start() >= end for start, end in taken):
                taken.append(match.span())
                found.append((match.start(), name, len(match.group())))
    return sorted(found)


def _bounded(name: str) -> str:
    """Pattern of a name that is no part of a longer word."""
    before = r"(?<![\w.])" if re.match(r"[\w.]", name) else ""
    after = r"(?![\w.])" if re.search(r"[\w.]$", name) else ""
    return before + re.escape(name) + after


def with_backquotes(text: str, places: Sequence[tuple[int, str, int]]) -> str:
    """The text with the names at these places in backquotes."""
    for start, name, length in sorted(places, reverse=True):
        text = f"{text[:start]}`{name}`{text[start + length :]}"
    return text


def _of_columns(name: str, available: Sequence[str]) -> bool:
    """Whether a name may as well be an expression of other columns, such as a:b."""
    words = _WORD.findall(name)
    return " " not in name and bool(words) and all(word in available for word in words)


def _readable(text: str) -> bool:
    try:
        parse_formula(text)
    except FormulaError:
        return False
    return True


def at(text: str, available: Sequence[str], position: int) -> str:
    """The column that needs backquotes and stands at a place of a formula without them; empty if there is none.

    Examples
    --------
    >>> at("y ~ Vp-Nr + x", ["Vp-Nr", "x", "y"], 4)
    'Vp-Nr'
    """
    return next((name for start, name, length in unquoted(text, available) if start <= position < start + length), "")
