"""A damaged store of a coverage study: chunks are computed again, settings that cannot be read are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.errors import StorageError


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"hello", "half", "other"])
def test_damaged_chunks_are_computed_again(content: bytes | str, tmp_path: Path) -> None:
    first = bl.coverage_study([bl.Cell("balanced", 5, 2, 0.3)], 20, random_seed=3, store=tmp_path)
    chunk = next(tmp_path.glob("*.npz"))
    good = chunk.read_bytes()
    if content == "other":
        np.savez(chunk, outcome=np.zeros(3), width=np.zeros(3), singular=np.zeros(3))
    else:
        chunk.write_bytes(good[: len(good) // 2] if isinstance(content, str) else content)
    again = bl.coverage_study([bl.Cell("balanced", 5, 2, 0.3)], 20, random_seed=3, store=tmp_path)
    pd.testing.assert_frame_equal(again.table, first.table)
    for settings in (b"", b"[1]", b"\xff\xfe", b"[" * 10**5):
        (tmp_path / "study.json").write_bytes(settings)
        with pytest.raises(StorageError, match="damaged"):
            bl.coverage_study([bl.Cell("balanced", 5, 2, 0.3)], 20, random_seed=3, store=tmp_path)
