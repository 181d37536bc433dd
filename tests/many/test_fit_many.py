"""Many fits at once, beside closed forms, lmerTest's numbers and single fits."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayeslmm as bl
from bayeslmm.many import chunk as many_chunk

SLOPES = "~ Days + (Days | Subject)"


@pytest.fixture(scope="module")
def sleep():
    return bl.load_dataset("sleepstudy")


@pytest.fixture(scope="module")
def simulated(sleep):
    new = bl.Model(f"Reaction {SLOPES}", sleep).fit().simulate(12, random_seed=1)
    return pd.DataFrame(np.asarray(new), columns=[f"gene {k}" for k in range(12)])


def balanced(seed, K, groups=7, each=4):
    """Responses of a balanced one-way layout, from no variance between groups to much."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(groups), each)
    effects = rng.normal(size=(groups, K)) * np.linspace(0.0, 2.0, K)
    return pd.DataFrame({"g": codes.astype(str)}), rng.normal(size=(groups * each, K)) + effects[codes]


def test_balanced_layout_has_the_estimates_and_the_f_test_of_the_analysis_of_variance():
    data, Y = balanced(3, 40)
    fits = bl.fit_many("~ 1 + (1 | g)", data, Y)
    cells = Y.reshape(7, 4, -1)
    within = cells.var(axis=1, ddof=1).mean(axis=0)
    between = 4 * cells.mean(axis=1).var(axis=0, ddof=1)
    regular = between > within
    assert 0 < (~regular).sum() < 40
    total = (6 * between + 21 * within) / 27
    np.testing.assert_allclose(fits.table["sigma"], np.sqrt(np.where(regular, within, total)), rtol=1e-8)
    np.testing.assert_allclose(
        fits.table["sd_g[Intercept]"], np.sqrt(np.maximum(between - within, 0) / 4), rtol=1e-6, atol=1e-8
    )
    assert fits.table["singular"].tolist() == (~regular).tolist()
    tests = fits.tidy().query("parameter == 'sd_g[Intercept]'")
    f = stats.f.sf(between / within, 6, 21)
    np.testing.assert_allclose(tests["p_value"], np.where(regular, f, 1.0), rtol=1e-8)


def test_sleepstudy_has_lmertests_numbers(sleep):
    # Of lme4 with its optimiser at a tight tolerance; the default prints 24.7407.
    fits = bl.fit_many(SLOPES, sleep, ["Reaction"])
    row = fits.table.loc["Reaction"]
    assert row["criterion"] == pytest.approx(1743.6283, abs=5e-5)
    assert row["sd_Subject[Intercept]"] == pytest.approx(24.7405, abs=5e-5)
    assert row["sd_Subject[Days]"] == pytest.approx(5.9221, abs=5e-5)
    assert row["corr_Subject[Intercept.Days]"] == pytest.approx(0.0656, abs=5e-5)
    days = fits.tidy().set_index("parameter").loc["Days"]
    assert days["std_error"] == pytest.approx(1.5458, abs=5e-5)
    assert days["df"] == pytest.approx(17.0, abs=5e-3)
    assert days["statistic"] == pytest.approx(6.771, abs=5e-4)
    assert days["p_value"] == pytest.approx(3.264e-06, rel=2e-4)


@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward-roger", "z"])
def test_each_is_the_fit_by_itself_also_with_rows_missing(sleep, simulated, ddf):
    Y = simulated.copy()
    Y.iloc[[3, 9], 2] = np.nan
    Y.iloc[[3, 9], 5] = np.nan
    Y.iloc[100, 7] = np.nan
    fits = bl.fit_many(SLOPES, sleep, Y, ddf=ddf)
    table, tidy = fits.table, fits.tidy().set_index(["name", "parameter"])
    assert list(table.index) == list(simulated.columns)
    assert table["dropped"].tolist() == [0, 0, 2, 0, 0, 2, 0, 1, 0, 0, 0, 0]
    for name in ("gene 0", "gene 2", "gene 5", "gene 7"):
        own = bl.Model(f"y {SLOPES}", sleep.assign(y=Y[name])).fit()
        expected = own.estimates()
        np.testing.assert_allclose(table.loc[name, list(expected.index)].astype(float), expected, rtol=1e-6)
        known = own.coefficients(ddf)
        for column in ("std_error", "df", "p_value", "conf_low", "conf_high"):
            found = tidy.loc[name].loc[list(known.index), column]
            np.testing.assert_allclose(found.astype(float), known[column], rtol=1e-5)
        assert fits[name].criterion == pytest.approx(table.loc[name, "criterion"], abs=1e-7)


