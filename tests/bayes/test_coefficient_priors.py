"""Student t priors of fixed effects: PyMC's density, posterior and evidence against a grid, and who reads them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import logsumexp

import bayeslmm as bl
from bayeslmm.bayes.default_priors import resolve_priors
from bayeslmm.bayes.mixed_normals import evidence_of_draws, mixed_normals
from bayeslmm.bayes.priors import flat_coefficients
from bayeslmm.comparison.naming import prior_name
from bayeslmm.errors import PriorError

PRIORS = {"sd": bl.HalfNormal(1), "sigma": bl.HalfNormal(1), "beta[Intercept]": bl.Normal(0, 2)}
HEAVY = bl.StudentT(3, 0, 0.3)
SD, DRAWS = np.linspace(0.01, 4, 40), 3000
SIGMA = np.linspace(0.08, 4, 50)


@cache
def data() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    g, x = np.repeat(np.arange(4), 3), rng.normal(size=12)
    y = 0.5 + 1.2 * x + rng.normal(0, 0.8, 4)[g] + rng.normal(0, 0.7, 12)
    return pd.DataFrame({"y": y, "x": x, "g": g.astype(str)})


def model() -> bl.Model:
    return bl.Model("y ~ x + (1 | g)", data())


class Grid:
    """The posterior of (slope, sd, sigma) on a grid; intercept and group effects are in the covariance of y."""

    def __init__(self, rows: np.ndarray) -> None:
        frame = data().iloc[rows]
        y, x = frame["y"].to_numpy(), frame["x"].to_numpy()
        same = (frame["g"].to_numpy()[:, None] == frame["g"].to_numpy()).astype(float)
        s, e = (part.ravel()[:, None, None] for part in np.meshgrid(SD, SIGMA, indexing="ij"))
        V = s**2 * same + e**2 * np.eye(y.size) + 4.0
        yy, xy, xx = (float_part(V, a, b) for a, b in ((y, y), (x, y), (x, x)))
        constant = -0.5 * (np.linalg.slogdet(V)[1] + y.size * np.log(2 * np.pi) + yy)
        prior = stats.halfnorm.logpdf(s) + stats.halfnorm.logpdf(e)
        # Points of a t distribution that the posterior is covered by, and their weights.
        self.b, width = np.linspace(-4, 6, 501), 10 / 500
        own = stats.t.logpdf(self.b / 0.3, 3) - np.log(0.3)
        self.log = (constant + prior[:, 0, 0])[:, None] + xy[:, None] * self.b - 0.5 * xx[:, None] * self.b**2 + own
        cell = width * (SD[1] - SD[0]) * (SIGMA[1] - SIGMA[0])
        self.evidence = float(logsumexp(self.log) + np.log(cell))
        self.weights = np.exp(self.log - logsumexp(self.log))
        self.sigma, self.xy, self.xx = e.ravel(), xy, xx


def float_part(V: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.linalg.solve(V, np.broadcast_to(b[:, None], (len(V), b.size, 1)))[..., 0] @ a


@pytest.fixture(scope="module")
def grid() -> Grid:
    return Grid(np.arange(12))


def draws_of(grid: Grid, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Independent draws of the slope and of the place on the grid of the variances."""
    rng = np.random.default_rng(1)
    at = rng.choice(grid.weights.size, size, p=grid.weights.ravel())
    return grid.b[at % grid.b.size], at // grid.b.size


