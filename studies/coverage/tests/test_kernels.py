"""The vectorised intervals of coverage studies against closed forms, dense densities and the package's own fits."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.optimize import brentq

import bayeslmm as bl
from bayeslmm.calibration.interval_ends import Ends
from bayeslmm.reml.many import optimise_many
from bayeslmm.types import FloatArray
from studies.coverage import oneway, slopes
from studies.coverage.chunk import columns, judge
from studies.coverage.intervals import design, fixed_ends, sd_ends
from studies.coverage.marginals import Marginals, mixture_quantile
from studies.coverage.oneway_posterior import posterior
from studies.coverage.slopes_posterior import posterior as slopes_posterior

ROOT = Path(__file__).parents[3]
ONEWAY: dict[str, Any] = json.loads(gzip.decompress((ROOT / "tests" / "reference" / "oneway.json.gz").read_bytes()))


SOME = {name: case for name, case in ONEWAY.items() if case["SSW"] > 1e-6 * case["SSB"]}


def _response(case: dict[str, Any]) -> FloatArray:
    """A balanced response (n, 1) with the sums of squares of a case."""
    J, n = case["J"], case["n"]
    means, noise = np.arange(J) - (J - 1) / 2.0, np.tile(np.arange(n) - (n - 1) / 2.0, J)
    means *= np.sqrt(case["SSB"] / n / (means @ means))
    noise *= np.sqrt(case["SSW"] / (noise @ noise))
    return np.asarray(np.repeat(means, n) + noise)[:, None]


def _sd_ends(cell: bl.Cell, Y: FloatArray, level: float = 0.95) -> dict[tuple[str, str], Ends]:
    cp = design(cell)
    return sd_ends(cp, Y, optimise_many(cp, Y), optimise_many(cp, Y, False), level)


def _frame(cell: bl.Cell, y: FloatArray) -> pd.DataFrame:
    codes = np.repeat(np.arange(cell.groups), cell.sizes)
    x = np.concatenate([np.arange(size, dtype=float) for size in cell.sizes])
    return pd.DataFrame({"y": y, "x": x, "g": codes.astype(str)})


@pytest.mark.parametrize("name", SOME)
def test_intervals_of_the_closed_forms(name: str) -> None:
    case, cell = SOME[name], bl.Cell("balanced", SOME[name]["J"], SOME[name]["n"])
    found = _sd_ends(cell, _response(case))
    for criterion in ("reml", "ml"):
        intervals = case[criterion]["profile_intervals_sd"]
        where = intervals["levels"].index(0.95)
        expected = [intervals["sd_b"][side][where] for side in ("lower", "upper")]
        ends = [float(end[0]) for end in found["sd[Intercept]", f"{criterion}_profile"]]
        assert ends == pytest.approx(expected, rel=1e-6, abs=1e-8 * expected[1])
    low, high = found["sd[Intercept]", "pivot"]
    ratios = np.sqrt(case["exact_F_pivot_intervals"]["0.95"]["lambda"])
    if np.isnan(high[0]):
        assert ratios[1] == 0.0
    else:
        assert [low[0], high[0]] == pytest.approx(list(ratios), rel=1e-8, abs=1e-12)


def test_unbalanced_profiles_are_those_of_the_fit() -> None:
    cell = bl.Cell("unbalanced", 7, 4, 0.2)
    Y = 3.0 + cell.simulate(4, np.random.default_rng(5))
    found = _sd_ends(cell, Y, 0.9)
    for reml in (True, False):
        low, high = found["sd[Intercept]", "reml_profile" if reml else "ml_profile"]
        for k in range(4):
            interval = bl.Model("y ~ 1 + (1 | g)", _frame(cell, Y[:, k])).fit(reml=reml).confint(level=0.9)
            expected = interval.loc["sd_g[Intercept]"].to_numpy(dtype=float)
            assert [low[k], high[k]] == pytest.approx(list(expected), rel=1e-6, abs=1e-9)


def _unbalanced_contrasts(cell: bl.Cell, Y: FloatArray, ratio: float) -> FloatArray:
    """The pivot at one ratio, by dense matrices."""
    Z = np.repeat(np.eye(cell.groups), cell.sizes, axis=0)
    M = np.eye(len(Z)) - 1.0 / len(Z)
    values, vectors = np.linalg.eigh(M @ Z @ Z.T @ M)
    mu, t = values[-(cell.groups - 1) :], vectors[:, -(cell.groups - 1) :].T @ Y
    within = Y - Z @ np.linalg.lstsq(Z, Y, rcond=None)[0]
    f = len(Z) - cell.groups
    return (t**2 / (1.0 + ratio * mu)[:, None]).mean(axis=0) / ((within**2).sum(axis=0) / f)


def test_unbalanced_pivots_have_the_quantiles_of_f() -> None:
    cell = bl.Cell("unbalanced", 6, 4, 0.3)
    Y = cell.simulate(30, np.random.default_rng(2))
    ends = _sd_ends(cell, Y)["sd[Intercept]", "pivot"]
    for end, p in zip(ends, (0.975, 0.025), strict=True):
        quantile = stats.f.ppf(p, cell.groups - 1, cell.sizes.sum() - cell.groups)
        for k in np.flatnonzero(end > 0):
            assert _unbalanced_contrasts(cell, Y, end[k] ** 2)[k] == pytest.approx(quantile, rel=1e-8)
        at_zero = _unbalanced_contrasts(cell, Y, 0.0)
        assert np.array_equal(end == 0.0, (at_zero <= quantile) & ~np.isnan(end))


def _dense_log_posterior(cell: bl.Cell, y: FloatArray, s: FloatArray, sigma: FloatArray) -> FloatArray:
    """Half-t(3, sd(y)) priors and the normal density of y with a flat mean, over points (B,)."""
    Z = np.repeat(np.eye(cell.groups), cell.sizes, axis=0)
    V = s[:, None, None] ** 2 * (Z @ Z.T) + sigma[:, None, None] ** 2 * np.eye(y.size)
    spread = y.std(ddof=1)
    return _dense_reml(V, np.ones((y.size, 1)), y) + sum(stats.t.logpdf(value / spread, 3) for value in (s, sigma))


def _dense_reml(V: FloatArray, X: FloatArray, y: FloatArray) -> FloatArray:
    inverse = np.linalg.inv(V)
    information = X.T @ inverse @ X
    beta = np.linalg.solve(information, (X.T @ inverse @ y)[..., None])
    r = y - (X @ beta)[..., 0]
    squares = (r * (inverse @ r[..., None])[..., 0]).sum(axis=1)
    return np.asarray(-0.5 * (np.linalg.slogdet(V)[1] + np.linalg.slogdet(information)[1] + squares))


@pytest.mark.parametrize("cell", [bl.Cell("balanced", 3, 2, 0.1), bl.Cell("unbalanced", 5, 3, 0.3)])
def test_posterior_intervals_have_their_mass(cell: bl.Cell) -> None:
    """A grid of its own, uniform in log s and log sigma, over dense densities."""
    Y = 2.0 + cell.simulate(3, np.random.default_rng(3))
    post = posterior(oneway.reduce(cell, Y), 0.95)
    tailed, shortest = post.sd.equal_tailed(0.95), post.sd.hdi(0.95)
    log_s, log_sigma = np.linspace(-9.0, 6.0, 401), np.linspace(-3.5, 3.5, 141)
    points = np.stack(np.meshgrid(np.exp(log_s), np.exp(log_sigma), indexing="ij"), axis=-1).reshape(-1, 2)
    for k in range(3):
        log_p = _dense_log_posterior(cell, Y[:, k], *points.T) + np.log(points).sum(axis=1)
        p = np.exp(log_p - log_p.max()).reshape(401, 141).sum(axis=1)
        cdf = np.concatenate([[0.0], np.cumsum(0.5 * (p[1:] + p[:-1]))]) / (p.sum() - 0.5 * (p[0] + p[-1]))
        below = [np.interp(np.log(max(end[k], 1e-9)), log_s, cdf) for end in (*tailed, *shortest)]
        assert below[:2] == pytest.approx([0.025, 0.975], abs=3e-4)
        assert below[3] - below[2] == pytest.approx(0.95, abs=4e-4)
        heights = np.interp(np.log(np.maximum([shortest[0][k], shortest[1][k]], 1e-3)), log_s, p / np.exp(log_s))
        if shortest[0][k] == 0.0:
            assert heights[0] >= 0.98 * heights[1]
        else:
            assert heights[0] == pytest.approx(heights[1], rel=0.02)


def test_the_interval_of_the_mean_is_that_of_its_marginal() -> None:
    """Student's t at a fixed sd, and a dense mixture otherwise."""
    cell = bl.Cell("unbalanced", 4, 3, 0.2)
    Y = cell.simulate(2, np.random.default_rng(4))
    post = posterior(oneway.reduce(cell, Y), 0.9)
    grid = np.linspace(0.02, 8.0, 160)
    points = np.stack(np.meshgrid(grid, grid, indexing="ij"), axis=-1).reshape(-1, 2)
    Z = np.repeat(np.eye(cell.groups), cell.sizes, axis=0)
    for k in range(2):
        log_p = _dense_log_posterior(cell, Y[:, k], *points.T)
        weights = np.exp(log_p - log_p.max())
        V = points[:, 0, None, None] ** 2 * (Z @ Z.T) + points[:, 1, None, None] ** 2 * np.eye(len(Z))
        inverse = np.linalg.inv(V).sum(axis=1)
        variance = 1.0 / inverse.sum(axis=1)
        mean = (inverse @ Y[:, k]) * variance
        for end, p in zip(post.mean, (0.05, 0.95), strict=True):
            mass = np.average(stats.norm.cdf((end[k] - mean) / np.sqrt(variance)), weights=weights)
            assert mass == pytest.approx(p, abs=1.5e-3)


