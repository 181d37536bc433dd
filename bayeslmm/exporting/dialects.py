"""Expressions of a formula in the spelling of another language."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from bayeslmm.design.expressions import (
    Call,
    Chain,
    Constant,
    Items,
    Logic,
    Name,
    Node,
    Not,
    Number,
    Raised,
    Relation,
    Sign,
    Text,
)
from bayeslmm.design.functions import is_value
from bayeslmm.design.names import printable
from bayeslmm.errors import ArgumentError


@dataclass(frozen=True)
class Dialect:
    """How a language writes arithmetic.

    Attributes
    ----------
    package : str
        Whose calls are written, for messages.
    name, text : callable
        A column, and a text in quotes.
    functions : mapping of str to str
        Function to its template: ``"np.log({0})"``, or a name and an opening bracket where arguments and keywords
        stay as they are (R). What is not named is refused.
    signs : mapping of str to str
        Operators that are spelled otherwise.
    constants : mapping of object to str
    conditions : bool
        Whether there are comparisons.
    items : str
        Template of a list of values; empty if there are none.
    """

    package: str
    name: Callable[[str], str]
    text: Callable[[str], str]
    functions: Mapping[str, str]
    signs: Mapping[str, str]
    constants: Mapping[object, str]
    conditions: bool = True
    items: str = ""


def written(node: Node, dialect: Dialect) -> str:
    """An expression in a dialect; brackets stand wherever ranks of operators could be read otherwise.

    Raises
    ------
    ArgumentError
        A function or sign that the language does not have.
    """
    match node:
        case Number():
            return repr(node.value)
        case Text():
            return dialect.text(node.value)
        case Constant():
            return dialect.constants[node.value]
        case Name():
            return _name(node, dialect)
        case Items():
            if not dialect.items:
                raise _refused("a list of values", dialect)
            return dialect.items.format(", ".join(written(item, dialect) for item in node.items))
        case Call():
            return _call(node, dialect)
        case Sign():
            return f"{'-' if node.minus else '+'}{_operand(node.operand, dialect)}"
        case Raised():
            return f"{_operand(node.base, dialect)}{_sign('**', dialect)}{_operand(node.exponent, dialect)}"
        case Chain():
            parts = [_operand(node.first, dialect)]
            parts += [f"{_sign(sign, dialect)} {_operand(part, dialect)}" for sign, part in node.rest]
            return " ".join(parts)
    return _condition(node, dialect)


def single_quoted(text: str) -> str:
    """A text in single quotes: a character vector of MATLAB, a text of SAS in which the macro processor reads nothing.

    Examples
    --------
    >>> print(single_quoted("it's &x"))
    'it''s &x'
    """
    return "'" + printable(text).replace("'", "''") + "'"


def spaced(words: Iterable[str], power: str) -> str:
    """A sum of terms as one writes it: no spaces inside of brackets and around the colon and the sign of powers.

    Examples
    --------
    >>> spaced(["0", "+", "(", "x", "+", "z", ")", "^", "2", ":", "f"], "^")
    '0 + (x + z)^2:f'
    """
    out, before = "", "("
    for word in words:
        tight = before in ("(", ":", power) or word in (")", ":", power)
        out += word if tight else f" {word}"
        before = word
    return out


def _condition(node: Relation | Logic | Not, dialect: Dialect) -> str:
    if not dialect.conditions:
        raise _refused("a comparison", dialect)
    match node:
        case Not():
            return f"{_sign('!', dialect)}{_operand(node.operand, dialect)}"
        case Logic():
            joined = f" {_sign(node.operator, dialect)} "
            return joined.join(_operand(part, dialect) for part in node.operands)
    left, parts = node.first, []
    for sign, right in node.rest:
        parts.append(f"{_operand(left, dialect)} {_sign(sign, dialect)} {_operand(right, dialect)}")
        left = right
    return parts[0] if len(parts) == 1 else f" {_sign('&', dialect)} ".join(f"({part})" for part in parts)


def _operand(node: Node, dialect: Dialect) -> str:
    text = written(node, dialect)
    whole = isinstance(node, Name | Call | Text | Constant) or (isinstance(node, Number) and node.value >= 0)
    return text if whole else f"({text})"


def _sign(sign: str, dialect: Dialect) -> str:
    spelled = dialect.signs.get(sign, sign)
    if not spelled:
        raise _refused(f"the sign {sign}", dialect)
    return spelled


def _name(node: Name, dialect: Dialect) -> str:
    if node.name in dialect.constants:
        return dialect.constants[node.name]
    if is_value(node.name, {}):
        raise _refused(f"the value {node.name}", dialect)
    return dialect.name(node.name)


def _call(node: Call, dialect: Dialect) -> str:
    name = node.function if node.function in dialect.functions else node.function.removeprefix("np.")
    template = dialect.functions.get(name)
    if template is None:
        raise _refused(f"{node.function}()", dialect)
    arguments = [written(argument, dialect) for argument in node.arguments]
    if template.endswith("("):
        keywords = [f"{key} = {written(value, dialect)}" for key, value in node.keywords]
        return f"{template}{', '.join([*arguments, *keywords])})"
    if node.keywords or len(arguments) != sum(f"{{{i}}}" in template for i in range(4)):
        raise _refused(f"{node.function}() with these arguments", dialect)
    return template.format(*arguments)


def _refused(what: str, dialect: Dialect) -> ArgumentError:
    return ArgumentError(
        f"The formula has {what}, which cannot be written for {dialect.package}. Make the column in the data first, "
        "and write its name in the formula."
    )
