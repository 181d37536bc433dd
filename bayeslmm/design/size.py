"""Sizes of what a formula asks for, counted before any of it is made."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from bayeslmm.design.names import literal, printable
from bayeslmm.design.tokens import Token
from bayeslmm.errors import DesignError, FormulaError

# Terms after (a + b)^k and a * b are multiplied out: all of ten crossed factors are 1,023.
MOST_TERMS = 2_000
# Columns that one part of a formula may give; X'X then takes 200 MB.
MOST_COLUMNS = 5_000
# Rows times columns: 1.6 GB. The first columns are free, as that many come with data of that many rows.
MOST_ENTRIES = 200_000_000
FREE_COLUMNS = 200
# Numbers in the derivatives of the factor of a term by its parameters, k c^2: 400 MB.
MOST_DERIVATIVES = 50_000_000
# Numbers in the covariance blocks of all levels of a grouping factor, J c^2: 4 GB.
MOST_BLOCKS = 500_000_000

_POWERS = ("^", "**")


@dataclass(frozen=True)
class Width:
    """How many columns a component of a term takes.

    Attributes
    ----------
    full : int
        A factor's levels; the columns of what is numeric.
    reduced : int
        A factor's contrasts.
    factor : bool
    independent : int
        Columns of a factor that are independent, together with the constant.
    """

    full: int
    reduced: int
    factor: bool = True
    independent: int = 1


def check_terms_count(tokens: Sequence[Token]) -> None:
    """Refuse a part of a formula that multiplies out to too many terms.

    Parameters
    ----------
    tokens : sequence of Token
        Terms joined by operators, brackets balanced.

    Raises
    ------
    FormulaError

    Examples
    --------
    >>> from bayeslmm.design.tokens import tokenize
    >>> check_terms_count(tokenize("(a + b + c)^2 * x"))
    """
    if sum(token.text in ("*", "/", *_POWERS) for token in tokens) == 0 and len(tokens) < MOST_TERMS:
        return
    count = _Counter(tokens).sum()
    if count > MOST_TERMS:
        text = printable(" ".join(token.text for token in tokens))
        shown = f"{count:,}" if count < 10**15 else "more than 10^15"
        raise FormulaError(
            f"{text[:200]} multiplies out to as many as {shown} terms (limit {MOST_TERMS:,}). Write "
            "(a + b + c)^2 for interactions of two, or name the interactions that are meant."
        )


class _Counter:
    """Number of terms of a text, equal ones counted as often as they come; powers, then : * /, then sums."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens, self._at = tokens, 0

    def _next(self) -> str:
        return self._tokens[self._at].text if self._at < len(self._tokens) else ""

    def sum(self) -> int:
        total = self._product()
        while self._next() in ("+", "-"):
            self._at += 1
            total += self._product()
        return total

    def _product(self) -> int:
        total = self._power()
        while (sign := self._next()) in ("*", "/", ":", "%in%"):
            self._at += 1
            other = self._power()
            total = total * other + (total + other if sign in ("*", "/") else 0)
        return total

    def _power(self) -> int:
        total = self._atom()
        while self._next() in _POWERS:
            exponent = self._tokens[self._at + 1].text
            self._at += 2
            most = (
                min(int(exponent), total) if exponent.isascii() and exponent.isdigit() and len(exponent) < 4 else total
            )
            total = sum(math.comb(min(total, 4 * MOST_TERMS), k) for k in range(1, min(most, 64) + 1))
        return total

    def _atom(self) -> int:
        token = self._tokens[self._at]
        self._at += 1
        if token.text in ("+", "-"):
            return self._atom()
        if token.text == "(":
            total = self.sum()
            self._at += 1
            return total
        if token.text == "{" or (token.kind in ("name", "quoted") and self._next() == "("):
            opening = token if token.text == "{" else self._tokens[self._at]
            while not (self._next() in (")", "}") and self._tokens[self._at].depth == opening.depth):
                self._at += 1
            self._at += 1
        return 1