def test_marginals_of_a_known_density() -> None:
    """Half-normal: HDI from 0; a normal far from 0: central."""
    x = np.linspace(0.0, 4.0, 121)
    s = np.sinh(x)
    densities = np.stack([stats.norm.pdf(s), stats.norm.pdf(s, 5.0, 0.7)]) * np.cosh(x)
    marginals = Marginals(x, np.ones(2), densities)
    low, high = marginals.hdi(0.95)
    assert low[0] == 0.0
    assert high[0] == pytest.approx(stats.halfnorm.ppf(0.95), rel=1e-6)
    assert [low[1], high[1]] == pytest.approx([5.0 - 0.7 * 1.959964, 5.0 + 0.7 * 1.959964], rel=1e-4)
    ends = marginals.equal_tailed(0.95)
    assert ends[0][0] == pytest.approx(stats.halfnorm.ppf(0.025), rel=1e-5)
    assert ends[1][0] == pytest.approx(stats.halfnorm.ppf(0.975), rel=1e-5)


def test_quantiles_of_a_mixture() -> None:
    weights, means, sds = np.array([[0.3, 0.7]]), np.array([[-2.0, 5.0]]), np.array([[0.1, 3.0]])
    for p in (0.025, 0.5, 0.975):

        def excess(q: float, p: float = p) -> float:
            return float(weights[0] @ stats.norm.cdf((q - means[0]) / sds[0]) - p)

        assert mixture_quantile(weights, means, sds, p)[0] == pytest.approx(
            brentq(excess, -50, 50, xtol=1e-12), abs=1e-7
        )


