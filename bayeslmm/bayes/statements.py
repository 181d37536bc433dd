"""Lines of a Python program as data: expressions that are printed as text and evaluated with objects.

A model is written once, as a list of statements. What reads like Python here (``z @ (sd[:, None] * L).T``) makes a tree
of nodes, since the names are nodes; `printed` gives its text and `run` its value. Labels of the data are constants in
it, never text that is read as code.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayeslmm.design.names import literal

# Operators with their precedence in Python and what they do.
_OPERATORS: dict[str, tuple[int, Callable[[Any, Any], Any]]] = {
    "+": (1, operator.add),
    "-": (1, operator.sub),
    "*": (2, operator.mul),
    "/": (2, operator.truediv),
    "@": (2, operator.matmul),
    "**": (3, operator.pow),
}


class Node:
    """An expression; operators, indices, calls and attributes of it are expressions again."""

    def __add__(self, other: Any) -> Node:
        return Binary("+", self, other)

    def __sub__(self, other: Any) -> Node:
        return Binary("-", self, other)

    def __mul__(self, other: Any) -> Node:
        return Binary("*", self, other)

    def __truediv__(self, other: Any) -> Node:
        return Binary("/", self, other)

    def __matmul__(self, other: Any) -> Node:
        return Binary("@", self, other)

    def __pow__(self, other: Any) -> Node:
        return Binary("**", self, other)

    def __rmul__(self, other: Any) -> Node:
        return Binary("*", other, self)

    def __getitem__(self, key: Any) -> Node:
        return Item(self, key)

    def __call__(self, *arguments: Any, **options: Any) -> Node:
        return Application(self, arguments, options)

    def __getattr__(self, name: str) -> Node:
        if name.startswith("_"):
            raise AttributeError(name)
        return Attribute(self, name)

    # What makes arrays leave products with a node to the node.
    __array_ufunc__ = None


@dataclass(frozen=True, eq=False)
class Symbol(Node):
    """A variable or a module."""

    identifier: str


@dataclass(frozen=True, eq=False)
class Binary(Node):
    """Two operands with an operator between them."""

    sign: str
    left: Any
    right: Any


@dataclass(frozen=True, eq=False)
class Attribute(Node):
    """``owner.name``."""

    owner: Node
    name: str


@dataclass(frozen=True, eq=False)
class Item(Node):
    """``owner[key]``."""

    owner: Node
    key: Any


@dataclass(frozen=True, eq=False)
class Application(Node):
    """``function(*arguments, **options)``; options that are None are left out."""

    function: Node
    arguments: tuple[Any, ...]
    options: dict[str, Any]


@dataclass(frozen=True)
class Statement:
    """``target = value``, or ``value`` alone where there is no target.

    Attributes
    ----------
    target : str or None
        An identifier.
    value : Node, or what stands for itself
        Numbers, texts, None, arrays, slices, and lists and tuples of these or of nodes.
    """

    target: str | None
    value: Any

    def __str__(self) -> str:
        text = printed(self.value)
        return text if self.target is None else f"{self.target} = {text}"


def run(statements: Iterable[Statement], names: MutableMapping[str, Any]) -> None:
    """Evaluate statements one after the other; targets are added to the names.

    Examples
    --------
    >>> names = {"x": 3}
    >>> run([Statement("y", Symbol("x") * 2 + [1][0])], names)
    >>> names["y"]
    7
    """
    for statement in statements:
        value = _value(statement.value, names)
        if statement.target is not None:
            names[statement.target] = value


def _value(node: Any, names: MutableMapping[str, Any]) -> Any:
    match node:
        case Symbol():
            return names[node.identifier]
        case Binary():
            return _OPERATORS[node.sign][1](_value(node.left, names), _value(node.right, names))
        case Attribute():
            return getattr(_value(node.owner, names), node.name)
        case Item():
            return _value(node.owner, names)[_value(node.key, names)]
        case Application():
            options = {key: _value(value, names) for key, value in node.options.items() if value is not None}
            return _value(node.function, names)(*(_value(a, names) for a in node.arguments), **options)
        case list() | tuple():
            return type(node)(_value(one, names) for one in node)
    return node


def printed(node: Any) -> str:
    """The text of an expression.

    Examples
    --------
    >>> z, sd, L = Symbol("z"), Symbol("sd"), Symbol("L")
    >>> print(printed(z @ (sd[:, None] * L).T))
    z @ (sd[:, None] * L).T
    """
    match node:
        case Symbol():
            return node.identifier
        case Binary():
            # Python takes operators of one precedence from left to right, but for powers.
            left, right = _operand(node.left, node.sign), _operand(node.right, node.sign, after=True)
            return f"{left} {node.sign} {right}"
        case Attribute():
            return f"{_owner(node.owner)}.{node.name}"
        case Item():
            keys = node.key if isinstance(node.key, tuple) else (node.key,)
            return f"{_owner(node.owner)}[{', '.join(map(_key, keys))}]"
        case Application():
            options = [f"{key}={_argument(value)}" for key, value in node.options.items() if value is not None]
            return f"{_owner(node.function)}({', '.join([*map(_argument, node.arguments), *options])})"
        case list():
            return f"[{', '.join(map(printed, node))}]"
        case tuple():
            return f"({', '.join(map(printed, node))}{',' if len(node) == 1 else ''})"
        case np.ndarray():
            return f"np.array({node.tolist()})"
        case str():
            return literal(node)
    return repr(node)


def _operand(node: Any, sign: str, after: bool = False) -> str:
    own, text = _OPERATORS[sign][0], printed(node)
    inner = _OPERATORS[node.sign][0] if isinstance(node, Binary) else 9
    return f"({text})" if inner < own or (inner == own and (after or sign == "**")) else text


def _owner(node: Any) -> str:
    return f"({printed(node)})" if isinstance(node, Binary) else printed(node)


def _argument(value: Any) -> str:
    # PyMC and PyTensor take a list of numbers as an array of doubles.
    return str(value.tolist()) if isinstance(value, np.ndarray) else printed(value)


def _key(key: Any) -> str:
    if isinstance(key, slice):
        return f"{'' if key.start is None else key.start}:{'' if key.stop is None else key.stop}"
    return printed(key)
