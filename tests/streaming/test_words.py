"""What is said of arguments and folders of models that are read in chunks."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("pyarrow")

import bayeslmm as bl
from bayeslmm.errors import DesignError
from bayeslmm.sources import parquet as parquet_module
from bayeslmm.sources import protocol as protocol_module

FORMULA = "y ~ x + (1 | g)"


def rows(n: int = 240) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    g = rng.integers(0, 15, n)
    return pd.DataFrame({"y": rng.normal(size=15)[g] + rng.normal(size=n), "x": rng.normal(size=n), "g": g})


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of four row groups, each a piece."""
    monkeypatch.setattr(protocol_module, "MOST_ROWS", 60)
    monkeypatch.setattr(parquet_module, "PIECE_ROWS", 60)
    rows().to_parquet(tmp_path / "rows.parquet", row_group_size=60)
    return tmp_path / "rows.parquet"


def doubled(x: np.ndarray) -> np.ndarray:
    return 2.0 * x


def test_checkpoint_with_a_lambda(path: Path, tmp_path: Path) -> None:
    with pytest.raises(DesignError, match=r"'fn' of extra_namespace is <function .*lambda.*checkpoint=.* by def in"):
        bl.Model("y ~ fn(x) + (1 | g)", path, checkpoint=tmp_path / "kept", extra_namespace={"fn": lambda x: 2.0 * x})


def test_function_written_anew_under_its_name(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slope() -> float:
        model = bl.Model(
            "y ~ doubled(x) + (1 | g)",
            path,
            checkpoint=tmp_path / "kept",
            progress=False,
            extra_namespace={"doubled": doubled},
        )
        return float(model.fit().fixef().iloc[1])

    before = slope()

    def anew(x: np.ndarray) -> np.ndarray:
        return 6.0 * x

    monkeypatch.setattr(doubled, "__code__", anew.__code__)
    assert slope() == pytest.approx(before / 3.0, rel=1e-8)


def test_kept_sums_of_other_rows(path: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    bl.Model(FORMULA, path, checkpoint=kept, progress=False)
    times, size = path.stat(), path.stat().st_size
    # The same values in another order in the last pieces, written within one tick of the clock.
    data = rows()
    data.loc[120:, "y"] = data.loc[120:, "y"].to_numpy()[::-1]
    data.to_parquet(path, row_group_size=60)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_size == size
    files = sorted(kept.iterdir(), key=lambda file: file.stat().st_mtime_ns)
    for file in files[4:]:
        file.unlink()
    with pytest.raises(DesignError, match=r"4 of the sums came from the folder .*kept.*sums of other rows. Remove it"):
        bl.Model(FORMULA, path, checkpoint=kept, progress=False)


def test_update_with_a_table_leaves_out_what_is_about_chunks(path: Path) -> None:
    model = bl.Model(FORMULA, path, progress=False, memory="1 GB", n_jobs=1)
    changed = model.update(data=rows()[:200])
    assert changed.fit().criterion == pytest.approx(bl.Model(FORMULA, rows()[:200]).fit().criterion, rel=1e-12)
    assert model.fit().update(data=rows()[:200]).n == 200
    with pytest.raises(DesignError, match="progress= is about rows that are read in chunks"):
        model.update(data=rows(), progress=True)


def test_counts_of_one_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol_module, "MOST_ROWS", 120)
    data = rows().assign(k=1.0)
    data.loc[[5, 200], "k"] = -1.0
    chunks = [data[:120], data[120:]]
    with pytest.raises(DesignError, match=r"1 value\(s\) of frequency are no counts .*In this chunk of 120 rows"):
        bl.Model(FORMULA, chunks, frequency="k", progress=False)
