"""Arithmetic inside a formula read to a tree: powers before signs, comparisons before ``&`` and ``|``, as in R."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from bayeslmm.design.tokens import WORDS, Token, spelled, tokenize
from bayeslmm.errors import FormulaError

# Brackets, signs and powers within each other; Python's own stack ends at some hundreds.
_DEEPEST = 60

type Node = Number | Text | Constant | Name | Items | Sign | Not | Raised | Chain | Relation | Logic | Call

CONSTANTS: dict[str, bool | None] = {
    "True": True,
    "TRUE": True,
    "False": False,
    "FALSE": False,
    "None": None,
    "NULL": None,
}


@dataclass(frozen=True)
class Number:
    """A number as written; whole ones are integers."""

    value: int | float


@dataclass(frozen=True)
class Text:
    """Text in quotes."""

    value: str


@dataclass(frozen=True)
class Constant:
    """``True``, ``FALSE``, ``None`` and the like, in Python's or R's spelling."""

    value: bool | None


@dataclass(frozen=True)
class Name:
    """A column, or a value that the formula may use."""

    name: str


@dataclass(frozen=True)
class Items:
    """A list of values, ``[3, 6]``."""

    items: tuple[Node, ...]


@dataclass(frozen=True)
class Sign:
    """A sign before an operand."""

    minus: bool
    operand: Node


@dataclass(frozen=True)
class Not:
    """The opposite of something true or false."""

    operand: Node


@dataclass(frozen=True)
class Raised:
    """A power; its exponent may carry signs, and be a power itself."""

    base: Node
    exponent: Node


@dataclass(frozen=True)
class Chain:
    """Operands joined from left to right by operators of one rank, e.g. ``a - b + c``."""

    first: Node
    rest: tuple[tuple[str, Node], ...]


@dataclass(frozen=True)
class Relation:
    """Comparisons side by side, all of which have to hold: ``a < b <= c``."""

    first: Node
    rest: tuple[tuple[str, Node], ...]


@dataclass(frozen=True)
class Logic:
    """Conditions of which all (``&``) or one (``|``) have to hold."""

    operator: str
    operands: tuple[Node, ...]


@dataclass(frozen=True)
class Call:
    """A function with its arguments.

    Attributes
    ----------
    function : str
    arguments : tuple of Node
    keywords : tuple of (str, Node)
    text : str
        As written, with settled spaces; two calls that differ in this alone are equal.
    """

    function: str
    arguments: tuple[Node, ...]
    keywords: tuple[tuple[str, Node], ...] = ()
    text: str = field(default="", compare=False)


# From the loosest to the tightest; what stands in one row has one rank and is read from left to right.
_RANKS: tuple[dict[str, str], ...] = (
    {"|": "|", "or": "|"},
    {"&": "&", "and": "&"},
    {},  # not
    {"==": "==", "!=": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">=", "in": "%in%"},
    {"+": "+", "-": "-"},
    {"*": "*", "/": "/", "//": "//", "%": "%"},
    {"%%": "%", "%/%": "//", "%in%": "%in%"},
)
_OR, _AND, _NOT, _COMPARE, _SUM, _PRODUCT, _SPECIAL = range(len(_RANKS))


@lru_cache(maxsize=2048)
def parse_expression(text: str) -> Node:
    """The tree of an expression.

    Minus binds less tightly than powers and powers are read from the right, as in Python and R; comparisons bind more
    tightly than ``&`` and ``|``, as in R.

    Parameters
    ----------
    text : str

    Raises
    ------
    FormulaError
        With a caret under the place.

    Examples
    --------
    >>> parse_expression("-x^2") == parse_expression("-(x**2)")
    True
    >>> parse_expression("2**3**2")
    Raised(base=Number(value=2), exponent=Raised(base=Number(value=3), exponent=Number(value=2)))
    """
    return read_expression(text, tokenize(text))


def read_expression(text: str, tokens: Sequence[Token]) -> Node:
    """The tree of an expression that stands somewhere in a text, for messages with its place.

    Parameters
    ----------
    text : str
        The whole formula.
    tokens : sequence of Token
        Those of the expression.

    Raises
    ------
    FormulaError
    """
    reader = _Reader(text, tokens)
    node = reader.expression(_OR)
    if reader.i < len(tokens):
        reader.refuse(tokens[reader.i])
    return node


class _Reader:
    def __init__(self, text: str, tokens: Sequence[Token]) -> None:
        self.text, self.tokens, self.i, self._depth = text, tokens, 0, 0

    def expression(self, rank: int) -> Node:
        if rank == _NOT:
            return self._negation()
        if rank > _SPECIAL:
            return self._signed()
        first = self.expression(rank + 1)
        rest: list[tuple[str, Node]] = []
        while (operator := _RANKS[rank].get(self._next())) is not None:
            self.i += 1
            rest.append((operator, self.expression(rank + 1)))
        if not rest:
            return first
        if rank in (_OR, _AND):
            return Logic(rest[0][0], (first, *(node for _, node in rest)))
        return Relation(first, tuple(rest)) if rank == _COMPARE else Chain(first, tuple(rest))

    def _negation(self) -> Node:
        if self._next() in ("!", "not"):
            return self._deeper(lambda: Not(self.expression(_NOT)), skip=1)
        return self.expression(_COMPARE)

    def _signed(self) -> Node:
        sign = self._next()
        if sign in ("+", "-"):
            return self._deeper(lambda: Sign(sign == "-", self._signed()), skip=1)
        if sign == "~":
            return self._deeper(lambda: Not(self._signed()), skip=1)
        base = self._atom()
        if self._next() not in ("**", "^"):
            return base
        return self._deeper(lambda: Raised(base, self._signed()), skip=1)

    def _atom(self) -> Node:
        if self.i >= len(self.tokens):
            last = self.tokens[-1] if self.tokens else Token("operator", "", 0, 0, 0)
            raise FormulaError("The expression ends before it is complete.", self.text, last.start, len(last.text))
        token = self.tokens[self.i]
        following = self.tokens[self.i + 1].text if self.i + 1 < len(self.tokens) else ""
        if token.kind in ("name", "quoted") and following == "(":
            return self._deeper(self._call, skip=2)
        if token.text in ("(", "["):
            return self._deeper(self._bracket if token.text == "(" else self._list, skip=1)
        if token.text == "{":
            return self._deeper(self._braces, skip=1)
        if token.kind == "operator" or token.text in WORDS:
            self.refuse(token)
        self.i += 1
        return _leaf(token)

    def _call(self) -> Node:
        opening = self.i - 2
        arguments, keywords = self._arguments()
        name = self.tokens[opening].text.strip("`")
        return Call(name, arguments, keywords, spelled(self.tokens[opening : self.i]))

    def _arguments(self) -> tuple[tuple[Node, ...], tuple[tuple[str, Node], ...]]:
        arguments: list[Node] = []
        keywords: dict[str, Node] = {}
        for _ in self._separated(")"):
            token = self.tokens[self.i]
            if token.kind == "name" and self.i + 1 < len(self.tokens) and self.tokens[self.i + 1].text == "=":
                if token.text in keywords:
                    raise FormulaError(f"The argument {token.text} stands twice.", self.text, token.start)
                self.i += 2
                keywords[token.text] = self.expression(_OR)
            elif keywords:
                raise FormulaError(
                    "An argument without a name stands after one with a name.", self.text, token.start, len(token.text)
                )
            else:
                arguments.append(self.expression(_OR))
        return tuple(arguments), tuple(keywords.items())

    def _bracket(self) -> Node:
        node = self.expression(_OR)
        self._close(")")
        return node

    def _braces(self) -> Node:
        opening = self.i - 1
        node = self.expression(_OR)
        self._close("}")
        return Call("I", (node,), (), f"I({spelled(self.tokens[opening + 1 : self.i - 1])})")

    def _list(self) -> Node:
        return Items(tuple(self.expression(_OR) for _ in self._separated("]")))

    def _separated(self, closing: str) -> Iterator[None]:
        """Once for each piece between commas, up to and with the closing bracket."""
        if self._next() == closing:
            self.i += 1
            return
        while True:
            if self.i >= len(self.tokens):
                self._atom()
            yield
            if self._next() == closing:
                self.i += 1
                return
            self._close(",")

    def _close(self, expected: str) -> None:
        if self._next() != expected:
            if self.i < len(self.tokens):
                self.refuse(self.tokens[self.i])
            self._atom()
        self.i += 1

    def _deeper(self, read: Callable[[], Node], skip: int) -> Node:
        if self._depth >= _DEEPEST:
            raise FormulaError(
                f"More than {_DEEPEST} brackets, signs and powers stand within each other here. Make the column in the "
                "data beforehand.",
                self.text,
                self.tokens[self.i].start,
            )
        self._depth += 1
        self.i += skip
        node = read()
        self._depth -= 1
        return node

    def _next(self) -> str:
        token = self.tokens[self.i] if self.i < len(self.tokens) else None
        return "" if token is None or token.kind in ("quoted", "string") else token.text

    def refuse(self, token: Token) -> None:
        raise FormulaError(_why(token), self.text, token.start, len(token.text))


def _why(token: Token) -> str:
    if token.text == "=":
        return "A single = names an argument of a function. A comparison is written ==."
    if token.text in ("||", "&&"):
        return f"{token.text!r} compares single values. For one value per row write {token.text[0]!r}."
    if token.text in ("[", ":"):
        return (
            f"{token.text!r} cannot stand here: a part or a range of a column is no value per row. Make the column in "
            "the data beforehand."
        )
    if token.kind == "operator":
        return f"{token.text!r} cannot stand here: a value is missing, or something is left over."
    return f"An operator is missing before {token.text!r}."


def _leaf(token: Token) -> Node:
    if token.kind == "number":
        whole = token.text.isdigit() and len(token.text) < 16
        return Number(int(token.text) if whole else float(token.text))
    if token.kind == "string":
        return Text(token.text[1:-1])
    if token.kind == "name" and token.text in CONSTANTS:
        return Constant(CONSTANTS[token.text])
    return Name(token.text.strip("`"))


def walk(node: Node) -> Iterator[Node]:
    """A node and all below it."""
    yield node
    for child in _children(node):
        yield from walk(child)


def _children(node: Node) -> tuple[Node, ...]:
    match node:
        case Items(items):
            return items
        case Sign(_, operand) | Not(operand):
            return (operand,)
        case Raised(base, exponent):
            return base, exponent
        case Chain(first, rest) | Relation(first, rest):
            return first, *(operand for _, operand in rest)
        case Logic(_, operands):
            return operands
        case Call(_, arguments, keywords):
            return *arguments, *(value for _, value in keywords)
        case _:
            return ()
