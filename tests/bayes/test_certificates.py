"""Certificates that hold: narrow and contradicting priors against dense integration, and broken samplers caught."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy.special import gammaln, logsumexp
from scipy.stats import norm

import bayeslmm as bl
from bayeslmm.bayes import sigma_line
from bayeslmm.bayes.collapsed import UnreliableWeightsError, sample_collapsed
from bayeslmm.bayes.coordinates import TermCoordinates
from bayeslmm.bayes.default_priors import resolve_priors
from bayeslmm.bayes.direct import DirectDensity
from bayeslmm.bayes.prior_families import Gamma, InverseGammaVariance, SdPrior
from bayeslmm.bayes.priors import Priors
from bayeslmm.bayes.self_check import standardised
from bayeslmm.bayes.target import Target, make_target
from bayeslmm.bayes.term_priors import Chi
from bayeslmm.types import FloatArray

HALF = bl.HalfNormal(2.0)


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    rng = np.random.default_rng(11)
    g = np.repeat(np.arange(6), [5, 4, 6, 5, 3, 7])
    x = rng.normal(size=30)
    return pd.DataFrame({"y": 1 + 0.5 * x + 0.7 * rng.normal(size=6)[g] + rng.normal(size=30), "x": x, "g": g})


class Contrasts:
    """Log density of the error contrasts of the random intercepts, from their eigenvalues."""

    def __init__(self, data: pd.DataFrame) -> None:
        X = np.column_stack([np.ones(30), data["x"]])
        Q = np.linalg.qr(X, mode="complete")[0][:, 2:]
        same = np.equal.outer(data["g"].to_numpy(), data["g"].to_numpy()).astype(float)
        self.roots, vectors = np.linalg.eigh(Q.T @ same @ Q)
        self.y2 = (vectors.T @ Q.T @ data["y"].to_numpy()) ** 2
        self.constant = -0.5 * np.linalg.slogdet(X.T @ X)[1] - 14 * np.log(2 * np.pi)

    def __call__(self, sigma: FloatArray, s: FloatArray) -> FloatArray:
        variance = sigma[..., None] ** 2 + s[..., None] ** 2 * np.maximum(self.roots, 0)
        return self.constant - 0.5 * (np.log(variance) + self.y2 / variance).sum(-1)


def sample(data: pd.DataFrame, priors: dict[str, SdPrior], **arguments: object) -> bl.Posterior:
    return bl.Model("y ~ x + (1 | g)", data).sample(500, priors=priors, random_seed=1, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("width", [1e-1, 1e-2, 1e-3, 1e-5, 1e-8, 1e-10])
@pytest.mark.parametrize("place", [1.0, 1.5, 0.4])
def test_sigma_almost_known(data: pd.DataFrame, width: float, place: float) -> None:
    """At, near and far from the residuals: the evidence and the mean of the sd by two trapezoidal rules."""
    shape = width**-2
    post = sample(data, {"sigma": Gamma(shape, shape / place), "sd": HALF})
    density = Contrasts(data)
    # In units of the width the log density of u = log(sigma / place), a gamma's, is smooth.
    v = np.linspace(-16.0, 12.0, 141)
    u = np.maximum(v * width, -5.0)
    fall = np.where(np.abs(u) < 1e-4, u**2 / 2 + u**3 / 6 + u**4 / 24, np.expm1(u) - u)
    top = shape * np.log(shape) - shape - gammaln(shape) if shape < 1e5 else 0.5 * np.log(shape / (2 * np.pi))
    log_s = np.linspace(-22.0, 3.0, 251)
    s = np.exp(log_s)
    prior = np.log(2) + norm.logpdf(s, 0, 2.0) + log_s
    joint = density(place * np.exp(u)[:, None], s[None, :]) + prior + (top - shape * fall)[:, None]
    joint = np.where((v * width > -5.0)[:, None], joint, -np.inf)
    log_p = logsumexp(joint)
    evidence = log_p + np.log((v[1] - v[0]) * width * (log_s[1] - log_s[0]))
    assert post.method == "quadrature" and post.diagnostics.reliable
    assert post.log_evidence == pytest.approx(evidence, abs=1e-5)
    assert post.exact is not None
    assert post.exact.sd_mean[0][0] == pytest.approx((np.exp(joint - log_p) * s).sum(), rel=1e-5)


def test_two_sds_almost_known(data: pd.DataFrame) -> None:
    """Both widths at once: the evidence is the density of y there."""
    for width in (1e-4, 1e-8):
        shape = width**-2
        post = sample(data, {"sigma": Gamma(shape, shape / 1.2), "sd": Gamma(shape, shape / 0.9)})
        expected = Contrasts(data)(np.array(1.2), np.array(0.9))
        assert post.diagnostics.reliable and post.log_evidence == pytest.approx(float(expected), abs=2e-2)
        draws = post.data.posterior
        # 500 draws around a known place
        assert float(abs(draws["sigma"].mean() / 1.2 - 1)) < 0.3 * width
        assert float(abs(draws["sd_g"].mean() / 0.9 - 1)) < 0.3 * width


@pytest.mark.parametrize("scale", [0.06, 0.045, 0.04, 0.01, 1e-4])
def test_no_strip_between_a_tight_prior_and_a_refused_one(data: pd.DataFrame, scale: float) -> None:
    post = sample(data, {"sigma": bl.HalfNormal(scale), "sd": HALF})
    density, log_s = Contrasts(data), np.linspace(-22.0, 3.0, 251)
    coarse = np.linspace(np.log(scale) - 1.0, np.log(scale) + 8.0, 9001)
    line = density(np.exp(coarse), np.ones(9001)) - 0.5 * (np.exp(coarse) / scale) ** 2
    held = coarse[line > line.max() - 60.0]
    log_sigma = np.linspace(held[0] - 0.1 * np.ptp(held), held[-1] + 0.1 * np.ptp(held), 200)
    sigma, s = np.exp(log_sigma), np.exp(log_s)
    prior = np.log(2) + norm.logpdf(s, 0, 2.0) + log_s
    values = density(sigma[:, None], s[None, :]) + (np.log(2) + norm.logpdf(sigma, 0, scale) + log_sigma)[:, None]
    log_p = logsumexp(values + prior)
    evidence = log_p + np.log((log_sigma[1] - log_sigma[0]) * (log_s[1] - log_s[0]))
    assert post.diagnostics.reliable
    assert post.log_evidence == pytest.approx(evidence, abs=1e-6, rel=1e-10)
    assert post.exact is not None
    mean = (np.exp(values + prior - log_p) * sigma[:, None]).sum()
    assert post.exact.sigma_mean == pytest.approx(mean, rel=1e-6)


@pytest.mark.parametrize("upper", [3.0, 1.1, 0.9, 0.3])
def test_a_uniform_prior_of_sigma_cuts_the_likelihood(data: pd.DataFrame, upper: float) -> None:
    post = sample(data, {"sigma": bl.Uniform(upper), "sd": HALF})
    nodes, weights = np.polynomial.legendre.leggauss(60)
    sigma = 0.5 * upper * (1 + nodes)
    log_s = np.linspace(-22.0, 3.0, 251)
    s = np.exp(log_s)
    prior = np.log(2) + norm.logpdf(s, 0, 2.0) + log_s + np.log(log_s[1] - log_s[0])
    values = Contrasts(data)(sigma[:, None], s[None, :]) + prior + np.log(0.5 * weights)[:, None]
    assert post.diagnostics.reliable and post.log_evidence == pytest.approx(float(logsumexp(values)), abs=1e-6)


@pytest.mark.parametrize("scale", [1e-28, 1e-40, 1e-50, 1e-100])
def test_an_sd_that_is_zero_to_rounding(data: pd.DataFrame, scale: float) -> None:
    post = sample(data, {"sigma": HALF, "sd": bl.HalfNormal(scale)})
    z = np.linspace(-4.0, 4.0, 2000)
    values = Contrasts(data)(np.exp(z), np.zeros(2000)) + np.log(2) + norm.logpdf(np.exp(z), 0, 2.0) + z
    assert post.diagnostics.reliable
    assert post.log_evidence == pytest.approx(float(logsumexp(values) + np.log(z[1] - z[0])), abs=1e-8)
    assert post.exact is not None
    # the posterior of such an sd is its prior
    assert post.exact.sd_mean[0][0] == pytest.approx(scale * np.sqrt(2 / np.pi), rel=1e-6)


@pytest.mark.parametrize(
    "prior", [Gamma(1e-300, 1), InverseGammaVariance(1, 1e-300), bl.HalfNormal(1e-200), Gamma(1e30, 1e30)], ids=str
)
@pytest.mark.filterwarnings("ignore::bayeslmm.errors.PriorWarning")
def test_priors_that_double_precision_cannot_hold(data: pd.DataFrame, prior: SdPrior) -> None:
    with pytest.raises(
        bl.PriorError, match=r"The prior of sd_g\[Intercept\] is .*(not a number|floating-point numbers)"
    ):
        sample(data, {"sigma": HALF, "sd": prior})


def test_a_prior_whose_mass_reaches_beyond_any_grid(data: pd.DataFrame) -> None:
    """Half of its mass is below 1e-31: the grid says that it has not seen all of it."""
    model = bl.Model("y ~ x + (1 | g)", data)
    model.fit()
    cp = model.cross_products
    priors = resolve_priors(cp.design, {"sigma": HALF, "sd": Gamma(0.01, 1)})
    with pytest.warns(bl.ConvergenceWarning):
        found = sample_collapsed(cp, priors, [np.eye(1)], method="quadrature", rng=np.random.default_rng(1))
    assert not found.diagnostics.reliable  # type: ignore[union-attr]


@pytest.mark.parametrize("shape", [2e5, 1e8, 1e16])
def test_densities_of_large_shapes(shape: float) -> None:
    """Near its peak a gamma is normal up to terms of order 1 / sqrt(shape)."""
    z = np.array([-3.0, -1.0, 0.0, 2.0])
    sd = 1 / np.sqrt(shape)
    s = 1 + z * sd
    expected = norm.logpdf(s, 1, sd) + (z**3 - 3 * z) * sd / 3
    np.testing.assert_allclose(Gamma(shape, shape).log_density(s), expected, atol=60 / shape + 1e-6)
    mean, spread = 1.0, 0.5 * sd
    for prior in (InverseGammaVariance(shape, shape), Chi(2 * shape, 1 / np.sqrt(2 * shape))):
        np.testing.assert_allclose(
            prior.log_density(mean + z * spread), norm.logpdf(z) - np.log(spread), atol=40 * sd + 1e-6
        )


MODELS: dict[str, tuple[str, object]] = {
    "sleepstudy": ("Reaction ~ Days + (Days | Subject)", None),
    "sleepstudy, normal beta": ("Reaction ~ Days + (Days | Subject)", {"beta": bl.Normal(1000, 1e-3)}),
    "sleepstudy, LKJ": ("Reaction ~ Days + (Days | Subject)", {"lkj": 1e12}),
    "Machines": ("score ~ Machine + (Machine | Worker)", "rstanarm"),
    "Machines, cs": ("score ~ 1 + cs(0 + Machine | Worker)", None),
    "Penicillin": ("diameter ~ 1 + (1 | plate) + (1 | sample)", "flat"),
}


@pytest.mark.parametrize("name", MODELS)
def test_two_routes_to_one_log_density(name: str) -> None:
    """Elimination, equal nodes and analytic Jacobians; least squares, bisected panels and differences."""
    formula, priors = MODELS[name]
    model = bl.Model(formula, bl.load_dataset(name.split(",")[0]))
    model.fit()
    cp = model.cross_products
    target, start = make_target(cp, resolve_priors(cp.design, priors), model._optimum(True).terms)  # type: ignore[arg-type]
    step = 1e-7 if "LKJ" in name else 0.3
    x = start + step * np.random.default_rng(1).normal(size=(3, target.dimension))
    x = np.where(target.folded, np.abs(x) + 0.01, x)
    again = DirectDensity.at(target, x).integrate()
    np.testing.assert_allclose(target.evaluate(x).log_density, again.log_integral, rtol=1e-9, atol=1e-7)


def narrow_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sigma_line, "sigma_range", lambda nu: (-0.1, 0.1))
    monkeypatch.setattr(sigma_line, "_astray", lambda values, *_: np.zeros(values.shape[0], dtype=bool))


def not_following(monkeypatch: pytest.MonkeyPatch) -> None:
    """The nodes of sigma on the likelihood, whatever the prior."""
    monkeypatch.setattr(sigma_line, "_astray", lambda values, *_: np.zeros(values.shape[0], dtype=bool))


def offset(monkeypatch: pytest.MonkeyPatch) -> None:
    log_joint = Target.log_joint

    def wrong(self: Target, *arguments: object) -> FloatArray:
        return log_joint(self, *arguments) + 0.05  # type: ignore[arg-type]

    monkeypatch.setattr(Target, "log_joint", wrong)


def no_jacobian(monkeypatch: pytest.MonkeyPatch) -> None:
    sds = TermCoordinates.sds

    def wrong(self: TermCoordinates, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        return sds(self, x)[0], np.zeros(x.shape[0])

    monkeypatch.setattr(TermCoordinates, "sds", wrong)


BROKEN: list[tuple[Callable[[pytest.MonkeyPatch], None], dict[str, SdPrior]]] = [
    (narrow_grid, {"sigma": HALF, "sd": HALF}),
    (not_following, {"sigma": Gamma(1e12, 1e12), "sd": HALF}),
    (not_following, {"sigma": bl.HalfNormal(0.03), "sd": HALF}),
    (offset, {"sigma": HALF, "sd": HALF}),
    (no_jacobian, {"sigma": HALF, "sd": HALF}),
]


@pytest.mark.parametrize(("breaks", "priors"), BROKEN, ids=lambda v: getattr(v, "__name__", ""))
@pytest.mark.parametrize("method", ["quadrature", "importance", "auto"])
def test_the_check_catches_a_broken_sampler(
    data: pd.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
    breaks: Callable[[pytest.MonkeyPatch], None],
    priors: dict[str, SdPrior],
    method: str,
) -> None:
    model = bl.Model("y ~ x + (1 | g)", data)
    model.fit()
    cp = model.cross_products
    breaks(monkeypatch)
    resolved, rng = resolve_priors(cp.design, priors), np.random.default_rng(1)
    with pytest.raises(UnreliableWeightsError, match="self-check failed: the log density at posterior draws is off"):
        sample_collapsed(
            cp, resolved, model._optimum(True).terms, draws=500, method=method, rng=rng, unreliable="raise"
        )


def test_an_explicit_method_warns(data: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    offset(monkeypatch)
    with pytest.warns(bl.ConvergenceWarning, match="self-check failed"):
        post = sample(data, {"sigma": HALF, "sd": HALF}, method="quadrature")
    assert not post.diagnostics.reliable and "self-check failed" in post.certificate()


def test_the_certificate_says_what_was_checked(data: pd.DataFrame) -> None:
    post = sample(data, {"sigma": HALF, "sd": HALF})
    check = post.diagnostics.self_check
    assert check.passed and check.route == "least squares" and check.density_error < 1e-6
    assert "self-check passed (log density at 4 draws within 1e-09)" in post.certificate()
    assert post.data["sample_stats"].attrs["self_check_points"] == 4


def test_standardised() -> None:
    u = np.random.default_rng(1).normal(size=4000)
    even = np.ones(4000)
    assert standardised(u, even) < 4 < 10 < min(standardised(u + 0.2, even), standardised(1.2 * u, even))


@pytest.mark.parametrize("formula", ["Reaction ~ Days + (Days | Subject)", "Reaction ~ Days + (Days || Subject)"])
def test_means_of_a_grid_are_about_the_effects_that_draws_are_about(formula: str) -> None:
    """Effects at the mean of Days have other sds than those at its zero: one is not to be compared with the other."""
    post = bl.Model(formula, bl.load_dataset("sleepstudy")).sample(1000, method="quadrature", random_seed=1)
    assert post.diagnostics.self_check.passed
    # Chance alone: the largest of four differences, in standard errors.
    assert post.diagnostics.self_check.moments < 4.5


def test_a_first_proposal_that_misses_a_tail_proves_nothing() -> None:
    """Inverse gamma priors leave a second, flat hump near zero that a t at the mode does not reach.

    The evidence is that of a grid.
    """
    model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))
    vague = InverseGammaVariance(0.001, 0.001)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bl.PriorWarning)
        grid, points = (
            model.sample(3000, priors=Priors(((vague,),), (1.0,), vague), method=method, random_seed=1)
            for method in ("quadrature", "importance")
        )
    assert points.diagnostics.reliable
    error = np.sqrt((1 / points.diagnostics.efficiency - 1) / points.diagnostics.points)
    assert points.log_evidence == pytest.approx(grid.log_evidence, abs=5 * error)