def check_columns(
    terms: Sequence[Sequence[str]],
    full: Sequence[Collection[str]],
    widths: Mapping[str, Width],
    rows: int,
    *,
    constant: bool = False,
    observations: int | None = None,
    shown: Mapping[str, str] | None = None,
) -> None:
    """Refuse terms whose columns are too many for the rows, or for memory.

    Parameters
    ----------
    terms : sequence of sequence of str
        Names of components.
    full : sequence of collection of str
        Factors of each term that get one column per level.
    widths : mapping of str to Width
        Component to its columns.
    rows : int
        Rows of the columns.
    constant : bool
        Whether a column of ones stands beside them.
    observations : int, optional
        Observations of which there must be more than fixed effects; None for columns that need not be independent.
    shown : mapping of str to str, optional
        Component to what users call it.

    Raises
    ------
    DesignError
        It names the largest term, and the levels of its factors.

    Examples
    --------
    >>> check_columns([("x",), ("f",)], [(), ()], {"x": Width(1, 1, False), "f": Width(3, 2)}, 12, observations=12)
    """
    counts = [_columns(term, own, widths) for term, own in zip(terms, full, strict=True)]
    if not counts:
        return
    # The columns of one factor are independent, whatever else is in the model.
    least = max([0, *(widths[term[0]].independent for term in terms if len(term) == 1)])
    largest = terms[max(range(len(terms)), key=counts.__getitem__)]
    total = constant + sum(counts)
    many = total > MOST_COLUMNS or (total > FREE_COLUMNS and total * rows > MOST_ENTRIES)
    too_many = observations is not None and least >= observations
    words = _words(largest, widths, shown or {}) if many or too_many else ""
    if too_many:
        raise DesignError(
            f"{observations} complete row(s) are not enough for {total:,} fixed effects: nothing is left to estimate "
            f"variances from. The largest term is {words}. Use fewer predictors or more data. (Text and categorical "
            "columns take one column per level: was a column of numbers read as text, or is it a grouping factor, "
            "which belongs right of a bar: (1 | group)?)"
        )
    if many:
        raise DesignError(
            f"The formula asks for {total:,} columns of {rows:,} rows, {8e-9 * total * rows:,.1f} GB (limits: "
            f"{MOST_COLUMNS:,} columns, {8e-9 * MOST_ENTRIES:.1f} GB). The largest term is {words}. A factor with that "
            "many levels is a grouping factor, which belongs right of a bar: (1 | group); a column of numbers that was "
            "read as text has to become numbers first."
        )


def _columns(term: Sequence[str], full: Collection[str], widths: Mapping[str, Width]) -> int:
    return math.prod(widths[name].full if name in full else widths[name].reduced for name in term)


def _words(term: Sequence[str], widths: Mapping[str, Width], shown: Mapping[str, str]) -> str:
    names = [printable(shown.get(name, name)) for name in term]
    levels = [
        f"{name}: {widths[key].full:,} {'levels' if widths[key].factor else 'columns'}"
        for key, name in zip(term, names, strict=True)
        if widths[key].full > 1
    ]
    return f"{':'.join(names)} ({', '.join(levels)})" if levels else ":".join(names)


def check_structure(label: str, keyword: str, effects: int) -> None:
    """Refuse a covariance matrix of so many effects that its parameters take more memory than there may be.

    Parameters
    ----------
    label : str
        The random term as written.
    keyword : str
        Of the structure: ``"us"``, ``"diag"`` or another, which has one or two parameters.
    effects : int

    Raises
    ------
    DesignError

    Examples
    --------
    >>> check_structure("(0 + f | g)", "us", 20)
    """
    parameters = {"us": effects * (effects + 1) // 2, "diag": effects}.get(keyword, 2)
    if parameters * effects**2 > MOST_DERIVATIVES:
        raise DesignError(
            f"{printable(label)} has {effects:,} effects for every level and so {parameters:,} parameter(s) of their "
            f"covariance, whose derivatives take {8e-9 * parameters * effects**2:,.1f} GB (limit "
            f"{8e-9 * MOST_DERIVATIVES:.1f} GB). Use a factor with fewer levels left of the bar, or make it a grouping "
            "factor: (1 | g) + (1 | g:f)."
        )


def check_blocks(groups: Mapping[str, tuple[int, int]]) -> None:
    """Refuse grouping factors whose levels have more covariances of effects than there is room for.

    Parameters
    ----------
    groups : mapping of str to (int, int)
        Grouping factor to its levels and the effects of one level.

    Raises
    ------
    DesignError

    Examples
    --------
    >>> check_blocks({"Subject": (18, 2)})
    """
    for group, (levels, size) in groups.items():
        if levels * size**2 > MOST_BLOCKS:
            raise DesignError(
                f"{literal(group)} has {levels:,} levels with {size:,} effects each, whose covariances take "
                f"{8e-9 * levels * size**2:,.1f} GB (limit {8e-9 * MOST_BLOCKS:.1f} GB). Use fewer effects left of the "
                "bar."
            )
