"""Rows of models with several factors eliminated, or kept as an operator: leverages as by dense algebra."""

from __future__ import annotations

import numpy as np
import pytest

import bayeslmm as bl

MODELS = {
    "nested": ("Pastes", "strength ~ 1 + (1 | batch/cask)"),
    "crossed": ("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)"),
}


@pytest.mark.parametrize("store", ["levels", "hierarchy", "packed", "anchored", "stochastic"])
@pytest.mark.parametrize("name", MODELS)
def test_leverages(name: str, store: str) -> None:
    data, formula = MODELS[name]
    fit = bl.Model(formula, bl.load_dataset(data), store=store).fit()  # type: ignore[arg-type]
    known = fit.matrices()
    X, V = np.asarray(known.X), np.asarray(known.V.toarray() if hasattr(known.V, "toarray") else known.V)
    R = fit.sigma**2 * np.eye(len(X))
    inverse = np.linalg.inv(V)
    P = inverse - inverse @ X @ np.linalg.solve(X.T @ inverse @ X, X.T @ inverse)
    # Fitted values are y - R P y.
    np.testing.assert_allclose(fit.leverage(), 1.0 - np.diagonal(R @ P), rtol=1e-8)
    assert np.isfinite(fit.cooks_distance()).all()
