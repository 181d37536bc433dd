"""Chunks of a coverage study that were changed, exchanged or replaced: computed again, or refused in words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm import StorageError

CELLS = [bl.Cell("balanced", 5, 2, 0.3), bl.Cell("balanced", 6, 2, 0.3)]


def study(folder: Path) -> pd.DataFrame:
    return bl.coverage_study(CELLS, 20, random_seed=3, store=folder).table


def rewritten(path: Path, change: Callable[[dict[str, np.ndarray]], Any]) -> None:
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    change(arrays)
    np.savez(path, **arrays)


def flipped(a: dict[str, np.ndarray]) -> None:
    a["outcome"][0, 0] = 1 - abs(a["outcome"][0, 0])


CHANGES: dict[str, Callable[[dict[str, np.ndarray]], Any]] = {
    "an outcome": flipped,
    "a width": lambda a: a["width"].__setitem__((0, 0), a["width"][0, 0] * (1 + 1e-15) + 1e-15),
    "a flag": lambda a: a.update(singular=~a["singular"]),
    "no checksum, outcomes of 7": lambda a: (a.pop("sha256"), a["outcome"].fill(7)),
    "no checksum, NaN": lambda a: (a.pop("sha256"), a["width"].fill(np.nan)),
    "no checksum, negative": lambda a: (a.pop("sha256"), a["width"].fill(-1.0)),
    "other shapes": lambda a: a.update(outcome=a["outcome"][:, :3]),
    "other types": lambda a: a.update(outcome=a["outcome"].astype(float)),
    "objects of text": lambda a: a.update(outcome=a["outcome"].astype(str)),
    "without widths": lambda a: a.pop("width"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changed_chunks_are_computed_again(name: str, tmp_path: Path) -> None:
    first = study(tmp_path)
    for chunk in tmp_path.glob("*.npz"):
        rewritten(chunk, CHANGES[name])
    pd.testing.assert_frame_equal(study(tmp_path), first, check_exact=True)
    # and kept as they should be
    pd.testing.assert_frame_equal(study(tmp_path), first, check_exact=True)


def test_chunks_of_other_cells_are_not_taken(tmp_path: Path) -> None:
    first = study(tmp_path)
    one, two = sorted(tmp_path.glob("*.npz"))
    content = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(content)
    pd.testing.assert_frame_equal(study(tmp_path), first, check_exact=True)


def test_stores_of_earlier_versions_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = study(tmp_path)
    for chunk in tmp_path.glob("*.npz"):
        rewritten(chunk, lambda a: a.pop("sha256"))

    def no_work(*_: Any) -> Any:
        raise AssertionError("it was computed again")

    monkeypatch.setattr("studies.coverage.run.run_chunk", no_work)
    pd.testing.assert_frame_equal(study(tmp_path), first, check_exact=True)


def test_folders_in_place_of_files(tmp_path: Path) -> None:
    study(tmp_path)
    chunk = next(tmp_path.glob("*.npz"))
    chunk.unlink()
    chunk.mkdir()
    with pytest.raises(StorageError, match="is a folder where a chunk"):
        study(tmp_path)
    chunk.rmdir()
    (tmp_path / "study.json").unlink()
    (tmp_path / "study.json").mkdir()
    with pytest.raises(StorageError, match=r"study\.json is damaged .* Give another folder"):
        study(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"null", b"[1]", b"3", b"\xff\xfe", b"[" * 50_000, b'{"a": ' * 10_000])
def test_damaged_settings(content: bytes, tmp_path: Path) -> None:
    study(tmp_path)
    (tmp_path / "study.json").write_bytes(content)
    with pytest.raises(StorageError, match=r"study\.json is damaged .* Give another folder"):
        study(tmp_path)


def test_settings_of_many_bytes(tmp_path: Path) -> None:
    study(tmp_path)
    with open(tmp_path / "study.json", "r+b") as file:
        file.truncate(10**11)
    with pytest.raises(StorageError, match="too large"):
        study(tmp_path)
