"""Names and levels from the data as text that stays text: in source code, on a terminal, in Markdown and in plots."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

# Labels such as sd_Subject[Days] stay as they are: an underscore is markup at the edge of a word only, and a bracket
# before another one, a parenthesis or a colon.
_MARKDOWN = re.compile(r"[\\`*<>|&~$]|!(?=\[)|(?<!\w)_|_(?!\w)|\](?=[\[(:])")
_IN_QUOTES = '\\"'


def printable(text: str, also: str = "") -> str:
    r"""A text on one line, with everything that is not shown as itself written as an escape.

    Parameters
    ----------
    text : str
    also : str
        Further characters that get a backslash.

    Returns
    -------
    str
        Line breaks, control characters, marks that change the direction of writing, odd spaces and lone surrogates are
        escaped as in a Python string; letters of all languages stay.

    Examples
    --------
    >>> printable("a\nb"), printable("été"), printable("x\u2028y")
    ('a\\nb', 'été', 'x\\u2028y')
    """
    if text.isprintable() and not any(sign in text for sign in also):
        return text
    return "".join(f"\\{sign}" if sign in also else sign if sign.isprintable() else _escape(sign) for sign in text)


def _escape(sign: str) -> str:
    return sign.encode("unicode_escape", "surrogatepass").decode("ascii")


def on_terminal(text: str) -> str:
    r"""A text of several lines without what would steer a terminal.

    Examples
    --------
    >>> print(on_terminal("level \x1b[2J"))
    level \x1b[2J
    """
    return "\n".join(
        line if line.isprintable() else "\t".join(map(printable, line.split("\t"))) for line in text.split("\n")
    )


def literal(value: str | Sequence[str]) -> str:
    r"""A string, or a list of strings, as a Python literal on one line.

    Examples
    --------
    >>> print(literal("Subject"), literal(['a"b', "c\n"]))
    "Subject" ["a\"b", "c\n"]
    """
    if isinstance(value, str):
        return f'"{printable(value, also=_IN_QUOTES)}"'
    return f"[{', '.join(map(literal, value))}]"


def identifiers(names: Sequence[str]) -> dict[str, str]:
    """A different end of an identifier for every name, to stand after a prefix such as ``sd_``.

    Identifiers that Python takes for the same (it normalises them) count as the same.

    Examples
    --------
    >>> identifiers(["g", "a:b", "a b"])
    {'g': 'g', 'a:b': 'a_b', 'a b': 'a_b_2'}
    """
    out: dict[str, str] = {}
    for name in names:
        if name not in out:
            out[name] = _free(_identifier(name), set(out.values()))
    return out


def _identifier(name: str) -> str:
    # Lone surrogates cannot be normalised together with letters beside them, so signs are looked at one by one.
    text = unicodedata.normalize("NFKC", name)
    return "".join(sign if f"a{sign}".isidentifier() else "_" for sign in text)


def _free(name: str, taken: set[str]) -> str:
    count, free = 1, name
    while free in taken:
        count += 1
        free = f"{name}_{count}"
    return free


def in_markdown(text: str) -> str:
    r"""A text that Markdown shows as it is: no markup, no HTML, no end of a table's cell.

    Examples
    --------
    >>> print(in_markdown("<b>|sd_g[x]"))
    \<b\>\|sd_g[x]
    """
    return _MARKDOWN.sub(lambda found: f"\\{found.group()}", printable(text))


def in_plot(text: str) -> str:
    r"""A text for a figure, in which Matplotlib would take dollar signs for mathematics.

    Examples
    --------
    >>> print(in_plot("price in $ or $"))
    price in \$ or \$
    """
    return printable(text).replace("$", r"\$")
