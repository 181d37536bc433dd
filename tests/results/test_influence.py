"""Influence of rows and groups: refits without them, lme4's numbers, a mistyped value, and what is said of it."""

from __future__ import annotations

import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.errors import DesignError, FitError

LME4: dict[str, Any] = json.loads((Path(__file__).parent / "influence_lme4.json").read_text())["deleted"]


@pytest.fixture(scope="module")
def sleep() -> bl.REMLResult:
    return bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()


@pytest.fixture(scope="module")
def mistyped() -> bl.REMLResult:
    frame = bl.load_dataset("sleepstudy")
    frame.index = [f"row {k}" for k in frame.index]
    frame.loc["row 44", "Reaction"] *= 10
    return bl.Model("Reaction ~ Days + (Days | Subject)", frame).fit()


def by_hand(fit: bl.REMLResult, without: bl.REMLResult) -> dict[str, float]:
    """The statistics of one case from two fits, as the textbooks define them."""
    move = fit.fixef().to_numpy() - without.fixef().to_numpy()
    whole, less = fit.vcov().to_numpy(), without.vcov().to_numpy()
    p = move.size
    return {
        "cooks_d": move @ np.linalg.solve(whole, move) / p,
        "mdffits": move @ np.linalg.solve(less, move) / p,
        "covratio": np.linalg.det(less) / np.linalg.det(whole),
        "sigma": without.sigma / fit.sigma - 1.0,
    }


@pytest.mark.parametrize("level", ["308", "337"])
def test_a_group_by_hand(sleep: bl.REMLResult, level: str) -> None:
    data = bl.load_dataset("sleepstudy")
    without = bl.Model(sleep.formula, data[data["Subject"].astype(str) != level]).fit()
    found = sleep.influence("Subject")
    for name, value in by_hand(sleep, without).items():
        assert found.table.loc[level, name] == pytest.approx(value, rel=1e-7), name
    moved = (sleep.fixef() - without.fixef()) / without.std_error()
    np.testing.assert_allclose(found.dfbetas.loc[level], moved, rtol=1e-7)
    np.testing.assert_allclose(found.estimates.loc[level], without.estimates(), rtol=1e-7)
    change = without.estimates() / sleep.estimates() - 1.0
    corr = "corr_Subject[Intercept.Days]"
    for label in found.changes.columns:
        expected = without.estimates()[corr] - sleep.estimates()[corr] if label == corr else change[label]
        assert found.changes.loc[level, label] == pytest.approx(expected, rel=1e-6)


def test_a_row_by_hand(sleep: bl.REMLResult) -> None:
    without = bl.Model(sleep.formula, bl.load_dataset("sleepstudy").drop(59)).fit()
    found = sleep.influence()
    assert found.table.index[0] == 59
    for name, value in by_hand(sleep, without).items():
        assert found.table.loc[59, name] == pytest.approx(value, rel=1e-7), name
    assert found.table["cooks_d"].is_monotonic_decreasing
    assert list(found.cooks_d.index) == list(range(180))
    assert found.table.loc[59, "residual"] == pytest.approx(sleep.residuals("standardised")[59])


def test_at_given_theta_it_is_the_refit_with_theta_fixed(sleep: bl.REMLResult) -> None:
    data = bl.load_dataset("sleepstudy").drop([130])
    without = bl.Model(sleep.formula, data).fit(fix={"theta": sleep.theta})
    found = sleep.influence(theta="fixed", cases=[130])
    assert len(found) == 1
    for name, value in by_hand(sleep, without).items():
        assert found.table.loc[130, name] == pytest.approx(value, rel=1e-8), name


@pytest.mark.parametrize(("case", "group"), [("weighted", "Subject"), ("crossed", "sample"), ("sleepstudy", "Subject")])
def test_lme4_has_the_same_numbers(case: str, group: str) -> None:
    sleep, w = bl.load_dataset("sleepstudy"), np.resize([0.5, 1.0, 2.0, 1.5], 180)
    model = {
        "weighted": lambda: bl.Model("Reaction ~ Days + (1 | Subject)", sleep, weights=w),
        "crossed": lambda: bl.Model("diameter ~ 1 + (1 | plate) + (1 | sample)", bl.load_dataset("Penicillin")),
        "sleepstudy": lambda: bl.Model("Reaction ~ Days + (Days | Subject)", sleep),
    }[case]()
    fit, reference = model.fit(), LME4[case]
    found, n, p = fit.influence(group), len(reference["levels"]), fit.design.p
    # What lme4's optimiser leaves of theta, by the digits to which its refits agree among themselves.
    near = 1e-8 if case == "weighted" else 1e-4
    assert list(found.dfbetas.index) == reference["levels"]
    moved = found.estimates[list(fit.design.fixed_names)].to_numpy() - fit.fixef().to_numpy()
    np.testing.assert_allclose(moved, np.reshape(reference["dfbeta"], (n, p)), rtol=near, atol=near)
    # lme4 and car give without less with, and multiply the distance by (n - p) / n.
    np.testing.assert_allclose(found.cooks_d * (n - p) / n, reference["cooks"], rtol=near, atol=near)
    if reference["dfbetas"]:
        np.testing.assert_allclose(-found.dfbetas, reference["dfbetas"], rtol=near, atol=near)