def test_variances_are_tested_as_a_single_fit_tests_them(simulated, sleep):
    fits = bl.fit_many("~ Days + (Days || Subject)", sleep, simulated)
    tidy = fits.tidy().set_index(["name", "parameter"])
    own = fits["gene 4"].test_zero("sd_Subject[Days]", draws=20_000)
    assert tidy.loc[("gene 4", "sd_Subject[Days]"), "test"] == "approximate RLRT"
    found = tidy.loc[("gene 4", "sd_Subject[Days]"), "p_value"]
    assert found == pytest.approx(own.p_value, abs=4 * np.sqrt(found / 20_000) + 1e-4)


def test_q_values_are_those_of_benjamini_and_hochberg(sleep, simulated):
    fits = bl.fit_many(SLOPES, sleep, simulated)
    days = fits.tidy().query("parameter == 'Days'")
    p = days["p_value"].to_numpy()
    order = np.argsort(p)
    q = np.minimum.accumulate((p[order] * p.size / np.arange(1, p.size + 1))[::-1])[::-1]
    np.testing.assert_allclose(days["q_value"].to_numpy()[order], q)
    assert "q_value" not in fits.tidy("none")


def test_what_cannot_be_fitted_is_named_and_stops_nothing_else(sleep, simulated):
    Y = simulated.iloc[:, :6].copy()
    Y["gene 1"] = 5.0
    Y["gene 2"] = ["text"] * len(Y)
    Y.loc[7, "gene 3"] = np.inf
    Y["gene 4"] = np.nan
    fits = bl.fit_many(SLOPES, sleep, Y)
    assert fits.failed == ("gene 1", "gene 2", "gene 3", "gene 4")
    assert fits.table["status"].tolist() == ["converged", *["refused"] * 4, "converged"]
    note = fits.table["note"]
    assert "constant: all 180 values are 5" in note["gene 1"]
    assert "not numeric: it has type str" in note["gene 2"]
    assert "1 infinite value" in note["gene 3"]
    assert note["gene 4"]
    assert "4 not fitted" in repr(fits)
    with pytest.raises(bl.FitError, match="'gene 1' was not fitted: constant"):
        fits["gene 1"]
    assert fits.tidy()["q_value"].notna().sum() == 2 * 4


def test_several_formulas_share_sums_where_they_can():
    pastes = bl.load_dataset("Pastes").assign(log=lambda d: np.log(d["strength"]))
    formulas = {
        "casks": "strength ~ 1 + (1 | sample)",
        "log": "log ~ 1 + (1 | sample)",
        "both": "strength ~ 1 + (1 | batch/cask)",
        "typo": "strenght ~ 1 + (1 | batch)",
    }
    fits = bl.fit_many(formulas, pastes)
    assert fits.table["status"].tolist() == ["converged", "converged", "converged", "refused"]
    assert "Did you mean 'strength'" in fits.table.loc["typo", "note"]
    assert len(fits._batches) == 2
    for name in ("casks", "log", "both"):
        own = bl.Model(formulas[name], pastes).fit()
        assert fits.table.loc[name, "criterion"] == pytest.approx(own.criterion, abs=1e-8)
        assert fits[name].formula == own.formula
    # A column for each parameter of any model, empty where a model does not have it.
    assert np.isnan(fits.table.loc["casks", "sd_batch[Intercept]"])
    assert fits.table.loc["both", "sd_batch[Intercept]"] > 0


def test_the_first_error_is_raised_where_no_formula_can_be_used(sleep):
    with pytest.raises(bl.DesignError, match="Reactoin"):
        bl.fit_many({"a": "Reactoin ~ Days + (1 | Subject)", "b": "y ~ (1 | Subject)"}, sleep)


