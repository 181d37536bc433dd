"""Grouping factors of integers that doubles do not hold: every level stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import bayeslmm as bl
from bayeslmm.sources import protocol as protocol_module

FORMULA = "y ~ 1 + (1 | u)"

LEVELS = 8
ROWS = 160
CODES = np.arange(ROWS) % LEVELS
Y = np.random.default_rng(3).normal(size=ROWS) + CODES


def ids(first: int, step: int, missing: tuple[int, ...] = ()) -> list[int | None]:
    return [None if row in missing else first + step * int(code) for row, code in enumerate(CODES)]


def levels_of(data: Any) -> list[int]:
    model = bl.Model(FORMULA, data) if _in_memory(data) else bl.Model(FORMULA, data, progress=False)
    return [int(level) for level in model.fit().ranef()["u"].index]


def _in_memory(data: Any) -> bool:
    return isinstance(data, pd.DataFrame | pl.DataFrame | pa.Table)


def _forms(values: list[int | None], kind: Any, folder: Path) -> dict[str, Any]:
    table = pa.table({"y": Y, "u": pa.array(values, type=kind)})
    pq.write_table(table, folder / "rows.parquet", row_group_size=40)
    dtype = "UInt64" if pa.types.is_uint64(kind) else "Int64"
    frame = pd.DataFrame({"y": Y, "u": pd.array(values, dtype=dtype)})
    return {
        "pyarrow": table,
        "pandas": frame,
        "parquet": str(folder / "rows.parquet"),
        "batches": [table.slice(start, 40) for start in range(0, ROWS, 40)],
        "LazyFrame": pl.DataFrame({"y": Y, "u": pl.Series(values, dtype=getattr(pl, dtype))}).lazy(),
        "frames": [frame.iloc[start : start + 40] for start in range(0, ROWS, 40)],
    }


@pytest.fixture(params=[40, 1_000], autouse=True)
def most(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of a chunk: parts read by themselves, and joined."""
    monkeypatch.setattr(protocol_module, "MOST_ROWS", request.param)


@pytest.mark.parametrize("form", ["pyarrow", "pandas", "parquet", "batches", "LazyFrame", "frames"])
@pytest.mark.parametrize(
    ("kind", "first", "step", "missing"),
    [
        (pa.int64(), 2**60, 64, (130,)),
        (pa.int64(), -(2**60), 1, (0, 130)),
        (pa.uint64(), 2**63, 5, ()),
        (pa.uint64(), 2**63, 5, (3,)),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_every_level_stays(
    tmp_path: Path, form: str, kind: Any, first: int, step: int, missing: tuple[int, ...]
) -> None:
    data = _forms(ids(first, step, missing), kind, tmp_path)[form]
    assert sorted(levels_of(data)) == [first + step * code for code in range(LEVELS)]


@pytest.mark.filterwarnings("ignore")
def test_small_chunk_with_a_missing_one_beside_large_ones() -> None:
    small = pd.DataFrame({"y": Y[:40], "u": pd.array([None, *CODES[1:40]], dtype="Int64")})
    large = pd.DataFrame({"y": Y[40:], "u": 2**60 + CODES[40:]})
    expected = [*range(LEVELS), *(2**60 + code for code in range(LEVELS))]
    assert levels_of([small, large]) == expected
    assert levels_of([large, small]) == expected
