"""The posterior mode and the same density from dense matrices and SciPy's log densities."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.linalg import block_diag, cho_factor, cho_solve
from scipy.optimize import minimize, minimize_scalar

import bayeslmm as bl
from bayeslmm.bayes import priors as bayes
from bayeslmm.bayes.default_priors import resolve_priors
from bayeslmm.bayes.target import make_target

BATCH = "Yield ~ 1 + (1 | Batch)"
SLEEP = "Reaction ~ Days + (Days | Subject)"
REL = bl.Relative


def log_likelihood(y, X, Z, G, sigma, reml=True, beta=None) -> float:
    """Log density of y: beta integrated out (flat, or normal with mean and sd), or at its best value.

    Parameters
    ----------
    G : array, shape (q, q)
        Covariance of the random effects, absolute.
    beta : pair of arrays, optional
        Means and sds (inf where flat) of normal priors.
    """
    V = Z @ G @ Z.T + sigma**2 * np.eye(y.size)
    factor = cho_factor(V, lower=True)
    mean, precision = np.zeros(X.shape[1]), np.zeros(X.shape[1])
    if beta is not None:
        mean, precision = np.asarray(beta[0], float), 1.0 / np.asarray(beta[1], float) ** 2
    A = X.T @ cho_solve(factor, X) + np.diag(precision)
    best = np.linalg.solve(A, X.T @ cho_solve(factor, y) + precision * mean)
    r = y - X @ best
    total = -0.5 * (y.size * np.log(2 * np.pi) + 2 * np.log(np.diagonal(factor[0])).sum() + r @ cho_solve(factor, r))
    total += -0.5 * (precision * (best - mean) ** 2).sum()
    total += 0.5 * np.log(precision[precision > 0] / (2 * np.pi)).sum()
    if reml:
        total += 0.5 * (X.shape[1] * np.log(2 * np.pi) - np.linalg.slogdet(A)[1])
    return float(total)


def columns(codes, values) -> np.ndarray:
    """Columns (n, J c) of a random term from codes (n,) and effects (n, c)."""
    values = np.atleast_2d(np.asarray(values, float).T).T
    out = np.zeros((len(codes), codes.max() + 1, values.shape[1]))
    out[np.arange(len(codes)), codes] = values
    return out.reshape(len(codes), -1)


def covariance(sigma: np.ndarray, levels: int) -> np.ndarray:
    """Covariance of all effects from that (c, c) of one level."""
    return block_diag(*[sigma] * levels)


# Log densities of one sd: the package's prior as text, and SciPy's, made once because that takes long.
T4, CAUCHY, NORMAL = stats.t(4, scale=2), stats.halfcauchy(scale=0.7), stats.halfnorm(scale=3)
EXPON, GAMMA = stats.expon(scale=1.5), stats.gamma(2.5, scale=1.25)
INVERSE, CHI = stats.invgamma(1.2, scale=2), stats.chi(2.5, scale=2)
DENSITIES = {
    "HalfT(4, 2.0)": lambda s: T4.logpdf(s) + np.log(2),
    "HalfCauchy(0.7)": CAUCHY.logpdf,
    "HalfNormal(3.0)": NORMAL.logpdf,
    "Exponential(1.5)": EXPON.logpdf,
    "Gamma(2.5, 0.8)": GAMMA.logpdf,
    "Gamma(1.7, 0)": lambda s: 0.7 * np.log(s),
    "Power(1.0)": np.log,
    "Uniform(30.0)": lambda s: -np.log(30.0) if s <= 30.0 else -np.inf,
    "InverseGammaVariance(1.2, 2.0)": lambda s: INVERSE.logpdf(s**2) + np.log(2 * s),
    "Flat()": lambda s: 0.0,
    "bayes.Chi(2.5, 2.0)": CHI.logpdf,
}
HALF_T = stats.t(3, scale=3.0)


def _prior(text):
    return eval(text, {"bayes": bayes, **{name: getattr(bl, name) for name in bl.__all__ if name[0].isupper()}})


def _batches(data):
    y = data["Yield"].to_numpy(float)
    codes = pd.factorize(data["Batch"])[0]
    return y, np.ones((y.size, 1)), columns(codes, np.ones(y.size))


@pytest.mark.filterwarnings("ignore::bayeslmm.errors.PriorWarning")
@pytest.mark.parametrize(("name", "relative"), [("Dyestuff2", False), ("Dyestuff", True)])
@pytest.mark.parametrize("text", DENSITIES)
def test_no_point_of_a_grid_is_higher(name, text, relative):
    """All families of an sd, absolute and relative to sigma, sigma half-t: a grid of dense densities, refined."""
    data = bl.load_dataset(name)
    y, X, Z = _batches(data)
    prior = _prior(text)
    fit = bl.Model(BATCH, data).fit(priors={"sd": REL(prior) if relative else prior, "sigma": bl.HalfT(3, 3.0)})

    def height(s, sigma):
        with np.errstate(divide="ignore"):
            own = float(DENSITIES[text](s / sigma if relative else s)) + float(HALF_T.logpdf(sigma)) + np.log(2)
        return own + log_likelihood(y, X, Z, s**2 * np.eye(6), sigma) if np.isfinite(own) else -1e10

    s, sigma, spread = fit.theta[0] * fit.sigma, fit.sigma, float(np.std(y))
    top = height(s, sigma)
    assert -0.5 * fit.optimum.objective == pytest.approx(top, abs=1e-8)
    for sd in [0.0, *np.geomspace(1e-2, 6.0, 10) * spread]:
        ends = np.log(spread) + np.array([-3.0, 1.5])
        best = minimize_scalar(
            lambda u, sd=sd: -height(sd, np.exp(u)), bounds=ends, method="bounded", options={"xatol": 1e-3}
        )
        assert -best.fun <= top + 1e-8
    near = minimize(
        lambda v: -height(abs(v[0]), np.exp(v[1])),
        [0.95 * s + 1e-3 * spread, np.log(sigma)],
        method="Nelder-Mead",
        options={"xatol": 1e-5, "fatol": 1e-9},
    )
    assert top - 1e-5 <= -near.fun <= top + 1e-8


@pytest.mark.parametrize("relative", [False, True])
def test_a_uniform_prior_may_hold_the_mode_at_its_end(relative):
    data = bl.load_dataset("Dyestuff")
    prior = REL(bl.Uniform(0.4)) if relative else bl.Uniform(20.0)
    fit = bl.Model(BATCH, data).fit(priors={"preset": "flat", "sd": prior})
    y, X, Z = _batches(data)
    best = minimize_scalar(
        lambda u: -log_likelihood(y, X, Z, (0.4 * np.exp(u) if relative else 20.0) ** 2 * np.eye(6), np.exp(u)),
        bounds=(3.0, 5.0),
        method="bounded",
        options={"xatol": 1e-10},
    )
    assert fit.theta[0] * (1.0 if relative else fit.sigma) == pytest.approx(0.4 if relative else 20.0, rel=1e-12)
    assert fit.sigma == pytest.approx(np.exp(best.x), rel=1e-7)
    assert fit.status.ok


def test_default_priors_of_correlated_effects_are_about_the_means():
    """Half-t of the sds at the mean of Days and LKJ(2): a search of the dense density in other coordinates."""
    data = bl.load_dataset("sleepstudy")
    y, days = data["Reaction"].to_numpy(float), data["Days"].to_numpy(float)
    codes = pd.factorize(data["Subject"])[0]
    X = np.column_stack([np.ones(y.size), days])
    Z = columns(codes, np.column_stack([np.ones(y.size), days - days.mean()]))
    spread = y.std(ddof=1)
    halves = [stats.t(3, scale=c) for c in (spread, spread / np.sqrt(np.mean((days - days.mean()) ** 2)), spread)]
    fit = bl.Model(SLEEP, data).fit(priors={"lkj": 2})

    def height(v):
        sds, r, sigma = np.exp(v[:2]), np.tanh(v[2]), np.exp(v[3])
        G = np.outer(sds, sds) * np.array([[1.0, r], [r, 1.0]])
        prior = sum(half.logpdf(s) + np.log(2) for half, s in zip(halves, [*sds, sigma], strict=True))
        prior += np.log1p(-(r**2))
        return prior + log_likelihood(y, X, Z, covariance(G, 18), sigma)

    A = np.array([[1.0, -days.mean()], [0.0, 1.0]])
    G = fit.sigma**2 * np.linalg.inv(A) @ fit.optimum.terms[0] @ fit.optimum.terms[0].T @ np.linalg.inv(A).T
    sds = np.sqrt(np.diagonal(G))
    found = np.array([*np.log(sds), np.arctanh(G[0, 1] / sds.prod()), np.log(fit.sigma)])
    assert -0.5 * fit.optimum.objective == pytest.approx(height(found), abs=1e-7)
    best = minimize(lambda v: -height(v), found + 0.05, method="Nelder-Mead", options={"xatol": 1e-5, "fatol": 1e-9})
    np.testing.assert_allclose(best.x, found, atol=5e-4)
    assert -best.fun <= height(found) + 1e-9


@pytest.mark.parametrize("reml", [True, False])
def test_normal_priors_of_fixed_effects(reml):
    data = bl.load_dataset("sleepstudy")
    y, days = data["Reaction"].to_numpy(float), data["Days"].to_numpy(float)
    codes = pd.factorize(data["Subject"])[0]
    X, Z = np.column_stack([np.ones(y.size), days]), columns(codes, np.ones(y.size))
    beta = ([0.0, 5.0], [np.inf, 0.7])
    priors = {"beta[Days]": bl.Normal(5, 0.7), "sd": bl.Gamma(3, 0.1), "sigma": bl.Exponential(20.0)}
    fit = bl.Model("Reaction ~ Days + (1 | Subject)", data).fit(reml, priors=priors)

    gamma, exponential = stats.gamma(3, scale=10), stats.expon(scale=20)

    def height(v):
        s, sigma = np.exp(v)
        prior = gamma.logpdf(s) + exponential.logpdf(sigma)
        return prior + log_likelihood(y, X, Z, s**2 * np.eye(18), sigma, reml, beta)

    found = np.log([fit.theta[0] * fit.sigma, fit.sigma])
    assert -0.5 * fit.optimum.objective == pytest.approx(height(found), abs=1e-8)
    best = minimize(lambda v: -height(v), found + 0.1, method="Nelder-Mead", options={"xatol": 1e-5, "fatol": 1e-9})
    np.testing.assert_allclose(best.x, found, atol=5e-4)
    V = np.exp(2 * found[0]) * Z @ Z.T + np.exp(2 * found[1]) * np.eye(y.size)
    inverse = np.linalg.inv(X.T @ np.linalg.solve(V, X) + np.diag([0.0, 1 / 0.49]))
    np.testing.assert_allclose(fit.vcov(), inverse, rtol=1e-6)
    np.testing.assert_allclose(
        fit.fixef(), inverse @ (X.T @ np.linalg.solve(V, y) + np.array([0.0, 5 / 0.49])), rtol=1e-8
    )
    blup = np.exp(2 * found[0]) * Z.T @ np.linalg.solve(V, y - X @ fit.fixef().to_numpy())
    np.testing.assert_allclose(fit.ranef()["Subject"].to_numpy().ravel(), blup, rtol=1e-6)


@pytest.mark.parametrize("decov", [bl.Decov(2.0, 1.0, 1.0, 1.0), bl.Decov(1.5, 1.4, 2.0, 0.5)])
def test_decov_is_the_density_of_its_scale_and_shares(decov):
    data = bl.load_dataset("sleepstudy")
    y, days = data["Reaction"].to_numpy(float), data["Days"].to_numpy(float)
    codes = pd.factorize(data["Subject"])[0]
    X = np.column_stack([np.ones(y.size), days])
    Z = columns(codes, X)
    fit = bl.Model(SLEEP, data).fit(priors={"preset": "flat", "sd": decov, "sigma": bl.Exponential(50.0)})
    tau, residual = stats.gamma(decov.shape, scale=decov.scale), stats.expon(scale=50)

    def height(v):
        t, r, sigma = np.exp(v[:2]), np.tanh(v[2]), np.exp(v[3])
        G = np.outer(t, t) * np.array([[1.0, r], [r, 1.0]]) * sigma**2
        total = (t**2).sum()
        prior = tau.logpdf(np.sqrt(total / 2))
        prior += (decov.concentration - 1) * np.log(t**2 / total).sum()
        prior += (decov.regularization - 1) * np.log1p(-(r**2)) + residual.logpdf(sigma)
        return prior + log_likelihood(y, X, Z, covariance(G, 18), sigma)

    T = fit.optimum.terms[0]
    t = np.sqrt((T**2).sum(1))
    found = np.array([*np.log(t), np.arctanh((T @ T.T)[0, 1] / t.prod()), np.log(fit.sigma)])
    best = minimize(lambda v: -height(v), found + 0.03, method="Nelder-Mead", options={"xatol": 1e-5, "fatol": 1e-9})
    np.testing.assert_allclose(best.x, found, atol=5e-4)
    assert -best.fun <= height(found) + 1e-9


def test_the_mode_is_the_highest_point_of_the_collapsed_posterior():
    """The density that sampling integrates, less its Jacobians, on a fine grid of ratio and sigma."""
    model = bl.Model(BATCH, bl.load_dataset("Dyestuff"))
    fit = model.fit(priors="default")
    target, _ = make_target(model.cross_products, resolve_priors(model.design), model.fit().optimum.terms)
    s = np.linspace(1.0, 120.0, 1191)
    sigma = np.linspace(30.0, 80.0, 1001)
    t = s[:, None] / sigma
    heights = np.empty(t.shape)
    for k, one in enumerate(sigma):
        factor = target.factor(np.zeros((s.size, 1)), [t[:, k, None, None]])
        log_sigma = np.full((s.size, 1), np.log(one))
        # Densities in t and log sigma: p(s) sigma and p(sigma) sigma.
        heights[:, k] = target.log_joint(factor, [t[:, k, None]], np.zeros(s.size), log_sigma)[:, 0] - 2 * np.log(one)
    i, k = np.unravel_index(np.argmax(heights), heights.shape)
    assert abs(s[i] - fit.estimates()["sd_Batch[Intercept]"]) <= 0.1
    assert abs(sigma[k] - fit.sigma) <= 0.05
    assert -0.5 * fit.optimum.objective == pytest.approx(heights.max(), abs=1e-4)
    assert -0.5 * fit.optimum.objective >= heights.max()
