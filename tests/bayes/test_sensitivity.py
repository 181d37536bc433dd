"""Reweighting against sampling with the other prior, log priors against SciPy and published constants."""

from __future__ import annotations

from typing import Any

import arviz_stats
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import betaln

import bayeslmm as bl
from bayeslmm.bayes.default_priors import resolve_priors
from bayeslmm.bayes.log_likelihood import variance_draws
from bayeslmm.bayes.priors import Relative
from bayeslmm.bayes.sensitivity import Scaled, log_prior, log_prior_parts, overridden, reweight, scaled_priors
from bayeslmm.faces import Posterior

DYESTUFF = "Yield ~ 1 + (1 | Batch)"


@pytest.fixture(scope="module")
def dyestuff() -> Posterior:
    model = bl.Model(DYESTUFF, bl.load_dataset("Dyestuff"))
    return model.sample(8000, priors={"sd": bl.HalfT(3, 60.0), "sigma": bl.HalfNormal(70.0)}, random_seed=2)


def _draws(post: Posterior) -> Any:
    tree = post.data["posterior"]
    return variance_draws(post.design, {name: tree[name].to_numpy() for name in tree.data_vars})


def test_log_prior_of_a_scalar_term(dyestuff: Posterior) -> None:
    tree = dyestuff.data["posterior"]
    sd, sigma = tree["sd_Batch"].to_numpy().ravel(), tree["sigma"].to_numpy().ravel()
    expected = np.log(2) + stats.t(3, 0, 60).logpdf(sd) + stats.halfnorm(0, 70).logpdf(sigma)
    np.testing.assert_allclose(log_prior(dyestuff.design, dyestuff.priors, _draws(dyestuff)), expected, rtol=1e-10)
    # On the ratio to sigma the density of the sd itself has one over sigma.
    ratio = resolve_priors(dyestuff.design, {"sd": Relative(bl.Exponential(2.0)), "sigma": bl.HalfNormal(70.0)})
    expected = stats.expon(scale=2 * sigma).logpdf(sd) + stats.halfnorm(0, 70).logpdf(sigma)
    np.testing.assert_allclose(log_prior(dyestuff.design, ratio, _draws(dyestuff)), expected, rtol=1e-10)


@pytest.mark.parametrize("eta", [0.7, 1.0, 2.5])
def test_log_prior_of_correlations(eta: float) -> None:
    frame = bl.load_dataset("sleepstudy").assign(z=lambda d: np.cos(np.arange(len(d))))
    post = bl.Model("Reaction ~ Days + (Days + z | Subject)", frame).sample(60, random_seed=1)
    draws = _draws(post)
    parts = log_prior_parts(post.design, resolve_priors(post.design, {"lkj": eta}), draws)
    # The prior is about the correlations at the means of the columns.
    tree = post.data["posterior"]
    values = {name: tree[name].to_numpy() for name in tree.data_vars}
    at_means = variance_draws(post.design, values | {"corr_Subject": values["corr_at_mean_Subject"]})
    R = np.zeros((60, 3, 3)) + np.eye(3)
    for k, (a, b) in enumerate([(0, 1), (0, 2), (1, 2)]):
        R[:, a, b] = R[:, b, a] = at_means.correlations[0][:, k]
    log_det = np.linalg.slogdet(R)[1]
    # Relative to the uniform distribution; normalising constants of Lewandowski, Kurowicka & Joe (2009), eq. 16.
    expected = (eta - 1) * log_det - _log_lkj_constant(eta) + _log_lkj_constant(1.0)
    np.testing.assert_allclose(parts["corr"], expected, rtol=1e-8, atol=1e-8)
    assert np.abs(expected).max() > 0.1 or eta == 1


def _log_lkj_constant(eta: float, d: int = 3) -> float:
    k = np.arange(1, d)
    shape = eta + (d - k - 1) / 2
    return float(np.sum((2 * eta - 2 + d - k) * (d - k)) * np.log(2) + np.sum((d - k) * betaln(shape, shape)))


