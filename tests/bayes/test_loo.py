"""Leave-one-out against brute force: sampled again without the rows, predicted by dense conditional Gaussians."""

from __future__ import annotations

import warnings
from dataclasses import replace

import arviz as az
import numpy as np
import pandas as pd
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

import bayeslmm as bl
from bayeslmm.bayes import loo as loo_module
from bayeslmm.bayes.log_likelihood import group_log_likelihood, marginal_log_likelihood, variance_draws
from bayeslmm.bayes.loo import default_draws, leave_out, psis_loo
from bayeslmm.faces import Posterior
from bayeslmm.types import FloatArray

# Written out, because the default scales depend on the data.
PRIORS = {
    "Dyestuff": {"sd": bl.HalfT(3, 60.0), "sigma": bl.HalfT(3, 60.0)},
    "sleepstudy": {"sd_Subject": [bl.HalfT(3, 56.0), bl.HalfT(3, 10.0)], "sigma": bl.HalfT(3, 56.0)},
}
FORMULAS = {"Dyestuff": "Yield ~ 1 + (1 | Batch)", "sleepstudy": "Reaction ~ Days + (Days | Subject)"}


def _sample(name: str, rows: FloatArray | None = None) -> Posterior:
    frame = bl.load_dataset(name)
    frame = frame if rows is None else frame.drop(index=frame.index[rows])
    return bl.Model(FORMULAS[name], frame).sample(4000, priors=PRIORS[name], random_seed=4)


@pytest.fixture(scope="module")
def posts() -> dict[str, Posterior]:
    return {name: _sample(name) for name in FORMULAS}


def _covariances(post: Posterior, full: Posterior, step: int) -> list[FloatArray]:
    """Covariance of all rows of the full data at draws of another posterior."""
    term = full.design.terms[0]
    codes = full.design.groupings[term.group].codes
    same = codes[:, None] == codes
    tree = post.data["posterior"]
    sd = tree[f"sd_{term.group}"].to_numpy().reshape(-1, len(term.effects))[::step]
    sigma = tree["sigma"].to_numpy().ravel()[::step]
    rho = tree[f"corr_{term.group}"].to_numpy().ravel()[::step] if len(term.effects) > 1 else np.zeros(sigma.size)
    out = []
    for s, e, r in zip(sd, sigma, rho, strict=True):
        G = np.diag(s**2)
        if s.size > 1:
            G[0, 1] = G[1, 0] = r * s[0] * s[1]
        out.append(e**2 * np.eye(codes.size) + same * (term.Z @ G @ term.Z.T))
    return out


def _brute_force(name: str, full: Posterior, rows: FloatArray) -> tuple[float, float]:
    """Log predictive density of the rows and its Monte Carlo standard error."""
    design = full.design
    others = np.setdiff1d(np.arange(design.n), rows)
    logs = []
    for V in _covariances(_sample(name, rows), full, 4 if name == "Dyestuff" else 20):
        A, B = V[np.ix_(others, others)], V[np.ix_(rows, others)]
        X, left = np.linalg.solve(A, design.X[others]), design.X[rows]
        C = np.linalg.inv(design.X[others].T @ X)
        beta = C @ X.T @ design.y[others]
        gain = left - B @ X
        mean = left @ beta + B @ np.linalg.solve(A, design.y[others] - design.X[others] @ beta)
        covariance = V[np.ix_(rows, rows)] - B @ np.linalg.solve(A, B.T) + gain @ C @ gain.T
        logs.append(multivariate_normal(mean, covariance).logpdf(design.y[rows]))
    values = np.exp(np.array(logs) - max(logs))
    return float(logsumexp(logs) - np.log(len(logs))), float(values.std() / values.mean() / np.sqrt(len(logs)))


