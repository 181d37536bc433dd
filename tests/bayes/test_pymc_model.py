"""The graph of the PyMC model: names, dims, coords, priors, behaviour near a zero sd."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import beta, invgamma, kstest

from bayeslmm.bayes.default_priors import default_priors, resolve_priors
from bayeslmm.bayes.layout import make_layout
from bayeslmm.bayes.priors import (
    Exponential,
    Flat,
    HalfCauchy,
    HalfNormal,
    HalfT,
    InverseGammaVariance,
    Power,
    Priors,
    SdPrior,
    Uniform,
)
from bayeslmm.bayes.pymc_model import build_pymc_model
from bayeslmm.design.design import Design
from bayeslmm.errors import PriorError
from bayeslmm.likelihood import NormalPrior

pm = pytest.importorskip("pymc")

Make = Callable[..., Design]
KINDS = ["one-way", "nested", "slopes 3x3", "uncorrelated", "repeated effect", "blocks and crossed"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["noncentered", "centered"])
def test_names_dims_and_coords_are_those_of_the_layout(kind: str, form: str, design: Make) -> None:
    data = design(kind, weights=True, offset=True)
    layout = make_layout(data)
    model = build_pymc_model(data, default_priors(data), form)
    for name, dims in (layout.posterior_dims | layout.data_dims).items():
        assert model.named_vars_to_dims.get(name, ()) == dims
    assert set(model.coords) == set(layout.coords)
    for dim, labels in layout.coords.items():
        assert list(model.coords[dim]) == list(labels)
    assert not set(model.named_vars) & set(model.coords)


def test_free_variables(design: Make) -> None:
    data = design("blocks and crossed")
    model = build_pymc_model(data, default_priors(data))
    free = {rv.name for rv in model.free_RVs}
    assert free == {"beta", "sigma", "sd_g", "sd_h", "z_g", "z_h", "r_g"}
    centred = build_pymc_model(data, default_priors(data), "centered")
    assert {rv.name for rv in centred.free_RVs} == {*free, "b_g", "b_h"} - {"z_g", "z_h"}


def test_no_fixed_effects(design: Make) -> None:
    data = design("one-way", fixed=())
    model = build_pymc_model(data, default_priors(data))
    assert {rv.name for rv in model.free_RVs} == {"sigma", "sd_g", "z_g"}
    assert "coef" not in model.coords


@pytest.mark.parametrize(
    ("prior", "op"),
    [
        (HalfT(3, 2.0), "halfstudentt"),
        (HalfCauchy(2.0), "halfstudentt"),
        (HalfNormal(2.0), "halfnormal"),
        (Exponential(2.0), "exponential"),
        (Uniform(2.0), "uniform"),
        (Flat(), "half_flat"),
        (Power(1.0), "half_flat"),
    ],
)
def test_each_prior_has_its_distribution(prior: SdPrior, op: str, design: Make) -> None:
    data = design("uncorrelated")
    model = build_pymc_model(data, _with_sds(data, prior, prior))
    assert model["sd_g"].owner.op.name == op
    assert model["sd_g"].type.shape in [(2,), (None,)]


def test_families_mixed_in_one_group(design: Make) -> None:
    data = design("uncorrelated")
    model = build_pymc_model(data, _with_sds(data, HalfT(3, 2.0), Exponential(1.0)))
    assert {rv.name for rv in model.free_RVs} >= {"sd_g__Intercept", "sd_g__x"}
    assert model.named_vars_to_dims["sd_g"] == ("g__effect",)


def test_prior_unknown_to_pymc(design: Make) -> None:
    @dataclass(frozen=True)
    class Odd:
        proper: bool = True
        even: bool = False

        def log_density(self, s: np.ndarray) -> np.ndarray:
            return -s

    data = design("one-way")
    with pytest.raises(PriorError, match="no counterpart in PyMC"):
        build_pymc_model(data, _with_sds(data, Odd()))


@pytest.mark.parametrize("kind", ["one-way", "slopes", "blocks and crossed"])
def test_density_and_gradient_stay_finite_as_sds_vanish(kind: str, design: Make) -> None:
    data = design(kind)
    model = build_pymc_model(data, default_priors(data))
    gradient = model.compile_dlogp(mode="FAST_COMPILE")
    density = model.compile_logp(mode="FAST_COMPILE")
    start = model.initial_point()
    for log_sd in [-1.0, -10.0, -50.0, -300.0, -700.0]:
        point = {k: np.full_like(v, log_sd) if k.startswith("sd_") else v for k, v in start.items()}
        assert np.isfinite(density(point))
        assert np.isfinite(gradient(point)).all()


@pytest.mark.parametrize("eta", [1.0, 2.5])
def test_prior_draws_of_the_correlations_are_lkj(eta: float, design: Make) -> None:
    data = design("slopes 3x3")
    priors = replace(default_priors(data), lkj=(eta,))
    draws = _draw(build_pymc_model(data, priors)["corr_g"], 2000)
    shape = eta + 0.5  # of (1 + rho) / 2 in three dimensions, the same for every pair
    for k in range(3):
        assert kstest((1.0 + draws[:, k]) / 2.0, beta(shape, shape).cdf).pvalue > 1e-3


def test_prior_draws_of_an_inverse_gamma_variance(design: Make) -> None:
    data = design("one-way")
    prior = InverseGammaVariance(3.0, 2.0)
    draws = _draw(build_pymc_model(data, _with_sds(data, prior))["sd_g"], 2000)
    assert kstest(draws[:, 0] ** 2, invgamma(3.0, scale=2.0).cdf).pvalue > 1e-3


def test_prior_predictive_needs_proper_priors_and_then_works(design: Make) -> None:
    data = design("slopes")
    priors = resolve_priors(data, "weak")
    assert priors.proper
    y = _draw(build_pymc_model(data, priors)["y"], 5)
    assert y.shape == (5, data.n)
    assert np.isfinite(y).all()


def test_partly_flat_beta_is_flat_with_a_potential(design: Make) -> None:
    data = design("one-way")
    prior = NormalPrior(np.zeros(2), np.array([np.inf, 1.0]))
    model = build_pymc_model(data, replace(default_priors(data), beta=prior))
    assert [p.name for p in model.potentials] == ["beta_prior"]


def test_model_can_be_conditioned(design: Make) -> None:
    """PyMC's do() and observe() refuse models with initial values of their own."""
    data = design("one-way")
    model = build_pymc_model(data, default_priors(data))
    conditioned = pm.do(model, {"sd_g": np.zeros(1)})
    assert "sd_g" not in {rv.name for rv in conditioned.free_RVs}


def test_pymc_is_imported_late() -> None:
    modules = "bayeslmm, bayeslmm.bayes.pymc_model, bayeslmm.bayes.nuts, bayeslmm.bayes.datatree"
    late = "pymc", "arviz", "nutpie"
    code = f"import sys, {modules}; sys.exit(any(m in sys.modules for m in {late}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _with_sds(design: Design, *sds: Any) -> Priors:
    return replace(default_priors(design), sds=(sds,))


def _draw(variable: Any, size: int) -> np.ndarray:
    return np.asarray(pm.draw(variable, size, random_seed=1, mode="FAST_COMPILE"))
