"""Degrees of freedom and adjusted covariances of the fixed effects against n x n matrices."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.inference.kenward_roger import kenward_roger
from bayeslmm.inference.satterthwaite import satterthwaite_df
from bayeslmm.likelihood.hierarchy import Hierarchy

Array = Any


@dataclass(frozen=True)
class Dense:
    """A REML fit with ``V = sum v_i V_i``."""

    X: Array
    y: Array
    parts: list[Array]
    v: Array

    @cached_property
    def Vi(self) -> Array:
        return np.linalg.inv(sum(v * part for v, part in zip(self.v, self.parts, strict=True)))

    @cached_property
    def C(self) -> Array:
        return np.linalg.inv(self.X.T @ self.Vi @ self.X)

    @cached_property
    def P(self) -> Array:
        return self.Vi - self.Vi @ self.X @ self.C @ self.X.T @ self.Vi

    def changes(self) -> Array:
        half = self.Vi @ self.X @ self.C
        return np.array([half.T @ part @ half for part in self.parts])

    def satterthwaite(self, ell: Array) -> float:
        """From the observed information about the variances."""
        products = [self.P @ part for part in self.parts]
        Py = self.P @ self.y
        H = np.array(
            [
                [2 * Py @ u @ b @ Py - np.sum(a * b.T) for b in products]
                for a, u in zip(products, self.parts, strict=True)
            ]
        )
        g = self.changes() @ ell @ ell
        return float(2 * (ell @ self.C @ ell) ** 2 / (g @ (2 * np.linalg.inv(H)) @ g))

    def kenward_roger(self) -> tuple[Array, Array, Array]:
        """Adjusted covariance, W, and the derivatives of the plain covariance."""
        products = [self.P @ part for part in self.parts]
        W = np.linalg.inv(0.5 * np.array([[np.sum(a * b.T) for b in products] for a in products]))
        left = self.X.T @ self.Vi
        extra = np.zeros_like(self.C)
        for i, a in enumerate(self.parts):
            for j, b in enumerate(self.parts):
                Q = left @ a @ self.Vi @ b @ left.T
                extra += W[i, j] * (Q - left @ a @ left.T @ self.C @ left @ b @ left.T)
        adjusted = self.C + 2 * self.C @ extra @ self.C
        return adjusted, W, self.changes()

    def kenward_roger_df(self, ell: Array) -> float:
        _, W, changes = self.kenward_roger()
        g = changes @ ell @ ell
        return float(2 * (ell @ self.C @ ell) ** 2 / (g @ W @ g))


def incidence(Z: Array, codes: Array) -> Array:
    """Columns of a term for every level, (n, J, c)."""
    out = np.zeros((codes.size, codes.max() + 1, Z.shape[1]))
    out[np.arange(codes.size), codes] = Z
    return out


def part(Z: Array, codes: Array, E: Array) -> Array:
    """``Z (I x E) Z'``."""
    columns = incidence(Z, codes)
    return (columns @ E).reshape(codes.size, -1) @ columns.reshape(codes.size, -1).T


def crossed(rng: np.random.Generator, a: int, b: int, n: int) -> pd.DataFrame:
    g, h, x = rng.integers(a, size=n), rng.integers(b, size=n), rng.standard_normal(n)
    slopes = 0.5 * rng.standard_normal((a, 2))
    y = 3 + x + slopes[g, 0] + slopes[g, 1] * x + 0.7 * rng.standard_normal(b)[h] + rng.standard_normal(n)
    w = rng.uniform(0.5, 2, n)
    return pd.DataFrame({"y": y, "x": x, "w": w, "g": [f"g{i:03d}" for i in g], "h": [f"h{i:03d}" for i in h]})


def dense_of(fit: bl.REMLResult, held: tuple[int, ...] = ()) -> Dense:
    """The same model by n x n matrices; held terms are part of what is proportional to sigma^2."""
    design, sigma2 = fit.design, fit.sigma**2
    noise = np.diag(np.ones(design.n) if design.weights is None else 1 / design.weights)
    parts, v = [], []
    for k, (term, T) in enumerate(zip(design.terms, fit.optimum.terms, strict=True)):
        codes, G = design.groupings[term.group].codes, T @ T.T
        if k in held:
            noise = noise + part(term.Z, codes, G)
            continue
        c = G.shape[0]
        if term.structure.keyword == "cs":
            bases = [np.eye(c), np.ones((c, c)) - np.eye(c)]
            values = [G[0, 0], G[0, 1]]
        else:
            pairs = [(i, j) for i in range(c) for j in range(i + 1) if term.structure.keyword == "us" or i == j]
            bases = [np.zeros((c, c)) for _ in pairs]
            for E, (i, j) in zip(bases, pairs, strict=True):
                E[i, j] = E[j, i] = 1.0
            values = [G[i, j] for i, j in pairs]
        parts += [part(term.Z, codes, E) for E in bases]
        v += [sigma2 * value for value in values]
    y = design.y if design.offset is None else design.y - design.offset
    return Dense(design.X, y, [*parts, noise], np.array([*v, sigma2]))


