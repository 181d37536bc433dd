"""The collapsed posterior where residuals have parameters: PyMC's joint density, dense grids, two humps, edges."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayeslmm as bl
from bayeslmm.bayes.collapsed_nuts import scaled_to_mode
from bayeslmm.bayes.default_priors import resolve_priors
from bayeslmm.bayes.pymc_model import build_pymc_model
from bayeslmm.bayes.signed_density import SignedDensity, climb
from bayeslmm.bayes.target import Target, make_target
from bayeslmm.design import Design
from bayeslmm.likelihood.residual_products import residual_products

# Of joint and conditional densities, each a sum of terms of some hundreds.
BRIDGE = 1e-8
# Monte Carlo standard errors.
SIGMAS = 4.5


def rows(seed: int = 4, units: int = 12) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    t, unit = np.tile(np.arange(4), units), np.repeat(np.arange(units), 4)
    frame = pd.DataFrame({"y": rng.normal(size=t.size), "t": t, "id": unit, "arm": np.where(unit % 2, "a", "b")})
    frame["w"], frame["g"] = 0.5 + t + 0.3 * rng.random(t.size), unit % 3
    return frame.drop(index=[3, 17, 18]).sample(frac=1.0, random_state=1)


def target_of(model: bl.Model, priors: object = None) -> tuple[Target, np.ndarray]:
    """The target with scales from an arbitrary point, which is all that a fit is for."""
    design = model.design
    cp = residual_products(design, np.full(len(design.residual.names), 0.1))
    return make_target(cp, resolve_priors(design, priors), [0.5 * np.eye(len(term.effects)) for term in design.terms])


@pytest.mark.parametrize(
    ("residual", "priors"),
    [
        ("by(arm) + ar1(t | id)", "weak"),
        ("us(t | id, by=arm)", None),
        ("power(w)", None),
        ("toep(t | id)", None),
        ("cs(id)", None),
        ("arma(t | id)", None),
    ],
)
def test_collapsed_density_is_the_joint_one_over_the_conditional_one(residual: str, priors: str | None) -> None:
    """Of PyMC's own model: integrating beta and the effects out leaves the joint density over theirs given the rest."""
    pytest.importorskip("pymc")
    model = bl.Model("y ~ t + (1 | g)", rows(), residual=residual)
    design, rng = model.design, np.random.default_rng(2)
    target, _ = target_of(model, priors)
    resolved = resolve_priors(design, priors)
    built = build_pymc_model(design, resolved)
    joint = built.compile_logp(jacobian=False, mode="FAST_COMPILE")
    lam = 0.4 * rng.normal(size=len(design.residual.names))
    beta, sigma, sd, z = rng.normal(size=2), 0.8, 0.6, rng.normal(size=(3, 1))
    values = dict(zip(design.residual.names, lam, strict=True))
    values |= {"beta": beta, "sigma": np.log(sigma), "sd_g": np.log([sd]), "z_g": z}
    point = {built.rvs_to_values[v].name: np.asarray(values[v.name], dtype=float) for v in built.free_RVs}
    expected = float(joint(point)) - _log_conditional(design, resolved, beta, z, sigma, sd, lam)
    x = np.concatenate([[np.arcsinh(sd / sigma / target.coordinates[0].scale[0])], lam])[None]
    factors, sds, log_jacobian = target.terms(x)
    found = target.log_joint(target.factor(x, factors), sds, log_jacobian, np.array([[np.log(sigma)]]))[0, 0]
    # Of sigma and the sd themselves, in place of log sigma and the coordinate of the ratio.
    ratio = np.log(target.coordinates[0].scale[0]) + np.log(np.cosh(x[0, 0]))
    assert found - np.log(sigma) - ratio - np.log(sigma) == pytest.approx(expected, rel=BRIDGE, abs=BRIDGE)


def _log_conditional(design: Design, priors: bl.Priors, *values: np.ndarray | float) -> float:
    """Log density of (beta, z) given everything else, from dense matrices."""
    beta, z, sigma, sd, lam = values
    Z = np.eye(3)[design.groupings["g"].codes] * sd
    A = np.hstack([design.X, Z])
    inverse = np.linalg.inv(design.residual.covariance(np.asarray(lam)).toarray()) / sigma**2
    own = np.zeros(2) if priors.beta is None else priors.beta.sd**-2.0
    centre = np.zeros(5) if priors.beta is None else np.concatenate([priors.beta.mean, np.zeros(3)])
    prior = np.diag(np.concatenate([own, np.ones(3)]))
    precision = A.T @ inverse @ A + prior
    mean = np.linalg.solve(precision, A.T @ inverse @ design.y + prior @ centre)
    at = np.concatenate([np.asarray(beta), np.ravel(z)]) - mean
    return float(0.5 * (np.linalg.slogdet(precision)[1] - at @ precision @ at - 5 * np.log(2.0 * np.pi)))


