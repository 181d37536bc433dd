"""Values of an expression on the rows of a table: numbers, conditions, levels."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.design.contrasts import Treatment
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
    walk,
)
from bayeslmm.design.factors import (
    CodedFactor,
    Column,
    Omitting,
    Times,
    as_factor,
    chosen_coding,
    column_values,
    described,
    indicators,
    level_names,
    level_position,
    single,
    with_levels,
    with_reference,
)
from bayeslmm.design.functions import ARGUMENT_CODINGS, CODINGS, VALUES, Function, find_function
from bayeslmm.design.groups import level_name
from bayeslmm.errors import BayesLMMError, DesignError
from bayeslmm.types import AnyArray, BoolArray, FloatArray, IntArray

# Beyond it not every whole number is a double.
_WHOLE = 2.0**53
_SHOWN = 8
_ARITHMETIC: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.true_divide,
    "//": np.floor_divide,
    "%": np.mod,
    "**": np.power,
}
_COMPARISONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass
class Memory:
    """What functions found out about the rows of the model, by call: means, knots, levels."""

    made: dict[Node, Any] = field(default_factory=dict)
    levels: dict[Node, CodedFactor] = field(default_factory=dict)


@dataclass(frozen=True)
class Scope:
    """Where an expression is evaluated.

    Attributes
    ----------
    n : int
        Number of rows.
    column : callable
        The values of a column by its name; None if there is none.
    namespace : mapping
        The user's own functions and values.
    memory : Memory
        Filled by the first evaluation, used by those on other rows.
    counts : IntArray, shape (n,), optional
        How often each row counts.
    zero_levels : bool
        Whether values that are none of the levels known are allowed: zeros in all columns.
    """

    n: int
    column: Callable[[str], Column | None]
    namespace: Mapping[str, Any]
    memory: Memory
    counts: IntArray | None = None
    zero_levels: bool = False


def evaluate(node: Node, scope: Scope) -> Any:
    """Value of an expression: an array with a value (or several) per row, a `Factor`, `Times`, or a single value.

    Raises
    ------
    DesignError
        Unknown names and functions, values that do not go together.
    """
    match node:
        case Number(value) | Text(value) | Constant(value):
            return value
        case Name(name):
            return _named(name, scope)
        case Items(items):
            return [single(evaluate(item, scope), "A list") for item in items]
        case Sign(minus, operand):
            value = _numeric(evaluate(operand, scope), "-" if minus else "+")
            return -value if minus else value
        case Raised(base, exponent):
            return _arithmetic("**", evaluate(base, scope), evaluate(exponent, scope))
        case Chain(first, rest):
            start = evaluate(first, scope)
            return reduce(lambda value, step: _join(step[0], value, evaluate(step[1], scope)), rest, start)
        case Relation():
            return _compared(node, scope)
        case Not(operand):
            return np.logical_not(_condition(evaluate(operand, scope), "!"))
        case Logic(sign, operands):
            conditions = (_condition(evaluate(operand, scope), sign) for operand in operands)
            return reduce(np.logical_and if sign == "&" else np.logical_or, conditions)
        case Call():
            return _called(node, scope)


def _named(name: str, scope: Scope) -> Any:
    column = scope.column(name)
    if column is not None:
        return column
    if name in scope.namespace:
        value = scope.namespace[name]
        if isinstance(value, pd.Series | pd.Index | np.ndarray | pd.Categorical):
            return _column(value, name)
        return list(value) if isinstance(value, tuple) else value
    if name in VALUES:
        return VALUES[name]
    if name == "Sum":
        return Omitting()
    if name in CODINGS or name in ARGUMENT_CODINGS:
        return CODINGS.get(name, name)
    raise DesignError(f"{name!r} is neither a column nor a value that formulas know.")


# --- numbers ---------------------------------------------------------------------------------------------------------


def _join(sign: str, left: Any, right: Any) -> Any:
    return _member(left, right) if sign == "%in%" else _arithmetic(sign, left, right)


def _arithmetic(sign: str, left: Any, right: Any) -> Any:
    a, b = _numeric(left, sign), _numeric(right, sign)
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.ndim != b.ndim:
        a, b = (x[:, None] if x.ndim == 1 else x for x in (a, b))
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and not _broadcast(a, b):
        raise DesignError(f"{sign} joins {_size(a)} and {_size(b)}. Both sides need one value per row.")
    value = _ARITHMETIC[sign](_double(a), _double(b))
    whole = isinstance(a, int) and isinstance(b, int) and sign != "/"
    if whole and abs(value) < _WHOLE and float(value).is_integer():
        return int(value)
    return value


def _broadcast(a: AnyArray, b: AnyArray) -> bool:
    return a.shape[0] == b.shape[0] and (a.ndim == 1 or 1 in (a.shape[1], b.shape[1]) or a.shape[1] == b.shape[1])


def _double(value: Any) -> Any:
    """Powers and products of integers would wrap around, or grow without end."""
    if isinstance(value, np.ndarray):
        return value
    return np.float64(value)


def _numeric(value: Any, what: str) -> Any:
    """The value where arithmetic is done: numbers, with true as 1 and false as 0."""
    if isinstance(value, np.ndarray):
        return value.astype(float) if value.dtype == bool else value
    if isinstance(value, bool | np.bool_):
        return int(value)
    if isinstance(value, int | float | np.number) and not isinstance(value, np.complexfloating):
        return value
    raise DesignError(f"{what!r} needs numbers, but stands beside {described(value)}.")


def _size(value: AnyArray) -> str:
    return f"{value.shape[0]} values" if value.ndim == 1 else f"{value.shape[0]} rows of {value.shape[1]} values"


# --- conditions ------------------------------------------------------------------------------------------------------


def _condition(value: Any, sign: str) -> Any:
    if isinstance(value, bool | np.bool_) or (isinstance(value, np.ndarray) and value.dtype == bool):
        return value
    what = "numbers" if isinstance(value, int | float | np.ndarray) else described(value)
    raise DesignError(
        f"{sign!r} joins conditions that are true or false, but stands beside {what}. Write comparisons: (x > 1) "
        f"{'&' if sign == '!' else sign} (z < 2)."
    )


def _compared(node: Relation, scope: Scope) -> Any:
    """All comparisons of a chain hold."""
    left = evaluate(node.first, scope)
    holds: Any = True
    for sign, operand in node.rest:
        right = evaluate(operand, scope)
        own = _member(left, right) if sign == "%in%" else _comparison(sign, left, right)
        holds = np.logical_and(holds, own) if holds is not True else own
        left = right
    return holds


def _comparison(sign: str, left: Any, right: Any) -> Any:
    if isinstance(left, CodedFactor) or isinstance(right, CodedFactor):
        return _level_comparison(sign, left, right)
    if isinstance(left, Times) or isinstance(right, Times):
        return _time_comparison(sign, left, right)
    if isinstance(left, str) or isinstance(right, str):
        raise DesignError(f"{sign!r} compares {described(left)} with {described(right)}. Text is compared with levels.")
    a, b = _numeric(left, sign), _numeric(right, sign)
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.shape != b.shape:
        raise DesignError(f"{sign} compares {_size(a)} with {_size(b)}. Both sides need one value per row.")
    return _COMPARISONS[sign](a, b)


def _time_comparison(sign: str, left: Any, right: Any) -> BoolArray:
    sides = []
    for value in (left, right):
        if not isinstance(value, Times | str):
            raise DesignError(f"{sign!r} compares dates or durations with {described(value)}.")
        sides.append(value.series if isinstance(value, Times) else _time(value, left, right))
    return np.asarray(_COMPARISONS[sign](*sides))


def _time(text: str, *sides: Any) -> Any:
    durations = any(isinstance(s, Times) and pd.api.types.is_timedelta64_dtype(s.series.dtype) for s in sides)
    try:
        return pd.Timedelta(text) if durations else pd.Timestamp(text)
    except ValueError as error:
        raise DesignError(f"{text!r} is no {'duration' if durations else 'date'}: {error}.") from error


def _level_comparison(sign: str, left: Any, right: Any) -> BoolArray:
    if isinstance(left, CodedFactor) and isinstance(right, CodedFactor):
        return _two_factors(sign, left, right)
    if isinstance(right, CodedFactor):
        mirrored = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}.get(sign, sign)
        return _level_comparison(mirrored, right, left)
    place = level_position(left, single(right, sign))
    if sign not in ("==", "!=") and not left.ordered:
        raise DesignError(
            f"{sign!r} asks for an order, but the factor (levels {level_names(left)}) has none. Use ordered(), or "
            "compare by ==."
        )
    return np.asarray(_COMPARISONS[sign](left.codes, place))


def _two_factors(sign: str, left: CodedFactor, right: CodedFactor) -> BoolArray:
    if sign in ("==", "!="):
        if {level_name(v) for v in left.levels} != {level_name(v) for v in right.levels}:
            raise DesignError(
                f"{sign!r} compares factors of different levels: {level_names(left)} and {level_names(right)}. Give "
                "both the same levels first."
            )
        names = [np.array([*map(level_name, f.levels), None], dtype=object)[f.codes] for f in (left, right)]
        return np.asarray(_COMPARISONS[sign](*names), dtype=bool)
    if left.ordered and right.ordered and left.levels == right.levels:
        return np.asarray(_COMPARISONS[sign](left.codes, right.codes))
    raise DesignError(
        f"{sign!r} asks for an order, which two factors have only if both are ordered with the same levels."
    )


def _member(left: Any, right: Any) -> Any:
    values = right if isinstance(right, list) else [single(right, "in")]
    if isinstance(left, CodedFactor):
        return np.asarray(np.isin(left.codes, [level_position(left, value) for value in values]))
    numbers = [_double(_numeric(value, "in")) for value in values]
    found = np.isin(_numeric(left, "in"), numbers)
    return found if isinstance(left, np.ndarray) else bool(found)


# --- calls -----------------------------------------------------------------------------------------------------------


def _called(node: Call, scope: Scope) -> Any:
    function = find_function(node.function, scope.namespace)
    arguments = [evaluate(argument, scope) for argument in node.arguments]
    keywords = {name: evaluate(value, scope) for name, value in node.keywords}
    if function.kind == "own":
        return _own(node, function, arguments, keywords, scope)
    _check_arguments(node, function, arguments, keywords)
    if function.kind == "factor":
        return _levels_of(node, function, arguments, keywords, scope)
    renamed = {function.keywords[name]: value for name, value in keywords.items()}
    if function.kind in ("element", "condition"):
        return _elementwise(node, function, arguments, renamed)
    x, *options = arguments
    if node not in scope.memory.made:
        scope.memory.made[node] = function.call(_vector(x, node), scope.counts, *options, **renamed)
    made = scope.memory.made[node]
    return np.float64(made) if function.kind == "summary" else made(_vector(x, node))


def _check_arguments(node: Call, function: Function, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> None:
    unknown = [name for name in keywords if name not in function.keywords]
    if unknown:
        known = f"Known are {', '.join(function.keywords)}." if function.keywords else "A comparison is written ==."
        raise DesignError(f"{node.text}: {node.function}() has no argument {unknown[0]!r} in a formula. {known}")
    given = len(arguments) + len(keywords)
    if given < function.least or len(arguments) > function.most:
        wanted = f"{function.least}" if function.least == function.most else f"{function.least} to {function.most}"
        raise DesignError(f"{node.text}: {node.function}() takes {wanted} value(s) in a formula, not {given}.")
    if function.least and not arguments:
        raise DesignError(f"{node.text}: {node.function}() needs its column first, without a name.")


def _elementwise(node: Call, function: Function, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    if node.function == "I":
        return arguments[0]
    values = [_element_argument(value, node, function) for value in arguments]
    shapes = {value.shape for value in values if isinstance(value, np.ndarray)}
    if len(shapes) > 1:
        raise DesignError(f"{node.text} joins columns of different shapes. Each argument needs one value per row.")
    value = function.call(*values, **keywords)
    if shapes and np.shape(value) not in shapes:
        raise DesignError(f"{node.text} does not give one value per row.")
    # Universal functions made from Python functions give objects.
    return value.astype(float) if getattr(value, "dtype", np.dtype(float)).kind == "O" else value


def _element_argument(value: Any, node: Call, function: Function) -> Any:
    if isinstance(value, list):
        if node.function != "np.interp":
            raise DesignError(f"{node.text} is given a list where it needs one value per row.")
        return value
    takes_conditions = not isinstance(function.call, np.ufunc) or function.call.__name__.startswith("logical_")
    if isinstance(value, np.ndarray) and value.dtype == bool and takes_conditions:
        return value
    return _double(_numeric(value, node.function))


def _vector(value: Any, node: Call) -> FloatArray:
    values = _numeric(value, node.function) if not isinstance(value, list) else None
    if not isinstance(values, np.ndarray) or values.ndim != 1:
        raise DesignError(f"{node.text} needs a numeric column, one value per row.")
    return np.asarray(values, dtype=float)


def _own(node: Call, function: Function, arguments: Sequence[Any], keywords: Mapping[str, Any], scope: Scope) -> Any:
    """A function of the user's: it gets pandas columns and may give back any kind of column."""
    call = function.call
    if getattr(call, "__stateful_transform__", False) and isinstance(call, type):
        call = scope.memory.made.setdefault(node, call())
    try:
        value = call(*map(_passed, arguments), **{name: _passed(value) for name, value in keywords.items()})
    except BayesLMMError:
        raise
    except Exception as error:
        raise DesignError(f"{node.text} could not be evaluated: {type(error).__name__}: {error}") from error
    return _column(value, node.text)


