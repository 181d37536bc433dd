"""The posterior with heterogeneous compound symmetry and Toeplitz: dense densities, samplers, priors, null models."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from scipy.linalg import toeplitz
from scipy.stats import beta, norm

import bayeslmm as bl
from bayeslmm.bayes.default_priors import default_priors
from bayeslmm.bayes.evidence import without_effect
from bayeslmm.bayes.log_likelihood import variance_draws
from bayeslmm.bayes.target import make_target
from bayeslmm.design import build_design
from bayeslmm.design.design import Design
from bayeslmm.likelihood import cross_products
from bayeslmm.reml import optimise

ETA = 1.7


def machines(keyword: str) -> Design:
    return build_design(f"score ~ Machine + {keyword}(0 + Machine | Worker)", bl.load_dataset("Machines"))


def dense_reml(design: Design, G: np.ndarray, sigma: float) -> float:
    """Minus half of -2 log restricted likelihood of a design with one term."""
    term = design.terms[0]
    codes = design.groupings[term.group].codes
    V = sigma**2 * np.eye(design.n) + (term.Z @ G @ term.Z.T) * (codes[:, None] == codes)
    A = design.X.T @ np.linalg.solve(V, design.X)
    r = design.y - design.X @ np.linalg.solve(A, design.X.T @ np.linalg.solve(V, design.y))
    logs = np.linalg.slogdet(V)[1] + np.linalg.slogdet(A)[1] + (design.n - design.p) * np.log(2 * np.pi)
    return float(-0.5 * (logs + r @ np.linalg.solve(V, r)))


def covariance(keyword: str, natural: np.ndarray) -> np.ndarray:
    """G of three effects from sds and places: of the correlation on its range, of partial autocorrelations."""
    if keyword == "csh":
        rho = -0.5 + 1.5 * (1.0 + natural[3]) / 2.0
        return np.outer(natural[:3], natural[:3]) * (rho + (1.0 - rho) * np.eye(3))
    if keyword == "ar1h":
        return np.outer(natural[:3], natural[:3]) * toeplitz(natural[3] ** np.arange(3))
    one, two = natural[1:]
    return natural[0] ** 2 * toeplitz([1.0, one, one**2 + (1.0 - one**2) * two])


@pytest.mark.parametrize("keyword", ["csh", "ar1h", "toep"])
def test_target_is_the_dense_density(keyword: str) -> None:
    design = machines(keyword)
    cp, prior = cross_products(design), bl.Exponential(5.0)
    priors = replace(default_priors(design), sds=((prior,) * 3,), lkj=(ETA,))
    target, start = make_target(cp, priors, optimise(cp).terms)
    n_sds = 1 if keyword == "toep" else 3
    x = start + np.random.default_rng(0).normal(size=(5, start.size))
    points = target.evaluate(x)
    for k in range(x.shape[0]):
        column = points.log_sigma.shape[1] // 2
        sigma = float(np.exp(points.log_sigma[k, column]))
        # relative sds are exponentials of their coordinates, places 2 Phi - 1 or hyperbolic tangents
        w, normal = x[k, n_sds:], target.coordinates[0].normal
        natural = np.append(np.exp(x[k, :n_sds]), 2.0 * norm.cdf(w) - 1.0 if normal else np.tanh(w))
        sds, places = natural[:n_sds] * sigma, natural[n_sds:]
        expected = dense_reml(design, sigma**2 * covariance(keyword, natural), sigma)
        expected += float(priors.sigma.log_density(np.array(sigma)) + np.log(sigma))
        expected += float(prior.log_density(sds).sum() + np.log(sds).sum())
        log_slopes = norm.logpdf(w) if normal else np.log1p(-(places**2)) - np.log(2)
        expected += float((beta.logpdf((1 + places) / 2, ETA, ETA) + log_slopes).sum())
        # the target's is a density of the place on the line, from 0 to 1
        on_line = points.log_joint[k, column] - np.log(points.log_sigma[k, -1] - points.log_sigma[k, 0])
        assert on_line == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("keyword", ["csh", "ar1h", "toep"])
def test_draws_are_of_the_family(keyword: str) -> None:
    post = bl.Model(f"score ~ Machine + {keyword}(0 + Machine | Worker)", bl.load_dataset("Machines")).sample(
        300, random_seed=3
    )
    draws = variance_draws(post.design, post.data["posterior"])
    G = draws.factors[0] @ np.swapaxes(draws.factors[0], 1, 2)
    sd = np.sqrt(np.diagonal(G, axis1=1, axis2=2))
    R = G / (sd[:, :, None] * sd[:, None, :])
    corr = np.asarray(post.data["posterior"]["corr_Worker"]).reshape(G.shape[0], -1)
    np.testing.assert_allclose(R[:, 0, 1], corr[:, 0], atol=1e-9)
    np.testing.assert_allclose(R[:, 1, 2], corr[:, 0], atol=1e-9)
    np.testing.assert_allclose(R[:, 0, 2], corr[:, 0] ** 2 if keyword == "ar1h" else corr[:, -1], atol=1e-9)
    labels = list(post.data["posterior"]["corr_Worker"].coords["Worker__pair"].to_numpy())
    assert labels == (["toep.1", "toep.2"] if keyword == "toep" else [keyword])
    # what PyMC's model is about has these draws too
    r = np.asarray(post.data["posterior"]["r_Worker"]).reshape(G.shape[0], -1)
    low = -0.5 if keyword == "csh" else -1.0
    np.testing.assert_allclose(r[:, 0], (corr[:, 0] - low) / (1.0 - low), atol=1e-9)
    both = bl.compare(bl.Model(post.design.formula, bl.load_dataset("Machines")).fit(), post)
    assert f"corr_Worker[{labels[0]}]" in both.table.index


# Compiling PyMC's model takes longer than all else here: one of three, whose densities are compared to 1e-8 in
# test_bridge.py.
@pytest.mark.parametrize(
    ("keyword", "method"), [("csh", "collapsed_nuts"), ("toep", "collapsed_nuts"), ("ar1h", "nuts")]
)
def test_nuts_agrees(keyword: str, method: Literal["collapsed_nuts", "nuts"]) -> None:
    pytest.importorskip("pymc")
    model = bl.Model(f"score ~ Machine + {keyword}(0 + Machine | Worker)", bl.load_dataset("Machines"))
    exact = model.sample(4000, random_seed=2)
    other = model.sample(400, method=method, chains=2, tune=300, random_seed=2)
    spread = exact.table()["sd"]
    error = (other.table()["mean"] - exact.table()["mean"]).abs() / spread
    # at least 80 effective draws: 4.5 standard errors
    assert error.max() < 4.5 / np.sqrt(80)


@pytest.mark.parametrize(
    ("keyword", "text"),
    [("csh", "uniform(-0.5, 1)"), ("ar1h", "uniform(-1, 1)"), ("toep", "each partial autocorrelation")],
)
def test_priors_are_stated(keyword: str, text: str) -> None:
    model = bl.Model(f"score ~ Machine + {keyword}(0 + Machine | Worker)", bl.load_dataset("Machines"))
    table = model.priors().to_string()
    assert text in table
    prior = model.prior_predictive(4000, random_seed=1)["prior"]
    corr = np.asarray(prior["corr_Worker"]).reshape(4000, -1)
    low = -0.5 if keyword == "csh" else -1.0
    # uniform on its range: mean and variance within five standard errors
    assert abs(corr[:, 0].mean() - (low + 1.0) / 2.0) < 5.0 * (1.0 - low) / np.sqrt(12 * 4000)
    assert corr[:, 0].var() == pytest.approx((1.0 - low) ** 2 / 12.0, rel=5.0 * np.sqrt(0.8 / 4000))


def test_without_an_effect_the_others_keep_the_range_of_their_correlation() -> None:
    design = machines("csh")
    smaller, priors, kept = without_effect(design, default_priors(design), 0, 1)
    assert kept.tolist() == [0, 2]
    structure = smaller.terms[0].structure
    assert structure.correlation_range == (-0.5, 1.0)
    T = structure.factor(structure.coordinates(np.array([2.0, 3.0, -0.5])))
    np.testing.assert_allclose(T @ T.T, [[4.0, -3.0], [-3.0, 9.0]], atol=1e-12)
    assert priors.lkj == default_priors(design).lkj
    # at zero the sd's own model is the smaller one, so that the criterion is continuous there
    cp = cross_products(design)
    held = optimise(cp, fixed={0: np.array([5.0, 0.0, 5.0, 0.3])}).criterion
    inner = optimise(cross_products(smaller), fixed={0: np.array([5.0, 5.0, 0.3])}).criterion
    assert held == pytest.approx(inner, rel=1e-12)
    assert optimise(cross_products(smaller)).criterion >= optimise(cp).criterion


@pytest.mark.parametrize("keyword", ["csh", "ar1h", "toep"])
def test_printed_source_has_the_density_of_the_model(keyword: str) -> None:
    pytest.importorskip("pymc")
    model = bl.Model(f"score ~ Machine + {keyword}(0 + Machine | Worker)", bl.load_dataset("Machines"))
    ours = model.to_pymc()
    scope: dict[str, object] = {
        "df": bl.load_dataset("Machines"),
        "X": model.design.X,
        "Z_Worker": model.design.terms[0].Z,
    }
    exec(str(model.pymc_source()), scope)
    theirs = scope["model"]
    point = ours.initial_point()
    rng = np.random.default_rng(1)
    point = {name: np.asarray(value) + 0.3 * rng.normal(size=np.shape(value)) for name, value in point.items()}
    one, other = (m.compile_logp(mode="FAST_COMPILE")(point) for m in (ours, theirs))
    assert float(one) == pytest.approx(float(other), rel=1e-10)


@pytest.mark.parametrize("effect", [0, 1])
def test_without_an_effect_the_others_keep_their_distance(effect: int) -> None:
    design = machines("ar1h")
    smaller, _, kept = without_effect(design, default_priors(design), 0, effect)
    structure = smaller.terms[0].structure
    T = structure.factor(structure.coordinates(np.array([2.0, 3.0, -0.5])))
    r = (-0.5) ** (2 if effect == 1 else 1)
    np.testing.assert_allclose(T @ T.T, [[4.0, 6.0 * r], [6.0 * r, 9.0]], atol=1e-12)
    # a distance of two does not tell the sign
    np.testing.assert_allclose(structure.theta(T), [2.0, 3.0, 0.5 if effect == 1 else -0.5], atol=1e-12)
    cp, theta = cross_products(design), np.array([5.0, 5.0, 5.0, 0.3])
    theta[effect] = 0.0
    held = optimise(cp, fixed={0: theta}).criterion
    inner = optimise(cross_products(smaller), fixed={0: theta[[*kept, 3]]}).criterion
    assert held == pytest.approx(inner, rel=1e-12)
    assert optimise(cross_products(smaller)).criterion >= optimise(cp).criterion
