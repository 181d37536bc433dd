"""Hypotheses about fixed effects in words: names, and equations such as ``"Days = 10"`` or ``"a - 2 * b = 0"``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from bayeslmm.arguments import numbers_of
from bayeslmm.design.lookup import positions, term_positions
from bayeslmm.errors import DesignError
from bayeslmm.types import FloatArray

_NUMBER = r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
_TIMES = re.compile(rf"\s*(?P<number>{_NUMBER})\s*\*\s*(?P<rest>.+)", re.DOTALL)
_DIVIDED = re.compile(rf"(?P<rest>.+?)\s*/\s*(?P<number>{_NUMBER})\s*", re.DOTALL)
# Of an equation, not of a condition within a call.
_DOUBLE = re.compile(r"==(?![^()]*\))")
_PLAIN = re.compile(rf"\s*{_NUMBER}\s*")


def equations(L: Any, names: Sequence[str]) -> tuple[Any, FloatArray | None]:
    """Combinations with texts that are equations written as rows (m, p), and their right sides (m,).

    Anything else (names of coefficients and terms, numbers) is given back as it is, without right sides.
    """
    asked = [L] if isinstance(L, str) else L
    if not isinstance(asked, Sequence) or not all(isinstance(text, str) for text in asked):
        return L, None
    if not any("=" in text and not term_positions(text, names) for text in asked):
        return L, None
    found = [rows_of(text, names) for text in asked]
    return np.concatenate([rows for rows, _ in found]), np.concatenate([c for _, c in found])


def right_side(stated: FloatArray | None, given: Any, rows: int) -> FloatArray | None:
    """The values (m,) of the combinations, from equations or the argument ``rhs``; None for zeros by default.

    Raises
    ------
    DesignError
        Both are there, or values of another number than the rows.
    """
    if given is None:
        return stated
    if stated is not None:
        raise DesignError("The equations have right sides of their own, and rhs= is given too. Give one of them.")
    values = numbers_of("rhs", given, finite=True, error=DesignError)
    if values.ndim == 0:
        values = np.full(rows, float(values))
    if values.shape != (rows,):
        raise DesignError(f"rhs has shape {values.shape}, but there are {rows} combinations. Give one value for each.")
    return values


def rows_of(asked: str, names: Sequence[str]) -> tuple[FloatArray, FloatArray]:
    """Rows L (m, p) and right sides c (m,) of one text.

    Parameters
    ----------
    asked : str
        The name of a coefficient or term (whose coefficients are zero), or an equation. On both sides of it stand sums
        of coefficients, each with a number before it if wanted, and numbers.
    names : sequence of str
        Coefficients.

    Raises
    ------
    DesignError
        A name that is no coefficient, an equation that says nothing about coefficients.

    Examples
    --------
    >>> L, c = rows_of("f[b] - 2 * f[c] = 3", ["Intercept", "f[b]", "f[c]"])
    >>> L.tolist(), c.tolist()
    ([[0.0, 1.0, -2.0]], [3.0])
    >>> rows_of("f", ["Intercept", "f[b]", "f[c]"])[0].tolist()
    [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    found = term_positions(asked, names)
    sides = [] if found else _split(_DOUBLE.sub("=", asked), "=")
    if found or len(sides) == 1:
        if not found:
            raise _unknown(asked, names)
        return np.eye(len(names))[found], np.zeros(len(found))
    if len(sides) != 2:
        raise DesignError(f"{asked!r} has {len(sides) - 1} equality signs. Write one equation per text: 'Days = 10'.")
    left, right = (_sum(side, asked, names) for side in sides)
    row, constant = left[0] - right[0], right[1] - left[1]
    if not row.any():
        raise DesignError(f"{asked!r} says nothing about a coefficient. {known_coefficients(names)}")
    return row[None], np.array([constant])


def _sum(side: str, asked: str, names: Sequence[str]) -> tuple[FloatArray, float]:
    """Coefficients (p,) and constant of one side of an equation."""
    row, constant = np.zeros(len(names)), 0.0
    pieces = [(1.0, side)] if positions(side.strip(), names) else _signed(side)
    if not pieces:
        raise DesignError(f"One side of {asked!r} is empty. Write an equation such as 'Days = 10'.")
    for sign, piece in pieces:
        if _PLAIN.fullmatch(piece):
            constant += sign * float(piece)
            continue
        factor, name = _factor(piece, names)
        place = positions(name.strip(), names)
        if len(place) != 1:
            raise _unknown(name.strip(), names, asked)
        row[place[0]] += sign * factor
    return row, constant


def _factor(piece: str, names: Sequence[str]) -> tuple[float, str]:
    if not positions(piece.strip(), names):
        if match := _TIMES.fullmatch(piece):
            return float(match["number"]), match["rest"]
        if (match := _DIVIDED.fullmatch(piece)) and float(match["number"]) > 0:
            return 1.0 / float(match["number"]), match["rest"]
    return 1.0, piece


def _signed(side: str) -> list[tuple[float, str]]:
    """Summands with their signs."""
    out: list[tuple[float, str]] = []
    sign = 1.0
    for piece in _split(side, "+-"):
        if piece in ("+", "-"):
            sign *= -1.0 if piece == "-" else 1.0
        elif piece.strip():
            out.append((sign, piece))
            sign = 1.0
    return out


def _split(text: str, signs: str) -> list[str]:
    """Pieces between signs that stand outside brackets, quotes and exponents; plus and minus are pieces themselves."""
    out, depth, quote = [""], 0, ""
    for i, character in enumerate(text):
        if quote or character in "`\"'":
            quote = "" if quote == character else quote or character
        elif character in "([{" or character in ")]}":
            depth += 1 if character in "([{" else -1
        elif character in signs and depth == 0 and not re.search(r"(?<![\w.])(\d+\.?\d*|\.\d+)[eE]$", text[:i]):
            out += [""] if character == "=" else [character, ""]
            continue
        out[-1] += character
    return out


def _unknown(name: str, names: Sequence[str], within: str = "") -> DesignError:
    where = f" (in {within!r})" if within else ""
    return DesignError(f"No coefficient or term is called {name!r}{where}. {known_coefficients(names)}")


def known_coefficients(names: Sequence[str]) -> str:
    """The end of a message on a name that is no coefficient."""
    return f"Coefficients are: {', '.join(names)}." if names else "The model has no fixed effects."
