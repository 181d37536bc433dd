"""Exact likelihood-ratio tests of a zero variance: closed forms, a grid, dense simulations, uniformity."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayeslmm as bl
from bayeslmm.errors import DesignError
from bayeslmm.inference.ratio import f_test
from bayeslmm.inference.rlrt import (
    RatioProfile,
    batches,
    estimate_ratio,
    maximise,
    null_test,
    observed_squares,
    probability_of_no_rise,
    profile,
    rises,
    simulate,
)
from bayeslmm.inference.spectral import Spectrum, spectrum
from bayeslmm.inference.zero_fraction import zero_probability
from bayeslmm.reml import optimise

REFERENCE = Path(__file__).parents[1] / "reference"
ONEWAY: dict[str, Any] = json.loads(gzip.decompress((REFERENCE / "oneway.json.gz").read_bytes()))
EXACT: list[dict[str, str]] = list(
    csv.DictReader((Path(__file__).parent / "boundary_exact.csv").read_text().splitlines())
)
ICC = [0.0, 0.01, 0.05, 0.1, 0.3]


def balanced(J: int, n: int) -> Spectrum:
    frame = pd.DataFrame({"y": np.arange(J * n) % 7.0, "g": np.repeat(np.arange(J), n)})
    return spectrum(bl.Model("y ~ 1 + (1 | g)", frame).design, 0, (0,))


def unbalanced(n: int = 60, J: int = 12) -> bl.Model:
    rng = np.random.default_rng(5)
    frame = pd.DataFrame({"g": np.sort(rng.integers(0, J, n)) ** 2, "x": rng.normal(size=n)})
    return bl.Model("y ~ x + (1 | g)", frame.assign(y=rng.normal(size=n)))


@pytest.mark.parametrize("case", [key for key, value in ONEWAY.items() if "groups" in value])
def test_one_way_p_values(case: str) -> None:
    expected = ONEWAY[case]
    groups = expected["groups"]
    frame = pd.DataFrame({"y": np.concatenate(list(groups.values())), "g": np.repeat(list(groups), expected["n"])})
    fit = bl.Model("y ~ 1 + (1 | g)", frame).fit(on_failure="ignore")
    test = fit.test_zero("g")
    assert test.method == "exact RLRT"
    assert test.mc_error == 0.0
    assert test.p_value == pytest.approx(expected["p_exact_RLRT"], rel=1e-8)
    assert test.p_zero == pytest.approx(expected["prob_REML_zero_under_H0"], rel=1e-8)
    assert test.rise == pytest.approx(
        expected["reml"]["profile_intervals_sd"]["sd_b"]["deviance_rise_at_zero"], rel=1e-8, abs=1e-8
    )


@pytest.mark.parametrize("row", EXACT, ids=lambda row: f"{row['J']}x{row['n']}")
def test_probabilities_of_zero_and_sizes_in_balanced_layouts(row: dict[str, str]) -> None:
    found = balanced(int(row["J"]), int(row["n"]))
    for reml, name in ((True, "REML"), (False, "ML")):
        probability, error = zero_probability(found, ICC, reml)
        np.testing.assert_allclose(probability, [float(row[f"P({name}=0|ICC={icc:g})"]) for icc in ICC], atol=6e-7)
        assert not error.any()
        for law, cut in (("chi2_1", stats.chi2.isf(0.05, 1)), ("mixture", stats.chi2.isf(0.1, 1))):
            size = null_test(found, cut, reml, own=False).p_value
            assert size == pytest.approx(float(row[f"size5%_{'RLRT' if reml else 'LRT'}_{law}"]), rel=1e-5)


@pytest.mark.parametrize("reml", [True, False])
def test_statistic_is_the_rise_of_the_fitted_criterion(reml: bool) -> None:
    model = unbalanced()
    Y = np.random.default_rng(8).normal(size=(model.design.n, 40))
    Y[:, :20] += 0.7 * np.random.default_rng(9).normal(size=(12, 20))[model.design.groupings["g"].codes]
    found = spectrum(model.design, 0, (0,), Y)
    problem = profile(found, reml)
    statistic, ratio = maximise(problem, *observed_squares(found, problem))
    cp = model.cross_products
    for k in range(40):
        fit = model.fit(reml=reml).refit(Y[:, k])
        null = optimise(fit.cp, reml, fixed={0: np.zeros(1)})
        assert statistic[k] == pytest.approx(null.criterion - fit.criterion, abs=1e-9)
        assert ratio[k] == pytest.approx(fit.theta[0] ** 2, rel=1e-6, abs=1e-12)
    assert cp.n == model.design.n


def by_grid(problem: RatioProfile, W: np.ndarray, w: np.ndarray) -> np.ndarray:
    lam = np.concatenate([[0.0], np.exp(np.linspace(-14, 50, 6001))]) / problem.mu[0]
    penalty = (np.log1p(lam[:, None] * problem.x) * problem.x_counts).sum(axis=1)
    best = []
    for row, rest in zip(W, w, strict=True):
        D = (row / (1 + lam[:, None] * problem.mu)).sum(axis=1) + rest
        best.append((problem.nu * (np.log(row.sum() + rest) - np.log(D)) - penalty).max())
    return np.array(best)


@pytest.mark.parametrize("reml", [True, False])
def test_maximum_against_a_fine_grid(reml: bool) -> None:
    problem = profile(spectrum(unbalanced().design, 0, (0,)), reml)
    W, w = next(batches(problem, 300, 1, 0.05))
    statistic, _ = maximise(problem, W, w)
    grid = by_grid(problem, W, w)
    assert (statistic >= grid - 1e-12).all()
    np.testing.assert_allclose(statistic, grid, atol=2e-4)


def test_two_local_maxima() -> None:
    mu, counts = np.array([1e3, 1.0]), np.array([1, 8])
    problem = RatioProfile(mu, counts, mu, counts, 11, 2)
    rng = np.random.default_rng(2)
    W, w = rng.chisquare([1, 8], (400, 2)) * np.array([1.0, 400.0]), rng.chisquare(2, 400)
    statistic, _ = maximise(problem, W, w)
    grid = by_grid(problem, W, w)
    np.testing.assert_allclose(statistic, grid, atol=3e-4)
    # the local condition at zero would have missed these
    assert ((statistic > 0) & ~rises(problem, W, w)).sum() > 20


@pytest.mark.parametrize("reml", [True, False])
def test_null_distribution_against_dense_fits(reml: bool) -> None:
    """Responses simulated row by row, their likelihood from dense matrices on a grid of lambda."""
    design = unbalanced(24, 5).design
    codes, X, n, K = design.groupings["g"].codes, design.X, design.n, 3000
    Z = np.eye(codes.max() + 1)[codes]
    Y = np.random.default_rng(3).normal(size=(n, K))
    rows = []
    for lam in [0.0, *np.exp(np.linspace(-7, 5, 80))]:
        V = np.eye(n) + lam * Z @ Z.T
        inner = np.linalg.solve(V, np.column_stack([X, Y]))
        XVX, XVY = X.T @ inner[:, :2], X.T @ inner[:, 2:]
        r2 = (Y * inner[:, 2:]).sum(axis=0) - (XVY * np.linalg.solve(XVX, XVY)).sum(axis=0)
        extra = np.linalg.slogdet(XVX)[1] if reml else 0.0
        rows.append(np.linalg.slogdet(V)[1] + extra + (n - 2 * reml) * np.log(r2))
    values = np.array(rows)
    theirs = values[0] - values.min(axis=0)
    problem = profile(spectrum(design, 0, (0,)), reml)
    ours, _ = simulate(problem, 40_000, 11)
    assert stats.binomtest(int((theirs == 0).sum()), K, float((ours == 0).mean())).pvalue > 1e-3
    assert stats.ks_2samp(theirs[theirs > 0], ours[ours > 0]).pvalue > 1e-3
    for cut in (0.5, 2.0, 4.0):
        assert stats.binomtest(int((theirs > cut).sum()), K, float((ours > cut).mean())).pvalue > 1e-3


def test_p_values_are_uniform_with_an_atom_at_one() -> None:
    found = balanced(6, 5)
    Y = np.random.default_rng(12).normal(size=(30, 4000))
    frame = pd.DataFrame({"y": Y[:, 0], "g": np.repeat(np.arange(6), 5)})
    many = spectrum(bl.Model("y ~ 1 + (1 | g)", frame).design, 0, (0,), Y)
    problem = profile(many)
    statistic, _ = maximise(problem, *observed_squares(many, problem))
    p = np.where(statistic > 0, f_test(many).p_value, 1.0)
    p_zero = null_test(found, 0.0).p_zero
    assert stats.binomtest(int((p == 1).sum()), 4000, p_zero).pvalue > 1e-3
    assert stats.kstest(p[p < 1], stats.uniform(0, 1 - p_zero).cdf).pvalue > 1e-3
    assert stats.binomtest(int((p < 0.05).sum()), 4000, 0.05).pvalue > 1e-3


def test_power_in_a_balanced_layout() -> None:
    codes, ratio, K = np.repeat(np.arange(6), 5), 0.3 / 0.7, 4000
    rng = np.random.default_rng(14)
    Y = np.sqrt(ratio) * rng.normal(size=(6, K))[codes] + rng.normal(size=(30, K))
    many = spectrum(bl.Model("y ~ 1 + (1 | g)", pd.DataFrame({"y": Y[:, 0], "g": codes})).design, 0, (0,), Y)
    statistic, estimate = maximise(profile(many), *observed_squares(many, profile(many)))
    expected = stats.f.sf(stats.f.isf(0.05, 5, 24) / (1 + 5 * ratio), 5, 24)
    p = [null_test(many, cut, own=False).p_value for cut in np.quantile(statistic, [0.3, 0.9])]
    assert p == sorted(p, reverse=True)
    assert stats.binomtest(int((f_test(many).p_value < 0.05).sum()), K, expected).pvalue > 1e-3
    # the closed form of the estimate
    F = f_test(many).statistic
    np.testing.assert_allclose(estimate, np.maximum(F - 1, 0) / 5, rtol=1e-8)
    np.testing.assert_array_equal(estimate_ratio(many), estimate)


@pytest.mark.parametrize(("ratio", "reml"), [(0.0, True), (0.0, False), (0.2, True)])
def test_probability_of_zero_in_an_unbalanced_design(ratio: float, reml: bool) -> None:
    model = unbalanced(40, 8)
    codes, K = model.design.groupings["g"].codes, 3000
    rng = np.random.default_rng(13)
    Y = rng.normal(size=(40, K)) + np.sqrt(ratio) * rng.normal(size=(codes.max() + 1, K))[codes]
    singular = model.fit(reml=reml).refit_many(Y).is_singular
    probability, error = zero_probability(spectrum(model.design, 0, (0,)), [ratio / (1 + ratio)], reml)
    assert error[0] < 1e-3
    assert stats.binomtest(int(singular.sum()), K, float(probability[0])).pvalue > 1e-3


def test_local_condition_is_an_f_probability_in_balanced_layouts() -> None:
    problem = profile(balanced(10, 5), reml=False)
    k = 1 + 5 * 0.25
    assert probability_of_no_rise(problem, 0.25) == pytest.approx(stats.f.cdf(10 / 9 / k, 9, 40), rel=1e-10)


def test_equal_eigenvalues_need_no_draws_and_others_state_their_error() -> None:
    found = spectrum(unbalanced().design, 0, (0,))
    one, two = null_test(found, 1.3, draws=20_000), null_test(found, 1.3, draws=20_000)
    assert one == two
    assert one.mc_error == pytest.approx(np.sqrt(one.p_value * (1 - one.p_value) / 20_000))
    assert null_test(found, 0.0, draws=1000).p_value == 1.0
    assert null_test(balanced(5, 4), 1.3).draws == 0


def test_likelihood_ratio_with_one_eigenvalue_and_another_penalty() -> None:
    found = balanced(6, 5)
    other = Spectrum(found.mu, np.array([9.0, 5.0, 5.0, 2.0, 0.5, 0.1]), found.t, found.sse, found.f, found.n, found.p)
    statistic, _ = simulate(profile(other, reml=False), 40_000, 4)
    test = null_test(other, 1.7, reml=False, own=False)
    assert test.draws == 0
    assert stats.binomtest(int((statistic == 0).sum()), 40_000, test.p_zero).pvalue > 1e-3
    assert stats.binomtest(int((statistic >= 1.7).sum()), 40_000, test.p_value).pvalue > 1e-3


def test_refusals() -> None:
    found = balanced(5, 4)
    with pytest.raises(DesignError, match="at least 0 and below 1"):
        zero_probability(found, [0.2, 1.0])
    none = Spectrum(found.mu, found.xi, found.t, found.sse, 0, found.n, found.p)
    with pytest.raises(DesignError, match="not determined"):
        profile(none)
    with pytest.raises(DesignError, match="without residual"):
        f_test(none)


def test_likelihood_ratios_of_very_unequal_groups_are_not_missed() -> None:
    """Eigenvalues of Z'Z are far larger than those of Z'(I - P)Z here, so that the criterion changes in two places."""
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(9), [1] * 6 + [30, 300, 1500])
    design = bl.Model("y ~ 1 + (1 | g)", pd.DataFrame({"g": g, "y": rng.normal(size=g.size)})).design
    Y = rng.normal(size=(g.size, 200)) + 0.3 * rng.standard_t(2, size=(9, 200))[g]
    reduced = spectrum(design, 0, (0,), Y)
    problem = profile(reduced, reml=False)
    W, w = observed_squares(reduced, problem)
    statistic = maximise(problem, W, w)[0]
    lam = np.concatenate([[0.0], np.geomspace(1e-6, 1e4, 4000)])
    D = W @ (1.0 / (1.0 + problem.mu[:, None] * lam)) + w[:, None]
    ratio = g.size * np.log((W.sum(axis=1) + w)[:, None] / D)
    dense = ratio - np.log1p(lam[:, None] * np.bincount(g)).sum(axis=1)
    gap = dense.max(axis=1) - statistic
    assert gap.max() < 1e-9
    assert gap.min() > -1e-3
