"""Arrays of extra_namespace as terms of a formula: vectors and matrices are columns like those of the data."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl

DATA = pd.DataFrame({"y": np.sin(np.arange(24.0) ** 2), "x": np.arange(24.0) % 5, "g": np.arange(24) // 4})
MATRIX = np.column_stack([DATA["x"], DATA["x"] ** 2])


@pytest.mark.parametrize("term", ["M", "I(M)"])
def test_a_matrix_is_its_columns(term: str) -> None:
    fit = bl.Model(f"y ~ {term} + (1 | g)", DATA, extra_namespace={"M": MATRIX}).fit()
    by_hand = bl.Model("y ~ x + I(x**2) + (1 | g)", DATA).fit()
    assert list(fit.fixef().index) == ["Intercept", f"{term}[1]", f"{term}[2]"]
    np.testing.assert_allclose(fit.fixef(), by_hand.fixef(), rtol=1e-9)
    assert fit.criterion == pytest.approx(by_hand.criterion, rel=1e-12)
    with pytest.raises(bl.DesignError, match="48 value"):
        fit.predict(DATA.iloc[:3])


def test_a_vector_is_a_column() -> None:
    fit = bl.Model("y ~ v * x + (v | g)", DATA, extra_namespace={"v": MATRIX[:, 1]}).fit()
    by_hand = bl.Model("y ~ v * x + (v | g)", DATA.assign(v=MATRIX[:, 1])).fit()
    np.testing.assert_allclose(fit.fixef(), by_hand.fixef(), rtol=1e-12)


def test_cells_with_arrays_are_refused_in_words() -> None:
    with pytest.raises(bl.DesignError, match="ndarray in each cell"):
        bl.Model("y ~ M + (1 | g)", DATA.assign(M=list(MATRIX)))
