"""Whether values are of the types that the fields of a dataclass are annotated with."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from typing import Any, Literal, TypeAliasType, Union, get_args, get_origin, get_type_hints

import numpy as np

from bayeslmm.arguments import kind_of, with_article
from bayeslmm.design.lazy import Lazy
from bayeslmm.design.row_arrays import RowArray

_NUMBERS: dict[Any, tuple[type, ...]] = {
    bool: (bool, np.bool),
    int: (int, np.integer),
    float: (float, int, np.floating, np.integer),
    str: (str,),
}
# Kinds of arrays that stand for one another: a width is a matter of the platform.
_KINDS = {"f": "f", "i": "iu", "u": "iu", "b": "b"}


def check_fields(kind: type, content: Mapping[str, Any]) -> None:
    """Refuse values that the fields of a class do not hold.

    Parameters
    ----------
    kind : type
        A dataclass of bayeslmm.
    content : mapping of str to value

    Raises
    ------
    ValueError
        It names the field, its type and the type found.

    Examples
    --------
    >>> from bayeslmm.design.recipe import Column
    >>> check_fields(Column, {"kind": "number", "values": np.zeros(2), "ordered": False})
    >>> check_fields(Column, {"kind": 3})
    Traceback (most recent call last):
    ValueError: the field kind of a Column is an int, not a str
    """
    hints = _hints(kind)
    for name, value in content.items():
        if not conforms(value, hints[name]):
            raise ValueError(
                f"the field {name} of {with_article(kind.__name__)} is {_described(value)}, not "
                f"{with_article(_named(hints[name]))}"
            )


@lru_cache(maxsize=256)
def _hints(kind: type) -> dict[str, Any]:
    # Some modules import a class for annotations only, where it would be a circle.
    from bayeslmm.design.recipe import Recipe
    from bayeslmm.design.row_facts import RowFacts

    hints = get_type_hints(kind, localns={"Recipe": Recipe, "RowFacts": RowFacts})
    return {field.name: hints[field.name] for field in fields(kind)}


def _described(value: Any) -> str:
    return f"{kind_of(value)} of {value.dtype}" if isinstance(value, np.ndarray) else kind_of(value)


def _named(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint)


def conforms(value: Any, hint: Any) -> bool:
    """Whether a value is what an annotation says.

    Examples
    --------
    >>> conforms((1, 2), tuple[int, ...]), conforms((1, "a"), tuple[int, ...]), conforms(None, float | None)
    (True, False, True)
    """
    if isinstance(hint, TypeAliasType):
        return conforms(value, hint.__value__)
    origin = get_origin(hint)
    if isinstance(origin, TypeAliasType):
        return conforms(value, origin.__value__[get_args(hint)])
    if origin is Lazy:
        return conforms(value, get_args(hint)[0])
    if origin in (Union, types.UnionType):
        return any(conforms(value, option) for option in get_args(hint))
    if origin is not None:
        return _conforms_in_parts(value, origin, get_args(hint))
    if hint is Any or (isinstance(hint, type) and hint.__name__ == "Hashable"):
        return True
    if hint is None:
        return value is None
    if hint in _NUMBERS:
        return isinstance(value, _NUMBERS[hint]) and (hint is bool or not isinstance(value, bool | np.bool))
    if getattr(hint, "_is_protocol", False):
        return all(_has(type(value), name) for name in hint.__protocol_attrs__)
    return isinstance(value, hint)


def _conforms_in_parts(value: Any, origin: Any, parts: tuple[Any, ...]) -> bool:
    if origin is Literal:
        return value in parts
    if origin is np.ndarray:
        return isinstance(value, np.ndarray | RowArray) and _right_kind(value, parts[1])
    if origin is tuple and parts[-1] is not Ellipsis:
        return isinstance(value, tuple) and len(value) == len(parts) and all(map(conforms, value, parts))
    if origin in (tuple, list, Sequence):
        return isinstance(value, (tuple, list) if origin is Sequence else origin) and (
            parts[0] is Any or all(conforms(item, parts[0]) for item in value)
        )
    if origin in (dict, Mapping):
        return isinstance(value, dict) and all(
            conforms(key, parts[0]) and conforms(item, parts[1]) for key, item in value.items()
        )
    return isinstance(value, origin)


def _right_kind(array: Any, dtype_hint: Any) -> bool:
    scalar = get_args(dtype_hint)
    if not scalar or scalar[0] is Any:
        return True
    kind = np.dtype(scalar[0]).kind
    return array.dtype.kind in _KINDS.get(kind, kind)


def _has(kind: type, name: str) -> bool:
    # The class is asked: a property of the object might do what it says.
    return hasattr(kind, name) or name in getattr(kind, "__dataclass_fields__", ())
