"""Designs whose rows are not in memory: arrays that are read from where they are when something asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from bayeslmm.design.design import Design
from bayeslmm.design.row_facts import RowFacts
from bayeslmm.errors import RowsNeededError
from bayeslmm.residual import KnownVariances, PrecisionWeights, Residual
from bayeslmm.types import AnyArray, FloatArray

# Bytes of rows that are read again and kept, unless the model says otherwise.
MEMORY = 2 * 1024**3
_ANYTIME = (
    "Fits, summaries, intervals, tests, random effects, means, predictions for new data and posteriors work without."
)


class StreamedRows(Protocol):
    """Rows of a design that can be read again, in one order.

    Names of arrays: ``"y"``, ``"X"``, ``"offset"``, ``"index"``, ``"frequency"``, ``"weights"`` (``"sd"`` of residuals
    whose standard deviations are known), ``"Z0"``, ``"Z1"``, ... by the position of the term, ``"codes0"``, ... by
    that of the factor among the groupings.
    """

    @property
    def name(self) -> str:
        """Where the rows are, for messages: ``"parquet folder 'ratings/'"``."""

    def read(self, names: Sequence[str]) -> Mapping[str, AnyArray]:
        """Some of the arrays, with all n rows, in one pass."""


@dataclass(frozen=True)
class NoRows:
    """Rows that cannot be read: those of a fit that was read from a file, or made from sums.

    Attributes
    ----------
    name : str
        What there is instead, for messages.
    """

    name: str

    def read(self, names: Sequence[str]) -> Mapping[str, AnyArray]:
        raise RowsNeededError(
            f"This needs the rows of the data, and there are none: {self.name}. {_ANYTIME} For the rest make the model "
            "from the data again."
        )


class RowShelf:
    """Arrays of rows: read in one pass when one is needed, and kept.

    Parameters
    ----------
    rows : StreamedRows
    shapes : mapping
        Name of an array to its shape and dtype.
    limit : int
        Bytes that may be kept.
    """

    def __init__(self, rows: StreamedRows, shapes: Mapping[str, tuple[tuple[int, ...], Any]], limit: int) -> None:
        self.rows, self.shapes, self.limit = rows, dict(shapes), limit
        self._kept: dict[str, AnyArray] = {}
        # Passes over the rows so far.
        self.reads = 0

    def get(self, name: str) -> AnyArray:
        """An array; with all others that are not yet there if they all fit into the limit."""
        if name not in self._kept:
            self._read(name)
        return self._kept[name]

    def _read(self, name: str) -> None:
        missing = [other for other in self.shapes if other not in self._kept]
        if isinstance(self.rows, NoRows):
            self.rows.read([name])
        room = self.limit - self.size(self._kept)
        if self.size(missing) > room:
            missing = [name]
        self.check(self.size(missing), room)
        self.reads += 1
        found = self.rows.read(missing)
        for other in missing:
            array = np.asarray(found[other])
            if array.shape != self.shapes[other][0]:
                raise RowsNeededError(
                    f"{self.rows.name} gave {array.shape[0]} rows when they were read again, and "
                    f"{self.shapes[other][0][0]} before: the data have changed since. Make the model again."
                )
            array.setflags(write=False)
            self._kept[other] = array

    def check(self, size: int, room: int | None = None) -> None:
        """Refuse arrays of that many bytes where they are beyond the limit.

        Raises
        ------
        RowsNeededError
        """
        if size <= (self.limit if room is None else room):
            return
        n = next(iter(self.shapes.values()))[0][0]
        raise RowsNeededError(
            f"This needs the rows of the data, which are not in memory ({self.rows.name}). The {n:,} rows take "
            f"{gigabytes(size)}, and {gigabytes(self.limit)} may be kept. {_ANYTIME} For the rest fit a sample of the "
            f"rows, or allow more: bl.Model(..., memory='{gigabytes(self.total)}')."
        )

    @property
    def total(self) -> int:
        """Bytes of all arrays."""
        return self.size(self.shapes)

    def size(self, names: Iterable[str]) -> int:
        """Bytes of some arrays."""
        return sum(int(np.prod(self.shapes[n][0])) * np.dtype(self.shapes[n][1]).itemsize for n in names)


def gigabytes(size: float) -> str:
    """A number of bytes for people, rounded up.

    Examples
    --------
    >>> gigabytes(2 * 1024**3), gigabytes(2_500), gigabytes(0)
    ('2 GB', '3 kB', '0 kB')
    """
    for unit, factor in (("GB", 1024**3), ("MB", 1024**2)):
        if size >= factor:
            return f"{np.ceil(10 * size / factor) / 10:g} {unit}"
    return f"{np.ceil(size / 1024):g} kB"


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
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

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


@dataclass(frozen=True)
class _FromShelf:
    shelf: RowShelf
    name: str

    def __call__(self) -> AnyArray:
        return self.shelf.get(self.name)


def without_rows(design: Design, rows: StreamedRows, facts: RowFacts, memory: int = MEMORY) -> Design:
    """A design like another one, whose rows are elsewhere.

    Parameters
    ----------
    design : Design
        Any of the rows (at least none), with the levels, names and recipe of all.
    rows : StreamedRows
    facts : RowFacts
        Of all rows.
    memory : int
        Bytes of rows that may be read again and kept.

    Returns
    -------
    Design
        Its arrays are `RowArray`; `facts` are there.
    """
    n = facts.n
    residual = design.residual
    known: dict[str, Any] = {"y": design.y, "X": design.X, "index": design.index}
    known |= {f"Z{k}": term.Z for k, term in enumerate(design.terms)}
    known |= {f"codes{k}": grouping.codes for k, grouping in enumerate(design.groupings.values())}
    known |= {name: value for name in ("offset", "frequency") if (value := getattr(design, name)) is not None}
    if isinstance(residual, PrecisionWeights):
        known |= {"weights": residual.weights}
    elif isinstance(residual, KnownVariances):
        known |= {"sd": residual.sd}
    shapes = {name: ((n, *array.shape[1:]), array.dtype) for name, array in known.items()}
    shelf = RowShelf(rows, shapes, memory)

    def array(name: str) -> FloatArray:
        shape, dtype = shelf.shapes[name]
        return cast(FloatArray, RowArray(shape, dtype, _FromShelf(shelf, name)))

    groupings = {}
    for k, (name, grouping) in enumerate(design.groupings.items()):
        groupings[name] = replace(grouping, codes=cast(Any, array(f"codes{k}")))
    return replace(
        design,
        y=array("y"),
        X=array("X"),
        offset=None if design.offset is None else array("offset"),
        index=array("index"),
        frequency=None if design.frequency is None else cast(Any, array("frequency")),
        terms=tuple(replace(term, Z=array(f"Z{k}")) for k, term in enumerate(design.terms)),
        groupings=groupings,
        residual=_residual(residual, n, array),
        facts=facts,
    )


def _residual(residual: Residual, n: int, array: Callable[[str], FloatArray]) -> Residual:
    if isinstance(residual, PrecisionWeights):
        return PrecisionWeights(array("weights"))
    return KnownVariances(array("sd")) if isinstance(residual, KnownVariances) else replace(cast(Any, residual), n=n)