def _passed(value: Any) -> Any:
    if isinstance(value, CodedFactor):
        levels = pd.Index(list(value.levels), tupleize_cols=False)
        return pd.Series(pd.Categorical.from_codes(value.codes, levels, ordered=value.ordered))
    if isinstance(value, Times):
        return value.series
    return pd.Series(value) if isinstance(value, np.ndarray) and value.ndim == 1 else value


def _column(value: Any, text: str) -> Any:
    """What a function of the user's gave back, as a column or a single value."""
    if isinstance(value, int | float | str | bool | np.generic) or value is None:
        return value
    if isinstance(value, pd.DataFrame):
        value = value.to_numpy(dtype=float)
    series = value if isinstance(value, pd.Series) else None
    if series is None and (not isinstance(value, np.ndarray) or value.ndim == 1):
        series = pd.Series(value)
    if series is not None:
        return column_values(series.reset_index(drop=True))
    if value.ndim != 2 or value.dtype.kind not in "fiub":
        raise DesignError(f"{text} gives an array of shape {value.shape} and type {value.dtype}, which is no column.")
    return value.astype(float)


def _levels_of(
    node: Call, function: Function, arguments: Sequence[Any], keywords: Mapping[str, Any], scope: Scope
) -> Any:
    name = node.function
    if name == "c":
        return [single(value, "c()") for value in arguments]
    if name in ("Treatment", "Sum"):
        chosen = next(iter([*arguments, *keywords.values()]), None)
        return Treatment(chosen) if name == "Treatment" else Omitting(chosen)
    if name in CODINGS:
        return CODINGS[name]
    x, *options = arguments
    named = {**dict(zip(function.keywords, options, strict=False)), **keywords}
    factor = as_factor(x, node, scope.memory.levels, zero_levels=scope.zero_levels)
    if name in ("binary", "B"):
        place = 0 if named.get("success") is None else level_position(factor, named["success"])
        return (factor.codes == place).astype(float)
    if name in ("dummy", "fulldummy"):
        return indicators(factor, named.get("levels"), every=name == "fulldummy")
    if name == "relevel":
        return with_reference(factor, named.get("ref"))
    factor = with_levels(factor, named.get("levels"))
    return CodedFactor(factor.codes, factor.levels, *chosen_coding(name, factor, named))


# --- what a text asks of its rows ------------------------------------------------------------------------------------


def kinds_of_calls(node: Node, namespace: Mapping[str, Any]) -> set[str]:
    """Kinds of the functions called, and ``"condition"`` for comparisons; ``"unknown"`` where there is no function."""
    kinds: set[str] = set()
    for part in walk(node):
        if isinstance(part, Relation | Logic | Not):
            kinds.add("condition")
        elif isinstance(part, Call):
            try:
                kinds.add(find_function(part.function, namespace).kind)
            except DesignError:
                kinds.add("unknown")
    return kinds
