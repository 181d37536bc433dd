"""Sums over the cells that occur, compiled and not, against dense matrices."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from bayeslmm.likelihood import kernels


@pytest.mark.parametrize("c", [1, 2, 3])
@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "not compiled"])
def test_what_levels_explain_with_weights_of_every_column(
    compiled: bool, c: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if compiled:
        pytest.importorskip("numba")
    else:
        monkeypatch.setattr(kernels, "_compiled", lambda: None)
    rng = np.random.default_rng(0)
    there = rng.uniform(size=(9, 7)) < 0.4
    there[3] = False
    pattern = sparse.csr_array(there.astype(float))
    values = rng.normal(size=(pattern.nnz, c))
    cells = kernels.Cells(pattern.indptr.astype(np.int64), pattern.indices.astype(np.int64), 7, values)
    V = np.zeros((9, c, 7))
    levels, columns = np.nonzero(there)
    V[levels, :, columns] = values
    roots = rng.normal(size=(9, 5, c, c))
    W = roots @ np.swapaxes(roots, -1, -2)
    packed = np.stack([W[..., a, b] for a in range(c) for b in range(a + 1)])
    right, out = rng.normal(size=(7, 5)), rng.normal(size=(7, 5))
    expected = [out[:, k] + sum(V[j].T @ W[j, k] @ V[j] @ right[:, k] for j in range(9)) for k in range(5)]
    kernels.explain_each(cells, packed, right, out)
    np.testing.assert_allclose(out, np.transpose(expected), rtol=1e-12, atol=1e-13)
