"""Independent evaluations of the criterion where rows outweigh others: against exact decimal arithmetic."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal, localcontext

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.likelihood import SummedDesign, evaluate
from bayeslmm.likelihood.accurate import evaluate_accurately, rows_of
from bayeslmm.likelihood.recheck import dense_size, recheck, recheck_residual

Matrix = list[list[Decimal]]

ROWS = {
    "one": [0],
    "two in a level": [0, 1],
    "two levels": [0, 5],
    "three in a level": [0, 1, 2],
    "half": [*range(0, 20, 2)],
}


def elimination(V: Matrix, B: Matrix) -> tuple[Decimal, Matrix]:
    """log det V and B' V^-1 B."""
    n, rows = len(V), [v + b for v, b in zip(V, B, strict=True)]
    log_det, m = Decimal(0), len(B[0])
    products = [[Decimal(0)] * m for _ in range(m)]
    for k in range(n):
        pivot = rows[k]
        log_det += pivot[k].ln()
        for i in range(m):
            for j in range(m):
                products[i][j] += pivot[n + i] * pivot[n + j] / pivot[k]
        for i in range(k + 1, n):
            share = rows[i][k] / pivot[k]
            rows[i] = [a - share * b for a, b in zip(rows[i], pivot, strict=True)]
    return log_det, products


def exact(cp: SummedDesign, T: list[np.ndarray], reml: bool) -> float:
    """The profiled criterion in 260 digits."""
    with localcontext() as context:
        context.prec = 260
        design, n, p = cp.design, cp.design.n, cp.design.p
        weights = design.row_weights
        assert weights is not None
        V = [[1 / Decimal(float(weights[i])) if i == j else Decimal(0) for j in range(n)] for i in range(n)]
        for block, one in zip(cp.blocks, T, strict=True):
            terms = np.concatenate([design.terms[i].Z for i in block.terms], axis=1)
            scale = [
                [
                    sum((Decimal(float(a)) * Decimal(float(b)) for a, b in zip(row, c, strict=True)), Decimal(0))
                    for c in one.T
                ]
                for row in block.basis
            ]
            Z = [
                [
                    sum((Decimal(float(z)) * s[k] for z, s in zip(row, scale, strict=True)), Decimal(0))
                    for k in range(block.size)
                ]
                for row in terms
            ]
            codes = block.grouping.codes
            for i in range(n):
                for j in np.flatnonzero(codes == codes[i]):
                    V[i][j] += sum((a * b for a, b in zip(Z[i], Z[j], strict=True)), Decimal(0))
        both = [[Decimal(float(v)) for v in row] for row in np.column_stack([design.X, design.y])]
        log_det, C = elimination(V, both)
        inner, rest = elimination([row[:p] for row in C[:p]], [[row[p]] for row in C[:p]])
        r2, nu = C[p][p] - rest[0][0], n - p if reml else n
        value = log_det + (inner if reml else 0) + nu * (1 + Decimal(2 * np.pi).ln() + (r2 / nu).ln())
        return float(value)


def model(formula: str, rows: str, weight: float, noise: float = 3.0) -> bl.Model:
    rng = np.random.default_rng(5)
    data = pd.DataFrame({"x": rng.normal(size=20), "g": np.repeat(np.arange(5), 4), "h": np.arange(20) % 4})
    b = rng.normal(size=(5, 2))[data["g"]]
    data["y"] = 20 + 3 * data["x"] + 5 * b[:, 0] + 2 * b[:, 1] * data["x"] + noise * rng.normal(size=20)
    data["w"] = np.ones(20)
    data.loc[ROWS[rows], "w"] = weight * np.linspace(1.0, 0.3, len(ROWS[rows]))
    return bl.Model(formula, data, weights="w")


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("weight", [1e6, 1e16, 1e50, 1e90])
@pytest.mark.parametrize("rows", list(ROWS))
@pytest.mark.parametrize("formula", ["y ~ x + (1 | g)", "y ~ x + (x | g)"])
def test_both_evaluations_have_the_exact_criterion(formula: str, rows: str, weight: float, reml: bool) -> None:
    cp = model(formula, rows, weight).cross_products
    c = cp.blocks[0].size
    for scale in (1.0, 30.0):
        # in units of the residuals, which are those of the heavy rows where these are many
        unit = cp.sigma_unit
        T = [scale / unit * (np.eye(c) + np.tril(np.full((c, c), 0.3), -1))]
        expected = exact(cp, T, reml)
        value, bound = recheck(cp, T, reml)
        assert abs(value - expected) <= bound < 1e-8
        point = evaluate_accurately(rows_of(cp), T)
        assert point is not None
        assert point.criterion(reml) == pytest.approx(expected, abs=1e-11 * max(1.0, abs(expected)))


@pytest.mark.parametrize("rows", ["one", "two levels"])
def test_standard_deviations_far_apart_are_confirmed_beside_heavy_rows(rows: str) -> None:
    """The estimate is looked for with all digits there, and any weight gives the same.

    By REML: the likelihood itself has no maximum but zero variances where fixed effects reproduce infinite weights.
    """
    found = [model("y ~ x + (x | g)", rows, w, 1e-5).fit() for w in (1e16, 1e40, 1e200)]
    assert all(fit.status.ok for fit in found)
    for fit in found[1:]:
        np.testing.assert_allclose(fit.estimates(), found[0].estimates(), rtol=1e-6)


@pytest.mark.parametrize("weight", [1e6, 1e16, 1e50, 1e90])
@pytest.mark.parametrize("rows", ["one", "two in a level", "two levels"])
def test_the_residual_on_the_rows_sees_a_wrong_one_beside_heavy_rows(rows: str, weight: float) -> None:
    cp = model("y ~ x + (x | g)", rows, weight).cross_products
    T = [np.array([[[1.0, 0.0], [0.3, 0.7]]])]
    factor = evaluate(cp, T)
    gap, bound = recheck_residual(cp, T, factor, True)
    assert gap < 1e-11 and bound < 1e-9
    wrong = recheck_residual(cp, T, replace(factor, r2=factor.r2 * (1 + 1e-6)), True)
    assert wrong[0] > 1e-5 > wrong[1]


@pytest.mark.parametrize("weight", [1e12, 1e40, 1e300])
def test_data_beyond_the_dense_check_are_confirmed_beside_a_heavy_row(weight: float) -> None:
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"x": rng.normal(size=1200), "g": np.repeat(np.arange(300), 4), "w": 1.0})
    b = rng.normal(size=(300, 2))[data["g"]]
    data["y"] = 20 + 3 * data["x"] + b[:, 0] + b[:, 1] * data["x"] + rng.normal(size=1200)
    data.loc[[0, 5], "w"] = weight
    large = bl.Model("y ~ x + (x | g)", data, weights="w")
    assert dense_size(large.cross_products) > 60_000
    fit = large.fit()
    assert fit.status.ok and fit.optimum.doubt == 0.0
    fitted = fit.fitted().to_numpy()[[0, 5]]
    np.testing.assert_allclose(fitted, data["y"].to_numpy()[[0, 5]], rtol=1e-9)
