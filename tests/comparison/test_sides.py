"""Every side of a comparison against closed forms, dense matrices, stored optima and what was written."""

from __future__ import annotations

import re
from importlib import import_module

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtri
from scipy.stats import chi2, norm, t

import bayeslmm as bl
from bayeslmm.comparison import Comparison, draws
from bayeslmm.errors import DesignError

SD = "sd_Batch[Intercept]"
MODULE = import_module("bayeslmm.comparison.compared")


def compared(formula: str, name: str, n: int = 2000, **arguments) -> Comparison:
    model = bl.Model(formula, bl.load_dataset(name))
    return bl.compare(model.fit(), model.sample(n, random_seed=1), **arguments)


@pytest.fixture(scope="module")
def oneway() -> Comparison:
    return compared("Yield ~ 1 + (1 | Batch)", "Dyestuff")


@pytest.fixture(scope="module")
def zero() -> Comparison:
    return compared("Yield ~ 1 + (1 | Batch)", "Dyestuff2")


@pytest.fixture(scope="module")
def slopes() -> Comparison:
    return compared("Reaction ~ Days + (Days | Subject)", "sleepstudy", 1000)


@pytest.fixture(scope="module")
def crossed() -> Comparison:
    return compared("diameter ~ 1 + (1 | plate) + (1 | sample)", "Penicillin", 1000)


def row(both: Comparison, parameter: str, method: str) -> pd.Series:
    frame = both.long
    found = frame[(frame["parameter"] == parameter) & frame["method"].str.startswith(method)]
    assert len(found[found["method"] == found["method"].iloc[0]]) == 1
    return found.iloc[0]


# penalised


@pytest.mark.parametrize(
    ("which", "theta", "sigma"),
    [("oneway", 1.03239307321965, 48.3287577176402), ("zero", 0.321407894087006, 3.64921573253039)],
)
def test_penalised_estimates_are_those_of_blme(which, theta, sigma, request):
    both = request.getfixturevalue(which)
    assert both.table.loc[SD, "penalised"] == pytest.approx(theta * sigma, rel=1e-5)
    assert both.table.loc["sigma", "penalised"] == pytest.approx(sigma, rel=1e-5)


def test_two_levels_have_no_penalised_estimate():
    rng = np.random.default_rng(1)
    model = bl.Model("y ~ 1 + (1 | g)", pd.DataFrame({"y": rng.normal(size=20), "g": np.repeat(["a", "b"], 10)}))
    both = bl.compare(model.fit(), model.sample(400, random_seed=1))
    assert both.penalised is None
    assert both.table["penalised"].isna().all()
    assert "REML + penalty" not in set(both.long["method"])


def test_a_penalised_fit_is_refused(zero):
    fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).fit(penalty="gamma")
    with pytest.raises(DesignError, match="has a penalty"):
        bl.compare(fit, zero.posterior)


# long


def test_long_has_one_row_per_parameter_and_method(slopes):
    methods = ["ML", "REML", "REML + penalty", "posterior (default)"]
    names = [*slopes.table.index, "icc_Subject", "r2_marginal", "r2_conditional"]
    assert list(zip(slopes.long["parameter"], slopes.long["method"], strict=True)) == [
        (name, method) for name in names for method in methods
    ]


def test_profiles_and_posterior_in_long_are_those_of_the_table(slopes):
    for label, values in slopes.table.iterrows():
        reml, post = row(slopes, label, "REML"), row(slopes, label, "posterior")
        assert tuple(reml[["estimate", "conf_low", "conf_high"]]) == tuple(values[["reml", "reml_low", "reml_high"]])
        assert tuple(post[["estimate", "conf_low", "conf_high"]]) == tuple(values[["mean", "hdi_low", "hdi_high"]])
        assert (reml["interval"], post["interval"]) == ("profile", "HDI")


def test_ml_interval_of_a_zero_variance_solves_the_likelihood_equation(zero):
    # Balanced one-way, ML: -2 log L = a n_b log(s2 within) + ... maximised over mean and within variance.
    y = zero.design.y.reshape(6, 5)
    between, within = 5 * ((y.mean(1) - y.mean()) ** 2).sum(), ((y - y.mean(1, keepdims=True)) ** 2).sum()
    high = row(zero, SD, "ML")["conf_high"]

    def deviance(tau2, s2):
        return 24 * np.log(s2) + 6 * np.log(s2 + 5 * tau2) + within / s2 + between / (s2 + 5 * tau2)

    grid = np.linspace(8, 25, 200_001)
    rise = deviance(high**2, grid).min() - deviance(0.0, (within + between) / 30)
    assert rise == pytest.approx(chi2.ppf(0.95, 1), abs=1e-6)


