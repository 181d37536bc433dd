"""The algebra of terms: what may stand between + signs outside function calls, and which terms it means, as in R."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from bayeslmm.design.coding import Term, ordered_terms
from bayeslmm.design.expressions import Name, Node, parse_expression, read_expression
from bayeslmm.design.size import check_terms_count
from bayeslmm.design.tokens import Token, spelled, tokenize
from bayeslmm.errors import FormulaError

type Terms = dict[frozenset[str], None]

_OPERATORS = {"+", "-", "*", ":", "/", "^", "**", "%in%"}
_POWERS = {"^", "**"}
_DEEPEST = 100


def check_terms(text: str, tokens: Sequence[Token]) -> None:
    """Refuse whatever is not terms joined by operators.

    Parameters
    ----------
    text : str
        The formula, for the message.
    tokens : sequence of Token
        Fixed part or left side of a bar, brackets balanced.

    Raises
    ------
    FormulaError
        With a caret under the place.

    Examples
    --------
    >>> from bayeslmm.design.tokens import tokenize
    >>> check_terms("x + log(z) * (f + 0)", tokenize("x + log(z) * (f + 0)"))
    """
    deepest = max(tokens, key=lambda token: token.depth, default=None)
    if deepest is not None and deepest.depth > _DEEPEST:
        raise FormulaError(f"More than {_DEEPEST} brackets stand within each other here.", text, deepest.start)
    i, operand_next = 0, True
    while i < len(tokens):
        step = _operand if operand_next else _operator
        i, operand_next = step(text, tokens, i)
    if operand_next:
        last = tokens[-1]
        raise FormulaError("A term is missing after the last sign.", text, last.start, len(last.text))
    check_terms_count(tokens)


def operands(text: str) -> Iterator[str]:
    """Columns and calls of a sound text, in the order in which they stand.

    Examples
    --------
    >>> list(operands("(x + log(z)):f - x"))
    ['x', 'log(z)', 'f', 'x']
    """
    tokens = tokenize(text)
    for start, end in operand_places(tokens):
        yield text[tokens[start].start : tokens[end - 1].end]


def operand_places(tokens: Sequence[Token]) -> Iterator[tuple[int, int]]:
    """Where columns and calls stand among the tokens: from, and up to but without."""
    i = 0
    while i < len(tokens):
        token, end = tokens[i], i + 1
        if token.kind in ("name", "quoted") or token.text == "{":
            called = token.text != "{" and end < len(tokens) and tokens[end].text == "("
            end = _after_bracket(tokens, i + called) if called or token.text == "{" else end
            yield i, end
        i = end


@lru_cache(maxsize=256)
def calls(text: str) -> tuple[Node, ...]:
    """Calls in a sound text, nested ones within those that hold them."""
    tokens = tokenize(text)
    return tuple(operand_node(tokens[start:end]) for start, end in operand_places(tokens) if end - start > 1)


@lru_cache(maxsize=256)
def in_order(text: str) -> tuple[tuple[Term, ...], bool, Mapping[str, Node]]:
    """As `expanded`, distinct terms by degree."""
    terms, intercept, operands = expanded(text)
    return ordered_terms(terms, list(operands)), intercept, operands


def expanded(text: str) -> tuple[list[tuple[str, ...]], bool, dict[str, Node]]:
    """Terms of a sound text, as R expands it.

    Parameters
    ----------
    text : str
        Fixed part or left side of a bar.

    Returns
    -------
    terms : list of tuple of str
        Placeholders of each term.
    intercept : bool
    operands : dict of str to Node
        What the placeholders stand for, in the order in which they appear.

    Examples
    --------
    >>> terms, intercept, operands = expanded("0 + x * log(z)")
    >>> terms, intercept
    ([('v0_',), ('v1_',), ('v0_', 'v1_')], False)
    """
    tokens = tokenize(text)
    names: dict[Node, str] = {}
    words: list[str] = []
    position = 0
    for start, end in operand_places(tokens):
        words += [token.text for token in tokens[position:start]]
        words.append(names.setdefault(operand_node(tokens[start:end]), f"v{len(names)}_"))
        position = end
    words += [token.text for token in tokens[position:]]
    expansion = _Expansion(words)
    place = {name: i for i, name in enumerate(names.values())}
    terms = [tuple(sorted(term, key=place.__getitem__)) for term in expansion.sum()]
    return terms, expansion.intercept, {name: node for node, name in names.items()}


class _Expansion:
    """Terms as sets of names; the numbers 0 and 1 give none, but switch the intercept wherever they stand, as in R."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words, self._i, self.intercept = words, 0, True

    def _next(self) -> str:
        return self._words[self._i] if self._i < len(self._words) else ""

    def _take(self) -> str:
        self._i += 1
        return self._words[self._i - 1]

    def sum(self) -> Terms:
        terms: Terms = {}
        first = True
        while first or self._next() in ("+", "-"):
            first = minus = False
            while self._next() in ("+", "-"):
                minus |= self._take() == "-"
            if self._next() in ("0", "1"):
                self.intercept = (self._take() == "1") != minus
                continue
            for term in self._product():
                if minus:
                    terms.pop(term, None)
                else:
                    terms[term] = None
        return terms

    def _product(self) -> Terms:
        """``*`` and ``/``, and tighter than these ``:`` and ``%in%``."""
        left = self._interaction()
        while self._next() in ("*", "/"):
            nested = self._take() == "/"
            right = self._interaction()
            left = {**left, **_within(right, left)} if nested else {**left, **right, **_crossed(left, right)}
        return left

    def _interaction(self) -> Terms:
        left = self._power()
        while self._next() in (":", "%in%"):
            left = _crossed(left, self._power()) if self._take() == ":" else _within(left, self._power())
        return left

    def _power(self) -> Terms:
        base = self._atom()
        while self._next() in ("^", "**"):
            self._take()
            once = base
            for _ in range(min(int(self._take()), len(once) + 1) - 1):
                base = {**base, **_crossed(base, once)}
        return base

    def _atom(self) -> Terms:
        word = self._take()
        if word == "(":
            inside = self.sum()
            self._take()
            return inside
        return {frozenset([word]): None}


