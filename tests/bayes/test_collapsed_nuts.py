"""NUTS on the collapsed posterior: the density on signed coordinates, draws against quadrature, interrupted runs."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import bayeslmm as bl
from bayeslmm.bayes import collapsed, collapsed_nuts
from bayeslmm.bayes.collapsed_nuts import SignedDensity, sample_collapsed_nuts, scaled_to_mode
from bayeslmm.bayes.default_priors import resolve_priors
from bayeslmm.bayes.priors import Exponential
from bayeslmm.bayes.target import make_target
from bayeslmm.design.design import Design
from bayeslmm.errors import ConvergenceWarning, PriorError
from bayeslmm.likelihood import cross_products

pytest.importorskip("pymc")

Make = Callable[..., Design]
KINDS = ["one-way", "slopes 3x3", "uncorrelated", "repeated effect", "all structures"]
SMALL = {"draws": 400, "tune": 200, "chains": 2, "random_seed": 5}


def signed(kind: str, design: Make, priors: Any = None) -> tuple[SignedDensity, np.ndarray]:
    data = design(kind)
    target, start = make_target(
        cross_products(data), resolve_priors(data, priors), [0.7 * np.eye(len(t.effects)) for t in data.terms]
    )
    rng = np.random.default_rng(8)
    return SignedDensity(target), np.append(start, 0.2) + 0.4 * rng.normal(size=start.size + 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("priors", [None, "weak", {"sd": Exponential(2.0)}], ids=["default", "weak", "exponential"])
def test_value_is_the_target_and_gradient_its_slope(kind: str, priors: Any, design: Make) -> None:
    density, z = signed(kind, design, priors)
    target = density.target
    # the target itself has folded coordinates: both agree where none is negative
    z[:-1] = np.where(target.folded, np.abs(z[:-1]), z[:-1])
    x = z[None, :-1]
    factors, sds, log_jacobian = target.terms(x)
    expected = target.log_joint(target.factor(x, factors), sds, log_jacobian, z[None, -1:])[0, 0]
    value, slope = density(z)
    assert value == pytest.approx(expected, rel=1e-11)
    h = 1e-5
    numeric = [(density(z + h * e)[0] - density(z - h * e)[0]) / (2 * h) for e in np.eye(z.size)]
    np.testing.assert_allclose(slope, numeric, rtol=1e-5, atol=1e-5)


def test_density_is_smooth_through_a_zero_sd_beside_a_correlation(design: Make) -> None:
    """A folded coordinate has a kink there: the covariance with the other effect changes its direction."""
    density, z = signed("slopes", design)
    z[0], z[2] = 0.0, 0.9
    # with a second derivative of about 80 the gradient changes by a thousandth of it
    h = 1e-5
    step = np.eye(z.size)[0] * h
    left, right = density(z - step)[1][0], density(z + step)[1][0]
    assert abs(right - left) < 1e-2
    # and it is not flat there: the kink would be twice this
    assert abs(density(z)[1][0]) > 0.1
    slope = (density(z + step)[0] - density(z - step)[0]) / (2 * h)
    assert density(z)[1][0] == pytest.approx(slope, abs=1e-5)


def test_changing_the_sign_of_an_sd_is_changing_those_of_its_correlations(design: Make) -> None:
    density, z = signed("slopes", design)
    mirrored = z * np.array([-1.0, 1.0, -1.0, 1.0])
    assert density(mirrored)[0] == pytest.approx(density(z)[0], rel=1e-12)
    one, two = (density.terms(point[None, :-1])[0][0][0] for point in (z, mirrored))
    np.testing.assert_allclose(one @ one.T, two @ two.T, rtol=1e-12)


def test_scaled_to_mode_has_the_mode_and_unit_curvature(design: Make) -> None:
    density, z = signed("one-way", design)
    scaled = scaled_to_mode(density, z)
    zero, h = np.zeros(z.size), 1e-3
    assert np.abs(scaled(zero)[1]).max() < 0.1
    rows = [(scaled(h * e)[1] - scaled(-h * e)[1]) / (2 * h) for e in np.eye(z.size)]
    np.testing.assert_allclose(-np.array(rows), np.eye(z.size), atol=0.02)


@pytest.mark.parametrize("sampler", ["nutpie", "pymc"])
@pytest.mark.parametrize("name", ["Dyestuff2", "Dyestuff"])
def test_draws_agree_with_quadrature(name: str, sampler: str) -> None:
    if sampler == "nutpie":
        pytest.importorskip("nutpie")
    model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset(name))
    terms = model.fit().optimum.terms
    drawn = sample_collapsed_nuts(model.cross_products, resolve_priors(model.design), terms, **SMALL, sampler=sampler)
    assert drawn.library == sampler
    assert drawn.divergences == 0
    assert drawn.rhat < 1.03
    assert drawn.ess > 150
    exact = model.sample(2000, method="quadrature", random_seed=1, log_likelihood=False).data["posterior"]
    pairs = {"sigma": drawn.sigma, "sd_Batch": drawn.sds[0][..., 0] * drawn.sigma}
    for variable, values in pairs.items():
        reference = exact[variable].to_numpy().ravel()
        for q in (0.1, 0.5, 0.9):
            below = (values < np.quantile(reference, q)).mean()
            assert below == pytest.approx(q, abs=4.5 * np.sqrt(q * (1 - q) * (1 / drawn.ess + 1 / 2000)))
    assert (drawn.sds[0] >= 0).all()
    np.testing.assert_allclose(drawn.factors[0][..., 0, 0] ** 2, drawn.sds[0][..., 0] ** 2, rtol=1e-12)
    assert set(drawn.stats) >= {"diverging", "n_steps", "tree_depth", "step_size"}


def test_same_seed_same_draws() -> None:
    pytest.importorskip("nutpie")
    model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))
    args = model.cross_products, resolve_priors(model.design), model.fit().optimum.terms
    options = {"draws": 20, "tune": 20, "chains": 8, "random_seed": 3}
    # chains that run at once start in any order: several attempts, many chains
    one, *others = (sample_collapsed_nuts(*args, **options, cores=cores) for cores in (1, 8, 8, 8, 8))
    for other in others:
        np.testing.assert_array_equal(one.sigma, other.sigma)


def test_interrupted_nutpie_returns_what_was_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nutpie")
    model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))
    wanted, calls = 400_000, [0]
    original = collapsed_nuts.ScaledDensity.__call__

    def counted(self: Any, w: Any) -> Any:
        calls[0] += 1
        if calls[0] == 3000:
            threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT)).start()
        return original(self, w)

    monkeypatch.setattr(collapsed_nuts.ScaledDensity, "__call__", counted)
    args = model.cross_products, resolve_priors(model.design), model.fit().optimum.terms
    with pytest.warns(ConvergenceWarning, match=rf"interrupted: \d+ of {wanted} draws are returned"):
        drawn = sample_collapsed_nuts(*args, draws=wanted, tune=50, chains=1, random_seed=1, sampler="nutpie")
    assert 0 < drawn.sigma.shape[1] < wanted
    assert np.isfinite(drawn.sigma).all()


def test_start_where_the_density_is_zero_is_refused() -> None:
    model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))
    terms = model.fit().optimum.terms
    priors = resolve_priors(model.design, {"sigma": bl.Uniform(1e-4)})
    with pytest.raises(PriorError, match="residual standard deviation is about 49"):
        sample_collapsed_nuts(model.cross_products, priors, terms, **SMALL)
    # A posterior that integration can hold: it is a wall, 1e-10 wide in log sigma, which no chain moves along.
    priors = resolve_priors(model.design, {"sigma": bl.Uniform(1e-3)})
    with pytest.raises(bl.FitError, match=r"no chain can start.*the priors allow for the REML estimates"):
        sample_collapsed_nuts(model.cross_products, priors, terms, **SMALL)


def test_chains_take_over_from_bad_weights_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collapsed.Diagnostics, "reliable", property(lambda self: False))
    model = bl.Model("Reaction ~ Days + (Days || Subject)", bl.load_dataset("sleepstudy"))
    monkeypatch.setattr(collapsed, "_prepare", lambda *args: (*make_target(*args[:3]), "importance"))
    said = (
        r"largest weight \d+ times the mean\. Markov chains \(method='collapsed_nuts'\) take over, which takes longer"
    )
    with pytest.warns(bl.BayesLMMWarning, match=said):
        post = model.sample(40, chains=2, tune=100, random_seed=1, progressbar=False)
    assert post.method == "collapsed_nuts"
