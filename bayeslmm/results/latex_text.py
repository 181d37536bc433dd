"""Names, texts, numbers and matrices in LaTeX."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from bayeslmm.design.names import printable

_SIGNS = {c: f"\\{c}" for c in "_%&#${}"}
_IN_TEXT = _SIGNS | {"^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "\\": r"\textbackslash{}"}
# Spaces vanish in math mode and a hyphen is a minus there; the commands of text mode are none.
_IN_MATH = _SIGNS | {" ": r"\ ", "-": r"\text{-}", "^": r"{\wedge}", "~": r"{\sim}", "\\": r"{\backslash}"}


def name_in_math(name: str) -> str:
    """A name, upright."""
    return f"\\mathrm{{{_escaped(name, _IN_MATH)}}}"


def plain(text: str) -> str:
    """Text for the inside of a text command."""
    return _escaped(text, _IN_TEXT)


def _escaped(text: str, signs: Mapping[str, str]) -> str:
    """Without the backquotes of a formula, and with the signs that mean something in LaTeX written out."""
    # Spaces of other kinds end lines or columns; what is no sign at all is written as an escape.
    shown = printable(re.sub(r"\s", " ", text.replace("`", "")))
    return "".join(signs.get(sign, sign) for sign in shown)


def matrix(rows: Sequence[Sequence[str]]) -> str:
    """A matrix of entries in LaTeX."""
    body = r" \\ ".join(" & ".join(row) for row in rows)
    return f"\\begin{{pmatrix}} {body} \\end{{pmatrix}}"


def number(value: float) -> str:
    """A number with four digits; powers of ten written as such."""
    text = f"{float(np.asarray(value)):.4g}"
    if "e" not in text:
        return text
    mantissa, exponent = text.split("e")
    return f"{mantissa} \\times 10^{{{int(exponent)}}}"
