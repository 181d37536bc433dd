"""The collapsed posterior against quadrature references that share no code with it."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from bayeslmm.bayes.collapsed import CollapsedDraws, sample_collapsed
from bayeslmm.bayes.coordinates import TermCoordinates
from bayeslmm.bayes.default_priors import default_priors, resolve_priors
from bayeslmm.bayes.priors import (
    Exponential,
    Flat,
    HalfCauchy,
    HalfNormal,
    HalfT,
    InverseGammaVariance,
    Power,
    Priors,
)
from bayeslmm.bayes.propriety import check_posterior
from bayeslmm.bayes.target import make_target
from bayeslmm.datasets import load_dataset
from bayeslmm.design import build_design
from bayeslmm.design.covariance import Unstructured
from bayeslmm.errors import PriorError
from bayeslmm.likelihood import SummedDesign, cross_products
from bayeslmm.reml import optimise

REFERENCE = json.loads((Path(__file__).parent / "posterior_reference.json").read_text())
MODELS = {
    "dyestuff": ("Dyestuff", "Yield ~ 1 + (1 | Batch)"),
    "dyestuff2": ("Dyestuff2", "Yield ~ 1 + (1 | Batch)"),
    "sleepstudy_intercept": ("sleepstudy", "Reaction ~ Days + (1 | Subject)"),
    "sleepstudy_slopes": ("sleepstudy", "Reaction ~ Days + (Days | Subject)"),
    "sleepstudy_zerocorr": ("sleepstudy", "Reaction ~ Days + (Days || Subject)"),
    "penicillin": ("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)"),
    "pastes": ("Pastes", "strength ~ 1 + (1 | batch/cask)"),
    "machines": ("Machines", "score ~ Machine + (0 + Machine | Worker)"),
}
# Trapezoidal rules converge to rounding; what is left is the truncation of heavy tails in the reference.
QUADRATURE = 1e-6


@cache
def fitted(name: str) -> tuple[SummedDesign, tuple[np.ndarray, ...]]:
    data, formula = MODELS[name]
    cp = cross_products(build_design(formula, load_dataset(data)))
    return cp, optimise(cp).terms


def scalar_priors(kind: str, y: np.ndarray) -> Priors:
    sd = y.std(ddof=1)
    mad = 1.4826 * np.median(np.abs(y - np.median(y)))
    brms = HalfT(3, max(2.5, round(mad, 1)))
    group, residual = {
        "flat": (Flat(), Flat()),
        "brms_half_t": (brms, brms),
        "half_normal_sdy": (HalfNormal(sd), HalfNormal(sd)),
        "half_cauchy_sdy": (HalfCauchy(sd), HalfCauchy(sd)),
        "pc": (Exponential.pc(sd, 0.05), Flat()),
        "gamma2": (Power(1.0), Flat()),
        "inverse_gamma_0.001": (InverseGammaVariance(1e-3, 1e-3), InverseGammaVariance(1e-3, 1e-3)),
    }[kind]
    return Priors(((group,),), (1.0,), residual)


def sample(name: str, priors: Priors, method: str, draws: int = 2000, seed: int = 1) -> CollapsedDraws:
    cp, start = fitted(name)
    rng = np.random.default_rng(seed)
    return sample_collapsed(cp, priors, start, draws=draws, method=method, rng=rng)


@pytest.mark.parametrize("name", ["dyestuff", "dyestuff2", "sleepstudy_intercept"])
@pytest.mark.parametrize(
    "kind",
    [
        "flat",
        "brms_half_t",
        "half_normal_sdy",
        "half_cauchy_sdy",
        "pc",
        "gamma2",
        "inverse_gamma_0.001",
    ],
)
def test_quadrature_moments(name: str, kind: str) -> None:
    cp, _ = fitted(name)
    result = sample(name, scalar_priors(kind, cp.design.y), "quadrature")
    reference = REFERENCE[name][kind]
    exact = result.exact
    assert exact is not None
    assert result.diagnostics.log_evidence == pytest.approx(reference["log_evidence"], abs=1e-7)
    got = {
        "sd_b": (exact.sd_mean[0][0], exact.sd_sd[0][0]),
        "sigma": (exact.sigma_mean, exact.sigma_sd),
        "beta[1]": (exact.beta_mean[0], exact.beta_sd[0]),
    }
    for parameter, (mean, sd) in got.items():
        expected = reference[parameter]
        assert mean == pytest.approx(expected["mean"], rel=QUADRATURE)
        if kind == "gamma2" and name != "sleepstudy_intercept" and parameter != "sigma":
            # With six groups the density falls as s^-4: the second moment converges as 1/s and the reference
            # stops at s = 1.1e4, so its sd is too small by a share of order 1e-4 to 1e-3.
            assert expected["sd"] < sd < expected["sd"] * 1.001
        else:
            assert sd == pytest.approx(expected["sd"], rel=QUADRATURE)


SLOPES = {
    "zerocorr_half_t": ("sleepstudy_zerocorr", HalfT(3, 59.3), 1.0),
    "half_t_lkj1": ("sleepstudy_slopes", HalfT(3, 59.3), 1.0),
    "half_normal_lkj1": ("sleepstudy_slopes", HalfNormal(56.3287571252), 1.0),
    "half_t_lkj2": ("sleepstudy_slopes", HalfT(3, 59.3), 2.0),
}


@pytest.mark.parametrize("kind", SLOPES)
def test_importance_within_monte_carlo_error(kind: str) -> None:
    name, prior, eta = SLOPES[kind]
    result = sample(name, Priors(((prior, prior),), (eta,), prior), "importance", draws=4000)
    assert result.diagnostics.pareto_k < 0.5
    assert result.diagnostics.efficiency > 0.5
    reference = REFERENCE["sleepstudy_slopes"][kind]
    values = {"sigma": result.sigma, "beta[1]": result.beta[:, 0], "beta[2]": result.beta[:, 1]}
    values |= {"sd_1": result.sds[0][:, 0], "sd_2": result.sds[0][:, 1]}
    if "rho" in reference:
        values["rho"] = result.corrs[0][:, 0, 1]
    ess = 4000 * result.diagnostics.efficiency
    for parameter, draws in values.items():
        expected = reference[parameter]
        assert abs(draws.mean() - expected["mean"]) < 4 * expected["sd"] / np.sqrt(ess), parameter
        # the sd of a sample sd is sd * sqrt((kurtosis - 1) / (4 ess)); the draws give the kurtosis
        kurtosis = np.mean((draws - draws.mean()) ** 4) / draws.var() ** 2
        error = expected["sd"] * np.sqrt((kurtosis - 1) / (4 * ess))
        assert abs(draws.std() - expected["sd"]) < 4 * error, parameter


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["half_t_lkj1", "half_t_lkj2"])
def test_quadrature_of_three_ratios(kind: str) -> None:
    name, prior, eta = SLOPES[kind]
    result = sample(name, Priors(((prior, prior),), (eta,), prior), "quadrature")
    reference, exact = REFERENCE["sleepstudy_slopes"][kind], result.exact
    assert exact is not None
    for k in range(2):
        assert exact.sd_mean[0][k] == pytest.approx(reference[f"sd_{k + 1}"]["mean"], rel=QUADRATURE)
        assert exact.sd_sd[0][k] == pytest.approx(reference[f"sd_{k + 1}"]["sd"], rel=QUADRATURE)
        assert exact.beta_sd[k] == pytest.approx(reference[f"beta[{k + 1}]"]["sd"], rel=QUADRATURE)


@pytest.mark.parametrize("name", ["dyestuff2", "penicillin", "pastes", "sleepstudy_zerocorr"])
def test_draws_agree_with_the_grid_they_come_from(name: str) -> None:
    cp, _ = fitted(name)
    draws = 4000
    result = sample(name, default_priors(cp.design), "quadrature", draws=draws)
    exact = result.exact
    assert exact is not None and result.diagnostics.quadrature_error < 2e-3
    for s, mean, sd in zip(result.sds, exact.sd_mean, exact.sd_sd, strict=True):
        assert (np.abs(s.mean(0) - mean) < 4 * sd / np.sqrt(draws)).all()
    assert (np.abs(result.beta.mean(0) - exact.beta_mean) < 4 * exact.beta_sd / np.sqrt(draws)).all()


def test_both_collapsed_paths_agree_for_nested_factors() -> None:
    cp, _ = fitted("pastes")
    priors = default_priors(cp.design)
    grid, weighted = sample("pastes", priors, "quadrature"), sample("pastes", priors, "importance")
    exact, ess = grid.exact, 2000 * weighted.diagnostics.efficiency
    assert exact is not None
    for s, mean, sd in zip(weighted.sds, exact.sd_mean, exact.sd_sd, strict=True):
        assert (np.abs(s.mean(0) - mean) < 4 * sd / np.sqrt(ess)).all()
    assert weighted.diagnostics.log_evidence == pytest.approx(grid.diagnostics.log_evidence, abs=0.05)


def test_normal_prior_on_beta_with_huge_sd_is_flat() -> None:
    cp, _ = fitted("sleepstudy_intercept")
    base = default_priors(cp.design)
    wide = resolve_priors(cp.design, "weak")
    assert wide.beta is not None
    wide = Priors(base.sds, base.lkj, base.sigma, type(wide.beta)(wide.beta.mean, wide.beta.sd * 1e4))
    flat = sample("sleepstudy_intercept", base, "quadrature").exact
    normal = sample("sleepstudy_intercept", wide, "quadrature").exact
    assert flat is not None and normal is not None
    np.testing.assert_allclose(normal.beta_mean, flat.beta_mean, rtol=1e-6)
    np.testing.assert_allclose(normal.beta_sd, flat.beta_sd, rtol=1e-6)
    np.testing.assert_allclose(normal.sd_mean[0], flat.sd_mean[0], rtol=1e-6)


def test_same_seed_same_draws_and_other_seed_other_draws() -> None:
    cp, _ = fitted("sleepstudy_slopes")
    priors = default_priors(cp.design)
    first, second = (sample("sleepstudy_slopes", priors, "importance", 500) for _ in range(2))
    other = sample("sleepstudy_slopes", priors, "importance", 500, seed=2)
    np.testing.assert_array_equal(first.b[0], second.b[0])
    assert not np.array_equal(first.sigma, other.sigma)


def test_three_by_three_block_has_sound_weights() -> None:
    cp, _ = fitted("machines")
    result = sample("machines", default_priors(cp.design), "importance", 4000)
    assert result.diagnostics.pareto_k < 0.5
    for corr in result.corrs[0][::200]:
        np.testing.assert_allclose(np.diagonal(corr), 1.0, atol=1e-12)
        assert np.linalg.eigvalsh(corr)[0] > -1e-12


def test_lkj_density_integrates_to_one() -> None:
    # c = 2: one coordinate; trapezoidal rule
    coordinates = TermCoordinates(Unstructured(2), (True, True), np.ones(2), np.array([2.5]))
    w = np.linspace(-40, 40, 4001)
    x = np.column_stack([np.zeros((w.size, 2)), w])
    _, log_density = coordinates.correlation_factor(x)
    assert np.exp(log_density).sum() * (w[1] - w[0]) == pytest.approx(1.0, rel=1e-12)


def test_coordinates_invert() -> None:
    cp, terms = fitted("sleepstudy_slopes")
    target, start = make_target(cp, default_priors(cp.design), terms)
    (T,) = target.terms(start[None])[0]
    # Coordinates describe the effects at the mean of Days: b0 at zero is the level there less 4.5 slopes.
    at_zero = np.array([[1.0, -4.5], [0.0, 1.0]]) @ T[0]
    np.testing.assert_allclose(at_zero @ at_zero.T, terms[0] @ terms[0].T, rtol=1e-10)


def test_improper_posterior_is_refused_with_the_reason() -> None:
    data = load_dataset("Dyestuff")
    two = data[data["Batch"].isin(["A", "B"])]
    cp = cross_products(build_design("Yield ~ 1 + (1 | Batch)", two))
    flat = Priors(((Flat(),),), (1.0,), Flat())
    with pytest.raises(PriorError, match=r"2 levels.*improper"):
        check_posterior(cp.design, flat)


def test_scale_equivariance() -> None:
    data = load_dataset("Dyestuff2")
    formula = "Yield ~ 1 + (1 | Batch)"
    moved = data.assign(Yield=1e6 + 1e-6 * data["Yield"])
    exacts = []
    for frame in (data, moved):
        cp = cross_products(build_design(formula, frame))
        rng = np.random.default_rng(0)
        exacts.append(sample_collapsed(cp, default_priors(cp.design), optimise(cp).terms, draws=100, rng=rng).exact)
    # 1e6 + 1e-6 y keeps only about four digits of y in binary64
    np.testing.assert_allclose(exacts[1].sd_mean[0], 1e-6 * exacts[0].sd_mean[0], rtol=1e-3)
