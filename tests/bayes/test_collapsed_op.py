"""The collapsed form of the PyMC model: value, gradient, what compiles it, and samplers in other processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cloudpickle
import numpy as np
import pytest

import bayeslmm as bl
from bayeslmm.bayes.default_priors import default_priors
from bayeslmm.bayes.layout import make_layout
from bayeslmm.bayes.pymc_model import build_collapsed_model
from bayeslmm.design.design import Design
from bayeslmm.likelihood import cross_products

pm = pytest.importorskip("pymc")

Make = Callable[..., Design]
KINDS = ["one-way", "slopes 3x3", "uncorrelated", "repeated effect", "all structures"]


def build(kind: str, design: Make) -> Any:
    data = design(kind, weights=True)
    return build_collapsed_model(cross_products(data), default_priors(data))


def nearby(model: Any, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: np.asarray(v + 0.3 * rng.normal(size=np.shape(v))) for name, v in model.initial_point().items()}


@pytest.mark.parametrize("kind", KINDS)
def test_names_dims_and_coords_are_those_of_the_hierarchical_model(kind: str, design: Make) -> None:
    layout = make_layout(design(kind))
    model = build(kind, design)
    kept = {name: dims for name, dims in layout.posterior_dims.items() if name[:2] not in ("be", "b_")}
    assert {name: model.named_vars_to_dims.get(name, ()) for name in kept} == kept
    assert {dim: list(labels) for dim, labels in model.coords.items()} == {
        dim: list(layout.coords[dim]) for dims in kept.values() for dim in dims
    } | {group.effect_dim: list(group.labels.effects) for group in layout.groups}
    names = {rv.name.split("_")[0] for rv in model.free_RVs}
    assert names <= {"sigma", "sd", "r"}


@pytest.mark.parametrize(("kind", "mode"), [*((kind, "FAST_COMPILE") for kind in KINDS), ("two terms", "NUMBA")])
def test_gradient_is_the_slope(kind: str, mode: str, design: Make) -> None:
    if mode == "NUMBA":
        pytest.importorskip("numba")
    model = build(kind, design)
    # Both by one function: compiling is what takes time.
    value_and_slope = model.compile_fn([model.logp(), model.dlogp()], mode=mode)
    point, h, numeric = nearby(model), 1e-6, []
    for name in point:
        for i in np.ndindex(point[name].shape):
            ends = []
            for step in (h, -h):
                moved = {n: v.copy() for n, v in point.items()}
                moved[name][i] += step
                ends.append(float(value_and_slope(moved)[0]))
            numeric.append((ends[0] - ends[1]) / (2 * h))
    np.testing.assert_allclose(value_and_slope(point)[1], numeric, rtol=1e-5, atol=1e-5)


def test_finite_as_sds_vanish_and_impossible_where_they_overflow(design: Make) -> None:
    model = build("slopes 3x3", design)
    log_p, slope = model.compile_logp(mode="FAST_COMPILE"), model.compile_dlogp(mode="FAST_COMPILE")
    for log_sd in (-10.0, -300.0, -700.0):
        point = {k: np.full_like(v, log_sd) if k.startswith("sd_") else v for k, v in nearby(model).items()}
        assert np.isfinite(log_p(point))
        assert np.isfinite(slope(point)).all()
    point = {k: np.full_like(v, 500.0) if k.startswith("sd_") else v for k, v in nearby(model).items()}
    assert log_p(point) == -np.inf


def test_compiled_functions_travel_to_other_processes(design: Make) -> None:
    model = build("slopes 3x3", design)
    function = model.compile_logp(mode="FAST_COMPILE")
    again = cloudpickle.loads(cloudpickle.dumps(function))
    point = nearby(model)
    assert float(again(point)) == float(function(point))


@pytest.mark.parametrize("sampler", ["pymc", "nutpie"])
def test_samplers_agree_with_quadrature(sampler: str) -> None:
    model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2"))
    collapsed = model.to_pymc(form="collapsed")
    if sampler == "nutpie":
        nutpie = pytest.importorskip("nutpie")
        compiled = nutpie.compile_pymc_model(collapsed)
        tree = nutpie.sample(compiled, draws=400, tune=300, chains=2, seed=3, progress_bar=False, target_accept=0.9)
    else:
        tree = pm.sample(
            400,
            tune=300,
            chains=2,
            cores=2,
            model=collapsed,
            random_seed=3,
            progressbar=False,
            quiet=True,
            target_accept=0.9,
            compile_kwargs={"mode": "FAST_COMPILE"},
        )
    assert int(tree["sample_stats"]["diverging"].sum()) == 0
    exact = model.sample(1000, method="quadrature", random_seed=1, log_likelihood=False).data["posterior"]
    for name in ("sigma", "sd_Batch"):
        drawn, reference = tree["posterior"][name].to_numpy(), exact[name].to_numpy()
        # 800 draws of NUTS with an effective size of 150 or more, 1,000 exact ones
        tolerance = 4.5 * reference.std() * np.sqrt(1 / 150 + 1 / 1000)
        assert drawn.mean() == pytest.approx(reference.mean(), abs=tolerance)


def test_jax(design: Make) -> None:
    jax = pytest.importorskip("jax")
    from pymc.sampling.jax import get_jaxified_logp

    model = build("slopes 3x3", design)
    log_p, point = get_jaxified_logp(model), nearby(model)
    values = [point[v.name] for v in model.value_vars]
    assert float(log_p(values)) == pytest.approx(float(model.compile_logp(mode="FAST_COMPILE")(point)), rel=1e-10)
    slopes = np.concatenate([np.ravel(s) for s in jax.grad(log_p)(values)])
    np.testing.assert_allclose(slopes, model.compile_dlogp(mode="FAST_COMPILE")(point), rtol=1e-8)
