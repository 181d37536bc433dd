"""The front door: one formula, two inferences, the same accessors and labels."""

from __future__ import annotations

import inspect
from dataclasses import FrozenInstanceError

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.errors import ConvergenceWarning, DesignError, FitError, FormulaError, PriorError
from bayeslmm.reml import FitStatus

FORMULAS = {
    "one-way": ("Yield ~ 1 + (1 | Batch)", "Dyestuff"),
    "zero": ("Yield ~ 1 + (1 | Batch)", "Dyestuff2"),
    "crossed": ("diameter ~ 1 + (1 | plate) + (1 | sample)", "Penicillin"),
    "slopes": ("Reaction ~ Days + (Days | Subject)", "sleepstudy"),
    "uncorrelated": ("Reaction ~ Days + (Days || Subject)", "sleepstudy"),
    "one group twice": ("Reaction ~ Days + (1 | Subject) + (0 + Days | Subject)", "sleepstudy"),
    "nested": ("score ~ Machine + (1 | Worker/Machine)", "Machines"),
    "no fixed effects": ("Reaction ~ 0 + (1 | Subject)", "sleepstudy"),
}
ACCESSORS = ("fixef", "std_error", "ranef", "varcorr", "estimates", "fitted", "predict", "residuals", "tidy", "summary")


def model(kind: str) -> bl.Model:
    formula, name = FORMULAS[kind]
    return bl.Model(formula, bl.load_dataset(name))


@pytest.fixture(scope="module", params=FORMULAS)
def both(request: pytest.FixtureRequest) -> tuple[bl.REMLResult, bl.Posterior]:
    one = model(request.param)
    return one.fit(), one.sample(200, random_seed=1)


def same_axes(a: pd.Series | pd.DataFrame, b: pd.Series | pd.DataFrame) -> None:
    pd.testing.assert_index_equal(a.index, b.index)
    if isinstance(a, pd.DataFrame):
        assert list(a.columns) == list(b.columns)
    else:
        assert a.name == b.name


def test_both_results_answer_the_same_questions_with_the_same_labels(both) -> None:
    fit, post = both
    for name in ("fixef", "std_error", "estimates", "fitted", "predict", "residuals", "confint", "tidy", "varcorr"):
        same_axes(getattr(fit, name)(), getattr(post, name)())
    for key in ("effect", "group", "term"):
        assert fit.tidy()[key].fillna("").tolist() == post.tidy()[key].fillna("").tolist()
    for key in ("group", "effect1", "effect2"):
        assert fit.varcorr()[key].fillna("").tolist() == post.varcorr()[key].fillna("").tolist()
    assert list(fit.ranef()) == list(post.ranef())
    for group, effects in fit.ranef().items():
        same_axes(effects, post.ranef()[group])
    assert isinstance(fit.sigma, float)
    assert isinstance(post.sigma, float)
    assert (fit.n, fit.formula) == (post.n, post.formula)


def test_tidy_has_the_columns_of_broom_mixed(both) -> None:
    for result in both:
        table = result.tidy()
        assert list(table.columns) == ["effect", "group", "term", "estimate", "std_error", "conf_low", "conf_high"]
        assert set(table["effect"]) <= {"fixed", "ran_pars"}
        assert table.loc[table["group"] == "Residual", "term"].tolist() == ["sd__Observation"]
        assert table.loc[table["effect"] == "fixed", "group"].isna().all()
        inside = (table["conf_low"] <= table["estimate"]) & (table["estimate"] <= table["conf_high"])
        # a mean may lie outside a short HDI of a strongly skewed density, an estimate never outside its profile
        assert inside.all() or isinstance(result, bl.Posterior)


def test_fitted_values_and_residuals_add_up_to_the_response(both) -> None:
    for result in both:
        np.testing.assert_allclose(result.fitted() + result.residuals(), result.design.y, rtol=1e-12)


@pytest.mark.parametrize("name", ACCESSORS)
def test_accessors_take_the_same_arguments(name: str) -> None:
    one, two = (inspect.signature(getattr(kind, name)).parameters for kind in (bl.REMLResult, bl.Posterior))
    # What is left over is taken to be answered in words.
    one, two = ([argument for argument in own if argument != "unknown"] for own in (one, two))
    assert one[1:] == two[1:]


