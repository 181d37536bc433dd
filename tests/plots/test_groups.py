"""The lattice figure: data and lines of every group, against least squares by numpy, and predictions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.errors import DesignError

SLEEP = "Reaction ~ Days + (Days | Subject)"
ALONE, POPULATION, BLUP = "group alone (no pooling)", "population (fixed effects alone)", "REML prediction (BLUP)"
MEAN = "posterior mean, 95 % interval"


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    plt.close("all")


def line(axis: Any, label: str) -> np.ndarray:
    """Points (n, 2) of a line that is drawn, without what is left out of it."""
    (found,) = [own for own in axis.lines if own.get_label() == label]
    points = np.column_stack(found.get_data()).astype(float)
    return points[~np.isnan(points[:, 1])]


def said(figure: Any) -> str:
    return " ".join(figure.get_suptitle().split())


def test_sleepstudy_has_eighteen_panels_with_four_things() -> None:
    data = bl.load_dataset("sleepstudy")
    model = bl.Model(SLEEP, data)
    fit, post = model.fit(), model.sample(500, random_seed=1)
    axes = bl.plot_groups(bl.compare(fit, post))
    assert [axis.get_title() for axis in axes] == sorted(data["Subject"].astype(str).unique())
    at = pd.DataFrame({"Days": np.linspace(0, 9, 4)})
    for axis in axes:
        own = data[data["Subject"].astype(str) == axis.get_title()]
        np.testing.assert_allclose(line(axis, "data"), own[["Days", "Reaction"]])
        slope, intercept = np.polyfit(own["Days"], own["Reaction"], 1)
        x, y = line(axis, ALONE).T
        np.testing.assert_allclose(y, intercept + slope * x, rtol=1e-9)
        b = fit.coef()["Subject"].loc[axis.get_title()]
        x, y = line(axis, BLUP).T
        np.testing.assert_allclose(y, b["Intercept"] + b["Days"] * x, rtol=1e-9)
        x, y = line(axis, POPULATION).T
        np.testing.assert_allclose(y, fit.fixef()["Intercept"] + fit.fixef()["Days"] * x, rtol=1e-9)
        wanted = post.predict(at.assign(Subject=axis.get_title()))
        mean = line(axis, MEAN)
        np.testing.assert_allclose(np.interp(at["Days"], *mean.T), wanted["estimate"], rtol=1e-9)
        corners = axis.collections[0].get_paths()[0].vertices
        for edge, name in (("min", "conf_low"), ("max", "conf_high")):
            ends = [getattr(corners[corners[:, 0] == x, 1], edge)() for x in (0.0, 9.0)]
            np.testing.assert_allclose(ends, wanted[name].iloc[[0, 3]], rtol=1e-9)
    assert axes[0].get_xlim() == axes[17].get_xlim() and axes[0].get_ylim() == axes[17].get_ylim()


def crossed() -> pd.DataFrame:
    """A factor and another number within groups, unequal weights, a group of one row, names with signs."""
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"x": rng.normal(size=60), "z": rng.normal(size=60), "f": rng.choice(["p", "q", "r"], 60)})
    data["a"], data["b"] = np.repeat(["u:1", "v"], 30), np.tile(["s", "t", "w"], 20)
    data["w"] = rng.uniform(0.5, 2, 60)
    data["y"] = 2 * data["x"] + data["z"] + (data["f"] == "q") + rng.normal(size=60)
    data.loc[60] = {"x": 0.3, "z": 0.1, "f": "p", "a": "v", "b": "alone", "w": 1.0, "y": 1.0}
    return data


@pytest.mark.parametrize("formula", ["y ~ x * f + z + (1 | a:b)", "y ~ poly(x, 2) + f + z + (0 + x | a:b)"])
def test_other_columns_are_at_the_values_of_the_group(formula: str) -> None:
    """What a model without its data draws is what `predict` says of rows made by hand."""
    data = crossed()
    fit = bl.Model(formula, data, weights="w").fit()
    axes = bl.plot_groups(fit, "x")
    assert len(axes) == 7
    for axis in axes:
        own = data[data["a"] + ":" + data["b"] == axis.get_title()]
        assert len(line(axis, "data")) == len(own)
        at = pd.DataFrame(
            {"x": line(axis, BLUP)[:, 0], "z": own["z"].mean(), "a": own["a"].iloc[0], "b": own["b"].iloc[0]}
        )
        at["f"] = own.groupby("f").size().idxmax()
        for label, random in ((BLUP, "all"), (POPULATION, None)):
            wanted = fit.predict(at, random=random, ddf="z")["estimate"]
            np.testing.assert_allclose(line(axis, label)[:, 1], wanted, rtol=1e-8, atol=1e-8)
    assert "1 of 7 groups have too few rows for a line of their own" in said(axes[0].figure)


def test_the_line_of_a_group_alone_is_weighted_and_ends_with_its_data() -> None:
    data = crossed()
    data = data[~((data["a"] == "v") & (data["x"] > 0.5))]
    fit = bl.Model("y ~ x + (1 | a)", data, weights="w").fit()
    for axis in bl.plot_groups(fit):
        own = data[data["a"] == axis.get_title()]
        slope, intercept = np.polyfit(own["x"], own["y"], 1, w=np.sqrt(own["w"]))
        x, y = line(axis, ALONE).T
        np.testing.assert_allclose(y, intercept + slope * x, rtol=1e-9, atol=1e-9)
        assert own["x"].min() <= x.min() and x.max() <= own["x"].max()


def test_a_log_needs_the_data_and_takes_them() -> None:
    data = crossed()
    data["x"] = np.exp(data["x"])
    data.loc[5, "y"] = np.nan
    fit = bl.Model("y ~ log(x) + (1 | a)", pd.concat([data] * 2, ignore_index=True)).fit()
    with pytest.raises(DesignError, match=r"values of x on the rows are not kept .* data="):
        bl.plot_groups(fit)
    (first, _) = bl.plot_groups(fit, data=pd.concat([data] * 2, ignore_index=True))
    x, y = line(first, POPULATION).T
    np.testing.assert_allclose(y, fit.fixef()["Intercept"] + fit.fixef()["log(x)"] * np.log(x), rtol=1e-9)
    for other in (data, pd.concat([data.assign(x=1 + data["x"])] * 2, ignore_index=True)):
        with pytest.raises(DesignError, match="table that the model was made of"):
            bl.plot_groups(fit, data=other)


def test_many_groups_are_capped_and_it_is_said() -> None:
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(100), 3)
    data = pd.DataFrame(
        {"y": rng.normal(size=100)[g] + rng.normal(size=300), "x": np.tile([0.0, 1.0, 2.0], 100), "g": g}
    )
    fit = bl.Model("y ~ x + (1 | g)", data).fit()
    b = fit.ranef()["g"]["Intercept"]
    axes = bl.plot_groups(fit)
    ends = b.sort_values().index[[*range(18), *range(82, 100)]]
    assert {axis.get_title() for axis in axes} == set(map(str, ends))
    assert "the 18 lowest and 18 highest REML predictions of Intercept; 64 between them left out" in said(
        axes[0].figure
    )
    assert [axis.get_title() for axis in bl.plot_groups(fit, levels=[7, 3])] == ["3", "7"]


def test_a_posterior_alone_and_a_fit_alone() -> None:
    model = bl.Model("distance ~ age * Sex + (1 | Subject)", bl.load_dataset("Orthodont"))
    post = model.sample(300, random_seed=2)
    (axis,) = bl.plot_groups(post, levels=["F01"])
    assert BLUP not in [own.get_label() for own in axis.lines]
    beta = {name: post.draws(name).mean() for name in post.design.fixed_names}
    x, y = line(axis, POPULATION).T
    wanted = beta["Intercept"] + beta["Sex[Female]"] + (beta["age"] + beta["age:Sex[Female]"]) * x
    np.testing.assert_allclose(y, wanted, rtol=1e-9)
    assert MEAN not in [own.get_label() for own in bl.plot_groups(model.fit(), levels=["F01"])[0].lines]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"x": "Day"}, "It has: Days"),
        ({"x": 3}, "x=3 is no number of the model"),
        ({"group": "subject"}, "group"),
        ({"levels": ["one"]}, "not a level of Subject"),
        ({"levels": 1}, "levels=1"),
        ({"data": 3}, "not a data frame"),
        ({"data": pd.DataFrame({"y": [1]})}, "no column Days"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], said: str) -> None:
    fit = bl.Model(SLEEP, bl.load_dataset("sleepstudy")).fit()
    with pytest.raises(bl.BayesLMMError, match=said):
        bl.plot_groups(fit, **arguments)


def test_a_model_without_numbers_has_no_lines() -> None:
    with pytest.raises(DesignError, match="plot_shrinkage"):
        bl.plot_groups(bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit())
