"""Equality of frozen dataclasses that hold arrays: by type and by value, where ``==`` of tuples would be ambiguous."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
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
