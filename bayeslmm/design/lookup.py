"""Labels of columns: how they are written, and how they are found by what users typed."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bayeslmm.design.expressions import Name, parse_expression
from bayeslmm.design.tokens import quoted, respelled
from bayeslmm.errors import FormulaError

# What a label has behind a factor or function: a level, a column, a trend.
_SUFFIX = r"(?:\[(?:(?!\]:).)*\]|\.[LQC]|\^\d+)?"
# Names that would be taken for a product or a call, were they not in backquotes.
_LIKE_A_TERM = re.compile(r".*[:`].*|.*\)")


def positions(asked: str, labels: Sequence[str]) -> list[int]:
    """Places of the labels that are called as asked, exactly or up to spaces, the spelling of powers and backquotes.

    Examples
    --------
    >>> positions("I(x^2)", ["Intercept", "I(x ** 2)"]), positions("sd_g[`x z`]", ["sd_g[x z]"])
    ([1], [0])
    """
    exact = [i for i, label in enumerate(labels) if label == asked]
    if exact:
        return exact
    spelled = respelled(asked)
    found = [i for i, label in enumerate(labels) if label == spelled or respelled(label) == spelled]
    if found or "`" not in asked:
        return found
    # A formula has backquotes around names with spaces, labels have none.
    bare = asked.replace("`", "")
    return [i for i, label in enumerate(labels) if label.replace("`", "") == bare]


def term_positions(asked: str, labels: Sequence[str]) -> list[int]:
    """Places of the columns of a term: one of this name, or all levels and columns of it.

    Examples
    --------
    >>> term_positions("f:x", ["x", "f[b]", "f[b]:x", "f[c]:x", "f[b]:x:z"])
    [2, 3]
    >>> term_positions("bs(x, knots=[3,6])", ["bs(x, knots=[3, 6])[1]", "bs(x, knots=[3, 6])[2]"])
    [0, 1]
    """
    found = positions(asked, labels)
    if found:
        return found
    pattern = re.compile(":".join(map(_any_column, parts(respelled(asked)))), re.DOTALL)
    return [i for i, label in enumerate(labels) if pattern.fullmatch(label)]


def _any_column(part: str) -> str:
    """Pattern of the columns of one part of a product, with or without its backquotes."""
    bare = part.removeprefix("`").removesuffix("`")
    name = re.escape(part) if bare == part else f"(?:{re.escape(part)}|{re.escape(bare)})"
    return name + _SUFFIX


def parts(term: str) -> list[str]:
    """Components of a product: split at colons outside brackets and backquotes.

    Examples
    --------
    >>> parts("f[a:b]:log(x)")
    ['f[a:b]', 'log(x)']
    """
    out, depth, inside = [""], 0, False
    for character in term:
        inside ^= character == "`"
        depth += 0 if inside else (character in "([{") - (character in ")]}")
        if character == ":" and depth == 0 and not inside:
            out.append("")
        else:
            out[-1] += character
    return out


def column_label(name: str) -> str:
    """Label of a column as a term of its own: its name, in backquotes where it would be taken for something else.

    Examples
    --------
    >>> column_label("reaction time"), column_label("a:b")
    ('reaction time', '`a:b`')
    """
    unclear = _LIKE_A_TERM.fullmatch(name) or name != name.strip() or _is_expression(name)
    return quoted(name) if unclear else name


def _is_expression(name: str) -> bool:
    if name.isidentifier():
        return False
    try:
        return not isinstance(parse_expression(name), Name)
    except FormulaError:
        return False


def distinct(names: Sequence[str]) -> list[str]:
    """Labels that differ, though levels or columns may be called as if they were others."""
    seen: dict[str, int] = {}
    out = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        out.append(name if seen[name] == 1 else f"{name}.{seen[name] - 1}")
    return out
