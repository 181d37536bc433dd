"""Both engines side by side: labels, numbers, words near zero, refusals."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.comparison import Comparison
from bayeslmm.errors import DesignError


@pytest.fixture(scope="module")
def sleep_model() -> bl.Model:
    return bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy"))


@pytest.fixture(scope="module")
def sleep(sleep_model) -> Comparison:
    return bl.compare(sleep_model.fit(), sleep_model.sample(2000, random_seed=1))


@pytest.fixture(scope="module")
def zero_model() -> bl.Model:
    return bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2"))


@pytest.fixture(scope="module")
def zero(zero_model) -> Comparison:
    return bl.compare(zero_model.fit(), zero_model.sample(4000, random_seed=1))


def test_rows_come_in_the_documented_order(sleep):
    assert list(sleep.table.index) == [
        "sd_Subject[Intercept]",
        "sd_Subject[Days]",
        "corr_Subject[Intercept.Days]",
        "sigma",
        "Intercept",
        "Days",
    ]


def test_columns_repeat_what_the_results_say(sleep, sleep_model):
    table = sleep.table
    interval = sleep_model.fit().confint()
    np.testing.assert_allclose(table["reml"], sleep_model.fit().estimates())
    np.testing.assert_allclose(table["ml"], sleep_model.fit(reml=False).estimates(), rtol=1e-6)
    np.testing.assert_allclose(table[["reml_low", "reml_high"]], interval.loc[table.index])
    np.testing.assert_allclose(table[["mean", "median"]], sleep.posterior.table()[["mean", "median"]])
    np.testing.assert_allclose(table[["hdi_low", "hdi_high"]], sleep.posterior.hdi().loc[table.index])


def test_modes_and_estimates_lie_in_the_intervals(sleep):
    table = sleep.table
    assert table["mode"].between(table["hdi_low"], table["hdi_high"]).all()
    assert table["reml"].between(table["reml_low"], table["reml_high"]).all()


def test_flat_fixed_effects_make_the_engines_agree(sleep):
    # Balanced: the posterior mean of beta is the generalised least squares estimate at every covariance.
    both = sleep.table.loc[["Intercept", "Days"]]
    error = sleep.posterior.std_error().to_numpy() / np.sqrt(sleep.posterior.n_draws)
    assert np.all(np.abs(both["mean"] - both["reml"]) < 5 * error)


def test_a_zero_estimate_is_reported_as_an_upper_bound(zero):
    row = zero.table.loc["sd_Batch[Intercept]"]
    assert row["ml"] == row["reml"] == row["reml_low"] == row["hdi_low"] == row["mode"] == 0
    assert row["note"] == "REML says 0; upper bound"
    assert 0 < row["median"] < row["hdi_high"]


def test_positive_variances_carry_no_note(sleep):
    assert not sleep.table["note"].any()
    assert (sleep.table["hdi_low"].iloc[:2] > 0).all()


def test_default_delta_is_five_percent_of_the_scale_of_the_default_prior(sleep):
    data = bl.load_dataset("sleepstudy")
    spread = data["Reaction"].std()
    about_the_mean = data["Days"].std(ddof=0)
    np.testing.assert_allclose(sleep.table["delta"].iloc[:2], [0.05 * spread, 0.05 * spread / about_the_mean])
    assert sleep.table[["delta", "p_below"]].iloc[2:].isna().all(axis=None)
    assert "5 % of sd(y)/sd(column)" in str(sleep)


def test_probability_below_delta_grows_to_one(zero_model, zero):
    label = "sd_Batch[Intercept]"
    shares = [
        bl.compare(zero.reml, zero.posterior, delta=delta).table.loc[label, "p_below"] for delta in (0.0, 0.5, 1.0, 1e6)
    ]
    assert shares[0] == 0
    assert shares[-1] == 1
    assert shares == sorted(shares)
    assert shares[1] == np.mean(zero.posterior.draws(label) < 0.5)


def test_wider_level_gives_wider_intervals(zero):
    wide = bl.compare(zero.reml, zero.posterior, level=0.99).table
    assert (wide["hdi_high"] >= zero.table["hdi_high"]).all()
    assert (wide["reml_high"] > zero.table["reml_high"]).all()


def test_the_order_of_reml_and_ml_does_not_matter(zero_model, zero):
    from_ml = bl.compare(zero_model.fit(reml=False), zero.posterior)
    assert from_ml.reml.reml
    assert not from_ml.ml.reml
    np.testing.assert_allclose(from_ml.table["reml"], zero.table["reml"], atol=1e-8)


def test_further_posteriors_add_columns(zero_model, zero):
    tight = zero_model.sample(500, priors={"sd_Batch": bl.HalfNormal(0.1)}, random_seed=1)
    both = bl.compare(zero.reml, zero.posterior, tight)
    label = "sd_Batch[Intercept]"
    name = "sd_Batch ~ half-normal(0.1)"
    assert both.table.loc[label, f"mean ({name})"] == tight.estimates()[label]
    assert both.table.loc[label, f"hdi_high ({name})"] < both.table.loc[label, "hdi_high"]
    assert f"HDI high ({name})" in both.printable()
    assert f"posterior ({name}): 500 independent draws" in str(both)


def test_text_has_no_cut_labels(sleep):
    text = str(sleep)
    assert all(label in text for label in sleep.table.index)
    assert "..." not in text
    assert repr(sleep) == text


def test_what_did_not_enter_the_model_is_said(sleep):
    frame = bl.load_dataset("sleepstudy")
    frame["c"] = 2 * frame["Days"]
    frame.loc[[4, 7], "Reaction"] = float("nan")
    model = bl.Model("Reaction ~ Days + c + (1 | Subject)", frame)
    both = bl.compare(model.fit(), model.sample(200, random_seed=1))
    said = [
        "Note: 2 rows dropped (missing Reaction: 4, 7)",
        "Note: left out because earlier columns span them: c",
    ]
    for result in (both, both.boundary):
        for text in (repr(result), result._repr_html_(), *map(str, (both.reml.summary(), both.posterior.summary()))):
            assert all(line in text for line in said)
        assert result.to_dict()["left_out"] == said
    assert both.header[1:3] == tuple(said)
    for result in (sleep, sleep.boundary):
        assert result.to_dict()["left_out"] == []
        assert "dropped" not in str(result)


def test_html_escapes_the_formula(sleep):
    html = sleep._repr_html_()
    assert html.count("<th><code>") == len(sleep.table)
    assert "sd_Subject[Days]" in html


def test_to_dict_is_json_without_nan(sleep, zero):
    for both in (sleep, zero):
        text = json.dumps(both.to_dict(), allow_nan=False)
        read = json.loads(text)
        assert read["parameters"]["sigma"]["reml"] == both.table.loc["sigma", "reml"]
        assert read["parameters"]["sigma"]["delta"] is None
    assert zero.to_dict()["singular"] is True
    assert sleep.to_dict()["singular"] is False


@pytest.mark.parametrize(
    ("formula", "rows"),
    [("Reaction ~ Days + (1 | Subject)", 180), ("Reaction ~ Days + (Days | Subject)", 90)],
)
def test_different_models_are_refused(sleep, formula, rows):
    other = bl.Model(formula, bl.load_dataset("sleepstudy").iloc[:rows]).fit()
    with pytest.raises(DesignError, match="different models"):
        bl.compare(other, sleep.posterior)


def test_different_weights_and_groups_are_refused(zero):
    data = bl.load_dataset("Dyestuff2")
    weighted = bl.Model("Yield ~ 1 + (1 | Batch)", data, weights=np.arange(1.0, 31.0)).fit()
    shuffled = bl.Model("Yield ~ 1 + (1 | Batch)", data.assign(Batch=np.roll(data["Batch"], 1))).fit()
    for other in (weighted, shuffled):
        with pytest.raises(DesignError, match="Fit and sample the same Model"):
            bl.compare(other, zero.posterior)


def test_swapped_arguments_are_explained(zero):
    with pytest.raises(DesignError, match=r"model\.fit\(\) first"):
        bl.compare(zero.posterior, zero.reml)
    with pytest.raises(DesignError, match=r"model\.sample\(\) second"):
        bl.compare(zero.reml, zero.posterior, zero.ml)


@pytest.mark.parametrize("arguments", [{"level": 95}, {"level": 0}, {"delta": -1}, {"delta": float("nan")}])
def test_arguments_out_of_range_are_refused(zero, arguments):
    with pytest.raises(DesignError, match=next(iter(arguments))):
        bl.compare(zero.reml, zero.posterior, **arguments)


def test_one_argument_is_not_enough(zero):
    with pytest.raises(DesignError, match=r"needs a posterior .*model\.sample\(\)"):
        bl.compare(zero.reml)
    with pytest.raises(DesignError, match="delta='a': a standard deviation"):
        bl.compare(zero.reml, zero.posterior, delta="a")
    with pytest.raises(bl.FitError, match="is no seed"):
        zero.bootstrap(10, random_seed=-1)
    with pytest.raises(DesignError, match=r"n=2\.5"):
        zero.bootstrap(2.5)


@pytest.mark.filterwarnings("ignore::bayeslmm.errors.ConvergenceWarning")
def test_a_perfect_fit_is_shown_without_intervals():
    data = pd.DataFrame({"g": np.repeat(np.arange(8), 6), "x": np.arange(48) % 7.0})
    model = bl.Model("y ~ x + (1 | g)", data.assign(y=lambda d: 2.0 * d["x"] + 3.0))
    both = bl.compare(model.fit(), model.sample(200, random_seed=1))
    with pytest.warns(bl.BayesLMMWarning, match="Intervals are missing"):
        text = str(both)
    assert "REML: non finite" in text
    assert both.table[["reml_low", "reml_high"]].isna().all(axis=None)
    assert both.table.loc["x", "reml"] == pytest.approx(2.0, rel=1e-9)
    with pytest.warns(bl.BayesLMMWarning, match="Intervals are missing"):
        long = both.long
    rows = (long["method"] == "REML") & long["parameter"].isin(both.table.index)
    assert long.loc[rows, ["conf_low", "conf_high"]].isna().all(axis=None)
    assert both.fixed.loc[("x", "profile"), "note"].startswith("The fit has no intervals")
