"""What tests of zero variances say, how many refits they run unasked, and which arguments they refuse."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayeslmm as bl
from bayeslmm.boundary import zero_methods, zero_tests
from bayeslmm.boundary.zero_methods import unasked_row
from bayeslmm.boundary.zero_test import disagreement
from bayeslmm.errors import DesignError, FitError
from bayeslmm.inference.null_model import NullModel, Removal, null_model
from bayeslmm.inference.rlrt import SEED


@pytest.fixture(scope="module")
def sleep() -> bl.REMLResult:
    return bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()


def oneway(sizes: list[int], seed: int) -> tuple[pd.DataFrame, bl.REMLResult]:
    g, rng = np.repeat(np.arange(len(sizes)), sizes), np.random.default_rng(seed)
    frame = pd.DataFrame({"g": g, "y": rng.normal(size=len(sizes))[g] + rng.normal(size=g.size)})
    return frame, bl.Model("y ~ 1 + (1 | g)", frame).fit()


def autoregressive() -> bl.REMLResult:
    rng = np.random.default_rng(4)
    frame = pd.DataFrame({"g": np.repeat(np.arange(10), 4), "t": np.tile(np.arange(4), 10)})
    frame["y"] = rng.normal(size=40) + rng.normal(size=10)[frame["g"]]
    return bl.Model("y ~ 1 + ar1(0 + C(t) | g)", frame, saturated="allow").fit()


def test_f_and_the_likelihood_weigh_groups_differently() -> None:
    frame, fit = oneway([1, 1, 1, 1, 1, 1, 60, 40], 100)
    F, p = stats.f_oneway(*(y.to_numpy() for _, y in frame.groupby("g")["y"]))
    test = fit.test_zero("g", draws=1000)
    assert (fit.estimates()["sd_g[Intercept]"], test.p_value) == (0.0, 1.0)
    assert test.table.loc["F (Wald)", "statistic"] == pytest.approx(F, rel=1e-9)
    assert p < 0.05
    assert f"(p = {p:.3g})" in disagreement(test)
    assert "the estimate is on the boundary" in test.conclusion
    assert disagreement(test) in test.conclusion
    by_f = fit.test_zero("g", method="F", draws=1000).conclusion
    assert by_f.startswith(f"p = {p:.3g}: so large an F would be rare")
    assert "exact RLRT, p = 1" in by_f


def test_they_agree_in_a_balanced_layout() -> None:
    for seed in range(6):
        _, fit = oneway([5] * 6, seed)
        assert disagreement(fit.test_zero("g")) == ""


def test_no_rise_without_a_zero_estimate_is_not_called_a_boundary() -> None:
    _, fit = oneway([5] * 6, 1)
    test = fit.test_zero("g")
    assert fit.estimates()["sd_g[Intercept]"] > 0.0
    stuck = replace(test, statistic=0.0, rise=0.0, p_value=1.0, _change=-0.25)
    assert not test._zero
    assert "it changes by -0.25" in stuck.conclusion
    assert "local minimum" in stuck.conclusion
    assert "boundary" not in stuck.conclusion
    assert bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).fit().test_zero("Batch")._zero


def test_a_bound_is_not_read_as_a_p_value(sleep: bl.REMLResult) -> None:
    few = sleep.test_zero("sd_Subject[Days]", method="bootstrap", refits=15)
    assert few.conclusion.startswith("p is at most 0.0625 (none of 15 refits reached the rise of 42.84)")
    assert "not unusual" not in few.conclusion
    many = sleep.test_zero("sd_Subject[Days]", method="bootstrap", refits=60)
    assert many.conclusion.startswith("p is at most 0.0164 (none of 60 refits")
    assert "rare" in many.conclusion
    assert "bootstrap: no refit of 60 was as large as 42.84, so that p is an upper bound (p < 0.0167)" in " ".join(
        str(many).split()
    )
    drawn = oneway([3, 5, 7, 9, 11, 13], 2)[1].test_zero("g", draws=200)
    assert drawn.statistic > 10.0
    assert drawn.conclusion.startswith("p is at most 0.00498 (none of 200 draws")


def test_the_floor_of_a_simulation_is_called_an_upper_bound() -> None:
    """With no draw as large the p value is 1 / (draws + 1), whatever the statistic."""
    frame = bl.load_dataset("sleepstudy").iloc[5:]
    fit = bl.Model("Reaction ~ Days + (1 | Subject)", frame).fit()
    test = fit.test_zero("Subject")
    said = "exact RLRT: no draw of 100,000 was as large as 113.2, so that p is an upper bound (p < 1e-05)"
    assert test.p_value == pytest.approx(1 / 100_001, rel=1e-12)
    assert said in " ".join(str(test).split())
    assert said in test._repr_html_().replace("&lt;", "<")
    assert said.split(": ")[1] in bl.ranova(fit).table["note"].iloc[0]
    report = fit.boundary(posterior="none", detail="full")
    for text in (str(report), report._repr_html_()):
        assert said in " ".join(text.replace("&lt;", "<").split())


def test_a_simulation_that_reached_the_statistic_is_no_bound() -> None:
    test = oneway([3, 5, 7, 9, 11, 13], 7)[1].test_zero("g", draws=2000)
    assert test.p_value > 1.5 / 2001
    assert "upper bound" not in str(test)
    exact = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit().test_zero("Batch")
    assert "upper bound" not in str(exact)


def count(row: zero_methods.Row | None) -> int:
    """Refits of a row, by what it says."""
    assert row is not None
    return int(row.distribution.split(", ")[1].removesuffix(" refits").replace(",", ""))


def compound() -> NullModel:
    rng = np.random.default_rng(4)
    frame = pd.DataFrame({"g": np.repeat(np.arange(8), 6), "t": np.tile(list("abc"), 16)})
    frame["y"] = rng.normal(size=48) + rng.normal(size=8)[frame["g"]]
    return null_model(bl.Model("y ~ t + cs(0 + t | g)", frame).fit().optimum, Removal(0, (0, 1, 2)))


def test_refits_that_nobody_asked_for_are_few_where_each_takes_long() -> None:
    model = compound()
    assert not model.together
    found = unasked_row(model, [], None, 1, budget=900.0)
    assert found is not None
    assert 50 < count(found) < 1000
    assert f"{count(found)} of 1,000 refits were run" in found.note
    assert "refits= runs as many as you ask for" in found.note
    assert count(unasked_row(model, [], 55, 1, budget=1.0)) == 55
    assert count(zero_methods.bootstrap_row(model, None, 1, 1.0)) == 50


def test_refits_that_take_long_are_not_run_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    model = compound()
    monkeypatch.setattr(zero_methods, "_LITTLE", 100.0)
    found = unasked_row(model, [], None, 1, budget=100.0)
    assert found is not None
    assert not found.works
    assert "refits= runs as many" in found.note
    assert count(unasked_row(model, [], 5, 1, budget=100.0)) == 5


def test_refits_of_a_small_design_are_all_run(sleep: bl.REMLResult) -> None:
    model = null_model(sleep.optimum, Removal(0, (0, 1)))
    assert model.together
    assert model.refit_cost < 5.0
    found = sleep.test_zero("Subject").table.loc[["bootstrap"], ["distribution", "note"]].to_numpy()[0]
    assert "1,000 refits" in found[0]
    assert "refits were run" not in found[1]
    assert "300 refits" in sleep.test_zero("Subject", refits=300).table.loc["bootstrap", "distribution"]


def test_a_table_shares_the_time_of_one_test(sleep: bl.REMLResult, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zero_tests, "WHOLE", 600.0)
    model = null_model(sleep.optimum, Removal(0, (0, 1)))
    one = count(unasked_row(model, [], None, SEED, budget=200.0))
    assert 50 < one < 500
    assert f"{one} of 1,000 refits" in bl.ranova(sleep).table["note"].iloc[0]
    assert "of 1,000 refits" not in str(bl.ranova(sleep, refits=120))


def test_no_method_is_said_not_raised() -> None:
    fit = autoregressive()
    found = bl.ranova(fit, refits=0)
    assert found.table["method"].tolist() == ["none"]
    assert found.table["p_value"].isna().all()
    assert "refits=0" in found.table["note"].iloc[0]
    assert "refits=0" in str(found)
    test = fit.test_zero("g", refits=0)
    assert np.isnan(test.p_value)
    assert test.rise > 0
    assert "there is no p value" in str(test)
    with pytest.raises(DesignError, match="does not apply"):
        fit.test_zero("g", method="chi-bar-square")


@pytest.mark.parametrize(
    "arguments",
    [
        {"draws": 0},
        {"draws": -1},
        {"draws": "a"},
        {"draws": 2.5},
        {"draws": None},
        {"refits": -1},
        {"refits": "a"},
        {"refits": 2.5},
        {"refits": None},
        {"refits": True},
    ],
)
def test_counts_that_are_none(sleep: bl.REMLResult, arguments: dict[str, Any]) -> None:
    (name, value), *_ = arguments.items()
    for compute in (
        lambda: sleep.test_zero("Subject", **arguments),
        lambda: sleep.test_zero("Subject", method="bootstrap", **arguments),
        lambda: bl.ranova(sleep, **arguments),
    ):
        with pytest.raises(DesignError, match=f"{name}={value!r} is not a whole number"):
            compute()


def test_a_bootstrap_without_refits(sleep: bl.REMLResult) -> None:
    with pytest.raises(DesignError, match="refits=0 is not a whole number of at least 1"):
        sleep.test_zero("Subject", method="bootstrap", refits=0)


@pytest.mark.parametrize("seed", ["a", -1, 1.5])
def test_no_seed(seed: Any) -> None:
    fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()
    # balanced: nothing is simulated
    with pytest.raises(FitError, match="is no seed"):
        fit.test_zero("Batch", random_seed=seed)
    with pytest.raises(FitError, match="is no seed"):
        bl.ranova(fit, random_seed=seed)


def test_what_ranova_takes() -> None:
    with pytest.raises(DesignError, match="not 'x'"):
        bl.ranova("x")  # type: ignore[arg-type]
