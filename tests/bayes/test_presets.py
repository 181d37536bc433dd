"""Presets against the numbers that the packages print, and posteriors under them against stored references."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from bayeslmm.bayes.collapsed import sample_collapsed
from bayeslmm.bayes.default_priors import resolve_priors
from bayeslmm.bayes.moments import ExactMoments
from bayeslmm.bayes.presets import PRESETS
from bayeslmm.bayes.prior_scales import response_mad
from bayeslmm.bayes.priors import (
    Decov,
    Exponential,
    Flat,
    FlatFactor,
    Gamma,
    HalfNormal,
    HalfT,
    Power,
    Priors,
    Relative,
)
from bayeslmm.datasets import load_dataset
from bayeslmm.design import build_design
from bayeslmm.design.design import Design
from bayeslmm.likelihood import cross_products
from bayeslmm.reml import optimise

REFERENCE = json.loads((Path(__file__).parent / "preset_reference.json").read_text())
FORMULAS = {
    "Dyestuff": "Yield ~ 1 + (1 | Batch)",
    "Dyestuff2": "Yield ~ 1 + (1 | Batch)",
    "sleepstudy": "Reaction ~ Days + (1 | Subject)",
}
# Preset with flat fixed effects, as in the references, and the reference's name.
CASES = {
    "brms": "brms_half_t",
    "bambi": "bambi_scales",
    "pc": "pc",
    "boundary_avoiding": "gamma2",
    "rstanarm": "sigma_conditional_exponential",
}


@cache
def design_of(data: str, formula: str | None = None) -> Design:
    return build_design(formula or FORMULAS[data], load_dataset(data))


@cache
def moments(data: str, preset: str) -> tuple[ExactMoments, float]:
    design = design_of(data)
    cp = cross_products(design)
    priors = resolve_priors(design, {"preset": preset, "beta": "flat"})
    rng = np.random.default_rng(1)
    result = sample_collapsed(cp, priors, optimise(cp).terms, draws=200, method="quadrature", rng=rng)
    assert result.exact is not None
    return result.exact, result.diagnostics.log_evidence


@pytest.mark.parametrize("data", FORMULAS)
@pytest.mark.parametrize("preset", CASES)
def test_posterior_under_a_preset(data: str, preset: str) -> None:
    exact, log_evidence = moments(data, preset)
    name = "sleepstudy_intercept" if data == "sleepstudy" else data.lower()
    reference = REFERENCE[name][CASES[preset]]
    assert log_evidence == pytest.approx(reference["log_evidence"], abs=1e-6)
    assert exact.sd_mean[0][0] == pytest.approx(reference["sd_b"]["mean"], rel=1e-5)
    assert exact.sigma_mean == pytest.approx(reference["sigma"]["mean"], rel=1e-5)
    assert exact.sigma_sd == pytest.approx(reference["sigma"]["sd"], rel=1e-5)


@pytest.mark.parametrize("data", ["Dyestuff", "Dyestuff2"])
def test_rstanarm_itself_agrees(data: str) -> None:
    exact, _ = moments(data, "rstanarm")
    mcmc = REFERENCE["rstanarm 2.21.3"][data]
    for ours, name in ((exact.sd_mean[0][0], "sd_b"), (exact.sigma_mean, "sigma")):
        error = mcmc[name]["sd"] / np.sqrt(mcmc["n_eff"][name])
        assert abs(ours - mcmc[name]["mean"]) < 4 * error, name


def test_brms_scale_has_a_floor() -> None:
    """brms: half-t(3, 0, max(2.5, round(mad(y), 1))) on everything."""
    scales = {"Dyestuff": 85.2, "Dyestuff2": 4.2, "sleepstudy": 59.3}
    for data, scale in scales.items():
        priors = resolve_priors(design_of(data), "brms")
        assert priors.sigma == HalfT(3.0, scale)
        assert priors.sds == ((HalfT(3.0, scale),),)
        assert priors.beta is None
        assert "flat here" in dict(priors.notes)["Intercept"]
    small = load_dataset("Dyestuff").assign(Yield=lambda d: d["Yield"] / 1000)
    assert resolve_priors(build_design(FORMULAS["Dyestuff"], small), "brms").sigma == HalfT(3.0, 2.5)


def test_weighted_mad_is_that_of_the_rows_written_out() -> None:
    data = load_dataset("Dyestuff")
    for counts in ([1, 2, 3] * 10, [2, 1, 1] * 10):
        frame = data.assign(f=counts)
        long = frame.loc[frame.index.repeat(frame["f"])].reset_index(drop=True)
        y = long["Yield"].to_numpy()
        expected = 1.4826 * np.median(np.abs(y - np.median(y)))
        assert response_mad(build_design(FORMULAS["Dyestuff"], frame, frequency="f")) == pytest.approx(expected)


def test_bambi_scales_with_slopes() -> None:
    """The numbers that bambi prints for Reaction ~ Days + (Days | Subject)."""
    design = design_of("sleepstudy", "Reaction ~ Days + (Days | Subject)")
    priors = resolve_priors(design, "bambi")
    (intercept, slope), sigma = priors.sds[0], priors.sigma
    assert isinstance(intercept, HalfNormal)
    assert isinstance(slope, HalfNormal)
    assert intercept.scale == pytest.approx(261.009248433, rel=1e-10)
    assert isinstance(sigma, HalfT)
    assert (sigma.df, sigma.scale) == (4.0, pytest.approx(56.1720704319, rel=1e-10))
    y, days = design.y, design.X[:, 1]
    assert slope.scale == pytest.approx(2.5 * y.std() / days.std())
    assert priors.beta is not None
    assert priors.beta.centre == pytest.approx([y.mean(), 0.0])
    # the intercept is the centred one, of sd 261.009..., less 4.5 slopes
    assert priors.beta.marginal_sd == pytest.approx([np.hypot(261.009248433, days.mean() * slope.scale), slope.scale])
    assert {"corr", "Intercept"} == set(dict(priors.notes))


def test_rstanarm_with_slopes() -> None:
    design = design_of("sleepstudy", "Reaction ~ Days + (Days | Subject)")
    priors = resolve_priors(design, "rstanarm")
    y, days = design.y, design.X[:, 1]
    assert priors.joint == (Decov(1.0, 1.0, 1.0, 1.0),)
    assert isinstance(priors.sigma, Exponential)
    assert priors.sigma.mean == pytest.approx(y.std(ddof=1))
    slope = 2.5 * y.std(ddof=1) / days.std(ddof=1)
    assert priors.beta is not None
    assert priors.beta.marginal_sd == pytest.approx([np.hypot(2.5 * y.std(ddof=1), days.mean() * slope), slope])
    assert "Intercept" in dict(priors.notes)


def test_rstanarm_treats_uncorrelated_effects_as_terms() -> None:
    priors = resolve_priors(design_of("sleepstudy", "Reaction ~ Days + (Days || Subject)"), "rstanarm")
    flat = [prior for sds in priors.sds for prior in sds]
    assert flat == [Relative(Gamma(1.0, 1.0))] * 2
    assert not any(priors.joint)


def test_flat_and_boundary_avoiding() -> None:
    design = design_of("sleepstudy", "Reaction ~ Days + (Days | Subject)")
    flat = resolve_priors(design, "flat")
    assert flat.sigma == Power(-1.0)
    assert (flat.joint, flat.lkj, flat.beta) == ((FlatFactor(),), (0.5,), None)
    avoiding = resolve_priors(design, "boundary_avoiding")
    assert avoiding.on_zeros(0) == Priors(((Power(1.0), Power(1.0)),), (1.5,), Flat())
    assert avoiding.centred
    assert flat.centred
    assert resolve_priors(design_of("Dyestuff"), "boundary_avoiding").sds == ((Gamma(2.0, 0.0),),)


@pytest.mark.parametrize("preset", sorted(set(PRESETS) - {"brms", "flat", "boundary_avoiding", "rstanarm"}))
@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_scales_follow_the_units_of_y(preset: str, factor: float) -> None:
    formula, data = "Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy")
    scaled = build_design(formula, data.assign(Reaction=data["Reaction"] * factor))
    one, other = (resolve_priors(d, preset) for d in (build_design(formula, data), scaled))
    for a, b in zip(one.sds[0], other.sds[0], strict=True):
        assert b.quantile(0.5) == pytest.approx(factor * a.quantile(0.5), rel=1e-10)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(
    "formula", ["score ~ Machine + cs(0 + Machine | Worker)", "score ~ 0 + Machine + (1 | Worker/Machine)"]
)
def test_every_preset_fits_every_structure(preset: str, formula: str) -> None:
    design = design_of("Machines", formula)
    priors = resolve_priors(design, preset)
    sds = [np.array([[0.5] * len(term.effects)] * 2) for term in design.terms]
    assert np.isfinite(priors.log_density_relative(sds, np.ones((2, 3)))).all()
