"""A normal prior on the intercept at the mean of the predictors, against dense linear algebra and SciPy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal, norm

import bayeslmm as bl
from bayeslmm.bayes.default_priors import resolve_priors
from bayeslmm.bayes.log_likelihood import variance_draws
from bayeslmm.bayes.prior_draws import draw_prior
from bayeslmm.bayes.sensitivity import log_prior_parts
from bayeslmm.likelihood import NormalPrior, evaluate, minus_two_log_density_normal
from bayeslmm.likelihood import parameters as par
from bayeslmm.likelihood.density_gradient import density_gradient


@pytest.fixture(scope="module")
def model() -> bl.Model:
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(6), 4)
    x = rng.normal(5.0, 1.0, 24)
    y = 2.0 + 0.5 * x + rng.normal(size=6)[g] + rng.normal(size=24)
    return bl.Model("y ~ x + (1 | g)", pd.DataFrame({"y": y, "x": x, "g": g.astype(str)}))


@pytest.mark.parametrize("preset", ["rstanarm", "bambi"])
def test_presets_state_it_for_the_centred_intercept(model: bl.Model, preset: str) -> None:
    prior = resolve_priors(model.design, preset).beta
    assert prior is not None
    x, y = model.design.X[:, 1], model.design.y
    ddof = 1 if preset == "rstanarm" else 0
    spread, slope = np.std(y, ddof=ddof), 2.5 * np.std(y, ddof=ddof) / np.std(x, ddof=ddof)
    width = 2.5 * spread if preset == "rstanarm" else np.hypot(2.5 * spread, slope * x.mean())
    # covariance of (alpha - mean(x) b, b) with alpha and b independent
    variance = np.array(
        [[width**2 + (slope * x.mean()) ** 2, -(slope**2) * x.mean()], [-(slope**2) * x.mean(), slope**2]]
    )
    np.testing.assert_allclose(np.linalg.inv(prior.precision_matrix), variance, rtol=1e-8)
    np.testing.assert_allclose(prior.marginal_sd, np.sqrt(np.diagonal(variance)), rtol=1e-10)
    np.testing.assert_allclose(prior.centre, [y.mean(), 0.0], atol=1e-10)


def test_density_and_gradient_are_those_of_the_dense_normal(model: bl.Model) -> None:
    prior = resolve_priors(model.design, "rstanarm").beta
    assert prior is not None
    cp, X, y = model.cross_products, model.design.X, model.design.y
    t, sigma = 0.7, 1.3
    Z = (model.design.groupings["g"].codes[:, None] == np.arange(6)).astype(float)

    def dense(t: float) -> float:
        V = sigma**2 * (np.eye(24) + t**2 * Z @ Z.T) + X @ np.linalg.inv(prior.precision_matrix) @ X.T
        return float(-2.0 * multivariate_normal(X @ prior.centre, V).logpdf(y))

    factors = par.block_factors(cp, [np.array([[[t]]])])
    ours = minus_two_log_density_normal(cp, evaluate(cp, factors), np.array([[sigma]]), prior)
    assert ours[0, 0] == pytest.approx(dense(t), rel=1e-10)
    slope = density_gradient(cp, [np.array([[t]])], sigma, prior).in_factors([np.array([[t]])])[0]
    assert slope[0, 0] == pytest.approx((dense(t + 1e-5) - dense(t - 1e-5)) / 2e-5, rel=1e-6)


def test_draws_and_density_of_the_prior(model: bl.Model) -> None:
    priors = resolve_priors(model.design, "rstanarm")
    prior = priors.beta
    assert prior is not None
    drawn = draw_prior(model.design, priors, 40_000, np.random.default_rng(1))
    expected = np.linalg.inv(prior.precision_matrix)
    error = np.sqrt((expected**2 + np.outer(np.diagonal(expected), np.diagonal(expected))) / 40_000)
    assert (np.abs(np.cov(drawn.beta.T) - expected) < 4.5 * error).all()
    x_mean = model.design.X[:, 1].mean()
    posterior = {"beta": drawn.beta[None, :50], "sigma": drawn.sigma[None, :50], "sd_g": drawn.sds[0][None, :50]}
    parts = log_prior_parts(model.design, priors, variance_draws(model.design, posterior))
    independent = norm(prior.mean[0], prior.sd[0]).logpdf(drawn.beta[:50, 0] + x_mean * drawn.beta[:50, 1])
    independent += norm(0.0, prior.sd[1]).logpdf(drawn.beta[:50, 1])
    np.testing.assert_allclose(parts["beta"], independent, rtol=1e-9)


def test_partly_flat_rows() -> None:
    prior = NormalPrior(np.array([3.0, 0.0]), np.array([2.0, np.inf]), np.array([[1.0, 5.0], [0.0, 1.0]]))
    np.testing.assert_allclose(prior.precision_matrix, [[0.25, 1.25], [1.25, 6.25]])
    assert np.isinf(prior.marginal_sd).tolist() == [True, True]
