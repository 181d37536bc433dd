"""The forest plot: what the artists hold and what the labels say; no pixels."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def bcg() -> bl.REMLResult:
    return bl.Model("yi ~ 1 + (1 | trial)", bl.load_dataset("bcg"), residual_sd="sei").fit()


def rows_of(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.get_yticklabels()]


def test_studies_effects_mean_and_new_study(bcg: bl.REMLResult) -> None:
    axes = bl.plot_forest(bcg)
    assert rows_of(axes) == [*map(str, range(1, 14)), "mean (REML)", "new study (REML)"]
    squares = axes.collections[1].get_offsets()
    assert np.allclose(squares[:, 0], bl.load_dataset("bcg")["yi"])
    effects = next(line for line in axes.get_lines() if line.get_label() == "effect, REML")
    assert np.allclose(effects.get_xdata(), bcg.predict()["estimate"])
    diamond = axes.patches[0].get_xy()
    found = bcg.heterogeneity().prediction.loc["z"]
    assert np.ptp(diamond[:, 0]) == pytest.approx(found["conf_high"] - found["conf_low"])
    new = next(line for line in axes.get_lines() if line.get_linewidth() == 3.0).get_xdata()
    assert list(new) == pytest.approx([found["new_low"], found["new_high"]])
    wide = bl.plot_forest(bcg, ddf="knapp-hartung").patches[0].get_xy()
    assert np.ptp(wide[:, 0]) > np.ptp(diamond[:, 0])


def test_both_engines_and_labels(bcg: bl.REMLResult) -> None:
    post = bl.Model("yi ~ 1 + (1 | trial)", bl.load_dataset("bcg"), residual_sd="sei").sample(
        1000, priors={"sd": bl.HalfNormal(0.5)}, random_seed=1, progressbar=False
    )
    names = [f"study {k}" for k in range(13)]
    axes = bl.plot_forest(bl.compare(bcg, post), labels=names)
    assert rows_of(axes) == [*names, "mean (REML)", "mean (posterior)", "new study (REML)", "new study (posterior)"]
    assert rows_of(bl.plot_forest(post))[-1] == "new study (posterior)"


def test_studies_that_were_left_out_have_no_row() -> None:
    data = bl.load_dataset("bcg")
    data.loc[[2, 7], "yi"] = np.nan
    fit = bl.Model("yi ~ 1 + (1 | trial)", data, residual_sd="sei", na_action="exclude").fit()
    effects = next(line for line in bl.plot_forest(fit).get_lines() if line.get_label() == "effect, REML")
    assert np.allclose(effects.get_xdata(), fit.predict()["estimate"].dropna())


def test_moderators_have_no_one_mean() -> None:
    fit = bl.Model("yi ~ ablat + (1 | trial)", bl.load_dataset("bcg"), residual_sd="sei").fit()
    assert rows_of(bl.plot_forest(fit)) == [*map(str, range(1, 14))]


def test_what_cannot_be_drawn(bcg: bl.REMLResult) -> None:
    with pytest.raises(bl.DesignError, match="residual_sd='se'"):
        bl.plot_forest(bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit())
    with pytest.raises(bl.DesignError, match="one name for each of 13 rows"):
        bl.plot_forest(bcg, labels=["a"])
    with pytest.raises(bl.DesignError, match="ddf='satterthwaite' is unknown"):
        bl.plot_forest(bcg, ddf="satterthwaite")
    many = pd.DataFrame({"y": np.linspace(0, 1, 201) ** 2, "s": range(201), "se": 0.1})
    with pytest.raises(bl.DesignError, match="at most 200 rows"):
        bl.plot_forest(bl.Model("y ~ 1 + (1 | s)", many, residual_sd="se").fit())


def test_labels_of_several_lines_have_room_and_rows_stay_with_them(bcg: bl.REMLResult) -> None:
    long = "A long name of a study in a country far away, with two authors and the year of its publication"
    axis = bl.plot_forest(bcg, labels=[f"{long} {k}" if k % 2 else f"short {k}" for k in range(13)])
    axis.figure.canvas.draw()
    boxes = [label.get_window_extent() for label in axis.get_yticklabels()]
    assert not any(a.overlaps(b) for a, b in pairwise(boxes))
    squares = next(c for c in axis.collections if c.get_label() == "study alone").get_offsets()
    np.testing.assert_allclose(squares[:, 1], axis.get_yticks()[:13])


def test_the_report_of_a_meta_analysis_has_the_forest_plot(bcg: bl.REMLResult, tmp_path: Path) -> None:
    page = bl.report(bcg, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Studies with their intervals" in page
    assert "Not drawn" not in page
