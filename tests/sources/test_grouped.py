"""Cells by one GROUP BY, beside sums of squares that are written out."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pa = pytest.importorskip("pyarrow")
ds = pytest.importorskip("pyarrow.dataset")

from bayeslmm.errors import DesignError  # noqa: E402
from bayeslmm.sources import grouped as grouped_module  # noqa: E402
from bayeslmm.sources import open_source, text_columns  # noqa: E402

KEYS = ["g", "day", "yes"]


def rows(offset: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    n = 400
    frame = pd.DataFrame({"y": offset + rng.normal(size=n), "day": rng.integers(0, 4, n), "yes": rng.random(n) > 0.5})
    frame["g"] = np.array(["a", "b", "c", None], dtype=object)[rng.integers(0, 4, n)]
    frame.loc[rng.random(n) < 0.1, "y"] = np.nan
    frame.loc[frame["day"] == 3, "y"] = np.nan
    return frame


def parquet(frame, folder):
    frame.to_parquet(folder / "rows.parquet", row_group_size=60)
    return folder / "rows.parquet"


def parquet_folder(frame, folder):
    (folder / "many").mkdir()
    frame[:100].to_parquet(folder / "many" / "a.parquet")
    frame[100:].iloc[:, ::-1].to_parquet(folder / "many" / "b.parquet")
    return folder / "many"


def lazy_frame(frame, folder):
    return pytest.importorskip("polars").from_pandas(frame).lazy()


def relation(frame, folder):
    return pytest.importorskip("duckdb").from_df(frame)


def filtered(frame, folder):
    return ds.dataset(parquet(frame, folder)).filter(ds.field("day") >= 0)


def iterator(frame, folder):
    return (frame[start : start + 7] for start in range(0, len(frame), 7))


def dask_frame(frame, folder):
    return pytest.importorskip("dask.dataframe").from_pandas(frame, npartitions=3)


KINDS = [parquet, parquet_folder, lazy_frame, relation, filtered, iterator, dask_frame]


def by_hand(frame: pd.DataFrame) -> dict:
    """Cells by exact arithmetic on the numbers as they are."""
    cells: dict = {}
    for y, *key in frame[["y", *KEYS]].itertuples(index=False):
        key = tuple(None if value is None or value != value else value for value in key)
        cells.setdefault(key, []).append(y)
    found = {}
    for key, values in cells.items():
        known = [Fraction(y) for y in values if y == y]
        mean = sum(known) / len(known) if known else None
        found[key] = (len(known), len(values) - len(known), mean, sum(((y - mean) ** 2 for y in known), Fraction(0)))
    return found


@pytest.mark.parametrize("offset", [0.0, 1e9])
@pytest.mark.parametrize("shift", [None, 1e9 + 0.25])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_cells_have_their_counts_means_and_squares(
    kind, shift, offset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Parts of cells are put together often.
    monkeypatch.setattr(grouped_module, "_LEAST", 30)
    frame = rows(offset)
    expected = by_hand(frame)
    table = open_source(kind(frame, tmp_path)).group_by(KEYS, "y", shift)
    assert list(table.columns) == [*KEYS, "n", "n_missing", "mean", "ss"]
    assert text_columns(table) == {"g"}
    assert len(table) == len(expected)
    eps = np.finfo(float).eps
    # What was taken off leaves an error of its own size in no more than each value.
    size = max(10.0, abs((shift or offset) - offset))
    for g, day, yes, n, missing, mean, ss in table.itertuples(index=False):
        wanted = expected[(None if pd.isna(g) else g, day, yes)]
        assert (n, missing) == wanted[:2]
        if n == 0:
            assert np.isnan(mean)
            assert ss == 0
            continue
        exact = float(wanted[2] - Fraction(shift or 0.0))
        near = eps * abs(exact) if shift is None else 0.0
        assert abs(mean - exact) <= 20 * (eps * size + near)
        assert abs(ss - float(wanted[3])) <= 50 * eps * size * n * size


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_all_rows_are_one_cell_without_keys(kind, tmp_path: Path) -> None:
    frame = rows()
    y = frame["y"].dropna()
    table = open_source(kind(frame, tmp_path)).group_by([], "y")
    assert table[["n", "n_missing"]].to_numpy().tolist() == [[len(y), len(frame) - len(y)]]
    np.testing.assert_allclose(table[["mean", "ss"]].to_numpy()[0], [y.mean(), ((y - y.mean()) ** 2).sum()], rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_infinite_values_are_not_hidden(kind, tmp_path: Path) -> None:
    frame = pd.DataFrame({"y": [1.0, np.inf, 2.0], "g": ["a", "a", "b"], "day": 1})
    table = open_source(kind(frame, tmp_path)).group_by(["g"], "y")
    table = table.assign(g=table["g"].astype(str)).sort_values("g")
    assert not np.isfinite(table["mean"].iloc[0])
    assert table["mean"].iloc[1] == 2.0


def test_categories_keep_their_order(tmp_path: Path) -> None:
    frame = rows()
    frame["g"] = pd.Categorical(frame["g"], categories=["c", "a", "b"])
    table = open_source(parquet(frame, tmp_path)).group_by(["g"], "y")
    assert table["g"].cat.categories.tolist() == ["c", "a", "b"]
    assert text_columns(table) == frozenset()
    assert table.set_index("g")["n"].to_dict() == frame.groupby("g", dropna=False, observed=True)["y"].count().to_dict()


def test_names_that_cells_have_themselves(tmp_path: Path) -> None:
    source = open_source([pd.DataFrame({"y": [1.0], "n": [1]})])
    with pytest.raises(DesignError, match="'n' has the name of a number of cells"):
        source.group_by(["n"], "y")
    with pytest.raises(DesignError, match="'y' is summed within cells"):
        source.group_by(["y"], "y")


def test_names_with_signs(tmp_path: Path) -> None:
    frame = pd.DataFrame({'the "y"': [1.0, 2.0], "a, b": ["x", "x"]})
    for kind in KINDS[:4]:
        table = open_source(kind(frame, tmp_path)).group_by(["a, b"], 'the "y"')
        assert table[["n", "mean", "ss"]].to_numpy().tolist() == [[2.0, 1.5, 0.5]]