@pytest.mark.parametrize("name", ["x || g", "x | g"])
def test_slope_profiles_are_those_of_the_fit(name: Any) -> None:
    cell = bl.Cell(name, 6, 8, 0.5, 0.3)
    Y = cell.simulate(3, np.random.default_rng(8))
    found = _sd_ends(cell, Y)
    for reml in (True, False):
        for k in range(3):
            interval = bl.Model(cell.formula, _frame(cell, Y[:, k])).fit(reml=reml).confint()
            for effect in ("Intercept", "x"):
                ends = found[f"sd[{effect}]", "reml_profile" if reml else "ml_profile"]
                expected = interval.loc[f"sd_g[{effect}]"].to_numpy(dtype=float)
                assert [ends[0][k], ends[1][k]] == pytest.approx(list(expected), rel=1e-6, abs=1e-8)


def test_slope_pivots_are_f_tests_with_the_other_effects_fixed() -> None:
    cell = bl.Cell("x | g", 5, 6, 0.5, 0.5, 0.9)
    Y = cell.simulate(20, np.random.default_rng(9))
    groups = np.repeat(np.eye(5), 6, axis=0)
    x = np.tile(np.arange(6.0), 5)[:, None]
    both = np.hstack([groups, groups * x])
    for which, others in enumerate((np.hstack([groups * x, np.ones_like(x)]), np.hstack([groups, x]))):
        extra = groups if which == 0 else groups * x
        rest = [Y - A @ np.linalg.lstsq(A, Y, rcond=None)[0] for A in (others, both)]
        squares = [(r**2).sum(axis=0) for r in rest]
        F = (squares[0] - squares[1]) / 4 / (squares[1] / 20)
        left = extra - others @ np.linalg.lstsq(others, extra, rcond=None)[0]
        mu = np.linalg.svd(left, compute_uv=False)[0] ** 2
        for end, p in zip(_sd_ends(cell, Y)[f"sd[{('Intercept', 'x')[which]}]", "pivot"], (0.975, 0.025), strict=True):
            expected = (F / stats.f.ppf(p, 4, 20) - 1.0) / mu
            assert np.where(np.isnan(end), 0.0, end**2) == pytest.approx(np.maximum(expected, 0.0), rel=1e-8, abs=1e-12)