def test_density_in_pymc_is_that_of_scipy() -> None:
    pytest.importorskip("pymc")
    frame, priors = data(), {**PRIORS, "beta[x]": bl.StudentT(3, 0.2, 0.3)}
    m = bl.Model("y ~ x + z + (1 | g)", frame.assign(z=np.arange(12.0)))
    sets = ({**priors, "beta[z]": "flat"}, {**PRIORS, "beta": bl.Cauchy(0.1, 2.0)}, {**PRIORS, "beta": "flat"})
    points = np.array([[0.3, -1.4, 2.0], [5.0, 40.0, -0.01]])
    found = []
    for own in sets:
        built = m.to_pymc(own)
        density = built.compile_logp(mode="FAST_COMPILE")
        found.append([float(density({**built.initial_point(), "beta": b})) for b in points])
    mixed = stats.norm(0, 2).logpdf(points[:, 0]) + stats.t(3, 0.2, 0.3).logpdf(points[:, 1])
    # sets[1] names beta beside its intercept, whose own key is the more specific one.
    cauchy = stats.cauchy(0.1, 2.0).logpdf(points[:, 1:]).sum(axis=1) + stats.norm(0, 2).logpdf(points[:, 0])
    flat = np.array(found[2]) - stats.norm(0, 2).logpdf(points[:, 0])
    np.testing.assert_allclose(np.array(found[0]) - flat, mixed, rtol=1e-8)
    np.testing.assert_allclose(np.array(found[1]) - flat, cauchy, rtol=1e-8)


def test_evidence_from_independent_draws(grid: Grid) -> None:
    m = model()
    priors = resolve_priors(m.design, {**PRIORS, "beta[x]": HEAVY})
    rng, (slope, _) = np.random.default_rng(2), draws_of(grid, DRAWS)
    beta = np.column_stack([rng.normal(size=DRAWS), slope])
    found = evidence_of_draws(m.cross_products, priors, [np.eye(1)], beta, 1.0)
    assert found.error < 0.02
    # The grid of the variances is good to 1e-3.
    assert abs(found.value - grid.evidence) < 5 * found.error + 2e-3


def test_leaving_out_given_the_mixed_precisions(grid: Grid) -> None:
    """Harmonic means over draws of variances and precisions are the ratios of the evidences on two grids."""
    size, batches = 10_000, 20
    slope, place = draws_of(grid, size)
    design = model().design
    priors, beta = resolve_priors(design, {**PRIORS, "beta[x]": HEAVY}), np.column_stack([np.zeros(size), slope])
    sd = np.array([own.sd[1] for own in mixed_normals(priors.beta, priors.heavy, beta) if own is not None])
    s, e = (part.ravel()[place, None, None] for part in np.meshgrid(SD, SIGMA, indexing="ij"))
    y, x, g = design.y, design.X[:, 1], design.groupings["g"].codes
    V = s**2 * (g[:, None] == g) + e**2 * np.eye(12) + 4 + sd[:, None, None] ** 2 * np.outer(x, x)
    P = np.linalg.inv(V)
    for i in (0, 3, 10):
        own = P[:, i, i]
        log_density = 0.5 * np.log(own / (2 * np.pi)) - 0.5 * (P[:, i] @ y) ** 2 / own
        parts = np.exp(-log_density).reshape(batches, -1).mean(axis=1)
        error = parts.std() / parts.mean() / np.sqrt(batches)
        exact = grid.evidence - Grid(np.delete(np.arange(12), i)).evidence
        # The grid of the variances is good to 1e-3.
        assert abs(-np.log(parts.mean()) - exact) < 5 * error + 2e-3 and error < 0.1


@pytest.fixture(scope="module")
def post() -> bl.Posterior:
    pytest.importorskip("pymc")
    return model().sample(
        DRAWS, priors={**PRIORS, "beta[x]": HEAVY}, random_seed=1, chains=2, tune=500, progressbar=False
    )


def test_sampled_posterior_is_that_of_the_grid(post: bl.Posterior, grid: Grid) -> None:
    assert post.method == "nuts"
    of_slope, of_sigma = grid.weights.sum(axis=0), grid.weights.sum(axis=1)
    errors = post.monte_carlo_errors()["mean"]
    for label, weights, at in (("x", of_slope, grid.b), ("sigma", of_sigma, grid.sigma)):
        assert abs(post.draws(label).mean() - (weights * at).sum()) < 5 * errors[label] + 1e-3
    exact_sd = np.sqrt((of_slope * grid.b**2).sum() - (of_slope * grid.b).sum() ** 2)
    assert post.draws("x").std() == pytest.approx(exact_sd, rel=0.1)
    assert abs(post.log_evidence - grid.evidence) < 0.05


