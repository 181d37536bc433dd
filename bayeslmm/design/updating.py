"""A formula changed in R's manner: a dot stands for what was there, on either side of the tilde."""

from __future__ import annotations

from collections.abc import Sequence

from bayeslmm.arguments import kind_of
from bayeslmm.design.algebra import expanded, operand_node, operand_places
from bayeslmm.design.formula import Bar, Formula, parse_formula, summands
from bayeslmm.design.tokens import STRUCTURES, Token, dots, quoted, spelled, tokenize
from bayeslmm.errors import FormulaError

# One of them stands for the dot while the formula is read.
_LETTERS = "ₓⱼₐₑₒ"


def updated_formula(old: str, new: str) -> str:
    """The formula that a change to another one gives.

    Parameters
    ----------
    old : str
    new : str
        Dots stand for the response, and for all terms: fixed ones, random ones and offsets. Any of these can be added,
        and taken away by a minus. Without a left side the response stays.

    Returns
    -------
    str
        Without dots. Where terms are taken away the fixed part is written out, as R does.

    Raises
    ------
    FormulaError
        A term to be taken away that is not there, a dot where no terms stand, or no random term is left.

    Examples
    --------
    >>> updated_formula("y ~ x * z + (x | g)", "log(.) ~ . - x:z + w")
    'log(y) ~ x + z + w + (x | g)'
    >>> updated_formula("y ~ x + (x | g) + (1 | h)", "~ . - (x | g) + (1 | g)")
    'y ~ x + (1 | h) + (1 | g)'
    """
    if not isinstance(new, str):
        raise FormulaError(f"The change is {kind_of(new)}, not a formula such as '. ~ . - x'.")
    was, letter = parse_formula(old), next(letter for letter in _LETTERS if letter not in new)
    text = "".join(letter if i in dots(new) else c for i, c in enumerate(new))
    tokens = tokenize(text)
    places = [i for i, token in enumerate(tokens) if token.text == "~" and not token.inside]
    if len(places) != 1:
        raise FormulaError("A change of a formula has one ~, as in '. ~ . - x' or '~ . + z'.", new, 0, max(len(new), 1))
    left, right = tokens[: places[0]], tokens[places[0] + 1 :]
    response = _response(was, left, letter)
    fixed, offsets, bars = _right(was, right, letter, new)
    changed = " + ".join([fixed, *(f"offset({part})" for part in offsets), *map(_written, bars)])
    return parse_formula(f"{response} ~ {changed}").text


def _response(was: Formula, left: Sequence[Token], letter: str) -> str:
    alone = [token.text for token in left] in ([], [letter])
    return was.response if alone else spelled(left).replace(letter, was.response)


def _right(was: Formula, right: Sequence[Token], letter: str, new: str) -> tuple[str, list[str], list[Bar]]:
    """Fixed part, offsets and random terms."""
    within = next((token for token in right if token.text == letter and token.inside), None)
    if within is not None:
        raise FormulaError(
            "A dot within a call has no meaning right of the tilde: it stands for terms.", new, within.start
        )
    pieces = list[str]()
    dotted = any(token.text == letter for token in right)
    offsets, bars = (list(was.offsets), list(was.bars)) if dotted else ([], [])
    minus = False
    for sign, term in summands(new, right):
        text = spelled(term)
        if _random(term):
            if letter in text:
                raise FormulaError(f"A dot within the random term {text.replace(letter, '.')} has no meaning.", new)
            own = parse_formula(f"y ~ 1 + {text}").bars
            bars = _taken(bars, own, new) if sign == "-" else [*bars, *own]
        elif term[0].text == "offset":
            argument = spelled(term[2:-1])
            if sign == "-" and argument not in offsets:
                raise FormulaError(_absent(f"offset({argument})", [f"offset({part})" for part in offsets]), new)
            offsets = [part for part in offsets if part != argument] if sign == "-" else [*offsets, argument]
        else:
            minus |= sign == "-" and text != "1"
            pieces.append(f"{sign} {_in_place(was, sign, term, letter)}")
    fixed = " ".join(pieces).removeprefix("+ ") or "1"
    fixed = f"1 {fixed}" if fixed.startswith("-") else fixed
    if minus:
        _check_there(was, right, letter, new)
    return (_expanded(fixed) if minus else fixed), offsets, bars


def _in_place(was: Formula, sign: str, term: Sequence[Token], letter: str) -> str:
    """A summand with the old fixed part in the place of the dot."""
    alone = sign == "+" and len(term) == 1 and term[0].text == letter
    whole = f"({was.fixed})"
    return was.fixed if alone else spelled(term).replace(f"({letter})", whole).replace(letter, whole)


def _check_there(was: Formula, right: Sequence[Token], letter: str, new: str) -> None:
    """Refuse to take away what is not there, which R passes over."""
    there = list[str]()
    for sign, term in summands(new, right):
        if _random(term) or term[0].text == "offset":
            continue
        text = _in_place(was, sign, term, letter)
        if sign == "-" and text not in ("0", "1"):
            before, own = _terms(" + ".join(there) or "1"), _terms(text)
            if not any(name in before for name in own):
                raise FormulaError(_absent(" + ".join(own), before), new)
        elif sign == "+":
            there.append(text)


def _absent(name: str, there: Sequence[str]) -> str:
    return f"{name} is to be taken away but is not there. There are: {', '.join(there) or 'none'}."


def _random(term: Sequence[Token]) -> bool:
    start = 1 if term[0].text in STRUCTURES else 0
    bar = any(token.text in ("|", "||") and not token.inside for token in term)
    return bar and len(term) > start and term[start].text == "("


def _taken(bars: Sequence[Bar], own: Sequence[Bar], new: str) -> list[Bar]:
    left = list(bars)
    for bar in own:
        same = [other for other in left if other.label == bar.label]
        if not same:
            raise FormulaError(_absent(bar.label, [other.label for other in bars]), new)
        left.remove(same[0])
    return left


def _terms(text: str) -> list[str]:
    """Terms of a fixed part as they are written."""
    tokens, texts = tokenize(text), dict[object, str]()
    for start, end in operand_places(tokens):
        texts.setdefault(operand_node(tokens[start:end]), spelled(tokens[start:end]))
    terms, _, operands = expanded(text)
    return [":".join(texts[operands[name]] for name in term) for term in sorted(terms, key=len)]


def _expanded(text: str) -> str:
    terms = _terms(text)
    return " + ".join(([] if expanded(text)[1] else ["0"]) + terms) or "1"


def _written(bar: Bar) -> str:
    signs = "|" if bar.correlated else "||"
    return f"{bar.keyword}({bar.left} {signs} {':'.join(map(quoted, bar.factors))})"
