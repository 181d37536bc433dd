"""The criteria of coverage studies by simulation, for ``make calibrate``; ``docs/coverage.md`` shows the figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayeslmm as bl
from bayeslmm.inference.rlrt import maximise, observed_squares, profile, simulate
from bayeslmm.inference.spectral import spectrum
from bayeslmm.results.intervals import hdi
from bayeslmm.types import FloatArray
from studies.coverage import oneway, slopes
from studies.coverage.intervals import design
from studies.coverage.oneway_posterior import posterior
from studies.coverage.prior_averaged import prior_averaged
from studies.coverage.slopes_posterior import posterior as slopes_posterior

pytestmark = pytest.mark.calibration

RESULTS = Path(__file__).parents[1] / "results"
REPLICATES = 10_000
NULL_DRAWS = 400_000
# Two-sided normal quantile for 75 cells at .05 together.
Z = 3.40
TESTED = [
    bl.Cell("balanced", 6, 5),
    bl.Cell("balanced", 3, 20),
    bl.Cell("balanced", 30, 2),
    bl.Cell("unbalanced", 8, 5),
]
SAMPLED = [
    bl.Cell("balanced", 6, 5, 0.1),
    bl.Cell("unbalanced", 5, 5, 0.3),
    bl.Cell("x | g", 6, 10, 0.5, 0.5, 0.9),
]


def _store(name: str, row: dict[str, object], keys: list[str]) -> None:
    """Replace a row of a table of results."""
    path, table = RESULTS / name, pd.DataFrame([row])
    if path.exists():
        old = pd.read_csv(path)
        same = (old[keys].astype(str) == table[keys].iloc[0].astype(str)).all(axis=1)
        table = pd.concat([old[~same], table]).sort_values(keys, kind="stable")
    table.to_csv(path, index=False, float_format="%.5g", lineterminator="\n")


def _p_values(cell: bl.Cell, Y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """P values of the exact RLRT against its simulated null distribution, and the null draws."""
    found = spectrum(design(cell), 0, (0,), Y)
    problem = profile(found)
    statistic = maximise(problem, *observed_squares(found, problem))[0]
    null = np.sort(simulate(problem, NULL_DRAWS, 7)[0])
    reached = NULL_DRAWS - np.searchsorted(null, statistic * (1.0 - 1e-9))
    return np.where(statistic > 0, reached / NULL_DRAWS, 1.0), null


@pytest.mark.parametrize("cell", TESTED, ids=lambda cell: f"{cell.design}-{cell.groups}x{cell.size}")
def test_the_restricted_likelihood_ratio_has_its_size_and_its_atom(cell: bl.Cell) -> None:
    p, null = _p_values(cell, cell.simulate(REPLICATES, np.random.default_rng(11)))
    size, atom = float((p <= 0.05).mean()), float((p == 1.0).mean())
    expected = (
        stats.f.cdf(1.0, cell.groups - 1, cell.groups * (cell.size - 1))
        if cell.design == "balanced"
        else (null == 0).mean()
    )
    continuous = p[p < 1.0] / (1.0 - expected)
    uniform = float(stats.kstest(continuous, "uniform").pvalue)
    mass = float(stats.binomtest(int((p == 1.0).sum()), REPLICATES, expected).pvalue)
    row = {"design": cell.design, "groups": cell.groups, "size": cell.size, "rejected at .05": size}
    row |= {"p = 1": atom, "expected": float(expected), "KS p": uniform, "binomial p": mass}
    _store("coverage_rlrt.csv", row, ["design", "groups", "size"])
    assert abs(size - 0.05) <= Z * np.sqrt(0.05 * 0.95 / REPLICATES)
    assert uniform > 0.001
    assert mass > 0.001


@pytest.mark.parametrize(("groups", "size"), [(3, 5), (6, 5), (10, 2)])
def test_the_power_is_that_of_the_f_test(groups: int, size: int) -> None:
    """In balanced layouts ``P(F > F_crit / k)``, k = 1 + n icc / (1 - icc)."""
    cell = bl.Cell("balanced", groups, size, 0.3)
    p, _ = _p_values(cell, cell.simulate(REPLICATES, np.random.default_rng(12)))
    r, f, k = groups - 1, groups * (size - 1), 1.0 + size * 0.3 / 0.7
    expected = float(stats.f.sf(stats.f.isf(0.05, r, f) / k, r, f))
    power = float((p <= 0.05).mean())
    _store(
        "coverage_power.csv", {"groups": groups, "size": size, "power": power, "exact": expected}, ["groups", "size"]
    )
    assert abs(power - expected) <= 3.4 * np.sqrt(expected * (1.0 - expected) / REPLICATES)


@pytest.mark.parametrize(("groups", "size"), [(3, 2), (5, 3), (10, 5), (30, 5)])
@pytest.mark.parametrize("prior", [bl.HalfT(3, 1.0), bl.HalfNormal(1.0)], ids=str)
def test_coverage_averaged_over_the_prior_is_the_level(groups: int, size: int, prior: bl.HalfT) -> None:
    found = prior_averaged(groups, size, prior, REPLICATES, seed=13)
    _store(
        "coverage_prior.csv", {"prior": str(prior), "groups": groups, "size": size} | found, ["prior", "groups", "size"]
    )
    for name, share in found.items():
        assert 0.9426 <= share <= 0.9574, name


@pytest.mark.parametrize("cell", SAMPLED, ids=lambda cell: cell.design)
def test_the_real_sampler_gives_the_same_intervals(cell: bl.Cell) -> None:
    """200 responses by `Model.sample`: ends differ by the noise of 4,000 draws, about a tenth of a posterior sd in the
    tail, and on average by less; coverage by a few replicates."""
    K = 200
    rng = np.random.default_rng(14)
    Y = cell.simulate(K, rng)
    if cell.slopes:
        X = slopes.design_x(cell)
        post = slopes_posterior(slopes.reduce(cell, Y), 0.95, np.sqrt((X**2).mean(axis=0)), rng.random((K, 4)))
        marginals = dict(zip(("sd_g[Intercept]", "sd_g[x]"), post.sds, strict=True))
    else:
        marginals = {"sd_g[Intercept]": posterior(oneway.reduce(cell, Y), 0.95).sd}
    truth = {"sd_g[Intercept]": cell.sd, "sd_g[x]": cell.slope_sd * cell.sd}
    draws: dict[str, list[FloatArray]] = {label: [] for label in marginals}
    codes = np.repeat(np.arange(cell.groups), cell.sizes).astype(str)
    x = np.concatenate([np.arange(size, dtype=float) for size in cell.sizes])
    for k in range(K):
        data = pd.DataFrame({"y": Y[:, k], "x": x, "g": codes})
        # The study has its priors at x = 0, also where the default has moved to the mean.
        spread, size = float(data["y"].std()), float(np.sqrt(np.mean(x**2)))
        hand = {"sd_g[Intercept]": bl.HalfT(3, spread), "sd_g[x]": bl.HalfT(3, spread / size)} if cell.slopes else None
        sampled = bl.Model(cell.formula, data).sample(
            4000, priors=hand, random_seed=k, progressbar=False, log_likelihood=False
        )
        for label, kept in draws.items():
            kept.append(sampled.draws(label))
    for label, marginal in marginals.items():
        tailed = np.array([np.quantile(d, [0.025, 0.975]) for d in draws[label]]).T
        shortest = np.array([hdi(d, 0.95, "sd") for d in draws[label]]).T
        spread = np.array([d.std() for d in draws[label]])
        for method, ends, own in (
            ("equal_tailed", tailed, marginal.equal_tailed(0.95)),
            ("hdi", shortest, marginal.hdi(0.95)),
        ):
            difference = np.median((np.array(own) - ends) / spread, axis=1)
            value = truth[label]
            shares = [float(((low <= value) & (value <= high)).mean()) for low, high in (own, ends)]
            row = {
                "design": cell.design,
                "parameter": label,
                "method": method,
                "atlas": shares[0],
                "sampler": shares[1],
            }
            row |= {"lower": difference[0], "upper": difference[1]}
            _store("coverage_sampler.csv", row, ["design", "parameter", "method"])
            assert abs(shares[0] - shares[1]) <= 0.025, method
            assert np.abs(difference).max() < 0.04, method
