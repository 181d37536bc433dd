"""Prior densities: each proper one integrates to one and agrees with SciPy's distribution."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad
from scipy.special import gammaln

import bayeslmm as bl
from bayeslmm.bayes.priors import (
    Chi,
    Exponential,
    Flat,
    Gamma,
    HalfCauchy,
    HalfNormal,
    HalfT,
    InverseGammaVariance,
    Power,
    Relative,
    SdPrior,
    Uniform,
)
from bayeslmm.errors import PriorError

LOG_2 = float(np.log(2.0))
PROPER: list[tuple[SdPrior, Any]] = [
    (HalfT(3.0, 2.5), lambda s: LOG_2 + stats.t(3.0, scale=2.5).logpdf(s)),
    (HalfT(7.5, 0.01), lambda s: LOG_2 + stats.t(7.5, scale=0.01).logpdf(s)),
    (HalfCauchy(40.0), stats.halfcauchy(scale=40.0).logpdf),
    (HalfNormal(0.3), stats.halfnorm(scale=0.3).logpdf),
    (Exponential(5.0), stats.expon(scale=5.0).logpdf),
    (Exponential.pc(3.0, 0.01), stats.expon(scale=3.0 / np.log(100.0)).logpdf),
    (Gamma(2.0, 0.4), stats.gamma(2.0, scale=2.5).logpdf),
    (Gamma(0.7, 3.0), stats.gamma(0.7, scale=1 / 3.0).logpdf),
    (Chi(4.5, 2.0), stats.chi(4.5, scale=2.0).logpdf),
    (Chi(1.0, 2.0), stats.halfnorm(scale=2.0).logpdf),
    (Relative(HalfNormal(0.3)), stats.halfnorm(scale=0.3).logpdf),
    (Uniform(6.0), stats.uniform(0.0, 6.0).logpdf),
    (InverseGammaVariance(2.0, 3.0), lambda s: LOG_2 + np.log(s) + stats.invgamma(2.0, scale=3.0).logpdf(s**2)),
    (InverseGammaVariance(0.5, 0.1), lambda s: LOG_2 + np.log(s) + stats.invgamma(0.5, scale=0.1).logpdf(s**2)),
]


@pytest.mark.parametrize(("prior", "reference"), PROPER, ids=[str(p) for p, _ in PROPER])
def test_integrates_to_one(prior: SdPrior, reference: Any) -> None:
    def integrand(t: float) -> float:
        # s = e^t: equally fine for every scale and for heavy tails.
        return float(np.exp(prior.log_density(np.exp(np.array(t))) + t))

    edges = [-60.0, *np.arange(-8.0, 8.1, 0.5), 60.0]
    if isinstance(prior, Uniform):
        edges = [-60.0, -5.0, 0.0, np.log(prior.upper)]
    total = sum(quad(integrand, a, b, epsabs=1e-12, limit=200)[0] for a, b in pairwise(edges))
    assert prior.proper
    assert total == pytest.approx(1.0, abs=1e-8)


@pytest.mark.parametrize(("prior", "reference"), PROPER, ids=[str(p) for p, _ in PROPER])
def test_agrees_with_scipy(prior: SdPrior, reference: Any) -> None:
    s = np.geomspace(1e-3, 5.9, 40)
    np.testing.assert_allclose(prior.log_density(s), reference(s), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("probability", [0.05, 0.95, 0.999])
@pytest.mark.parametrize(("prior", "reference"), PROPER, ids=[str(p) for p, _ in PROPER])
def test_quantile_has_its_probability_below(prior: SdPrior, reference: Any, probability: float) -> None:
    upper = np.log(prior.quantile(probability))
    pieces = pairwise([upper - 60.0, *np.arange(upper - 12.0, upper, 0.5), upper])
    mass = sum(quad(lambda t: float(np.exp(reference(np.exp(t)) + t)), a, b, limit=200)[0] for a, b in pieces)
    assert mass == pytest.approx(probability, abs=1e-8)


@pytest.mark.parametrize("prior", [p for p, _ in PROPER if p.even] + [Flat()], ids=str)
def test_even_priors_are_flat_at_zero(prior: SdPrior) -> None:
    step = 1e-4
    at_zero, beside = prior.log_density(np.array([0.0, step]))
    assert np.isfinite(at_zero)
    assert beside - at_zero == pytest.approx(0.0, abs=2e-3)


def test_improper_priors() -> None:
    s = np.array([0.5, 2.0])
    assert not Flat().proper
    assert not Power(1.0).proper
    np.testing.assert_array_equal(Flat().log_density(s), [0.0, 0.0])
    np.testing.assert_allclose(np.exp(Power(2.0).log_density(s)), s**2)
    np.testing.assert_allclose(np.exp(Gamma(2.5, 0.0).log_density(s)), s**1.5)
    assert not Gamma(2.5, 0.0).proper
    assert np.isnan([p.quantile(0.95) for p in (Flat(), Power(1.0), Gamma(2.0, 0.0))]).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HalfT(3.0, 0.0), "scale of a half-t prior is 0.0"),
        (lambda: Gamma(-1.0, 1.0), "shape of a gamma prior is -1.0"),
        (lambda: InverseGammaVariance(0.0, 0.0), "infinite|diverges at s = 0"),
        (lambda: Exponential.pc(1.0, 1.5), r"PC prior is 1.5"),
        (lambda: Relative(Relative(Flat())), "ratio sd / sigma"),
        (lambda: Relative(3.0), "was given 3.0"),
    ],
)
def test_wrong_numbers_are_refused(make: Any, message: str) -> None:
    with pytest.raises(PriorError, match=message):
        make()


def test_zero_is_outside_the_support_of_some() -> None:
    zero = np.array([0.0])
    assert Power(1.0).log_density(zero) == -np.inf
    assert InverseGammaVariance(1.0, 1.0).log_density(zero) == -np.inf


def test_uniform_ends_at_its_upper_end() -> None:
    assert Uniform(2.0).log_density(np.array(2.0 + 1e-9)) == -np.inf


def test_pc_prior_has_its_tail_probability() -> None:
    prior = Exponential.pc(3.0, 0.05)
    assert np.exp(-3.0 / prior.mean) == pytest.approx(0.05)


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("eta", [1.0, 2.5])
def test_partial_correlations_give_the_lkj_constant(size: int, eta: float) -> None:
    """The beta densities that the PyMC model uses multiply to c_eta |Omega|^(eta - 1) exactly."""
    k = np.arange(1, size)
    a = eta + (size - 1 - k) / 2.0
    vine = ((size - k) * ((2.0 * a - 1.0) * np.log(2.0) + 2.0 * gammaln(a) - gammaln(2.0 * a))).sum()
    onion = (k / 2.0 * np.log(np.pi) + gammaln(eta + (size - 1 - k) / 2.0) - gammaln(eta + (size - 1) / 2.0)).sum()
    assert vine == pytest.approx(onion, abs=1e-10)


@pytest.mark.parametrize(
    ("mean", "sd"), [([0, 1], [1, 2]), ("a", 1), (0, None), (0, -1), (0, 0), (np.inf, 1), (0, np.nan), (True, 1)]
)
def test_a_normal_prior_is_of_one_coefficient(mean: Any, sd: Any) -> None:
    with pytest.raises(PriorError, match=r"finite mean and a positive finite sd.*'flat'") as caught:
        bl.Normal(mean, sd)
    assert str(caught.value).startswith(f"Normal({mean!r}, {sd!r})")


def test_a_normal_prior_takes_numbers_of_numpy() -> None:
    assert str(bl.Normal(np.float32(2), np.int64(3))) == "normal(2, sd 3)"


@pytest.mark.parametrize(
    "make",
    [
        lambda: bl.Power("a"),  # type: ignore[arg-type]
        lambda: bl.Power(np.nan),
        lambda: bl.Exponential.pc("a"),  # type: ignore[arg-type]
        lambda: bl.Exponential.pc(1.0, "a"),  # type: ignore[arg-type]
        lambda: bl.Exponential.pc(-1.0),
    ],
)
def test_what_is_no_number_is_refused_by_a_prior_error(make: Any) -> None:
    with pytest.raises(PriorError, match=r"is ('a'|nan|-1.0), but"):
        make()
