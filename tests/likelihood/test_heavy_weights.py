"""Weights of any size: against exact decimal arithmetic, and the limit in which a row is a constraint."""

from __future__ import annotations

import time
import warnings
from decimal import Decimal, localcontext

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.design.design import Design

Matrix = list[list[Decimal]]


def decimals(values: np.ndarray) -> Matrix:
    return [[Decimal(float(v)) for v in row] for row in np.atleast_2d(values)]


def cholesky(V: Matrix) -> Matrix:
    n = len(V)
    L = [[Decimal(0)] * n for _ in range(n)]
    for j in range(n):
        L[j][j] = (V[j][j] - sum(v * v for v in L[j][:j])).sqrt()
        for i in range(j + 1, n):
            L[i][j] = (V[i][j] - sum(a * b for a, b in zip(L[i][:j], L[j][:j], strict=True))) / L[j][j]
    return L


def solve(L: Matrix, B: Matrix) -> Matrix:
    out: Matrix = []
    for i, row in enumerate(B):
        done = [row[k] - sum(L[i][j] * out[j][k] for j in range(i)) for k in range(len(row))]
        out.append([v / L[i][i] for v in done])
    return out


def exact(
    design: Design, factors: tuple[np.ndarray, ...], sigma: float, scale: list[float]
) -> tuple[float, list[float]]:
    """-2 log restricted likelihood and beta, in so many digits that no weight hides another.

    Covariances of the terms and the residual variance are multiplied by `scale`, the residual last.
    """
    n, p = design.X.shape
    s2 = Decimal(sigma) ** 2
    V = [[Decimal(0)] * n for _ in range(n)]
    for i, w in enumerate(design.weights):
        V[i][i] = s2 * Decimal(scale[-1]) / Decimal(float(w))
    for term, T, factor in zip(design.terms, factors, scale[:-1], strict=True):
        codes = design.groupings[term.group].codes
        columns = list(zip(*decimals(T), strict=True))
        ZT = [[sum(a * b for a, b in zip(z, t, strict=True)) for t in columns] for z in decimals(term.Z)]
        for i in range(n):
            for j in range(n):
                if codes[i] == codes[j]:
                    V[i][j] += s2 * Decimal(factor) * sum(a * b for a, b in zip(ZT[i], ZT[j], strict=True))
    L = cholesky(V)
    half = solve(L, decimals(np.column_stack([design.X, design.y])))
    columns = list(zip(*half, strict=True))
    C = cholesky([[sum(a * b for a, b in zip(u, v, strict=True)) for v in columns] for u in columns])
    logs = 2 * sum(L[i][i].ln() for i in range(n)) + 2 * sum(C[i][i].ln() for i in range(p))
    beta = [Decimal(0)] * p
    for i in reversed(range(p)):
        beta[i] = (C[p][i] - sum(C[k][i] * beta[k] for k in range(i + 1, p))) / C[i][i]
    return float(logs + C[p][p] ** 2 + (n - p) * Decimal(2 * np.pi).ln()), [float(b) for b in beta]


def frame() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    data = pd.DataFrame({"x": rng.normal(size=20), "g": np.repeat(np.arange(5), 4), "h": np.arange(20) % 4})
    b = rng.normal(size=(5, 2))[data["g"]]
    data["y"] = 20 + 3 * data["x"] + 5 * b[:, 0] + 2 * b[:, 1] * data["x"] + 3 * rng.normal(size=20)
    return data


def weighted(rows: list[int], weight: float, rest: float = 1.0) -> np.ndarray:
    w = np.full(20, rest)
    w[rows] = weight * np.linspace(1.0, 0.3, len(rows))
    return w


ROWS = {
    "one": [0],
    "two in a level": [0, 1],
    "two levels": [0, 5],
    "three in a level": [0, 1, 2],
    "half": [*range(0, 20, 2)],
}
CASES = [
    ("y ~ x + (1 | g)", rows, weight)
    for rows in ROWS
    for weight in (1e12, 1e40, 1e300)
    # what three rows of a level leave free is the scale of sigma, which 1e300 takes out of range
    if not (weight == 1e300 and rows in ("three in a level", "half"))
]
CASES += [("y ~ x + (x | g)", rows, weight) for rows in ("one", "two levels") for weight in (1e12, 1e300)]
CASES += [("y ~ x + (x || g)", "one", 1e40), ("y ~ 1 + (1 | g)", "one", 1e300), ("y ~ 0 + x + (1 | g)", "one", 1e300)]