def test_posteriors_by_quadrature_are_those_of_sample():
    dyestuff = bl.load_dataset("Dyestuff")
    fits = bl.fit_many("~ 1 + (1 | Batch)", dyestuff, ["Yield"], posterior=1000)
    post = bl.Model("Yield ~ 1 + (1 | Batch)", dyestuff).sample(draws=1000)
    found = fits.tidy().set_index("parameter")
    for label, own in post.tidy().set_axis(["sd_Batch[Intercept]", "sigma", "Intercept"]).iterrows():
        # Means and sds of both come from the grid; ends of intervals from 1,000 draws.
        assert found.loc[label, "mean"] == pytest.approx(own["estimate"], rel=1e-8)
        assert found.loc[label, "sd"] == pytest.approx(own["std_error"], rel=1e-8)
        assert found.loc[label, "hdi_high"] == pytest.approx(own["conf_high"], abs=own["std_error"] / 2)
    assert found["reliable"].all()


def test_residual_parameters_are_estimated_response_by_response():
    data = bl.load_dataset("Orthodont")
    fits = bl.fit_many({"a": "distance ~ age"}, data, residual="ar1(age | Subject)")
    own = bl.Model("distance ~ age", data, residual="ar1(age | Subject)").fit()
    assert fits.table.loc["a", "criterion"] == pytest.approx(own.criterion, abs=1e-7)
    assert fits.tidy().set_index("parameter").loc["age", "df"] == pytest.approx(
        own.coefficients()["df"]["age"], rel=1e-4
    )


def test_a_run_that_was_killed_continues(sleep, simulated, tmp_path, monkeypatch):
    monkeypatch.setattr(many_chunk, "_TOGETHER", 5)
    whole = bl.fit_many(SLOPES, sleep, simulated).tidy()
    runs = []
    true = many_chunk.run_task

    def counted(task):
        runs.append(task.start)
        if len(runs) == 3:
            raise KeyboardInterrupt
        return true(task)

    monkeypatch.setattr("bayeslmm.many.run.run_task", counted)
    part = bl.fit_many(SLOPES, sleep, simulated, store=tmp_path / "store")
    assert len(part.table) == 10
    assert "2 fits were not reached" in repr(part)
    again = bl.fit_many(SLOPES, sleep, simulated, store=tmp_path / "store")
    assert runs == [0, 5, 10, 10]
    pd.testing.assert_frame_equal(pd.DataFrame(again.tidy()), pd.DataFrame(whole))
    # Another value, another piece.
    simulated = simulated.copy()
    simulated.iloc[0, 11] += 1.0
    changed = bl.fit_many(SLOPES, sleep, simulated, store=tmp_path / "store")
    assert runs[4:] == [10]
    assert changed.table.loc["gene 11", "criterion"] != again.table.loc["gene 11", "criterion"]


def test_workers_do_not_change_anything(sleep, simulated, monkeypatch):
    alone = bl.fit_many(SLOPES, sleep, simulated, posterior=100)
    both = bl.fit_many(SLOPES, sleep, simulated, posterior=100, n_jobs=2)
    pd.testing.assert_frame_equal(pd.DataFrame(alone.tidy()), pd.DataFrame(both.tidy()))


@pytest.mark.parametrize(
    ("formulas", "responses", "text"),
    [
        ("y ~ x", None, "Pass names and formulas"),
        ({}, None, "an empty mapping"),
        ("Reaction ~ Days + (1 | Subject)", ["Reaction"], "give the right side alone"),
        (SLOPES, ["Reactoin"], "'Reactoin', which is no column"),
        (SLOPES, [], "names no column"),
        (SLOPES, np.zeros((3, 180)), "pass its transpose"),
        (SLOPES, np.zeros(180), "one response per column"),
        (SLOPES, np.zeros((180, 0)), "nothing to fit"),
        (SLOPES, pd.DataFrame({"a": range(180)}, index=range(1, 181)), "another index"),
    ],
)
def test_arguments_that_cannot_be_used_are_explained(sleep, formulas, responses, text):
    with pytest.raises(bl.BayesLMMError, match=text):
        bl.fit_many(formulas, sleep, responses)


def test_rows_are_found_by_their_index(sleep, simulated):
    shuffled = simulated.sample(frac=1.0, random_state=1)
    a, b = bl.fit_many(SLOPES, sleep, simulated), bl.fit_many(SLOPES, sleep, shuffled)
    np.testing.assert_allclose(a.table["criterion"], b.table["criterion"], rtol=1e-12)


