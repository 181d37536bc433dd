"""Arrays of rows that are not in memory: their shape is known, anything else reads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from bayeslmm.types import AnyArray, FloatArray


class RowArray(NDArrayOperatorsMixin):
    """An array of rows that is elsewhere: its shape is known, anything else reads it.

    Parameters
    ----------
    shape : tuple of int
    dtype : dtype
    make : callable
        Returns the array.
    """

    def __init__(self, shape: tuple[int, ...], dtype: Any, make: Callable[[], AnyArray]) -> None:
        self.shape, self.dtype, self._make = shape, np.dtype(dtype), make

    @property
    def maker(self) -> Callable[[], AnyArray]:
        """What returns the array."""
        return self._make

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    def same_rows(self, other: RowArray) -> bool:
        """Whether both stand for the same rows, as far as this is known without reading them."""
        return self.shape == other.shape and self.dtype == other.dtype and bool(self._make == other._make)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<{self.dtype} array {self.shape}, not in memory>"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> AnyArray:
        array = self._make()
        if dtype is not None and array.dtype != dtype:
            return array.astype(dtype)
        return array.copy() if copy else array

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return getattr(ufunc, method)(*(np.asarray(x) if isinstance(x, RowArray) else x for x in inputs), **kwargs)

    def __getitem__(self, key: Any) -> Any:
        return self._make()[key]

    def __iter__(self) -> Any:
        return iter(self._make())

    def __getattr__(self, name: str) -> Any:
        # Nothing but what arrays have: a look for another attribute is no reason to read.
        if name.startswith("__") or not hasattr(np.ndarray, name):
            raise AttributeError(name)
        return getattr(self._make(), name)


def product_by_row(columns: FloatArray, change: FloatArray) -> FloatArray:
    """Columns (n, c) that are not in memory times a matrix (c, m), made when they are used."""
    shape = (columns.shape[0], change.shape[1])
    return cast(FloatArray, RowArray(shape, float, _Product(columns, change)))


def chosen_columns(columns: FloatArray, kept: Sequence[int]) -> FloatArray:
    """Some columns (n, m) of others (n, c), read when they are used where these are not in memory."""
    if not isinstance(columns, RowArray):
        return columns[:, list(kept)]
    return product_by_row(columns, np.eye(columns.shape[1])[:, list(kept)])


def change_of(product: RowArray) -> FloatArray:
    """The matrix (c, m) that `product_by_row` was given."""
    made = product._make
    if not isinstance(made, _Product):
        raise TypeError("these columns are not a product")
    return made.change


@dataclass(frozen=True)
class _Product:
    columns: FloatArray
    change: FloatArray

    def __call__(self) -> FloatArray:
        return np.asarray(np.asarray(self.columns) @ self.change)
