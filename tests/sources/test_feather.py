"""Folders of Feather files whose columns differ in type, and dictionaries with a missing value among their levels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

pa = pytest.importorskip("pyarrow")
ds = pytest.importorskip("pyarrow.dataset")
feather = pytest.importorskip("pyarrow.feather")

from bayeslmm.errors import DesignError  # noqa: E402
from bayeslmm.sources import checked, open_source  # noqa: E402


def folder(place: Path, *tables: Any) -> str:
    for number, table in enumerate(tables):
        table = table if isinstance(table, pa.Table) else pa.table(table)
        feather.write_feather(table, place / f"{number}.feather")
    return str(place)


def values(data: Any, name: str) -> list[Any]:
    """Of two passes, which agree."""
    source = checked(open_source(data), [name])
    found = [[v for chunk in source.chunks() for v in chunk[name].astype(object)] for _ in range(2)]
    assert [str(v) for v in found[0]] == [str(v) for v in found[1]]
    return [None if pd.isna(v) else v for v in found[0]]


def test_a_file_without_a_column_is_named(tmp_path: Path) -> None:
    data = folder(tmp_path, {"y": [1.0], "x": [2.0]}, {"y": [3.0]})
    with pytest.raises(DesignError, match=r"The file '.*1\.feather' of feather folder .* has no column 'x'"):
        values(data, "x")
    assert values(data, "y") == [1.0, 3.0]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (np.array([0.5, 2.0], dtype=np.float32), np.array([1 / 3, 1e300])),
        (np.array([1 / 3, 1e300]), np.array([0.5, 2.0], dtype=np.float32)),
        (np.array([1, 2], dtype=np.int8), np.array([3, 2**40])),
        (np.array([1, 2], dtype=np.int8), np.array([0.25, 1.5])),
    ],
)
@pytest.mark.parametrize("as_dataset", [False, True])
def test_numbers_of_other_width_keep_their_digits(tmp_path: Path, first: Any, second: Any, as_dataset: bool) -> None:
    data: Any = folder(tmp_path, {"x": first}, {"x": second})
    if as_dataset:
        data = ds.dataset(data, format="feather")
    assert values(data, "x") == [*first.tolist(), *second.tolist()]


def test_dictionaries_of_other_width(tmp_path: Path) -> None:
    few, many = ["a", "b"], [str(k) for k in range(300)]
    tables = [pa.table(pd.DataFrame({"f": pd.Categorical(levels, categories=levels)})) for levels in (few, many)]
    assert [str(table.schema.field("f").type.index_type) for table in tables] == ["int8", "int16"]
    assert values(folder(tmp_path, *tables), "f") == few + many
    texts = pa.table({"f": pa.array(["c", None])})
    assert values(folder(tmp_path, tables[1], texts, tables[0]), "f") == [*many, "c", None, *few]


def test_text_and_numbers_do_not_go_together(tmp_path: Path) -> None:
    data = folder(tmp_path, {"x": [1.0]}, {"x": ["1.0"]})
    with pytest.raises(DesignError, match=r"do not go together: double in '.*0.feather'; string in '.*1.feather'"):
        values(data, "x")


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    data = folder(tmp_path, {"x": [1.0]}, {"x": [2.0]})
    (tmp_path / "1.feather").write_bytes(b"no rows")
    with pytest.raises(DesignError, match=r"1\.feather' cannot be read as an Arrow file"):
        values(data, "x")


def with_null(indices: list[int | None], levels: list[str | None], ordered: bool = False) -> Any:
    return pa.DictionaryArray.from_arrays(pa.array(indices, pa.int8()), pa.array(levels), ordered=ordered)


@pytest.mark.parametrize("ordered", [False, True])
def test_a_missing_value_among_levels_is_missing(tmp_path: Path, ordered: bool) -> None:
    one, two = with_null([2, 1, None, 0], ["b", None, "a"], ordered), with_null([0, 1, 2], [None, "b", "a"], ordered)
    tables = [pa.table({"f": one}), pa.table({"f": two})]
    expected = ["a", None, None, "b", None, "b", "a"]
    assert values(tables, "f") == expected
    assert values(folder(tmp_path, *tables), "f") == expected
    joint = pa.Table.from_batches([batch for table in tables for batch in table.to_batches()])
    assert values([joint], "f") == expected
    for chunk in open_source([joint]).chunks(["f"]):
        assert list(chunk["f"].cat.categories) == ["b", "a"]
        assert chunk["f"].cat.ordered == ordered