def test_leave_one_out_is_the_ratio_of_evidences(post: bl.Posterior, grid: Grid) -> None:
    elpd = post.loo().elpd_i.to_numpy()
    exact = [grid.evidence - Grid(np.delete(np.arange(12), i)).evidence for i in range(12)]
    # What is far out (-3.5) is known to 0.14 from a thousand independent draws, the others to 0.03.
    np.testing.assert_allclose(elpd[1:], exact[1:], atol=0.1)
    assert abs(elpd[0] - exact[0]) < 0.5
    assert post.influence()["elpd"].tolist() == elpd.tolist()
    assert np.isfinite(post.residuals("standardised")).all()


def test_who_reads_the_priors(post: bl.Posterior, tmp_path: Path) -> None:
    assert post.prior_table().loc["x", "prior"] == "student-t(3, 0, scale 0.3)"
    assert "beta[x] ~ student-t(3, 0, scale 0.3)" in str(post.data["posterior"].attrs) + str(post.data.attrs)
    post.save(tmp_path / "post.nc")
    again = bl.load(tmp_path / "post.nc")
    assert again.priors == post.priors and again.priors.heavy == ((1, HEAVY),)
    own = {"beta[Intercept]": bl.Normal(0, 2)}
    changed = post.prior_sweep({"normal": {"beta[x]": bl.Normal(1, 0.5), **own}, "same": {"beta[x]": HEAVY, **own}})
    assert np.isfinite(changed.loc["normal", "log_evidence_ratio"]).all()
    np.testing.assert_allclose(changed.loc["same", "mean"], post.table()["mean"], rtol=1e-10)
    assert set(post.psense().columns) == {"prior", "likelihood", "diagnosis"}
    own_priors = resolve_priors(post.design, {"beta[x]": HEAVY})
    assert prior_name(replace(post, priors=own_priors)) == "beta[x] ~ student-t(3, 0, 0.3)"
    for refused in (
        lambda: post.bayes_factor("sd_g"),
        lambda: post.loo(refit=True),
        lambda: model().fit(priors={"beta[x]": HEAVY}),
        lambda: model().sample(priors={"beta": HEAVY}, method="quadrature"),
        lambda: model().to_pymc({"beta": HEAVY}, form="collapsed"),
    ):
        with pytest.raises(PriorError, match=r"beta\[.*\] ~ student-t"):
            refused()


def test_keys_override_each_other() -> None:
    design = model().design
    read = lambda spec: resolve_priors(design, spec)  # noqa: E731
    every = read({"beta": HEAVY})
    assert every.heavy == ((0, HEAVY), (1, HEAVY)) and every.beta is None
    one = read({"beta": HEAVY, "beta[x]": bl.Normal(1, 2)})
    assert one.heavy == ((0, HEAVY),) and one.beta is not None and one.beta.sd.tolist() == [np.inf, 2.0]
    assert flat_coefficients(read({"beta": HEAVY, "beta[x]": "flat"}), 2).tolist() == [False, True]
    assert not read({"beta": bl.Normal(0, 1)}).heavy and read({"preset": "weak", "beta[x]": HEAVY}).proper
    assert not read({"beta[x]": HEAVY}).proper
    for wrong in ((0, 0, 1), (3, np.inf, 1), (3, 0, -1), (3, "0", 1)):
        with pytest.raises(PriorError, match="student-t"):
            bl.StudentT(*wrong)
    with pytest.raises(PriorError, match="StudentT"):
        read({"beta[x]": bl.HalfT(3, 1)})


def test_prior_predictive_draws_are_of_the_prior() -> None:
    tree = model().prior_predictive(3000, priors={**PRIORS, "beta[x]": bl.StudentT(2, 1, 0.5)}, random_seed=1)
    beta = tree["prior"]["beta"].to_numpy().reshape(-1, 2)
    assert stats.kstest(beta[:, 1], stats.t(2, 1, 0.5).cdf).pvalue > 1e-3
    assert stats.kstest(beta[:, 0], stats.norm(0, 2).cdf).pvalue > 1e-3