def _crossed(left: Terms, right: Terms) -> Terms:
    return {a | b: None for a in left for b in right}


def _within(left: Terms, right: Terms) -> Terms:
    """Every term of the left, within all variables of the right."""
    every = frozenset[str]().union(*right)
    return {term | every: None for term in left}


def operand_node(tokens: Sequence[Token]) -> Node:
    """What the tokens of one column or call stand for."""
    if len(tokens) == 1:
        return Name(tokens[0].text.strip("`"))
    return parse_expression(spelled(tokens))


def _operand(text: str, tokens: Sequence[Token], i: int) -> tuple[int, bool]:
    token = tokens[i]
    opens = i == 0 or tokens[i - 1].text == "("
    if token.text == "(":
        return i + 1, True
    if token.kind in ("name", "quoted") or token.text == "{":
        called = token.text != "{" and i + 1 < len(tokens) and tokens[i + 1].text == "("
        if not called and token.text != "{":
            return i + 1, False
        end = _after_bracket(tokens, i + called)
        read_expression(text, tokens[i:end])
        return end, False
    if token.kind == "number":
        _check_number(text, tokens, i)
        return i + 1, False
    if (token.text in ("+", "-") and opens) or (token.text == "+" and tokens[i - 1].text in ("+", "-")):
        _check_leading_sign(text, tokens, i)
        return i + 1, True
    if token.text in _OPERATORS or token.text == ")":
        raise FormulaError("A term is missing before this sign.", text, token.start, len(token.text))
    raise FormulaError(
        f"{token.text!r} cannot be a term. Terms are columns and calls of functions.",
        text,
        token.start,
        len(token.text),
    )


def _operator(text: str, tokens: Sequence[Token], i: int) -> tuple[int, bool]:
    token = tokens[i]
    if token.text == ")":
        return i + 1, False
    if token.text in _POWERS:
        _check_power(text, tokens, i)
    if token.text in _OPERATORS:
        return i + 1, True
    raise FormulaError(
        f"{token.text!r} cannot stand here. Join terms by + : * / and put arithmetic or comparisons into I(...), "
        "for example I(x > 1).",
        text,
        token.start,
        len(token.text),
    )


def _check_number(text: str, tokens: Sequence[Token], i: int) -> None:
    before = tokens[i - 1].text if i else "+"
    after = tokens[i + 1].text if i + 1 < len(tokens) else "+"
    alone = before in ("+", "-", "(") and after in ("+", "-", ")")
    if before in _POWERS or (alone and tokens[i].text in ("0", "1")):
        return
    raise FormulaError(
        f"The number {tokens[i].text} cannot be part of a term; alone, 1 is the intercept and 0 leaves it out. Put "
        "arithmetic into I(...), for example I(2 * x).",
        text,
        tokens[i].start,
        len(tokens[i].text),
    )


def _check_leading_sign(text: str, tokens: Sequence[Token], i: int) -> None:
    following = tokens[i + 1].text if i + 1 < len(tokens) else ""
    if tokens[i].text == "-" and following not in ("0", "1"):
        raise FormulaError(
            "Nothing stands before this minus to be taken away from. For the negative of a column write I(-x).",
            text,
            tokens[i].start,
        )


def _check_power(text: str, tokens: Sequence[Token], i: int) -> None:
    exponent = tokens[i + 1] if i + 1 < len(tokens) else tokens[i]
    if tokens[i - 1].text != ")" or _is_call(tokens, i - 1):
        base = tokens[i - 1].text if tokens[i - 1].kind in ("name", "quoted") else "x"
        raise FormulaError(
            f"A power outside I(...) counts interactions, so here it would change nothing. Write I({base}**2) for "
            "the square, or (x + z)^2 for x + z + x:z.",
            text,
            tokens[i].start,
            len(tokens[i].text),
        )
    if not (exponent.text.isascii() and exponent.text.isdigit()) or not exponent.text.strip("0"):
        raise FormulaError("The power of a sum of terms must be a whole number.", text, exponent.start)
    if len(exponent.text.lstrip("0")) > 2:
        raise FormulaError(
            f"The power {exponent.text[:20]} of a sum of terms is larger than the number of its variables can be: "
            "(a + b + c)^2 means all interactions of two, and there are none of more variables than the sum has. Write "
            "the number of variables at most.",
            text,
            exponent.start,
            len(exponent.text),
        )


def _is_call(tokens: Sequence[Token], closing: int) -> bool:
    opening = max(j for j in range(closing) if tokens[j].text == "(" and tokens[j].depth == tokens[closing].depth)
    return opening > 0 and tokens[opening - 1].kind in ("name", "quoted")


def _after_bracket(tokens: Sequence[Token], opening: int) -> int:
    """Position after the bracket that closes the one at `opening`."""
    depth = tokens[opening].depth
    return 1 + next(
        j for j in range(opening + 1, len(tokens)) if tokens[j].depth == depth and tokens[j].text in (")", "}")
    )