def test_log_prior_of_fixed_effects(dyestuff: Posterior) -> None:
    prior = bl.NormalPrior(np.array([1500.0]), np.array([30.0]))
    priors = resolve_priors(dyestuff.design, {"beta": prior})
    expected = stats.norm(1500, 30).logpdf(dyestuff.data["posterior"]["beta"].to_numpy().ravel())
    np.testing.assert_allclose(log_prior_parts(dyestuff.design, priors, _draws(dyestuff))["beta"], expected)


def test_a_shared_correlation_has_a_beta_density() -> None:
    model = bl.Model("score ~ Machine + cs(0 + Machine | Worker)", bl.load_dataset("Machines"))
    post = model.sample(60, random_seed=1)
    parts = log_prior_parts(post.design, resolve_priors(post.design, {"lkj": 2.0}), _draws(post))
    low, high = model.design.terms[0].structure.correlation_range  # type: ignore[attr-defined]
    place = (post.draws("corr_Worker") - low) / (high - low)
    np.testing.assert_allclose(parts["corr"], stats.beta(2, 2).logpdf(place), rtol=1e-8, atol=1e-10)


NEW = {
    "half-normal": bl.HalfNormal(50.0),
    "exponential": bl.Exponential(40.0),
    "relative": Relative(bl.HalfNormal(1.0)),
}


@pytest.mark.parametrize("name", list(NEW))
def test_reweighting_is_sampling_with_the_other_prior(name: str, dyestuff: Posterior) -> None:
    row = dyestuff.prior_sweep({name: NEW[name]}, delta=20.0).xs(name)
    model = bl.Model(DYESTUFF, bl.load_dataset("Dyestuff"))
    again = model.sample(8000, priors={"sd": NEW[name], "sigma": bl.HalfNormal(70.0)}, random_seed=9)
    exact = again.table()
    for label in ("sd_Batch[Intercept]", "sigma", "Intercept"):
        error = exact.loc[label, "sd"] / np.sqrt(row.loc[label, "ess"])
        assert abs(row.loc[label, "mean"] - exact.loc[label, "mean"]) < 4.5 * error
        assert abs(row.loc[label, "sd"] / exact.loc[label, "sd"] - 1) < 0.1
        assert abs(row.loc[label, "hdi_high"] - exact.loc[label, "hdi_high"]) < 0.25 * exact.loc[label, "sd"]
    assert abs(row.loc["sd_Batch[Intercept]", "p_below"] - again.probability_below("sd_Batch", 20.0)) < 0.03
    expected = again.log_evidence - dyestuff.log_evidence
    assert abs(row.loc["sigma", "log_evidence_ratio"] - expected) < 0.03
    assert row["reliable"].all()


def test_scales(dyestuff: Posterior) -> None:
    sweep = dyestuff.prior_sweep(scales=(0.5, 1, 2), parameters=["sd_Batch"])
    assert list(sweep.index.levels[0]) == ["scale x 0.5", "scale x 1", "scale x 2"]
    same, wide = sweep.xs("scale x 1"), sweep.xs("scale x 2")
    assert (same["ess"] == dyestuff.n_draws).all()
    assert np.isneginf(same["pareto_k"]).all()
    np.testing.assert_allclose(same["mean"], [dyestuff.draws(label).mean() for label in same.index])
    named = dyestuff.prior_sweep({"wide": {"sd_Batch": bl.HalfT(3, 120.0)}}).xs("wide")
    pd.testing.assert_frame_equal(named, wide, check_exact=False, rtol=1e-9)
    # a tenth of the posterior mean of sigma
    np.testing.assert_allclose(same.loc["sd_Batch[Intercept]", "delta"], 0.1 * dyestuff.draws("sigma").mean())
    assert sweep["mean"].xs("sd_Batch[Intercept]", level=1).is_monotonic_increasing