def test_labels() -> None:
    assert list(model("slopes").fit().estimates().index) == [
        "sd_Subject[Intercept]",
        "sd_Subject[Days]",
        "corr_Subject[Intercept.Days]",
        "sigma",
        "Intercept",
        "Days",
    ]
    formula = "Reaction ~ Days + (1 | Subject) + (Days | Subject)"
    # two intercepts of one factor: their variances are not identified
    twice = bl.Model(formula, bl.load_dataset("sleepstudy")).fit(on_failure="ignore")
    assert list(twice.ranef()) == ["Subject"]
    assert list(twice.estimates().index)[:3] == [
        "sd_Subject[Intercept]",
        "sd_Subject[Intercept.1]",
        "sd_Subject[Days]",
    ]
    assert list(twice.ranef()["Subject"].columns) == ["Intercept", "Intercept.1", "Days"]


def test_arguments_that_mean_nothing_are_refused() -> None:
    one = model("one-way")
    with pytest.raises(bl.FitError, match="neither True"):
        one.fit("ML")  # type: ignore[arg-type]
    with pytest.raises(bl.FitError, match="unknown"):
        one.fit(on_failure="never")  # type: ignore[arg-type]
    with pytest.raises(bl.FitError, match="at least 30"):
        one.sample(12)
    with pytest.raises(bl.FitError, match="whole number"):
        one.sample(100.5)  # type: ignore[arg-type]
    with pytest.raises(bl.DesignError, match="center=True and False"):
        bl.Model("Reaction ~ scale(Days, 3) + (1 | Subject)", bl.load_dataset("sleepstudy"))
    with pytest.raises(bl.DesignError, match="different models"):
        bl.compare(one.fit(fix={"theta": [1.0]}), one.sample(100, random_seed=1))


def test_results_are_frozen() -> None:
    one = model("one-way")
    for result, field in ((one.fit(), "optimum"), (one.sample(100, random_seed=1), "method")):
        with pytest.raises(FrozenInstanceError):
            setattr(result, field, None)
    for name in ("formula", "design", "dropped", "n"):
        with pytest.raises(AttributeError):
            setattr(one, name, None)


def test_refits_are_the_same_and_do_not_disturb_each_other() -> None:
    one = model("slopes")
    first = one.fit()
    one.fit(reml=False)
    one.sample(100, random_seed=1)
    assert one.fit().criterion == first.criterion
    assert one.fit(reml=False).criterion == model("slopes").fit(reml=False).criterion
    assert first.reml
    assert not one.fit(reml=False).reml


def test_user_data_are_not_changed() -> None:
    data = bl.load_dataset("sleepstudy")
    data.loc[3, "Reaction"] = np.nan
    data.index = data.index + 100
    before = data.copy(deep=True)
    one = bl.Model("Reaction ~ Days + (Days | Subject)", data)
    fit = one.fit()
    one.sample(100, random_seed=1)
    fitted = fit.fitted()
    fitted[:] = 0.0
    assert (fit.fitted() != 0.0).all()
    pd.testing.assert_frame_equal(data, before)
    assert list(fit.fitted().index) == [k for k in data.index if k != 103]


def test_changing_the_data_afterwards_changes_nothing() -> None:
    data = bl.load_dataset("Dyestuff").astype({"Yield": float})
    one = bl.Model("Yield ~ 1 + (1 | Batch)", data)
    expected = bl.Model("Yield ~ 1 + (1 | Batch)", data.copy()).fit().criterion
    data["Yield"] = 0.0
    data.loc[:, "Batch"] = data["Batch"].iloc[0]
    assert one.fit().criterion == expected


