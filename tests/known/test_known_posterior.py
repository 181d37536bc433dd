"""Posteriors of meta-analyses: sigma is no parameter, and everything else is what quadrature elsewhere says."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad
from scipy.stats import halfnorm, norm

import bayeslmm as bl
from bayeslmm.likelihood import parameters as par
from bayeslmm.likelihood.leave_out import leave_one_out
from bayeslmm.teaching.criterion import dense_criterion

HERE = Path(__file__).parent
CASES: dict[str, Any] = json.loads(gzip.decompress((HERE.parent / "reference" / "meta_cases.json.gz").read_bytes()))[
    "cases"
]
PUBLISHED: dict[str, Any] = json.loads((HERE.parent / "bayes" / "bayes_reference.json").read_text())
FAMILIES = {
    "half_normal": bl.HalfNormal,
    "half_cauchy": bl.HalfCauchy,
    "uniform": bl.Uniform,
    "flat": lambda _: bl.Flat(),
}
GROUPS = {"eight_schools": "school", "bcg": "trial", "raudenbush1985": "study"}
# Gauss-Legendre rules of the reference, trapezoidal ones here: means and sds without Monte Carlo error.
EXACT = 1e-7
POSTERIORS = [
    (name, k)
    for name in ("bayes_eight_schools", "bayes_bcg", "bayes_raudenbush")
    for k in range(len(CASES[name]["posteriors"]))
]


def model_of(data: str, mods: str = "1") -> bl.Model:
    return bl.Model(f"yi ~ {mods} + (1 | {GROUPS[data]})", bl.load_dataset(data), residual_sd="sei")


def sampled(model: bl.Model, priors: Any, draws: int = 4000, **options: Any) -> bl.Posterior:
    return model.sample(draws, priors=priors, random_seed=1, progressbar=False, **options)


def within_error(draws: np.ndarray, mean: float, errors: float = 4.5) -> bool:
    return bool(abs(draws.mean() - mean) < errors * draws.std() / np.sqrt(draws.size))


@pytest.mark.parametrize(("name", "k"), POSTERIORS)
def test_against_quadrature(name: str, k: int) -> None:
    case, expected = CASES[name], CASES[name]["posteriors"][k]
    post = sampled(model_of(case["dataset"]), {"sd": FAMILIES[expected["family"]](expected["scale"])})
    table, tau = post.table(), post.table().index[0]
    if post.method == "quadrature":
        for label, own in ((tau, "tau"), ("Intercept", "mu")):
            assert table.loc[label, "mean"] == pytest.approx(expected[own]["mean"], rel=EXACT)
            # Under a flat prior the square of tau has a heavy tail, at which the two rules stop elsewhere.
            loose = 1e-3 if expected["family"] == "flat" else EXACT
            assert table.loc[label, "sd"] == pytest.approx(expected[own]["sd"], rel=loose)
    for label, own in ((tau, "tau"), ("Intercept", "mu")):
        values = post.draws(label)
        for p, q in zip(case["probabilities"], expected[own]["quantiles"], strict=True):
            assert abs((values < q).mean() - p) < 4.5 * np.sqrt(p * (1 - p) / values.size)
    if expected.get("log_marginal_likelihood") is not None:
        error = 1e-9 if post.method == "quadrature" else 0.05
        assert post.log_evidence == pytest.approx(expected["log_marginal_likelihood"], abs=error)
    theta = post.fitted()
    spread = np.array(expected["theta"]["sd"]) / np.sqrt(4000)
    assert (np.abs(theta.to_numpy() - expected["theta"]["mean"]) < 4.5 * spread).all()


def test_two_levels() -> None:
    data, expected = bl.load_dataset("konstantopoulos2011"), CASES["bayes_konstantopoulos_2level"]["posterior"]
    model = bl.Model("yi ~ 1 + (1 | district/school)", data, residual_sd="sei")
    table = sampled(model, {"sd": bl.HalfNormal(0.5)}, 1000).table()
    for label, own in zip(table.index, ("s1", "s2", "mu"), strict=True):
        assert table.loc[label, "mean"] == pytest.approx(expected[own]["mean"], rel=1e-7)
    assert table["sd"].iloc[:2].tolist() == pytest.approx([expected["s1"]["sd"], expected["s2"]["sd"]], rel=1e-7)


PRIORS = {
    "eight_schools_bda3_flat": {"sd": bl.Flat()},
    "eight_schools_halfcauchy25": {"sd": bl.HalfCauchy(25.0)},
    "eight_schools_posteriordb": {"sd": bl.HalfCauchy(5.0), "beta": bl.Normal(0.0, 5.0)},
}


@pytest.mark.parametrize("name", PRIORS)
def test_published_posteriors_of_the_eight_schools(name: str) -> None:
    reference = PUBLISHED[name]["values"]
    post = sampled(model_of("eight_schools"), PRIORS[name])
    table = post.table()
    assert table.loc["sd_school[Intercept]", "mean"] == pytest.approx(reference["tau"]["mean"], rel=1e-5)
    assert table.loc["Intercept", "mean"] == pytest.approx(reference["mu"]["mean"], rel=1e-5)
    first = post.fitted().iloc[0]
    assert first == pytest.approx(reference["theta[1]"]["mean"], abs=5 * reference["theta[1]"]["sd"] / np.sqrt(4000))


@pytest.fixture(scope="module")
def bcg() -> bl.Posterior:
    return sampled(model_of("bcg", "ablat"), {"sd": bl.HalfNormal(0.5)}, 2000)


def test_sigma_is_no_parameter(bcg: bl.Posterior) -> None:
    assert list(bcg.table().index) == ["sd_trial[Intercept]", "Intercept", "ablat"]
    assert bcg.sigma == 1.0
    for text in (str(bcg.summary()), str(bcg.prior_table()), str(bcg.tidy()), str(bcg.varcorr())):
        assert "igma" not in text
    model = model_of("bcg", "ablat")
    with pytest.raises(bl.PriorError, match="known standard errors"):
        model.sample(priors={"sigma": bl.HalfNormal(1.0)}, progressbar=False)
    both = str(bl.compare(model.fit(), bcg))
    assert "sd_trial[Intercept]" in both
    assert "igma" not in both


@pytest.mark.parametrize("method", ["importance", "collapsed_nuts", "nuts"])
def test_every_sampler_has_the_same_posterior(bcg: bl.Posterior, method: str) -> None:
    pytest.importorskip("pymc")
    options = {} if method == "importance" else {"chains": 2, "tune": 400}
    post = sampled(model_of("bcg", "ablat"), {"sd": bl.HalfNormal(0.5)}, 1000, method=method, **options)
    errors = np.hypot(*[one.table()["sd"] / np.sqrt(n) for one, n in ((bcg, 1e9), (post, 200))])
    assert (np.abs(post.table()["mean"] - bcg.table()["mean"]) < 5 * errors).all()
    assert (post.data["posterior"]["sigma"] == 1.0).all()


def test_pymc_has_the_same_densities() -> None:
    """Both forms of the PyMC model against normal densities, and its collapsed form integrated against the evidence."""
    pytest.importorskip("pymc")
    model, priors = model_of("bcg", "ablat"), {"sd": bl.HalfNormal(0.5)}
    design, se = model.design, bl.load_dataset("bcg")["sei"].to_numpy()
    rng = np.random.default_rng(1)
    form, collapsed = model.to_pymc(priors), model.to_pymc(priors, form="collapsed")
    whole = form.compile_logp(jacobian=False)
    part = collapsed.compile_logp(jacobian=False)
    for tau in (1e-8, 0.3, 2.0):
        beta, z = rng.normal(size=2), rng.normal(size=13)
        mu = design.X @ beta + tau * z[design.groupings["trial"].codes]
        expected = norm.logpdf(design.y, mu, se).sum() + norm.logpdf(z).sum() + halfnorm.logpdf(tau, scale=0.5)
        at = {"beta": beta, "sd_trial_log__": np.log([tau]), "z_trial": z[:, None]}
        assert float(whole(at)) == pytest.approx(expected, rel=1e-8)
        marginal = -0.5 * dense_criterion(model.matrices(theta=[tau], sigma=1.0), sigma=1.0)
        expected = marginal + halfnorm.logpdf(tau, scale=0.5)
        assert float(part({"sd_trial_log__": np.log([tau])})) == pytest.approx(expected, rel=1e-8)

    def density(tau: float) -> float:
        return float(np.exp(part({"sd_trial_log__": np.log([tau])})))

    evidence = quad(density, 1e-12, 1.0, epsabs=0, epsrel=1e-10)[0] + quad(density, 1.0, 4.5, epsabs=0)[0]
    found = sampled(model, priors, 1000).log_evidence
    assert found == pytest.approx(np.log(evidence), abs=1e-8)


def test_the_source_is_the_model() -> None:
    pytest.importorskip("pymc")
    model, priors = model_of("bcg", "ablat"), {"sd": bl.HalfNormal(0.5)}
    source = model.pymc_source(priors)
    assert "sigma = 1.0" in source
    names: dict[str, Any] = {"df": bl.load_dataset("bcg")}
    exec(source, names)
    at = {"beta": np.array([0.2, -0.01]), "sd_trial_log__": np.log([0.4]), "z_trial": np.full((13, 1), 0.3)}
    again = model.to_pymc(priors).compile_logp()(at)
    assert float(names["model"].compile_logp()(at)) == pytest.approx(float(again), rel=1e-12)


def test_predictions_know_the_standard_errors(bcg: bl.Posterior) -> None:
    new = pd.DataFrame({"ablat": [30.0, 30.0], "trial": ["x", "y"], "sei": [0.01, 3.0]})
    mean = bcg.predict(new, new_levels="sample", random_seed=1)["std_error"]
    observed = bcg.predict(new, kind="observation", new_levels="sample", random_seed=1)["std_error"]
    assert observed[0] == pytest.approx(mean[0], rel=0.06)
    assert observed[1] == pytest.approx(np.hypot(mean[1], 3.0), rel=0.06)


def test_left_out_rows_by_dense_algebra(bcg: bl.Posterior) -> None:
    """The density of a study given the others, at some tau: what leave-one-out averages over the draws."""
    X, y, se, cp = bcg.design.X, bcg.design.y, bcg.design.residual.sd, bcg.cross_products
    taus = bcg.draws("sd_trial[Intercept]")[:5]
    found = leave_one_out(cp, par.block_factors(cp, [taus[:, None, None]]), np.ones(5))
    for s, tau in enumerate(taus):
        w = 1.0 / (se**2 + tau**2)
        for i in range(y.size):
            keep = np.arange(y.size) != i
            C = np.linalg.inv(X[keep].T @ (X[keep] * w[keep, None]))
            mean = X[i] @ C @ (X[keep].T @ (w[keep] * y[keep]))
            expected = norm.logpdf(y[i], mean, np.sqrt(1.0 / w[i] + X[i] @ C @ X[i]))
            assert found.log_density[s, i] == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert bcg.influence()["pareto_k"].max() < 0.7


def test_prior_predictions_and_files(bcg: bl.Posterior, tmp_path: Path) -> None:
    model = model_of("bcg")
    priors = {"preset": "weak", "sd": bl.HalfNormal(0.5), "beta": bl.Normal(0.0, 1.0)}
    tree = model.prior_predictive(4000, priors=priors, random_seed=1)
    y = tree["prior_predictive"]["yi"].to_numpy()[0]
    expected = 1.0 + 0.25 + bl.load_dataset("bcg")["sei"].to_numpy() ** 2
    assert np.abs(y.var(axis=0) / expected - 1).max() < 0.15
    bcg.save(tmp_path / "bcg.nc")
    again = bl.load(tmp_path / "bcg.nc")
    assert isinstance(again, bl.Posterior)
    assert again.design.sigma == 1.0
    assert again.table()["mean"].tolist() == bcg.table()["mean"].tolist()
    assert again.priors == bcg.priors


def test_sigma_held_at_a_number() -> None:
    """A narrow prior of sigma is the same posterior as the number."""
    model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))
    held = sampled(model, {"sd": bl.HalfNormal(60.0)}, 1000, sigma=50.0)
    narrow = sampled(model, {"sd": bl.HalfNormal(60.0), "sigma": bl.Gamma(1e9, 1e9 / 50.0)}, 1000)
    both = ["sd_Batch[Intercept]", "Intercept"]
    assert held.table().loc[both, ["mean", "sd"]].to_numpy() == pytest.approx(
        narrow.table().loc[both, ["mean", "sd"]].to_numpy(), rel=1e-5
    )
    with pytest.raises(bl.PriorError, match="residual standard deviation is known"):
        model.sample(priors=held.priors, progressbar=False)
