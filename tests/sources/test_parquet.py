"""Files of parquet: sizes of chunks, files that do not go together, files that are none."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

from bayeslmm.errors import DesignError  # noqa: E402
from bayeslmm.sources import checked, open_source  # noqa: E402
from bayeslmm.sources import parquet as parquet_module  # noqa: E402
from bayeslmm.sources import protocol as protocol_module  # noqa: E402
from bayeslmm.sources.parquet import RowGroup, parts_of  # noqa: E402


@given(st.lists(st.integers(0, 350), max_size=40), st.integers(1, 120))
def test_parts_have_every_group_once_and_chunks_of_fair_sizes(sizes: list[int], most: int) -> None:
    groups = [RowGroup(0, number, rows) for number, rows in enumerate(sizes)]
    parts = parts_of(groups, most)
    assert [group for part in parts for group in part.groups] == [group for group in groups if group.rows]
    assert [part.first for part in parts] == [sum(p.chunks for p in parts[:k]) for k in range(len(parts))]
    rows = [sum(group.rows for group in part.groups) for part in parts]
    for size, part in zip(rows, parts, strict=True):
        assert part.chunks == max(1, -(-size // most))
        assert part.chunks == 1 or len(part.groups) == 1
    # What could have been joined was: two neighbours that are small have no place in one chunk.
    for (first, second), (a, b) in zip(pairwise(parts), pairwise(rows), strict=True):
        if first.chunks == second.chunks == 1 and a < most // 4:
            assert a + second.groups[0].rows > most or b > most


def test_large_groups_are_cut_and_small_ones_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol_module, "MOST_ROWS", 100)
    y = np.arange(1_000.0)
    pq.write_table(pa.table({"y": y[:250]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"y": y[250:500]}), tmp_path / "b.parquet", row_group_size=7)
    for number in range(500):
        pq.write_table(pa.table({"y": y[500 + number : 501 + number]}), tmp_path / f"c{number:03d}.parquet")
    source = open_source(tmp_path)
    assert source.n == 1_000
    chunks = list(source.chunks(["y"]))
    sizes = [len(chunk) for chunk in chunks]
    assert sizes[:3] == [84, 84, 82]
    assert max(sizes) <= 100
    assert min(sizes[:-1]) >= 25
    np.testing.assert_array_equal(np.concatenate([chunk["y"] for chunk in chunks]), y)
    for first in (1, 2, 3, 5, len(chunks), len(chunks) + 1):
        later = list(source.chunks(["y"], first))
        assert [chunk["y"].tolist() for chunk in later] == [chunk["y"].tolist() for chunk in chunks[first:]]
    monkeypatch.setattr(parquet_module, "PIECE_ROWS", 300)
    pieces = source.pieces(["y"])
    assert len(pieces) == 4
    np.testing.assert_array_equal(np.concatenate([chunk["y"] for piece in pieces for chunk in piece()]), y)


def test_types_of_files_are_joined_where_they_go_together(tmp_path: Path) -> None:
    pq.write_table(pa.table({"y": pa.array([1, 2], pa.int32()), "g": ["a", "b"]}), tmp_path / "0.parquet")
    large = pa.array([None, "b"], pa.large_string())
    pq.write_table(pa.table({"g": large, "more": [1, 1], "y": [2**40, 3]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"y": [0.5], "g": pa.array(["c"]).dictionary_encode()}), tmp_path / "2.parquet")
    pq.write_table(pa.table({"y": pa.nulls(1), "g": pa.nulls(1)}), tmp_path / "3.parquet")
    (chunk,) = checked(open_source(tmp_path), ["g", "y"]).chunks()
    np.testing.assert_array_equal(chunk["y"], [1.0, 2.0, 2.0**40, 3.0, 0.5, np.nan])
    assert chunk["g"].astype(object).where(chunk["g"].notna(), None).tolist() == ["a", "b", None, "b", "c", None]


def test_files_that_do_not_go_together_are_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"y": [1.0], "g": [1]}), tmp_path / "0.parquet")
    pq.write_table(pa.table({"y": [1.0], "g": ["a"]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"g": ["a"]}), tmp_path / "2.parquet")
    source = open_source(tmp_path)
    with pytest.raises(DesignError, match=r"'g' .* int64 in '.*0\.parquet'; string in '.*1\.parquet'"):
        list(source.chunks(["g"]))
    with pytest.raises(DesignError, match=r"file '.*2\.parquet' .* has no column 'y'"):
        list(source.chunks(["y"]))


def test_answers_and_numbers_do_not_go_together(tmp_path: Path) -> None:
    pq.write_table(pa.table({"y": [1.0]}), tmp_path / "0.parquet")
    pq.write_table(pa.table({"y": [True]}), tmp_path / "1.parquet")
    with pytest.raises(DesignError, match=r"double in .*; bool in"):
        list(open_source(tmp_path).chunks(["y"]))


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"y": np.arange(1_000.0)}), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DesignError, match=r"rows\.parquet.*cannot be read"):
        open_source(path)
    pq.write_table(pa.table({"y": [1.0]}), tmp_path / "a.parquet")
    with pytest.raises(DesignError, match=r"rows\.parquet.*cannot be read"):
        open_source(tmp_path)
    path.write_bytes(b"")
    with pytest.raises(DesignError, match=r"rows\.parquet.*cannot be read"):
        open_source(path)


def test_pages_that_are_damaged_are_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"y": np.arange(10_000.0)}), path, compression="snappy", use_dictionary=False)
    content = bytearray(path.read_bytes())
    content[4:2_000] = bytes(1_996)
    path.write_bytes(content)
    with pytest.raises(DesignError, match=r"parquet file '.*rows\.parquet'.* cannot be read"):
        list(checked(open_source(path), ["y"]).chunks())


def test_paths_without_rows_are_named_with_a_way_out(tmp_path: Path) -> None:
    pd.DataFrame({"y": [1.0]}).to_parquet(tmp_path / "ratings.parquet")
    with pytest.raises(DesignError, match=r"no file '.*rating\.parquet'; did you mean '.*ratings\.parquet'"):
        open_source(tmp_path / "rating.parquet")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.csv").write_text("y\n1\n")
    with pytest.raises(DesignError, match=r"no files that end in .parquet.*scan_csv"):
        open_source(tmp_path / "empty")
    with pytest.raises(DesignError, match=r"notes\.csv' does not end in"):
        open_source(str(tmp_path / "empty" / "*.csv"))
    pd.DataFrame({"y": [1.0]}).to_feather(tmp_path / "ratings.feather")
    with pytest.raises(DesignError, match="several formats"):
        open_source(tmp_path)


def test_files_of_programs_are_left_out(tmp_path: Path) -> None:
    pd.DataFrame({"y": [1.0]}).to_parquet(tmp_path / "part-0.parquet")
    pd.DataFrame({"z": [1.0]}).to_parquet(tmp_path / "_metadata.parquet")
    (tmp_path / "_SUCCESS").write_text("")
    (tmp_path / ".tmp").mkdir()
    pd.DataFrame({"z": [1.0]}).to_parquet(tmp_path / ".tmp" / "part-1.parquet")
    assert open_source(tmp_path).n == 1


def test_file_without_rows(tmp_path: Path) -> None:
    pd.DataFrame({"y": np.zeros(0)}).to_parquet(tmp_path / "none.parquet")
    source = open_source(tmp_path / "none.parquet")
    assert source.n == 0
    assert list(source.chunks(["y"])) == []
    with pytest.raises(DesignError, match="has no rows"):
        list(checked(source, ["y"]).chunks())
