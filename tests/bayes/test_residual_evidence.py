"""Evidences of models whose residuals have parameters against integrals of dense likelihoods."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import simpson

import bayeslmm as bl

# Quadrature of the package is certified to about 1e-9 here; Simpson's rule below to about as much.
CLOSE = 1e-6


def _log_marginal(y: np.ndarray, X: np.ndarray, R: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Log density of y with flat coefficients integrated out, at many sigmas."""
    W = np.linalg.inv(R)
    A = X.T @ W @ X
    beta = np.linalg.solve(A, X.T @ W @ y)
    rss, m = (y - X @ beta) @ W @ (y - X @ beta), y.size - X.shape[1]
    dets = np.linalg.slogdet(R)[1] + np.linalg.slogdet(A)[1]
    return -0.5 * (m * np.log(2 * np.pi) + dets + rss / sigma**2) - m * np.log(sigma)


def test_evidence_without_random_effects_is_a_double_integral() -> None:
    data = bl.load_dataset("Orthodont").iloc[:24].reset_index(drop=True)
    data["half"] = np.where(np.arange(24) % 3, "a", "b")
    model = bl.Model("distance ~ age", data, residual="by(half)")
    prior = bl.HalfNormal(5.0)
    post = model.sample(200, random_seed=1, priors={"sigma": prior})
    ratio, log_sigma = np.linspace(-5.0, 5.0, 201), np.linspace(-2.5, 3.5, 401)
    sigma = np.exp(log_sigma)
    other = (data["half"] == "b").to_numpy()
    X, y = model.design.X, model.design.y
    rows = []
    for lam in ratio:
        R = np.diag(np.exp(2.0 * lam * other))
        log_p = _log_marginal(y, X, R, sigma) + stats.halfnorm(scale=5.0).logpdf(sigma) + log_sigma
        rows.append(simpson(np.exp(log_p + 60.0), x=log_sigma) * stats.norm.pdf(lam))
    assert post.log_evidence == pytest.approx(np.log(simpson(rows, x=ratio)) - 60.0, abs=CLOSE)


def test_bayes_factor_is_the_ratio_to_the_model_without_the_effects() -> None:
    data = bl.load_dataset("sleepstudy")
    data = data[data["Days"] < 4].reset_index(drop=True)
    priors = {"sigma": bl.HalfNormal(60.0)}
    with_, without = (
        bl.Model(formula, data, residual="ar1(Days | Subject)").sample(200, random_seed=1, priors=priors)
        for formula in ("Reaction ~ Days + (1 | Subject)", "Reaction ~ Days")
    )
    found = with_.bayes_factor("sd_Subject", scales=(1,))
    assert found.log_bf01 == pytest.approx(without.log_evidence - with_.log_evidence, abs=CLOSE)
    # With a narrow prior at zero both models are the same.
    narrow = bl.Model("Reaction ~ Days + (1 | Subject)", data, residual="ar1(Days | Subject)")
    near = narrow.sample(200, random_seed=1, priors=priors | {"sd_Subject": bl.HalfNormal(1e-2)})
    assert near.log_evidence == pytest.approx(without.log_evidence, abs=1e-4)
