"""The blocked elimination against dense n x n Gaussian densities on random designs, zeros included."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd
import pytest

from bayeslmm.design import build_design
from bayeslmm.design.design import Store
from bayeslmm.likelihood import (
    NormalPrior,
    SummedDesign,
    beta_covariance,
    conditional_draws,
    conditional_means,
    conditional_variances,
    cross_products,
    derivatives,
    evaluate,
    minus_two_log_density,
    minus_two_log_density_normal,
    profiled,
)
from bayeslmm.likelihood import parameters as par

FORMULAS = {
    "intercepts": "y ~ x + (1 | g)",
    "slopes": "y ~ x + z + (x | g)",
    "three effects": "y ~ x + (x + z | g)",
    "diagonal": "y ~ x + (x || g)",
    "crossed": "y ~ x + (1 | g) + (1 | h)",
    "crossed slopes": "y ~ x + z + (x | g) + (1 | h) + (0 + z | h)",
    "nested": "y ~ 1 + (1 | g/k)",
    "three factors": "y ~ z + (1 | g) + (x | h) + (1 | k)",
    "two terms of a factor": "y ~ x + (1 | g) + (0 + x | g)",
    "cell means": "y ~ 0 + f + (1 | g)",
    "factor slopes": "y ~ f + (0 + f | h)",
    "no fixed effects": "y ~ 0 + (x | g) + (1 | h)",
    "offset": "y ~ z + offset(3 * x) + (x | g)",
    "far from zero": "y ~ w + (w | g)",
    "chain": "y ~ x + (x | g) + (1 | a) + (z | a:i)",
    "chain and crossed": "y ~ x + (z | g) + (1 | a) + (0 + z | a:i) + (x | h) + (1 | k)",
}
# Relative to the size of the criterion; "far from zero" has a condition number of 1e8 in the dense reference.
DENSE = 1e-11
DENSE_FAR = 1e-6


def frame(seed: int = 0, n: int = 54) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    data = pd.DataFrame(
        {
            "x": rng.normal(size=n),
            "z": rng.normal(size=n),
            "f": rng.choice(list("abc"), n),
            # unbalanced, with a level that has a single row
            "g": np.r_[[0], rng.integers(1, 7, n - 1)],
            "h": rng.integers(0, 4, n),
            "k": rng.integers(0, 3, n),
            "precision": rng.uniform(0.3, 3.0, n),
        }
    )
    # g is nested in a; i divides the levels of a further
    data["a"], data["i"] = data["g"] % 3, rng.integers(0, 2, n)
    data["w"] = 2000.0 + data["x"]
    data["y"] = 5 + data["x"] + rng.normal(size=7)[data["g"]] + rng.normal(size=n)
    return data


@pytest.fixture(params=["levels", "hierarchy"])
def store(request: pytest.FixtureRequest) -> Store:
    """How the cross-products are stored: with small designs the second way has to be asked for."""
    return cast(Store, request.param)


@dataclass
class Dense:
    """Everything from n x n matrices."""

    ml: float
    reml: float
    beta: np.ndarray
    V: np.ndarray
    X: np.ndarray
    y: np.ndarray
    Z: np.ndarray
    G: np.ndarray

    @property
    def P_X(self) -> np.ndarray:
        return np.linalg.inv(self.X.T @ np.linalg.solve(self.V, self.X))


def dense(cp: SummedDesign, theta: np.ndarray, sigma: float) -> Dense:
    design = cp.design
    W = np.ones(design.n) if design.weights is None else design.weights
    Zs, Gs = [], []
    for block in cp.blocks:
        for i in block.terms:
            term = design.terms[i]
            J, c = block.n_levels, term.Z.shape[1]
            Z = np.zeros((design.n, J, c))
            Z[np.arange(design.n), block.grouping.codes] = term.Z
            T = par.terms_from_theta(cp, theta)[i][0]
            Zs.append(Z.reshape(design.n, -1))
            Gs.append(np.kron(np.eye(J), T @ T.T))
    Z = np.concatenate(Zs, axis=1)
    G = np.zeros((Z.shape[1], Z.shape[1]))
    at = 0
    for block in Gs:
        G[at : at + len(block), at : at + len(block)] = block
        at += len(block)
    V = np.diag(1 / W) + Z @ G @ Z.T
    y = design.y if design.offset is None else design.y - design.offset
    X, n, p = design.X, design.n, design.p
    A = X.T @ np.linalg.solve(V, X)
    beta = np.linalg.solve(A, X.T @ np.linalg.solve(V, y))
    r = y - X @ beta
    quadratic = r @ np.linalg.solve(V, r) / sigma**2
    log_det = np.linalg.slogdet(V)[1]
    ml = n * np.log(2 * np.pi * sigma**2) + log_det + quadratic
    reml = (n - p) * np.log(2 * np.pi * sigma**2) + log_det + np.linalg.slogdet(A)[1] + quadratic
    return Dense(float(ml), float(reml), beta, V, X, y, Z, G)


def thetas(cp: SummedDesign, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    k = cp.design.n_theta
    regular, rank_one = rng.normal(size=k), rng.normal(size=k)
    at = 0
    for term in cp.design.terms:
        size = len(term.structure.rows)
        diagonal = np.flatnonzero(term.structure.rows == term.structure.cols)
        rank_one[at + diagonal[-1]] = 0.0
        at += size
    return [regular, rank_one, np.zeros(k), 1e-7 * regular]


CASES = [(name, weighted) for name in FORMULAS for weighted in (False, True)]


def build(name: str, weighted: bool, store: Store) -> SummedDesign:
    weights = "precision" if weighted else None
    return cross_products(build_design(FORMULAS[name], frame(), weights=weights, store=store))


@pytest.mark.parametrize(("name", "weighted"), CASES)
def test_densities_and_conditional_moments(name: str, weighted: bool, store: Store) -> None:
    cp = build(name, weighted, store)
    tolerance = DENSE_FAR if name == "far from zero" else DENSE
    for theta in thetas(cp, 1):
        factors = par.block_factors(cp, par.terms_from_theta(cp, theta))
        factor = evaluate(cp, factors)
        reference = dense(cp, theta, 0.8)
        sigma = np.array([0.8])
        scale = abs(reference.ml)
        assert abs(minus_two_log_density(cp, factor, sigma, reml=False)[0] - reference.ml) < tolerance * scale
        assert abs(minus_two_log_density(cp, factor, sigma, reml=True)[0] - reference.reml) < tolerance * scale
        means = conditional_means(cp, factors, factor)
        np.testing.assert_allclose(means.beta[0], reference.beta, rtol=1e3 * tolerance, atol=1e3 * tolerance)
        np.testing.assert_allclose(beta_covariance(cp, factor)[0], reference.P_X, rtol=1e4 * tolerance, atol=1e-9)
        b = reference.G @ reference.Z.T @ np.linalg.solve(reference.V, reference.y - reference.X @ reference.beta)
        got = np.concatenate(
            [e[0][:, s].ravel() for e, block in zip(means.b, cp.blocks, strict=True) for s in block.slices]
        )
        np.testing.assert_allclose(got, b, rtol=1e3 * tolerance, atol=1e4 * tolerance)


@pytest.mark.parametrize(("name", "weighted"), [c for c in CASES if c[0] != "far from zero"])
def test_conditional_variances(name: str, weighted: bool, store: Store) -> None:
    cp = build(name, weighted, store)
    for theta in thetas(cp, 2)[:3]:
        factors = par.block_factors(cp, par.terms_from_theta(cp, theta))
        ref = dense(cp, theta, 1.0)
        GZ = ref.G @ ref.Z.T
        known = ref.G - GZ @ np.linalg.solve(ref.V, GZ.T)
        gain = GZ @ np.linalg.solve(ref.V, ref.X)
        for fixed_known, expected in ((True, known), (False, known + gain @ ref.P_X @ gain.T)):
            got = conditional_variances(cp, factors, evaluate(cp, factors), fixed_known=fixed_known)
            at = 0
            for v, block in zip(got, cp.blocks, strict=True):
                for s in block.slices:
                    c = s.stop - s.start
                    for level in range(block.n_levels):
                        tile = expected[at : at + c, at : at + c]
                        np.testing.assert_allclose(v[level][s, s], tile, atol=1e-10)
                        at += c


@pytest.mark.parametrize("partly_flat", [False, True])
@pytest.mark.parametrize("name", ["slopes", "crossed", "cell means", "offset"])
def test_normal_prior_density(name: str, partly_flat: bool, store: Store) -> None:
    cp = build(name, True, store)
    p = cp.p
    rng = np.random.default_rng(3)
    sd = rng.uniform(0.5, 3.0, p)
    if partly_flat:
        sd[0] = np.inf
    prior = NormalPrior(rng.normal(size=p), sd)
    for theta in thetas(cp, 4)[:3]:
        factor = evaluate(cp, par.block_factors(cp, par.terms_from_theta(cp, theta)))
        for sigma in (0.4, 2.0):
            ref = dense(cp, theta, sigma)
            precision = np.diag(prior.precision)
            Q = ref.X.T @ np.linalg.solve(ref.V, ref.X) / sigma**2 + precision
            right = ref.X.T @ np.linalg.solve(ref.V, ref.y) / sigma**2 + precision @ prior.mean
            proper = np.isfinite(sd)
            expected = (
                cp.n * np.log(2 * np.pi * sigma**2)
                + np.linalg.slogdet(ref.V)[1]
                + 2 * np.log(sd[proper]).sum()
                + np.linalg.slogdet(Q)[1]
                - (~proper).sum() * np.log(2 * np.pi)
                + ref.y @ np.linalg.solve(ref.V, ref.y) / sigma**2
                + prior.mean @ precision @ prior.mean
                - right @ np.linalg.solve(Q, right)
            )
            got = minus_two_log_density_normal(cp, factor, np.array([[sigma]]), prior)[0, 0]
            assert got == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", [name for name in FORMULAS if name != "far from zero"])
def test_gradient_and_hessian_by_differences(name: str, reml: bool, store: Store) -> None:
    cp = build(name, True, store)
    rng = np.random.default_rng(5)
    points = [rng.normal(size=cp.design.n_theta), np.zeros(cp.design.n_theta)]
    points.append(points[0] * (rng.random(points[0].size) > 0.5))
    h = 1e-5

    def value(x: np.ndarray) -> float:
        return float(profiled(cp, evaluate(cp, par.internal_factors(cp, x)), reml)[0])

    def slopes(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        factors = par.internal_factors(cp, x)
        first = derivatives(cp, factors, evaluate(cp, factors), reml)
        return par.gradient(cp, x, first)[0], par.hessian(cp, x, first)[0]

    for x in points:
        gradient, hessian = slopes(x)
        steps = h * np.eye(x.size)
        numeric = np.array([(value(x + s) - value(x - s)) / (2 * h) for s in steps])
        # rounding of the criterion divided by the step, and the third derivative times its square
        np.testing.assert_allclose(gradient, numeric, atol=1e-6 * (1 + np.abs(hessian).max()))
        if store == "hierarchy":
            continue
        numeric = np.array([(slopes(x + s)[0] - slopes(x - s)[0]) / (2 * h) for s in steps])
        np.testing.assert_allclose(hessian, numeric, atol=1e-6 * (1 + np.abs(hessian).max()))


@pytest.mark.parametrize("name", ["slopes", "crossed slopes", "nested"])
def test_batches_equal_single_points(name: str, store: Store) -> None:
    cp = build(name, False, store)
    x = np.random.default_rng(6).normal(size=(7, cp.design.n_theta))
    together = evaluate(cp, par.internal_factors(cp, x))
    for k in range(7):
        alone = evaluate(cp, par.internal_factors(cp, x[k]))
        for field in ("log_det", "log_det_fixed", "r2", "solution"):
            np.testing.assert_allclose(getattr(together, field)[k], getattr(alone, field)[0], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("prior", [None, "normal"])
@pytest.mark.parametrize("name", ["slopes", "crossed", "chain and crossed"])
def test_draws_have_the_conditional_moments(name: str, prior: str | None, store: Store) -> None:
    cp = build(name, True, store)
    size, sigma = 40_000 if store == "levels" else 2_500, 0.7
    noise = 8 / np.sqrt(size)
    theta = thetas(cp, 7)[0]
    normal = NormalPrior(np.ones(cp.p), np.full(cp.p, 0.5)) if prior else None
    factors = [np.repeat(f, size, axis=0) for f in par.block_factors(cp, par.terms_from_theta(cp, theta))]
    factor = evaluate(cp, factors)
    rng = np.random.default_rng(8)
    drawn = conditional_draws(cp, factors, factor, np.full(size, sigma), rng, normal)
    ref = dense(cp, theta, sigma)
    precision = np.zeros((cp.p, cp.p)) if normal is None else np.diag(normal.precision)
    mean0 = np.zeros(cp.p) if normal is None else normal.mean
    Q = ref.X.T @ np.linalg.solve(ref.V, ref.X) / sigma**2 + precision
    mean = np.linalg.solve(Q, ref.X.T @ np.linalg.solve(ref.V, ref.y) / sigma**2 + precision @ mean0)
    covariance = np.linalg.inv(Q)
    sd = np.sqrt(np.diagonal(covariance))
    assert (np.abs(drawn.beta.mean(0) - mean) < 4.5 * sd / np.sqrt(size)).all()
    np.testing.assert_allclose(np.cov(drawn.beta.T) / np.outer(sd, sd), covariance / np.outer(sd, sd), atol=noise)
    GZ = ref.G @ ref.Z.T
    b_mean = GZ @ np.linalg.solve(ref.V, ref.y - ref.X @ mean)
    gain = GZ @ np.linalg.solve(ref.V, ref.X)
    b_cov = sigma**2 * (ref.G - GZ @ np.linalg.solve(ref.V, GZ.T)) + gain @ covariance @ gain.T
    b_sd = np.sqrt(np.maximum(np.diagonal(b_cov), 1e-30))
    got = np.concatenate(
        [e[:, :, s].reshape(size, -1) for e, block in zip(drawn.b, cp.blocks, strict=True) for s in block.slices],
        axis=1,
    )
    assert (np.abs(got.mean(0) - b_mean) < 5 * b_sd / np.sqrt(size)).all()
    np.testing.assert_allclose(got.std(0), b_sd, rtol=0.75 * noise)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", ["crossed slopes", "chain", "chain and crossed"])
def test_average_information(name: str, reml: bool) -> None:
    """The hierarchy's Hessian is the dense one with ``s' dG S dG' s / sigma^2`` in place of the traces."""
    cp = build(name, True, "hierarchy")
    x = np.random.default_rng(9).normal(size=cp.design.n_theta)
    factors = par.internal_factors(cp, x)
    factor = evaluate(cp, factors)
    first = derivatives(cp, factors, factor, reml)
    directions, matrices = [], []
    ref = dense(cp, par.theta_from_terms(cp, par.term_factors(cp, factors))[0], 1.0)
    P = np.linalg.inv(ref.V)
    P -= P @ ref.X @ ref.P_X @ ref.X.T @ P
    Py, nu = P @ ref.y, cp.n - cp.p if reml else cp.n
    at = 0
    for block in cp.blocks:
        gamma = np.zeros((1, block.size, block.size))
        gamma[0, 0, 0] = 1.0
        directions.append(gamma[None])
        user = block.basis @ gamma[0] @ block.basis.T
        full = np.zeros_like(ref.G)
        # the columns of a block with several terms are not contiguous in the dense reference
        places, start = [], at
        for s in block.slices:
            c = s.stop - s.start
            places.append(start + np.arange(block.n_levels)[:, None] * c + np.arange(c))
            start += c * block.n_levels
        for level in range(block.n_levels):
            rows = np.concatenate([place[level] for place in places])
            full[np.ix_(rows, rows)] = user
        at = start
        matrices.append(ref.Z @ full @ ref.Z.T)
    scale = nu / float(factor.r2[0])
    curves = np.array([[Py @ A @ P @ B @ Py for B in matrices] for A in matrices])
    slopes = np.array([Py @ A @ Py for A in matrices])
    expected = scale * (curves - np.outer(slopes, slopes) / float(factor.r2[0]))
    np.testing.assert_allclose(first.second(directions)[0], expected, rtol=1e-7, atol=1e-7)
