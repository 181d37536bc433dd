"""Diagnostic figures show the numbers of the fit: residuals, quantiles with their envelope, effects, influence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayeslmm as bl
from bayeslmm.errors import DesignError
from bayeslmm.figures.residual_plots import envelope


@pytest.fixture(scope="module")
def sleep() -> bl.REMLResult:
    return bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


def points(axis: Any) -> np.ndarray:
    """The points of a panel, those of the first line of more than one kind of marker."""
    return next(np.column_stack(line.get_data()) for line in axis.lines if line.get_marker() in ("o", "."))


def test_panels_hold_residuals_and_fitted_values(sleep: bl.REMLResult) -> None:
    axes = sleep.plot()
    assert [a.get_title() for a in axes] == [
        "Residuals against fitted values",
        "Normal quantiles of residuals",
        "Scale and location",
        "Subject: Intercept",
        "Subject: Days",
    ]
    z = sleep.residuals("standardised").to_numpy()
    np.testing.assert_allclose(points(axes[0]), np.column_stack([sleep.fitted(), z]))
    np.testing.assert_allclose(points(axes[1])[:, 1], np.sort(z))
    np.testing.assert_allclose(points(axes[2])[:, 1], np.sqrt(np.abs(z)))
    assert {text.get_text() for text in axes[0].texts} == {"56", "59", "7"}
    axes[0].figure.canvas.draw()


def test_effects_are_over_their_own_sd(sleep: bl.REMLResult) -> None:
    axis = sleep.plot("ranef")[1]
    b = sleep.ranef()["Subject"]["Days"].to_numpy()
    var = sleep.estimates()["sd_Subject[Days]"] ** 2 - sleep.ranef_variances(fixed_known=False)["Subject"][:, 1, 1]
    np.testing.assert_allclose(points(axis)[:, 1], np.sort(b / np.sqrt(var)))


def test_the_envelope_is_that_of_order_statistics() -> None:
    middle, low, high = envelope(25)
    for k in (1, 7, 13, 25):
        # That the k-th smallest is below x: at least k of 25 are.
        for x, p in ((low[k - 1], 0.025), (middle[k - 1], 0.5), (high[k - 1], 0.975)):
            assert stats.binom.sf(k - 1, 25, stats.norm.cdf(x)) == pytest.approx(p, rel=1e-9)


def test_a_singular_fit_and_many_effects_are_drawn() -> None:
    fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).fit()
    axes = fit.plot()
    assert [text.get_text() for text in axes[3].texts] == ["no variance"]
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"y": rng.normal(size=160), "g": np.tile(np.arange(10), 16)})
    for k in range(7):
        frame[f"f{k}"] = rng.integers(0, 4, 160).astype(str)
    many = bl.Model("y ~ 1 + " + " + ".join(f"(1 | f{k})" for k in range(7)), frame).fit().plot("ranef")
    assert len(many) == 6
    assert "left out: f6: Intercept" in many[0].figure.get_suptitle()
    many[0].figure.canvas.draw()


def test_wrong_panels(sleep: bl.REMLResult) -> None:
    with pytest.raises(DesignError, match="'fitted', 'qq', 'scale' or 'ranef'"):
        sleep.plot("density")
    with pytest.raises(DesignError, match="which is empty"):
        sleep.plot([])


def test_dotplot_of_a_fit(sleep: bl.REMLResult) -> None:
    axes = bl.plot_ranef(sleep)
    effects = sleep.ranef()["Subject"].sort_values("Intercept")
    ticks = [text.get_text() for text in axes[0].get_yticklabels()]
    assert ticks == list(effects.index)
    np.testing.assert_allclose(points_of(axes[0], "BLUP"), effects["Intercept"])
    np.testing.assert_allclose(points_of(axes[1], "BLUP"), effects["Days"])
    sd = np.sqrt(sleep.ranef_variances(fixed_known=False)["Subject"][:, 0, 0])
    ends = next(c for c in axes[0].collections if "interval" in str(c.get_label())).get_segments()
    half = np.sort([(e[1, 0] - e[0, 0]) / 2 for e in ends])
    np.testing.assert_allclose(half, np.sort(stats.norm.ppf(0.975) * sd), rtol=1e-9)
    assert not any("level alone" in str(line.get_label()) for axis in axes for line in axis.lines)


def points_of(axis: Any, label: str) -> np.ndarray:
    line = next(line for line in axis.lines if label in str(line.get_label()))
    return np.asarray(line.get_xdata())


def test_dotplot_says_what_it_leaves_out() -> None:
    fit = bl.Model("diameter ~ 1 + (1 | plate) + (1 | sample)", bl.load_dataset("Penicillin")).fit()
    axes = bl.plot_ranef(fit, levels=10)
    assert [a.get_title() for a in axes] == ["Intercept by plate", "Intercept by sample"]
    assert "10 of 24 levels of plate" in axes[0].figure.get_suptitle()
    with pytest.raises(DesignError, match="plot_ranef"):
        bl.plot_ranef(3)  # type: ignore[arg-type]
    with pytest.raises(DesignError, match="not a grouping factor"):
        bl.plot_ranef(fit, "batch")


def test_influence_is_drawn_in_the_order_of_the_data() -> None:
    frame = bl.load_dataset("sleepstudy")
    frame.loc[44, "Reaction"] *= 10
    fit = bl.Model("Reaction ~ Days + (Days | Subject)", frame).fit()
    found = fit.influence()
    axis = bl.plot_influence(found)
    np.testing.assert_allclose(points(axis)[:, 1], found.cooks_d)
    assert [text.get_text() for text in axis.texts] == ["44"]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["without it not singular"]
    other = bl.plot_influence(fit, "Subject")
    np.testing.assert_allclose(points(other)[:, 1], fit.influence("Subject").cooks_d)
    with pytest.raises(DesignError, match=r"fit\.influence"):
        bl.plot_influence("fit")  # type: ignore[arg-type]


def test_the_levels_of_an_influence_plot_have_their_names() -> None:
    fit = bl.Model("yield ~ nitro + (1 | Block/Variety)", bl.load_dataset("Oats")).fit()
    for by, turned in (("Block", 0.0), ("Block:Variety", 90.0)):
        found = fit.influence(by)
        ticks = bl.plot_influence(found).get_xticklabels()
        assert [tick.get_text() for tick in ticks] == found.dfbetas.index.astype(str).tolist()
        assert {tick.get_rotation() for tick in ticks} == {turned}
    rows = bl.plot_influence(fit.influence())
    assert all(float(tick).is_integer() for tick in rows.get_xticks())
