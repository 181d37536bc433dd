"""The PyMC model of residual parameters: its joint density is that of dense algebra with the REML room's covariance."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

import bayeslmm as bl
from bayeslmm.bayes.default_priors import resolve_priors
from bayeslmm.bayes.pymc_model import build_pymc_model
from bayeslmm.bayes.pymc_residuals import residual_arrays
from bayeslmm.errors import DesignError, FitError
from bayeslmm.residual.laws import log_density, sphere_laws

pytest.importorskip("pymc")

STRUCTURES = (
    "by(arm)",
    "exp(t)",
    "power(w)",
    "const_power(w)",
    "ar1(t | id)",
    "car1(w | id)",
    "cs(id)",
    "us(t | id)",
    "us(t | id, by=arm)",
    "toep(t | id)",
    "adh(t | id)",
    "arma(t | id)",
    "gaussian(w | id)",
    "by(arm) + ar1(t | id)",
)


def _data() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    t, unit = np.tile(np.arange(4), 12), np.repeat(np.arange(12), 4)
    frame = pd.DataFrame({"y": rng.normal(size=48), "t": t, "id": unit, "arm": np.where(unit % 2, "a", "b")})
    frame["w"] = 0.5 + t + 0.3 * rng.random(48)
    frame["g"] = unit % 3
    # Missing visits, and rows in no order.
    return frame.drop(index=[3, 17, 18]).sample(frac=1.0, random_state=1)


@pytest.mark.parametrize("residual", STRUCTURES)
def test_joint_density_is_the_dense_one(residual: str) -> None:
    design = bl.Model("y ~ t + (1 | g)", _data(), residual=residual).design
    priors = resolve_priors(design)
    model = build_pymc_model(design, priors)
    rng = np.random.default_rng(2)
    lam = 0.4 * rng.normal(size=len(design.residual.names))
    beta, sigma, sd, z = rng.normal(size=2), 0.8, 0.6, rng.normal(size=(3, 1))
    values = dict(zip(design.residual.names, lam, strict=True))
    values |= {"beta": beta, "sigma": np.log(sigma), "sd_g": np.log([sd]), "z_g": z}
    point = {model.rvs_to_values[v].name: np.asarray(values[v.name], dtype=float) for v in model.free_RVs}
    found = float(model.compile_logp(jacobian=False, mode="FAST_COMPILE")(point))
    mean = design.X @ beta + sd * z[design.groupings["g"].codes, 0]
    R = design.residual.covariance(lam).toarray()
    expected = stats.multivariate_normal.logpdf(design.y, mean, sigma**2 * R) + stats.norm.logpdf(z).sum()
    expected += log_density(priors.residual, lam[None])[0]
    for prior, value in ((priors.sigma, sigma), (priors.sds[0][0], sd)):
        expected += np.log(2.0) + stats.t.logpdf(value, prior.df, scale=prior.scale)
    assert found == pytest.approx(expected, rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("residual", ["us(t | id, by=arm)", "by(arm) + ar1(t | id)"])
def test_the_source_is_the_model(residual: str) -> None:
    data = _data()
    model = bl.Model("y ~ t + (1 | g)", data, residual=residual)
    names = {"df": data, **residual_arrays(model.design), **model.design.residual.data()}
    exec(str(model.pymc_source()), names)
    built = model.to_pymc()
    point = built.initial_point()
    found, expected = (float(m.compile_logp(mode="FAST_COMPILE")(point)) for m in (names["model"], built))
    assert found == pytest.approx(expected, rel=1e-12)


def test_rows_of_a_factor_under_lkj_are_those_of_uniform_correlations() -> None:
    """All 3 x 3 correlation matrices have one density: that of the factor is its Jacobian, by differences."""
    laws = sphere_laws(3)

    def matrix(u: np.ndarray) -> np.ndarray:
        L = np.array([[1.0, 0.0, 0.0], [u[0], 1.0, 0.0], [u[1], u[2], 1.0]])
        L /= np.sqrt((L**2).sum(1))[:, None]
        return (L @ L.T)[[1, 2, 2], [0, 0, 1]]

    found = []
    for u in np.random.default_rng(1).normal(size=(5, 3)):
        step = 1e-6 * np.eye(3)
        jacobian = np.array([(matrix(u + h) - matrix(u - h)) / 2e-6 for h in step])
        found.append(log_density(laws, u[None])[0] - np.linalg.slogdet(jacobian)[1])
    # The volume of 3 x 3 correlation matrices is pi^2 / 2.
    np.testing.assert_allclose(found, -np.log(np.pi**2 / 2.0), atol=1e-6)
    total = integrate.quad(lambda x: np.exp(laws[0].log_density(np.array([x]), np.empty((1, 0)))[0]), -np.inf, np.inf)
    assert total[0] == pytest.approx(1.0, abs=1e-8)


@pytest.mark.parametrize("method", ["auto", "nuts"])
def test_posterior_of_serial_correlation_is_that_of_quadrature(method: str) -> None:
    """Against a grid over (rho, sigma) with the mean integrated out in dense algebra, within Monte Carlo error."""
    data = _data()
    model = bl.Model("y ~ 1", data, residual="ar1(t | id)")
    tune = {"tune": 500} if "nuts" in method else {}
    post = model.sample(1000, method=method, random_seed=1, chains=2, progressbar=False, **tune)
    design, scale = model.design, post.priors.sigma.scale
    rho, sigma = np.linspace(-0.9, 0.9, 121), np.geomspace(0.4, 2.5, 121)
    logs = np.empty((rho.size, sigma.size))
    for i, r in enumerate(rho):
        R = design.residual.covariance(np.arctanh([r])).toarray()
        inverse = np.linalg.inv(R)
        information = inverse.sum()
        mean = inverse.sum(0) @ design.y / information
        left = design.y - mean
        constant = -0.5 * np.linalg.slogdet(R)[1] - 0.5 * np.log(information)
        logs[i] = constant - (design.n - 1) * np.log(sigma) - 0.5 * left @ inverse @ left / sigma**2
    logs += stats.t.logpdf(sigma, 3.0, scale=scale) + np.log(sigma)
    weights = np.exp(logs - logs.max())
    weights /= weights.sum()
    errors = post.monte_carlo_errors()["mean"]
    for label, values in (("residual_rho", weights.sum(1) @ rho), ("sigma", weights.sum(0) @ sigma)):
        # Beyond the ends of this grid lies a share of 1e-6; the means of the package's own have no Monte Carlo error.
        assert abs(post.estimates()[label] - values) < max(4.5 * errors[label], 1e-5)
    assert post.method == ("quadrature" if method == "auto" else method)
    assert "residual_rho" in str(post.summary())
    assert post.varcorr()["group"].tolist() == ["Residual"]
    # Rows left out one by one, by integration over the same grid: p(y) / p(y without the row) is not needed here, the
    # density of a row given the others and the parameters is, and its harmonic mean over the posterior.
    without = np.empty((rho.size, sigma.size, design.n))
    for i, r in enumerate(rho):
        A = np.linalg.inv(design.residual.covariance(np.arctanh([r])).toarray())
        P = A - np.outer(A.sum(0), A.sum(0)) / A.sum()
        off, variance = (P @ design.y) / np.diag(P), np.outer(sigma**2, 1.0 / np.diag(P))
        without[i] = -0.5 * (np.log(2.0 * np.pi * variance) + off**2 / variance)
    expected = -np.log(np.tensordot(weights, np.exp(-without), 2))
    found = post.loo()
    assert found.elpd == pytest.approx(expected.sum(), abs=0.5)
    assert np.abs(found.elpd_i.to_numpy() - expected).max() < 0.1


def test_what_would_leave_the_parameters_out_is_refused_in_words() -> None:
    model = bl.Model("y ~ t", _data(), residual="ar1(t | id)")
    with pytest.raises(FitError, match="dependent given all parameters"):
        model.sample(log_likelihood=True)
    with pytest.raises(DesignError, match="collapsed"):
        model.to_pymc(form="collapsed")
    table = model.priors({"residual_rho": bl.Normal(0.5, 0.2)})
    assert table.loc["residual_rho", "prior"] == "atanh_rho normal(0.5, sd 0.2)"
    assert model.priors().loc["residual_rho", "prior"] == "uniform on its range"


def test_what_is_not_identified_is_said_before_anything_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A random intercept beside cs(): here sampling is made to fail, and the warning comes all the same."""
    data = bl.load_dataset("sleepstudy")
    model = bl.Model("Reaction ~ Days + (1 | Subject)", data, residual="cs(Subject)")

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bayeslmm.results.sampling.sample_collapsed", stopped)
    said = r"Not identified: only a combination .* the variance in \(1 \| Subject\), the residual rho"
    with pytest.warns(bl.BayesLMMWarning, match=said), pytest.raises(KeyboardInterrupt):
        model.sample(300, random_seed=1)
    with pytest.warns() as caught, pytest.raises(KeyboardInterrupt):
        bl.compare(model, bl.Model("Reaction ~ Days + (1 | Subject)", data))
    assert any(str(one.message).startswith("Not identified") for one in caught)
