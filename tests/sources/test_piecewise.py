"""Pieces of a source, read by others: the checks of a source that is read as a whole."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

from bayeslmm.errors import DesignError  # noqa: E402
from bayeslmm.sources import checked, open_source  # noqa: E402
from bayeslmm.sources import parquet as parquet_module  # noqa: E402
from bayeslmm.sources import protocol as protocol_module  # noqa: E402
from bayeslmm.sources.checking import Checked  # noqa: E402
from bayeslmm.sources.piecewise import Record, SourcePieces, pieces_of  # noqa: E402


def read(pieces: SourcePieces) -> list[pd.DataFrame]:
    """A pass, the last piece first, each by what another process would get."""
    records, found = {}, {}
    for task in reversed(pieces.tasks()):
        record = Record()
        found[task.number] = list(pickle.loads(pickle.dumps(task)).chunks(record))
        records[task.number] = pickle.loads(pickle.dumps(record))
    pieces.finish(records)
    return [chunk for number in sorted(found) for chunk in found[number]]


def begun(source: Checked) -> SourcePieces:
    """The pieces, after a look at the first chunk."""
    for _ in source.chunks():
        break
    pieces = pieces_of(source)
    assert pieces is not None
    return pieces


def write(path: Path, tables: list, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every table a row group, and a piece."""
    monkeypatch.setattr(parquet_module, "PIECE_ROWS", 1)
    monkeypatch.setattr(protocol_module, "MOST_ROWS", 2)
    with pq.ParquetWriter(path, tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table)
    return path


def of_levels(levels: list[str], order: list[str], ordered: bool = False) -> pa.Table:
    values = pd.Categorical(levels, categories=order, ordered=ordered)
    return pa.Table.from_pandas(pd.DataFrame({"y": np.arange(float(len(levels))), "g": values}))


def test_categories_that_differ_from_piece_to_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = [of_levels(["b", "a"], ["b", "a"]), of_levels(["c", "a"], ["a", "c"]), of_levels(["d", "b"], ["d", "b"])]
    path = write(tmp_path / "rows.parquet", tables, monkeypatch)
    source = Checked(open_source(path), ["y", "g"], 2)
    pieces = begun(source)
    assert len(pieces) == 3
    for _ in range(3):
        found = read(pieces)
        assert [chunk["g"].tolist() for chunk in found] == [["b", "a"], ["c", "a"], ["d", "b"]]
    orders = [chunk["g"].cat.categories.tolist() for chunk in found]
    assert all(order == orders[0] for order in orders)
    assert orders[0][:2] == ["b", "a"]
    assert source.n == 6
    # As a whole, afterwards.
    assert [chunk["g"].tolist() for chunk in source.chunks()] == [["b", "a"], ["c", "a"], ["d", "b"]]


def test_a_piece_that_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = [pa.table({"y": [1.0, 2.0], "g": ["a", "b"]}), pa.table({"y": [3.0], "g": ["c"]})]
    path = write(tmp_path / "rows.parquet", tables, monkeypatch)
    for changed, what in (
        (pa.table({"y": [3.5], "g": ["c"]}), "its piece 1 has 1 rows as before, but other values"),
        (pa.table({"y": [3.0], "g": ["d"]}), "its piece 1 has 1 rows as before, but other values"),
    ):
        write(path, tables, monkeypatch)
        source = checked(open_source(path), ["y", "g"])
        pieces = begun(source)
        read(pieces)
        read(pieces)
        write(path, [tables[0], changed], monkeypatch)
        with pytest.raises(DesignError, match=what):
            read(pieces)


def test_pieces_of_two_kinds() -> None:
    dd = pytest.importorskip("dask.dataframe")
    frames = [pd.DataFrame({"y": [1.0, 2.0]}), pd.DataFrame({"y": [None, None]}), pd.DataFrame({"y": ["a", "b"]})]
    data = dd.from_map(frames.__getitem__, range(3), meta=frames[0])
    pieces = SourcePieces(source := Checked(open_source(data), ["y"], 2), source.source.pieces(["y"]))
    with pytest.raises(
        DesignError, match=r"is text in chunk 0 of piece 2, but numbers \(float64\) in chunk 0 of piece 0"
    ):
        read(pieces)


def test_orders_of_two_pieces_that_contradict_each_other() -> None:
    dd = pytest.importorskip("dask.dataframe")
    frames = [of_levels(["a"], order, True).to_pandas() for order in (["a", "b"], ["b", "a"])]
    data = dd.from_map(frames.__getitem__, range(2), meta=frames[0])
    pieces = SourcePieces(source := Checked(open_source(data), ["y", "g"], 1), source.source.pieces(["y", "g"]))
    with pytest.raises(DesignError, match="are b < a in chunk 0 of piece 1, and a < b before"):
        read(pieces)


def test_nothing_but_empty_pieces() -> None:
    dd = pytest.importorskip("dask.dataframe")
    data = dd.from_pandas(pd.DataFrame({"y": [1.0, 2.0, 3.0]}), npartitions=3)
    source = checked(open_source(data[data["y"] > 5]), ["y"])
    pieces = pieces_of(source)
    assert pieces is not None
    with pytest.raises(DesignError, match="has no rows"):
        read(pieces)