@pytest.mark.parametrize(("name", "rows"), [("Dyestuff", [0, 9, 24]), ("sleepstudy", [0])])
def test_observations(name: str, rows: list[int], posts: dict[str, Posterior]) -> None:
    found = posts[name].loo(draws=4000)
    for row in rows:
        expected, error = _brute_force(name, posts[name], np.array([row]))
        assert float(found.pareto_k[row]) < 0.5
        # Both sides are averages over draws; those with weights have the larger error, by 1 / sqrt(efficiency).
        assert abs(float(found.elpd_i[row]) - expected) < 5 * error + 0.02


@pytest.mark.parametrize(("name", "levels"), [("Dyestuff", [0, 4, 5]), ("sleepstudy", [3])])
def test_groups(name: str, levels: list[int], posts: dict[str, Posterior]) -> None:
    found = posts[name].loo("group", draws=4000, refit=True)
    codes = posts[name].design.terms[0].group
    codes = posts[name].design.groupings[codes].codes
    for level in levels:
        expected, error = _brute_force(name, posts[name], np.flatnonzero(codes == level))
        assert float(found.pareto_k[level]) < 0.7
        assert abs(float(found.elpd_i[level]) - expected) < 5 * error + 0.03


def test_an_influential_group_is_integrated_anew(posts: dict[str, Posterior]) -> None:
    post = posts["sleepstudy"]
    with pytest.warns(bl.ConvergenceWarning, match="332"):
        weighted = post.loo("group")
    refitted = post.loo("group", refit=True)
    place = list(refitted.elpd_i["Subject"].to_numpy()).index("332")
    assert float(weighted.pareto_k[place]) > 0.67
    assert float(refitted.pareto_k[place]) == 0.0
    rows = np.flatnonzero(post.design.groupings["Subject"].codes == place)
    expected, error = _brute_force("sleepstudy", post, rows)
    assert abs(float(refitted.elpd_i[place]) - expected) < 4 * error + 1e-3
    np.testing.assert_allclose(refitted.elpd, float(refitted.elpd_i.sum()), rtol=1e-12)
    np.testing.assert_allclose(refitted.p, float(refitted.p_loo_i.sum()), rtol=1e-12)
    assert not refitted.warning


def test_effective_number_of_parameters_as_usual(posts: dict[str, Posterior]) -> None:
    # The conditional likelihood of ArviZ estimates the same leave-one-out densities with more noise.
    ours, theirs = posts["Dyestuff"].loo(draws=4000), az.loo(posts["Dyestuff"].data, pointwise=True)
    assert abs(ours.elpd - theirs.elpd) < 0.3
    assert abs(ours.p - theirs.p) < 0.3
    assert abs(ours.se - theirs.se) < 0.1


def test_arviz_compares_them(posts: dict[str, Posterior]) -> None:
    frame = bl.load_dataset("sleepstudy")
    plain = bl.Model("Reaction ~ Days + (1 | Subject)", frame).sample(2000, random_seed=2)
    table = az.compare({"slopes": posts["sleepstudy"].loo(draws=2000), "intercepts": plain.loo(draws=2000)})
    assert list(table.index) == ["slopes", "intercepts"]
    assert list(posts["sleepstudy"].loo(draws=4000).elpd_i["obs"].to_numpy()) == list(frame.index)


def test_correlated_draws_have_a_smaller_effective_number(posts: dict[str, Posterior]) -> None:
    post = posts["Dyestuff"]
    left = leave_out(post.cross_products, post.data, post.priors, "group", None, 500)
    assert left.without.shape == (4, 125, 6)
    independent, chains = psis_loo(left, post.data, "quadrature"), psis_loo(left, post.data, "nuts")
    assert independent.n_samples == chains.n_samples == 500
    assert abs(independent.elpd - chains.elpd) < 0.1


def test_how_many_draws(posts: dict[str, Posterior], monkeypatch: pytest.MonkeyPatch) -> None:
    design = posts["sleepstudy"].design
    assert default_draws(design) == 1000
    monkeypatch.setattr(loo_module, "_WORK", 1e5)
    assert default_draws(design) == 100


