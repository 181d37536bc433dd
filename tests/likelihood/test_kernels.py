"""Sums over the cells that occur, compiled and not, against dense matrices."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from bayeslmm.likelihood import kernels


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "not compiled"])
def test_what_levels_explain_with_weights_of_every_column(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if compiled:
        pytest.importorskip("numba")
    else:
        monkeypatch.setattr(kernels, "_compiled", lambda: None)
    rng = np.random.default_rng(0)
    dense = rng.normal(size=(9, 7)) * (rng.uniform(size=(9, 7)) < 0.4)
    dense[3] = 0.0
    table = sparse.csr_array(dense)
    starts, columns = table.indptr.astype(np.int64), table.indices.astype(np.int64)
    cells = kernels.Cells(starts, columns, 7, table.data[:, None])
    weights, right, out = rng.uniform(size=(9, 5)), rng.normal(size=(7, 5)), rng.normal(size=(7, 5))
    expected = [out[:, k] + dense.T @ np.diag(weights[:, k]) @ dense @ right[:, k] for k in range(5)]
    kernels.explain_each(cells, weights, right, out)
    np.testing.assert_allclose(out, np.transpose(expected), rtol=1e-13, atol=1e-14)
