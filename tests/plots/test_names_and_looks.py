"""Names of points cover nothing; no two power curves look alike, and what belongs together looks so."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Annotation

import bayeslmm as bl
from bayeslmm.plots.power import plot_power


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    plt.close("all")


def heavy() -> pd.DataFrame:
    """Residuals with three outliers on one side, whose rows have long names."""
    rng = np.random.default_rng(2)
    g = np.repeat(np.arange(12), 5)
    y = rng.normal(size=12)[g] + 0.5 * rng.normal(size=60)
    y[[7, 21, 40]] -= 4
    return pd.DataFrame({"y": y, "g": g}, index=[f"plot {k} of the field" for k in range(60)])


@pytest.mark.parametrize("data", ["sleepstudy", "heavy"])
def test_names_of_points_cover_neither_points_nor_names(data: str) -> None:
    formula, frame = "Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")
    if data == "heavy":
        formula, frame = "y ~ 1 + (1 | g)", heavy()
    axes = bl.Model(formula, frame).fit().plot()
    axes[0].figure.canvas.draw()
    for axis in axes:
        named = [text for text in axis.texts if isinstance(text, Annotation)]
        assert len(named) == 3
        boxes = [text.get_window_extent() for text in named]
        assert not any(a.overlaps(b) for a, b in combinations(boxes, 2)), axis.get_title()
        line = next(line for line in axis.lines if line.get_marker() == "o")
        points = axis.transData.transform(np.column_stack(line.get_data()))
        assert not any(box.count_contains(points) for box in boxes), axis.get_title()


def curves(axis: Any) -> dict[str, tuple[str, str, str]]:
    handles, labels = axis.get_legend_handles_labels()
    found = {}
    for handle, label in zip(handles, labels, strict=True):
        if not label.startswith("singular fits"):
            line = handle.lines[0]
            found[label.replace("\n", " ")] = (to_hex(line.get_color()), line.get_marker(), line.get_linestyle())
    return found


def studied(parameters: list[str], tests: list[str], sizes: list[int]) -> pd.DataFrame:
    rows = [(n, p, t, 0.5, 0.01, 0.1) for n in sizes for p in parameters for t in tests]
    return pd.DataFrame(rows, columns=["groups", "parameter", "test", "power", "mc_error", "singular"])


def test_curves_are_told_apart_beyond_the_palette() -> None:
    names = [f"x{k}" for k in range(20)]
    table = studied(names, ["satterthwaite", "hdi"], [10, 20])
    found = curves(plot_power(table, ["groups"], 0.05, "power", "y ~ x"))
    assert len(found) == 40 and len(set(found.values())) == 40
    for k, name in enumerate(names):
        own = [look for label, look in found.items() if label.startswith(f"{name} (")]
        # One colour of a quantity, whatever the test; the tests differ in mark and line.
        assert own[0][0] == own[1][0] and own[0][1] != own[1][1] and own[0][2] != own[1][2]
        if k < 7:
            assert own[0][1:] == found["x0 (satterthwaite)"][1:] and own[1][1:] == found["x0 (hdi)"][1:]
    assert len({look[0] for look in found.values()}) == 7


def test_the_legend_of_many_curves_stays_in_the_figure() -> None:
    table = studied([f"measurement_{k}" for k in range(14)], ["satterthwaite", "hdi"], [10, 20])
    axis = plot_power(table, ["groups"], 0.05, "power", "y ~ x")
    axis.figure.canvas.draw()
    legend, whole = axis.get_legend().get_window_extent(), axis.figure.bbox
    assert whole.x0 <= legend.x0 and legend.x1 <= whole.x1 and whole.y0 <= legend.y0 and legend.y1 <= whole.y1
    title = axis._left_title.get_window_extent()
    assert not title.overlaps(legend)