def check_dense(fit: bl.REMLResult, held: tuple[int, ...] = (), rtol: float = 1e-6) -> None:
    dense = dense_of(fit, held)
    L = np.vstack([np.eye(fit.design.p), np.arange(1.0, fit.design.p + 1)])
    expected = [dense.satterthwaite(ell) for ell in L]
    np.testing.assert_allclose(satterthwaite_df(fit.cp, fit.optimum, L), expected, rtol=rtol)
    result = kenward_roger(fit.cp, fit.optimum)
    np.testing.assert_allclose(result.df(L)[0], [dense.kenward_roger_df(ell) for ell in L], rtol=rtol)
    adjusted = dense.kenward_roger()[0]
    size = np.sqrt(np.diagonal(adjusted))
    np.testing.assert_allclose(
        result.adjusted[0] * fit.sigma**2 / np.outer(size, size), adjusted / np.outer(size, size), atol=rtol
    )


@pytest.mark.parametrize(
    "formula",
    ["y ~ x + (x | g) + (1 | h)", "y ~ x + (x || g)", "y ~ x + (1 | g) + (0 + x | h)", "y ~ 0 + x + (1 | g)"],
)
@pytest.mark.parametrize("weights", [None, "w"])
def test_against_dense_algebra(formula: str, weights: str | None) -> None:
    frame = crossed(np.random.default_rng(5), 12, 9, 160)
    frame["x"] += 5.0
    fit = bl.Model(formula, frame, weights=weights).fit()
    assert not fit.is_singular
    check_dense(fit)


def test_compound_symmetry_against_dense_algebra() -> None:
    fit = bl.Model("score ~ Machine + cs(0 + Machine | Worker)", bl.load_dataset("Machines")).fit()
    assert not fit.is_singular
    check_dense(fit)


def test_held_term_counts_as_known() -> None:
    frame = crossed(np.random.default_rng(5), 12, 9, 160)
    fit = bl.Model("y ~ x + (1 | g) + (1 | h)", frame).fit(fix={"h": [0.6]})
    check_dense(fit, held=(1,))


def test_frequencies_are_repeated_rows() -> None:
    rng = np.random.default_rng(3)
    frame = crossed(rng, 8, 5, 60)
    frame["k"] = rng.integers(1, 4, 60)
    short = bl.Model("y ~ x + (1 | g)", frame, frequency="k").fit()
    long = bl.Model("y ~ x + (1 | g)", frame.loc[frame.index.repeat(frame["k"])].reset_index(drop=True)).fit()
    for ddf in ("satterthwaite", "kenward-roger", "residual"):
        np.testing.assert_allclose(short.coefficients(ddf=ddf), long.coefficients(ddf=ddf), rtol=1e-7)  # type: ignore[arg-type]


def test_hierarchy_against_dense_algebra() -> None:
    fit = bl.Model("y ~ x + (x | g) + (1 | h)", crossed(np.random.default_rng(2), 135, 125, 600)).fit()
    assert isinstance(fit.cp.sums, Hierarchy)
    check_dense(fit, rtol=1e-5)


def test_chain_against_dense_algebra() -> None:
    rng = np.random.default_rng(4)
    inner = np.repeat(np.arange(260), 3)
    outer = inner // 2
    x = rng.standard_normal(inner.size)
    y = x + rng.standard_normal(260)[inner] + rng.standard_normal(130)[outer] + rng.standard_normal(inner.size)
    fit = bl.Model(
        "y ~ x + (1 | g) + (1 | h)", pd.DataFrame({"y": y, "x": x, "g": inner, "h": outer}).astype({"g": str, "h": str})
    ).fit()
    assert isinstance(fit.cp.sums, Hierarchy)
    check_dense(fit, rtol=1e-5)
