"""Every kind of source gives the rows that pandas has when it puts the tables together."""

from __future__ import annotations

import functools
import pickle
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pa = pytest.importorskip("pyarrow")
ds = pytest.importorskip("pyarrow.dataset")

import bayeslmm as bl  # noqa: E402
from bayeslmm.errors import DesignError  # noqa: E402
from bayeslmm.sources import checked, is_source, open_source  # noqa: E402
from bayeslmm.sources.checking import Checked  # noqa: E402

N = 1_000


def rows(n: int = N, seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    words = np.array(["north", "south", "Ärmel", "", "a b"], dtype=object)
    frame = pd.DataFrame(
        {
            "y": rng.normal(size=n),
            "small": rng.normal(size=n).astype(np.float32),
            "whole": rng.integers(-5, 5, n),
            "short": rng.integers(0, 100, n).astype(np.int16),
            "yes": rng.random(n) > 0.5,
            "word": words[rng.integers(0, 5, n)],
            "place": pd.Categorical(rng.choice(["b", "c"], n), categories=["c", "a", "b"]),
            "day": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 9, n), unit="D"),
        }
    )
    frame.loc[rng.random(n) < 0.1, "y"] = np.nan
    frame.loc[rng.random(n) < 0.1, "word"] = None
    return frame


def parts(frame: pd.DataFrame) -> list[pd.DataFrame]:
    return [frame.iloc[start:end] for start, end in ((0, 300), (300, 300), (300, 301), (301, len(frame)))]


def parquet_file(frame, folder):
    frame.to_parquet(folder / "rows.parquet", row_group_size=150)
    return str(folder / "rows.parquet")


def parquet_folder(frame, folder):
    for number, part in enumerate(parts(frame)):
        part.to_parquet(folder / f"{number}.parquet")
    return folder


def parquet_pattern(frame, folder):
    return str(parquet_folder(frame, folder) / "[0-9].parquet")


def feather_folder(frame, folder):
    for number, part in enumerate(parts(frame)):
        part.reset_index(drop=True).to_feather(folder / f"{number}.feather")
    return folder


def dataset(frame, folder):
    return ds.dataset(parquet_folder(frame, folder))


def filtered_dataset(frame, folder):
    return dataset(frame, folder).filter(ds.field("short") >= 0)


def dataset_in_memory(frame, folder):
    return ds.dataset(pa.Table.from_pandas(frame))


def reader(frame, folder):
    return pa.Table.from_pandas(frame).to_reader(130)


def lazy_frame(frame, folder):
    return pytest.importorskip("polars").from_pandas(frame).lazy()


def relation(frame, folder):
    return pytest.importorskip("duckdb").from_df(frame)


def dask_frame(frame, folder):
    return pytest.importorskip("dask.dataframe").from_pandas(frame, npartitions=4, sort=False)


def list_of_pandas(frame, folder):
    return parts(frame)


def list_of_polars(frame, folder):
    polars = pytest.importorskip("polars")
    return [polars.from_pandas(part) for part in parts(frame)]


def iterator(frame, folder):
    return iter(parts(frame))


def iterator_of_arrow(frame, folder):
    return (pa.Table.from_pandas(part) for part in parts(frame))


def function(frame, folder):
    def tables():
        yield from parts(frame)

    return tables


def application(frame, folder):
    return functools.partial(iter, parts(frame))


KINDS = [
    *(parquet_file, parquet_folder, parquet_pattern, feather_folder, dataset, filtered_dataset, dataset_in_memory),
    *(reader, lazy_frame, relation, dask_frame, list_of_pandas, list_of_polars, iterator, iterator_of_arrow),
    *(function, application),
]


def assert_rows(found: list[pd.DataFrame], expected: pd.DataFrame) -> None:
    """The same values; of levels the same values, in the order of the categories if these were declared."""
    assert [list(frame.columns) for frame in found] == [list(expected.columns)] * len(found)
    assert sum(map(len, found)) == len(expected)
    for name in expected:
        values = expected[name].reset_index(drop=True)
        if values.dtype.kind in "iufbM":
            np.testing.assert_array_equal(np.concatenate([frame[name].to_numpy() for frame in found]), values)
            continue
        assert all(isinstance(frame[name].dtype, pd.CategoricalDtype) for frame in found)
        got = np.concatenate([frame[name].to_numpy(dtype=object) for frame in found])
        wanted = values.to_numpy(dtype=object)
        missing = pd.isna(wanted)
        np.testing.assert_array_equal(pd.isna(got), missing)
        assert got[~missing].tolist() == wanted[~missing].tolist()


