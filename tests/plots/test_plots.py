"""Figures: what the artists hold and what the labels say; no pixels."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pytest

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
    assert bl.plot_boundary(zero, "sd_Batch", axes=given) is given


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
