"""A dot alone in a formula: all other columns of the data, written out before the formula is read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from bayeslmm.design.formula import Formula, parse_formula
from bayeslmm.design.tokens import dots, quoted, tokenize
from bayeslmm.errors import FormulaError

# One of them stands for the dot while the formula is read.
_LETTERS = "ₓⱼₐₑₒ"


def without_dot(text: str, available: Sequence[str], arguments: Iterable[Any] = ()) -> str:
    """The formula with its dots written out.

    Unlike in lme4, whose dot stands for the grouping factors too, these get no fixed effects beside their random ones.

    Parameters
    ----------
    text : str
    available : sequence of str
        Columns of the data.
    arguments : iterable
        Weights and frequencies; columns whose names these are, are no predictors.

    Returns
    -------
    str
        The text itself if there is no dot.

    Raises
    ------
    FormulaError
        A dot where no predictors stand, no other columns, or another error of the formula.

    Examples
    --------
    >>> without_dot("y ~ . - z + (1 | g)", ["y", "x", "z", "a b", "g"])
    'y ~ (x + z + `a b`) - z + (1 | g)'
    >>> without_dot("log(y) ~ .^2 + (1 | g)", ["y", "x", "z", "w", "g"], ["w"])
    'log(y) ~ (x + z)^2 + (1 | g)'
    """
    places = dots(text)
    if not places:
        return text
    letter = next(letter for letter in _LETTERS if letter not in text)
    parsed = _parsed(text, places, letter)
    _check_places(parsed, text, places[0], letter)
    used = {*_names(parsed.response), *(name for bar in parsed.bars for name in bar.factors)}
    used |= {name for offset in parsed.offsets for name in _names(offset)}
    used |= {argument.strip("`") for argument in arguments if isinstance(argument, str)}
    others = [name for name in dict.fromkeys(available) if name not in used]
    if not others:
        raise FormulaError(
            "A dot stands for all columns that are neither the response nor a grouping factor, offset or weight, and "
            "the data have none. Leave it out: y ~ 1 + (1 | g).",
            text,
            places[0],
        )
    written = f"({' + '.join(map(quoted, others))})"
    return "".join(written if i in places else c for i, c in enumerate(text))


def _parsed(text: str, places: Sequence[int], letter: str) -> Formula:
    """The formula with a letter in brackets for each dot; errors are about the text as typed."""
    pieces = [f"({letter})" if i in places else c for i, c in enumerate(text)]
    try:
        return parse_formula("".join(pieces))
    except FormulaError as error:
        if error.position is None:
            raise
        origin = [i for i, piece in enumerate(pieces) for _ in piece] + [len(text)]
        raise FormulaError(
            error.problem.replace(letter, "."), text, origin[min(error.position, len(origin) - 1)]
        ) from None


def _check_places(parsed: Formula, text: str, place: int, letter: str) -> None:
    elsewhere = [parsed.response, *parsed.offsets, *(name for bar in parsed.bars for name in bar.factors)]
    terms = [parsed.fixed, *(bar.left for bar in parsed.bars)]
    inside = any(token.inside and token.text == letter for part in terms for token in tokenize(part))
    if inside or any(letter in _names(part) for part in elsewhere):
        raise FormulaError(
            "A dot stands for all other columns of the data, as summands of the predictors: y ~ . + (1 | g), "
            "y ~ . - x + (1 | g), y ~ .^2 + (1 | g). Here a single column is needed: name it.",
            text,
            place,
        )


def _names(text: str) -> set[str]:
    return {token.text.strip("`") for token in tokenize(text) if token.kind in ("name", "quoted")}
