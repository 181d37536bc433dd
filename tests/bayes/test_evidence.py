"""Evidences and densities at zero against stored quadrature on (sd, log sigma) grids of another program."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.integrate import quad

import bayeslmm as bl
from bayeslmm.bayes.default_priors import resolve_priors
from bayeslmm.bayes.evidence import (
    integrated,
    log_evidence,
    log_evidence_at_zero,
    without_effect,
)
from bayeslmm.bayes.priors import Gamma, Priors, Relative
from bayeslmm.design.without import without_rows

REFERENCE = json.loads((Path(__file__).parent / "evidence_reference.json").read_text())
RNG = np.random.default_rng(0)
# brms rounds the median absolute deviation of the response to one digit.
ROUNDED = {"Dyestuff": 85.2, "Dyestuff2": 4.2, "sleepstudy": 59.3}


def _spec(name: str, dataset: str, spread: float) -> dict[str, Any] | None:
    r = ROUNDED[dataset]
    bambi = {"Dyestuff": (154.910928709, 61.9643714834), "Dyestuff2": (9.13307837844, 3.65323135137)}
    bambi["sleepstudy"] = (261.009248433, 56.1720704319)
    both = {
        "brms_half_t": bl.HalfT(3, r),
        "half_normal_sdy": bl.HalfNormal(spread),
        "half_cauchy_sdy": bl.HalfCauchy(spread),
        "half_t_lkj1": bl.HalfT(3, r),
        "half_t_lkj2": bl.HalfT(3, r),
        "half_normal_lkj1": bl.HalfNormal(spread),
        "half_normal_lkj2": bl.HalfNormal(spread),
        "zerocorr_half_t": bl.HalfT(3, r),
    }
    if name in both:
        return {"sd": both[name], "sigma": both[name], "lkj": 2.0 if name.endswith("lkj2") else 1.0}
    return {
        "bambi_scales": {"sd": bl.HalfNormal(bambi[dataset][0]), "sigma": bl.HalfT(4, bambi[dataset][1])},
        "pc": {"sd": bl.Exponential.pc(spread), "sigma": bl.Flat()},
        "sigma_conditional_exponential": {"sd": Relative(bl.Exponential(1.0)), "sigma": bl.Exponential(spread)},
    }.get(name)


def _case(entry: dict[str, Any]) -> tuple[bl.Model, Priors] | None:
    data = bl.load_dataset(entry["dataset"])
    formula = entry["formula"]
    if entry["name"] == "zerocorr_half_t":
        formula = formula.replace("(Days | Subject)", "(Days || Subject)")
    model = bl.Model(formula, data)
    spec = _spec(entry["name"], entry["dataset"], float(np.std(model.design.y, ddof=1)))
    return None if spec is None else (model, resolve_priors(model.design, spec))


CASES = [e for e in REFERENCE if _spec(e["name"], e["dataset"], 1.0) is not None]
IDS = [f"{e['dataset']} {e['formula'].split('(')[1]} {e['name']}" for e in CASES]


@pytest.mark.parametrize("entry", CASES, ids=IDS)
def test_reference_evidence_and_density_at_zero(entry: dict[str, Any]) -> None:
    case = _case(entry)
    assert case is not None
    model, priors = case
    cp, terms = model.cross_products, [np.array([[1.0]])]
    if "slopes" in entry or "Days |" in entry["formula"]:
        terms = model._optimum(True).terms
    full = integrated(cp, priors, terms, RNG)
    assert full.method == "quadrature"
    np.testing.assert_allclose(full.value, entry["log_evidence"], atol=1e-4)
    if entry.get("density_at_zero"):
        zero = log_evidence_at_zero(cp, priors, terms, 0, 0, RNG)
        density = np.exp(zero.value - full.value + entry["log_prior_at_zero"])
        # At 1e-25 of the peak the stored grid itself is off by 2e-4; the next test has that case in closed form.
        far = entry["density_at_zero"] < 1e-20
        np.testing.assert_allclose(density, entry["density_at_zero"], rtol=5e-4 if far else 1e-4)


def test_linear_model_at_zero() -> None:
    model = bl.Model("Reaction ~ Days + (1 | Subject)", bl.load_dataset("sleepstudy"))
    priors = resolve_priors(model.design, {"sd": bl.HalfT(3, 59.3), "sigma": bl.HalfT(3, 59.3)})
    X, y = model.design.X, model.design.y
    r2, log_det = np.linalg.lstsq(X, y)[1][0], np.linalg.slogdet(X.T @ X)[1]

    def log_joint(s: float) -> float:
        return -0.5 * (178 * np.log(2 * np.pi * s**2) + log_det + r2 / s**2) + stats.t(3, 0, 59.3).logpdf(s) + np.log(2)

    peak = np.sqrt(r2 / 178)
    top = log_joint(peak)
    mass = quad(lambda s: np.exp(log_joint(s) - top), 0.6 * peak, 1.6 * peak, epsabs=0.0)[0]
    found = log_evidence_at_zero(model.cross_products, priors, [np.eye(1)], 0, 0, RNG)
    np.testing.assert_allclose(found.value, top + np.log(mass), rtol=1e-11)


def test_bayes_factor_of_a_posterior_is_the_density_ratio() -> None:
    entry = next(e for e in CASES if e["name"] == "brms_half_t" and e["dataset"] == "Dyestuff2")
    case = _case(entry)
    assert case is not None
    post = case[0].sample(300, priors=case[1], random_seed=1)
    found = post.bayes_factor("sd_Batch", scales=(1, 2))
    np.testing.assert_allclose(found.posterior_density_at_zero, entry["density_at_zero"], rtol=1e-4)
    np.testing.assert_allclose(found.log_prior_at_zero, entry["log_prior_at_zero"], rtol=1e-12)
    np.testing.assert_allclose(found.bf01 * found.bf10, 1.0)
    wider = case[0].sample(300, priors={"sd": bl.HalfT(3, 8.4), "sigma": bl.HalfT(3, 4.2)}, random_seed=1)
    assert found.log_bf01_at_scales[0] == found.log_bf01
    np.testing.assert_allclose(found.log_bf01_at_scales[1], wider.bayes_factor("sd_Batch").log_bf01, atol=1e-6)
    assert "BF01 = " in repr(found)
    assert "scale x 2" in repr(found)


@pytest.mark.parametrize("effect", [0, 1])
def test_one_of_two_correlated_effects_vanishes(effect: int) -> None:
    # Slice of the dense density at s_k = 0: the correlation does not matter there.
    rng = np.random.default_rng(4)
    g = np.repeat(np.arange(5), 4)
    x = np.tile([-1.5, -0.5, 0.5, 1.5], 5)
    frame = pd.DataFrame({"g": [f"g{k}" for k in g], "x": x})
    frame["y"] = rng.normal(size=5)[g] + x * (1 + 0.5 * rng.normal(size=5)[g]) + rng.normal(size=20)
    model = bl.Model("y ~ x + (x | g)", frame)
    sd = (bl.HalfNormal(1.3), bl.HalfT(4, 0.8))
    priors = resolve_priors(model.design, {"sd_g": sd, "sigma": bl.HalfNormal(2.0), "lkj": 1.7})
    X, y = model.design.X, model.design.y
    column = model.design.terms[0].Z[:, 1 - effect]
    same = g[:, None] == g

    def density(s: float, sigma: float) -> float:
        V = sigma**2 * np.eye(20) + s**2 * same * np.outer(column, column)
        Vi = np.linalg.inv(V)
        A = X.T @ Vi @ X
        P = Vi - Vi @ X @ np.linalg.solve(A, X.T @ Vi)
        logs = -0.5 * (18 * np.log(2 * np.pi) + np.linalg.slogdet(V)[1] + np.linalg.slogdet(A)[1] + y @ P @ y)
        return float(np.exp(logs))

    def nodes(upper: float) -> tuple[Any, Any]:
        x, w = np.polynomial.legendre.leggauss(80)
        # Squared, for the fine structure near zero.
        u = 0.5 * (1 + x)
        return upper * u**2, upper * u * w

    (s, ws), (sigma, wt) = nodes(40.0), nodes(14.0)
    own = [stats.halfnorm(0, 1.3).pdf(s), 2 * stats.t(4, 0, 0.8).pdf(s)][1 - effect]
    values = np.array([[density(a, b) for b in sigma] for a in s])
    expected = (ws * own) @ values @ (wt * stats.halfnorm(0, 2.0).pdf(sigma))
    terms = [np.array([[1.0, 0.0], [0.1, 0.6]])]
    found = log_evidence_at_zero(model.cross_products, priors, terms, 0, effect, RNG)
    np.testing.assert_allclose(found.value, np.log(expected), atol=1e-5)


def test_dropping_one_of_three_keeps_the_prior_of_the_others() -> None:
    frame = bl.load_dataset("sleepstudy").assign(z=lambda d: np.sin(np.arange(len(d))))
    design = bl.Model("Reaction ~ Days + (Days + z | Subject)", frame).design
    smaller, priors, kept = without_effect(design, resolve_priors(design, {"lkj": 1.5}), 0, 1)
    assert kept.tolist() == [0, 2]
    assert smaller.terms[0].effects == ("Intercept", "z")
    # The margin of LKJ(eta) on 3 x 3 that a pair has: (1 + r) / 2 is beta(eta + 1/2, eta + 1/2).
    assert priors.lkj == (2.0,)
    assert len(priors.sds[0]) == 2


def test_normal_prior_and_no_effects_left() -> None:
    frame = bl.load_dataset("Dyestuff")
    model = bl.Model("Yield ~ 1 + (1 | Batch)", frame)
    priors = resolve_priors(model.design, {"beta": bl.NormalPrior(np.array([1500.0]), np.array([80.0]))})
    y, scale = model.design.y, float(np.std(model.design.y, ddof=1))

    def density(log_sigma: float) -> float:
        sigma = np.exp(log_sigma)
        V = sigma**2 * np.eye(30) + 80.0**2
        prior = 2 * stats.t(3, 0, scale).pdf(sigma)
        return float(np.exp(stats.multivariate_normal(np.full(30, 1500.0), V).logpdf(y) + 160.0) * prior * sigma)

    expected = np.log(quad(density, np.log(20), np.log(200), epsabs=0.0)[0]) - 160.0
    found = log_evidence_at_zero(model.cross_products, priors, [np.ones((1, 1))], 0, 0, RNG)
    np.testing.assert_allclose(found.value, expected, atol=1e-6)


def test_importance_sampling_agrees_with_quadrature() -> None:
    # Four relative parameters: a second factor whose sd the prior holds near zero changes nothing of the evidence.
    frame = bl.load_dataset("sleepstudy").assign(h=lambda d: (np.arange(len(d)) * 7 % 5).astype(str))
    big = bl.Model("Reaction ~ Days + (Days | Subject) + (1 | h)", frame)
    small = bl.Model("Reaction ~ Days + (Days | Subject)", frame)
    sd = {"sd_Subject": bl.HalfNormal(40), "sigma": bl.HalfNormal(40)}
    terms = small._optimum(True).terms
    expected = log_evidence(small.cross_products, resolve_priors(small.design, sd), terms, RNG)
    priors = resolve_priors(big.design, {**sd, "sd_h": bl.HalfNormal(1e-4)})
    found = log_evidence(big.cross_products, priors, [*terms, np.array([[1e-6]])], np.random.default_rng(3))
    assert found.method == "importance"
    assert 0 < found.error < 0.05
    assert abs(found.value - expected.value) < 4 * found.error


@pytest.mark.parametrize(
    ("prior", "found"),
    [
        (bl.Flat(), "improper"),
        (bl.Power(1.0), "improper"),
        (bl.InverseGammaVariance(1.0, 1.0), "density at zero is zero"),
        (Gamma(2.0, 0.05), "density at zero is zero"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_priors_without_a_density_at_zero_are_refused(prior: Any, found: str) -> None:
    post = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).sample(
        100, priors={"sd": prior}, random_seed=1
    )
    with pytest.raises(bl.PriorError, match=found):
        post.bayes_factor("sd_Batch")


def test_only_sds_have_bayes_factors() -> None:
    post = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).sample(100, random_seed=1)
    with pytest.raises(bl.DesignError, match="no standard deviation"):
        post.bayes_factor("sigma")


def test_log_evidence_of_posteriors() -> None:
    entry = next(e for e in CASES if e["name"] == "half_normal_sdy" and e["dataset"] == "Dyestuff")
    case = _case(entry)
    assert case is not None
    model, priors = case
    np.testing.assert_allclose(model.sample(200, priors=priors).log_evidence, entry["log_evidence"], atol=1e-4)
    improper = model.sample(200, priors={"sd": bl.Flat()}, random_seed=1)
    with pytest.warns(bl.BayesLMMWarning, match=r"sd_Batch\[Intercept\] is flat"):
        assert np.isnan(improper.log_evidence)


def test_rows_taken_out_are_gone_with_their_levels() -> None:
    frame = bl.load_dataset("Pastes")
    design = bl.Model("strength ~ 1 + (1 | batch / cask)", frame).design
    rows = np.flatnonzero(frame["batch"] == "C")
    smaller, expected = (
        without_rows(design, rows),
        bl.Model("strength ~ 1 + (1 | batch / cask)", frame[frame["batch"] != "C"]).design,
    )
    for name, grouping in expected.groupings.items():
        assert smaller.groupings[name].levels == grouping.levels
        np.testing.assert_array_equal(smaller.groupings[name].codes, grouping.codes)
    np.testing.assert_array_equal(smaller.y, expected.y)
    assert list(smaller.index) == list(expected.index)