def test_same_seed_same_draws() -> None:
    one = model("slopes")
    a, b, c = (one.sample(100, random_seed=seed).draws("sigma") for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()


def test_number_of_draws_and_chains() -> None:
    post = model("one-way").sample(400, chains=2, random_seed=1)
    assert post.n_draws == 400
    assert dict(post.data["posterior"].sizes)["chain"] == 2
    assert "log_likelihood" in post.data.children
    assert "log_likelihood" not in model("one-way").sample(100, random_seed=1, log_likelihood=False).data.children


def test_repr_tells_size_terms_and_rows_dropped() -> None:
    data = bl.load_dataset("sleepstudy")
    data.loc[[3, 9], "Reaction"] = np.nan
    data["Twice"] = 2 * data["Days"]
    text = repr(bl.Model("Reaction ~ Days + Twice + (Days | Subject)", data))
    for words in ("Reaction ~ Days + Twice", "178 observations", "2 fixed effects", "36 random effects"):
        assert words in text
    assert "18 levels x Intercept, Days, 3 covariance parameters" in text
    assert "Twice" in text.split("\n", 1)[1]
    assert "2" in text.splitlines()[-1]


def test_html_escapes_what_the_user_wrote() -> None:
    data = bl.load_dataset("Dyestuff").rename(columns={"Batch": "<b>"})
    shown = bl.Model("Yield ~ 1 + (1 | `<b>`)", data)
    for html in (shown._repr_html_(), shown.fit()._repr_html_()):
        assert "&lt;b&gt;" in html
        assert "`<b>`" not in html
        assert "<td><b></td>" not in html


def test_a_failed_fit_warns_raises_or_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    one = model("one-way")
    optimum = one.fit().optimum
    failed = type(optimum)(**{**vars(optimum), "status": FitStatus.evaluation_limit})
    monkeypatch.setattr("bayeslmm.specification.optimise", lambda *_: failed)
    one = model("one-way")
    with pytest.warns(ConvergenceWarning, match="evaluation limit"):
        one.fit()
    with pytest.raises(FitError, match="evaluation limit"):
        one.fit(on_failure="raise")
    assert not one.fit(on_failure="ignore").status.ok


def test_a_singular_fit_does_not_warn() -> None:
    # warnings are errors in this suite
    assert model("zero").fit().is_singular


def test_priors_are_shown_before_sampling() -> None:
    one = model("slopes")
    table = one.priors({"sd_Subject": bl.HalfNormal(5), "lkj": 2})
    assert list(table.index) == list(one.fit().estimates().index)
    assert "5" in table.loc["sd_Subject[Days]", "prior"]
    assert table.loc["corr_Subject[Intercept.Days]", "prior"] == "LKJ(2)"
    assert table.loc["Days", "prior"] == "flat"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"method": "gibbs"}, FitError),
        ({"draws": 0}, FitError),
        ({"draws": 2, "chains": 4}, FitError),
        ({"priors": {"sd_Nobody": 1}}, PriorError),
    ],
)
def test_wrong_arguments_of_sample(arguments: dict, error: type[Exception]) -> None:
    with pytest.raises(error):
        model("one-way").sample(**arguments)


def test_wrong_formula_and_missing_column() -> None:
    data = bl.load_dataset("Dyestuff")
    with pytest.raises(FormulaError):
        bl.Model("Yield ~ 1 + (1 | Batch", data)
    with pytest.raises(DesignError, match="Bach"):
        bl.Model("Yield ~ 1 + (1 | Bach)", data)


def test_to_pymc_has_the_names_of_the_posterior() -> None:
    one = model("one-way")
    names = set(one.sample(100, random_seed=1).data["posterior"].data_vars)
    assert names <= {v.name for v in one.to_pymc().unobserved_RVs}


@pytest.mark.slow
@pytest.mark.mcmc
def test_nuts_gives_the_same_posterior_under_the_same_names() -> None:
    one = model("one-way")
    exact = one.sample(4000, random_seed=1)
    post = one.sample(2000, method="nuts", random_seed=1, tune=500, chains=2)
    assert post.method == "nuts"
    same_axes(post.tidy(), exact.tidy())
    # Monte Carlo error of NUTS: four standard errors at its effective sample size
    ess = post.diagnostics["smallest ESS"]
    table = exact.table()
    assert (np.abs(post.estimates() - table["mean"]) < 4 * table["sd"] / np.sqrt(ess)).all()