def test_names_that_are_no_identifiers_and_weights(sleep, simulated):
    w = np.linspace(0.5, 2.0, len(sleep))
    Y = simulated[["gene 0", "gene 1"]].copy()
    Y.iloc[0, 0] = np.nan
    fits = bl.fit_many(SLOPES, sleep, Y, weights=w)
    own = bl.Model(f"y {SLOPES}", sleep.assign(y=Y["gene 0"]), weights=w).fit()
    assert fits.table.loc["gene 0", "criterion"] == pytest.approx(own.criterion, abs=1e-7)


def test_variances_that_cannot_be_told_apart_are_no_estimates(sleep, simulated):
    twice = sleep.assign(again=sleep["Subject"].astype(str) + "x")
    fits = bl.fit_many("~ Days + (1 | Subject) + (1 | again)", twice, simulated.iloc[:, :3])
    assert fits.table["status"].tolist() == ["not_identified"] * 3
    assert fits.failed == tuple(simulated.columns[:3])
    assert fits.tidy()["p_value"].isna().all()
    single = bl.Model("Reaction ~ Days + (1 | Subject) + (1 | again)", twice).fit(on_failure="ignore")
    assert not single.refit_many(simulated.to_numpy()[:, :2]).ok.any()


def test_responses_are_what_a_model_takes_for_responses(sleep):
    numbers = sleep["Reaction"].round()
    data = sleep.assign(
        long=numbers > 300,
        levels=pd.Categorical(numbers),
        words=pd.Categorical(["u", "v"] * 90),
        whole=numbers.astype("Int64"),
    )
    fits = bl.fit_many("~ Days + (1 | Subject)", data, ["Reaction", "long", "levels", "words", "whole", "Days"])
    assert fits.table["status"].tolist() == ["converged", *["refused"] * 3, "converged", "refused"]
    assert "boolean" in fits.refused["long"]
    assert "categorical" in fits.refused["levels"]
    assert "the formula or an argument uses this column" in fits.refused["Days"]
    own = bl.Model("y ~ Days + (1 | Subject)", sleep.assign(y=numbers)).fit()
    assert fits.table.loc["whole", "criterion"] == pytest.approx(own.criterion, abs=1e-8)


def test_a_dot_leaves_out_the_responses(sleep):
    rng = np.random.default_rng(1)
    data = sleep.assign(twice=2 * sleep["Reaction"], x=rng.normal(size=180))
    fits = bl.fit_many("~ . + (1 | Subject)", data, ["Reaction", "twice"])
    assert [column for column in fits.table if column in ("Days", "x", "twice")] == ["Days", "x"]
    assert fits.table.loc["twice", "x"] == pytest.approx(2 * fits.table.loc["Reaction", "x"], rel=1e-8)


def test_a_fit_without_a_usable_result_has_no_tests(sleep):
    exact = pd.DataFrame({"line": 3.0 + 2.0 * sleep["Days"], "Reaction 2": sleep["Reaction"]})
    tidy = bl.fit_many("~ Days + (1 | Subject)", sleep, exact).tidy().set_index(["name", "parameter"])
    assert tidy.loc["line", "p_value"].isna().all()
    assert tidy.loc[("line", "Days"), "estimate"] == pytest.approx(2.0, rel=1e-9)
    assert tidy.loc[("Reaction 2", "Days"), "p_value"] < 1e-20


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        ({"REML": False}, "reml=True or reml=False"),
        ({"draws": 100}, "posterior="),
        ({"cores": 2}, "n_jobs="),
        ({"posterior": 3}, "at least 30 draws"),
        ({"weihgts": "Days"}, "Did you mean weights"),
    ],
)
def test_arguments_from_elsewhere_are_translated(sleep, argument, text):
    with pytest.raises(bl.BayesLMMError, match=text):
        bl.fit_many("~ Days + (1 | Subject)", sleep, ["Reaction"], **argument)


def test_columns_without_names_are_called_by_their_numbers(sleep):
    fits = bl.fit_many("~ Days + (1 | Subject)", sleep, np.column_stack([sleep["Reaction"], 2 * sleep["Reaction"]]))
    assert 1 in fits
    assert fits[1].sigma == pytest.approx(2 * fits[0].sigma, rel=1e-9)
    by_name = bl.fit_many("~ Days + (1 | Subject)", sleep, {"a": sleep["Reaction"]})
    assert by_name["a"].sigma == pytest.approx(fits[0].sigma, rel=1e-12)