def test_the_posterior_of_slopes_by_dense_densities() -> None:
    """Importance sampling against a grid in three dimensions; a few per cent of a posterior sd are its own noise."""
    cell = bl.Cell("x || g", 4, 3, 0.5, 0.5)
    Y = cell.simulate(2, np.random.default_rng(11))
    X = slopes.design_x(cell)
    rms = np.sqrt((X**2).mean(axis=0))
    post = slopes_posterior(slopes.reduce(cell, Y), 0.95, rms, np.random.default_rng(1).random((2, 4)))
    tailed = [marginal.equal_tailed(0.95) for marginal in post.sds]
    axes = [np.linspace(-5.5, 4.0, 39), np.linspace(-5.5, 4.0, 39), np.linspace(-3.0, 2.5, 34)]
    log_points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    s1, s2, sigma = np.exp(log_points).T
    # One group, whose covariance all groups share; X stacked over them.
    A = (s1[:, None, None] ** 2) * np.ones((3, 3)) + s2[:, None, None] ** 2 * np.outer(X[:, 1], X[:, 1])
    V = A + sigma[:, None, None] ** 2 * np.eye(3)
    inverse = np.linalg.inv(V)
    information = X.T @ inverse @ X
    for k in range(2):
        y = Y[:, k].reshape(4, 3)
        beta = np.linalg.solve(information, (X.T @ inverse @ y.mean(axis=0))[..., None])[..., 0]
        r = y[None] - (beta @ X.T)[:, None]
        squares = np.einsum("bji,bik,bjk->b", r, inverse, r)
        log_p = -0.5 * (4 * np.linalg.slogdet(V)[1] + np.linalg.slogdet(information)[1] + squares)
        spread = Y[:, k].std(ddof=1)
        for value, unit in ((s1, spread), (s2, spread / rms[1]), (sigma, spread)):
            log_p += stats.t.logpdf(value / unit, 3) + np.log(value)
        p = np.exp(log_p - log_p.max()).reshape(39, 39, 34)
        for i in (0, 1):
            marginal = p.sum(axis=(1 - i, 2))
            steps = np.concatenate([[0.0], np.cumsum(0.5 * (marginal[1:] + marginal[:-1]))])
            below = [np.interp(np.log(end[k]), axes[i], steps / steps[-1]) for end in tailed[i]]
            assert below == pytest.approx([0.025, 0.975], abs=6e-3)


def test_fixed_intervals_are_those_of_the_fit() -> None:
    """Dyestuff2-like: at an estimate of zero Satterthwaite takes n - 1 degrees of freedom, Kenward-Roger J - 1."""
    cell = bl.Cell("balanced", 6, 5, 0.0)
    cp = design(cell)
    Y = cell.simulate(40, np.random.default_rng(1))
    optima = optimise_many(cp, Y)
    ends = fixed_ends(cp, Y, optima, 0.95)
    for k in range(40):
        error = optima.sigma[k] * np.sqrt((1.0 + 5.0 * optima.theta[k, 0] ** 2) / 30.0)
        zero = optima.theta[k, 0] == 0.0
        for method, df in (("z", np.inf), ("satterthwaite", 29 if zero else 5), ("kenward_roger", 5)):
            half = stats.t.ppf(0.975, df) * error
            found = [end[k] for end in ends["Intercept", method]]
            assert found == pytest.approx([Y[:, k].mean() - half, Y[:, k].mean() + half], rel=1e-6, abs=1e-9)


def test_an_empty_interval_misses() -> None:
    cell = bl.Cell("balanced", 6, 5, 0.1)
    ends = np.array([0.0, 0.5, np.nan, 0.0]), np.array([1.0, 1.0, np.nan, 0.1])
    outcome, width = judge(cell, "sd[Intercept]", "pivot", ends)
    assert list(outcome) == [0, -1, 1, 1]
    assert list(width) == pytest.approx([cell.sigma, 0.5 * cell.sigma, 0.0, 0.1 * cell.sigma])
    assert ("Intercept", "kenward_roger") in columns(cell)
