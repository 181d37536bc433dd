"""The graph of the PyMC model: names, dims, coords, priors, behaviour near a zero sd."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta, chi, expon, invgamma, kstest

import bayeslmm as bl
from bayeslmm.bayes.default_priors import default_priors, resolve_priors
from bayeslmm.bayes.forms import choose_forms, resolve_forms
from bayeslmm.bayes.layout import make_layout
from bayeslmm.bayes.presets import PRESETS
from bayeslmm.bayes.priors import (
    Chi,
    Exponential,
    Flat,
    HalfCauchy,
    HalfNormal,
    HalfT,
    InverseGammaVariance,
    Power,
    Priors,
    Relative,
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
    assert free == {"beta", "sigma", "sd_at_mean_g", "sd_h", "z_g", "z_h", "r_g"}
    centred = build_pymc_model(data, default_priors(data), "centered")
    assert {rv.name for rv in centred.free_RVs} == {*free, "b_at_mean_g", "b_h"} - {"z_g", "z_h"}


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
    draws = _draw(build_pymc_model(data, priors)["corr_at_mean_g"], 2000)
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
    modules = (
        "bayeslmm, bayeslmm.bayes.pymc_model, bayeslmm.bayes.nuts, bayeslmm.bayes.datatree, "
        "bayeslmm.bayes.collapsed_nuts, bayeslmm.bayes.pymc_source"
    )
    late = "pymc", "arviz", "nutpie"
    code = f"import sys, {modules}; sys.exit(any(m in sys.modules for m in {late}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _with_sds(design: Design, *sds: Any) -> Priors:
    return replace(default_priors(design), sds=(sds,))


def _draw(variable: Any, size: int) -> np.ndarray:
    return np.asarray(pm.draw(variable, size, random_seed=1, mode="FAST_COMPILE"))


# Forms.


def test_auto_takes_the_form_from_the_information_ratio() -> None:
    """A balanced one-way layout: the ratio is n_i sd^2 / sigma^2 at the REML fit, here in closed form."""
    levels, rows = 12, 5
    rng = np.random.default_rng(3)
    for between, form in ((6.0, "centered"), (0.6, "noncentered")):
        effect = rng.normal(size=levels)
        noise = rng.normal(size=(levels, rows))
        y = between * effect[:, None] + noise
        data = pd.DataFrame({"y": y.ravel(), "g": np.repeat(np.arange(levels), rows)})
        model = bl.Model("y ~ 1 + (1 | g)", data)
        within = ((y - y.mean(1, keepdims=True)) ** 2).sum() / (levels * (rows - 1))
        means = rows * ((y.mean(1) - y.mean()) ** 2).sum() / (levels - 1)
        chosen = model.forms().loc["g"]
        assert chosen["ratio"] == pytest.approx((means - within) / within, rel=1e-5)
        assert chosen["form"] == form
        assert f"{chosen['ratio']:.3g}" in chosen["reason"]
        free = {rv.name for rv in model.to_pymc(form="auto").free_RVs}
        assert ("b_g" in free) == (form == "centered")


def test_auto_stays_away_from_zero_variances_and_few_levels() -> None:
    zero = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2"))
    assert zero.forms().loc["Batch", "form"] == "noncentered"
    assert "zero at the REML fit" in zero.forms().loc["Batch", "reason"]
    few = bl.Model("diameter ~ 1 + (1 | plate) + (1 | sample)", bl.load_dataset("Penicillin")).forms()
    assert few["form"].to_dict() == {"plate": "centered", "sample": "noncentered"}
    assert "6 levels" in few.loc["sample", "reason"]


def test_one_direction_about_which_the_data_say_nothing_decides(design: Make) -> None:
    data = design("slopes")
    T = np.array([[30.0, 0.0], [20.0, 0.0]])
    (choice,) = choose_forms(data, [T])
    assert (choice.ratio, choice.form) == (0.0, "noncentered")


def test_forms_of_single_groups(design: Make) -> None:
    data = design("blocks and crossed")
    forms = resolve_forms(data, {"g": "centered", "h": "noncentered"}, lambda: [])
    free = {rv.name for rv in build_pymc_model(data, default_priors(data), forms).free_RVs}
    assert free >= {"b_at_mean_g", "z_h"}
    assert not free & {"z_g", "b_h"}


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("centred", "form='centred' is unknown"),
        ({"g": "centered"}, "the grouping factors are 'h', 'g'"),
        ({"g": "both", "h": "centered"}, "form='both' is unknown"),
    ],
)
def test_unknown_forms_are_refused(form: Any, message: str, design: Make) -> None:
    with pytest.raises(PriorError, match=message):
        resolve_forms(design("blocks and crossed"), form, lambda: [])


# Prior draws of the families that PyMC has no distribution for.


def test_prior_draws_of_a_chi(design: Make) -> None:
    data = design("one-way")
    draws = _draw(build_pymc_model(data, _with_sds(data, Chi(3.0, 2.0)))["sd_g"], 2000)
    assert kstest(draws[:, 0], chi(3.0, scale=2.0).cdf).pvalue > 1e-3


def test_prior_draws_of_a_ratio(design: Make) -> None:
    data = design("one-way")
    model = build_pymc_model(data, _with_sds(data, Relative(Exponential(2.0))))
    sd, sigma = pm.draw([model["sd_g"], model["sigma"]], 2000, random_seed=1, mode="FAST_COMPILE")
    assert kstest(sd[:, 0] / sigma, expon(scale=2.0).cdf).pvalue > 1e-3


def test_prior_draws_of_decov(design: Make) -> None:
    data = design("slopes 3x3")
    model = build_pymc_model(data, PRESETS["rstanarm"](data))
    sd, sigma = pm.draw([model["sd_g"], model["sigma"]], 2000, random_seed=1, mode="FAST_COMPILE")
    squares = (sd / sigma[:, None]) ** 2
    assert kstest(np.sqrt(squares.mean(1)), expon().cdf).pvalue > 1e-3
    # one share of a flat Dirichlet of three
    assert kstest(squares[:, 1] / squares.sum(1), beta(1, 2).cdf).pvalue > 1e-3
