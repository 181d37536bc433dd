"""Cells of a text file as values of columns: what is missing, what is a number, what is a word."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# Words that mean a missing value beside numbers, and may be levels beside words.
_MISSING_WORDS = frozenset(
    ["NA", "na", "N/A", "n/a", "#N/A", "#NA", "<NA>", "NaN", "nan", "-NaN", "-nan", "NULL", "Null", "null"]
) | {"None", "none", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"}
_TRUE, _FALSE = ("True", "TRUE", "true"), ("False", "FALSE", "false")
_NUMBER = re.compile(
    r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*|\s*[+-]?(inf|Inf|INF|infinity|Infinity)\s*", re.ASCII
)
_WHOLE = re.compile(r"\s*[+-]?\d+\s*", re.ASCII)
_INTEGER, _NUMERIC = frozenset("0123456789+- "), frozenset("0123456789+-.eE ")
_COMMA = re.compile(r"\s*[+-]?(\d+|\d{1,3}(\.\d{3})+)(,\d+)?([eE][+-]?\d+)?\s*", re.ASCII)
_SHOWN = 3


@dataclass(frozen=True)
class CellColumns:
    """How cells become values.

    Attributes
    ----------
    missing : frozenset of str
        Words that mean a missing value in every column.
    decimal : str
        ``"."`` or ``","``; ``"?"``: a comma where all numbers of a column have one or none; empty: a point.
    """

    missing: frozenset[str]
    decimal: str


def column(name: str, cells: Sequence[str], how: CellColumns) -> tuple[Any, list[str]]:
    """Values of a column, and what was taken as what."""
    numbers = _plain_numbers(cells) if how.decimal != "," and not how.missing else None
    if numbers is not None:
        return numbers, []
    distinct = Counter(cells)
    gone = {cell for cell in distinct if not cell.strip() or cell.strip() in how.missing}
    words = {cell for cell in distinct if cell.strip() in _MISSING_WORDS} - gone
    rest = [cell for cell in distinct if cell not in gone and cell not in words]
    for convert in (_as_numbers, _as_commas, _as_booleans):
        values = convert(cells, rest, gone | words, how.decimal)
        if values is not None:
            comma = [f"{name}: read with a decimal comma."] if convert is _as_commas and how.decimal == "?" else []
            return values, [*_counted(name, words, distinct, "taken as missing, as the column is numeric"), *comma]
    text = [None if cell in gone else cell for cell in cells]
    return _text(text), [*_kept(name, words, distinct), *_nearly_numbers(name, rest, distinct)]


def _kept(name: str, words: Iterable[str], distinct: Counter[str]) -> list[str]:
    kept = [(repr(word.strip()), _times(distinct[word])) for word in sorted(words)]
    return [f"{name}: {word} ({count}) is kept as a level; --na {word} makes it missing." for word, count in kept]


def _plain_numbers(cells: Sequence[str]) -> Any:
    """Numbers in which nothing is missing or odd, as most columns have them; else None."""
    signs = set("".join(cells))
    if not signs <= _NUMERIC:
        return None
    try:
        values = np.array(cells, dtype=float)
    except ValueError:
        return None
    if signs <= _INTEGER:
        return values.astype(np.int64) if np.abs(values).max() < 2**53 else None
    return values


def _text(values: Sequence[str | None]) -> Any:
    import pandas as pd

    return pd.array(values, dtype="str") if pd.__version__ >= "3" else np.array(values, dtype=object)


def _as_numbers(cells: Sequence[str], rest: Sequence[str], missing: set[str], decimal: str) -> Any:
    if not rest or decimal == "," or not all(_NUMBER.fullmatch(cell) for cell in rest):
        return None
    if all(_WHOLE.fullmatch(cell) for cell in rest):
        return _whole_numbers(cells, {cell: int(cell) for cell in rest})
    values = {cell: float(cell) for cell in rest}
    return np.array([values.get(cell, np.nan) for cell in cells])


def _whole_numbers(cells: Sequence[str], values: dict[str, int]) -> Any:
    """Whole numbers, of which no two become one; None if they are longer than 64 bits."""
    import pandas as pd

    low, high = min(values.values()), max(values.values())
    kind = "int64" if low >= -(2**63) and high < 2**63 else "uint64" if low >= 0 and high < 2**64 else ""
    if not kind:
        return None
    found = [values.get(cell) for cell in cells]
    if None not in found:
        return np.array(found, dtype=kind)
    if max(high, -low) <= 2**53:
        return np.array([np.nan if value is None else value for value in found], dtype=float)
    nullable: Any = {"int64": "Int64", "uint64": "UInt64"}[kind]
    return pd.array(found, dtype=nullable)


def _as_commas(cells: Sequence[str], rest: Sequence[str], missing: set[str], decimal: str) -> Any:
    if decimal not in (",", "?") or not rest or not all(_COMMA.fullmatch(cell) for cell in rest):
        return None
    plain = {cell: cell.replace(".", "").replace(",", ".") for cell in rest}
    return _as_numbers([plain.get(cell, cell) for cell in cells], list(plain.values()), missing, ".")


def _as_booleans(cells: Sequence[str], rest: Sequence[str], missing: set[str], decimal: str) -> Any:
    import pandas as pd

    del decimal
    if not rest or not all(cell.strip() in (*_TRUE, *_FALSE) for cell in rest):
        return None
    values = [None if cell in missing else cell.strip() in _TRUE for cell in cells]
    return np.array(values, dtype=bool) if None not in values else pd.array(values, dtype="boolean")


def _counted(name: str, words: Iterable[str], distinct: Counter[str], taken: str) -> list[str]:
    return [f"{name}: {word.strip()!r} ({_times(distinct[word])}) is {taken}." for word in sorted(words)]


def _nearly_numbers(name: str, rest: Sequence[str], distinct: Counter[str]) -> list[str]:
    """A word on a column that is text because of a few cells."""
    odd = [cell for cell in rest if not _NUMBER.fullmatch(cell)]
    if odd and all(_COMMA.fullmatch(cell) for cell in rest):
        return [f"{name}: text, because of commas such as {odd[0].strip()!r}; --decimal , reads it as numbers."]
    if not odd or len(odd) > _SHOWN or len(rest) - len(odd) < max(len(odd) + 1, 3):
        return []
    shown = ", ".join(f"{cell!r} ({_times(distinct[cell])})" for cell in odd)
    return [
        f"{name}: text, because of {shown} among numbers; --na {odd[0].strip()!r} makes that missing and the column "
        "numeric."
    ]


def _times(count: int) -> str:
    return f"{count} cell{'' if count == 1 else 's'}"
