"""Sums of finished pieces on disk, so that a pass that was broken off goes on."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from functools import cached_property
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.errors import DesignError, StorageError
from bayeslmm.files.writing import as_path, check_folder, made, write_bytes
from bayeslmm.sources.piecewise import PieceTask
from bayeslmm.streaming.passes import PassPlan
from bayeslmm.types import AnyArray

# Of the sums: files of another one are not taken.
VERSION = 1
_SUFFIX = ".sums"
_DIGEST = hashlib.sha256().digest_size
_RESTORING = {
    "table_of_columns",
    "levels_of_codes",
    "values_of_index",
    "index_of_range",
    "index_of_numbers",
    "index_of_texts",
    "index_of_objects",
}
# What files may name: numbers of NumPy, and our own classes.
_NUMPY = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    *(
        (module, name)
        for module in ("numpy._core.multiarray", "numpy.core.multiarray")
        for name in ("_reconstruct", "scalar")
    ),
    *((module, "_frombuffer") for module in ("numpy._core.numeric", "numpy.core.numeric")),
}
_BUILTIN = {("builtins", name) for name in ("frozenset", "set", "slice", "complex", "range")}


class PieceStore:
    """A folder of sums of pieces.

    Every file is named by what it is of: the columns and pieces of the source, the pass and all that it goes by, and
    the version. Sums of other models and of data that have changed stand beside it and are not taken.

    Parameters
    ----------
    folder : path
        Made if it does not exist.

    Raises
    ------
    StorageError
        It cannot be written to.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = as_path(folder)
        self.taken = 0
        self._functions: list[Any] = []
        check_folder(self._folder)

    def check(self, namespace: Mapping[str, Any]) -> None:
        """Refuse values of the user that sums cannot be told apart by.

        Raises
        ------
        DesignError
        """
        import joblib

        # Functions are hashed by their names, which stay when they are written anew.
        self._functions = [_content(getattr(value, "__code__", None)) for value in namespace.values()]
        for name, value in namespace.items():
            try:
                joblib.hash(value)
            except Exception as error:
                raise DesignError(
                    f"{name!r} of extra_namespace is {value!r}, which cannot be told from others when sums are kept "
                    f"(checkpoint=): {type(error).__name__}. Define it by def in a module that is imported, in the "
                    "place of a lambda or a function within a function, or leave checkpoint= out."
                ) from None

    def with_hint(self, error: DesignError) -> DesignError:
        """The message for rows that changed, where sums of a call before were taken."""
        if not self.taken:
            return error
        return DesignError(
            f"{error} {self.taken} of the sums came from the folder {str(self._folder)!r} (checkpoint=): if the rows "
            "were written again since, it holds sums of other rows. Remove it, and call again."
        )

    def names(self, tasks: Sequence[PieceTask], plan: PassPlan[Any]) -> dict[int, str]:
        """Names of the sums of pieces, by their numbers."""
        common = _hashed((VERSION, np.__version__, pd.__version__, plan))
        common = _hashed((common, self._functions)) if any(self._functions) else common
        return {task.number: _hashed((common, task.number, task.columns, task.most, _identity(task))) for task in tasks}

    def load(self, name: str) -> Any:
        """Sums, if they are there; None also if the file is damaged."""
        path = self._path(name)
        try:
            content = path.read_bytes()
            if hashlib.sha256(content[_DIGEST:]).digest() != content[:_DIGEST]:
                return None
            found = _Reading(io.BytesIO(content[_DIGEST:])).load()
        except (OSError, pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, ImportError):
            return None
        self.taken += 1
        return found

    def save(self, name: str, sums: Any) -> None:
        """Keep sums.

        Raises
        ------
        StorageError
            They could not be written.
        """
        content = io.BytesIO()
        _Writing(content, protocol=5).dump(sums)
        whole = content.getvalue()
        with made(self._folder):
            try:
                write_bytes(self._path(name), hashlib.sha256(whole).digest() + whole, overwrite=True)
            except StorageError as error:
                raise StorageError(
                    f"The sums of a piece ({len(whole):,} bytes) could not be kept: {error} Those that were kept are "
                    "there still: with more space a second call goes on from them."
                ) from error

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}{_SUFFIX}"


