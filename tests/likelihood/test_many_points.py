"""Many points at once, levels taken together: eliminations against exact arithmetic and dense matrices."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.likelihood import evaluate, factor, small

Exact = list[list[Fraction]]


def product(a: Exact, b: Exact) -> Exact:
    return [[a[i][0] * b[0][j] + a[i][1] * b[1][j] for j in range(2)] for i in range(2)]


def exact(R: np.ndarray, T: np.ndarray) -> tuple[Fraction, Fraction, Fraction, Fraction]:
    """Entries of the inverse of I + R T T' R', and its determinant."""
    F = product(*([[Fraction(float(v)) for v in row] for row in a] for a in (R, T)))
    a = 1 + F[0][0] ** 2 + F[0][1] ** 2
    d = 1 + F[1][0] ** 2 + F[1][1] ** 2
    b = F[0][0] * F[1][0] + F[0][1] * F[1][1]
    det = a * d - b * b
    return d / det, -b / det, a / det, det


@pytest.mark.parametrize("size", [1e-8, 1.0, 1e4, 1e8])
@pytest.mark.parametrize("rank", [1, 2])
def test_inverses_beside_the_identity_have_their_digits_at_any_size(size, rank):
    rng = np.random.default_rng(1)
    R = np.triu(rng.integers(1, 9, size=(3, 2, 2))).astype(float)
    T = np.tril(rng.integers(1, 9, size=(4, 2, 2))) * size
    if rank == 1:
        T[:, 1, 1] = 0.0
    first, across, second, log_det = small.inverse_beside_identity(R, T)
    for k in range(4):
        for u in range(3):
            a, b, d, det = exact(R[u], T[k])
            assert first[k, u] == pytest.approx(float(a), rel=1e-13)
            assert across[k, u] == pytest.approx(float(b), rel=1e-13)
            assert second[k, u] == pytest.approx(float(d), rel=1e-13)
            assert np.exp(log_det[k, u]) == pytest.approx(float(det), rel=1e-12)


@pytest.mark.parametrize("together", [1, 3, 1000])
def test_points_are_what_dense_matrices_say_however_many_at_once(monkeypatch, together):
    rng = np.random.default_rng(2)
    x = np.tile([0.0, 1.0, 2.0, 4.0], 12)
    g = np.repeat(np.arange(12), 4)
    frame = pd.DataFrame({"y": rng.normal(size=48) + 0.3 * x, "x": x, "g": g})
    fit = bl.Model("y ~ x + (x | g)", frame.iloc[:-1]).fit()
    cp, design = fit.cp, fit.design
    assert cp.levels.moments is not None
    monkeypatch.setattr(factor, "_CACHED", 0)
    monkeypatch.setattr(factor, "_FEWEST_TOGETHER", together)
    T = np.tril(rng.normal(size=(8, 2, 2)))
    T[0, 1, 1] = T[1, 0, 0] = 0.0
    found = evaluate(cp, [T])
    # The internal columns of the term are the user's times a matrix.
    block = cp.blocks[0]
    for k in range(8):
        user = np.linalg.solve(block.inverse_basis, T[k])
        Z = np.zeros((design.n, 24))
        for j in range(2):
            Z[np.arange(design.n), 2 * design.groupings["g"].codes + j] = design.terms[0].Z[:, j]
        V = np.eye(design.n) + Z @ np.kron(np.eye(12), user @ user.T) @ Z.T
        P = np.linalg.inv(V)
        assert found.log_det[k] == pytest.approx(np.linalg.slogdet(V)[1], rel=1e-11)
        X, y = design.X, design.y
        r = y - X @ np.linalg.solve(X.T @ P @ X, X.T @ P @ y)
        assert found.r2[k] == pytest.approx(r @ P @ r, rel=1e-10)