def test_exact_interval_of_the_icc(oneway):
    # Wald's pivot in the balanced one-way layout: (F / quantile - 1) / n.
    y = oneway.design.y.reshape(6, 5)
    F = (25 * y.mean(1).var(ddof=1) / 5) / y.var(axis=1, ddof=1).mean()
    from scipy.stats import f

    ratios = np.maximum(F / f.ppf([0.975, 0.025], 5, 24) - 1, 0) / 5
    found = row(oneway, "icc_Batch", "REML")
    assert found["interval"] == "pivot"
    np.testing.assert_allclose(found[["conf_low", "conf_high"]].astype(float), ratios / (1 + ratios), rtol=1e-8)


def test_icc_and_r2_of_the_posterior_are_those_of_its_draws(slopes):
    post = slopes.posterior
    a, b, r, s = (post.draws(label) for label in [*slopes.table.index[:3], "sigma"])
    days = np.tile(np.arange(10.0), 18)
    between = a**2 + 2 * days.mean() * a * b * r + (days**2).mean() * b**2
    fixed = post.draws("Days") ** 2 * days.var(ddof=1)
    total = fixed + between + s**2
    assert row(slopes, "icc_Subject", "posterior")["estimate"] == pytest.approx((between / (between + s**2)).mean())
    assert row(slopes, "r2_marginal", "posterior")["estimate"] == pytest.approx((fixed / total).mean())
    assert row(slopes, "r2_conditional", "posterior")["estimate"] == pytest.approx((1 - s**2 / total).mean())


def test_crossed_groups_have_a_share_each_and_one_together(crossed):
    one, two, both = (row(crossed, name, "REML") for name in ("icc_plate", "icc_sample", "icc"))
    assert one["estimate"] + two["estimate"] == pytest.approx(both["estimate"])
    assert {one["interval"], two["interval"], both["interval"]} == {"bootstrap"}
    assert both["conf_low"] < both["estimate"] < both["conf_high"]


def test_variances_are_squares(zero):
    squared = zero.on_scale("variance")
    assert list(squared.table.index) == ["var_Batch[Intercept]", "sigma^2", "Intercept"]
    for name in ("ml", "reml", "reml_high", "median", "hdi_high", "delta"):
        assert squared.table.loc["var_Batch[Intercept]", name] == zero.table.loc[SD, name] ** 2
        if name != "delta":
            assert squared.table.loc["sigma^2", name] == zero.table.loc["sigma", name] ** 2
            assert squared.table.loc["Intercept", name] == zero.table.loc["Intercept", name]
    # The mean of the squares is not the square of the mean.
    drawn = zero.posterior.draws("sigma") ** 2
    mean = squared.table.loc["sigma^2", "mean"]
    assert abs(mean - drawn.mean()) < 5 * drawn.std() / np.sqrt(drawn.size)
    assert mean > zero.table.loc["sigma", "mean"] ** 2
    found = row(squared, "sigma^2", "posterior")
    assert found["estimate"] == mean
    assert "HDI of the sd, squared" in found["note"]
    assert "squared" in str(squared)
    assert squared.table.loc["var_Batch[Intercept]", "p_below"] == zero.table.loc[SD, "p_below"]


def test_unknown_scales_are_refused(zero):
    with pytest.raises(DesignError, match="scale='log'"):
        bl.compare(zero.reml, zero.posterior, scale="log")


def test_posteriors_are_named_by_their_priors(zero):
    model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2"))
    brms = model.sample(200, priors="brms", random_seed=1)
    own = model.sample(200, priors={"sd_Batch": bl.HalfNormal(0.1)}, random_seed=1)
    both = bl.compare(zero.reml, zero.posterior, brms, own, brms)
    assert list(both.posteriors) == [
        "posterior (default)",
        "posterior (brms)",
        "posterior (sd_Batch ~ half-normal(0.1))",
        "posterior (brms) (2)",
    ]
    assert row(both, SD, "posterior (sd_Batch ~ half-normal(0.1))")["estimate"] == own.estimates()[SD]


# groups


