"""Values of options that are more than a word: numbers, lists of them, names with values."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import typer

# The mean and the sd of a normal distribution.
_NORMAL = re.compile(r"normal\(([^,()]+),([^,()]+)\)", re.IGNORECASE)
# Arguments of Python in the hints of tables, which are options of the command.
_ARGUMENT = re.compile(r"(?<![\w(])(by|test|ddf|adjust|na_action)='([\w.:-]+)'")
_SUMMARY = re.compile(r"\bsummary\((ddf='[\w-]+')\)")


def in_options(text: str) -> str:
    """Hints that name arguments of Python, as options; lines keep their lengths, or get shorter.

    Examples
    --------
    >>> in_options("by='Variety' shows them apart; summary(ddf='kenward-roger') counts it.")
    '--by Variety shows them apart; --ddf kenward-roger counts it.'
    """
    return _ARGUMENT.sub(lambda m: f"--{m[1].replace('_', '-')} {m[2]}", _SUMMARY.sub(r"\1", text))


def several(option: str, text: str, kind: Callable[[str], float]) -> Any:
    """A number, or a list of numbers that stand between commas.

    Examples
    --------
    >>> several("--groups", "10,20", int), several("--groups", "10", int)
    ([10, 20], 10)
    """
    found = [_number(option, part, kind) for part in text.split(",")]
    return found if len(found) > 1 else found[0]


def values_of(option: str, texts: Sequence[str] | None, kind: Callable[[str], float] = float) -> dict[str, Any] | None:
    """Names with numbers, from ``name=number`` or ``name=number,number``; a normal distribution is a pair.

    Names may have a sign of equality themselves: the last one counts.

    Examples
    --------
    >>> values_of("--effect", ["Days=3,6", "arm[a=b]=normal(5, 2)"])
    {'Days': [3.0, 6.0], 'arm[a=b]': (5.0, 2.0)}
    """
    found: dict[str, Any] = {}
    for text in texts or ():
        name, sign, value = (part.strip() for part in text.rpartition("="))
        _check_named(option, text, name, sign, value, "Days=5")
        normal = _NORMAL.fullmatch(value)
        if name in found:
            raise typer.BadParameter(f"{option} gives {name!r} twice. Values to be tried stand between commas.")
        pair = normal and tuple(_number(option, part, float) for part in normal.groups())
        found[name] = pair or several(option, value, kind)
    return found or None


def levels_of(option: str, texts: Sequence[str] | None, is_number: Callable[[str], bool]) -> dict[str, Any] | None:
    """Columns with values: numbers where the column has numbers, texts of levels where not.

    Examples
    --------
    >>> levels_of("--at", ["age=8,14", "Sex=Male"], lambda column: column == "age")
    {'age': [8.0, 14.0], 'Sex': ['Male']}
    """
    found: dict[str, list[Any]] = {}
    for text in texts or ():
        name, sign, value = (part.strip() for part in text.partition("="))
        _check_named(option, text, name, sign, value, "age=8,14")
        parts = [part.strip() for part in value.split(",")]
        own = [_number(option, part, float) for part in parts] if is_number(name) else parts
        found.setdefault(name, []).extend(own)
    return found or None


def weights_of(option: str, texts: Sequence[str]) -> dict[str, Any]:
    """Contrasts with their weights: ``NAME=W,W``, ``NAME=LEVEL:W,LEVEL:W``, or JSON of names to lists or objects.

    Weights may be fractions. Names may have a sign of equality themselves, levels a colon: the last one counts.

    Examples
    --------
    >>> weights_of("--contrast", ["C - A=-1,0,1", "C against both=A:-1/2,B:-1/2,C:1"])
    {'C - A': [-1.0, 0.0, 1.0], 'C against both': {'A': -0.5, 'B': -0.5, 'C': 1.0}}
    >>> weights_of("--contrast", ['{"C - A": {"A": -1, "C": 1}}'])
    {'C - A': {'A': -1, 'C': 1}}
    """
    found: dict[str, Any] = {}
    for text in texts:
        own = _from_json(option, text) if text.lstrip().startswith("{") else _weighted(option, text)
        twice = next((name for name in own if name in found), None)
        if twice is not None:
            raise typer.BadParameter(f"{option} gives {twice!r} twice. Give every contrast a name of its own.")
        found |= own
    return found


def _weighted(option: str, text: str) -> dict[str, Any]:
    name, sign, value = (part.strip() for part in text.rpartition("="))
    _check_named(option, text, name, sign, value, "'C - A=-1,0,1'")
    pairs = [tuple(part.strip() for part in own.rpartition(":")) for own in value.split(",")]
    from fractions import Fraction

    weights = [_number(option, weight, lambda given: float(Fraction(given))) for _, _, weight in pairs]
    levels = [level for level, colon, _ in pairs if colon]
    if not levels:
        return {name: weights}
    if len(levels) < len(pairs) or len(set(levels)) < len(levels):
        raise typer.BadParameter(
            f"{option} takes one weight for every mean, or LEVEL:WEIGHT for each level that is weighed, once, and got "
            f"{text!r}."
        )
    return {name: dict(zip(levels, weights, strict=True))}


def _from_json(option: str, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"{option} {text} is no JSON ({error}). Quote it for the shell: {option} '{{\"C - A\": [-1, 0, 1]}}'."
        ) from None
    if not (isinstance(found, dict) and found and all(isinstance(own, list | dict) for own in found.values())):
        raise typer.BadParameter(
            f"{option} {text} gives no contrasts: names stand before lists of weights, or before objects of levels and "
            f"weights, as in '{{\"C - A\": [-1, 0, 1]}}'."
        )
    return found


def _check_named(option: str, text: str, name: str, sign: str, value: str, example: str) -> None:
    if not (name and sign and value):
        raise typer.BadParameter(f"{option} takes a name and its value, as in {option} {example}, and got {text!r}.")


def _number(option: str, text: str, kind: Callable[[str], float]) -> float:
    try:
        return kind(text.strip())
    except (ValueError, ZeroDivisionError, OverflowError):
        what = "whole number" if kind is int else "number"
        raise typer.BadParameter(f"{option} takes a {what}, or several between commas, and got {text!r}.") from None