def test_a_mistyped_value_leads_the_list(mistyped: bl.REMLResult) -> None:
    assert mistyped.is_singular
    found = mistyped.influence()
    assert found.table.index[0] == "row 44"
    assert list(found.flips.index) == ["row 44"]
    text = str(found)
    assert "Without row 44 the fit is not singular." in text
    assert max(map(len, text.split("\n"))) <= 80
    assert "<table" in found._repr_html_()


def test_a_thousand_rows_take_under_a_second() -> None:
    rng = np.random.default_rng(1)
    g, x = np.repeat(np.arange(100), 10), np.tile(np.arange(10.0), 100)
    y = 1 + x + rng.normal(size=100)[g] + 0.3 * rng.normal(size=100)[g] * x + rng.normal(size=1000)
    fit = bl.Model("y ~ x + (x | g)", pd.DataFrame({"y": y, "x": x, "g": g})).fit()
    fit.influence(cases=[0, 1])
    start = time.process_time()
    found = fit.influence()
    took = time.process_time() - start
    assert len(found) == 1000
    # 0.6 s of one core; the rest is for a machine that is busy with other things.
    assert took < 1.5


def test_groups_given_row_by_row_are_groups_of_the_model(sleep: bl.REMLResult) -> None:
    data = bl.load_dataset("sleepstudy")
    own, given = sleep.influence("Subject"), sleep.influence(data["Subject"].astype(str))
    assert given.by == "Subject"
    np.testing.assert_allclose(given.cooks_d.loc[own.cooks_d.index], own.cooks_d, rtol=1e-9)
    late = sleep.influence(np.where(data["Days"] > 7, "late", "early"))
    assert set(late.table.index) == {"late", "early"}


def test_cases_that_something_rests_on_are_named() -> None:
    rng = np.random.default_rng(4)
    frame = pd.DataFrame({"y": rng.normal(size=24), "g": np.tile(list("abcdef"), 4), "k": ["only"] + ["rest"] * 23})
    fit = bl.Model("y ~ k + (1 | g)", frame).fit()
    found = fit.influence()
    assert found.without == (0,)
    assert np.isnan(found.table.loc[0, "cooks_d"])
    assert found.table["cooks_d"].notna().sum() == 23
    assert "Cannot be left out" in str(found)
    two = bl.Model("y ~ 1 + (1 | g)", frame[frame["g"].isin(["a", "b"])]).fit().influence("g")
    assert set(two.without) == {"a", "b"}


def test_with_a_posterior_the_pareto_k_stands_beside() -> None:
    model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))
    fit, post = model.fit(), model.sample(800, random_seed=1)
    found = fit.influence("Batch", posterior=post)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bl.ConvergenceWarning)
        left = post.loo("group")
    np.testing.assert_allclose(found.in_order["pareto_k"], left.pareto_k)
    np.testing.assert_allclose(found.in_order["p_loo"], left.p_loo_i)
    alone = post.influence("Batch")
    assert list(alone.index) == list(found.dfbetas.index)
    assert list(fit.influence(posterior=post, cases=[3, 1]).in_order.index) == [3, 1]
    other = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).fit()
    with pytest.raises(DesignError, match="another model"):
        other.influence(posterior=post)


def test_wrong_calls_say_what_there_is(sleep: bl.REMLResult) -> None:
    with pytest.raises(DesignError, match=r"by='Days' is no grouping factor of the model. It has: Subject"):
        sleep.influence("Days")
    with pytest.raises(DesignError, match="by has 3 groups of rows; the fit has 180 rows"):
        sleep.influence(["a", "b", "c"])
    with pytest.raises(DesignError, match="cases names 999"):
        sleep.influence(cases=[999])
    with pytest.raises(DesignError, match="'estimated' or 'fixed'"):
        sleep.influence(theta="free")  # type: ignore[arg-type]
    with pytest.raises(DesignError, match="posterior"):
        sleep.influence(posterior=sleep)  # type: ignore[arg-type]
    with pytest.raises(DesignError, match="missing values"):
        sleep.influence([None] + ["a"] * 179)


def test_refits_one_after_the_other_are_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    from bayeslmm.results import influence_statistics

    fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"), store="hierarchy").fit()
    monkeypatch.setattr(influence_statistics, "_MOST_ALONE", 10)
    with pytest.raises(FitError, match="30 refits of this design would be made one after the other"):
        fit.influence()
    assert len(fit.influence(theta="fixed")) == 30
    assert len(fit.influence(cases=[0, 1])) == 2