def test_weights_and_sds_of_a_balanced_one_way_layout(oneway):
    frame, fit, post = oneway.groups, oneway.reml, oneway.posterior
    y = oneway.design.y.reshape(6, 5)
    tau, sigma = fit.estimates()[SD], fit.sigma
    weight = tau**2 / (tau**2 + sigma**2 / 5)
    np.testing.assert_allclose(frame["no_pooling"], y.mean(1) - y.mean(), rtol=1e-9)
    np.testing.assert_allclose(frame["weight"], weight)
    np.testing.assert_allclose(frame["blup"], weight * (y.mean(1) - y.mean()), rtol=1e-9)
    drawn = post.draws(SD) ** 2 / (post.draws(SD) ** 2 + post.draws("sigma") ** 2 / 5)
    np.testing.assert_allclose(frame["weight_mean"], drawn.mean())
    share = np.mean((drawn >= frame["weight_low"].iloc[0]) & (drawn <= frame["weight_high"].iloc[0]))
    assert share == pytest.approx(0.95, abs=2e-3)
    np.testing.assert_allclose(frame["cond_sd"], np.sqrt(tau**2 * (1 - weight)))
    np.testing.assert_allclose(frame["posterior_mean"], post.ranef()["Batch"]["Intercept"])
    np.testing.assert_allclose(frame["sd_ratio"], frame["cond_sd"] / post.ranef_sd()["Batch"]["Intercept"].to_numpy())
    assert (frame["sd_ratio"] < 1).all()


