"""Posteriors whose residuals have parameters: every number against dense algebra at the draws themselves."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayeslmm as bl
from bayeslmm.bayes import predictive
from bayeslmm.bayes.loo import leave_out
from bayeslmm.comparison.groups import _weights
from bayeslmm.errors import ConvergenceWarning, DesignError, FitError
from bayeslmm.faces import Posterior
from bayeslmm.residual import laws
from bayeslmm.results.draws import Draws
from bayeslmm.types import FloatArray

from .made_up import covariance, flat, lam_of, made_up

# Dense solves of well-conditioned matrices of some dozen rows.
EXACT = {"rtol": 1e-9, "atol": 1e-9}
CASES = {
    "us beside effects": ("y ~ t + (1 | g)", "us(v | id)"),
    "gls": ("y ~ t", "ar1(t | id)"),
    "across effects": ("y ~ t + (1 | item)", "by(arm) + cs(id)"),
    "variances": ("y ~ t + (1 | id)", "by(arm)"),
    "within effects": ("y ~ 1 + (1 | id)", "power(w) + car1(w | id)"),
}
cases = pytest.mark.parametrize("case", CASES)


@cache
def _data() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    t, unit = np.tile(np.arange(4), 12), np.repeat(np.arange(12), 4)
    frame = pd.DataFrame({"y": rng.normal(size=48), "t": t, "id": [f"p{i:02d}" for i in unit], "g": unit % 3})
    frame["arm"], frame["v"] = np.where(unit % 2, "a", "b"), [f"v{k}" for k in t]
    frame["w"], frame["item"] = (
        0.5 + t + 0.3 * rng.random(48),
        [f"i{(a + b) % 4}" for a, b in zip(t, unit, strict=True)],
    )
    # Missing visits, and rows in no order.
    return frame.drop(index=[3, 17, 18]).sample(frac=1.0, random_state=1)


@cache
def _post(case: str) -> Posterior:
    formula, residual = CASES[case]
    return made_up(bl.Model(formula, _data(), residual=residual))


def _given(post: Posterior, k: int, rows: np.ndarray) -> tuple[FloatArray, FloatArray]:
    """Mean and covariance of some rows given all others, with flat fixed effects integrated out."""
    V, X, y = covariance(post, k)[0], post.design.X, post.design.y
    others = np.setdiff1d(np.arange(len(y)), rows)
    A, B = np.linalg.inv(V[np.ix_(others, others)]), V[np.ix_(rows, others)]
    C = np.linalg.inv(X[others].T @ A @ X[others])
    beta = C @ X[others].T @ A @ y[others]
    left = X[rows] - B @ A @ X[others]
    return X[rows] @ beta + B @ A @ (y[others] - X[others] @ beta), V[
        np.ix_(rows, rows)
    ] - B @ A @ B.T + left @ C @ left.T


@cases
def test_rows_and_groups_left_out(case: str) -> None:
    post = _post(case)
    found = leave_out(post.cross_products, post.data, post.priors, "observation", None, 40)
    without = found.without.reshape(-1, post.n)
    groups = leave_out(post.cross_products, post.data, post.priors, "group", "id", 40)
    by_group = groups.without.reshape(len(without), -1)
    ids = _data()["id"].to_numpy()
    assert list(groups.labels) == sorted(set(ids))
    for k in (0, 23):
        for i in (0, 11, 30):
            mean, C = _given(post, k, np.array([i]))
            np.testing.assert_allclose(
                without[k, i], stats.norm.logpdf(post.design.y[i], mean[0], C[0, 0] ** 0.5), **EXACT
            )
        for j, name in ((0, "p00"), (4, "p04")):
            rows = np.flatnonzero(ids == name)
            expected = stats.multivariate_normal(*_given(post, k, rows)).logpdf(post.design.y[rows])
            np.testing.assert_allclose(by_group[k, j], expected, **EXACT)


def test_leave_one_out_and_influence_are_arviz_objects_of_these() -> None:
    post = _post("us beside effects")
    # Draws so far from any posterior cannot be reweighted.
    with pytest.warns(ConvergenceWarning, match="Pass refit=True"):
        left, groups = post.loo(draws=40), post.loo("group", "id", draws=40)
    assert (left.n_data_points, groups.n_data_points) == (45, 12)
    table = post.influence("id", draws=40)
    assert table.index.tolist() == sorted(set(_data()["id"]))
    np.testing.assert_allclose(table["elpd"].sum(), groups.elpd, rtol=1e-12)
    assert post.influence(draws=40).index.tolist() == _data().index.tolist()
    with pytest.raises(DesignError, match="the model has g, id"):
        post.loo("group", draws=40)


@cases
def test_densities_of_rows_and_of_groups(case: str) -> None:
    post = _post(case)
    design, tree = post.design, post.add_groups("log_likelihood").data
    found = tree["log_likelihood"]["y"].to_numpy().reshape(-1, post.n)
    for k in (0, 31):
        mean = design.X @ flat(post, "beta")[k]
        for term in design.terms:
            mean = mean + flat(post, f"b_{term.group}")[k][design.groupings[term.group].codes, 0]
        Q = np.linalg.inv(covariance(post, k)[1])
        # A row given all others has precision Q_ii.
        off = Q @ (design.y - mean) / np.diag(Q)
        np.testing.assert_allclose(found[k], stats.norm.logpdf(off, 0.0, np.diag(Q) ** -0.5), **EXACT)
    if case == "across effects":
        with pytest.raises(FitError, match="id and item are crossed"):
            post.group_log_likelihood()
        return
    groups = post.group_log_likelihood()
    values = groups.to_numpy().reshape(len(found), -1)
    outer = _data()[groups.dims[-1]].astype(str).to_numpy()
    for k in (0, 31):
        e = design.y - design.X @ flat(post, "beta")[k]
        for j, name in enumerate(groups[groups.dims[-1]].to_numpy()):
            rows = np.flatnonzero(outer == str(name))
            V = covariance(post, k)[0][np.ix_(rows, rows)]
            np.testing.assert_allclose(values[k, j], stats.multivariate_normal(cov=V).logpdf(e[rows]), **EXACT)


@cases
def test_kinds_of_residuals(case: str) -> None:
    post = _post(case)
    design, lam = post.design, lam_of(post)
    raw = post.residuals().to_numpy()
    R = design.residual.covariance(lam.mean(0)).toarray()
    np.testing.assert_allclose(post.residuals("pearson"), raw / np.sqrt(np.diag(R)), **EXACT)
    white = post.residuals("normalized").to_numpy() * post.sigma
    np.testing.assert_allclose(white @ white, raw @ np.linalg.solve(R, raw), **EXACT)
    variance, about = np.zeros((2, post.n))
    for k in range(len(lam)):
        V, own = covariance(post, k)
        about += np.diag(V) / len(lam)
        A = np.linalg.inv(V)
        P = A - A @ design.X @ np.linalg.solve(design.X.T @ A @ design.X, design.X.T @ A)
        # Residuals are own @ P @ y.
        variance += np.diag(own @ P @ own) / len(lam)
    np.testing.assert_allclose(post.residuals("standardised"), raw / np.sqrt(variance), rtol=1e-7)
    marginal = design.y - design.X @ post.fixef().to_numpy()
    np.testing.assert_allclose(post.residuals("marginal", scaled=True), marginal / np.sqrt(about), **EXACT)


def test_shares_of_variance_have_the_mean_residual_variance_of_every_draw() -> None:
    post = _post("variances")
    noise = [np.diag(covariance(post, k)[1]).mean() for k in range(40)]
    between = flat(post, "sd_id")[:, 0] ** 2
    assert post.icc()["mean"]["icc"] == pytest.approx(np.mean(between / (between + noise)), rel=1e-12)


@pytest.mark.parametrize("case", ["us beside effects", "variances"])
def test_a_file_has_all_of_it(case: str, tmp_path: Path) -> None:
    post = _post(case)
    post.save(tmp_path / "post.nc")
    again = bl.load(tmp_path / "post.nc")
    assert type(again) is type(post)
    pd.testing.assert_frame_equal(again.table(), post.table())
    pd.testing.assert_frame_equal(again.influence(draws=40), post.influence(draws=40))


def test_draws_from_the_prior_have_the_laws_of_the_parameters() -> None:
    """All correlation matrices have one density: every correlation of K is beta on (-1, 1) with both shapes K / 2."""
    u = laws.draw(laws.sphere_laws(4), 4000, np.random.default_rng(1))
    L = np.tile(np.eye(4), (4000, 1, 1))
    L[:, [1, 2, 2, 3, 3, 3], [0, 0, 1, 0, 1, 2]] = u
    L /= np.sqrt((L**2).sum(-1))[:, :, None]
    C = L @ L.mT
    for i in range(4):
        for j in range(i):
            assert stats.kstest(0.5 + 0.5 * C[:, i, j], stats.beta(2.0, 2.0).cdf).pvalue > 1e-3
    model = bl.Model("y ~ t", _data(), residual="by(arm) + ar1(t | id)")
    tree = model.prior_predictive(4000, random_seed=1)
    prior = {str(name): values.to_numpy()[0] for name, values in tree["prior"].data_vars.items()}
    assert stats.kstest(np.tanh(prior["atanh_rho"]), stats.uniform(-1.0, 2.0).cdf).pvalue > 1e-3
    assert stats.kstest(prior["log_ratio_arm_1"], stats.norm.cdf).pvalue > 1e-3
    # Responses, whitened by the covariance of their own draw, are standard normal.
    lam = np.stack([prior[name] for name in model.design.residual.names], axis=1)
    e = tree["prior_predictive"]["y"].to_numpy()[0] - prior["beta"] @ model.design.X.T
    near = np.flatnonzero(np.abs(prior["atanh_rho"]) < 2.0)[:300]
    z = [
        np.linalg.solve(
            np.linalg.cholesky(model.design.residual.covariance(lam[k]).toarray()), e[k] / prior["sigma"][k]
        )
        for k in near
    ]
    assert stats.kstest(np.ravel(z), stats.norm.cdf).pvalue > 1e-3


@pytest.mark.parametrize("case", ["us beside effects", "across effects", "variances"])
def test_replicated_responses_have_the_covariance_of_their_draw(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    post = made_up(bl.Model(CASES[case][0], _data(), residual=CASES[case][1]), 300)
    drawn = post.add_groups("posterior_predictive", random_seed=1).data["posterior_predictive"]["y"].to_numpy()
    values = drawn.reshape(300, -1)
    z = []
    for k in range(300):
        mean = post.design.X @ flat(post, "beta")[k]
        for term in post.design.terms:
            mean = mean + flat(post, f"b_{term.group}")[k][post.design.groupings[term.group].codes, 0]
        z.append(np.linalg.solve(np.linalg.cholesky(covariance(post, k)[1]), values[k] - mean))
    assert stats.kstest(np.ravel(z), stats.norm.cdf).pvalue > 1e-3
    # Neighbours of one group, whose correlation would be left if their rows were drawn apart.
    assert abs(np.mean(np.array(z)[:, 1:] * np.array(z)[:, :-1])) < 5.0 / np.sqrt(300 * 44)
    # The same numbers, however many rows are taken at once.
    monkeypatch.setattr(predictive, "_CHUNK", 300 * 7)
    again = post.add_groups("posterior_predictive", random_seed=1).data["posterior_predictive"]["y"].to_numpy()
    np.testing.assert_allclose(again, drawn, rtol=1e-12)


def _new() -> pd.DataFrame:
    """A missing visit of a known patient and one behind, another patient's, two of a new patient."""
    frame = pd.DataFrame({"id": ["p00", "p04", "p04", "q", "q"], "t": [3, 1, 2, 0, 1], "g": [0, 1, 1, 1, 1]})
    frame["v"], frame["arm"] = [f"v{k}" for k in frame["t"]], ["b", "b", "b", "a", "a"]
    frame["w"], frame["item"] = [3.6, 9.0, 2.9, 0.7, 1.5], ["i3", "i0", "i1", "i2", "i0"]
    return frame


