"""Priors of whole terms against numerical integration, matrix densities and simulation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad

from bayeslmm.bayes.priors import (
    Decov,
    DecovMarginal,
    Exponential,
    Flat,
    FlatFactor,
    Gamma,
    HalfNormal,
    HalfT,
    Normal,
    Power,
    Priors,
    Relative,
    Wishart,
)
from bayeslmm.errors import PriorError

DECOVS = [Decov(), Decov(2.0, 2.5, 3.0, 0.7), Decov(1.0, 0.6, 1.5, 2.0)]


def _jacobian(function: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> float:
    """Log absolute determinant of the derivative by central differences."""
    steps = 1e-5 * np.eye(x.size)
    columns = [(function(x + h) - function(x - h)) / 2e-5 for h in steps]
    return float(np.linalg.slogdet(np.column_stack(columns))[1])


def _correlation_factor(z: np.ndarray, c: int) -> np.ndarray:
    """Cholesky factor of the correlation matrix with canonical partial correlations z, row by row."""
    L, position = np.zeros((c, c)), 0
    for i in range(c):
        left = 1.0
        for j in range(i):
            L[i, j] = z[position] * np.sqrt(left)
            left -= L[i, j] ** 2
            position += 1
        L[i, i] = np.sqrt(left)
    return L


def _partial_density(shapes: np.ndarray, z: np.ndarray, c: int) -> float:
    """Log density of partial correlations with the given shapes, up to a constant."""
    rows, cols = np.tril_indices(c, -1)
    return float(((shapes[rows, cols] - 1.0) * np.log1p(-(z**2))).sum())


@pytest.mark.parametrize("prior", DECOVS, ids=str)
def test_decov_of_two_effects_integrates_to_one(prior: Decov) -> None:
    # Trapezoidal rules in polar coordinates, the angle and the radius mapped to the whole line.
    v, w = np.linspace(-15.0, 15.0, 601), np.linspace(-30.0, 6.0, 601)
    log_odds, log_r = np.meshgrid(v, w)
    cos = 1.0 / np.sqrt(1.0 + np.exp(2.0 * log_odds))
    sin = 1.0 / np.sqrt(1.0 + np.exp(-2.0 * log_odds))
    t = np.exp(log_r)[..., None] * np.stack([cos, sin], axis=-1)
    # tan(angle) = e^v, so d angle = sin cos dv; area r d r d angle = r^2 d log r d angle
    integrand = np.exp(prior.log_density(t) + 2.0 * log_r) * sin * cos
    assert integrand.sum() * (v[1] - v[0]) * (w[1] - w[0]) == pytest.approx(1.0, abs=1e-7)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("prior", DECOVS, ids=str)
def test_decov_is_gamma_and_dirichlet_transformed(prior: Decov, size: int) -> None:
    def sds(x: np.ndarray) -> np.ndarray:
        shares = np.append(x[1:], 1.0 - x[1:].sum())
        return x[0] * np.sqrt(size * shares)

    rng = np.random.default_rng(size)
    for _ in range(5):
        tau, shares = rng.gamma(2.0), rng.dirichlet(np.full(size, 3.0))
        x = np.concatenate([[tau], shares[:-1]])
        expected = stats.gamma(prior.shape, scale=prior.scale).logpdf(tau) - _jacobian(sds, x)
        if size > 1:
            expected += stats.dirichlet(np.full(size, prior.concentration)).logpdf(shares)
        assert prior.log_density(sds(x)[None])[0] == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("prior", DECOVS, ids=str)
def test_marginal_of_decov(prior: Decov) -> None:
    marginal = DecovMarginal(prior, 2)
    for t in (0.3, 1.7):
        joint = quad(lambda other, t=t: np.exp(prior.log_density(np.array([[t, other]]))[0]), 0.0, 60.0, limit=200)[0]
        assert np.exp(marginal.log_density(np.array(t))) == pytest.approx(joint, rel=1e-5)
    upper = marginal.quantile(0.9)
    below = quad(lambda t: np.exp(marginal.log_density(np.array(t))), 0.0, upper, limit=100)[0]
    assert below == pytest.approx(0.9, abs=1e-5)


def test_decov_draws_have_the_quantiles_of_the_marginal() -> None:
    prior, count = Decov(1.0, 1.5, 2.0, 0.5), 40_000
    t = prior.draw(3, count, np.random.default_rng(8))
    for probability in (0.1, 0.5, 0.95):
        share = (t < DecovMarginal(prior, 3).quantile(probability)).mean(axis=0)
        error = np.sqrt(probability * (1 - probability) / count)
        np.testing.assert_allclose(share, probability, atol=4 * error)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_wishart_is_independent_chi_sds_times_lkj(size: int) -> None:
    """Against SciPy's density of the covariance matrix and the Jacobian 2^c prod s^c, up to the LKJ constant."""
    v = np.array([4.0, 0.3, 1.5])[:size]
    prior = Wishart(size + 1.5, tuple(v))
    rng = np.random.default_rng(2)
    differences = []
    for _ in range(6):
        s = rng.uniform(0.3, 2.0, size)
        L = _correlation_factor(rng.uniform(-0.8, 0.8, size * (size - 1) // 2), size)
        omega = L @ L.T
        matrix = stats.wishart(size + 1.5, np.diag(v)).logpdf(np.outer(s, s) * omega)
        exact = matrix + size * np.log(2.0) + size * np.log(s).sum()
        ours = sum(float(p.log_density(x)) for p, x in zip(prior.sds(size), s, strict=True))
        ours += (prior.eta(size) - 1.0) * np.linalg.slogdet(omega)[1]
        differences.append(exact - ours)
    np.testing.assert_allclose(differences, differences[0], atol=1e-10)
    if size == 1:
        assert differences[0] == pytest.approx(0.0, abs=1e-10)
    if size == 2:
        a = prior.eta(2)
        assert differences[0] == pytest.approx(stats.beta(a, a, -1, 2).logpdf(0.0), abs=1e-10)


def test_wishart_of_infinite_scale_and_of_too_few_degrees_of_freedom() -> None:
    assert Wishart(4.5).sds(2) == (Power(3.5), Power(3.5))
    assert Wishart(4.5).eta(2) == pytest.approx(1.75)
    with pytest.raises(PriorError, match="needs more than 2"):
        Wishart(2.0).eta(3)
    with pytest.raises(PriorError, match="2 scales, but the term has 3"):
        Wishart(5.0, (1.0, 2.0)).sds(3)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_flat_factor_is_the_jacobian_of_the_cholesky_factor(size: int) -> None:
    prior, rows = FlatFactor(), np.tril_indices(size)

    def theta(x: np.ndarray) -> np.ndarray:
        return (x[:size, None] * _correlation_factor(x[size:], size))[rows]

    rng, differences = np.random.default_rng(3), []
    for _ in range(5):
        t, z = rng.uniform(0.3, 2.0, size), rng.uniform(-0.7, 0.7, size * (size - 1) // 2)
        ours = prior.log_density(t[None])[0] + _partial_density(prior.partial_shapes(size), z, size)
        differences.append(ours - _jacobian(theta, np.concatenate([t, z])))
    np.testing.assert_allclose(differences, 0.0, atol=1e-7)


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("eta", [0.7, 1.0, 3.0])
def test_partial_shapes_of_lkj(size: int, eta: float) -> None:
    priors = Priors(((HalfNormal(1.0),) * size,), (eta,), Flat())
    below = np.tril_indices(size, -1)

    def rho(z: np.ndarray) -> np.ndarray:
        L = _correlation_factor(z, size)
        return (L @ L.T)[below]

    rng, differences = np.random.default_rng(4), []
    for _ in range(5):
        z = rng.uniform(-0.7, 0.7, size * (size - 1) // 2)
        L = _correlation_factor(z, size)
        exact = (eta - 1.0) * 2.0 * np.log(np.diagonal(L)).sum() + _jacobian(rho, z)
        differences.append(exact - _partial_density(priors.partial_shapes(0, size), z, size))
    np.testing.assert_allclose(differences, differences[0], atol=1e-7)


def test_density_of_relative_sds() -> None:
    """Absolute priors bring the Jacobian sigma, relative ones do not see sigma, joint ones replace both."""
    decov = Decov()
    marginals = (decov.marginal(0, 2), decov.marginal(1, 2))
    sds = ((HalfT(3.0, 2.0), Relative(Exponential(1.5))), marginals, (Relative(Gamma(2.0, 3.0)),))
    priors = Priors(sds, (1.0,) * 3, HalfT(3.0, 1.0), joint=(None, decov, None))
    t = (np.array([[0.4, 1.1], [2.0, 0.2]]), np.array([[1.0, 2.0], [0.3, 0.9]]), np.array([[0.5], [1.5]]))
    sigma = np.array([[0.5, 1.0, 3.0], [0.2, 2.0, 7.0]])
    expected = (
        np.log(2.0)
        + stats.t(3.0, scale=2.0).logpdf(t[0][:, :1] * sigma)
        + np.log(sigma)
        + stats.expon(scale=1.5).logpdf(t[0][:, 1:])
        + decov.log_density(t[1])[:, None]
        + stats.gamma(2.0, scale=1 / 3.0).logpdf(t[2])
    )
    np.testing.assert_allclose(priors.log_density_relative(t, sigma), expected, rtol=1e-12)
    assert priors.even == ((True, False), (False, False), (False,))


def test_marginal_of_an_absolute_sd_under_a_relative_prior() -> None:
    """The product of two independent exponentials has the density 2 K_0(2 sqrt(s / ab)) / (ab)."""
    from scipy.special import k0

    priors = Priors(((Relative(Exponential(2.0)),),), (1.0,), Exponential(3.0))
    s = np.array([0.2, 1.0, 5.0, 20.0])
    np.testing.assert_allclose(
        np.exp(priors.log_density_sd(0, 0, s)), 2.0 * k0(2.0 * np.sqrt(s / 6.0)) / 6.0, rtol=1e-4
    )
    flat = Priors(((Relative(Exponential(2.0)),),), (1.0,), Flat())
    assert np.isnan(flat.log_density_sd(0, 0, s)).all()


def test_sigma_has_no_relative_prior() -> None:
    with pytest.raises(PriorError, match="relative to sigma itself"):
        Priors((), (), Relative(HalfNormal(1.0)))


@pytest.mark.parametrize(("mean", "sd"), [(np.nan, 1.0), (0.0, 0.0), (0.0, np.inf)])
def test_normal_needs_finite_numbers(mean: float, sd: float) -> None:
    with pytest.raises(PriorError, match="finite mean and a positive finite sd"):
        Normal(mean, sd)