@pytest.mark.parametrize("most", [None, 100, 1])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_all_rows_come_in_both_passes(kind, most, tmp_path: Path) -> None:
    expected = rows(N if most != 1 else 30)
    given = kind(expected, tmp_path)
    assert is_source(given)
    source = open_source(given)
    assert set(expected.columns) <= set(source.columns)
    columns = ["word", "y", "whole", "place", "yes", "small", "day", "short"]
    data = checked(source, columns, most)
    for _ in range(2):
        found = list(data.chunks())
        assert_rows(found, expected[columns])
        assert most is None or max(map(len, found)) <= most
    assert data.n == len(expected)
    assert data.passes == 2
    assert "word" in data.text
    assert "place" not in data.text
    # As polars has them in memory, too: it puts away the order of categories that are no Enum.
    if kind not in (lazy_frame, list_of_polars):
        assert [level for level in found[0]["place"].cat.categories if level != "a"] == ["c", "b"]


def test_chunks_can_begin_later(tmp_path: Path) -> None:
    frame = rows()
    for kind in (parquet_folder, function, list_of_pandas, dataset_in_memory):
        (folder := tmp_path / kind.__name__).mkdir()
        data = Checked(open_source(kind(frame, folder)), ["y", "word"], 90)
        whole = list(data.chunks())
        late = list(data.chunks(first=3))
        assert len(late) == len(whole) - 3
        for a, b in zip(late, whole[3:], strict=True):
            pd.testing.assert_frame_equal(a, b)


@pytest.mark.parametrize("kind", [parquet_file, parquet_folder, dask_frame])
def test_pieces_have_all_rows_in_other_processes_too(kind, tmp_path: Path) -> None:
    expected = rows()
    columns = ["y", "word", "place", "whole"]
    pieces = open_source(kind(expected, tmp_path)).pieces(columns)
    assert pieces
    found = [frame for piece in pieces for frame in pickle.loads(pickle.dumps(piece))()]
    assert_rows(found, expected[columns])


def test_missing_whole_numbers_and_answers_are_as_pandas_has_them() -> None:
    table = pa.table({"i": [1, None, 3], "b": [True, None, False], "g": ["a", None, "a"], "none": pa.nulls(3)})
    polars = pytest.importorskip("polars")
    nullable = pd.DataFrame({"i": pd.array([1, None, 3], "Int64"), "b": pd.array([True, None, False], "boolean")})
    nullable = nullable.assign(g=["a", None, "a"], none=None)
    for given in ([table], iter([table]), ds.dataset(table), [polars.from_arrow(table)], [nullable]):
        (chunk,) = checked(open_source(given), ["i", "b", "g", "none"]).chunks()
        np.testing.assert_array_equal(chunk["i"], [1.0, np.nan, 3.0])
        assert chunk["b"].tolist() == [True, None, False]
        assert chunk["g"].cat.codes.tolist() == [0, -1, 0]
        assert chunk["none"].isna().all()


def test_names_of_folders_are_columns_as_pandas_has_them(tmp_path: Path) -> None:
    frame = rows()
    frame.assign(year=2020 + frame["short"] % 3, town="t" + frame["whole"].astype(str)).to_parquet(
        tmp_path / "data", partition_cols=["year", "town"], index=False
    )
    expected = pd.read_parquet(tmp_path / "data")
    source = open_source(tmp_path / "data")
    (chunk,) = checked(source, ["y", "year", "town"]).chunks()
    np.testing.assert_array_equal(np.sort(chunk["y"]), np.sort(expected["y"]))
    for name in ("year", "town"):
        assert isinstance(expected[name].dtype, pd.CategoricalDtype)
        assert isinstance(chunk[name].dtype, pd.CategoricalDtype)
        assert chunk.groupby(name, observed=True)["y"].count().to_dict() == (
            expected.groupby(name, observed=True)["y"].count().to_dict()
        )
    assert sorted(chunk["year"].cat.categories) == [2020, 2021, 2022]