@pytest.mark.parametrize("which", ["slopes", "crossed"])
def test_sds_of_predictions_from_dense_matrices(which, request):
    both = request.getfixturevalue(which)
    design, fit = both.design, both.reml
    Z = []
    for term in design.terms:
        levels = np.eye(design.groupings[term.group].n_levels)[design.groupings[term.group].codes]
        Z.append((levels[:, :, None] * term.Z[:, None]).reshape(design.n, -1))
    G = [
        np.kron(np.eye(z.shape[1] // len(T)), fit.sigma**2 * T @ T.T) for z, T in zip(Z, fit.optimum.terms, strict=True)
    ]
    V = sum((z @ g @ z.T for z, g in zip(Z, G, strict=True)), fit.sigma**2 * np.eye(design.n))
    inverse = np.linalg.inv(V)
    X = design.X
    P = inverse - inverse @ X @ np.linalg.solve(X.T @ inverse @ X, X.T @ inverse)
    for name, middle in (("cond_sd", inverse), ("plug_in_sd", P)):
        dense = [np.sqrt(np.diagonal(g - g @ z.T @ middle @ z @ g)) for z, g in zip(Z, G, strict=True)]
        np.testing.assert_allclose(both.groups[name], np.concatenate(dense), rtol=1e-7)
    blups = [g @ z.T @ P @ design.y for z, g in zip(Z, G, strict=True)]
    np.testing.assert_allclose(both.groups["blup"], np.concatenate(blups), rtol=1e-7, atol=1e-9)


def test_weights_of_intercepts_and_slopes(slopes):
    post = slopes.posterior
    a, b, r, s = (post.draws(label) for label in [*slopes.table.index[:3], "sigma"])
    S = np.stack([np.stack([a**2, a * b * r], -1), np.stack([a * b * r, b**2], -1)], -2)
    z = np.column_stack([np.ones(10), np.arange(10.0)])
    noise = s[:, None, None] ** 2 * np.linalg.inv(z.T @ z)
    W = S @ np.linalg.inv(S + noise)
    expected = np.diagonal(W, axis1=1, axis2=2).mean(0)
    np.testing.assert_allclose(slopes.groups["weight_mean"].to_numpy().reshape(18, 2), np.tile(expected, (18, 1)))
    assert slopes.groups["effect"].tolist() == ["Intercept", "Days"] * 18


def test_at_zero_the_plug_in_says_nothing_is_left_to_know(zero):
    frame = zero.groups
    assert (frame[["weight", "blup", "cond_sd", "sd_ratio"]].to_numpy() == 0).all()
    assert (frame["posterior_sd"] > 0.5).all()
    assert (frame["weight_low"] == 0).all()


def test_by_group_selects(crossed):
    assert len(crossed.by_group("sample")) == 6
    assert len(crossed.by_group()) == 30
    with pytest.raises(DesignError, match="plate, sample"):
        crossed.by_group("dish")


# fixed effects


def test_intervals_of_the_mean_in_a_balanced_layout(oneway):
    # The mean of a balanced one-way layout has an exact t interval with the degrees of freedom of the batches.
    y = oneway.design.y.reshape(6, 5)
    half = t.ppf(0.975, 5) * y.mean(1).std(ddof=1) / np.sqrt(6)
    for method in ("Satterthwaite", "Kenward-Roger"):
        found = oneway.fixed.loc[("Intercept", method)]
        np.testing.assert_allclose(found[["conf_low", "conf_high"]].astype(float), [y.mean() - half, y.mean() + half])
        assert found["df"] == pytest.approx(5)
    wald = oneway.fixed.loc[("Intercept", "Wald z")]
    assert wald["conf_high"] - y.mean() == pytest.approx(ndtri(0.975) * half / t.ppf(0.975, 5))
    tails = oneway.fixed.loc[("Intercept", "posterior (default), equal-tailed")]
    np.testing.assert_allclose(
        tails[["conf_low", "conf_high"]].astype(float), np.quantile(oneway.posterior.draws("Intercept"), [0.025, 0.975])
    )


def test_every_coefficient_has_every_method(slopes):
    methods = slopes.fixed.index.get_level_values("method")
    assert list(slopes.fixed.index.get_level_values("coefficient")) == ["Intercept"] * 6 + ["Days"] * 6
    assert list(methods[:6]) == list(methods[6:])
    profile = slopes.fixed.xs("profile", level="method")
    ends = slopes.table.loc[profile.index, ["reml_low", "reml_high"]]
    np.testing.assert_allclose(profile[["conf_low", "conf_high"]], ends)


def test_a_method_that_does_not_apply_says_why(slopes):
    data = bl.load_dataset("sleepstudy").assign(d=lambda frame: frame["Days"].astype(str))
    model = bl.Model("Reaction ~ Days + ar1(0 + d | Subject)", data)
    # With seed 1 the proposal misses a tail and chains take over, with a warning.
    both = bl.compare(model.fit(), model.sample(200, random_seed=3))
    found = both.fixed.loc[("Days", "Kenward-Roger")]
    assert np.isnan(found["conf_low"])
    assert "ar1" in found["note"]


def test_a_model_without_fixed_effects_has_none():
    both = compared("Yield ~ 0 + (1 | Batch)", "Dyestuff", 200)
    assert len(both.fixed) == 0
    assert {"sd_Batch[Intercept]", "sigma", "icc_Batch"} <= set(both.long["parameter"])
    assert both.to_markdown("fixed").count("\n") == 1


def test_rows_that_stand_for_several_cannot_be_simulated():
    model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff").assign(f=2), frequency="f")
    both = bl.compare(model.fit(), model.sample(200, random_seed=1))
    found = row(both, "r2_conditional", "REML")
    assert found["interval"] == "none"
    assert "frequency=" in found["note"]
    with pytest.raises(DesignError, match="frequency="):
        both.to_datatree(10)


# trees


def test_profile_draws_are_quantiles_of_the_signed_root(oneway):
    tree = oneway.to_datatree(400)
    drawn = np.sort(tree["profile"]["sigma"].to_numpy().ravel())
    for level in (0.5, 0.9, 0.99):
        low, high = oneway.reml.confint(level, parameters="sigma").to_numpy()[0]
        share = np.mean((drawn > low) & (drawn < high))
        assert share == pytest.approx(level, abs=0.005)
    # A zero cannot be excluded beyond its own root.
    rise = oneway.reml.profile(SD, [0.0])["criterion"].iloc[0] - oneway.reml.criterion
    zeros = np.mean(tree["profile"]["sd_Batch"].to_numpy() == 0)
    assert zeros == pytest.approx(norm.cdf(-np.sqrt(rise)), abs=0.005)


def test_half_of_the_profile_draws_are_zero_where_the_estimate_is(zero):
    tree = zero.to_datatree(400)
    assert np.mean(tree["profile"]["sd_Batch"].to_numpy() == 0) == 0.5


def test_bootstrap_under_the_names_of_the_posterior(slopes):
    tree = slopes.to_datatree(200)
    assert list(tree.children) == ["posterior", "bootstrap", "profile"]
    for group in ("bootstrap", "profile"):
        assert set(tree[group].data_vars) == {"sd_Subject", "corr_Subject", "sigma", "beta"}
        for name, values in tree[group].data_vars.items():
            like = tree["posterior"][name]
            assert values.dims == like.dims
            assert values.shape[2:] == like.shape[2:]
    estimates = slopes.bootstrap(200).estimates
    days = tree["bootstrap"]["sd_Subject"].sel(Subject__effect="Days").to_numpy().ravel()
    np.testing.assert_array_equal(days, estimates["sd_Subject[Days]"])
    # Generalised least squares is unbiased.
    spread = estimates["Days"].std() / np.sqrt(len(estimates))
    assert abs(estimates["Days"].mean() - slopes.reml.fixef()["Days"]) < 4 * spread
    assert estimates["Days"].std() == pytest.approx(slopes.reml.std_error()["Days"], rel=0.2)


def test_arviz_draws_them_side_by_side(slopes):
    plots = pytest.importorskip("arviz_plots")
    trees = slopes.datatrees(100)
    assert list(trees) == ["posterior (default)", "REML bootstrap", "REML profile"]
    shown = plots.plot_forest(trees, backend="none")
    assert set(shown.aes["color"]["mapping"]["model"].to_numpy()) == set(trees)
    for group in ("bootstrap", "profile"):
        plots.plot_forest(slopes.to_datatree(100), group=group, backend="none")


# laziness


def test_printing_simulates_nothing(monkeypatch):
    def never(*_args, **_kwargs):
        raise AssertionError("a bootstrap was drawn")

    monkeypatch.setattr(MODULE, "draw_bootstrap", never)
    both = compared("Yield ~ 1 + (1 | Batch)", "Dyestuff", 200)
    assert not {"table", "long", "groups", "fixed", "penalised"} & set(vars(both))
    for text in (str(both), both._repr_html_(), both.to_markdown(), both.to_latex()):
        assert "sigma" in text
    assert len(both.groups) == 6
    with pytest.raises(AssertionError, match="a bootstrap was drawn"):
        both.to_datatree(10)


def test_a_bootstrap_is_drawn_once(monkeypatch, oneway):
    calls = []
    real = draws.draw_bootstrap
    monkeypatch.setattr(MODULE, "draw_bootstrap", lambda *args: calls.append(1) or real(*args))
    both = bl.compare(oneway.reml, oneway.posterior)
    first = both.bootstrap(50)
    assert both.bootstrap(50) is first
    assert both.bootstrap(50, random_seed=2) is not first
    assert len(calls) == 2
    with pytest.raises(DesignError, match="n=0"):
        both.bootstrap(0)


# text


def numbers(text: str) -> list[float]:
    return [float(found) for found in re.findall(r"-?\d+\.?\d*(?:e[-+]\d+)?", text)]


@pytest.mark.parametrize("which", ["zero", "slopes", "crossed"])
def test_markdown_and_latex_hold_the_numbers(which, request):
    both = request.getfixturevalue(which)
    lines = both.to_markdown().splitlines()[2:]
    tabular = [line for line in both.to_latex().splitlines() if line.endswith(r"\\")][1:]
    assert len(lines) == len(tabular) == len(both.table)
    for label, line, latex in zip(both.table.index, lines, tabular, strict=True):
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        other = [cell.strip() for cell in latex.removesuffix(r"\\").split(" & ")]
        assert cells[0] == label
        assert other[0] == label.replace("_", r"\_")
        names = ["ml", "reml", "reml_low", "reml_high", "penalised", "mean", "hdi_low", "hdi_high"]
        expected = both.table.loc[label, names]
        # numbers from draws are rounded to their Monte Carlo error
        errors = both.posterior.monte_carlo_errors().loc[label].reindex(names).fillna(0.0)
        for found in (numbers(" ".join(cells[1:7])), numbers(" ".join(other[1:7]))):
            wrong = np.abs(np.array(found) - expected.astype(float))
            assert (wrong <= 5e-5 * expected.abs() + 2.5 * errors).all()


def test_html_holds_the_numbers_in_groups(slopes):
    html = slopes._repr_html_()
    assert html.count("<tbody>") == 4
    assert html.count("<th><code>") == len(slopes.table)
    assert html.count("<tr") == 1 + 4 + len(slopes.table)
    # a style of its own: that of JupyterLab aligns headings of rows right, at the far end of the table
    assert re.findall(r'<th colspan="\d+" style="text-align: left">([^<]*)</th>', html) == [
        *("Standard deviations", "Correlations", "Residual", "Fixed effects")
    ]
    for value in slopes.table["reml"]:
        assert f"<td>{value:.5g}</td>" in html


@pytest.mark.parametrize("what", ["long", "groups", "fixed"])
def test_other_tables_are_written_too(slopes, what):
    rows = len(getattr(slopes, what))
    assert len(slopes.to_markdown(what).splitlines()) == rows + 2
    assert slopes.to_latex(what).count(r"\\") == rows + 1


def test_names_are_escaped():
    data = pd.DataFrame({"y": np.random.default_rng(1).normal(size=30), "a|b": np.repeat(list("uvwxyz"), 5)})
    model = bl.Model("y ~ 1 + (1 | `a|b`)", data)
    both = bl.compare(model.fit(), model.sample(200, random_seed=1))
    lines = both.to_markdown().splitlines()
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {len(re.findall(r"(?<!\\)\|", lines[0]))}
    assert r"\textbar{}" in both.to_latex()


def test_unknown_tables_are_refused(zero):
    with pytest.raises(DesignError, match="what='everything'"):
        zero.to_latex("everything")
