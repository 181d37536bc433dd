"""Parametric bootstrap against theory; what it says of itself."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2, f, kstest

import bayeslmm as bl
from bayeslmm.errors import BayesLMMWarning, DesignError, FitError


@pytest.fixture(scope="module")
def dyestuff() -> bl.REMLResult:
    return bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()


def test_law_of_the_estimates_of_a_balanced_layout(dyestuff: bl.REMLResult) -> None:
    n = 4000
    boot = dyestuff.bootstrap(n, random_seed=1)
    assert boot.failed == {}
    s2, b2 = dyestuff.sigma**2, float(dyestuff.estimates()["sd_Batch[Intercept]"]) ** 2
    k = (s2 + 5 * b2) / s2
    # REML is zero iff F <= 1.
    zero = f.cdf(1 / k, 5, 24)
    assert abs(boot.share_singular - zero) < 4 * np.sqrt(zero * (1 - zero) / n)
    inside = boot.draws[boot.draws["sd_Batch[Intercept]"] > 0]
    F = 1 + 5 * (inside["sd_Batch[Intercept]"] / inside["sigma"]) ** 2
    # F / k has the F distribution, cut off at 1 / k.
    assert kstest((f.cdf(F / k, 5, 24) - zero) / (1 - zero), "uniform").pvalue > 1e-3
    assert kstest(24 * inside["sigma"] ** 2 / s2, lambda v: _within_given_positive(v, k)).pvalue > 1e-3
    mean = boot.draws["Intercept"]
    assert abs(mean.mean() - 1527.5) < 4 * np.sqrt((s2 + 5 * b2) / 30 / n)
    assert mean.var() == pytest.approx((s2 + 5 * b2) / 30, rel=4 * np.sqrt(2 / n))


def _within_given_positive(v: np.ndarray, k: float) -> np.ndarray:
    """P(W <= v | B k / 5 > W / 24), W chi-square 24 and B chi-square 5."""
    grid = np.linspace(0, 120, 40001)
    density = chi2.pdf(grid, 24) * chi2.sf(5 * grid / (24 * k), 5)
    cumulative = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
    return np.interp(v, grid, cumulative / cumulative[-1])


def test_simulated_responses_have_the_covariance_of_the_model() -> None:
    data = bl.load_dataset("sleepstudy").iloc[:60]
    data = data.assign(w=np.linspace(0.5, 3.0, 60), o=np.linspace(-5, 5, 60))
    fit = bl.Model("Reaction ~ Days + (Days | Subject) + offset(o)", data, weights="w").fit()
    n = 20000
    Y = fit.simulate(n, random_seed=2).to_numpy()
    matrices = fit.matrices()
    V = np.asarray(matrices.V)
    centred = Y - Y.mean(axis=1, keepdims=True)
    found = centred @ centred.T / (n - 1)
    error = np.sqrt((V**2 + np.outer(np.diag(V), np.diag(V))) / n)
    assert (np.abs(found - V) / error).max() < 5.5
    mean = fit.design.X @ fit.fixef().to_numpy() + np.linspace(-5, 5, 60)
    assert (np.abs(Y.mean(axis=1) - mean) / np.sqrt(np.diag(V) / n)).max() < 4.5


def test_percentile_and_basic(dyestuff: bl.REMLResult) -> None:
    boot = dyestuff.bootstrap(500, random_seed=3)
    draws, estimate = boot.draws["sigma"], dyestuff.sigma
    low, high = np.quantile(draws, [0.05, 0.95])
    np.testing.assert_allclose(boot.confint(0.9, parameters="sigma").iloc[0], [low, high], rtol=1e-12)
    basic = boot.confint(0.9, "basic", "sigma").iloc[0]
    np.testing.assert_allclose(basic, [2 * estimate - high, 2 * estimate - low], rtol=1e-12)
    same = dyestuff.confint(0.9, "bootstrap", "sigma", n=500, random_seed=3)
    np.testing.assert_allclose(same.iloc[0], [low, high], rtol=1e-12)
    with pytest.raises(DesignError, match="'percentile', 'basic', 'norm', 'bca' or 'shortest'"):
        boot.confint(kind="student")


def test_an_estimate_of_zero_is_warned_of() -> None:
    fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).fit()
    boot = fit.bootstrap(200, random_seed=1)
    with pytest.warns(BayesLMMWarning, match=r"sd_Batch\[Intercept\]: the estimate is 0"):
        ends = boot.confint()
    assert set(ends.attrs["notes"]) == {"sd_Batch[Intercept]"}
    assert ends.loc["sd_Batch[Intercept]", "conf_low"] == 0.0


def test_many_zeros_are_warned_of(dyestuff: bl.REMLResult) -> None:
    boot = dyestuff.bootstrap(1000, random_seed=1)
    zeros = (boot.draws["sd_Batch[Intercept]"] == 0).mean()
    with pytest.warns(BayesLMMWarning, match=f"{zeros:.1%} of the draws are zero"):
        boot.confint(0.95, parameters="icc_Batch")
    # With 10 % in each tail the zeros are not what decides on the lower end.
    assert boot.confint(0.8, parameters="sd_Batch")["conf_low"].iloc[0] > 0


def test_undefined_correlations_are_left_out_and_counted() -> None:
    data = bl.load_dataset("Dyestuff2").assign(x=np.tile([-2.0, -1.0, 0.0, 1.0, 2.0], 6))
    boot = bl.Model("Yield ~ x + (x | Batch)", data).fit().bootstrap(100, random_seed=1)
    label = "corr_Batch[Intercept.x]"
    assert boot.draws[label].isna().any()
    with pytest.warns(BayesLMMWarning, match="not defined"):
        ends = boot.confint(parameters=label)
    assert ends.loc[label].between(-1, 1).all()


def test_failed_refits_are_counted_and_not_used(dyestuff: bl.REMLResult) -> None:
    boot = dyestuff.bootstrap(50, random_seed=1)
    ok = boot.ok.copy()
    ok.iloc[:2] = False
    outcome = ("no_descent", "evaluation_limit", *boot.outcome[2:])
    broken = type(boot)(boot.design, boot.estimates, boot.all_draws, outcome, ok, boot.singular)
    assert broken.failed == {"no_descent": 1, "evaluation_limit": 1}
    assert "1 no_descent" in " ".join(repr(broken).split())
    expected = np.quantile(boot.all_draws["sigma"].iloc[2:], [0.05, 0.95])
    ends = broken.confint(0.9, parameters="sigma")
    np.testing.assert_allclose(ends.iloc[0], expected, rtol=1e-12)
    assert ends.attrs["failed"] == broken.failed


def test_rows_that_stand_for_several_cannot_be_simulated() -> None:
    data = bl.load_dataset("Dyestuff").assign(count=2)
    fit = bl.Model("Yield ~ 1 + (1 | Batch)", data, frequency="count").fit()
    for ask in (fit.simulate, fit.bootstrap):
        with pytest.raises(DesignError, match=r"30 rows .* 60 observations"):
            ask(10)


def test_counts_are_checked(dyestuff: bl.REMLResult) -> None:
    for n in (0, 2.5):
        with pytest.raises(DesignError, match="whole number"):
            dyestuff.bootstrap(n)  # type: ignore[arg-type]


def test_seeds_reproduce(dyestuff: bl.REMLResult) -> None:
    one, two = (dyestuff.bootstrap(20, random_seed=7).draws for _ in range(2))
    pd.testing.assert_frame_equal(one, two)
    assert not one.equals(dyestuff.bootstrap(20, random_seed=8).draws)


@pytest.mark.parametrize("seed", ["a", -1, 1.5])
def test_seeds_are_checked(dyestuff: bl.REMLResult, seed: object) -> None:
    for ask in (dyestuff.simulate, dyestuff.bootstrap):
        with pytest.raises(FitError, match="is no seed"):
            ask(10, random_seed=seed)  # type: ignore[operator]
    with pytest.raises(FitError, match="is no seed"):
        dyestuff.confint(method="bootstrap", n=10, random_seed=seed)  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [0, -1, "a", 1.5, True])
def test_threads_are_counted(dyestuff: bl.REMLResult, workers: object) -> None:
    with pytest.raises(DesignError, match=r"workers=.*whole number"):
        dyestuff.bootstrap(10, workers=workers)  # type: ignore[arg-type]
