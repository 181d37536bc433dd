"""Leverages and deletion at given theta against dense matrices, with theta estimated anew against refits."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.design.without import without_rows
from bayeslmm.likelihood.deletion import delete_groups, leverages
from bayeslmm.reml.deleted import optimise_without, solved_together

# Dense inverses of matrices of condition 1e3 leave thirteen digits.
DENSE = 1e-10
# Both are minima of one criterion whose last Newton step is below 1e-9 in theta.
REFIT = 1e-8


def data(seed: int = 3, n: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    g, h = rng.integers(0, 9, n), rng.integers(0, 5, n)
    x = rng.normal(size=n)
    y = 1 + 2 * x + rng.normal(size=9)[g] + rng.normal(size=9)[g] * x + rng.normal(size=5)[h] + rng.normal(size=n)
    frame = pd.DataFrame({"y": y, "x": x, "g": g.astype(str), "h": h.astype(str)})
    frame["w"] = rng.uniform(0.5, 2.0, n)
    frame["f"] = rng.integers(1, 4, n)
    return frame


CASES = {
    "slopes": ("y ~ x + (x | g)", {}),
    "crossed": ("y ~ x + (1 | g) + (1 | h)", {}),
    "weights": ("y ~ x + (x | g)", {"weights": "w"}),
    "no fixed effect": ("y ~ 0 + (1 | g)", {}),
    "frequencies": ("y ~ x + (1 | g)", {"frequency": "f"}),
    "ml": ("y ~ x + (x || g)", {}),
    "structure": ("y ~ x + cs(x | g)", {}),
    "hierarchy": ("y ~ x + (1 | g) + (1 | h)", {"store": "hierarchy"}),
}


@cache
def fitted(case: str) -> bl.REMLResult:
    formula, more = CASES[case]
    return bl.Model(formula, data(), **more).fit(reml=case != "ml")


def dense(fit: bl.REMLResult) -> tuple[np.ndarray, np.ndarray]:
    """Inverse of V over sigma^2 of the rows, each as one row of its precision, and X."""
    m = fit.matrices()
    return np.linalg.inv(np.asarray(m.V) / fit.sigma**2), fit.design.X


@pytest.mark.parametrize("case", ["slopes", "crossed", "weights", "no fixed effect", "hierarchy"])
def test_leverages_are_derivatives_of_the_fit(case: str) -> None:
    fit = fitted(case)
    Vi, X = dense(fit)
    P = Vi - Vi @ X @ np.linalg.solve(X.T @ Vi @ X, X.T @ Vi)
    R = np.diag(fit.design.residual.variance(fit.optimum.lam))
    hat = np.diagonal(np.eye(fit.design.n) - R @ P)
    found = leverages(fit.cp, fit.optimum.factors)
    np.testing.assert_allclose(found.total, hat, rtol=DENSE, atol=DENSE)
    fixed = np.diagonal(X @ np.linalg.solve(X.T @ Vi @ X, X.T @ Vi))
    np.testing.assert_allclose(found.fixed, fixed, rtol=DENSE, atol=DENSE)
    assert found.fixed.sum() == pytest.approx(fit.design.p, abs=1e-9)


@pytest.mark.parametrize("groups", ["rows", "g", "mixed"])
@pytest.mark.parametrize("case", ["slopes", "crossed", "weights"])
def test_deletion_at_given_theta_is_generalised_least_squares_of_the_rest(case: str, groups: str) -> None:
    fit = fitted(case)
    n = fit.design.n
    g = fit.design.groupings["g"].codes
    codes = {"rows": np.arange(n), "g": g, "mixed": np.where(np.arange(n) % 4 == 0, -1, np.arange(n) % 3)}[groups]
    out = delete_groups(fit.cp, fit.optimum.factors, fit.optimum.factor, fit.fixef().to_numpy(), codes)
    V = np.asarray(fit.matrices().V) / fit.sigma**2
    for k in range(codes.max() + 1):
        keep = np.flatnonzero(codes != k)
        X, y = fit.design.X[keep], fit.design.y[keep]
        Vi = np.linalg.inv(V[np.ix_(keep, keep)])
        C = np.linalg.inv(X.T @ Vi @ X)
        beta = C @ X.T @ Vi @ y
        np.testing.assert_allclose(out.beta[k], beta, rtol=DENSE)
        np.testing.assert_allclose(out.covariance[k], C, rtol=DENSE)
        r2 = (y - X @ beta) @ Vi @ (y - X @ beta)
        np.testing.assert_allclose(out.r2[k], r2, rtol=DENSE)


def check_refits(fit: bl.REMLResult, sets: list[np.ndarray]) -> None:
    out = optimise_without(fit.optimum, sets)
    for k, rows in enumerate(sets):
        again = bl.Model._from_design(without_rows(fit.design, rows)).fit(reml=fit.reml)
        np.testing.assert_allclose(out.optima.theta[k], again.theta, rtol=REFIT, atol=REFIT)
        np.testing.assert_allclose(out.optima.sigma[k], again.sigma, rtol=REFIT)
        np.testing.assert_allclose(out.optima.criterion[k], again.criterion, rtol=REFIT)
        np.testing.assert_allclose(out.optima.beta[k], again.fixef(), rtol=REFIT, atol=REFIT)
        np.testing.assert_allclose(out.covariance[k] * again.sigma**2, again.vcov(), rtol=1e-7, atol=REFIT)
        assert bool(out.optima.singular[k]) == again.is_singular


@pytest.mark.parametrize("case", CASES)
def test_deletion_with_theta_estimated_is_the_refit_without_the_rows(case: str) -> None:
    fit = fitted(case)
    assert solved_together(fit.optimum) == (case not in ("structure", "hierarchy"))
    rows = [np.array([k]) for k in (0, 25, 50)]
    g = fit.design.groupings["g"].codes
    pairs = [np.array([3, 17]), np.array([0, 1, 2, 44])]
    check_refits(fit, [*rows, *pairs, *(np.flatnonzero(g == k) for k in (0, 4))])


def test_within_parts_are_the_same_where_tiles_of_levels_are_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    from bayeslmm.likelihood import many_levels

    fit = fitted("crossed")
    sets = [np.array([k, k + 1]) for k in range(10)]
    whole = many_levels.LevelRows.of(fit.cp).without(sets, fit.n - 2)
    monkeypatch.setattr(many_levels, "_MOST_TILES", 0)
    other = many_levels.LevelRows.of(fit.cp)
    assert other.tiles is None
    np.testing.assert_allclose(other.without(sets, fit.n - 2).D, whole.D, rtol=1e-12, atol=1e-12)


def test_a_huge_value_leaves_the_others_their_digits() -> None:
    frame = data()
    frame.loc[5, "y"] = 1e6
    fit = bl.Model("y ~ x + (1 | g)", frame).fit()
    out = optimise_without(fit.optimum, [np.array([5]), np.array([6])])
    clean = bl.Model("y ~ x + (1 | g)", frame.drop(5)).fit()
    # Least squares with the value in it has moved what is summed by 1e4 sds.
    np.testing.assert_allclose(out.optima.sigma[0], clean.sigma, rtol=1e-7)
    np.testing.assert_allclose(out.optima.theta[0], clean.theta, rtol=1e-6)


def test_a_singular_fit_leaves_zero_when_the_rows_go_that_made_it_so() -> None:
    frame = bl.load_dataset("sleepstudy")
    frame.loc[44, "Reaction"] *= 10
    fit = bl.Model("Reaction ~ Days + (Days | Subject)", frame).fit()
    assert fit.is_singular
    check_refits(fit, [np.array([44]), np.array([43])])
