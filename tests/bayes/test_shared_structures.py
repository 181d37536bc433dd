"""The collapsed posterior of structures whose effects share one sd, against dense densities and equal models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import beta

import bayeslmm as bl
from bayeslmm.bayes.default_priors import default_priors, resolve_priors
from bayeslmm.bayes.layout import make_layout
from bayeslmm.bayes.target import make_target
from bayeslmm.design.design import Design
from bayeslmm.likelihood import cross_products
from bayeslmm.reml import optimise

Make = Callable[..., Design]
LOWEST = {"compound symmetry": -0.5, "autoregression": -1.0}


def dense_reml(design: Design, sd: float, rho: float, sigma: float) -> float:
    """Minus half of -2 log restricted likelihood of a design with one term of three effects."""
    term = design.terms[0]
    c = len(term.effects)
    R = np.eye(c)
    for i in range(c):
        for j in range(i):
            R[i, j] = R[j, i] = {"id": 0.0, "cs": rho, "ar1": rho ** (i - j)}[term.structure.keyword]
    codes = design.groupings["g"].codes
    V = sigma**2 * np.eye(design.n) + sd**2 * (term.Z @ R @ term.Z.T) * (codes[:, None] == codes)
    A = design.X.T @ np.linalg.solve(V, design.X)
    r = design.y - design.X @ np.linalg.solve(A, design.X.T @ np.linalg.solve(V, design.y))
    logs = np.linalg.slogdet(V)[1] + np.linalg.slogdet(A)[1] + (design.n - design.p) * np.log(2 * np.pi)
    return float(-0.5 * (logs + r @ np.linalg.solve(V, r)))


@pytest.mark.parametrize("prior", [bl.HalfT(3, 2.0), bl.Exponential(2.0)])
@pytest.mark.parametrize("kind", ["identity", "compound symmetry", "autoregression"])
def test_target_is_the_dense_density(kind: str, prior: bl.HalfT | bl.Exponential, design: Make) -> None:
    data = design(kind)
    cp = cross_products(data)
    priors = replace(default_priors(data), sds=((prior,) * len(data.terms[0].effects),), lkj=(1.7,))
    target, start = make_target(cp, priors, optimise(cp).terms)
    assert target.dimension == start.size == (1 if kind == "identity" else 2)
    rng = np.random.default_rng(0)
    x = start + rng.normal(size=(5, start.size))
    if prior.even:
        x[:, 0] = np.abs(x[:, 0])
    points = target.evaluate(x)
    step = 1e-6

    def theta(x: np.ndarray) -> np.ndarray:
        """(relative sd, correlation of neighbours) from the factors."""
        factors, sds, _ = target.terms(x)
        G = factors[0] @ np.swapaxes(factors[0], 1, 2)
        assert np.allclose(np.sqrt(G[:, 0, 0]), sds[0][:, 0])
        return np.stack([np.sqrt(G[:, 0, 0]), G[:, 0, 1] / G[:, 0, 0]], axis=1)

    at = theta(x)
    slopes = [np.abs(theta(x + step * e) - theta(x - step * e)) / (2 * step) for e in np.eye(start.size)]
    for k in range(x.shape[0]):
        column = points.log_sigma.shape[1] // 2
        sigma, t, rho = float(np.exp(points.log_sigma[k, column])), at[k, 0], at[k, 1]
        expected = dense_reml(data, t * sigma, rho, sigma)
        # densities of sigma and of the ratio t, then of log sigma and x
        expected += float(priors.sigma.log_density(np.array(sigma)) + prior.log_density(np.array(t * sigma)))
        expected += 2 * np.log(sigma) + np.log(slopes[0][k, 0])
        if kind != "identity":
            low = LOWEST[kind]
            expected += beta.logpdf((rho - low) / (1 - low), 1.7, 1.7) - np.log(1 - low) + np.log(slopes[1][k, 1])
        # the target's is a density of the place on the line, from 0 to 1
        on_line = points.log_joint[k, column] - np.log(points.log_sigma[k, -1] - points.log_sigma[k, 0])
        assert on_line == pytest.approx(expected, rel=1e-7)


def test_identity_has_the_posterior_of_the_interaction() -> None:
    data = bl.load_dataset("Machines")
    one = bl.Model("score ~ Machine + id(0 + Machine | Worker)", data).sample(200, random_seed=1)
    other = bl.Model("score ~ Machine + (1 | Worker:Machine)", data).sample(200, random_seed=1)
    # means and sds by quadrature, which carry no Monte Carlo error
    np.testing.assert_allclose(one.table()[["mean", "sd"]], other.table()[["mean", "sd"]], rtol=1e-7)


@pytest.mark.parametrize("method", ["importance", "nuts"])
def test_methods_agree(method: str) -> None:
    if method == "nuts":
        pytest.importorskip("pymc")
    model = bl.Model("score ~ Machine + cs(0 + Machine | Worker)", bl.load_dataset("Machines"))
    exact = model.sample(4000, random_seed=2)
    other = model.sample(2000, method=method, random_seed=2)
    spread = exact.table()["sd"]
    error = (other.table()["mean"] - exact.table()["mean"]).abs() / spread
    # at least 200 effective draws: 4.5 standard errors
    assert error.max() < 4.5 / np.sqrt(200)
    assert list(exact.data["posterior"]["sd_Worker"].to_numpy().shape[2:]) == [1]
    assert list(other.data["posterior"]["corr_Worker"].coords["Worker__pair"].to_numpy()) == ["cs"]


def test_names_of_shared_parameters(design: Make) -> None:
    layout = make_layout(design("all structures"))
    assert layout.coords["g__sd"] == ("Intercept", "x", "cs", "id")
    assert layout.coords["g__pair"] == ("Intercept.x", "cs")
    assert layout.coords["h__sd"] == ("ar1", "Intercept")
    assert layout.posterior_dims["sd_g"] == ("g__sd",)
    assert layout.posterior_dims["b_g"] == ("g", "g__effect")
    assert layout.groups[0].sd_of_effect.tolist() == [0, 1, 2, 2, 2, 3, 3]


def test_effects_that_share_an_sd_share_its_prior(design: Make) -> None:
    data = design("compound symmetry")
    priors = resolve_priors(data, {"sd_g": bl.HalfNormal(2.0)})
    assert priors.sds == ((bl.HalfNormal(2.0),) * 3,)
    with pytest.raises(bl.PriorError, match=r"share one standard deviation \(cs\).*half-normal"):
        resolve_priors(data, {"sd_g": [bl.HalfNormal(2.0), bl.HalfNormal(1.0), bl.HalfNormal(2.0)]})


@pytest.mark.parametrize("kind", ["compound symmetry", "autoregression", "all structures"])
def test_pymc_gradient_is_finite_at_the_start(kind: str, design: Make) -> None:
    pytest.importorskip("pymc")
    from bayeslmm.bayes.pymc_model import build_pymc_model

    data = design(kind)
    model = build_pymc_model(data, default_priors(data))
    gradient = model.compile_dlogp(mode="FAST_COMPILE")(model.initial_point())
    assert np.isfinite(gradient).all()