def test_a_cursor_of_a_database_is_read_in_the_thread_that_made_it(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "rows.db")
    frame = rows()[["y", "whole", "word"]]
    frame.to_sql("rows", connection, index=False)
    for given in (
        pd.read_sql("select * from rows", connection, chunksize=200),
        lambda: pd.read_sql("select * from rows", connection, chunksize=200),
    ):
        data = checked(open_source(given), ["y", "whole", "word"])
        for _ in range(2):
            assert_rows(list(data.chunks()), frame)
    connection.close()


def test_text_files_are_read_by_iterators_of_pandas(tmp_path: Path) -> None:
    frame = rows()[["y", "whole"]]
    frame.to_csv(tmp_path / "rows.csv", index=False)
    with pd.read_csv(tmp_path / "rows.csv", chunksize=170, float_precision="round_trip") as given:
        assert is_source(given)
        data = checked(open_source(given), ["y", "whole"])
        assert_rows(list(data.chunks()), frame)
        assert_rows(list(data.chunks()), frame)


def test_names_that_are_no_text_are_found_by_their_text() -> None:
    table = pd.DataFrame(np.arange(6.0).reshape(3, 2))
    source = open_source([table])
    assert source.columns == ("0", "1")
    (chunk,) = source.chunks(["1"])
    assert chunk["1"].tolist() == [1.0, 3.0, 5.0]


def test_decimals_are_numbers() -> None:
    duckdb = pytest.importorskip("duckdb")
    given = duckdb.sql("select sum(i)::decimal(18, 2) as d, sum(i) as s from range(10) t(i)")
    (chunk,) = checked(open_source(given), ["d", "s"]).chunks()
    assert chunk["d"].tolist() == chunk["s"].tolist() == [45.0]
    assert chunk["s"].dtype.kind in "iuf"


def test_tables_in_memory_are_none_and_nothing_is_loaded_to_see_that() -> None:
    polars = pytest.importorskip("polars")
    table = pa.table({"y": [1.0]})
    for data in (table.to_pandas(), table, polars.from_arrow(table), None, 1, "sleepstudy", "y ~ x", {"y": [1.0]}, []):
        assert not is_source(data)
    assert not is_source([{"y": 1.0}])
    assert not is_source(np.zeros((2, 2)))
    assert not is_source(table.to_pandas()["y"])
    assert not is_source(table.to_pandas().groupby("y"))
    assert not is_source(pd.DataFrame)
    code = (
        "import sys; from bayeslmm.sources.recognised import is_source; is_source('a.parquet'); "
        "print([m for m in ('pandas', 'pyarrow', 'polars', 'duckdb', 'dask') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_what_is_no_table_is_named_with_its_chunk() -> None:
    given = iter([pd.DataFrame({"y": [1.0]}), {"y": [2.0]}])
    with pytest.raises(DesignError, match=r"Chunk 1 of the list_iterator of tables is a dict, not a table"):
        list(checked(open_source(given), ["y"]).chunks())
    with pytest.raises(DesignError, match="returned a DataFrame, not an iterator"):
        list(checked(open_source(lambda: pd.DataFrame({"y": [1.0]})), ["y"]).chunks())
    with pytest.raises(DesignError, match="gave no table at all"):
        _ = open_source(iter([])).columns
    with pytest.raises(DesignError, match="gave no table at all"):
        _ = open_source(lambda: iter([])).columns


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("form", [list, tuple, iter, lambda tables: lambda: iter(tables)])
def test_none_among_tables_is_no_end(form, place) -> None:
    tables = [pd.DataFrame({"y": [1.0]}), pd.DataFrame({"y": [2.0]})]
    tables.insert(place, None)
    data = form(tables)
    assert is_source(data)
    with pytest.raises(DesignError, match=rf"Chunk {place} of the .* is None, not a table"):
        source = open_source(data)
        assert source.columns == ("y",)
        list(checked(source, ["y"]).chunks())


def test_an_empty_list_is_named_so() -> None:
    with pytest.raises(DesignError, match=r"data is an empty list, not a data frame\. Pass"):
        bl.Model("y ~ 1 + (1 | g)", [])
