"""Leave-one-out and leave-one-group-out densities against the dense n x n conditional Gaussian."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal

import bayeslmm as bl
from bayeslmm.design import Design
from bayeslmm.likelihood import NormalPrior, cross_products, leave_out, row_system
from bayeslmm.likelihood import parameters as par
from bayeslmm.likelihood.hierarchy import Hierarchy
from bayeslmm.likelihood.leave_out import leave_group_out, leave_one_out
from bayeslmm.types import FloatArray

# Conditioning on the others by dense solves loses digits where a flat prior is made dense.
TIGHT = {"rtol": 1e-8, "atol": 1e-8}


def _data() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    n = 48
    g, h = np.arange(n) % 8, rng.integers(0, 5, n)
    frame = pd.DataFrame({"g": [f"g{k}" for k in g], "h": [f"h{k}" for k in h], "x": rng.normal(size=n)})
    frame["k"] = [f"k{v}" for v in (np.arange(n) // 8) % 3]
    frame["y"] = 3 + frame.x + rng.normal(size=8)[g] + rng.normal(size=5)[h] + rng.normal(size=n)
    frame["w"], frame["o"] = rng.uniform(0.4, 2.5, n), rng.normal(size=n)
    frame["f"] = rng.integers(1, 4, n)
    return frame


def _covariance(design: Design, terms: list[FloatArray], k: int, sigma: float) -> FloatArray:
    weights = np.ones(design.n) if design.weights is None else design.weights
    V = np.diag(1.0 / weights)
    for term, T in zip(design.terms, terms, strict=True):
        codes = design.groupings[term.group].codes
        V += (codes[:, None] == codes) * (term.Z @ T[k] @ T[k].T @ term.Z.T)
    return sigma**2 * V


def _conditional(
    design: Design, V: FloatArray, prior: NormalPrior | None, rows: FloatArray, repeats: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Mean and covariance of the rows given all rows that are not among them, by dense linear algebra."""
    others = np.setdiff1d(np.repeat(np.arange(design.n), repeats), rows)
    y = design.y - (0 if design.offset is None else design.offset)
    X, A, B = design.X, V[np.ix_(others, others)], V[np.ix_(rows, others)]
    Vi = np.linalg.inv(A)
    precision = np.zeros((design.p, design.p)) if prior is None else np.diag(prior.precision)
    centre = np.zeros(design.p) if prior is None else prior.mean
    C = np.linalg.inv(X[others].T @ Vi @ X[others] + precision)
    beta = C @ (X[others].T @ Vi @ y[others] + precision @ centre)
    left = X[rows] - B @ Vi @ X[others]
    mean = X[rows] @ beta + B @ Vi @ (y[others] - X[others] @ beta)
    return mean, V[np.ix_(rows, rows)] - B @ Vi @ B.T + left @ C @ left.T


def _draws(design: Design, size: int = 3) -> tuple[list[FloatArray], FloatArray]:
    rng = np.random.default_rng(8)
    terms = [np.tril(rng.normal(size=(size, len(t.effects), len(t.effects)))) for t in design.terms]
    terms[0][1] = 0.0
    return terms, rng.uniform(0.5, 3.0, size)


FORMULAS = ["y ~ x + (1 | g)", "y ~ x + (x | g)", "y ~ x + (1 | g) + (1 | h)", "y ~ 1 + (1 | g / k)", "y ~ 0 + (x | g)"]


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("extra", [{}, {"weights": "w"}], ids=["plain", "weights"])
@pytest.mark.parametrize("kind", ["flat", "normal", "partly flat"])
def test_dense_conditional(formula: str, extra: Mapping[str, Any], kind: str) -> None:
    formula = formula.replace("~", "~ offset(o) +") if extra else formula
    design = bl.Model(formula, _data(), **extra).design
    sd = {"flat": np.inf, "normal": 2.0, "partly flat": np.r_[np.inf, 2.0][: design.p]}[kind]
    prior = None if kind == "flat" else NormalPrior(np.full(design.p, 0.7), np.full(design.p, sd) * 1.0)
    cp, (terms, sigma) = cross_products(design), _draws(design)
    factors = par.block_factors(cp, terms)
    one = leave_one_out(cp, factors, sigma, prior)
    y = design.y - (0 if design.offset is None else design.offset)
    offset = design.y - y
    plain = np.ones(design.n, dtype=int)
    for k in range(3):
        V = _covariance(design, terms, k, sigma[k])
        for i in range(0, design.n, 7):
            mean, variance = _conditional(design, V, prior, np.array([i]), plain)
            np.testing.assert_allclose(one.mean[k, i], mean[0] + offset[i], **TIGHT)
            np.testing.assert_allclose(one.sd[k, i] ** 2, variance[0, 0], **TIGHT)
            expected = multivariate_normal(mean, variance).logpdf(y[i])
            np.testing.assert_allclose(one.log_density[k, i], expected, **TIGHT)
        for grouping in design.groupings.values():
            got = leave_group_out(cp, factors, sigma, grouping.codes, prior).log_density[k]
            for level in range(0, grouping.n_levels, 3):
                rows = np.flatnonzero(grouping.codes == level)
                mean, covariance = _conditional(design, V, prior, rows, plain)
                expected = multivariate_normal(mean, covariance).logpdf(y[rows])
                np.testing.assert_allclose(got[level], expected, **TIGHT)


