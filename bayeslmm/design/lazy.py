"""Fields of frozen dataclasses that are made when they are first read.

Names of fifty thousand levels or of a million dropped rows take longer to make than the rest of a design, and most
fits never show them.
"""

from __future__ import annotations

import datetime as dt
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import pandas as pd

from bayeslmm.arguments import shown
from bayeslmm.equality import made_fast
from bayeslmm.types import AnyArray

_ISO_LIKE = re.compile(r"\d{4}-\d\d-\d\d")
_MOST_ISO = 26


class Deferred[T](ABC):
    """A value that is known but not yet made."""

    @abstractmethod
    def resolve(self) -> T:
        """Make it."""


class Lazy[T]:
    """Field that holds a value or a `Deferred` one, and always reads as the value.

    Parameters
    ----------
    default : optional
        Value of the field if none is given.

    Examples
    --------
    >>> @dataclass(frozen=True)
    ... class Rows:
    ...     labels: Lazy[tuple[object, ...]] = Lazy(())
    >>> Rows().labels, Rows(Labels(pd.RangeIndex(2))).labels
    ((), (0, 1))
    """

    def __init__(self, default: T | Deferred[T] | None = None) -> None:
        self._default = default
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> T | Deferred[T]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> T | Deferred[T]:
        if instance is None:
            # What a dataclass takes for the default.
            if self._default is None:
                raise AttributeError(self._name)
            return self._default
        value: T | Deferred[T] = vars(instance)[self._name]
        if isinstance(value, Deferred):
            value = value.resolve()
            vars(instance)[self._name] = value
        return value

    def __set__(self, instance: object, value: T | Deferred[T]) -> None:
        vars(instance)[self._name] = value


def level_name(value: object) -> str:
    """Text of a level; integral floats lose their ``.0``, days their midnight.

    Examples
    --------
    >>> import datetime
    >>> level_name(2.0), level_name(pd.Timestamp("2024-03-04")), level_name(datetime.date(2024, 3, 4))
    ('2', '2024-03-04', '2024-03-04')
    """
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    if isinstance(value, dt.date | dt.timedelta | np.datetime64 | np.timedelta64):
        return _time_name(value)
    try:
        return str(value)
    except Exception:
        return shown(value)


def _time_name(value: dt.date | dt.timedelta | np.datetime64 | np.timedelta64) -> str:
    """A time as pandas writes it, whichever library it is from; of a day without hours only the day."""
    if isinstance(value, dt.timedelta | np.timedelta64):
        return str(pd.Timedelta(value))
    if not isinstance(value, dt.datetime | np.datetime64):
        return str(value)
    moment = pd.Timestamp(value)
    if pd.isna(moment):
        return str(moment)
    midnight = moment.tzinfo is None and moment == moment.normalize()
    return str(moment.date()) if midnight else str(moment)


def same_moments(names: Iterable[str], known: Sequence[str]) -> dict[str, int]:
    """Names that write a date or time of the known ones in another way, and the position of that one.

    Examples
    --------
    >>> same_moments(["2024-03-04 00:00:00", "2024-03-04T10:00", "b"], ["a", "2024-03-04", "2024-03-04 10:00:00"])
    {'2024-03-04 00:00:00': 1, '2024-03-04T10:00': 2}
    """
    moments = {moment: i for i, name in enumerate(known) if (moment := _moment(name)) is not None}
    if not moments:
        return {}
    return {name: moments[moment] for name in names if (moment := _moment(name)) in moments and moment is not None}


def _moment(name: str) -> dt.datetime | None:
    # Digits beyond microseconds would be cut.
    if not _ISO_LIKE.match(name) or len(name) > _MOST_ISO:
        return None
    try:
        return dt.datetime.fromisoformat(name)
    except ValueError:
        return None


@made_fast
@dataclass(frozen=True, eq=False)
class LevelNames(Deferred[tuple[str, ...]]):
    """Names of the levels of one column.

    Attributes
    ----------
    values : array or pandas.Index
    present : IntArray, optional
        Positions of the levels among `values`; all by default.
    """

    values: AnyArray | pd.Index
    present: AnyArray | None = None

    def __len__(self) -> int:
        return len(self.values if self.present is None else self.present)

    def resolve(self) -> tuple[str, ...]:
        values = (self.values if self.present is None else self.values[self.present]).tolist()
        if self.values.dtype.kind in "iu":
            return tuple(map(str, values))
        return tuple(value if type(value) is str else level_name(value) for value in values)


@made_fast
@dataclass(frozen=True, eq=False)
class CellNames(Deferred[tuple[str, ...]]):
    """Names of the cells of two factors that occur, joined by a colon.

    Attributes
    ----------
    outer, inner : Deferred
        Names of their levels.
    i, j : IntArray
        Levels of each cell.
    """

    outer: Deferred[tuple[str, ...]]
    inner: Deferred[tuple[str, ...]]
    i: AnyArray
    j: AnyArray

    def __len__(self) -> int:
        return len(self.i)

    def resolve(self) -> tuple[str, ...]:
        outer, inner = self.outer.resolve(), self.inner.resolve()
        return tuple(f"{outer[a]}:{inner[b]}" for a, b in zip(self.i.tolist(), self.j.tolist(), strict=True))


@dataclass(frozen=True, eq=False)
class Labels(Deferred[tuple[object, ...]]):
    """Labels of rows.

    Attributes
    ----------
    index : pandas.Index
    """

    index: pd.Index

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, rows: slice) -> tuple[object, ...]:
        return tuple(self.index[rows])

    def resolve(self) -> tuple[object, ...]:
        return tuple(self.index)


@dataclass(frozen=True, eq=False)
class LabelsByReason(Deferred[dict[str, tuple[object, ...]]]):
    """Labels of rows by the reason for which they were dropped.

    Attributes
    ----------
    reasons : mapping of str to Labels
    """

    reasons: Mapping[str, Labels]

    def resolve(self) -> dict[str, tuple[object, ...]]:
        return {reason: labels.resolve() for reason, labels in self.reasons.items()}