def _content(code: Any) -> Any:
    """What a function does, wherever it is defined."""
    if not isinstance(code, CodeType):
        return repr(code)
    return code.co_code, code.co_names, [_content(value) for value in code.co_consts]


def _hashed(value: Any) -> str:
    from joblib.hashing import NumpyHasher

    hasher = NumpyHasher("md5")
    hasher.reducer_override = _as_made
    return str(hasher.hash(value))


def _as_made(obj: Any) -> Any:
    """An object without its cached properties: parsed formulas are shared, and those of before may have some."""
    kind = type(obj)
    cached = {name for name in getattr(obj, "__dict__", ()) if isinstance(getattr(kind, name, None), cached_property)}
    if not cached or isinstance(obj, type):
        return NotImplemented
    function, arguments, state, *rest = obj.__reduce_ex__(3)
    if not isinstance(state, dict):
        return NotImplemented
    return function, arguments, {k: v for k, v in state.items() if k not in cached} or None, *rest


def _identity(task: PieceTask) -> Any:
    """What tells a piece from others, and from itself before its file was written again."""
    own = getattr(task.piece, "identity", None)
    return own() if callable(own) else task.piece


class _Writing(pickle.Pickler):
    """Indexes as arrays: what pandas would write names functions of its own."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, pd.DataFrame):
            return table_of_columns, (obj.columns, obj.index, [obj.iloc[:, k].array for k in range(obj.shape[1])])
        if isinstance(obj, pd.Categorical):
            return levels_of_codes, (np.asarray(obj.codes), obj.categories, bool(obj.ordered))
        if isinstance(obj, pd.api.extensions.ExtensionArray):
            # Text, times and what else pandas has arrays of.
            return values_of_index, (pd.Index(obj),)
        if isinstance(obj, pd.RangeIndex):
            return index_of_range, (obj.start, obj.stop, obj.step)
        if isinstance(obj, pd.Index):
            if isinstance(obj.dtype, np.dtype) and obj.dtype.kind in "iufbmM":
                return index_of_numbers, (obj.to_numpy(),)
            values = obj.tolist()
            if all(isinstance(value, str) for value in values):
                return index_of_texts, ("\0".join(values), len(values), str(obj.dtype))
            return index_of_objects, (values,)
        return NotImplemented


def table_of_columns(names: pd.Index, index: pd.Index, columns: Sequence[Any]) -> pd.DataFrame:
    """A frame of its columns."""
    table = pd.DataFrame(dict(enumerate(columns)), index=index, copy=False)
    table.columns = names
    return table


def levels_of_codes(codes: AnyArray, levels: pd.Index, ordered: bool) -> pd.Categorical:
    """Categories."""
    return pd.Categorical.from_codes(codes, categories=levels, ordered=ordered)


def values_of_index(index: pd.Index) -> Any:
    """The values of an index."""
    return index.array


def index_of_range(start: int, stop: int, step: int) -> pd.Index:
    """An index of equal steps."""
    return pd.RangeIndex(start, stop, step)


def index_of_numbers(values: AnyArray) -> pd.Index:
    """An index of numbers or times."""
    found: pd.Index = pd.Index(values)
    return found


def index_of_texts(joined: str, n: int, dtype: str) -> pd.Index:
    """An index of texts.

    Examples
    --------
    >>> index_of_texts("a", 1, "object").tolist()
    ['a']
    """
    found: pd.Index = pd.Index(joined.split("\0") if n else [], dtype=dtype)
    return found


def index_of_objects(values: Sequence[Any]) -> pd.Index:
    """An index of values of several types."""
    found: pd.Index = pd.Index(list(values), dtype=object)
    return found


class _Reading(pickle.Unpickler):
    """Reads sums and nothing else: of ours, a file can name classes that hold values and do nothing."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _NUMPY | _BUILTIN:
            return super().find_class(module, name)
        if module == __name__ and name in _RESTORING:
            return super().find_class(module, name)
        if module.startswith("bayeslmm.") and "." not in name:
            found = super().find_class(module, name)
            if isinstance(found, type) and is_dataclass(found):
                return found
        raise pickle.UnpicklingError(f"{module}.{name} is no part of sums")
