"""Evidence, Bayes factors and sensitivity to priors where residuals have parameters: dense densities, other models."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import logsumexp

import bayeslmm as bl
from bayeslmm.bayes.loo import leave_out, psis_loo, refitted
from bayeslmm.bayes.sensitivity import log_prior
from bayeslmm.errors import DesignError, PriorError
from bayeslmm.faces import Posterior

from .made_up import covariance, flat, lam_of, made_up

# Grids of both sides have errors of some 1e-7 of the evidence.
GRID = 1e-5
# Log evidences by importance sampling have Monte Carlo errors of about a hundredth.
SAMPLED = 0.06
SIGMAS = 4.5
PRIORS = {"beta": bl.Normal(0.0, 2.0), "sigma": bl.HalfNormal(2.0), "sd": bl.HalfNormal(1.0)}


@cache
def rows() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    t, unit = np.tile(np.arange(4), 10), np.repeat(np.arange(10), 4)
    frame = pd.DataFrame({"t": t, "id": unit, "arm": np.where(unit % 2, "a", "b"), "w": 0.5 + t})
    frame["y"] = rng.normal(size=t.size) + 0.5 * rng.normal(size=10)[unit]
    return frame.drop(index=[3, 17, 18]).sample(frac=1.0, random_state=1)


def sampled(formula: str, residual: str | None, draws: int = 500, data: object = None, **more: object) -> Posterior:
    model = bl.Model(formula, rows() if data is None else data, residual=residual)
    return model.sample(draws, priors=PRIORS | more, random_seed=1, progressbar=False)


def test_evidence_and_independence_by_dense_quadrature() -> None:
    """Over the logit-like coordinate of rho and log sigma; rho is uniform, whose density at zero is a half."""
    post = sampled("y ~ t", "ar1(t | id)")
    design, X = post.design, post.design.X
    u, v = np.linspace(-4.0, 4.0, 121), np.linspace(-1.5, 1.5, 121)

    def along(lam: float) -> np.ndarray:
        R = design.residual.covariance(np.array([lam])).toarray()
        V = np.exp(2.0 * v)[:, None, None] * R + 4.0 * X @ X.T
        L = np.linalg.cholesky(V)
        z = np.linalg.solve(L, np.broadcast_to(design.y[:, None], (v.size, design.n, 1)))[..., 0]
        logs = -np.log(np.diagonal(L, axis1=1, axis2=2)).sum(1) - 0.5 * (z**2).sum(1)
        sigma = stats.halfnorm(scale=2.0).logpdf(np.exp(v)) + v
        return logs - 0.5 * design.n * np.log(2.0 * np.pi) + sigma + np.log(v[1] - v[0])

    prior = np.log(0.5) - 2.0 * np.log(np.cosh(u))
    whole = logsumexp(np.array([along(lam) for lam in u]) + prior[:, None]) + np.log(u[1] - u[0])
    assert post.log_evidence == pytest.approx(whole, abs=GRID)
    found = post.bayes_factor("residual_rho")
    assert found.log_bf01 == pytest.approx(logsumexp(along(0.0)) - whole, abs=GRID)
    assert (found.value, found.scales) == (0.0, ())
    assert found.log_prior_at_zero == pytest.approx(np.log(0.5), abs=1e-12)
    # Without beta's quadrature there is the same number from the ordinary model.
    plain = sampled("y ~ t + (1 | id)", None)
    assert plain.bayes_factor("sd_id").log_bf01 + plain.log_evidence == pytest.approx(
        found.log_bf01 + post.log_evidence, abs=GRID
    )


# Correlations that all pairs share cannot be told from (1 | id); priors make the evidence finite all the same.
@pytest.mark.filterwarnings("ignore:Not identified:bayeslmm.errors.BayesLMMWarning")
@pytest.mark.parametrize(
    ("residual", "label", "value"),
    [
        ("by(arm)", "residual_sd_ratio_arm[b]", 1.0),
        ("cs(id)", "residual_rho", 0.0),
        ("power(w)", "residual_power", 0.0),
    ],
)
def test_held_at_independence_it_is_the_ordinary_model(residual: str, label: str, value: float) -> None:
    post = sampled("y ~ t + (1 | id)", residual)
    ordinary, gls = sampled("y ~ t + (1 | id)", None), sampled("y ~ t", residual)
    found = post.bayes_factor(label, scales=(0.5, 1.0))
    assert found.value == value
    assert found.log_bf01 == pytest.approx(ordinary.log_evidence - post.log_evidence, abs=GRID)
    zero = post.bayes_factor("sd_id", scales=(1.0,))
    assert zero.log_bf01 == pytest.approx(gls.log_evidence - post.log_evidence, abs=GRID)
    if found.scales:
        half = sampled("y ~ t + (1 | id)", residual, **{label: bl.Normal(0.0, 0.5)})
        expected = ordinary.log_evidence - half.log_evidence
        assert found.log_bf01_at_scales[0] == pytest.approx(expected, abs=SAMPLED)


def test_other_priors_by_weights_and_by_sampling() -> None:
    label, narrow = "residual_sd_ratio_arm[b]", bl.Normal(0.0, 0.4)
    post, other = sampled("y ~ t", "by(arm)", 2000), sampled("y ~ t", "by(arm)", 2000, **{label: narrow})
    named = post.prior_sweep({"narrow": {label: narrow}}).loc["narrow"]
    scaled = post.prior_sweep(scales=(0.4,)).loc["scale x 0.4"]
    np.testing.assert_allclose(scaled["mean"], named["mean"], rtol=1e-12)
    errors = np.hypot(post.monte_carlo_errors()["mean"], named["sd"] / np.sqrt(named["ess"]))
    assert ((named["mean"] - other.table()["mean"]).abs() < SIGMAS * errors).all()
    expected = other.log_evidence - post.log_evidence
    assert named["log_evidence_ratio"].to_numpy() == pytest.approx(expected, abs=SAMPLED)


def test_power_tree_has_dense_densities_and_rows_of_the_table() -> None:
    post = made_up(bl.Model("y ~ t + (1 | id)", rows(), residual="by(arm) + ar1(t | id)"), 200, priors=PRIORS)
    tree, lam = post.power_tree(), lam_of(post)
    likelihood = tree["log_likelihood"]["y"].to_numpy().ravel()
    for k in (0, 130):
        V, mean = covariance(post, k)[0], post.design.X @ flat(post, "beta")[k]
        assert likelihood[k] == pytest.approx(stats.multivariate_normal(mean, V).logpdf(post.design.y), abs=1e-9)
    np.testing.assert_allclose(
        tree["posterior"]["residual"].to_numpy().reshape(200, 2), np.stack([np.exp(lam[:, 0]), np.tanh(lam[:, 1])], 1)
    )
    # A ratio has its normal prior, a uniform correlation counts nothing.
    expected = stats.norm.logpdf(lam[:, 0]) + stats.norm(0.0, 2.0).logpdf(flat(post, "beta")).sum(1)
    expected += stats.halfnorm(scale=2.0).logpdf(flat(post, "sigma"))
    expected += stats.halfnorm(scale=1.0).logpdf(flat(post, "sd_id")[:, 0])
    np.testing.assert_allclose(tree["log_prior"]["log_prior"].to_numpy().ravel(), expected, rtol=1e-10)
    np.testing.assert_allclose(log_prior(post.design, post.priors, post._variance_draws), expected, rtol=1e-10)
    table = post.psense()
    assert table.index.tolist() == post.table().index.tolist()
    assert (table[["prior", "likelihood"]] > 0).all(axis=None)


def test_units_of_large_k_are_ratios_of_evidences() -> None:
    post = sampled("y ~ t", "ar1(t | id)")
    left = leave_out(post.cross_products, post.data, post.priors, "group", "id", 100)
    found = psis_loo(left, post.data, post.method)
    bad = found.pareto_k.copy(data=np.where(np.arange(10) == 3, 2.0, 0.1))
    again = refitted(post._integrated, post.priors, post._typical, left, replace(found, pareto_k=bad))
    rest = sampled("y ~ t", "ar1(t | id)", data=rows().query("id != 3"))
    assert float(again.elpd_i[3]) == pytest.approx(post.log_evidence - rest.log_evidence, abs=GRID)
    assert float(again.elpd_i[4]) == float(found.elpd_i[4])
    # Reweighted, with the Monte Carlo error of a hundred draws.
    assert float(found.elpd_i[3]) == pytest.approx(float(again.elpd_i[3]), abs=0.3)
    assert (post.loo("group", "id", refit=True, draws=100).pareto_k <= found.good_k).all()


def test_exact_moments_are_those_of_the_draws() -> None:
    post = sampled("y ~ t", "ar1(t | id)", 4000)
    draws, row = post.draws("residual_rho"), post.table().loc["residual_rho"]
    assert row["mean"] != draws.mean()
    assert abs(row["mean"] - draws.mean()) < SIGMAS * draws.std() / np.sqrt(4000)
    assert row["sd"] == pytest.approx(draws.std(), rel=SIGMAS / np.sqrt(2 * 4000) * 1.5)
    assert post.monte_carlo_errors().loc["residual_rho", "mean"] == 0.0


def test_what_has_no_place_of_independence_is_refused() -> None:
    post = made_up(bl.Model("y ~ t", rows(), residual="us(t | id)"))
    with pytest.raises(PriorError, match="one prior together"):
        post.bayes_factor("residual_corr[0.1]")
    with pytest.raises(PriorError, match="none inside its range"):
        made_up(bl.Model("y ~ t", rows(), residual="car1(w | id)")).bayes_factor("residual_phi")
    with pytest.raises(PriorError, match="depends on other parameters"):
        made_up(bl.Model("y ~ t", rows(), residual="toep(t | id)")).bayes_factor("residual_rho[lag 2]")
    with pytest.raises(PriorError, match="no scale to multiply"):
        post.prior_sweep(parameters="residual_corr[0.1]")
    with pytest.raises(DesignError, match="no residual parameter"):
        post.bayes_factor("sigma")


def test_many_points_in_the_users_units_at_once() -> None:
    rng = np.random.default_rng(3)
    for residual in ("us(t | id, by=arm)", "toep(t | id)", "const_power(w) + car1(w | id)", "exp(w)", "arma(t | id)"):
        own = bl.Model("y ~ t", rows(), residual=residual).design.residual
        lam = rng.normal(size=(3, len(own.names)))
        each = [own.natural(one)[0] for one in lam]
        np.testing.assert_allclose(own.in_units(lam), each, rtol=1e-14)


def test_forms_and_figures_of_a_posterior_alone() -> None:
    model = bl.Model("y ~ t + (1 | id)", rows(), residual="by(arm)")
    fit, post = model.fit(), made_up(model)
    ratio = fit.estimates()["residual_sd_ratio_arm[b]"]
    weight = np.where(rows()["arm"] == "b", ratio**-2.0, 1.0)
    counts = pd.Series(weight).groupby(rows()["id"].to_numpy()).sum()
    expected = np.median(counts) * (fit.estimates()["sd_id[Intercept]"] / fit.sigma) ** 2
    assert model.forms().loc["id", "ratio"] == pytest.approx(expected, rel=1e-8)
    with pytest.raises(DesignError, match="depend on one another"):
        bl.Model("y ~ t + (1 | arm)", rows(), residual="ar1(id | t)").forms()
    assert len(bl.plot_groups(post)) == 10
    (panel,) = bl.plot_shrinkage(post)
    assert panel.get_title() == "Intercept by id"
