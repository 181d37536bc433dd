"""Priors far below what the data resolve, against dense integration on a grid of log sd, log sd and log sigma."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import logsumexp

import bayeslmm as bl
from bayeslmm.bayes import quadrature
from bayeslmm.bayes.evidence import integrated
from bayeslmm.bayes.prior_families import SdPrior

SIGMA = bl.HalfNormal(2.0)
NARROW: list[SdPrior] = [
    bl.HalfCauchy(0.01),
    bl.HalfCauchy(0.001),
    bl.HalfCauchy(1e-4),
    bl.HalfNormal(0.001),
    bl.HalfT(3, 0.01),
    bl.HalfT(3, 0.3),
    bl.Exponential(0.001),
]


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    g = np.repeat(range(5), [3, 4, 2, 6, 5])
    b, x = rng.normal(0, 0.8, 5), rng.normal(size=20)
    y = 1 + 0.5 * x + b[g] + rng.normal(size=20)
    return pd.DataFrame({"y": y, "x": x, "g": g, "h": np.arange(20) % 4})


def integral(data: pd.DataFrame, prior: SdPrior, sigma_prior: SdPrior, groups: str, nodes: int = 1600) -> list[float]:
    """Log evidence, means of the sds and of sigma by the trapezoidal rule on logs, densely."""
    X, y = np.column_stack([np.ones(20), data["x"]]), data["y"].to_numpy()
    log_t = np.linspace(-26.0, 9.0, nodes)
    log_sigma = np.linspace(-2.0, 3.0, 80)
    sigma, total = np.exp(log_sigma), []
    cells = [np.equal.outer(data[name].to_numpy(), data[name].to_numpy()).astype(float) for name in groups]
    grid = np.stack([a.ravel() for a in np.meshgrid(*[log_t] * len(groups), indexing="ij")], axis=1)
    for part in np.array_split(grid, max(grid.shape[0] // 2000, 1)):
        V = np.eye(20) + sum(np.exp(2 * part[:, k, None, None]) * cell for k, cell in enumerate(cells))
        W = np.linalg.inv(V)
        information, q = X.T @ W @ X, X.T @ W @ y
        r2 = np.einsum("i,kij,j->k", y, W, y) - (q * np.linalg.solve(information, q[..., None])[..., 0]).sum(-1)
        log_det = np.linalg.slogdet(V)[1] + np.linalg.slogdet(information)[1]
        value = -0.5 * (18 * (np.log(2 * np.pi) + 2 * log_sigma) + log_det[:, None] + r2[:, None] / sigma**2)
        for k in range(len(groups)):
            s = np.exp(part[:, k, None]) * sigma
            value += prior.log_density(s) + np.log(s)
        total.append(value + sigma_prior.log_density(sigma) + log_sigma)
    log_p = np.concatenate(total)
    evidence = logsumexp(log_p)
    p = np.exp(log_p - evidence)
    sds = [float((p * np.exp(grid[:, k, None]) * sigma).sum()) for k in range(len(groups))]
    steps = len(groups) * np.log(log_t[1] - log_t[0]) + np.log(log_sigma[1] - log_sigma[0])
    return [float(evidence + steps), *sds, float((p * sigma).sum())]


def exact(post: bl.Posterior) -> list[float]:
    assert post.exact is not None
    return [post.log_evidence, *(float(m[0]) for m in post.exact.sd_mean), post.exact.sigma_mean]


@pytest.mark.parametrize("prior", NARROW, ids=str)
def test_one_variance(data: pd.DataFrame, prior: SdPrior) -> None:
    post = bl.Model("y ~ x + (1 | g)", data).sample(100, priors={"sd": prior, "sigma": SIGMA}, random_seed=1)
    assert post.method == "quadrature" and post.diagnostics.reliable and post.diagnostics.quadrature_error < 1e-6
    expected = integral(data, prior, SIGMA, "g")
    np.testing.assert_allclose(exact(post), expected, rtol=1e-6)


def test_two_variances(data: pd.DataFrame) -> None:
    prior = bl.HalfCauchy(0.01)
    model = bl.Model("y ~ x + (1 | g) + (1 | h)", data)
    post = model.sample(100, priors={"sd": prior, "sigma": SIGMA}, random_seed=1)
    assert post.method == "quadrature" and post.diagnostics.quadrature_error < 1e-6
    np.testing.assert_allclose(exact(post), integral(data, prior, SIGMA, "gh", 150), rtol=1e-4)


def test_bayes_factor_at_narrow_scales(data: pd.DataFrame) -> None:
    priors = {"sd": bl.HalfCauchy(1.0), "sigma": SIGMA}
    post = bl.Model("y ~ x + (1 | g)", data).sample(100, priors=priors, random_seed=1)
    scales = (1e-3, 1e-2, 1.0)
    found = np.array(post.bayes_factor("sd_g", scales=scales).log_bf01_at_scales)
    evidence = [integral(data, bl.HalfCauchy(scale), SIGMA, "g")[0] for scale in scales]
    np.testing.assert_allclose(found, point(data, 0.0) - np.array(evidence), atol=1e-5)


@pytest.mark.parametrize("upper", [0.01, 0.3])
def test_a_uniform_prior_below_the_data(data: pd.DataFrame, upper: float) -> None:
    """Its jump is nothing for a grid: importance sampling, and evidences too."""
    prior = bl.Uniform(upper)
    post = bl.Model("y ~ x + (1 | g)", data).sample(priors={"sd": prior, "sigma": SIGMA}, random_seed=1)
    assert post.method == "importance" and post.diagnostics.reliable
    # the mean over uniform sds of the density of y, from half-normals that are practically points
    s = (np.arange(12) + 0.5) / 12 * upper
    values = np.array([point(data, v) for v in s])
    log_evidence = logsumexp(values) - np.log(12)
    # a Monte Carlo error of 4000 draws
    assert post.log_evidence == pytest.approx(log_evidence, abs=0.03)
    found = integrated(post.cross_products, post.priors, post._typical, np.random.default_rng(1))
    assert found.method == "importance" and found.value == pytest.approx(log_evidence, abs=0.03)


def point(data: pd.DataFrame, s: float) -> float:
    """Log density of y at one sd, sigma integrated."""
    X, y, log_sigma = np.column_stack([np.ones(20), data["x"]]), data["y"].to_numpy(), np.linspace(-2, 3, 200)
    sigma = np.exp(log_sigma)
    same = np.equal.outer(data["g"].to_numpy(), data["g"].to_numpy())
    V = s**2 * same + sigma[:, None, None] ** 2 * np.eye(20)
    W = np.linalg.inv(V)
    information, q = X.T @ W @ X, X.T @ W @ y
    r2 = np.einsum("i,kij,j->k", y, W, y) - (q * np.linalg.solve(information, q[..., None])[..., 0]).sum(-1)
    log_det = np.linalg.slogdet(V)[1] + np.linalg.slogdet(information)[1]
    value = -0.5 * (18 * np.log(2 * np.pi) + log_det + r2) + SIGMA.log_density(sigma) + log_sigma
    return float(logsumexp(value) + np.log(log_sigma[1] - log_sigma[0]))


def test_a_grid_that_is_too_coarse_is_not_used(data: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quadrature, "_NODES", {1: (9,), 2: (81,), 3: (729,)})
    model, priors = bl.Model("y ~ x + (1 | g)", data), {"sd": bl.HalfCauchy(0.05), "sigma": SIGMA}
    with pytest.warns(bl.ConvergenceWarning, match="error of the grid"):
        post = model.sample(priors=priors, method="quadrature", random_seed=1)
    assert not post.diagnostics.reliable
    post = model.sample(priors=priors, random_seed=1)
    assert post.method != "quadrature"
    expected = integral(data, bl.HalfCauchy(0.05), SIGMA, "g")
    table = post.table()
    error = 5 * table.loc["sd_g[Intercept]", "sd"] / np.sqrt(4000)
    assert table.loc["sd_g[Intercept]", "mean"] == pytest.approx(expected[1], abs=error)
    found = integrated(post.cross_products, post.priors, post._typical, np.random.default_rng(1))
    assert found.method == "importance" and found.value == pytest.approx(expected[0], abs=0.05)


@pytest.mark.parametrize("prior", [bl.Uniform(1e-6), bl.HalfNormal(1e-12), bl.Gamma(1000, 1e-6)], ids=str)
def test_a_prior_of_sigma_that_contradicts_the_data(data: pd.DataFrame, prior: SdPrior) -> None:
    with pytest.raises(bl.PriorError) as caught:
        bl.Model("y ~ x + (1 | g)", data).sample(priors={"sigma": prior}, random_seed=1)
    text = str(caught.value)
    assert str(prior) in text and "residual standard deviation is about 1.1" in text and "duplicated" not in text


@pytest.mark.parametrize("prior", [bl.HalfNormal(0.2), bl.HalfNormal(0.1), bl.HalfCauchy(0.001)], ids=str)
def test_a_tight_prior_of_sigma(data: pd.DataFrame, prior: SdPrior) -> None:
    half = bl.HalfNormal(1.0)
    post = bl.Model("y ~ x + (1 | g)", data).sample(100, priors={"sd": half, "sigma": prior}, random_seed=1)
    np.testing.assert_allclose(exact(post), integral(data, half, prior, "g"), rtol=1e-6)