@pytest.mark.parametrize("method", ["importance", "collapsed_nuts"])
def test_samplers_agree_with_the_grid(method: str) -> None:
    frame = rows()
    frame["y"] += 0.8 * frame["id"].map(dict(enumerate(np.random.default_rng(3).normal(size=12))))
    model = bl.Model("y ~ t + (1 | id)", frame, residual="by(arm)")
    first = model.sample(1000, method="quadrature", random_seed=1, progressbar=False)
    options = {"tune": 200, "chains": 1} if method == "collapsed_nuts" else {}
    second = model.sample(300, method=method, random_seed=1, progressbar=False, **options)
    assert first.diagnostics.reliable
    a, b = first.table(), second.table()
    errors = np.hypot(first.monte_carlo_errors()["mean"], second.monte_carlo_errors()["mean"])
    assert ((a["mean"] - b["mean"]).abs() < SIGMAS * errors).all()


@pytest.mark.evidence
def test_two_humps_are_both_drawn() -> None:
    """Rows two and four steps apart do not say which sign a correlation has: each has half of the posterior."""
    data = bl.load_dataset("Orthodont")
    post = bl.Model("distance ~ age + (1 | Subject)", data, residual="by(Sex) + ar1(age | Subject)").sample(
        1000, method="importance", random_seed=1, progressbar=False
    )
    share = (post.draws("residual_rho") > 0).mean()
    assert abs(share - 0.5) < SIGMAS * 0.5 / np.sqrt(post.diagnostics.efficiency * 1000)


def test_known_posterior_of_a_ratio_of_variances() -> None:
    """Means of two arms: under flat priors of sigma and beta the ratio of variances is s2/s1 times an F variable."""
    rng = np.random.default_rng(8)
    frame = pd.DataFrame({"arm": np.repeat(["a", "b"], [9, 14])})
    frame["y"] = np.where(frame["arm"] == "a", 1.0, 3.0) * rng.normal(size=23)
    wide = bl.Normal(0.0, 1e4)
    post = bl.Model("y ~ arm", frame, residual="by(arm)").sample(
        4000, priors={"sigma": bl.Power(-1), "residual_sd_ratio_arm[b]": wide}, random_seed=1, progressbar=False
    )
    s = frame.groupby("arm")["y"].var()
    # sd_b^2 / s_b over sd_a^2 / s_a is F with the degrees of freedom of a and b.
    found = post.draws("residual_sd_ratio_arm[b]") ** 2 * s["a"] / s["b"]
    assert stats.kstest(found, stats.f(8, 13).cdf).pvalue > 1e-4


def test_mode_by_gradients_is_where_the_slope_vanishes() -> None:
    model = bl.Model("y ~ t + (1 | g)", rows(units=40), residual="us(t | id)")
    target, start = target_of(model)
    density = SignedDensity(target)
    z = np.append(start, density.log_sigma(start))
    mode, root = climb(density, z)
    step = root.T @ density(mode)[1]
    # Within a hundredth of a posterior standard deviation of the peak.
    assert np.sqrt(step @ step) < 0.02
    other = scaled_to_mode(density, z).origin
    assert density(mode)[0] == pytest.approx(density(other)[0], abs=1e-3)


@pytest.mark.parametrize(
    ("formula", "residual", "change"),
    [
        ("y ~ 1", "ar1(t | id)", lambda d: pd.concat([d, d, d]).assign(id="one", t=np.arange(3 * len(d)))),
        ("y ~ 1 + (1 | id)", "by(arm)", lambda d: d.assign(id=np.where(d["arm"] == "a", 1, 2))),
        ("1e8*y ~ t", "power(w)", lambda d: d),
        ("1e-8*y ~ t", "cs(id)", lambda d: d),
    ],
)
def test_edges_pass_through(formula: str, residual: str, change: object) -> None:
    """One long series, two groups, and units in which the response is huge or tiny."""
    left, right = formula.split(" ~ ")
    frame = change(rows())  # type: ignore[operator]
    scale = float(left.split("*")[0]) if "*" in left else 1.0
    frame["y"] *= scale
    post = bl.Model(f"y ~ {right}", frame, residual=residual).sample(400, random_seed=1, progressbar=False)
    assert post.diagnostics.reliable
    assert 0.3 < post.sigma / scale < 3.0
