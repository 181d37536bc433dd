"""Names in a formula that are no columns: those that lack backquotes, and what else may have been meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from bayeslmm.design.expressions import CONSTANTS
from bayeslmm.design.formula import Formula, parse_formula
from bayeslmm.design.functions import ARGUMENT_CODINGS, is_value
from bayeslmm.design.tokens import WORDS, Token, alone_behind_others, quoted, tokenize
from bayeslmm.errors import DesignError, FormulaError

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


def missing_column(name: str, available: Sequence[str], formula: Formula) -> DesignError:
    """The error on a name that is no column: where it stands, and what may have been meant."""
    token = next((t for t in tokenize(formula.text) if t.text.strip("`") == name), None)
    whole = at(formula.text, available, token.start) if token and token.kind == "name" else ""
    if whole:
        hint = f" Did you mean the column {quoted(whole)}? Names with spaces or signs are written in backquotes."
    else:
        near = _near(name, available)
        hint = f" Did you mean {' or '.join(map(_as_written, near))}?" if near else ""
    shown = ", ".join(available[:20]) + (", ..." if len(available) > 20 else "")
    hint = _one_column(available) or hint
    message = f"The formula uses {name!r}, which is not a column of the data.{hint} Columns are: {shown}."
    located = FormulaError(message, formula.text, token.start, len(token.text)) if token else message
    return DesignError(str(located))


def _one_column(available: Sequence[str]) -> str:
    """A guess at the separator where all names are in one."""
    signs = [sign for sign in (";", "\t", "|", ",") if len(available) == 1 and sign in available[0]]
    if not signs:
        return ""
    return (
        f" The table has a single column, {available[0][:60]!r}: the separator seems to be {signs[0]!r}, e.g. "
        f"pandas.read_csv(file, sep={signs[0]!r}) (--sep on the command line)."
    )


def _near(name: str, available: Sequence[str]) -> list[str]:
    """Columns that may have been meant: spelled alike, another case, or with the name as one of their words."""
    near = difflib.get_close_matches(name, available, n=2, cutoff=0.6)
    near = near or [column for column in available if column.lower() == name.lower()]
    return near or [column for column in available if name.lower() in re.findall(r"\w+", column.lower())][:2]


def _as_written(name: str) -> str:
    """A name in quotes, in backquotes if that is how a formula has it."""
    return repr(name) if quoted(name) == name else quoted(name)


def names_in(text: str, available: Sequence[str], namespace: Mapping[str, Any]) -> list[str]:
    """Names in a text that are, or can only be, those of columns."""
    found = _candidates(text, namespace) if namespace else _known_candidates(text)
    return [name for name, sure in found if sure or name in available]


@lru_cache(maxsize=1024)
def _known_candidates(text: str) -> tuple[tuple[str, bool], ...]:
    return _candidates(text, {})


def _candidates(text: str, namespace: Mapping[str, Any]) -> tuple[tuple[str, bool], ...]:
    """Names that may be those of columns, and whether they are of nothing else."""
    found: list[tuple[str, bool]] = []
    tokens = tokenize(text)
    for i, token in enumerate(tokens):
        following = tokens[i + 1].text if i + 1 < len(tokens) else ""
        if token.kind == "quoted" and following != "(":
            found.append((token.text.strip("`"), True))
        elif token.text == "Q" and following == "(" and "Q" not in namespace and tokens[i + 2].kind == "string":
            raise _q_call(text, tokens[i + 2].text[1:-1])
        elif token.kind == "name" and not _no_column(token, following):
            coding = token.text in ARGUMENT_CODINGS and alone_behind_others(tokens, i)
            known = coding or is_value(token.text, namespace)
            found.append((token.text, not known))
    return tuple(found)


def _q_call(text: str, name: str) -> DesignError:
    return DesignError(
        f"{text!r} has Q({name!r}), which other packages use for names with spaces or signs. Write the name in "
        f"backquotes: `{name}`."
    )


def _no_column(token: Token, following: str) -> bool:
    """Whether a name is that of a function or an argument, a constant, or an operator written as a word."""
    if following == "(" and not (token.inside and token.text in WORDS):
        return True
    return token.inside and (following == "=" or token.text in WORDS or token.text in CONSTANTS)
