"""Sums by pattern: the numbers of dense algebra, of the rows whitened at each point, and of finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.design import Design
from bayeslmm.likelihood import NormalPrior, minus_two_log_density_normal
from bayeslmm.likelihood.density_gradient import residual_density_gradient
from bayeslmm.likelihood.pattern_gradient import pattern_gradient
from bayeslmm.likelihood.patterns import PatternSums
from bayeslmm.likelihood.residual_products import PointSums, ResidualProducts, draw_at_points, residual_products

# Of numbers up to about 100 by two routes that both invert matrices with condition numbers up to about 1e4.
ROUNDING = 1e-10
# Of central differences with a step of 1e-5.
DIFFERENCES = 1e-6
# Standard errors.
SIGMAS = 4.5

CASES = (
    ("y ~ t + (1 | id)", "by(arm) + ar1(t | id)"),
    ("y ~ t", "us(t | id, by=arm)"),
    ("y ~ t + (t | id)", "const_power(w)"),
    ("y ~ t + (1 | g)", "adh(t | id)"),
    ("y ~ t + (1 | id/h)", "toep(t | id)"),
    ("y ~ t + (1 | h)", "arma(t | id)"),
    ("y ~ t + (1 | g/id)", "gaussian(w | id)"),
    ("y ~ t + (0 + w | g) + (1 | h)", "car1(w | id)"),
    ("y ~ t + (1 | id)", "cs(id)"),
    ("y ~ t + (1 | one)", "ar1(t | id)"),
    ("y ~ t + (1 | row)", "exp(t)"),
)


def rows() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    t, unit = np.tile(np.arange(4), 12), np.repeat(np.arange(12), 4)
    frame = pd.DataFrame({"y": rng.normal(size=48), "t": t, "id": unit, "arm": np.where(unit % 2, "a", "b")})
    frame["w"] = 0.5 + t + 0.3 * rng.random(48)
    frame["g"], frame["h"], frame["one"], frame["row"] = unit % 3, np.arange(48) // 2, "all", np.arange(48)
    # Missing visits, one unit with a single row, and rows in no order.
    return frame.drop(index=[3, 17, 18, 20, 21, 22]).sample(frac=1.0, random_state=1)


def products(formula: str, residual: str, frame: pd.DataFrame | None = None, **options: Any) -> ResidualProducts:
    design = bl.Model(
        formula, rows() if frame is None else frame, residual=residual, saturated="allow", **options
    ).design
    return residual_products(design, np.full(len(design.residual.names), 0.1))


def points(design: Design, count: int = 3) -> tuple[list[np.ndarray], np.ndarray]:
    """Relative factors and residual parameters."""
    rng = np.random.default_rng(2)
    sizes = [len(term.effects) for term in design.terms]
    factors = [np.tril(rng.normal(size=(count, c, c))) for c in sizes]
    return factors, 0.4 * rng.normal(size=(count, len(design.residual.names)))


def by_pattern(cp: ResidualProducts) -> PatternSums:
    sums = cp.sums_at_points([np.eye(len(term.effects)) for term in cp.design.terms])
    assert isinstance(sums, PatternSums)
    return sums


def effect_columns(design: Design) -> list[np.ndarray]:
    """Columns (n, J, c) of every term, written out."""
    out = []
    for term in design.terms:
        grouping = design.groupings[term.group]
        out.append(np.eye(grouping.n_levels)[grouping.codes][:, :, None] * term.Z[:, None])
    return out


def dense(design: Design, factors: list[np.ndarray], lam: np.ndarray) -> np.ndarray:
    """Covariance of y over sigma^2."""
    V = design.residual.covariance(lam).toarray()
    for columns, T in zip(effect_columns(design), factors, strict=True):
        Z = (columns @ T).reshape(design.n, -1)
        V = V + Z @ Z.T
    return np.asarray(V)


@pytest.mark.parametrize(("formula", "residual"), CASES)
def test_sums_are_those_of_dense_algebra(formula: str, residual: str) -> None:
    cp = products(formula, residual)
    design, (factors, lam) = cp.design, points(cp.design)
    found, other = by_pattern(cp).evaluate(factors, lam), PointSums(cp.at_points).evaluate(factors, lam)
    for k in range(lam.shape[0]):
        V = dense(design, [T[k] for T in factors], lam[k])
        inverse = np.linalg.inv(V)
        information = design.X.T @ inverse @ design.X
        left = design.y - design.X @ np.linalg.solve(information, design.X.T @ inverse @ design.y)
        expected = [np.linalg.slogdet(V)[1], np.linalg.slogdet(information)[1], left @ inverse @ left]
        for own in (found, other):
            values = [own.log_det[k], own.log_det_fixed[k], own.r2[k]]
            np.testing.assert_allclose(values, expected, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("size", [-5.0, 5.0])
def test_correlations_near_one(size: float) -> None:
    """At rho = 0.9999 the covariance has a condition number of 1e5, and both routes still agree."""
    cp = products("y ~ t + (1 | id)", "ar1(t | id)")
    factors, lam = [np.full((1, 1, 1), 0.5)], np.full((1, 1), size)
    found, other = by_pattern(cp).evaluate(factors, lam), PointSums(cp.at_points).evaluate(factors, lam)
    for name in ("log_det", "log_det_fixed", "r2"):
        np.testing.assert_allclose(getattr(found, name), getattr(other, name), rtol=1e-9)


def test_frequencies_are_rows_written_out() -> None:
    frame = rows()
    counts = np.arange(len(frame)) % 3 + 1
    cp = products("y ~ t + (1 | id)", "by(arm)", frame.assign(f=counts), frequency="f")
    long = products("y ~ t + (1 | id)", "by(arm)", frame.loc[frame.index.repeat(counts)])
    factors, lam = points(cp.design)
    found, expected = by_pattern(cp).evaluate(factors, lam), by_pattern(long).evaluate(factors, lam)
    for name in ("log_det", "log_det_fixed", "r2"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=ROUNDING)


@pytest.mark.parametrize("residual", ["by(arm) + ar1(t | id)", "us(t | id, by=arm)", "power(w)"])
@pytest.mark.parametrize("prior", [False, True])
def test_gradient_is_that_of_differences(residual: str, prior: bool) -> None:
    cp = products("y ~ t + (t | id)", residual)
    factors, lam = points(cp.design, 1)
    sums, T, lam, sigma = by_pattern(cp), factors[0][0], lam[0], 0.8
    beta = NormalPrior(np.array([0.3, -0.2]), np.array([0.5, np.inf])) if prior else None

    def value(T: np.ndarray, lam: np.ndarray, sigma: float) -> float:
        factor = sums.evaluate([T[None]], lam[None], cp.log_weights)
        return float(minus_two_log_density_normal(cp, factor, np.array([[sigma]]), beta)[0, 0])

    h = 1e-5
    by_lam = [(value(T, lam + e, sigma) - value(T, lam - e, sigma)) / (2 * h) for e in h * np.eye(lam.size)]
    changes = [h * np.eye(4)[k].reshape(2, 2) for k in range(4)]
    by_T = [(value(T + E, lam, sigma) - value(T - E, lam, sigma)) / (2 * h) for E in changes]
    up, down = sigma * np.exp(h), sigma * np.exp(-h)
    by_sigma = (value(T, lam, up) - value(T, lam, down)) / (2 * h)
    for found in (
        pattern_gradient(cp, sums, [T], lam, sigma, beta),
        residual_density_gradient(cp.at_points, [T], lam, sigma, beta),
    ):
        assert found.value == pytest.approx(value(T, lam, sigma), rel=ROUNDING)
        np.testing.assert_allclose(found.lam, by_lam, rtol=DIFFERENCES, atol=DIFFERENCES)
        np.testing.assert_allclose(found.in_factors([T])[0].ravel(), by_T, rtol=DIFFERENCES, atol=DIFFERENCES)
        assert found.log_sigma == pytest.approx(by_sigma, rel=DIFFERENCES, abs=DIFFERENCES)


def test_density_is_highest_at_the_reml_estimates() -> None:
    """With nothing but the likelihood: no slope in the variances, in sigma or in the residual parameters."""
    model = bl.Model(
        "distance ~ age * Sex + (1 | Subject)", bl.load_dataset("Orthodont"), residual="by(Sex) + car1(age | Subject)"
    )
    fit = model.fit()
    cp = residual_products(model.design, fit.optimum.lam)
    sums = by_pattern(cp)
    found = pattern_gradient(cp, sums, fit.optimum.terms, fit.optimum.lam, fit.sigma)
    assert found.value == pytest.approx(fit.criterion, rel=ROUNDING)
    slopes = [*found.lam, found.log_sigma, *found.in_factors(fit.optimum.terms)[0].ravel()]
    # Newton's method ends where the predicted fall is rounding: slopes of 1e-4 with curvatures of ten.
    np.testing.assert_allclose(slopes, 0.0, atol=1e-3)


@pytest.mark.parametrize(
    ("formula", "residual"), [("y ~ t + (t | id)", "by(arm) + ar1(t | id)"), ("y ~ t + (1 | g) + (1 | id)", "power(w)")]
)
@pytest.mark.parametrize("points_each", [False, True])
def test_draws_have_the_conditional_moments(formula: str, residual: str, points_each: bool) -> None:
    """Means and covariances of beta and the effects, from their joint precision."""
    cp = products(formula, residual)
    design, size, sigma = cp.design, 400 if points_each else 4000, 0.7
    factors, lam = points(design, 1)
    sums = PointSums(cp.at_points) if points_each else by_pattern(cp)
    repeated = [np.repeat(T, size, axis=0) for T in factors]
    drawn = draw_at_points(
        cp, sums, repeated, np.repeat(lam, size, axis=0), np.full(size, sigma), np.random.default_rng(1)
    )
    Z = effect_columns(design)
    A = np.hstack([design.X, *((own @ T[0]).reshape(design.n, -1) for own, T in zip(Z, factors, strict=True))])
    white = design.residual.whiten(lam[0], np.column_stack([A, design.y]))
    precision = white[:, :-1].T @ white[:, :-1]
    precision[design.p :, design.p :] += np.eye(A.shape[1] - design.p)
    mean, covariance = np.linalg.solve(precision, white[:, :-1].T @ white[:, -1]), sigma**2 * np.linalg.inv(precision)
    # The effects of the first levels, on the columns of the design.
    for block, b in zip(cp.blocks, drawn.b, strict=True):
        if not block.terms:
            continue
        place = design.p + sum(own.shape[1] * own.shape[2] for own in Z[: block.terms[0]])
        own = slice(place, place + block.size)
        T = factors[block.terms[0]][0]
        values = np.column_stack([drawn.beta, b[:, 0]])
        expected = np.concatenate([mean[: design.p], T @ mean[own]])
        J = np.block([[np.eye(design.p), np.zeros((design.p, block.size))], [np.zeros((block.size, design.p)), T]])
        chosen = [*range(design.p), *range(own.start, own.stop)]
        C = J @ covariance[np.ix_(chosen, chosen)] @ J.T
        error = np.sqrt(np.diagonal(C) / size)
        assert (np.abs(values.mean(0) - expected) < SIGMAS * error).all()
        spread = np.sqrt((np.outer(np.diagonal(C), np.diagonal(C)) + C**2) / size)
        assert (np.abs(np.cov(values.T) - C) < SIGMAS * spread).all()
