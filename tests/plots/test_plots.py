"""Figures: what the artists hold and what the labels say; no pixels."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

import bayeslmm as bl
from bayeslmm.comparison import Comparison
from bayeslmm.errors import DesignError
from bayeslmm.plots.shrinkage import no_pooling


@pytest.fixture(scope="module")
def sleep() -> Comparison:
    model = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy"))
    return bl.compare(model.fit(), model.sample(1000, random_seed=1))


@pytest.fixture(scope="module")
def zero() -> Comparison:
    model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2"))
    return bl.compare(model.fit(), model.sample(2000, random_seed=1))


@pytest.fixture(scope="module")
def long_names() -> Comparison:
    """The sleep study under names that need backquotes and more than a line."""
    names = {
        "Reaction": "score of the test (points)",
        "Days": "number of weeks of schooling received",
        "Subject": "identifier of the school class",
    }
    data = bl.load_dataset("sleepstudy").rename(columns=names)
    data[names["Subject"]] = [f"class number {level} of the school" for level in data[names["Subject"]]]
    y, x, g = (f"`{name}`" for name in names.values())
    model = bl.Model(f"{y} ~ {x} + ({x} | {g})", data)
    return bl.compare(model.fit(), model.sample(500, random_seed=1))


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    plt.close("all")


def line(axes, label):
    """Data of the line with a label."""
    found = [artist for artist in axes.get_lines() if artist.get_label() == label]
    assert len(found) == 1, (label, [artist.get_label() for artist in axes.get_lines()])
    return np.asarray(found[0].get_xdata(), dtype=float), np.asarray(found[0].get_ydata(), dtype=float)


def legend_texts(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_variance_has_a_panel_for_every_parameter_but_the_fixed(sleep):
    axes = bl.plot_variance(sleep)
    titles = [axis.get_title() for axis in axes]
    assert titles == ["sd_Subject[Intercept]", "sd_Subject[Days]", "corr_Subject[Intercept.Days]", "sigma"]


def test_variance_draws_the_numbers_of_the_table(sleep):
    for axis in bl.plot_variance(sleep):
        row = sleep.table.loc[axis.get_title()]
        assert list(line(axis, "posterior 95 % HDI")[0]) == [row["hdi_low"], row["hdi_high"]]
        assert list(line(axis, "REML 95 % profile")[0]) == [row["reml_low"], row["reml_high"]]
        assert line(axis, "REML")[0] == [row["reml"]]
        assert line(axis, "ML")[0] == [row["ml"]]
        assert line(axis, "posterior median")[0] == [row["median"]]


def test_variance_densities_integrate_to_one_and_start_at_zero(zero):
    axis = bl.plot_variance(zero)[0]
    x, y = line(axis, "posterior density")
    assert x[0] == 0
    assert np.argmax(y) == 0
    assert np.trapezoid(y, x) == pytest.approx(0.995, abs=0.01)


def test_variance_legend_names_the_level(zero):
    both = bl.compare(zero.reml, zero.posterior, level=0.9)
    figure = bl.plot_variance(both)[0].figure
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "posterior 90 % HDI" in texts
    assert "REML 90 % profile" in texts


def test_boundary_shows_likelihood_prior_and_posterior(zero):
    axes = bl.plot_boundary(zero, "sd_Batch")
    assert axes.get_xlim()[0] == 0
    assert axes.get_xlabel() == "sd_Batch[Intercept] (units of Yield)"
    x, likelihood = line(axes, "REML profile likelihood (scaled)")
    _, posterior = line(axes, "posterior density")
    prior_label = f"prior: {zero.posterior.priors.sds[0][0]}"
    _, prior = line(axes, prior_label)
    np.testing.assert_allclose(prior, np.exp(zero.posterior.priors.sds[0][0].log_density(x)))
    assert np.argmax(likelihood) == 0
    assert likelihood[0] == pytest.approx(posterior.max())
    _, product = line(axes, "profile likelihood x prior")
    assert np.trapezoid(product, x) == pytest.approx(1)
    np.testing.assert_allclose(product / product[0], likelihood * prior / (likelihood[0] * prior[0]), rtol=1e-8)


def test_boundary_likelihood_is_the_profile_of_the_criterion(sleep):
    axes = bl.plot_boundary(sleep, "sd_Subject[Days]")
    x, y = line(axes, "REML profile likelihood (scaled)")
    assert x[np.argmax(y)] == pytest.approx(sleep.table.loc["sd_Subject[Days]", "reml"], rel=0.03)
    # At the ends of the profile interval the criterion is 3.84 above its minimum.
    ends = sleep.table.loc["sd_Subject[Days]", ["reml_low", "reml_high"]].to_numpy(dtype=float)
    np.testing.assert_allclose(np.interp(ends, x, y) / y.max(), np.exp(-3.841459 / 2), rtol=0.1)


def test_boundary_marks_estimate_delta_and_probability(zero):
    axes = bl.plot_boundary(zero, "sd_Batch[Intercept]")
    row = zero.table.loc["sd_Batch[Intercept]"]
    assert "REML estimate 0" in legend_texts(axes)
    assert f"P(sd < {row['delta']:.2g}) = {row['p_below']:.2g}" in legend_texts(axes)
    shaded = axes.collections[-1].get_paths()[0].vertices[:, 0]
    assert shaded.max() == pytest.approx(row["delta"])
    assert shaded.min() == 0


def test_boundary_units_of_a_slope(sleep):
    axes = bl.plot_boundary(sleep, "sd_Subject[Days]")
    assert axes.get_xlabel() == "sd_Subject[Days] (units of Reaction per unit of Days)"


def test_boundary_draws_into_given_axes(zero):
    _, given = plt.subplots()
    assert bl.plot_boundary(zero, "sd_Batch", ax=given) is given


@pytest.mark.parametrize("label", ["sd_Nobody", "Intercept", "corr_Subject[Intercept.Days]", "sd_Subject"])
def test_boundary_refuses_what_is_no_sd(sleep, label):
    with pytest.raises(DesignError):
        bl.plot_boundary(sleep, label)


def test_shrinkage_places_predictions_of_both_engines(sleep):
    axes = bl.plot_shrinkage(sleep)
    assert [axis.get_title() for axis in axes] == ["Intercept by Subject", "Days by Subject"]
    blups, means = sleep.reml.ranef()["Subject"], sleep.posterior.ranef()["Subject"]
    for axis, effect in zip(axes, ("Intercept", "Days"), strict=True):
        levels = [tick.get_text() for tick in axis.get_yticklabels()]
        np.testing.assert_allclose(line(axis, "REML prediction (BLUP)")[0], blups.loc[levels, effect])
        bars = axis.containers[0]
        np.testing.assert_allclose(bars.lines[0].get_xdata(), means.loc[levels, effect])


def test_shrinkage_pulls_every_level_towards_the_mean(sleep):
    alone = no_pooling(sleep, "Subject")
    blup = sleep.reml.ranef()["Subject"].to_numpy()
    assert np.all(np.abs(blup).sum(0) < np.abs(alone).sum(0))


def test_no_pooling_is_least_squares_of_each_level(sleep):
    data = bl.load_dataset("sleepstudy")
    alone = no_pooling(sleep, "Subject")
    fixed = sleep.reml.fixef().to_numpy()
    levels = [str(level) for level in sleep.reml.ranef()["Subject"].index]
    for k, level in enumerate(levels):
        rows = data[data["Subject"].astype(str) == level]
        slope, intercept = np.polyfit(rows["Days"], rows["Reaction"], 1)
        np.testing.assert_allclose(alone[k], np.array([intercept, slope]) - fixed, rtol=1e-8)


def test_shrinkage_of_a_singular_fit_is_ordered_by_the_posterior(zero):
    (axis,) = bl.plot_shrinkage(zero)
    assert not line(axis, "REML prediction (BLUP)")[0].any()
    means = axis.containers[0].lines[0].get_xdata()
    assert np.all(np.diff(means) >= 0)


def test_shrinkage_intervals_follow_the_level(zero):
    narrow = bl.compare(zero.reml, zero.posterior, level=0.5)
    widths = []
    for both in (zero, narrow):
        (axis,) = bl.plot_shrinkage(both)
        segments = axis.containers[0].lines[2][0].get_segments()
        widths.append(np.array([s[1, 0] - s[0, 0] for s in segments]))
    assert np.all(widths[1] < widths[0])


def test_shrinkage_names_what_it_does_not_know(sleep):
    with pytest.raises(DesignError, match="Subject"):
        bl.plot_shrinkage(sleep, group="Nobody")
    with pytest.raises(DesignError, match="Intercept, Days"):
        bl.plot_shrinkage(sleep, effect="Nights")


def test_figures_keep_their_labels_inside(sleep):
    figure = bl.plot_shrinkage(sleep)[0].figure
    figure.canvas.draw()
    box = figure.get_tightbbox()
    assert box.x0 >= -0.01
    assert box.x1 <= figure.get_figwidth() + 0.01
    assert box.y0 >= -0.01
    assert box.y1 <= figure.get_figheight() + 0.01


def words(figure):
    """Texts that are shown, with their boxes in pixels."""
    figure.canvas.draw()
    beyond = set()
    for axis in (own for axes in figure.axes for own in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks():
            if not low <= tick.get_loc() <= high:
                beyond |= {tick.label1, tick.label2}
    hidden = {text for axes in figure.axes if not axes.get_visible() for text in axes.findobj(Text)}
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    texts = [text for text in texts if text not in beyond | hidden]
    return [(text.get_text(), text.get_window_extent()) for text in texts]


def assert_readable(figure):
    """All texts are inside the figure, none lies on another, and none has the quotes of a formula."""
    shown = [(text, box) for text, box in words(figure) if box.width > 0]
    width, height = figure.canvas.get_width_height()
    for text, box in shown:
        assert "`" not in text
        inside = box.x0 >= -1 and box.x1 <= width + 1 and box.y0 >= -1 and box.y1 <= height + 1
        assert inside, (text, box, width, height)
    boxes = np.array([box.extents for _, box in shown])
    corners = np.minimum(boxes[:, None, 2:], boxes[:, 2:]) - np.maximum(boxes[:, None, :2], boxes[:, :2])
    overlap = np.argwhere(np.triu((corners > 1).all(-1), 1))
    assert not overlap.size, [(shown[i][0], shown[j][0]) for i, j in overlap]


def test_long_names_are_readable(long_names):
    assert_readable(bl.plot_variance(long_names)[0].figure)
    assert_readable(bl.plot_shrinkage(long_names)[0].figure)
    for p in long_names.parameters[:2]:
        assert_readable(bl.plot_boundary(long_names, p.label).figure)


def test_short_names_are_readable_too(sleep, zero):
    for both in (sleep, zero):
        assert_readable(bl.plot_variance(both)[0].figure)
        assert_readable(bl.plot_shrinkage(both)[0].figure)
        assert_readable(bl.plot_boundary(both, "sigma").figure)


@pytest.mark.parametrize("parameter", ["sd[Intercept]", "Intercept"])
def test_a_coverage_study_of_one_cell_is_readable(parameter):
    study = bl.coverage_study([bl.Cell("balanced", groups=8, size=4, icc=0.2)], replicates=20, random_seed=2)
    axes = study.plot(parameter)
    assert_readable(axes[0].figure)
    assert [ax.get_title().replace("\n", " ") for ax in axes][:2] == [
        "REML says zero",
        "REML profile" if parameter == "sd[Intercept]" else "plug-in z",
    ]


def test_the_atlas_is_readable():
    assert_readable(bl.coverage_atlas().plot("sd[x]", "x | g")[0].figure)


def test_boundary_legend_lies_on_no_curve(sleep):
    for axes in (bl.plot_boundary(sleep, "sd_Subject[Days]"), bl.plot_boundary(sleep, "sigma", ax=plt.subplots()[1])):
        axes.figure.canvas.draw()
        assert axes.get_legend().get_window_extent().y1 < axes.get_window_extent().y0


def test_boundary_does_not_call_the_profile_times_prior_the_posterior():
    """With four correlated effects of few levels they differ; the figure shows both and claims no more."""
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(12), 8)
    x = rng.normal(size=(groups.size, 3))
    effects = rng.normal(size=(12, 4)) * [1.0, 0.5, 0.3, 0.1]
    y = effects[groups, 0] + (x * effects[groups, 1:]).sum(1) + rng.normal(size=groups.size)
    data = pd.DataFrame({"y": y, "g": groups, "a": x[:, 0], "b": x[:, 1], "c": x[:, 2]})
    model = bl.Model("y ~ a + b + c + (a + b + c | g)", data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bl.BayesLMMWarning)
        both = bl.compare(model.fit(), model.sample(1000, random_seed=1))
        axes = bl.plot_boundary(both, "sd_g[c]")
    posterior, product = (line(axes, name)[1] for name in ("posterior density", "profile likelihood x prior"))
    assert np.abs(posterior - product).max() > 0.2 * posterior.max()
    assert axes.get_title(loc="left") == "Profile likelihood, prior and posterior"
    assert axes.get_ylim()[1] >= max(posterior.max(), product.max())


def test_variances_are_drawn_where_the_table_has_variances(zero, sleep):
    for both in (zero, sleep):
        squared = both.on_scale("variance")
        axes = bl.plot_variance(squared)
        assert [axis.get_title() for axis in axes] == [
            label for label in squared.table.index if label.startswith(("var_", "corr_", "sigma"))
        ]
        for axis in axes:
            row = squared.table.loc[axis.get_title()]
            assert list(line(axis, "posterior 95 % HDI")[0]) == [row["hdi_low"], row["hdi_high"]]
            assert list(line(axis, "REML 95 % profile")[0]) == [row["reml_low"], row["reml_high"]]
            assert line(axis, "posterior median")[0] == [row["median"]]


def test_density_of_a_variance_is_that_of_the_squares(sleep):
    axis = next(a for a in bl.plot_variance(sleep.on_scale("variance")) if a.get_title() == "sigma^2")
    x, y = line(axis, "posterior density")
    squares = sleep.posterior.draws("sigma") ** 2
    for quantile in (0.25, 0.5, 0.75):
        below = x <= np.quantile(squares, quantile)
        assert np.trapezoid(y[below], x[below]) == pytest.approx(quantile, abs=0.03)


@pytest.mark.parametrize(
    ("label", "sd"),
    [("var_Batch[Intercept]", "sd_Batch[Intercept]"), ("var_Batch", "sd_Batch[Intercept]"), ("sigma^2", "sigma")],
)
def test_boundary_takes_the_labels_of_variances(label, sd, zero):
    for both in (zero, zero.on_scale("variance")):
        axes, same = bl.plot_boundary(both, label), bl.plot_boundary(both, sd)
        assert axes.get_xlabel() == same.get_xlabel() == f"{sd} (units of Yield)"
        np.testing.assert_array_equal(line(axes, "posterior density"), line(same, "posterior density"))


def test_a_coefficient_may_be_called_like_a_variance():
    data = bl.load_dataset("Dyestuff").assign(var_Batch=np.tile([0.0, 1.0, 2.0], 10))
    model = bl.Model("Yield ~ var_Batch + (1 | Batch)", data)
    both = bl.compare(model.fit(), model.sample(200, random_seed=1))
    with pytest.raises(DesignError, match=r"'var_Batch' is none. The model has: sd_Batch\[Intercept\], sigma"):
        bl.plot_boundary(both, "var_Batch")
