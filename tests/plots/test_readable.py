"""Ticks and legends cover nothing, labels say which intervals are drawn, and what cannot be drawn is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations, pairwise
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.dates import date2num
from scipy import stats

import bayeslmm as bl
from bayeslmm.errors import DesignError


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def dyestuff() -> bl.Model:
    return bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))


@pytest.fixture(scope="module")
def dyestuff_both(dyestuff: bl.Model) -> bl.Comparison:
    return bl.compare(dyestuff.fit(), dyestuff.sample(200, random_seed=1))


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng, k = np.random.default_rng(1), np.arange(200)
    columns = {
        "y": rng.normal(size=200),
        "x": 1234.5678 * rng.normal(size=200),
        "z": rng.normal(size=200),
        "g": (k // 10).astype(str),
        "half": np.where(k // 5 % 2, "v", "u"),
        "dose": np.array([0.0, 0.5, 1.0, 10.0, 100.0])[k % 5],
        "thirty": [f"level{j:02d}" for j in k % 30],
        "long": [f"a rather long name of the treatment number {j}" for j in k % 6],
        "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(k % 5, unit="D"),
        "month": pd.Timestamp("2024-01-01") + pd.to_timedelta(k % 30, unit="D"),
        "many": [f"the subject number {j:04d}" for j in k],
    }
    return pd.DataFrame(columns)


def written(axis: Any) -> str:
    return str(axis.get_xlabel()).replace("\n", " ").replace(r"\$", "$")


# Ticks of the interaction plot


def ticks(axis: Any) -> list[str]:
    """Texts of the ticks, which do not touch each other and lie in the figure."""
    figure = axis.figure
    figure.canvas.draw()
    labels = [text for text in axis.get_xticklabels() if text.get_text()]
    low, high = axis.get_xlim()
    labels = [text for text in labels if low <= text.get_position()[0] <= high]
    boxes = [text.get_window_extent() for text in labels]
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    assert all(figure.bbox.y0 <= box.y0 and figure.bbox.x0 <= box.x0 for box in boxes)
    return [text.get_text().replace("\n", " ") for text in labels]


def test_ticks_of_a_continuous_number_are_round(table: pd.DataFrame) -> None:
    fit = bl.Model("y ~ x + (1 | g)", table).fit()
    axis = bl.plot_interaction(fit, "x")
    shown = [float(text.replace("\N{MINUS SIGN}", "-")) for text in ticks(axis)]
    assert len(shown) >= 4 and all(value % 500 == 0 for value in shown)
    (bar,) = axis.containers
    assert np.ptp(bar.lines[0].get_xdata()) == pytest.approx(np.ptp(table["x"]))


def test_values_that_crowd_have_ticks_of_the_scale(table: pd.DataFrame) -> None:
    axis = bl.plot_interaction(table, "dose", "half", y="y")
    assert ticks(axis) == ["0", "20", "40", "60", "80", "100"]
    assert axis.lines[0].get_xdata().tolist() == [0.0, 0.5, 1.0, 10.0, 100.0]


def test_values_with_room_have_their_own_ticks() -> None:
    assert ticks(bl.plot_interaction(bl.load_dataset("Oats"), "nitro", y="yield")) == ["0", "0.2", "0.4", "0.6"]


def test_thirty_names_are_all_named_in_their_order(table: pd.DataFrame) -> None:
    axis = bl.plot_interaction(table, "thirty", "half", y="y")
    assert ticks(axis) == [f"level{k:02d}" for k in range(30)]
    means = table.groupby(["half", "thirty"])["y"].mean()["u"]
    line = axis.lines[0]
    assert [f"level{k:02.0f}" for k in line.get_xdata()] == means.index.tolist()
    assert line.get_ydata() == pytest.approx(means.to_numpy())


def test_long_names_stand_in_lines(table: pd.DataFrame) -> None:
    shown = ticks(bl.plot_interaction(table, "long", "half", y="y"))
    assert shown == sorted(table["long"].unique())


def test_names_without_a_label_are_counted(table: pd.DataFrame) -> None:
    axis = bl.plot_interaction(table, "many", y="y")
    shown = ticks(axis)
    every = next(k for k in range(2, 200) if f"one level in {k} is labelled" in written(axis))
    assert shown == sorted(table["many"])[::every]


def test_dates_stand_at_their_places(table: pd.DataFrame) -> None:
    axis = bl.plot_interaction(table, "day", y="y")
    assert ticks(axis) == [f"2024-01-0{k}" for k in range(1, 6)]
    assert axis.lines[0].get_xdata() == pytest.approx(date2num(sorted(table["day"].unique())))
    axis = bl.plot_interaction(table, "month", "half", y="y")
    shown = ticks(axis)
    assert 3 <= len(shown) <= 8 and axis.xaxis.get_offset_text().get_text().startswith("2024")
    names = [text.get_text() for text in bl.plot_interaction(table, "half", "day", y="y").get_legend().get_texts()]
    assert names == [f"2024-01-0{k}" for k in range(1, 6)]


def test_numbers_that_print_alike_keep_their_places() -> None:
    data = pd.DataFrame({"x": [1000000.25, 1000000.5, 1000000.75], "y": [1.0, 2.0, 3.0]})
    assert bl.plot_interaction(data, "x", y="y").lines[0].get_xdata().tolist() == data["x"].tolist()


def test_a_mean_that_cannot_be_estimated_is_named(table: pd.DataFrame) -> None:
    kept = table[(table["half"] != "u") | (table["dose"] != 10)].assign(dose=lambda own: own["dose"].astype(str))
    axis = bl.plot_interaction(bl.Model("y ~ half * dose + (1 | g)", kept).fit(), "dose", "half")
    assert "not estimable: u at 10.0" in written(axis)


@pytest.mark.parametrize(
    ("change", "x", "by", "words"),
    [
        ({}, "half", "z", "by='z' has 200 values, each at a single value of 'half'.*qcut"),
        ({"y": np.inf}, "dose", "half", "y is infinite in 1 of 200 rows, the first 3"),
        ({"dose": -np.inf}, "dose", None, "dose is infinite in 1 of 200 rows"),
    ],
)
def test_what_would_vanish_is_refused(
    table: pd.DataFrame, change: dict[str, float], x: str, by: str | None, words: str
) -> None:
    data = table.copy()
    for name, value in change.items():
        data.loc[3, name] = value
    with pytest.raises(DesignError, match=words):
        bl.plot_interaction(data, x, by, y="y")


# Intervals


def half_width(axis: Any, row: int) -> float:
    return float(np.ptp(axis.collections[0].get_segments()[row][:, 0]) / 2)


def test_differences_say_how_their_intervals_are_adjusted() -> None:
    oats = bl.load_dataset("Oats")
    model = bl.Model("`yield` ~ Variety + C(nitro) + (1 | Block / Variety)", oats)
    means = bl.compare(model.fit(), model.sample(200, random_seed=1)).means("nitro")
    # The split plot: differences of nitrogen have 51 degrees of freedom of the rests within plots.
    se, df = means.reml.pairs("none").frame.loc[0, ["std_error", "df"]]
    assert df == pytest.approx(51)
    tukey = bl.plot_means(means.pairs())
    assert half_width(tukey, 0) == pytest.approx(stats.studentized_range.ppf(0.95, 4, 51) / np.sqrt(2) * se, rel=1e-4)
    assert "REML intervals adjusted: Tukey's method for comparing 4 means" in written(tukey)
    assert "HDI not adjusted" in written(tukey)
    alone = bl.plot_means(means.pairs("none"))
    assert half_width(alone, 0) == pytest.approx(stats.t.ppf(0.975, 51) * se, rel=1e-6)
    assert "adjusted" not in written(alone)
    assert "Intervals adjusted: the Bonferroni method for 6 tests" in written(
        bl.plot_means(means.reml.pairs("bonferroni"))
    )
    (own,) = means.posteriors.values()
    assert "adjusted" not in written(bl.plot_means(own.pairs()))


def test_a_sweep_says_its_level_and_what_is_negligible(dyestuff: bl.Model) -> None:
    table = dyestuff.sample(1000, random_seed=1).prior_sweep(scales=[0.5, 1], delta=5.0, level=0.8)
    axis = bl.plot_prior_sweep(table)
    assert "80 % HDI" in written(axis) and "below delta = 5, a negligible sd" in written(axis)
    assert "P(sd < 5)" in [text.get_text() for text in axis.texts]
    bare = pd.DataFrame(table)
    bare.attrs = {}
    assert "mean and HDI" in written(bl.plot_prior_sweep(bare))
    assert "negligible" not in written(bl.plot_prior_sweep(table, "sigma"))


# Axes that are given


@pytest.mark.parametrize("draw", [bl.plot_ranef, bl.plot_shrinkage])
@pytest.mark.parametrize("layout", [None, "constrained"])
def test_the_legend_in_a_panel_covers_no_row(dyestuff_both: bl.Comparison, draw: Any, layout: str | None) -> None:
    axis = plt.subplots(1, 2, layout=layout)[1][1]
    draw(dyestuff_both, ax=axis)
    axis.figure.canvas.draw()
    legend = axis.get_legend().get_window_extent()
    assert axis.bbox.x0 <= legend.x0 and legend.x1 <= axis.bbox.x1 and legend.y1 <= axis.bbox.y1
    highest = max(path.get_extents(axis.transData).y1 for c in axis.collections[1:] for path in c.get_paths())
    labels = [text.get_window_extent() for text in axis.get_yticklabels()]
    assert highest > axis.bbox.y0 and not any(box.overlaps(legend) for box in labels)
    ends = [c.get_segments() for c in axis.collections if hasattr(c, "get_segments")]
    tops = [point[1] for own in ends for segment in own for point in segment if not np.isclose(point[1], 1.0)]
    assert max(axis.transData.transform((0.0, top))[1] for top in tops) < legend.y0


def test_labels_of_panels_beside_each_other_do_not_meet() -> None:
    fit = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()
    axes = bl.plot_shrinkage(fit, ax=plt.subplots(1, 2)[1])
    axes[0].figure.canvas.draw()
    boxes = [axis.xaxis.label.get_window_extent() for axis in axes]
    assert not boxes[0].overlaps(boxes[1]) and min(box.y0 for box in boxes) >= 0.0
    # The rows of a level stay at one height.
    assert axes[0].get_ylim() == axes[1].get_ylim()


@pytest.mark.parametrize("projection", ["polar", "3d"])
def test_axes_of_another_projection_are_refused(dyestuff_both: bl.Comparison, projection: str) -> None:
    fit = dyestuff_both.reml
    drawn: list[Callable[[Any], Any]] = [
        lambda ax: bl.plot_ranef(fit, ax=ax),
        lambda ax: bl.plot_interaction(bl.load_dataset("Oats"), "nitro", y="yield", ax=ax),
        lambda ax: bl.plot_profile(fit, "sigma", ax=ax),
    ]
    for draw in drawn:
        with pytest.raises(DesignError, match=f"got {projection} axes"):
            draw(plt.subplots(subplot_kw={"projection": projection})[1])


def test_what_ticks_leave_out_stands_above_the_label() -> None:
    data = bl.load_dataset("sleepstudy")
    data["Reaction"] = data["Reaction"] / 1000 + 1e9 + 0.2
    (axis,) = bl.plot_profile(bl.Model("Reaction ~ Days + (1 | Subject)", data).fit(), "Intercept")
    axis.figure.canvas.draw()
    offset, label = axis.xaxis.get_offset_text(), axis.xaxis.label
    assert offset.get_text().startswith("+1")
    boxes = [text.get_window_extent() for text in (*axis.get_xticklabels(), offset, label)]
    assert label.get_window_extent().y1 <= offset.get_window_extent().y0
    assert not any(a.overlaps(b) for a, b in pairwise(boxes[-2:]))