@pytest.mark.parametrize("formula", [*FORMULAS, "y ~ x + (x | g) + (x | h)"])
@pytest.mark.parametrize("extra", [{}, {"weights": "w"}, {"frequency": "f"}], ids=["plain", "weights", "frequency"])
@pytest.mark.parametrize("kind", ["flat", "normal"])
def test_groups_of_wide_systems(
    formula: str, extra: Mapping[str, Any], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    design = bl.Model(formula, _data(), **extra).design
    prior = None if kind == "flat" else NormalPrior(np.full(design.p, 0.7), np.full(design.p, 2.0))
    cp, (terms, sigma) = cross_products(design), _draws(design)
    factors = par.block_factors(cp, terms)
    for grouping in design.groupings.values():
        dense = leave_group_out(cp, factors, sigma, grouping.codes, prior)
        with monkeypatch.context() as change:
            change.setattr(leave_out, "pays", lambda cp, codes: True)
            wide = leave_group_out(cp, factors, sigma, grouping.codes, prior)
        # These are compared with dense conditional Gaussians above.
        np.testing.assert_allclose(wide.log_density_kept, dense.log_density_kept, **TIGHT)
        np.testing.assert_allclose(wide.square, dense.square, **TIGHT)
        np.testing.assert_allclose(wide.square_kept, dense.square_kept, **TIGHT)
        if extra.get("frequency"):
            np.testing.assert_allclose(wide.log_density, dense.log_density, **TIGHT)
            continue
        for k in range(3):
            V = _covariance(design, terms, k, sigma[k])
            for level in range(grouping.n_levels):
                rows = np.flatnonzero(grouping.codes == level)
                mean, covariance = _conditional(design, V, prior, rows, np.ones(design.n, dtype=int))
                expected = multivariate_normal(mean, covariance).logpdf(design.y[rows])
                np.testing.assert_allclose(wide.log_density[k, level], expected, **TIGHT)
                square = (design.y[rows] - mean) @ np.linalg.solve(covariance, design.y[rows] - mean)
                np.testing.assert_allclose(wide.square[k, level], square, **TIGHT)


def test_a_wide_group_that_a_coefficient_rests_on(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = _data()
    frame["alone"] = (frame.g == "g2").astype(float)
    design = bl.Model("y ~ alone + (1 | g) + (1 | h)", frame).design
    cp, (terms, sigma) = cross_products(design), _draws(design)
    factors, codes = par.block_factors(cp, terms), design.groupings["g"].codes
    dense = leave_group_out(cp, factors, sigma, codes)
    monkeypatch.setattr(leave_out, "pays", lambda cp, codes: True)
    wide = leave_group_out(cp, factors, sigma, codes)
    assert (wide.log_density[:, 2] == -np.inf).all()
    np.testing.assert_allclose(wide.log_density, dense.log_density, **TIGHT)
    np.testing.assert_allclose(wide.log_density_kept, dense.log_density_kept, **TIGHT)


def test_kept_rows_are_predicted_with_the_posterior_given_all() -> None:
    design = bl.Model("y ~ x + (x | g)", _data(), weights="w").design
    cp, (terms, sigma) = cross_products(design), _draws(design)
    factors = par.block_factors(cp, terms)
    one, codes = leave_one_out(cp, factors, sigma), design.groupings["g"].codes
    groups = leave_group_out(cp, factors, sigma, codes)
    # beta and b given y, from the joint precision of both
    Z = np.zeros((design.n, 8, 2))
    Z[np.arange(design.n), codes] = design.terms[0].Z
    W = np.diag(design.weights)
    for k in (0, 2):
        inverse = np.linalg.inv(terms[0][k] @ terms[0][k].T)
        F = np.concatenate([design.X, Z.reshape(design.n, -1)], axis=1)
        precision = F.T @ W @ F
        precision[2:, 2:] += np.kron(np.eye(8), inverse)
        C = np.linalg.inv(precision)
        mean, H = F @ C @ F.T @ W @ design.y, F @ C @ F.T
        predictive = sigma[k] ** 2 * (H + np.diag(1 / design.weights))
        expected = -0.5 * (np.log(2 * np.pi * np.diag(predictive)) + (design.y - mean) ** 2 / np.diag(predictive))
        np.testing.assert_allclose(one.log_density_kept[k], expected, **TIGHT)
        for level in range(8):
            r = np.flatnonzero(codes == level)
            joint = multivariate_normal(mean[r], predictive[np.ix_(r, r)]).logpdf(design.y[r])
            np.testing.assert_allclose(groups.log_density_kept[k, level], joint, **TIGHT)


def test_frequencies_are_the_rows_written_out() -> None:
    frame = _data()
    short = bl.Model("y ~ x + (x | g)", frame, weights="w", frequency="f").design
    long = bl.Model(
        "y ~ x + (x | g)", frame.loc[frame.index.repeat(frame.f)].reset_index(drop=True), weights="w"
    ).design
    terms, sigma = _draws(short)
    results = []
    for design in (short, long):
        cp = cross_products(design)
        factors = par.block_factors(cp, terms)
        one = leave_one_out(cp, factors, sigma)
        results.append((one, leave_group_out(cp, factors, sigma, design.groupings["g"].codes)))
    copies = np.repeat(np.arange(short.n), frame.f)
    for name in ("mean", "sd", "log_density", "log_density_kept"):
        np.testing.assert_allclose(getattr(results[0][0], name)[:, copies], getattr(results[1][0], name), **TIGHT)
    for name in ("log_density", "log_density_kept"):
        np.testing.assert_allclose(getattr(results[0][1], name), getattr(results[1][1], name), **TIGHT)


def test_a_large_crossed_design_in_small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    n = 900
    frame = pd.DataFrame({"s": rng.integers(0, 300, n), "d": rng.integers(0, 150, n), "x": rng.normal(size=n)})
    frame["y"] = rng.normal(size=n)
    design = bl.Model("y ~ x + (1 | s) + (1 | d)", frame.astype({"s": str, "d": str})).design
    cp = cross_products(design)
    assert isinstance(cp.sums, Hierarchy)
    monkeypatch.setattr(row_system, "_CHUNK", 20_000)
    terms, sigma = [np.full((2, 1, 1), 0.8), np.full((2, 1, 1), 1.3)], np.array([1.0, 2.0])
    factors = par.block_factors(cp, terms)
    one = leave_one_out(cp, factors, sigma)
    V = _covariance(design, terms, 1, sigma[1])
    X, Vi = design.X, np.linalg.inv(V)
    P = Vi - Vi @ X @ np.linalg.solve(X.T @ Vi @ X, X.T @ Vi)
    np.testing.assert_allclose(one.sd[1] ** 2, 1 / np.diag(P), rtol=1e-9)
    np.testing.assert_allclose(one.mean[1], design.y - P @ design.y / np.diag(P), atol=1e-9)
    for name in ("s", "d"):
        codes = design.groupings[name].codes
        got = leave_group_out(cp, factors, sigma, codes).log_density[1]
        for level in (0, 40, design.groupings[name].n_levels - 1):
            r = np.flatnonzero(codes == level)
            block = P[np.ix_(r, r)]
            e = (P @ design.y)[r]
            expected = multivariate_normal(np.zeros(r.size), np.linalg.inv(block)).logpdf(np.linalg.solve(block, e))
            np.testing.assert_allclose(got[level], expected, atol=1e-9)


def test_rows_that_a_flat_coefficient_rests_on_have_no_prediction() -> None:
    frame = _data()
    frame["only"] = (frame.index == 5).astype(float)
    frame["seldom"] = (frame.g == "g2").astype(float)
    design = bl.Model("y ~ only + seldom + (1 | g)", frame).design
    cp, (terms, sigma) = cross_products(design), _draws(design)
    factors = par.block_factors(cp, terms)
    one = leave_one_out(cp, factors, sigma)
    assert np.flatnonzero(np.isinf(one.sd[0])).tolist() == [5]
    got = leave_group_out(cp, factors, sigma, design.groupings["g"].codes).log_density[0]
    # row 5 belongs to g5; g2 has a coefficient of its own
    assert np.flatnonzero(np.isneginf(got)).tolist() == [2, 5]
    proper = NormalPrior(np.zeros(3), np.full(3, 4.0))
    assert np.isfinite(leave_one_out(cp, factors, sigma, proper).sd).all()
    assert np.isfinite(leave_group_out(cp, factors, sigma, design.groupings["g"].codes, proper).log_density).all()


def test_group_too_large_to_be_held(monkeypatch: pytest.MonkeyPatch) -> None:
    design = bl.Model("y ~ x + (1 | g)", _data()).design
    cp, (terms, sigma) = cross_products(design), _draws(design)
    monkeypatch.setattr(leave_out, "_LARGEST", 5)
    with pytest.raises(bl.FitError, match="has 6 rows"):
        leave_group_out(cp, par.block_factors(cp, terms), sigma, design.groupings["g"].codes)
