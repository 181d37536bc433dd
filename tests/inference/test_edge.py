"""Slope of the criterion at a zero variance and principal components, against dense matrices."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.inference.components import principal_components
from bayeslmm.inference.edge import slope_at_zero


def dense_slope(model: bl.Model, term: int, reml: bool) -> float:
    """tr(Z'PZ) - |Z'Py|^2 / sigma^2 with the other terms at the optimum without this one, n x n matrices throughout."""
    design = model.design
    zero = {design.terms[term].label: [0.0]}
    fit = model.fit(reml=reml, fix=zero)
    weights = np.ones(design.n) if design.weights is None else design.weights
    V = np.diag(1.0 / weights)
    blocks = []
    for i, t in enumerate(design.terms):
        J = design.groupings[t.group].n_levels
        one_hot = np.eye(J)[design.groupings[t.group].codes]
        Z = (one_hot[:, :, None] * t.Z[:, None, :]).reshape(design.n, -1)
        blocks.append(Z)
        G = fit.optimum.terms[i] @ fit.optimum.terms[i].T
        V = V + Z @ np.kron(np.eye(J), G) @ Z.T
    inverse = np.linalg.inv(V)
    X = design.X
    P = inverse - inverse @ X @ np.linalg.solve(X.T @ inverse @ X, X.T @ inverse)
    # The models have an intercept; a large constant would cost the dense arithmetic its digits.
    y = design.y - design.y.mean()
    nu = design.n - (design.p if reml else 0)
    own = blocks[term]
    trace = np.trace(own.T @ (P if reml else inverse) @ own)
    return float(trace - ((own.T @ P @ y) ** 2).sum() / (y @ P @ y / nu))


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize(
    ("formula", "name", "term"),
    [
        ("Yield ~ 1 + (1 | Batch)", "Dyestuff2", 0),
        ("Yield ~ 1 + (1 | Batch)", "Dyestuff", 0),
        ("diameter ~ 1 + (1 | plate) + (1 | sample)", "Penicillin", 1),
        ("strength ~ 1 + (1 | batch/cask)", "Pastes", 1),
    ],
)
def test_slope_at_zero(formula: str, name: str, term: int, reml: bool) -> None:
    model = bl.Model(formula, bl.load_dataset(name))
    assert slope_at_zero(model.cross_products, term, reml) == pytest.approx(dense_slope(model, term, reml), rel=1e-7)


def test_slope_at_zero_with_weights_and_far_from_zero() -> None:
    rng = np.random.default_rng(4)
    frame = pd.DataFrame({"g": rng.integers(0, 7, 40), "w": rng.uniform(0.5, 3.0, 40), "x": rng.normal(size=40)})
    frame["y"] = 1e6 + 3.0 * rng.normal(size=40)
    model = bl.Model("y ~ x + (1 | g)", frame, weights="w")
    assert slope_at_zero(model.cross_products, 0) == pytest.approx(dense_slope(model, 0, True), rel=1e-6)


def test_components_are_eigenvectors_of_what_the_effects_add() -> None:
    fit = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()
    own = principal_components(fit.design, fit.optimum.terms, fit.sigma)[0]
    table = fit.varcorr()
    G = np.diag(table["vcov"].iloc[:2]) + np.array([[0, 1], [1, 0]]) * table["vcov"].iloc[2]
    size = np.sqrt((fit.design.terms[0].Z ** 2).mean(axis=0))
    values, vectors = np.linalg.eigh(size[:, None] * G * size)
    np.testing.assert_allclose(own.sd**2, values[::-1], rtol=1e-10)
    np.testing.assert_allclose(np.abs(own.loadings), np.abs(vectors[:, ::-1]), rtol=1e-8)
    assert own.rank == 2


def test_components_do_not_depend_on_units_of_a_predictor() -> None:
    frame = bl.load_dataset("sleepstudy").assign(Hours=lambda d: 24.0 * d["Days"])
    one = bl.Model("Reaction ~ Days + (Days | Subject)", frame).fit()
    other = bl.Model("Reaction ~ Hours + (Hours | Subject)", frame).fit()
    a, b = (principal_components(f.design, f.optimum.terms, f.sigma)[0] for f in (one, other))
    np.testing.assert_allclose(a.sd, b.sd, rtol=1e-7)
    np.testing.assert_allclose(a.loadings, b.loadings, atol=1e-6)


def test_a_singular_term_has_a_component_without_variance() -> None:
    # Slopes of the groups proportional to their intercepts, and residuals that add nothing to either.
    x = np.arange(8.0)
    residual = np.array([1, -2, 1, 0, 0, -1, 2, -1.0])
    residual -= np.polynomial.Polynomial.fit(x, residual, 1)(x)
    level = np.array([-5.0, -2, 0, 1, 2, 4])
    frame = pd.DataFrame({"g": np.repeat(np.arange(6), 8), "x": np.tile(x, 6)})
    frame["y"] = np.add.outer(level, residual).ravel() + np.outer(0.3 * level, x).ravel()
    fit = bl.Model("y ~ x + (x | g)", frame).fit()
    assert fit.is_singular
    own = principal_components(fit.design, fit.optimum.terms, fit.sigma)[0]
    assert own.rank == 1
    assert own.share[-1] < 1e-12
