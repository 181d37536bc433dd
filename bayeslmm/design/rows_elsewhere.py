"""Designs whose rows are not in memory: arrays that are read from where they are when something asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.design.row_arrays import RowArray
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
        self()
        return {}

    def __call__(self) -> AnyArray:
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


def shelf_of(design: Design) -> RowShelf | None:
    """Where the rows of a design are read from and kept; None if they are in memory, or none are to be had."""
    make = design.y.maker if isinstance(design.y, RowArray) else None
    return make.shelf if isinstance(make, _FromShelf) else None


def memory_of(design: Design) -> int:
    """Bytes of rows that may be read again and kept for a design whose rows are elsewhere."""
    shelf = shelf_of(design)
    return MEMORY if shelf is None else shelf.limit


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


@dataclass(frozen=True)
class _FromShelf:
    shelf: RowShelf
    name: str

    def __call__(self) -> AnyArray:
        return self.shelf.get(self.name)


def with_rows_elsewhere(design: Design, rows: StreamedRows, facts: RowFacts, memory: int = MEMORY) -> Design:
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
        outer = {above: levels for (inner, above), levels in facts.parents.items() if inner == name}
        groupings[name] = replace(grouping, codes=cast(Any, array(f"codes{k}")), outer=outer)
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
    if not isinstance(residual, KnownVariances):
        return cast(Residual, replace(cast(Any, residual), n=n))
    return known_elsewhere(KnownVariances(array("sd")))


def known_elsewhere(known: KnownVariances) -> KnownVariances:
    """Known variances of rows that are not in memory: precisions are not made before they are used."""
    vars(known)["weights"] = RowArray((known.n,), float, _Precisions(known))
    return known


@dataclass(frozen=True)
class _Precisions:
    known: KnownVariances

    def __call__(self) -> FloatArray:
        return np.asarray(1.0 / np.asarray(self.known.sd) ** 2)