def test_arguments_that_mean_nothing(posts: dict[str, Posterior]) -> None:
    post = posts["Dyestuff"]
    with pytest.raises(bl.DesignError, match="'observation' or 'group'"):
        post.loo("rows")  # type: ignore[arg-type]
    with pytest.raises(bl.DesignError, match="goes with kind='group'"):
        post.loo("observation", "Batch")
    with pytest.raises(bl.DesignError, match="no grouping factor; the model has Batch"):
        post.loo("group", "Cask")
    for draws in (0, -5, 3, 29, 50.0, "a", True, float("nan")):
        with pytest.raises(bl.FitError, match=f"draws={draws!r}: .*at least 30 draws.*draws=1000"):
            post.loo(draws=draws)  # type: ignore[arg-type]
    crossed = bl.Model("diameter ~ 1 + (1 | plate) + (1 | sample)", bl.load_dataset("Penicillin"))
    with pytest.raises(bl.DesignError, match="plate, sample"):
        crossed.sample(100, random_seed=1).loo("group")


@pytest.mark.parametrize(("total", "wanted"), [(30, 1000), (35, 30), (59, 30), (1000, 30), (4000, 1000), (4000, 999)])
def test_thinning_leaves_about_what_was_asked_for_and_never_too_few(total: int, wanted: int) -> None:
    step = loo_module._step(total, wanted)
    used = len(range(0, total, step))
    assert used >= 30
    assert used <= max(min(wanted, total), 59)


def test_fewest_draws_have_a_pareto_k(posts: dict[str, Posterior]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bl.ConvergenceWarning)
        left = posts["Dyestuff"].loo("group", draws=30)
    assert left.n_samples >= 30
    assert np.isfinite(left.pareto_k.to_numpy()).all()


def test_a_posterior_of_too_few_draws_is_named() -> None:
    model = bl.Model(FORMULAS["Dyestuff"], bl.load_dataset("Dyestuff"))
    with pytest.raises(bl.FitError, match="has 20 draws"):
        few = model.sample(40, random_seed=1)
        replace(few, data=few.data.isel(draw=slice(5))).loo()
    # The fewest that can be sampled.
    assert np.isfinite(model.sample(30, random_seed=1).diagnostics.pareto_k)


def test_frequencies_and_rows_that_cannot_be_spared() -> None:
    frame = bl.load_dataset("Dyestuff").assign(f=2, only=lambda d: (d.index == d.index[3]).astype(float))
    counted = bl.Model("Yield ~ 1 + (1 | Batch)", frame, frequency="f").sample(400, random_seed=1)
    with pytest.raises(bl.FitError, match="Write the rows out"):
        counted.loo()
    long = pd.concat([frame, frame], ignore_index=True)
    twice = bl.Model("Yield ~ 1 + (1 | Batch)", long).sample(400, priors=counted.priors, random_seed=1)
    np.testing.assert_allclose(counted.loo("group", refit=True).elpd, twice.loo("group", refit=True).elpd, atol=1e-6)
    single = bl.Model("Yield ~ only + (1 | Batch)", frame).sample(200, random_seed=1)
    with pytest.raises(bl.FitError, match="Without observation 3"):
        single.loo()
    assert np.isfinite(
        bl.Model("Yield ~ only + (1 | Batch)", frame).sample(1000, priors="weak", random_seed=1).loo(refit=True).elpd
    )


NESTED = ["y ~ x + (x | g)", "y ~ x + (1 | g / k)", "y ~ 1 + (x | g) + (1 | g:k)"]


