"""Importance sampling under many priors: sound weights, and the evidence of quadrature."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bayeslmm.bayes.collapsed import CollapsedDraws, sample_collapsed
from bayeslmm.bayes.default_priors import default_priors
from bayeslmm.bayes.importance import importance_points
from bayeslmm.bayes.priors import (
    Exponential,
    Gamma,
    HalfCauchy,
    InverseGammaVariance,
    Priors,
    SdPrior,
    Uniform,
)
from bayeslmm.bayes.target import make_target
from bayeslmm.datasets import load_dataset
from bayeslmm.design import build_design
from bayeslmm.likelihood import SummedDesign, cross_products
from bayeslmm.numerics.resample import kish, normalised, systematic
from bayeslmm.reml import optimise

MODELS = {
    "Dyestuff": "Yield ~ 1 + (1 | Batch)",
    "Dyestuff2": "Yield ~ 1 + (1 | Batch)",
    "sleepstudy": "Reaction ~ Days + (Days | Subject)",
    "Pastes": "strength ~ 1 + (1 | batch/cask)",
    "Machines": "score ~ Machine + (0 + Machine | Worker)",
}
PRIORS = ["exponential", "uniform", "gamma", "half-cauchy", "inverse gamma"]
# A grid of three dimensions is dear where the density needs the long tail of log sd.
BY_GRID = ["Dyestuff", "Dyestuff2", "Pastes"]


@cache
def fitted(name: str) -> tuple[SummedDesign, Any]:
    cp = cross_products(build_design(MODELS[name], load_dataset(name)))
    return cp, optimise(cp).terms


def family(kind: str, scale: float) -> SdPrior:
    return {
        "exponential": Exponential(scale),
        "uniform": Uniform(5.0 * scale),
        "gamma": Gamma(2.0, 2.0 / scale),
        "half-cauchy": HalfCauchy(scale),
        "inverse gamma": InverseGammaVariance(0.01, 0.01 * scale**2),
    }[kind]


def priors_of(cp: SummedDesign, kind: str) -> Priors:
    spread = float(cp.design.y.std(ddof=1))
    sds = tuple(
        tuple(family(kind, spread / np.sqrt(np.mean(term.Z[:, k] ** 2))) for k in range(len(term.effects)))
        for term in cp.design.terms
    )
    return Priors(sds, (1.0,) * len(sds), family(kind, spread))


def run(name: str, kind: str, method: str, draws: int = 3000, seed: int = 2) -> CollapsedDraws:
    cp, terms = fitted(name)
    rng = np.random.default_rng(seed)
    return sample_collapsed(cp, priors_of(cp, kind), terms, draws=draws, method=method, rng=rng)


def evidence_error(result: CollapsedDraws) -> float:
    """Standard error of the log of a mean of weights: their coefficient of variation over the root of their number."""
    d = result.diagnostics
    return float(np.sqrt((1.0 / d.efficiency - 1.0) / d.points))


@pytest.mark.parametrize("kind", PRIORS)
@pytest.mark.parametrize("name", MODELS)
def test_sound_weights(name: str, kind: str) -> None:
    d = run(name, kind, "importance").diagnostics
    assert d.pareto_k < 0.7 or d.largest_weight < 20
    assert d.efficiency > 0.2
    assert d.reliable


@pytest.mark.parametrize("kind", PRIORS)
@pytest.mark.parametrize("name", BY_GRID)
def test_evidence_and_moments_of_quadrature(name: str, kind: str) -> None:
    grid, weighted = run(name, kind, "quadrature", draws=100), run(name, kind, "importance")
    d, exact = weighted.diagnostics, grid.exact
    assert exact is not None and grid.diagnostics.quadrature_error is not None
    error = np.hypot(evidence_error(weighted), grid.diagnostics.quadrature_error)
    assert abs(d.log_evidence - grid.diagnostics.log_evidence) < 4 * error
    ess = 3000 * d.efficiency
    assert (np.abs(weighted.beta.mean(0) - exact.beta_mean) < 4 * exact.beta_sd / np.sqrt(ess)).all()
    assert abs(weighted.sigma.mean() - exact.sigma_mean) < 4 * exact.sigma_sd / np.sqrt(ess)
    for draws, mean, sd in zip(weighted.sds, exact.sd_mean, exact.sd_sd, strict=True):
        assert (np.abs(draws.mean(0) - mean) < 4 * sd / np.sqrt(ess)).all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The sample of the posterior is unreliable.*error of the grid")
@pytest.mark.parametrize("kind", ["exponential", "gamma", "half-cauchy"])
def test_evidence_of_three_ratios(kind: str) -> None:
    grid, weighted = run("sleepstudy", kind, "quadrature", draws=100), run("sleepstudy", kind, "importance")
    assert grid.diagnostics.quadrature_error is not None
    error = np.hypot(evidence_error(weighted), grid.diagnostics.quadrature_error)
    assert abs(weighted.diagnostics.log_evidence - grid.diagnostics.log_evidence) < 4 * error


def test_the_standard_error_of_the_evidence_holds() -> None:
    """Evidences of twelve seeds scatter as the formula says."""
    results = [run("Pastes", "exponential", "importance", draws=500, seed=seed) for seed in range(12)]
    values = np.array([r.diagnostics.log_evidence for r in results])
    errors = np.array([evidence_error(r) for r in results])
    exact = run("Pastes", "exponential", "quadrature", draws=100).diagnostics.log_evidence
    z = (values - exact) / errors
    # a chi-square with twelve degrees of freedom, between its quantiles 0.0001 and 0.9999
    assert 1.5 < np.sum(z**2) < 40


@cache
def four_by_four() -> tuple[SummedDesign, Any]:
    rng = np.random.default_rng(7)
    J, n = 40, 12
    g = np.repeat(np.arange(J), n)
    Z = np.column_stack([np.ones(J * n), rng.normal(size=(J * n, 3))])
    root = np.linalg.cholesky(0.5 * np.eye(4) + 0.5) * np.array([1.0, 0.7, 0.5, 0.3])[:, None]
    b = rng.normal(size=(J, 4)) @ root.T
    y = 2.0 + Z @ np.array([0.0, 1.0, -1.0, 0.5]) + (Z * b[g]).sum(1) + rng.normal(size=J * n)
    data = pd.DataFrame({"y": y, "a": Z[:, 1], "b": Z[:, 2], "c": Z[:, 3], "g": g})
    cp = cross_products(build_design("y ~ a + b + c + (a + b + c | g)", data))
    return cp, optimise(cp).terms


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_ten_parameters(seed: int) -> None:
    cp, terms = four_by_four()
    target, start = make_target(cp, default_priors(cp.design), terms)
    assert target.dimension == 10
    sample = importance_points(target, start, 4000, np.random.default_rng(seed))
    weights = normalised(sample.log_weights)
    result = sample_collapsed(
        cp,
        default_priors(cp.design),
        terms,
        draws=4000,
        method="importance",
        rng=np.random.default_rng(seed),
        keep=[False],
    )
    assert result.diagnostics.efficiency > 0.5
    assert result.diagnostics.pareto_k < 0.5
    assert kish(weights) / weights.size > 0.5
    # about as many effective points as asked for
    assert kish(weights) > 0.85 * 4000


def test_systematic_resampling_repeats_points_by_their_weights() -> None:
    weights = np.array([0.5, 0.0, 0.25, 0.125, 0.125])
    for seed in range(5):
        chosen = systematic(weights, 8000, np.random.default_rng(seed))
        np.testing.assert_allclose(np.bincount(chosen, minlength=5), 8000 * weights, atol=1)
        # in no order, as independent draws have none
        assert abs(np.corrcoef(chosen[1:], chosen[:-1])[0, 1]) < 0.05