def test_weights_that_cannot_be_trusted_are_named(dyestuff: Posterior) -> None:
    with pytest.warns(bl.ConvergenceWarning, match="under tiny"):
        sweep = dyestuff.prior_sweep({"tiny": bl.HalfNormal(1.0)})
    assert not sweep["reliable"].any()
    beyond = resolve_priors(dyestuff.design, {"sigma": bl.Uniform(1.0)})
    with pytest.raises(bl.PriorError, match="zero at all draws"):
        reweight(dyestuff.design, dyestuff.priors, beyond, _draws(dyestuff))


def test_an_improper_prior_has_weights_but_no_evidence(dyestuff: Posterior) -> None:
    flat = dyestuff.prior_sweep({"flat": bl.Flat(), "narrow": bl.HalfNormal(50.0)}, delta=1.0)
    assert flat["log_evidence_ratio"].xs("flat").isna().all()
    assert flat["log_evidence_ratio"].xs("narrow").notna().all()


def test_scales_of_what_has_none(dyestuff: Posterior) -> None:
    with pytest.raises(bl.DesignError, match="Intercept: only priors of standard deviations"):
        dyestuff.prior_sweep(parameters=["Intercept"])
    with pytest.raises(bl.PriorError, match="scaled by 0"):
        dyestuff.prior_sweep(scales=(0, 1))
    flat = resolve_priors(dyestuff.design, {"sd": bl.Flat()})
    with pytest.raises(bl.PriorError, match="no scale to multiply"):
        scaled_priors(dyestuff.design, flat, 2.0, [(0, 0)], False)


def test_scaled_density_has_mass_one() -> None:
    s = np.linspace(0, 900, 90_001)
    density = np.exp(Scaled(bl.HalfNormal(20.0), 3.0).log_density(s))
    np.testing.assert_allclose(np.trapezoid(density, s), 1.0, rtol=1e-8)
    np.testing.assert_allclose(density, stats.halfnorm(0, 60.0).pdf(s), rtol=1e-12)


def test_what_a_mapping_does_not_name_stays() -> None:
    design = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).design
    sds = [bl.HalfNormal(30.0), bl.HalfNormal(5.0)]
    base = resolve_priors(design, {"sd_Subject": sds, "lkj": 3, "sigma": bl.Exponential(40.0), "beta": "weak"})
    new = overridden(design, base, {"sd_Subject[Days]": bl.Exponential(4.0)})
    assert new.sds == ((sds[0], bl.Exponential(4.0)),)
    assert (new.lkj, new.sigma) == (base.lkj, base.sigma)
    assert new.beta is base.beta
    default = resolve_priors(design)
    assert overridden(design, base, {"lkj": 1}).lkj == (1.0,)
    assert overridden(design, base, {"sigma": default.sigma}).sigma == default.sigma
    assert overridden(design, base, {"sd": default.sds[0][0]}).sds == ((default.sds[0][0],) * 2,)
    assert overridden(design, base, "default").sds == default.sds


def test_power_scaling_of_independent_densities(dyestuff: Posterior) -> None:
    tree = dyestuff.power_tree()
    posterior = dyestuff.data["posterior"]
    sd, sigma = posterior["sd_Batch"].to_numpy()[..., 0], posterior["sigma"].to_numpy()
    beta = posterior["beta"].to_numpy()[..., 0]
    prior = np.log(2) + stats.t(3, 0, 60).logpdf(sd) + stats.halfnorm(0, 70).logpdf(sigma)
    np.testing.assert_allclose(tree["log_prior"]["log_prior"].to_numpy(), prior, rtol=1e-10)
    likelihood = tree["log_likelihood"]["Yield"].to_numpy()
    codes = dyestuff.design.groupings["Batch"].codes
    for k in (0, 100, 1999):
        V = sigma[1, k] ** 2 * np.eye(30) + sd[1, k] ** 2 * (codes[:, None] == codes)
        expected = stats.multivariate_normal(np.full(30, beta[1, k]), V).logpdf(dyestuff.design.y)
        np.testing.assert_allclose(likelihood[1, k], expected, rtol=1e-10)
    found = dyestuff.psense()
    for name in ("prior", "likelihood"):
        values = arviz_stats.psense(tree, group=name)
        np.testing.assert_allclose(found[name], np.r_[values["sd_Batch"], values["sigma"], values["beta"]])


