"""Ranks, bands and quantities against closed forms and dense algebra."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

import bayeslmm as bl
from bayeslmm.bayes.default_priors import resolve_priors
from bayeslmm.bayes.prior_draws import draw_prior, simulate_response
from bayeslmm.calibration.bands import band_ratio, bin_count, chi_square, difference_band, ecdf_difference
from bayeslmm.calibration.quantities import log_likelihood, quantity_names, quantity_values
from bayeslmm.likelihood import cross_products

from .models import MODELS


@pytest.mark.parametrize(("n", "bins"), [(1000, 16), (80, 16), (79, 8), (50, 8), (20, 4), (3, 2)])
def test_bins_hold_five_expected_ranks(n: int, bins: int) -> None:
    assert bin_count(n) == bins


def test_chi_square_is_pearsons() -> None:
    ranks = np.random.default_rng(1).integers(0, 256, (400, 3))
    ranks[:, 2] //= 2
    statistic, p = chi_square(ranks, 255)
    for k in range(3):
        expected = stats.chisquare(np.histogram(ranks[:, k], bins=16, range=(0, 256))[0])
        assert statistic[k] == pytest.approx(expected.statistic)
        assert p[k] == pytest.approx(expected.pvalue)
    assert p[2] < 1e-10


def test_chi_square_with_bins_of_unequal_size() -> None:
    # 100 ranks in 16 bins: 6 or 7 ranks in each
    ranks = np.arange(100).repeat(10)[:, None]
    assert chi_square(ranks, 99)[0] == pytest.approx(0.0, abs=1e-12)


def test_ecdf_difference_of_equal_counts_is_zero_and_of_one_rank_a_step() -> None:
    assert ecdf_difference(np.arange(10)[:, None], 9) == pytest.approx(0.0)
    step = ecdf_difference(np.full((5, 1), 3), 9)[:, 0]
    points = np.arange(1, 10) / 10
    assert step == pytest.approx((points > 0.3) - points)


@pytest.mark.parametrize("n", [50, 300])
def test_band_holds_for_all_points_together(n: int) -> None:
    rng = np.random.default_rng(5)
    trials, draws = 4000, 63
    ranks = rng.integers(0, draws + 1, (n, trials))
    band = difference_band(n, draws, 0.99)
    outside = int((band_ratio(ecdf_difference(ranks, draws), band) > 1.0 + 1e-12).sum())
    # The band is itself simulated (0.16% standard error), and conservative because counts are discrete.
    low, high = stats.binom.ppf([1e-4, 1 - 1e-4], trials, [0.003, 0.016])
    assert low <= outside <= high


def test_band_sees_a_shift() -> None:
    ranks = np.random.default_rng(1).binomial(255, np.random.default_rng(2).beta(1.4, 1.0, 1000))[:, None]
    assert band_ratio(ecdf_difference(ranks, 255), difference_band(1000, 255, 0.99)) > 1.5


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS.keys())
def test_log_likelihood_is_the_dense_normal_density(build: Callable[[], bl.Model]) -> None:
    design = build().design
    rng = np.random.default_rng(7)
    draws = draw_prior(design, resolve_priors(design, "weak"), 4, rng)
    cp = cross_products(replace(design, y=simulate_response(design, draws, rng)[1]))
    values = log_likelihood(cp, draws)
    weights = np.ones(design.n) if design.weights is None else design.weights
    for s in range(4):
        V = np.diag(draws.sigma[s] ** 2 / weights)
        for term, sd, corr in zip(design.terms, draws.sds, draws.corrs, strict=True):
            codes = design.groupings[term.group].codes
            G = sd[s][:, None] * corr[s] * sd[s]
            V += (term.Z @ G @ term.Z.T) * (codes[:, None] == codes)
        expected = stats.multivariate_normal.logpdf(cp.design.y, design.X @ draws.beta[s], V)
        assert values[s] == pytest.approx(expected, rel=1e-8, abs=1e-6)


def test_quantities_of_a_nested_model() -> None:
    design = MODELS["nested (Pastes)"]().design
    rng = np.random.default_rng(8)
    draws = draw_prior(design, resolve_priors(design, "weak"), 3, rng)
    cp = cross_products(design)
    named = dict(zip(quantity_names(design), quantity_values(cp, draws).T, strict=True))
    batch, cask = (draws.sds[k][:, 0] ** 2 for k in (0, 1))
    total = batch + cask + draws.sigma**2
    assert named["icc_batch"] == pytest.approx(batch / total)
    assert named["icc_batch:cask"] == pytest.approx(cask / total)
    effects = {block.grouping.name: b for block, b in zip(cp.blocks, draws.b, strict=True)}
    assert named["b_batch[A, Intercept]"] == pytest.approx(effects["batch"][:, 0, 0])
    assert named["b_batch:cask[A:a, Intercept]"] == pytest.approx(effects["batch:cask"][:, 0, 0])
    assert named["sigma"] == pytest.approx(draws.sigma)


def test_effects_of_two_terms_of_one_factor_are_told_apart() -> None:
    formula = "Reaction ~ Days + (1 | Subject) + (0 + Days | Subject)"
    design = bl.Model(formula, bl.load_dataset("sleepstudy")).design
    draws = draw_prior(design, resolve_priors(design, "weak"), 3, np.random.default_rng(9))
    named = dict(zip(quantity_names(design), quantity_values(cross_products(design), draws).T, strict=True))
    assert named["b_Subject[308, Intercept]"] == pytest.approx(draws.b[0][:, 0, 0])
    assert named["b_Subject[308, Days]"] == pytest.approx(draws.b[0][:, 0, 1])
    assert named["sd_Subject[Days]"] == pytest.approx(draws.sds[1][:, 0])
