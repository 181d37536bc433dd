"""Iterators of tables, functions that return one, and lists of tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from inspect import signature
from itertools import chain
from typing import Any

import pandas as pd

from bayeslmm.arguments import kind_of
from bayeslmm.errors import DesignError
from bayeslmm.sources.base import Stream
from bayeslmm.sources.native_tables import frame_of, names_of, no_table
from bayeslmm.sources.protocol import Source
from bayeslmm.sources.recognised import is_table
from bayeslmm.sources.schema import Conforming
from bayeslmm.sources.spool import Spool

# None may be what an iterator gives.
_END: Any = object()


def open_iterator(data: Any) -> Source:
    """A source of tables that Python hands out one by one."""
    if isinstance(data, list | tuple):
        return ListSource(data)
    return OnceSource(data, f"{type(data).__name__} of tables") if isinstance(data, Iterator) else CallSource(data)


class ListSource(Stream):
    """A list of tables, one below the other."""

    def __init__(self, data: Sequence[Any]) -> None:
        self.name = f"{type(data).__name__} of {len(data)} tables"
        self._tables = [named(table, self.name, number) for number, table in enumerate(data)]
        self.columns = names_of(data[0])
        self.n = sum(table.shape[0] for table in self._tables)

    def chunks(self, columns: Sequence[str], first: int = 0) -> Iterator[pd.DataFrame]:
        """See `protocol.Source`."""
        for number in range(first, len(self._tables)):
            yield frame_of(self._tables[number], columns, f"Table {number} of the {self.name}")


class CallSource(Stream):
    """A function that returns an iterator of the same tables at each call."""

    # Users' code need not be fit for other threads (connections of sqlite3 are not).
    threads = False

    def __init__(self, call: Callable[[], Iterable[Any]]) -> None:
        self._call = call
        self.name = f"function {getattr(call, '__name__', type(call).__name__)!r}"
        self._columns: tuple[str, ...] | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Of the first table."""
        if self._columns is None:
            tables = self._tables()
            first = next(tables, _END)
            close(tables)
            if first is _END:
                raise no_tables(self.name)
            self._columns = names_of(named(first, self.name, 0))
        return self._columns

    def chunks(self, columns: Sequence[str], first: int = 0) -> Iterator[pd.DataFrame]:
        """See `protocol.Source`."""
        tables = self._tables()
        try:
            for number, table in enumerate(tables):
                if number >= first:
                    yield frame_of(table, columns, f"Chunk {number} of the {self.name}")
        finally:
            close(tables)

    def _tables(self) -> Iterator[Any]:
        self._check_arguments()
        found = self._call()
        if is_table(found) or not isinstance(found, Iterable):
            raise DesignError(
                f"The {self.name} returned {kind_of(found)}, not an iterator of tables. Return one (write it as a "
                "generator, with yield), or call it and give what it returns as the data."
            )
        return iter(found)

    def _check_arguments(self) -> None:
        try:
            own = signature(self._call)
        except ValueError:
            # Functions written in C need not say what they take.
            return
        try:
            own.bind()
        except TypeError as error:
            raise DesignError(
                f"The {self.name} is called without arguments for its tables, which it cannot be: {error}. Call it "
                "and give what it returns as the data, or give a function of no argument: lambda: function(...)."
            ) from error


class OnceSource(Stream):
    """An iterator of tables: what it gives is kept in a temporary folder, from which later passes read."""

    threads = False

    def __init__(self, tables: Iterator[Any], name: str) -> None:
        self.name = name
        self._tables = tables
        self._columns: tuple[str, ...] | None = None
        self._spool: Spool | None = None
        self._conforming = Conforming(name)
        # Number of tables taken and what the iterator raised; nothing more comes of one that has.
        self._taken = 0
        self._ended = False
        self._failed: BaseException | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Of the first table."""
        if self._columns is None:
            first = self._next()
            if first is _END:
                raise no_tables(self.name)
            self._columns = names_of(named(first, self.name, 0))
            self._tables = chain([first], self._tables)
            self._taken, self._ended = 0, False
        return self._columns

    def chunks(self, columns: Sequence[str], first: int = 0) -> Iterator[pd.DataFrame]:
        """See `protocol.Source`; columns other than those of the first pass are not there any more."""
        if self._spool is None:
            self._spool = Spool(self.name, tuple(columns))
        spool = self._spool
        lost = [name for name in columns if name not in spool.columns]
        if lost:
            raise DesignError(
                f"Column {lost[0]!r} of the {self.name} was not kept when it was read (only "
                f"{', '.join(map(repr, spool.columns))}), and an iterator can be read once. Give a function that "
                "returns the iterator, or name the column in the formula from the start."
            )
        number = first
        while True:
            while number < spool.finished:
                yield spool.read(number, columns)
                number += 1
            if self._ended and self._failed is None:
                return
            taken = self._taken
            table = self._next()
            try:
                self._keep(spool, table, taken)
            except BaseException as error:
                # Rows that could not be kept must not be missed in silence by a later pass.
                self._failed = error
                raise

    def _keep(self, spool: Spool, table: Any, number: int) -> None:
        if table is _END:
            spool.flush()
            return
        frame = frame_of(table, spool.columns, f"Chunk {number} of the {self.name}")
        spool.add(self._conforming.conform(frame, f"chunk {number}"))

    def _next(self) -> Any:
        """The next table, `_END` at the end."""
        if self._failed is not None:
            raise DesignError(
                f"The {self.name} stopped after {self._taken} tables ({type(self._failed).__name__}: {self._failed}), "
                "and an iterator cannot be begun again. Make a new one, or give a function that returns it."
            ) from self._failed
        try:
            table = next(self._tables, _END)
        except BaseException as error:
            self._failed = error
            raise
        self._ended = table is _END
        self._taken += not self._ended
        return table


def named(table: Any, name: str, number: int) -> Any:
    """A table.

    Raises
    ------
    DesignError
        No table.
    """
    if not is_table(table):
        raise no_table(table, f"Chunk {number} of the {name}")
    return table


def no_tables(name: str) -> DesignError:
    """The message for an iterator without tables."""
    return DesignError(f"The {name} gave no table at all. Was it read before? An iterator can be read once.")


def close(tables: Iterator[Any]) -> None:
    """End a generator that is not read to its end."""
    end = getattr(tables, "close", None)
    if callable(end):
        end()
