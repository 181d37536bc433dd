"""Posteriors at the edge: narrow, cut off, without moments, of a perfect fit, without effects."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

import bayeslmm as bl
from bayeslmm.bayes.default_priors import resolve_priors
from bayeslmm.bayes.propriety import finite_moments
from bayeslmm.errors import ConvergenceWarning, FitError
from bayeslmm.results.intervals import hdi


def one_way(levels: int, rows: int, between: float = 1.0, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(levels), rows)
    y = 10.0 + between * rng.normal(size=levels)[g] + rng.normal(size=levels * rows)
    return pd.DataFrame({"y": y, "g": [f"g{k:03d}" for k in g]})


def test_interval_of_a_narrow_posterior_far_from_the_ends() -> None:
    draws = np.random.default_rng(0).normal(size=4000)
    for kind, centre, width in (("sigma", 1.0, 3e-5), ("corr", 0.9, 1e-5), ("sd", 5.0, 1e-6)):
        low, high = hdi(centre + width * draws, 0.95, kind)
        assert low == pytest.approx(centre - 1.96 * width, abs=0.25 * width)
        assert high == pytest.approx(centre + 1.96 * width, abs=0.25 * width)


def test_a_prior_that_cuts_the_posterior_off() -> None:
    data, upper = one_way(6, 5, between=0.0, seed=3), 0.3
    y, n = data["y"].to_numpy(), len(data)
    post = bl.Model("y ~ 1 + (1 | g)", data).sample(
        priors={"sd": bl.Uniform(upper), "sigma": bl.HalfT(3, 1.0)}, random_seed=1
    )
    # beta integrated over the flat prior: density of n - 1 orthonormal contrasts, with log(n) / 2 for the mean
    A = np.linalg.svd(np.ones((n, 1)))[0][:, 1:]
    nodes, weights = np.polynomial.legendre.leggauss(40)
    s, log_sigma = 0.5 * upper * (nodes + 1.0), np.linspace(-1.5, 1.5, 301)
    Z = (data["g"].to_numpy()[:, None] == np.unique(data["g"])).astype(float)
    prior = bl.HalfT(3, 1.0)
    table = np.empty((s.size, log_sigma.size))
    for i, sd in enumerate(s):
        values, vectors = np.linalg.eigh(A.T @ (sd**2 * Z @ Z.T) @ A)
        squares = (vectors.T @ A.T @ y) ** 2
        for j, t in enumerate(log_sigma):
            v = values + np.exp(2 * t)
            log_p = -0.5 * (np.log(2 * np.pi * v) + squares / v).sum() - 0.5 * np.log(n)
            table[i, j] = log_p + float(prior.log_density(np.exp(t))) + t + np.log(0.5 * weights[i])
    step = log_sigma[1] - log_sigma[0]
    expected = float(logsumexp(table) + np.log(step))
    mass = np.exp(table - logsumexp(table)).sum(axis=1)
    size = post.diagnostics.points * post.diagnostics.efficiency  # type: ignore[union-attr]
    relative = np.sqrt((1.0 / post.diagnostics.efficiency - 1.0) / post.diagnostics.points)  # type: ignore[union-attr]
    assert post.log_evidence == pytest.approx(expected, abs=4.0 * relative + 1e-4)
    draws = post.draws("sd_g[Intercept]")
    assert draws.mean() == pytest.approx(mass @ s, abs=4.0 * draws.std() / np.sqrt(min(size, draws.size)))
    assert draws.max() <= upper
    # the dense density at one point, against SciPy
    V = s[3] ** 2 * Z @ Z.T + np.exp(2 * log_sigma[100]) * np.eye(n)
    dense = multivariate_normal(np.zeros(n - 1), A.T @ V @ A).logpdf(A.T @ y) - 0.5 * np.log(n)
    own = dense + float(prior.log_density(np.exp(log_sigma[100]))) + log_sigma[100] + np.log(0.5 * weights[3])
    assert table[3, 100] == pytest.approx(own, rel=1e-10)


@pytest.mark.parametrize(
    ("levels", "prior", "expected"),
    [
        (3, bl.Flat(), 0),
        (4, bl.Flat(), 1),
        (5, bl.Flat(), None),
        (2, bl.HalfCauchy(1.0), 1),
        (3, bl.HalfCauchy(1.0), None),
        (2, bl.HalfT(3, 1.0), None),
        (2, bl.HalfNormal(1.0), None),
    ],
)
def test_moments_that_exist(levels: int, prior: object, expected: int | None) -> None:
    # One-way: likelihood ~ s^-(J - 1), so the moment of order k needs J - 1 + tail > k + 1.
    model = bl.Model("y ~ 1 + (1 | g)", one_way(levels, 4))
    found = finite_moments(model.design, resolve_priors(model.design, {"sd": prior}))
    assert found.get((0, 0)) == expected


def test_moments_that_do_not_exist_are_infinite() -> None:
    table = bl.Model("y ~ 1 + (1 | g)", one_way(3, 3, seed=8)).sample(priors={"sd": "flat"}, random_seed=1).table()
    assert np.isinf(table.loc["sd_g[Intercept]", ["mean", "sd"]].to_numpy(dtype=float)).all()
    assert np.isfinite(table.loc["sd_g[Intercept]", "median"])
    assert np.isfinite(table.loc["sigma"].to_numpy(dtype=float)).all()


def test_a_perfect_fit_is_named() -> None:
    data = one_way(8, 6).assign(x=lambda d: np.arange(len(d)) % 7.0)
    model = bl.Model("y ~ x + (1 | g)", data.assign(y=2.0 * data["x"] + 3.0))
    with pytest.warns(bl.ConvergenceWarning, match="reproduces the response exactly"):
        model.sample(200, random_seed=1)


def test_effects_that_were_not_kept() -> None:
    post = bl.Model("y ~ 1 + (1 | g)", one_way(6, 4)).sample(200, keep=(), random_seed=1)
    for ask in (post.ranef, post.ranef_sd, post.fitted, post.residuals):
        with pytest.raises(bl.FitError, match=r"b_g were not kept.*keep=None"):
            ask()


def test_a_class_is_no_prior() -> None:
    model = bl.Model("y ~ 1 + (1 | g)", one_way(6, 4))
    with pytest.raises(bl.PriorError, match="no prior of a standard deviation"):
        model.priors({"sd": bl.HalfNormal})
    with pytest.raises(bl.PriorError, match="'a', but it must be a positive finite number"):
        bl.HalfNormal("a")  # type: ignore[arg-type]


def test_a_response_without_residual_has_no_posterior_and_says_so() -> None:
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(6), 5)
    frame = pd.DataFrame({"y": g.astype(float), "x": rng.normal(size=30), "g": g})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        with pytest.raises(FitError, match="reproduces the response exactly"):
            bl.Model("y ~ x + (1 | g)", frame).sample(200, random_seed=1)
