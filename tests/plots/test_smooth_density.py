"""Densities in figures: exact given the other parameters, averaged over draws."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import bayeslmm as bl
from bayeslmm.bayes.at_means import at_means
from bayeslmm.bayes.conditional_density import HeldDraws
from bayeslmm.results.labels import find
from bayeslmm.results.smooth_density import smooth_density


def test_marginal_density_of_a_balanced_layout() -> None:
    frame = bl.load_dataset("Dyestuff2")
    model = bl.Model("Yield ~ 1 + (1 | Batch)", frame)
    post = model.sample(4000, priors={"sd": bl.HalfNormal(3.0), "sigma": bl.HalfT(3, 4.0)}, random_seed=1)
    batches = frame.groupby("Batch", observed=True)["Yield"]
    J, n = 6, 5
    within = float(((frame["Yield"] - batches.transform("mean")) ** 2).sum())
    between = n * float(((batches.mean() - frame["Yield"].mean()) ** 2).sum())
    # Closed form of the likelihood, the mean integrated out; sigma summed on a fine grid.
    grid, sigma = np.linspace(0.0, 5.0, 201), np.linspace(1.5, 9.0, 1501)
    s, e = np.meshgrid(grid, sigma, indexing="ij")
    large = e**2 + n * s**2
    log_p = -J * (n - 1) * np.log(e) - within / (2 * e**2) - 0.5 * (J - 1) * np.log(large) - between / (2 * large)
    log_p = log_p + stats.halfnorm.logpdf(s, scale=3.0) + stats.t.logpdf(e / 4.0, 3)
    exact = np.exp(log_p - log_p.max()).sum(1)
    exact /= np.trapezoid(exact, grid)
    found = smooth_density(post, find(model.design, "sd_Batch"), grid)
    assert found is not None
    # Monte Carlo error of 400 draws of sigma, which the density hardly depends on, and the mass beyond the grid.
    np.testing.assert_allclose(found, exact, atol=0.015 * exact.max())
    # No wiggle: it falls from its highest point on.
    assert (np.diff(found) <= 1e-4 * found.max()).all()


def test_a_curve_is_the_dense_posterior_along_one_sd() -> None:
    data = bl.load_dataset("sleepstudy")
    model = bl.Model("Reaction ~ Days + (Days | Subject)", data)
    priors = {
        "sd_at_mean_Subject[Intercept]": bl.HalfT(3, 40.0),
        "sd_at_mean_Subject[Days]": bl.HalfT(3, 9.0),
        "sigma": bl.HalfNormal(50.0),
        "lkj": 2.0,
    }
    post = model.sample(60, priors=priors, random_seed=3)
    assert post.priors.changes[0] is not None
    held = HeldDraws.some(post.cross_products, post.priors, post._variance_draws)
    assert held is not None
    design = model.design
    change = at_means(design, 0)
    assert change is not None
    y, X, Z = design.y, design.X, design.terms[0].Z
    subjects = data["Subject"].to_numpy()
    same = subjects[:, None] == subjects

    def map_to_means(own: np.ndarray) -> np.ndarray:
        G = np.diag(own[:2]) @ np.array([[1.0, own[2]], [own[2], 1.0]]) @ np.diag(own[:2])
        M = change.inverse @ G @ change.inverse.T
        sds = np.sqrt(np.diag(M))
        return np.array([*sds, M[0, 1] / sds.prod()])

    def dense(own: np.ndarray, sigma: float) -> float:
        G = np.diag(own[:2]) @ np.array([[1.0, own[2]], [own[2], 1.0]]) @ np.diag(own[:2])
        V = np.where(same, Z @ G @ Z.T, 0.0) + sigma**2 * np.eye(y.size)
        Vi = np.linalg.inv(V)
        XVX = X.T @ Vi @ X
        r = y - X @ np.linalg.solve(XVX, X.T @ Vi @ y)
        value = -0.5 * (np.linalg.slogdet(V)[1] + np.linalg.slogdet(XVX)[1] + r @ Vi @ r)
        means = map_to_means(own)
        steps = 1e-6 * np.maximum(np.abs(own), 0.1)
        J = [(map_to_means(own + d) - map_to_means(own - d)) / (2 * d.sum()) for d in np.diag(steps)]
        value += np.log(abs(np.linalg.det(J))) + (2.0 - 1.0) * np.log(1.0 - means[2] ** 2)
        return float(value + stats.t.logpdf(means[:2] / [40.0, 9.0], 3).sum())

    draw = 4
    own = np.array([post.draws(label)[draw] for label in ("sd_Subject[Intercept]", "sd_Subject[Days]")])
    rho = post.draws("corr_Subject[Intercept.Days]")[draw]
    row = np.flatnonzero(held.draws.sigma == post.draws("sigma")[draw])[0]
    for k, values in ((0, [12.0, 45.0]), (1, [3.0, 11.0])):
        found = held.of_sd(0, (k,))(np.array(values), np.array([row, row]))
        expected = [
            dense(np.array([*np.where(np.arange(2) == k, v, own), rho]), post.draws("sigma")[draw]) for v in values
        ]
        assert found[1] - found[0] == pytest.approx(expected[1] - expected[0], abs=1e-6)


def test_what_would_be_dear_is_left_to_a_kernel() -> None:
    model = bl.Model("strength ~ 1 + (1 | batch/cask)", bl.load_dataset("Pastes"))
    post = model.sample(100, random_seed=1)
    label = find(model.design, "sd_batch")
    assert smooth_density(post, label, np.linspace(0.0, 4.0, 5)) is not None
    assert smooth_density(post, find(model.design, "Intercept"), np.linspace(0.0, 4.0, 5)) is None