@pytest.mark.parametrize("formula", NESTED)
def test_groups_with_their_effects_integrated_out(formula: str) -> None:
    rng = np.random.default_rng(2)
    n = 60
    frame = pd.DataFrame({"g": np.arange(n) % 5, "k": np.arange(n) // 5 % 3, "x": rng.normal(size=n)})
    frame["y"] = 100 + rng.normal(size=5)[frame.g] + rng.normal(size=n)
    frame["w"] = rng.uniform(0.5, 2, n)
    model = bl.Model(formula.replace("~", "~ offset(x / 3) +"), frame.astype({"g": str, "k": str}), weights="w")
    post = model.sample(40, random_seed=1)
    design, tree = model.design, post.data["posterior"]
    values = {name: tree[name].to_numpy() for name in tree.data_vars}
    draws = variance_draws(design, values)
    grouping, found = group_log_likelihood(post.cross_products, draws)
    assert grouping.name == "g"
    codes = grouping.codes
    for k in (0, 39):
        V = np.diag(1 / design.weights)
        for term, T in zip(design.terms, draws.factors, strict=True):
            level = design.groupings[term.group].codes
            V = V + (level[:, None] == level) * (term.Z @ T[k] @ T[k].T @ term.Z.T)
        V *= draws.sigma[k] ** 2
        mean = design.offset + design.X @ draws.beta[k]
        expected = [
            multivariate_normal(mean[codes == j], V[np.ix_(codes == j, codes == j)]).logpdf(design.y[codes == j])
            for j in range(5)
        ]
        np.testing.assert_allclose(found[k], expected, rtol=1e-9)
    whole = marginal_log_likelihood(post.cross_products, draws.factors, draws.sigma, draws.beta)
    np.testing.assert_allclose(found.sum(1), whole, rtol=1e-10)
    array = post.group_log_likelihood()
    assert array.name == "y_g"
    assert array.dims == ("chain", "draw", "g")


def test_covariances_rebuilt_from_a_posterior_are_those_it_names() -> None:
    frame = bl.load_dataset("sleepstudy").assign(z=lambda d: np.cos(np.arange(len(d))))
    post = bl.Model("Reaction ~ Days + (Days + z | Subject)", frame).sample(40, random_seed=1)
    tree = post.data["posterior"]
    draws = variance_draws(post.design, {name: tree[name].to_numpy() for name in tree.data_vars})
    G = draws.sigma[:, None, None] ** 2 * draws.factors[0] @ np.swapaxes(draws.factors[0], 1, 2)
    sd = tree["sd_Subject"].to_numpy().reshape(-1, 3)
    corr = tree["corr_Subject"].to_numpy().reshape(-1, 3)
    pairs = [str(p) for p in tree["Subject__pair"].to_numpy()]
    places = {"Intercept.Days": (0, 1), "Intercept.z": (0, 2), "Days.z": (1, 2)}
    for column, pair in enumerate(pairs):
        a, b = places[pair]
        np.testing.assert_allclose(G[:, a, b], corr[:, column] * sd[:, a] * sd[:, b], atol=1e-9 * sd.max() ** 2)
    np.testing.assert_allclose(np.sqrt(np.diagonal(G, axis1=1, axis2=2)), sd, rtol=1e-10)


def test_crossed_factors_have_no_independent_groups() -> None:
    post = bl.Model("diameter ~ 1 + (1 | plate) + (1 | sample)", bl.load_dataset("Penicillin")).sample(
        40, random_seed=1
    )
    with pytest.raises(bl.FitError, match="crossed"):
        post.group_log_likelihood()


def test_factors_crossed_within_a_larger_group_are_refused() -> None:
    a, b, c = (part.ravel() for part in np.meshgrid([0, 1], [0, 1, 2], [0, 1, 2, 3], indexing="ij"))
    frame = pd.DataFrame({"a": a, "b": 3 * a + b, "c": 4 * a + c, "y": np.random.default_rng(1).normal(size=a.size)})
    post = bl.Model("y ~ 1 + (1 | a) + (1 | b) + (1 | c)", frame).sample(40, random_seed=1, progressbar=False)
    with pytest.raises(bl.FitError, match="c and b are crossed within larger groups"):
        post.group_log_likelihood()