@pytest.mark.parametrize("case", ["us beside effects", "gls", "across effects", "within effects", "variances"])
def test_new_rows_are_given_the_residuals_of_their_group(case: str) -> None:
    """Mean and covariance of every draw, by the dense normal distribution of old and new rows."""
    formula, residual = CASES[case]
    post, new, S = _post(case), _new(), 2000
    design = post.design
    both = pd.concat([_data(), new.assign(y=0.0)], ignore_index=True)
    whole = bl.Model(formula, both, residual=residual).design
    n, k = post.n, 7
    R = flat(post, "sigma")[k] ** 2 * whole.residual.covariance(lam_of(post)[k]).toarray()
    gain = R[n:, :n] @ np.linalg.inv(R[:n, :n])
    effects, ahead = np.zeros(n), np.zeros(len(new))
    for term in design.terms:
        b, grouping = flat(post, f"b_{term.group}")[k][:, 0], design.groupings[term.group]
        effects += b[grouping.codes]
        ahead += [
            b[list(grouping.levels).index(str(name))] if str(name) in grouping.levels else 0.0
            for name in new[term.group]
        ]
    beta = flat(post, "beta")[k]
    mean = whole.X[n:] @ beta + ahead + gain @ (design.y - design.X @ beta - effects)
    asked = {"new_levels": "zero"}
    found = post.predict_draws(new, **asked).to_numpy().reshape(-1, len(new))
    np.testing.assert_allclose(found[k], mean, **EXACT)
    assert post.predict(new, **asked)["estimate"].to_numpy() == pytest.approx(found.mean(0), rel=1e-12)
    # One draw many times: its observations have the conditional covariance.
    tree = post.data["posterior"].to_dataset().isel(chain=[k // 20], draw=[k % 20] * S)
    many = _with(post, tree)
    drawn = many.predict_draws(new, kind="observation", random_seed=3, **asked).to_numpy()[0]
    C = R[n:, n:] - gain @ R[:n, n:]
    z = np.linalg.solve(np.linalg.cholesky(C), (drawn - mean).T)
    assert stats.kstest(z.ravel(), stats.norm.cdf).pvalue > 1e-3
    np.testing.assert_allclose(z @ z.T / S, np.eye(len(new)), atol=5.0 * np.sqrt(2.0 / S))


def _with(post: Posterior, posterior: object) -> Posterior:
    from xarray import DataTree

    tree = DataTree.from_dict({"posterior": posterior})
    return Posterior._of(Draws(post.design, tree, post.priors, post.method, post.diagnostics))


def test_rows_of_the_data_are_themselves_and_rows_taken_for_new_are_not() -> None:
    post = _post("gls")
    rows = _data().head(5)
    np.testing.assert_allclose(post.predict(rows)["estimate"], rows["y"], **EXACT)
    assert (post.predict(rows, kind="observation")["std_error"] < 1e-6).all()
    fixed = post.predict_draws(rows, residuals="new").to_numpy().reshape(-1, 5)
    np.testing.assert_allclose(fixed, flat(post, "beta") @ post.design.X[:5].T, **EXACT)


def test_a_comparison_has_rows_for_the_residual_parameters() -> None:
    model = bl.Model("y ~ t", _data(), residual="by(arm) + ar1(t | id)")
    fit, post = model.fit(), made_up(model)
    both = bl.compare(fit, post)
    rho, ratio = "residual_rho", "residual_sd_ratio_arm[b]"
    table = both.table
    assert table.loc[rho, "reml"] == fit.estimates()[rho]
    assert table.loc[rho, "ml"] == model.fit(reml=False).estimates()[rho]
    assert table.loc[rho, "mean"] == pytest.approx(np.tanh(flat(post, "atanh_rho")).mean(), rel=1e-12)
    assert table.loc[ratio, "mean"] == pytest.approx(np.exp(flat(post, "log_ratio_arm_1")).mean(), rel=1e-12)
    assert table["penalised"].isna().all()
    ends = fit.confint().loc[rho]
    assert table.loc[rho, ["reml_low", "reml_high"]].tolist() == [ends["conf_low"], ends["conf_high"]]
    # On the scale of variances, ratios of standard deviations and correlations stay as they are.
    assert both.on_scale("variance").table.loc[ratio, "mean"] == table.loc[ratio, "mean"]
    for text in (str(both), both._repr_html_(), both.to_latex(), both.to_markdown()):
        assert "rho" in text
    assert "residuals: by(arm) + ar1(t | id)" in str(both)
    tree = both.to_datatree(12)
    np.testing.assert_allclose(tree["posterior"][rho].to_numpy().ravel(), np.tanh(flat(post, "atanh_rho")), rtol=1e-12)
    assert set(tree["bootstrap"].data_vars) == set(tree["posterior"].data_vars) >= {rho, ratio}
    assert np.isfinite(tree["profile"][ratio]).all()
    assert np.abs(tree["bootstrap"][rho]).max() < 1.0


def test_several_structures_in_one_table() -> None:
    models = {r: bl.Model("y ~ t", _data(), residual=r) for r in ("ar1(v | id)", "ar1h(v | id)")}
    fits = [model.fit(reml=False) for model in models.values()]
    both = bl.compare(*(made_up(model) for model in models.values()))
    assert both.table.index.tolist() == ["t, ar1(v | id)", "t, ar1h(v | id)"]
    assert both.table["loglik"].tolist() == pytest.approx([fit.loglik for fit in fits], rel=1e-10)
    assert both.table["chisq"].iloc[1] == pytest.approx(fits[0].criterion - fits[1].criterion, rel=1e-6)
    assert both.table["chisq_df"].iloc[1] == 3
    assert np.isfinite(both.table["elpd"]).all()


def test_structures_that_are_sampled_and_the_regression_without_one() -> None:
    data = _data()
    sampled = bl.compare(*(bl.Model("y ~ t", data, residual=r) for r in ("cs(id)", "by(arm)")), draws=200)
    assert np.isfinite(sampled.table["elpd"]).all()
    alone = bl.Model("y ~ t", data, residual="independent")
    both = bl.compare(made_up(alone), made_up(bl.Model("y ~ t", data, residual="cs(id)")))
    X, n = alone.design.X, len(data)
    left = data["y"] - X @ np.linalg.lstsq(X, data["y"])[0]
    expected = -0.5 * n * (np.log(2 * np.pi * left @ left / n) + 1.0)
    assert both.table["loglik"].iloc[0] == pytest.approx(expected, rel=1e-10)
    assert both.table["chisq_df"].iloc[1] == 1


def test_weights_of_groups_at_every_draw() -> None:
    """Of random intercepts: sd^2 over sd^2 and the variance of the level's weighted mean."""
    post = _post("variances")
    found = _weights(post, post.design, None, 0, 0.9)
    codes, total = post.design.groupings["id"].codes, np.zeros(12)
    for k in range(40):
        information = np.bincount(codes, 1.0 / np.diag(covariance(post, k)[1]))
        between = flat(post, "sd_id")[k, 0] ** 2
        total += between / (between + 1.0 / information)
    np.testing.assert_allclose(found[:, 0], total / 40, rtol=1e-12)
