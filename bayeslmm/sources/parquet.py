"""Files of parquet: chunks are whole row groups where these have a fair size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow.fs import LocalFileSystem

from bayeslmm.errors import DesignError
from bayeslmm.sources.arrow_frames import frame_of_arrow, is_text, tables
from bayeslmm.sources.base import Stream
from bayeslmm.sources.grouped import check_cells, of_duckdb, of_polars
from bayeslmm.sources.protocol import Piece, most_rows

# Parts for other processes have about so many rows: their sums are as large whatever they are of.
PIECE_ROWS = 1 << 23


@dataclass(frozen=True)
class RowGroup:
    """A row group: the number of its file, its own number in that file, its rows."""

    file: int
    number: int
    rows: int


@dataclass(frozen=True)
class RowGroups:
    """Row groups that are read together, with the number of the first chunk that comes of them."""

    groups: tuple[RowGroup, ...]
    first: int
    chunks: int


class ParquetSource(Stream):
    """A dataset of parquet files.

    Parameters
    ----------
    fragments : sequence of pyarrow.dataset.ParquetFileFragment
        In the order of the rows.
    schema : pyarrow.Schema
        Of the dataset, with what the names of folders say.
    name : str
    """

    def __init__(self, fragments: Sequence[Any], schema: Any, name: str) -> None:
        self.name = name
        self._fragments = list(fragments)
        self._files = [file_schema(fragment) for fragment in self._fragments]
        self._schema = schema
        self.columns = tuple(schema.names)
        self._groups = [
            RowGroup(number, group.id, group.num_rows)
            for number, fragment in enumerate(self._fragments)
            for group in fragment.row_groups
        ]
        self.n = sum(group.rows for group in self._groups)

    def chunks(self, columns: Sequence[str], first: int = 0) -> Iterator[pd.DataFrame]:
        """See `protocol.Source`."""
        most = most_rows(columns)
        yield from self._reader(columns, parts_of(self._groups, most), most)(first)

    def pieces(self, columns: Sequence[str]) -> Sequence[Piece]:
        """See `protocol.Source`."""
        most = most_rows(columns)
        pieces: list[list[RowGroups]] = []
        rows = PIECE_ROWS
        for part in parts_of(self._groups, most):
            size = sum(group.rows for group in part.groups)
            if rows + size > PIECE_ROWS and (rows or not pieces):
                pieces.append([])
                rows = 0
            pieces[-1].append(replace(part, first=sum(p.chunks for p in pieces[-1])))
            rows += size
        return [self._reader(columns, parts, most) for parts in pieces]

    def group_by(self, keys: Sequence[str], value: str, shift: float | None = None) -> pd.DataFrame:
        """See `protocol.Source`; by DuckDB or polars where they read the columns as it is done here."""
        check_cells(keys, value)
        columns = (*keys, value)
        schema, text = self._read_as(columns)
        # Categories have an order, and names of folders are columns: engines read both in ways of their own.
        own = any(pa.types.is_dictionary(schema.field(name).type) and name not in text for name in columns)
        local = all(isinstance(fragment.filesystem, LocalFileSystem) for fragment in self._fragments)
        stored = all(name in schema.names for _, schema in self._files for name in columns)
        files = [path for path, _ in self._files]
        if own or not local or not stored:
            return super().group_by(keys, value, shift)
        if find_spec("duckdb") is not None:
            import duckdb

            with duckdb.connect() as connection:
                table = of_duckdb(connection.read_parquet(files, union_by_name=True), keys, value, shift)
        elif find_spec("polars") is not None and len(files) == 1:
            import polars as pl

            table = of_polars(pl.scan_parquet(files), keys, value, shift)
        else:
            return super().group_by(keys, value, shift)
        return frame_of_arrow(table, table.column_names)

    def _reader(self, columns: Sequence[str], parts: Sequence[RowGroups], most: int) -> ParquetPiece:
        schema, text = self._read_as(columns)
        # Other processes get the files of their piece and no others.
        files = sorted({group.file for part in parts for group in part.groups})
        fragments = {number: self._fragments[number] for number in files}
        return ParquetPiece(fragments, schema, tuple(columns), text, tuple(parts), most)

    def _read_as(self, columns: Sequence[str]) -> tuple[Any, tuple[str, ...]]:
        """Types as which columns are read in all files, and which of them are text."""
        fields, text = [], []
        for name in columns:
            kind = type_of_all(name, self._files, self._schema, self.name)
            if is_text(kind):
                text.append(name)
                kind = pa.dictionary(pa.int32(), pa.string() if kind == pa.string_view() else kind)
            fields.append(pa.field(name, kind))
        return pa.schema(fields), tuple(text)


@dataclass(frozen=True)
class ParquetPiece:
    """Reads some parts of a dataset; goes to other processes whole.

    Attributes
    ----------
    fragments : dict of int to pyarrow.dataset.ParquetFileFragment
    schema : pyarrow.Schema
        Of the columns, as they are read.
    columns, text : tuple of str
    parts : tuple of RowGroups
    most : int
        Rows of a chunk at most.
    """

    fragments: dict[int, Any]
    schema: Any
    columns: tuple[str, ...]
    text: tuple[str, ...]
    parts: tuple[RowGroups, ...]
    most: int

    def __call__(self, first: int = 0) -> Iterator[pd.DataFrame]:
        """Chunks from number `first` on."""
        for part in self.parts:
            if part.first + part.chunks <= first:
                continue
            for number, table in enumerate(tables(self._batches(part), size_of(part, self.most)), part.first):
                if number >= first:
                    yield frame_of_arrow(table, self.columns, self.text)

    def identity(self) -> tuple[Any, ...]:
        """What the rows are of, and when the files were written."""
        files = [
            (info.path, info.size, info.mtime_ns)
            for fragment in self.fragments.values()
            for info in fragment.filesystem.get_file_info([fragment.path])
        ]
        groups = [(group.file, group.number, group.rows) for part in self.parts for group in part.groups]
        return files, groups, self.columns, self.most

    def _batches(self, part: RowGroups) -> Iterator[Any]:
        form = ds.ParquetFileFormat(read_options=ds.ParquetReadOptions(dictionary_columns=list(self.text)))
        for number in dict.fromkeys(group.file for group in part.groups):
            fragment = self.fragments[number]
            rows = [group.number for group in part.groups if group.file == number]
            source = form.make_fragment(
                fragment.path, fragment.filesystem, fragment.partition_expression, row_groups=rows
            )
            # Without threads of its own: one thread reads while others compute.
            scanner = source.scanner(
                schema=self.schema, columns=list(self.columns), batch_size=self.most, use_threads=False
            )
            yield from scanner.to_batches()


def size_of(part: RowGroups, most: int) -> int:
    """Rows of the chunks of a part, which are of about the same size."""
    rows = sum(group.rows for group in part.groups)
    return max(1, -(-rows // part.chunks)) if part.chunks > 1 else max(rows, most)


def parts_of(groups: Sequence[RowGroup], most: int) -> list[RowGroups]:
    """Small row groups joined, large ones to be cut.

    Examples
    --------
    >>> groups = [RowGroup(0, 0, 10), RowGroup(0, 1, 5), RowGroup(1, 0, 250)]
    >>> [(len(part.groups), part.first, part.chunks) for part in parts_of(groups, 100)]
    [(2, 0, 1), (1, 1, 3)]
    """
    parts: list[RowGroups] = []
    waiting: list[RowGroup] = []
    first = 0
    for group in [group for group in groups if group.rows]:
        rows = sum(one.rows for one in waiting)
        if waiting and (rows >= most // 4 or rows + group.rows > most):
            parts.append(RowGroups(tuple(waiting), first, 1))
            first, waiting = first + 1, []
        if group.rows > most:
            chunks = -(-group.rows // most)
            parts.append(RowGroups((group,), first, chunks))
            first += chunks
        else:
            waiting.append(group)
    if waiting:
        parts.append(RowGroups(tuple(waiting), first, 1))
    return parts


def file_schema(fragment: Any) -> tuple[str, Any]:
    """Path and columns of a file.

    Raises
    ------
    DesignError
        Nothing of the format.
    """
    try:
        return fragment.path, fragment.physical_schema
    except (pa.ArrowInvalid, OSError) as error:
        kind = "a parquet" if isinstance(fragment.format, ds.ParquetFileFormat) else "an Arrow"
        raise DesignError(
            f"{fragment.path!r} cannot be read as {kind} file ({error}). Is it complete? "
            "Write it again, or leave it out of the data."
        ) from error


def _widest(kinds: Sequence[Any]) -> Any:
    """The type of dictionaries that has room for most levels."""
    return max(kinds, key=lambda kind: kind.index_type.bit_width)


def type_of_all(name: str, files: Sequence[tuple[str, Any]], schema: Any, source: str) -> Any:
    """The type as which a column is read in all files.

    Parameters
    ----------
    name : str
        Of the column.
    files : sequence of (str, pyarrow.Schema)
        Paths and what is in them.
    schema : pyarrow.Schema
        Of the dataset, with what the names of folders say.
    source : str

    Raises
    ------
    DesignError
        Some files lack the column, or have other kinds of it.
    """
    places = [(path, own) for path, own in files if name in own.names]
    if places and len(places) < len(files):
        path = next(path for path, own in files if name not in own.names)
        raise DesignError(
            f"The file {path!r} of {source} has no column {name!r}, which {places[0][0]!r} has. All files "
            "need the columns of the formula under the same names."
        )
    kinds: dict[Any, str] = {}
    for path, own in places:
        kinds.setdefault(own.field(name).type, path)
    return common_type(name, kinds, source) if kinds else schema.field(name).type


def common_type(name: str, kinds: dict[Any, str], source: str) -> Any:
    """The type that holds a column of several files.

    Parameters
    ----------
    name : str
        Of the column.
    kinds : dict
        Types, each with the path of the first file that has it.
    source : str

    Raises
    ------
    DesignError
        Text in one file, numbers in another.
    """
    types = list(kinds)
    known = [kind for kind in types if not pa.types.is_null(kind)]
    if len(known) <= 1:
        return (known or types)[0]
    text = [kind for kind in known if is_text(kind) or (pa.types.is_dictionary(kind) and is_text(kind.value_type))]
    if len(text) == len(known):
        plain = [kind for kind in known if is_text(kind)]
        return plain[0] if plain else _widest(known)
    try:
        if any(pa.types.is_boolean(kind) for kind in known) or text:
            raise pa.ArrowTypeError("kinds differ")
        schemas = [pa.schema([pa.field("x", kind)]) for kind in known]
        return pa.unify_schemas(schemas, promote_options="permissive").field("x").type
    except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
        found = "; ".join(f"{kind} in {path!r}" for kind, path in kinds.items())
        raise DesignError(
            f"Column {name!r} of {source} has types that do not go together: {found}. A column is numbers everywhere "
            "or text everywhere: write the files that differ again."
        ) from error