def test_prior_sensitivity_falls_as_the_prior_widens() -> None:
    model = bl.Model(DYESTUFF, bl.load_dataset("Dyestuff"))
    tight, wide, flat = (
        model.sample(4000, priors={"sd": prior, "sigma": bl.Flat()}, random_seed=3).psense()
        for prior in (bl.HalfNormal(15.0), bl.HalfNormal(600.0), bl.Flat())
    )
    label = "sd_Batch[Intercept]"
    assert tight.loc[label, "prior"] > 0.05 > wide.loc[label, "prior"]
    assert tight.loc[label, "diagnosis"] != "ok"
    assert wide.loc[label, "diagnosis"] == "ok"
    assert (flat["prior"] == 0).all()
    assert (flat["likelihood"] > 0.05).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scales": ()}, r"scales=\(\) is empty.*Leave it out"),
        ({"scales": 2}, r"scales=2 is no sequence. Write scales=\[2\]"),
        ({"scales": ("a",)}, "cannot be scaled by 'a'; give positive numbers"),
        ({"scales": (1, -1)}, "cannot be scaled by -1"),
        ({"priors": [bl.HalfNormal(1)]}, r"HalfNormal\(scale=1\)\] has no names.*Give a mapping"),
        ({"priors": bl.HalfNormal(1)}, "has no names"),
        ({"priors": "weak"}, "priors='weak' has no names"),
        ({"priors": {}}, "names no prior"),
        ({"parameters": ()}, "is empty"),
        ({"delta": -1}, "delta=-1: .*at least 0"),
        ({"delta": float("nan")}, "delta=nan"),
        ({"delta": "a"}, "delta='a'"),
    ],
)
def test_a_sweep_over_nothing_is_refused(arguments: dict[str, Any], message: str, dyestuff: Posterior) -> None:
    with pytest.raises((bl.DesignError, bl.PriorError), match=message):
        dyestuff.prior_sweep(**arguments)


def test_one_label_is_a_list_of_one(dyestuff: Posterior) -> None:
    one = dyestuff.prior_sweep(scales=[2.0], parameters="sd_Batch", delta=0)
    pd.testing.assert_frame_equal(one, dyestuff.prior_sweep(scales=[2.0], parameters=["sd_Batch"], delta=0))
    assert one["p_below"].iloc[0] == 0.0


@pytest.mark.parametrize("scales", [("a",), 2])
def test_scales_of_a_bayes_factor(scales: Any, dyestuff: Posterior) -> None:
    with pytest.raises((bl.DesignError, bl.PriorError), match="scale"):
        dyestuff.bayes_factor("sd_Batch", scales=scales)


def test_a_uniform_prior_that_is_cut_off_keeps_the_draws_below_alike() -> None:
    post = bl.Model(DYESTUFF, bl.load_dataset("Dyestuff")).sample(4000, priors={"sd": bl.Uniform(300)}, random_seed=3)
    row = post.prior_sweep({"narrow": bl.Uniform(80)}).loc[("narrow", "sd_Batch[Intercept]")]
    below = post.draws("sd_Batch")
    below = below[below < 80]
    assert row["mean"] == pytest.approx(below.mean())
    assert row["ess"] == pytest.approx(below.size)
    assert row["reliable"]


def test_a_prior_that_few_draws_reach_is_not_relied_on() -> None:
    post = bl.Model(DYESTUFF, bl.load_dataset("Dyestuff")).sample(4000, priors={"sd": bl.Uniform(300)}, random_seed=3)
    upper = float(np.sort(post.draws("sd_Batch"))[10])
    with pytest.warns(bl.ConvergenceWarning, match="narrow"):
        sweep = post.prior_sweep({"narrow": bl.Uniform(upper)})
    assert not sweep["reliable"].any()
