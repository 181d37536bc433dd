"""Figures leave nothing out without saying so, draw every posterior, and take fits, posteriors and comparisons."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.container import ErrorbarContainer

import bayeslmm as bl
from bayeslmm.comparison import Comparison
from bayeslmm.errors import DesignError
from bayeslmm.plots.levels import no_pooling

DRAWS = 200


def compared(formula: str, data: pd.DataFrame, *priors: Any) -> Comparison:
    model = bl.Model(formula, data)
    return bl.compare(model.fit(), *(model.sample(DRAWS, random_seed=1, priors=own) for own in priors or (None,)))


def schools(n: int) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(n), 3)
    return pd.DataFrame({"score": 3 * rng.normal(size=n)[g] + 3 * rng.normal(size=g.size), "school": g})


@pytest.fixture(scope="module")
def sleep() -> Comparison:
    return compared("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy"))


@pytest.fixture(scope="module")
def three() -> Comparison:
    own = {"sd_Subject[Days]": bl.HalfNormal(3)}
    return compared("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy"), None, "brms", own)


@pytest.fixture(scope="module")
def zero() -> Comparison:
    return compared("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2"))


@pytest.fixture(scope="module")
def penicillin() -> Comparison:
    return compared("diameter ~ 1 + (1 | plate) + (1 | sample)", bl.load_dataset("Penicillin"))


@pytest.fixture(scope="module")
def many() -> Comparison:
    return compared("score ~ 1 + (1 | school)", schools(300))


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    plt.close("all")


def points(axis: Any, label: str) -> np.ndarray:
    """Coordinates (2, n) of what a label of the legend stands for."""
    handles, labels = axis.get_legend_handles_labels()
    (found,) = [handle for handle, own in zip(handles, labels, strict=True) if own == label]
    line = found.lines[0] if isinstance(found, ErrorbarContainer) else found
    return np.array([line.get_xdata(), line.get_ydata()], dtype=float)


def texts(figure: Any) -> str:
    """All that is written outside the ticks, without the breaks of lines."""
    legends = [*figure.legends, *(a.get_legend() for a in figure.axes if a.get_legend())]
    written = [text.get_text() for legend in legends for text in legend.get_texts()]
    written += [text.get_text() for axis in figure.axes for text in (axis.title, axis._left_title, *axis.texts)]
    written += [text.get_text() for text in figure.texts] + [figure.get_suptitle()]
    return "\n".join(text.replace("\n", " ") for text in written)


def ticks(axis: Any) -> list[str]:
    return [tick.get_text() for tick in axis.get_yticklabels()]


# levels


def test_every_level_of_three_hundred_is_drawn(many: Comparison) -> None:
    (axis,) = bl.plot_shrinkage(many)
    blup = many.reml.ranef()["school"]["Intercept"]
    mean = many.posterior.ranef()["school"]["Intercept"]
    x, y = points(axis, "REML prediction (BLUP)")
    order = np.argsort(blup.to_numpy())
    np.testing.assert_allclose(x, blup.to_numpy()[order])
    np.testing.assert_allclose(points(axis, "posterior mean, 95 % interval")[0], mean.to_numpy()[order])
    np.testing.assert_array_equal(np.diff(np.sort(y)).round(9), 1.0)
    assert "left out" not in texts(axis.figure)
    # Labels that are shown stand at their own level, and do not lie on each other.
    places = {round(v): name for v, name in zip(axis.get_yticks(), ticks(axis), strict=True)}
    assert all(places[k] == str(blup.index[order[k]]) for k in places)
    assert f"every {len(blup) // len(places)}rd level of school is labelled" in texts(axis.figure)
    axis.figure.canvas.draw()
    boxes = [tick.get_window_extent() for tick in axis.get_yticklabels()]
    assert all(a.y1 <= b.y0 + 1 for a, b in pairwise(boxes))


def test_what_is_left_out_is_said_and_both_ends_are_shown(many: Comparison) -> None:
    (axis,) = bl.plot_shrinkage(many, levels=41)
    blup = np.sort(many.reml.ranef()["school"]["Intercept"].to_numpy())
    x, y = points(axis, "REML prediction (BLUP)")
    np.testing.assert_allclose(x, np.concatenate([blup[:21], blup[-20:]]))
    assert y[21] - y[20] == 3.0
    said = texts(axis.figure)
    assert "41 of 300 levels of school: the 21 lowest and 20 highest REML predictions of Intercept" in said
    assert "259 between them left out" in said
    assert "259 levels left out" in said


def test_without_being_asked_a_figure_of_very_many_levels_says_how_to_see_all() -> None:
    model = bl.Model("score ~ 1 + (1 | school)", schools(450))
    (axis,) = bl.plot_shrinkage(model.fit())
    assert len(points(axis, "REML prediction (BLUP)")[0]) == 400
    assert "400 of 450 levels of school" in texts(axis.figure)
    assert "(levels=450 draws all)" in texts(axis.figure)
    (axis,) = bl.plot_shrinkage(model.fit(), levels=450)
    assert len(points(axis, "REML prediction (BLUP)")[0]) == 450
    assert "left out" not in texts(axis.figure)


def test_levels_by_name(sleep: Comparison) -> None:
    axes = bl.plot_shrinkage(sleep, levels=["308", "337", "309"])
    for axis in axes:
        assert ticks(axis) == ["309", "308", "337"]
    assert "3 of 18 levels of Subject, those asked for; 15 left out" in texts(axes[0].figure)
    with pytest.raises(DesignError, match=r"'999' is not a level of Subject. It has 18: 308, 309"):
        bl.plot_shrinkage(sleep, levels=["308", "999"])


@pytest.mark.parametrize("levels", [0, 1, -3, True, 2.5, "308", [], b"x", {}, float("nan")])
def test_odd_levels(sleep: Comparison, levels: Any) -> None:
    with pytest.raises(DesignError, match="levels="):
        bl.plot_shrinkage(sleep, levels=levels)


def test_a_subject_has_one_place_in_all_panels(sleep: Comparison) -> None:
    axes = bl.plot_shrinkage(sleep)
    blups = sleep.reml.ranef()["Subject"]
    order = [str(level) for level in blups["Intercept"].sort_values().index]
    for axis, effect in zip(axes, blups.columns, strict=True):
        assert ticks(axis) == order
        np.testing.assert_allclose(points(axis, "REML prediction (BLUP)")[0], blups.loc[order, effect])
    assert [axis.get_xlabel().replace("\n", " ") for axis in axes] == [
        "deviation from the mean (Reaction)",
        "deviation from the mean (Reaction per Days)",
    ]


def test_intervals_and_links(sleep: Comparison) -> None:
    """The interval of the fit has its own closed form; the link joins prediction and level alone."""
    axis = bl.plot_shrinkage(sleep)[1]
    order = np.argsort(sleep.reml.ranef()["Subject"]["Intercept"].to_numpy())
    sd = np.sqrt(sleep.reml.ranef_variances(fixed_known=False)["Subject"][order, 1, 1])
    handles, labels = axis.get_legend_handles_labels()
    bars = handles[labels.index("REML 95 % interval, variances taken as known")].get_segments()
    np.testing.assert_allclose([b[1, 0] - b[0, 0] for b in bars], 2 * 1.959963984540054 * sd, rtol=1e-12)
    separate = no_pooling(sleep, "Subject")[order, 1]
    np.testing.assert_allclose(points(axis, "level alone (no pooling)")[0], separate)
    predicted = points(axis, "REML prediction (BLUP)")[0]
    ends = [[(s[0, 0], s[1, 0]) for s in c.get_segments()] for c in axis.collections]
    assert any(
        len(e) == len(separate) and np.allclose(e, np.column_stack([separate, predicted]), rtol=1e-12) for e in ends
    )


@pytest.mark.parametrize(
    ("formula", "name", "titles"),
    [
        ("diameter ~ 1 + (1 | plate) + (1 | sample)", "Penicillin", ["Intercept by plate", "Intercept by sample"]),
        ("strength ~ 1 + (1 | batch/cask)", "Pastes", ["Intercept by batch", "Intercept by batch:cask"]),
        (
            "Reaction ~ Days + (1 | Subject) + (0 + Days | Subject)",
            "sleepstudy",
            ["Intercept by Subject", "Days by Subject"],
        ),
    ],
)
def test_all_factors_are_drawn(formula: str, name: str, titles: list[str]) -> None:
    fit = bl.Model(formula, bl.load_dataset(name)).fit()
    axes = bl.plot_shrinkage(fit)
    assert [axis.get_title() for axis in axes] == titles
    for axis, title in zip(axes, titles, strict=True):
        effect, group = title.split(" by ")
        blup = fit.ranef()[group][effect]
        np.testing.assert_allclose(np.sort(points(axis, "REML prediction (BLUP)")[0]), np.sort(blup))
        assert sorted(ticks(axis)) == sorted(map(str, blup.index))
    assert "left out" not in texts(axes[0].figure)


def test_one_factor_or_effect_on_request(penicillin: Comparison, sleep: Comparison) -> None:
    (axis,) = bl.plot_shrinkage(penicillin, "sample")
    assert len(ticks(axis)) == 6
    (axis,) = bl.plot_shrinkage(sleep, effect="Days")
    assert np.all(np.diff(points(axis, "REML prediction (BLUP)")[0]) >= 0)
    for wrong in (["plate"], 3, "Plate", ("plate", "sample")):
        with pytest.raises(DesignError, match="plate, sample"):
            bl.plot_shrinkage(penicillin, wrong)  # type: ignore[arg-type]
    with pytest.raises(DesignError, match="Intercept, Days"):
        bl.plot_shrinkage(sleep, effect=["Days"])  # type: ignore[arg-type]


def test_effects_that_were_not_kept_are_named() -> None:
    model = bl.Model("diameter ~ 1 + (1 | plate) + (1 | sample)", bl.load_dataset("Penicillin"))
    slim = model.sample(DRAWS, random_seed=1, keep=["plate"])
    axes = bl.plot_shrinkage(bl.compare(model.fit(), slim))
    assert "the effects of sample were not kept (keep=)" in texts(axes[0].figure)
    assert "posterior mean, 95 % interval" in axes[0].get_legend_handles_labels()[1]
    assert "posterior mean, 95 % interval" not in axes[1].get_legend_handles_labels()[1]
    with pytest.raises(bl.FitError, match="not kept"):
        bl.plot_shrinkage(slim, "sample")


# several posteriors


def test_every_posterior_is_drawn_under_its_name(three: Comparison) -> None:
    names = ("default priors", "brms", "sd_Subject[Days] ~ half-normal(3)")
    assert three.names == names
    for axis in bl.plot_variance(three)[:3]:
        for k, name in enumerate(names):
            x, y = points(axis, f"posterior, {name}: density, 95 % HDI, median")
            draws = three.posteriors[list(three.posteriors)[k]].draws(axis.get_title())
            # Half of the density lies below the median of the draws, to three standard errors of that share.
            below = x <= np.median(draws)
            assert np.trapezoid(y[below], x[below]) == pytest.approx(0.5, abs=1.5 / np.sqrt(draws.size))
        bars = [line.get_xdata() for line in axis.get_lines() if line.get_linewidth() == 4]
        for post in three.posteriors.values():
            row = post.table().loc[axis.get_title()]
            assert any(np.array_equal(bar, [row["hdi_low"], row["hdi_high"]]) for bar in bars)
    for axis in bl.plot_shrinkage(three):
        for name, post in zip(names, three.posteriors.values(), strict=True):
            mean = post.ranef()["Subject"].loc[ticks(axis), axis.get_title().split(" ")[0]]
            np.testing.assert_allclose(points(axis, f"posterior mean, 95 % interval, {name}")[0], mean)


def test_boundary_draws_every_posterior_and_its_prior(three: Comparison) -> None:
    axes = bl.plot_boundary(three, "sd_Subject[Days]")
    labels = axes.get_legend_handles_labels()[1]
    for name in three.names:
        assert sum(label.startswith(f"posterior, {name}: P(sd < ") for label in labels) == 1
        assert sum(label.startswith(f"prior, {name}: ") for label in labels) == 1
    prior = points(axes, f"prior, {three.names[2]}: half-normal(scale 3)")
    np.testing.assert_allclose(prior[1], np.exp(bl.HalfNormal(3).log_density(prior[0])))
    colours = [line.get_color() for line in axes.get_lines() if line.get_label().startswith("posterior")]
    assert len(set(colours)) == 3
    assert "profile likelihood x prior" not in labels


def test_names_from_the_user_are_drawn_as_they_are(zero: Comparison) -> None:
    both = bl.compare(zero.reml, {"wide $x$ and $y$": zero.posterior, "tight": zero.posterior})
    for axes in (bl.plot_variance(both), bl.plot_shrinkage(both), [bl.plot_boundary(both)]):
        axes[0].figure.canvas.draw()
        assert r"wide \$x\$ and \$y\$" in texts(axes[0].figure)
        assert "tight" in texts(axes[0].figure)
    one = bl.compare(zero.reml, zero.posterior, names=["mine"])
    assert "mine" in texts(bl.plot_variance(one)[0].figure)
    assert "mine" in texts(bl.plot_boundary(one).figure)


def test_dollars_in_names_are_no_mathematics() -> None:
    data = bl.load_dataset("Dyestuff").rename(columns={"Yield": "cost in $ or US$", "Batch": "$g$"})
    data["$g$"] = [f"from ${b} to $9" for b in data["$g$"]]
    both = compared("`cost in $ or US$` ~ 1 + (1 | `$g$`)", data)
    for axes in (bl.plot_variance(both), bl.plot_shrinkage(both), [bl.plot_boundary(both)]):
        figure = axes[0].figure
        figure.canvas.draw()
        from matplotlib.text import Text

        for text in figure.findobj(Text):
            assert text._preprocess_math(text.get_text())[1] in (False, "TeX")


# fits and posteriors alone


@pytest.mark.parametrize("kind", ["fit", "ml", "posterior"])
def test_a_fit_or_a_posterior_alone(sleep: Comparison, kind: str) -> None:
    given = {"fit": sleep.reml, "ml": sleep.ml, "posterior": sleep.posterior}[kind]
    criterion = {"fit": "REML", "ml": "ML", "posterior": None}[kind]
    axes = bl.plot_shrinkage(given)
    other = [bl.plot_variance(given)[1], bl.plot_boundary(given, "sd_Subject[Days]")]
    label = "sd_Subject[Days]"
    if isinstance(given, bl.Posterior):
        mean = given.ranef()["Subject"].loc[ticks(axes[1]), "Days"]
        np.testing.assert_allclose(points(axes[1], "posterior mean, 95 % interval")[0], mean)
        assert [x for axis in other for x in axis.get_legend_handles_labels()[1] if "REML" in x] == []
        assert points(other[0], "posterior median")[0] == given.table().loc[label, "median"]
        return
    blup = given.ranef()["Subject"].loc[ticks(axes[1]), "Days"]
    np.testing.assert_allclose(points(axes[1], f"{criterion} prediction (BLUP)")[0], blup)
    ends = given.confint(parameters=[label]).iloc[0].to_numpy(dtype=float)
    np.testing.assert_allclose(points(other[0], f"{criterion} 95 % profile")[0], ends)
    for axis in other:
        x, y = points(axis, f"{criterion} profile likelihood (scaled)")
        assert x[np.argmax(y)] == given.estimates()[label]
    assert "posterior" not in texts(axes[0].figure)


def test_a_fit_with_a_penalty_has_no_profile_and_is_drawn() -> None:
    fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).fit(penalty="boundary_avoiding")
    axis = bl.plot_variance(fit)[0]
    assert axis.get_legend_handles_labels()[1] == ["REML"]
    assert points(axis, "REML")[0] == fit.estimates()["sd_Batch[Intercept]"]
    assert bl.plot_boundary(fit).get_legend_handles_labels()[1][0].startswith("REML estimate")


FUNCTIONS: list[Callable[..., Any]] = [bl.plot_variance, bl.plot_boundary, bl.plot_shrinkage, bl.plot_coverage]
ODD: list[Any] = [None, True, 1, 2.5, "sleepstudy", [], (), {}, np.zeros(3), pd.DataFrame({"a": [1]}), object, plt]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_other_objects_are_refused_in_words(function: Callable[..., Any], zero: Comparison) -> None:
    model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2"))
    further = [zero, zero.reml, zero.posterior] if function is bl.plot_coverage else [bl.coverage_atlas()]
    for given in [*ODD, model, [zero], [zero.posterior, zero.posterior], *further]:
        with pytest.raises(DesignError, match=rf"{function.__name__}\(\) got .*It draws"):
            function(given)


def test_odd_arguments_of_the_others(zero: Comparison) -> None:
    for axes in (1, "ax", plt.figure(), plt.subplots(1, 2)[1], zero):
        with pytest.raises(DesignError, match=r"plot_boundary\(\) got .* as the axes to draw into"):
            bl.plot_boundary(zero, "sd_Batch", ax=axes)
    for parameter in (1, ["sd_Batch"], b"sigma", float("nan")):
        with pytest.raises(DesignError, match=r"Give the label of a standard deviation: sd_Batch\[Intercept\], sigma"):
            bl.plot_boundary(zero, parameter)  # type: ignore[arg-type]
    atlas = bl.coverage_atlas()
    for wrong in ({"parameter": ["x"]}, {"design": None}, {"level": 2.0}, {"level": "x"}):
        with pytest.raises(bl.BayesLMMError):
            bl.plot_coverage(atlas, **wrong)
    assert len(bl.plot_coverage(atlas.table, "Intercept")) == 5


# what figures say


def test_a_probability_too_small_for_the_draws_is_not_zero(sleep: Comparison, zero: Comparison) -> None:
    assert sleep.table.loc["sd_Subject[Days]", "p_below"] == 0
    axes = bl.plot_boundary(sleep, "sd_Subject[Days]")
    # 200 draws say no more than that.
    assert "delta = 0.98: P(sd < 0.98) < 0.005" in axes.get_legend_handles_labels()[1]
    assert "= 0\n" not in texts(axes.figure) + "\n"
    # Nothing is shaded that cannot be seen: the only area is the one under the curve.
    assert len(axes.collections) == 1
    axes = bl.plot_boundary(zero)
    assert "delta = 0.19 (negligible below)" in axes.get_legend_handles_labels()[1]
    assert len(axes.collections) == 2


def test_the_profile_is_a_curve(sleep: Comparison, zero: Comparison) -> None:
    """Against the profile itself at points between those that are interpolated, closely round the peak."""
    for both, label in ((sleep, "sd_Subject[Intercept]"), (sleep, "sd_Subject[Days]"), (zero, "sd_Batch[Intercept]")):
        x, y = points(bl.plot_boundary(both, label), "REML profile likelihood (scaled)")
        peak = both.table.loc[label, "reml"]
        some = x[
            np.searchsorted(
                x, np.linspace(max(0.6 * peak, 0.01 * x[-1]), min(1.4 * peak + 0.3 * x[-1], 0.9 * x[-1]), 13)
            )
        ]
        exact = np.exp(-0.5 * (both.reml.profile(label, some)["criterion"].to_numpy() - both.reml.criterion))
        drawn = y[np.searchsorted(x, some)] / y.max()
        np.testing.assert_allclose(drawn, exact, atol=2e-4)


def test_model_and_units_are_on_every_figure(sleep: Comparison, penicillin: Comparison) -> None:
    formula = "Reaction ~ Days + (Days | Subject)   (180 observations)"
    for axes in (bl.plot_variance(sleep), bl.plot_shrinkage(sleep), [bl.plot_boundary(sleep)]):
        assert formula in texts(axes[0].figure)
    assert [axis.get_xlabel() for axis in bl.plot_variance(sleep)] == [
        "units of Reaction",
        "units of Reaction per unit of Days",
        "",
        "units of Reaction",
    ]
    # Three panels: the legend has the place of the fourth.
    figure = bl.plot_variance(penicillin)[0].figure
    figure.canvas.draw()
    legend, hole = figure.legends[0].get_window_extent(), figure.axes[3].get_window_extent()
    assert hole.y0 <= legend.y0 <= legend.y1 <= hole.y1
    assert hole.x0 <= legend.x0 <= legend.x1 <= hole.x1


def test_levels_of_a_factor_have_no_units_per_level() -> None:
    fit = bl.Model("score ~ Machine + (Machine | Worker)", bl.load_dataset("Machines")).fit()
    assert {axis.get_xlabel() for axis in bl.plot_shrinkage(fit)} == {"deviation from the mean (score)"}


def test_a_label_of_sixty_characters_is_inside() -> None:
    long = "a batch with a label that has sixty characters, no more, aye"
    assert len(long) == 60
    data = bl.load_dataset("Dyestuff")
    data["Batch"] = [long if b == "A" else str(b) for b in data["Batch"]]
    axes = bl.plot_shrinkage(bl.Model("Yield ~ 1 + (1 | Batch)", data).fit())
    figure = axes[0].figure
    figure.canvas.draw()
    assert long in [tick.replace("\n", " ") for tick in ticks(axes[0])]
    boxes = [tick.get_window_extent() for tick in axes[0].get_yticklabels()]
    assert min(box.x0 for box in boxes) >= 0
    assert axes[0].get_window_extent().width > 0.4 * figure.bbox.width
