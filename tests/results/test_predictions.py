"""Predictions of a fit against closed forms and dense matrices, of a posterior against what its draws imply."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import stats
from scipy.linalg import block_diag

import bayeslmm as bl
from bayeslmm.errors import BayesLMMWarning, DesignError, PriorError
from bayeslmm.likelihood.hierarchy import Hierarchy

COLUMNS = ["estimate", "std_error", "conf_low", "conf_high"]
Z95 = stats.norm.ppf(0.975)


@pytest.fixture(scope="module")
def dyes() -> bl.REMLResult:
    return bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()


def _balanced(fit: bl.REMLResult) -> dict[str, tuple[float, float]]:
    """Estimate and error variance of a balanced one-way layout by hand, for batch A (J = 6 batches of n = 5)."""
    data = bl.load_dataset("Dyestuff")
    means = data.groupby("Batch", observed=True)["Yield"].mean()
    within = data["Yield"] - data["Batch"].map(means).astype(float)
    sigma2 = (within**2).sum() / 24
    between2 = means.var() - sigma2 / 5
    overall, error = means.mean(), means.var() / 6
    w = between2 / (between2 + sigma2 / 5)
    known = overall + w * (means["A"] - overall)
    assert fit.sigma == pytest.approx(np.sqrt(sigma2), rel=1e-6)
    return {
        "typical": (overall, error),
        "known": (known, w * sigma2 / 5 + (1 - w) ** 2 * error),
        "member": (known, w * sigma2 / 5 + (1 - w) ** 2 * error + sigma2),
        "new": (overall, error + between2),
        "member of a new one": (overall, error + between2 + sigma2),
    }


@pytest.mark.parametrize(
    ("case", "arguments"),
    [
        ("typical", {"random": None}),
        ("known", {}),
        ("known", {"random": "Batch"}),
        ("member", {"kind": "observation"}),
        ("new", {"random": "new"}),
        ("member of a new one", {"random": "new", "kind": "observation"}),
    ],
)
def test_a_balanced_one_way_layout_by_hand(dyes: bl.REMLResult, case: str, arguments: Any) -> None:
    estimate, variance = _balanced(dyes)[case]
    table = dyes.predict(pd.DataFrame({"Batch": ["A"]}), ddf="z", **arguments)
    half = Z95 * np.sqrt(variance)
    expected = [estimate, np.sqrt(variance), estimate - half, estimate + half]
    assert list(table.columns) == COLUMNS
    np.testing.assert_allclose(table.iloc[0], expected, rtol=1e-6)


def test_new_groups_by_hand(dyes: bl.REMLResult) -> None:
    hand = _balanced(dyes)
    at = pd.DataFrame({"Batch": ["A", "Q"]})
    sampled = dyes.predict(at, new_levels="sample")
    np.testing.assert_allclose(sampled["std_error"] ** 2, [hand["known"][1], hand["new"][1]], rtol=1e-6)
    zero = dyes.predict(at, new_levels="zero")
    np.testing.assert_allclose(zero["std_error"] ** 2, [hand["known"][1], hand["typical"][1]], rtol=1e-6)
    with pytest.raises(DesignError, match=r"Batch has 1 level\(s\).*'Q'.*new_levels='sample'"):
        dyes.predict(at)


def _data(n: int = 700) -> pd.DataFrame:
    rng = np.random.default_rng(8)
    pupil = rng.integers(0, 150, n)
    frame = pd.DataFrame(
        {
            "x": rng.normal(1.0, 2.0, n),
            "f": rng.choice(["p", "q", "r"], n),
            "pupil": pupil,
            "school": pupil // 6,
            "rater": rng.integers(0, 130, n),
            "item": rng.integers(0, 9, n),
            "w": rng.uniform(0.5, 2.0, n),
        }
    )
    effects = [rng.normal(0.0, s, size) for s, size in ((1.0, 150), (0.7, 25), (0.8, 130), (0.5, 9))]
    frame["y"] = rng.normal(0.0, 1.0, n) / np.sqrt(frame["w"]) + 2.0 * frame["x"]
    for name, b in zip(("pupil", "school", "rater", "item"), effects, strict=True):
        frame["y"] += b[frame[name]]
    frame["y"] += rng.normal(0.0, 0.4, 9)[frame["item"]] * frame["x"]
    return frame


MODELS = {
    "crossed, dense": "y ~ x + f + (1 + x | item) + (1 | pupil)",
    "one factor, two terms": "y ~ x + (1 | pupil) + (0 + x | pupil)",
    "nested": "y ~ x + (1 | school/pupil)",
    "hierarchy": "y ~ x + offset(0.5 * x) + (1 | school) + (1 | pupil) + (1 | rater)",
    "hierarchy with slopes": "y ~ scale(x) + (x | school) + (x | pupil) + (1 | rater) + (1 | item)",
    "structures": "y ~ x + id(0 + f | item) + (1 | pupil)",
    "no fixed effects": "y ~ 0 + (1 | item)",
}


def _dense(fit: bl.REMLResult, X: np.ndarray, Z: list[np.ndarray], known: list[np.ndarray]) -> np.ndarray:
    """Error variances of rows with fixed columns X, columns Z of every term and levels (-1: not part of the mean)."""
    design = fit.design
    weights = np.ones(design.n) if design.weights is None else design.weights
    T = fit.optimum.terms

    def spread(values: np.ndarray, codes: np.ndarray, k: int) -> np.ndarray:
        levels = design.groupings[design.terms[k].group].n_levels
        out = np.zeros((values.shape[0], levels, values.shape[1]))
        rows = np.flatnonzero(codes >= 0)
        out[rows, codes[rows]] = values[rows]
        return out.reshape(values.shape[0], -1)

    own = [spread(t.Z, design.groupings[t.group].codes, k) for k, t in enumerate(design.terms)]
    lam = block_diag(*[np.kron(np.eye(design.groupings[t.group].n_levels), T[k]) for k, t in enumerate(design.terms)])
    A = np.hstack([design.X, np.hstack(own) @ lam])
    K = A.T @ (weights[:, None] * A)
    K[design.p :, design.p :] += np.eye(lam.shape[0])
    new = np.hstack([spread(Z[k], known[k], k) for k in range(len(Z))])
    C = np.hstack([X, new @ lam])
    return fit.sigma**2 * np.einsum("ij,ij->i", C, np.linalg.solve(K, C.T).T)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("weights", [None, "w"])
def test_error_variances_are_those_of_the_dense_equations(name: str, weights: str | None) -> None:
    data = _data()
    fit = bl.Model(MODELS[name], data, weights=weights).fit()
    assert isinstance(fit.cp.sums, Hierarchy) == name.startswith("hierarchy")
    chosen = np.arange(0, len(data), 23)
    d = fit.design
    table = fit.predict(data.iloc[chosen].drop(columns="y"))
    np.testing.assert_allclose(table["estimate"], fit.fitted().iloc[chosen], rtol=1e-9, atol=1e-9)
    Z = [t.Z[chosen] for t in d.terms]
    codes = [d.groupings[t.group].codes[chosen] for t in d.terms]
    expected = _dense(fit, d.X[chosen], Z, codes)
    np.testing.assert_allclose(table["std_error"] ** 2, expected, rtol=1e-7)
    np.testing.assert_allclose(fit.predict()["std_error"].iloc[chosen], np.sqrt(expected), rtol=1e-7)


def test_known_and_new_levels_side_by_side_against_dense_matrices() -> None:
    data = _data()
    fit = bl.Model("y ~ x + (x | item) + (1 | pupil)", data, weights="w").fit()
    at = pd.DataFrame(
        {"x": [0.0, 1.5, -1.0, 2.0], "item": [3, 99, 3, 98], "pupil": [10, 10, -5, -6], "w": [1.0, 2.0, 4.0, 0.5]}
    )
    d = fit.design
    X = np.column_stack([np.ones(4), at["x"]])
    codes = [
        np.array([d.groupings[g].levels.index(str(v)) if str(v) in d.groupings[g].levels else -1 for v in at[g]])
        for g in ("item", "pupil")
    ]
    base = _dense(fit, X, [X, X[:, :1]], codes)
    T = fit.optimum.terms
    new = np.where(codes[0] < 0, ((X @ T[0]) ** 2).sum(1), 0.0) + np.where(codes[1] < 0, T[1][0, 0] ** 2, 0.0)
    table = fit.predict(at, new_levels="sample", kind="observation", level=0.8, ddf="z")
    variance = base + fit.sigma**2 * (new + 1 / at["w"].to_numpy())
    np.testing.assert_allclose(table["std_error"] ** 2, variance, rtol=1e-8)
    np.testing.assert_allclose(
        table["conf_high"] - table["estimate"], stats.norm.ppf(0.9) * np.sqrt(variance), rtol=1e-8
    )
    beta, item = fit.fixef().to_numpy(), fit.ranef()["item"]
    only_item = fit.predict(at.drop(columns=["pupil", "w"]).iloc[[0]], random="item")
    assert only_item["estimate"].iloc[0] == pytest.approx(float(X[0] @ (beta + item.loc["3"].to_numpy())))
    np.testing.assert_allclose(
        fit.predict(at[["x"]], random=None)["std_error"] ** 2, np.einsum("ij,jk,ik->i", X, fit.vcov(), X), rtol=1e-8
    )


LME4 = json.loads((Path(__file__).parent / "predictions_lme4.json").read_text(encoding="utf-8"))["cases"]


@pytest.mark.parametrize("case", LME4, ids=lambda case: case["formula"])
def test_estimates_are_those_of_lme4(case: dict[str, Any]) -> None:
    fit = bl.Model(case["formula"], bl.load_dataset(case["dataset"])).fit()
    at = pd.DataFrame(case["newdata"])
    # lme4 stops its search at about 1e-6 of theta.
    for new_levels in ("sample", "zero"):
        np.testing.assert_allclose(fit.predict(at, new_levels=new_levels)["estimate"], case["known"], rtol=2e-5)
    np.testing.assert_allclose(fit.predict(at, random=None)["estimate"], case["typical"], rtol=1e-7)


def test_zero_variance_predicts_as_least_squares_does() -> None:
    data = bl.load_dataset("Dyestuff2")
    fit = bl.Model("Yield ~ 1 + (1 | Batch)", data).fit()
    assert fit.is_singular
    table = fit.predict(pd.DataFrame({"Batch": ["A", "new"]}), new_levels="sample")
    np.testing.assert_allclose(table["estimate"], data["Yield"].mean(), rtol=1e-9)
    np.testing.assert_allclose(table["std_error"], data["Yield"].std() / np.sqrt(30), rtol=1e-6)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    # y = mu + b + e with known variance ratio: 95 % of new observations of known and of new groups lie within.
    rng = np.random.default_rng(4)
    J, n, draws = 12, 6, 400
    group = np.repeat(np.arange(J), n)
    hits = np.zeros(2)
    model_fit = None
    for _ in range(draws):
        b = rng.normal(0.0, 1.0, J + 1)
        y = 3.0 + b[group] + rng.normal(size=J * n)
        data = pd.DataFrame({"y": y, "g": group})
        if model_fit is None:
            model_fit = bl.Model("y ~ 1 + (1 | g)", data).fit(fix={"g": [1.0]})
        fit = model_fit.refit(y)
        at = fit.predict(pd.DataFrame({"g": [0, 99]}), kind="observation", new_levels="sample")
        new = 3.0 + b[[0, J]] + rng.normal(size=2)
        hits += (new > at["conf_low"]) & (new < at["conf_high"])
    # 4 binomial standard errors, and the t against normal quantiles of 71 degrees of freedom.
    assert np.all(np.abs(hits / draws - 0.95) < 4 * np.sqrt(0.95 * 0.05 / draws))


def test_rows_keep_their_index_and_missing_values_are_named(dyes: bl.REMLResult) -> None:
    at = pd.DataFrame({"Batch": ["A", None, "B"]}, index=pd.Index(["u", "v", "w"], name="row"))
    with pytest.warns(BayesLMMWarning, match=r"1 row without prediction \(missing Batch: v\)"):
        table = dyes.predict(at)
    assert table.index.equals(at.index)
    assert table.index.name == "row"
    assert table.loc["v"].isna().all()
    assert table.loc["w", "estimate"] == pytest.approx(dyes.predict()["estimate"].iloc[5])
    assert dyes.predict(pl.DataFrame({"Batch": ["B"]}))["estimate"].iloc[0] == pytest.approx(table.loc["w", "estimate"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "median"}, "kind='median'"),
        ({"new_levels": "allow"}, "new_levels='allow'"),
        ({"random": "Cask"}, "random names 'Cask'.*'Batch'"),
        ({"level": 95}, "not a probability"),
        ({"weights": [1.0]}, "kind='observation'"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(dyes: bl.REMLResult, arguments: Any, message: str) -> None:
    with pytest.raises(DesignError, match=message):
        dyes.predict(pd.DataFrame({"Batch": ["A"]}), ddf="z", **arguments)


def test_a_loaded_fit_predicts_new_rows(tmp_path: Path) -> None:
    data = _data(200)
    fit = bl.Model("y ~ scale(x) * f + (1 | item)", data, weights="w").fit()
    fit.save(tmp_path / "fit")
    again = bl.load(tmp_path / "fit")
    assert isinstance(again, bl.REMLResult)
    at = data.iloc[3:6].assign(item=[1, 50, 2])
    both = [f.predict(at, new_levels="sample", kind="observation") for f in (fit, again)]
    pd.testing.assert_frame_equal(*both, rtol=1e-12)


@pytest.fixture(scope="module")
def post() -> bl.Posterior:
    return bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).sample(priors="weak", random_seed=1)


def test_posterior_of_a_known_group_is_the_mixture_of_its_conditional_distributions(post: bl.Posterior) -> None:
    # Given sigma and sd: the mean of batch i given beta is normal with mean beta + w (mean_i - beta) and variance
    # w sigma^2 / 5; the draws of beta are taken as they are.
    sigma, sd, beta = (post.draws(name) for name in ("sigma", "sd_Batch[Intercept]", "Intercept"))
    w = sd**2 / (sd**2 + sigma**2 / 5)
    mean_a = bl.load_dataset("Dyestuff").query("Batch == 'A'")["Yield"].mean()
    conditional = beta + w * (mean_a - beta)
    variance = np.var(conditional) + np.mean(w * sigma**2 / 5)
    table = post.predict(pd.DataFrame({"Batch": ["A"]}))
    error = np.sqrt(variance / post.n_draws)
    assert table["estimate"].iloc[0] == pytest.approx(conditional.mean(), abs=5 * error)
    assert table["std_error"].iloc[0] == pytest.approx(np.sqrt(variance), rel=5 / np.sqrt(post.n_draws))
    probabilities = [
        np.mean(stats.norm.cdf(table[end].iloc[0], conditional, np.sqrt(w * sigma**2 / 5))) for end in COLUMNS[2:]
    ]
    np.testing.assert_allclose(probabilities, [0.025, 0.975], atol=5 * np.sqrt(0.025 * 0.975 / post.n_draws))


@pytest.mark.parametrize("kind", ["mean", "observation"])
def test_a_new_group_has_the_variance_between_groups(post: bl.Posterior, kind: Any) -> None:
    sigma, sd, beta = (post.draws(name) for name in ("sigma", "sd_Batch[Intercept]", "Intercept"))
    total = np.sqrt(sd**2 + (sigma**2 if kind == "observation" else 0.0))
    at = pd.DataFrame({"Batch": ["P", "Q"]})
    table = post.predict(at, new_levels="sample", kind=kind, random_seed=3)
    for end, expected in zip(COLUMNS[2:], (0.025, 0.975), strict=True):
        probability = [np.mean(stats.norm.cdf(value, beta, total)) for value in table[end]]
        np.testing.assert_allclose(probability, expected, atol=6 * np.sqrt(0.025 * 0.975 / post.n_draws))
    assert post.predict(at.iloc[:1], random=None)["estimate"].iloc[0] == pytest.approx(beta.mean())
    assert post.predict(at.iloc[:1], new_levels="zero")["std_error"].iloc[0] == pytest.approx(beta.std(ddof=1))


def test_rows_of_one_new_group_share_its_effects_and_different_groups_do_not(post: bl.Posterior) -> None:
    at = pd.DataFrame({"Batch": ["P", "Q", "P"]})
    draws = post.predict_draws(at, new_levels="sample", random_seed=5)
    assert draws.dims == ("chain", "draw", "obs")
    values = draws.to_numpy().reshape(-1, 3)
    assert np.array_equal(values[:, 0], values[:, 2])
    effects = (values[:, :2] - post.draws("Intercept")[:, None]) / post.draws("sd_Batch[Intercept]")[:, None]
    assert stats.kstest(effects[:, 0], "norm").pvalue > 1e-5
    assert abs(np.corrcoef(effects.T)[0, 1]) < 5 / np.sqrt(len(effects))
    observed = post.predict_draws(at, new_levels="sample", kind="observation", random_seed=5).to_numpy().reshape(-1, 3)
    noise = (observed - values) / post.draws("sigma")[:, None]
    assert stats.kstest(noise[:, 0], "norm").pvalue > 1e-5
    assert abs(np.corrcoef(noise.T)[0, 2]) < 5 / np.sqrt(len(noise))


def test_both_engines_agree_where_the_data_decide() -> None:
    data = _data()
    model = bl.Model("y ~ x + (1 | item) + (1 | pupil)", data, weights="w")
    fit, post = model.fit(), model.sample(random_seed=1)
    at = pd.DataFrame({"x": [0.0, 1.5], "item": [3, 3], "pupil": [10, 1000], "w": [1.0, 2.0]}, index=["a", "b"])
    for kind in ("mean", "observation"):
        one = fit.predict(at, new_levels="sample", kind=kind)
        two = post.predict(at, new_levels="sample", kind=kind, random_seed=2)
        assert one.index.equals(two.index)
        np.testing.assert_allclose(two["estimate"], one["estimate"], atol=0.06 * one["std_error"].max())
        np.testing.assert_allclose(two["std_error"], one["std_error"], rtol=0.1)
    own = post.predict()
    np.testing.assert_allclose(own["estimate"], post.fitted(), rtol=1e-9)
    draws = post.predict_draws(at.iloc[:1])
    assert draws["obs"].to_numpy().tolist() == ["a"]


def test_groups_are_added_to_a_new_posterior(post: bl.Posterior) -> None:
    more = post.add_groups(
        "posterior_predictive", "log_likelihood", "prior", "prior_predictive", draws=50, random_seed=1
    )
    assert "prior" not in post.data.children
    assert {"posterior", "posterior_predictive", "log_likelihood", "prior", "prior_predictive"} <= set(
        more.data.children
    )
    assert more.data["posterior_predictive"]["Yield"].shape == (*post.data["posterior"]["sigma"].shape, 30)
    assert set(more.data["prior"].data_vars) == set(post.data["posterior"].data_vars)
    assert more.data["prior"]["b_Batch"].dims == ("chain", "draw", "Batch", "Batch__effect")
    np.testing.assert_allclose(more.fitted(), post.fitted())
    with pytest.raises(DesignError, match="no group 'posterior'"):
        post.add_groups("posterior")


@pytest.mark.parametrize("draws", [0, -5, 1.5, "a", True])
def test_draws_of_added_groups_are_a_positive_whole_number(post: bl.Posterior, draws: object) -> None:
    with pytest.raises(DesignError, match=f"draws={draws!r} is not a positive whole number.*Give"):
        post.add_groups("prior", draws=draws)  # type: ignore[arg-type]
    assert "prior" not in post.data.children


def test_improper_priors_are_refused_and_the_posterior_is_kept() -> None:
    post = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).sample(random_seed=1)
    with pytest.raises(PriorError, match="priors='weak'"):
        post.add_groups("prior")


def test_integrated_log_likelihood_is_that_of_the_dense_normal() -> None:
    d = bl.load_dataset("Dyestuff")
    post = bl.Model("Yield ~ 1 + (1 | Batch)", d).sample(100, random_seed=1).add_groups("integrated_log_likelihood")
    group = post.data["integrated_log_likelihood"]["Yield_Batch"]
    sample = post.data["posterior"].to_dataset().isel(chain=1, draw=3)
    rows = d["Batch"].astype(str).to_numpy() == "C"
    sd, sigma, mean = (float(sample[name].to_numpy().ravel()[0]) for name in ("sd_Batch", "sigma", "beta"))
    V = sigma**2 * np.eye(5) + sd**2
    expected = stats.multivariate_normal(np.full(5, mean), V).logpdf(d["Yield"].to_numpy()[rows])
    assert float(group.isel(chain=1, draw=3).sel(Batch="C")) == pytest.approx(expected, rel=1e-9)
