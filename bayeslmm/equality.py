"""Frozen dataclasses that hold arrays: equal by type and value, where ``==`` of tuples is ambiguous, and made fast."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd


def by_value[T](cls: type[T]) -> type[T]:
    """Class decorator: two instances are equal if all fields are (arrays element by element, nan equal to nan).

    To stand above ``@dataclass(frozen=True, eq=False)``, whose own ``==`` would compare tuples of fields and fail for
    arrays of two elements and more.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @by_value
    ... @dataclass(frozen=True, eq=False)
    ... class Point:
    ...     x: np.ndarray
    >>> Point(np.arange(2)) == Point(np.arange(2)), Point(np.arange(2)) == Point(np.arange(3))
    (True, False)
    """

    def equal(self: Any, other: object) -> Any:
        return same_values(self, other) if type(other) is type(self) else NotImplemented

    cls.__eq__ = equal  # type: ignore[method-assign]
    cls.__hash__ = _hash  # type: ignore[method-assign]
    return made_fast(cls)


def made_fast[T](cls: type[T]) -> type[T]:
    """Class decorator: instances write their fields into their ``__dict__``.

    To stand above ``@dataclass(frozen=True)``, whose own ``__init__`` calls ``object.__setattr__`` for every field: for
    a small model that takes longer than much of the algebra. Signature, defaults and refusals are the same.

    Examples
    --------
    >>> from dataclasses import dataclass, field
    >>> @made_fast
    ... @dataclass(frozen=True)
    ... class Point:
    ...     x: int
    ...     y: list[int] = field(default_factory=list)
    >>> Point(1), Point(1, [2]), Point(x=1).y is Point(1).y
    (Point(x=1, y=[]), Point(x=1, y=[2]), False)
    """
    plain: Any = cls.__init__
    own: Any = fields(cls)  # type: ignore[arg-type]
    if hasattr(cls, "__post_init__") or not all(one.init for one in own):
        return cls
    code = plain.__code__
    placed = code.co_varnames[1 : code.co_argcount]
    named = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    defaults = dict(zip(reversed(placed), reversed(plain.__defaults__ or ()), strict=False))
    defaults |= plain.__kwdefaults__ or {}
    written: dict[str, Any] = {}
    lines = ["    _written_to = self.__dict__"]
    for one in own:
        value = name = one.name
        if one.default_factory is not MISSING:
            # The default stands for one that is made afresh.
            written |= {f"make_{name}": one.default_factory, f"no_{name}": defaults[name]}
            value = f"make_{name}() if {name} is no_{name} else {name}"
        lines.append(f"    _written_to[{name!r}] = {value}")
    parameters = ", ".join(("self", *placed, *(("*", *named) if named else ())))
    # As dataclasses does it: only a function with these parameters is as fast, and has their names in its errors.
    exec("\n".join([f"def __init__({parameters}):", *lines]), written)
    init = written["__init__"]
    for kept in ("__defaults__", "__kwdefaults__", "__annotations__", "__qualname__"):
        setattr(init, kept, getattr(plain, kept))
    init.__module__ = cls.__module__
    cls.__init__ = init  # type: ignore[method-assign]
    return cls


def same_values(a: Any, b: Any) -> bool:
    """Whether two values are of one type, or numbers, and equal, inside dataclasses, mappings and sequences, too."""
    if a is b:
        return True
    if isinstance(a, Real) and isinstance(b, Real):
        return bool(a == b or (a != a and b != b))
    if type(a) is not type(b):
        return False
    if is_dataclass(a):
        return all(same_values(getattr(a, f.name), getattr(b, f.name)) for f in fields(a) if f.compare)
    if isinstance(a, Mapping):
        return list(a) == list(b) and all(same_values(a[key], b[key]) for key in a)
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(same_values, a, b))
    return _same_leaves(a, b)


def _same_leaves(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        # Only numbers can be nan.
        return bool(np.array_equal(a, b, equal_nan=a.dtype.kind in "fc" and b.dtype.kind in "fc"))
    if hasattr(a, "same_rows"):
        # Arrays that are not in memory are not read to be compared.
        return bool(a.same_rows(b))
    if hasattr(a, "nnz"):
        return _same_sparse(a, b)
    if isinstance(a, pd.DataFrame | pd.Series | pd.Index):
        return bool(a.equals(b))
    if hasattr(a, "identical"):
        # xarray's objects.
        return bool(a.identical(b))
    return bool(a == b)


def _same_sparse(a: Any, b: Any) -> bool:
    from scipy import sparse

    return bool(a.shape == b.shape) and same_values(sparse.find(a), sparse.find(b))


def _hash(self: Any) -> int:
    return hash(_key(self))


def _key(value: Any) -> Any:
    """Something hashable that equal values share: of an array its shape, of what cannot be hashed its type."""
    if is_dataclass(value) and not isinstance(value, type):
        return type(value), tuple(_key(getattr(value, f.name)) for f in fields(value) if f.compare)
    if isinstance(value, tuple | list):
        return tuple(map(_key, value))
    if isinstance(value, np.ndarray):
        return value.shape
    if isinstance(value, float) and value != value:
        return "nan"
    try:
        hash(value)
    except TypeError:
        return type(value)
    return value
