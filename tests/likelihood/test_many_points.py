"""Many points at once, levels taken together: eliminations against exact arithmetic and dense matrices."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.likelihood import evaluate, factor, small
from bayeslmm.likelihood.conditional import user_beta

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
    assert cp.sums.moments is not None
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


def crossed(terms: str, tight: float = 1.0) -> bl.Fit:
    """Crossed factors, cells missing at random, so that no two levels are alike."""
    rng = np.random.default_rng(5)
    g, h = (v.ravel() for v in np.meshgrid(np.arange(9), np.arange(7), indexing="ij"))
    kept = rng.random(g.size) < 0.85
    frame = pd.DataFrame({"g": g, "h": h, "x": rng.normal(size=g.size), "w": rng.normal(size=g.size)})[kept]
    frame["y"] = frame["x"] + rng.normal(size=9)[frame["g"]] + 20.0 * rng.normal(size=7)[frame["h"]]
    frame["y"] += tight * rng.normal(size=len(frame))
    return bl.Model(f"y ~ x + {terms}", frame).fit()


def at_random(fit: bl.Fit, points: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Relative factors of every block at some points, singular ones first: internal ones, and on the user's columns."""
    rng = np.random.default_rng(3)
    internal = [rng.normal(size=(points, block.size, block.size)) for block in fit.cp.blocks]
    for T in internal:
        T[0], T[1, :, 0] = 0.0, 0.0
    return internal, [np.linalg.solve(b.inverse_basis, T) for b, T in zip(fit.cp.blocks, internal, strict=True)]


def dense(fit: bl.Fit, user: list[np.ndarray], k: int) -> tuple[np.ndarray, np.ndarray]:
    """V and the Cov(b, y), over sigma^2, of all effects block by block, level by level."""
    Z, cov = [], []
    for block, T in zip(fit.cp.blocks, user, strict=True):
        term = fit.design.terms[block.terms[0]]
        codes = fit.design.groupings[term.group].codes
        one = np.zeros((fit.design.n, block.n_levels, block.size))
        one[np.arange(fit.design.n), codes] = term.Z
        Z.append(one.reshape(fit.design.n, -1))
        cov.append(np.kron(np.eye(block.n_levels), T[k] @ T[k].T))
    gains = [c @ z.T for c, z in zip(cov, Z, strict=True)]
    return np.eye(fit.design.n) + sum(z @ a for z, a in zip(Z, gains, strict=True)), np.concatenate(gains)


TERMS = ["(x | g) + (x | h)", "(1 | g) + (x | h)", "(x + w | g) + (1 | h)", "(x + w | g)"]


@pytest.mark.parametrize("terms", TERMS)
@pytest.mark.parametrize("tight", [1.0, 1e-3])
def test_densities_at_many_points_are_those_of_dense_matrices(terms: str, tight: float) -> None:
    fit = crossed(terms, tight)
    internal, user = at_random(fit, 80)
    assert fit.cp.sums.pairs is not None or tight < 1.0
    found = fit.cp.sums.evaluate_many(internal)
    X, y = fit.design.X, fit.design.y
    for k in range(0, 80, 7):
        V, _ = dense(fit, user, k)
        A = X.T @ np.linalg.solve(V, X)
        r = y - X @ np.linalg.solve(A, X.T @ np.linalg.solve(V, y))
        assert found.log_det[k] == pytest.approx(np.linalg.slogdet(V)[1], rel=1e-11, abs=1e-12)
        assert found.log_det_fixed[k] == pytest.approx(np.linalg.slogdet(A)[1], rel=1e-10)
        assert found.r2[k] == pytest.approx(r @ np.linalg.solve(V, r), rel=1e-8)


@pytest.mark.parametrize("terms", TERMS)
def test_draws_at_many_points_have_the_conditional_moments(terms: str) -> None:
    """Of Gaussian variables: means and covariances given y, with beta integrated over a flat prior."""
    fit, size = crossed(terms), 40_000
    internal, user = at_random(fit, 3)
    again = [T[np.tile([2, 1], size // 2)] for T in internal]
    beta, b = fit.cp.sums.draw_jointly(again, None, np.full(size, 0.7), np.random.default_rng(1))
    own = [v @ block.basis.T for v, block in zip(b, fit.cp.blocks, strict=True)]
    drawn = np.concatenate([user_beta(fit.cp, beta), *(v.reshape(size, -1) for v in own)], axis=1)
    X, y = fit.design.X, fit.design.y
    for k, part in ((2, drawn[::2]), (1, drawn[1::2])):
        V, gain = dense(fit, user, k)
        inverse = np.linalg.inv(V)
        cov = np.linalg.inv(X.T @ inverse @ X)
        estimate = cov @ X.T @ inverse @ y
        mean = np.concatenate([estimate, gain @ inverse @ (y - X @ estimate)])
        lines = np.concatenate([np.eye(fit.design.p), -gain @ inverse @ X])
        prior = np.concatenate(
            [np.kron(np.eye(c.n_levels), T[k] @ T[k].T).diagonal() for c, T in zip(fit.cp.blocks, user, strict=True)]
        )
        variance = (lines @ cov * lines).sum(1)
        variance[fit.design.p :] += prior - (gain @ inverse * gain).sum(1)
        sd = 0.7 * np.sqrt(np.maximum(variance, 0.0))
        known = sd < 1e-7
        np.testing.assert_allclose(part[:, known], np.tile(mean[known], (len(part), 1)), atol=1e-7)
        z = (part.mean(0) - mean)[~known] / sd[~known] * np.sqrt(len(part))
        assert np.abs(z).max() < 5.0
        ratio = part.var(0)[~known] / sd[~known] ** 2 - 1.0
        assert np.abs(ratio).max() < 5.0 * np.sqrt(2.0 / len(part))
