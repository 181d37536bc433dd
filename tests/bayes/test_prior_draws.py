"""Draws from the prior against closed forms and against integrals of the densities."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from scipy import integrate, stats

from bayeslmm.bayes.default_priors import resolve_priors
from bayeslmm.bayes.prior_draws import draw_prior, draw_sd, simulate_response
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
    Priors,
    Relative,
    SdPrior,
    Uniform,
)
from bayeslmm.errors import PriorError
from bayeslmm.likelihood import NormalPrior, cross_products

from .conftest import TERMS, N, make_design

# Probability of a false alarm of one test.
ALARM = 1e-5


@dataclass(frozen=True)
class _Rayleigh:
    """A density that no family of the package has."""

    proper: bool = True
    even: bool = False
    relative: bool = False

    def quantile(self, probability: float) -> float:
        return float(stats.rayleigh(scale=3.0).ppf(probability))

    def log_density(self, s: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(s / 9.0) - s**2 / 18.0)


@pytest.mark.parametrize(
    "prior",
    [
        HalfT(3, 2.0),
        HalfCauchy(5.0),
        HalfNormal(0.1),
        Exponential(7.0),
        Uniform(3.0),
        InverseGammaVariance(2.0, 3.0),
        Gamma(2.5, 0.3),
        Gamma(0.5, 2.0),
        Chi(4.0, 0.7),
        Relative(HalfNormal(2.0)),
    ],
    ids=str,
)
def test_draws_follow_the_density(prior: SdPrior) -> None:
    x = draw_sd(prior, 20_000, np.random.default_rng(1))
    # The integral of the density between octiles of the draws.
    ends = [0.0, *np.quantile(x, np.arange(1, 8) / 8)]
    mass = [integrate.quad(lambda s: float(np.exp(prior.log_density(np.array(s)))), a, b)[0] for a, b in pairwise(ends)]
    error = 5 * np.sqrt(0.125 * 0.875 / x.size) * 1.5
    assert np.allclose(mass, 0.125, atol=error)


def test_a_density_without_a_family_is_inverted() -> None:
    x = draw_sd(_Rayleigh(), 20_000, np.random.default_rng(2))
    assert stats.kstest(x, stats.rayleigh(scale=3.0).cdf).pvalue > ALARM


@pytest.mark.parametrize("eta", [0.5, 1.0, 4.0])
def test_every_correlation_of_a_3x3_matrix_is_a_scaled_beta(eta: float) -> None:
    # LKJ(eta) of dimension c: (1 + rho) / 2 has both shapes eta - 1 + c / 2, whichever entry it is.
    design = make_design("slopes 3x3")
    priors = resolve_priors(design, {"beta": "weak", "lkj": eta})
    # The prior is about the effects at the means of their columns.
    corr = draw_prior(design, priors, 20_000, np.random.default_rng(3)).corrs_at_mean[0]
    for a, b in [(0, 1), (0, 2), (1, 2)]:
        assert stats.kstest((1 + corr[:, a, b]) / 2, stats.beta(eta + 0.5, eta + 0.5).cdf).pvalue > ALARM
    assert np.allclose(np.diagonal(corr, axis1=1, axis2=2), 1.0)


def test_the_determinant_of_an_lkj_matrix_has_its_mean() -> None:
    # For c = 2 it is 1 - rho^2, with mean 2 eta / (2 eta + 1).
    design = make_design("slopes")
    corr = draw_prior(
        design, resolve_priors(design, {"beta": "weak", "lkj": 2.0}), 40_000, np.random.default_rng(4)
    ).corrs_at_mean[0]
    assert np.linalg.det(corr).mean() == pytest.approx(0.8, abs=0.005)


def test_shared_structures_have_their_correlations() -> None:
    design = make_design("compound symmetry")
    drawn = draw_prior(design, resolve_priors(design, "weak"), 5_000, np.random.default_rng(5))
    assert drawn.sds[0].shape == (5_000, 1)
    rho = drawn.corrs[0][:, 0, 1]
    assert np.allclose(drawn.corrs[0][:, 2, 1], rho)
    assert stats.kstest(rho, stats.uniform(-0.5, 1.5).cdf).pvalue > ALARM
    design = make_design("autoregression")
    corr = draw_prior(design, resolve_priors(design, "weak"), 5_000, np.random.default_rng(6)).corrs[0]
    assert np.allclose(corr[:, 0, 2], corr[:, 0, 1] ** 2)


@pytest.mark.parametrize("kind", TERMS)
def test_the_effects_are_laid_out_as_the_blocks(kind: str) -> None:
    design = make_design(kind)
    drawn = draw_prior(design, resolve_priors(design, "weak"), 3, np.random.default_rng(7))
    blocks = cross_products(design).blocks
    assert drawn.block_terms == tuple(block.terms for block in blocks)
    assert [b.shape for b in drawn.b] == [(3, block.n_levels, block.size) for block in blocks]


@pytest.mark.parametrize("kind", ["slopes", "all structures"])
def test_the_response_has_the_mean_and_covariance_of_the_prior(kind: str) -> None:
    # With half-normal sds E sd^2 = scale^2; correlations average to 0 under LKJ, which slopes alone make use of.
    design = make_design(kind, weights=True, offset=True)
    priors = Priors(
        tuple((HalfNormal(0.5),) * len(term.effects) for term in design.terms),
        (1.0,) * len(design.terms),
        HalfNormal(2.0),
        NormalPrior(np.array([10.0, -1.0]), np.array([1.0, 0.3])),
    )
    draws = draw_prior(design, priors, 40_000, np.random.default_rng(8))
    y = simulate_response(design, draws, np.random.default_rng(9))
    variance = design.X**2 @ np.array([1.0, 0.09]) + 4.0 / design.weights
    for k, term in enumerate(design.terms):
        # Mean correlation matrix: 0 under LKJ; the middle of its range for compound symmetry, E rho^k for AR1.
        mean_corr = draws.corrs[k].mean(0)
        variance = variance + 0.25 * np.einsum("na,ab,nb->n", term.Z, mean_corr, term.Z)
    assert y.shape == (40_000, N)
    assert np.allclose(y.mean(0), design.offset + design.X @ [10.0, -1.0], atol=5 * np.sqrt(variance / 40_000).max())
    # The kurtosis of scale mixtures with half-normal sds is at most 9: sd of a variance estimate sqrt(8 / S).
    assert np.allclose(y.var(0) / variance, 1.0, atol=5 * np.sqrt(8 / 40_000))


def test_rows_of_one_level_share_their_effect() -> None:
    design = make_design("one-way", fixed=())
    priors = Priors(((HalfNormal(3.0),),), (1.0,), HalfNormal(1.0), NormalPrior(np.zeros(0), np.zeros(0)))
    y = simulate_response(
        design, draw_prior(design, priors, 40_000, np.random.default_rng(1)), np.random.default_rng(2)
    )
    same, other = np.mean(y[:, 0] * y[:, 6]), np.mean(y[:, 0] * y[:, 1])
    assert same == pytest.approx(9.0, abs=5 * 9 * np.sqrt(8 / 40_000))
    assert other == pytest.approx(0.0, abs=5 * 10 * np.sqrt(3 / 40_000))


def test_an_improper_prior_is_refused_with_its_names_and_the_remedy() -> None:
    design = make_design("slopes")
    with pytest.raises(PriorError, match=r"beta\[Intercept\] ~ flat, beta\[x\] ~ flat.*priors='weak'"):
        draw_prior(design, resolve_priors(design), 2, np.random.default_rng(1))
    priors = resolve_priors(design, {"beta": "weak", "sd_g": (Flat(), HalfNormal(1.0)), "sigma": Power(1.0)})
    with pytest.raises(PriorError, match=r"sigma ~ density proportional to s\^1, sd_g\[Intercept\] ~ flat"):
        draw_prior(design, priors, 2, np.random.default_rng(1))


def test_a_prior_on_the_ratio_moves_with_sigma() -> None:
    design = make_design("one-way")
    priors = resolve_priors(design, {"beta": "weak", "sd_g": Relative(HalfNormal(2.0)), "sigma": HalfNormal(3.0)})
    drawn = draw_prior(design, priors, 20_000, np.random.default_rng(1))
    ratio = drawn.sds[0][:, 0] / drawn.sigma
    assert stats.kstest(ratio, stats.halfnorm(scale=2.0).cdf).pvalue > ALARM
    assert abs(stats.spearmanr(ratio, drawn.sigma).statistic) < 5 / np.sqrt(20_000)


def test_decov_has_its_trace_and_shares() -> None:
    # trace / c = tau^2 sigma^2 with tau ~ exponential(1); with concentration 1 the first share is beta(1, c - 1).
    design = make_design("slopes 3x3")
    drawn = draw_prior(design, resolve_priors(design, "rstanarm"), 20_000, np.random.default_rng(2))
    variances = (drawn.sds[0] / drawn.sigma[:, None]) ** 2
    assert stats.kstest(np.sqrt(variances.mean(1)), stats.expon.cdf).pvalue > ALARM
    assert stats.kstest(variances[:, 0] / variances.sum(1), stats.beta(1, 2).cdf).pvalue > ALARM


@pytest.mark.parametrize("preset", ["brms", "flat", "pc", "boundary_avoiding"])
def test_presets_that_are_improper_are_refused(preset: str) -> None:
    design = make_design("slopes")
    with pytest.raises(PriorError, match="does not integrate to one"):
        draw_prior(design, resolve_priors(design, preset), 2, np.random.default_rng(1))


def test_the_same_seed_gives_the_same_draws() -> None:
    design = make_design("all structures")
    priors = resolve_priors(design, "weak")
    first, second = (draw_prior(design, priors, 4, np.random.default_rng(11)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first.b, second.b, strict=True))