@pytest.mark.parametrize(("formula", "rows", "weight"), CASES)
def test_a_fit_is_the_minimum_of_the_exact_criterion(formula: str, rows: str, weight: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = bl.Model(formula, frame().assign(w=weighted(ROWS[rows], weight)), weights="w").fit()
        fit.ranef()
    assert fit.status.ok and not fit.optimum.ridges
    with localcontext() as context:
        context.prec = 200
        parts = (fit.design, fit.optimum.terms, fit.sigma)
        ones = [1.0] * (len(fit.design.terms) + 1)
        criterion, beta = exact(*parts, ones)
        assert fit.criterion == pytest.approx(criterion, abs=1e-9)
        np.testing.assert_allclose(fit.fixef(), beta, rtol=1e-9)
        for k in range(len(ones)):
            for factor in (0.99, 1.01):
                scale = [factor if i == k else 1.0 for i in range(len(ones))]
                assert exact(*parts, scale)[0] > criterion - 1e-12
    # Rows that decide the scale of sigma are no longer beside it.
    said = "their fitted values are practically their responses" in " ".join(str(fit.summary()).split())
    assert said == (rows not in ("three in a level", "half"))


@pytest.mark.parametrize("rows", ["one", "two levels"])
def test_the_limit_is_the_same_for_all_huge_weights(rows: str) -> None:
    """The row becomes a constraint: estimates and intervals stay as they are from 1e12 to 1e300."""
    found = []
    for weight in (1e12, 1e17, 1e75, 1e300):
        fit = bl.Model("y ~ x + (1 | g)", frame().assign(w=weighted(ROWS[rows], weight)), weights="w").fit()
        start = time.process_time()
        found.append(np.column_stack([fit.estimates(), *fit.confint().to_numpy().T]))
        assert time.process_time() - start < 3.0
        fitted = fit.fitted().to_numpy()[ROWS[rows]]
        np.testing.assert_allclose(fitted, frame()["y"].to_numpy()[ROWS[rows]], rtol=1e-9)
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-6)


def test_conditional_effects_beside_a_heavy_row_are_those_of_the_constraint() -> None:
    data = frame().assign(w=weighted([0], 1e45))
    fit = bl.Model("y ~ x + (x | g)", data, weights="w").fit()
    G = fit.sigma**2 * fit.optimum.terms[0] @ fit.optimum.terms[0].T
    Z = np.column_stack([np.ones(4), data["x"][:4]])
    V = Z @ G @ Z.T + fit.sigma**2 * np.diag([0.0, 1.0, 1.0, 1.0])
    residual = data["y"].to_numpy()[:4] - Z @ fit.fixef().to_numpy()
    b = G @ Z.T @ np.linalg.solve(V, residual)
    np.testing.assert_allclose(fit.ranef()["g"].to_numpy()[0], b, rtol=1e-8)


@pytest.mark.parametrize("weight", [1e8, 1e30, 1e300])
def test_several_factors_have_the_numbers_of_the_limit_to_six_digits(weight: float) -> None:
    data = frame().assign(w=weighted([0, 1], weight))
    fit = bl.Model("y ~ x + (1 | g) + (1 | h)", data, weights="w").fit()
    lower, upper = (
        bl.Model("y ~ x + (1 | g) + (1 | h)", data.assign(w=weighted([0, 1], w)), weights="w").fit().estimates()
        for w in (1e6, 1e7)
    )
    assert fit.status.ok
    # The distance to the limit is inversely proportional to the weight.
    np.testing.assert_allclose(fit.estimates(), upper + (upper - lower) / 9.0, rtol=3e-6)


@pytest.mark.parametrize("scale", [1e-100, 1e-30, 1e30, 1e100])
def test_a_common_factor_of_the_weights_is_one_of_sigma(scale: float) -> None:
    w = np.random.default_rng(2).uniform(1, 4, 20)
    one = bl.Model("y ~ x + (x | g)", frame().assign(w=w), weights="w").fit()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other = bl.Model("y ~ x + (x | g)", frame().assign(w=w * scale), weights="w").fit()
        refits = other.refit_many(frame()[["y"]].to_numpy())
    assert other.status is one.status and refits.ok.all()
    expected = one.estimates() * np.where(one.estimates().index == "sigma", scale**0.5, 1.0)
    np.testing.assert_allclose(other.estimates(), expected, rtol=1e-6)
    assert other.criterion == pytest.approx(one.criterion, abs=1e-7)


@pytest.mark.parametrize("tiny", [1e-8, 1e-40, 1e-300])
def test_tiny_weights_leave_their_rows_out(tiny: float) -> None:
    data = frame().assign(w=weighted([3, 8], tiny))
    fit = bl.Model("y ~ x + (1 | g)", data, weights="w").fit()
    # A row of no weight is still counted: its residual is fitted to no cost, sigma^2 has its degree of freedom.
    without = bl.Model("y ~ x + (1 | g)", data.drop(index=[3, 8])).fit()
    np.testing.assert_allclose(fit.fixef(), without.fixef(), rtol=0.02)
    assert fit.status.ok
    for other in (1e-60, 1e-200):
        again = bl.Model("y ~ x + (1 | g)", data.assign(w=weighted([3, 8], other)), weights="w").fit()
        np.testing.assert_allclose(fit.estimates(), again.estimates(), rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_weights_out_of_range_are_named(scale: float) -> None:
    with pytest.raises(bl.DesignError) as caught:
        bl.Model("y ~ x + (1 | g)", frame().assign(w=scale), weights="w")
    text = str(caught.value)
    assert (
        f"{scale:g}, {scale:g}" in text and "20 rows (0, 1, 2, 3, 4, ...)" in text and "divide all weights by" in text
    )
    spread = np.full(20, 1.0)
    spread[:3] = 1e300
    with pytest.raises(bl.DesignError, match=r"3 rows \(0, 1, 2\) are 1e\+300"):
        bl.Model("y ~ x + (1 | g)", frame().assign(w=spread), weights="w")
