"""Interaction plots, means with letters, profiles, sweeps and forests of models show numbers computed elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.container import ErrorbarContainer
from scipy import optimize, stats

import bayeslmm as bl
from bayeslmm.errors import ConvergenceWarning, DesignError

OATS = "`yield` ~ Variety * C(nitro) + (1 | Block / Variety)"


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def oats() -> pd.DataFrame:
    return bl.load_dataset("Oats")


@pytest.fixture(scope="module")
def oats_fit(oats: pd.DataFrame) -> bl.REMLResult:
    return bl.Model(OATS, oats).fit()


@pytest.fixture(scope="module")
def dyestuff() -> bl.Model:
    return bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))


def labelled(axis: Any) -> dict[str, Any]:
    handles, names = axis.get_legend_handles_labels()
    return dict(zip(names, handles, strict=True))


def bars(axis: Any) -> np.ndarray:
    """Ends (m, 2, 2) of all lines of collections."""
    return np.concatenate([np.array(c.get_segments()) for c in axis.collections if isinstance(c, LineCollection)])


# Profile zeta


def dense_criterion(reml: bool) -> tuple[Callable[[float, float, float | None], float], np.ndarray]:
    """Minus twice the log likelihood of Dyestuff at (sd, sigma, mean), from its covariance matrix; mean None: minimised
    or, for REML, integrated over.
    """
    data = bl.load_dataset("Dyestuff")
    y = data["Yield"].to_numpy(dtype=float)
    same = np.equal.outer(data["Batch"].to_numpy(), data["Batch"].to_numpy()).astype(float)
    one = np.ones(y.size)

    def criterion(sd: float, sigma: float, mean: float | None) -> float:
        V = sd**2 * same + sigma**2 * np.eye(y.size)
        inverse = np.linalg.inv(V)
        weight = one @ inverse @ one
        m = one @ inverse @ y / weight if mean is None else mean
        value = y.size * np.log(2 * np.pi) + np.linalg.slogdet(V)[1] + (y - m) @ inverse @ (y - m)
        return float(value + (np.log(weight) - np.log(2 * np.pi) if reml and mean is None else 0.0))

    return criterion, y


@pytest.mark.parametrize("reml", [True, False])
def test_zeta_is_the_signed_root_of_the_dense_profile(dyestuff: bl.Model, reml: bool) -> None:
    fit = dyestuff.fit(reml=reml)
    criterion, _ = dense_criterion(reml)
    names = ["sd_Batch[Intercept]", "sigma", "Intercept"]
    start = np.log([float(fit.estimates()[name]) for name in names[:2]])

    def best(held: dict[str, float]) -> float:
        free = [k for k, name in enumerate(names[:2]) if name not in held]

        def value(x: np.ndarray) -> float:
            own = start.copy()
            own[free] = x
            sds = [held.get(name, float(np.exp(own[k]))) for k, name in enumerate(names[:2])]
            return criterion(sds[0], sds[1], held.get("Intercept"))

        found = optimize.minimize(value, start[free], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12})
        return float(found.fun)

    axes = bl.plot_profile(fit, names)
    for axis, name in zip(axes, names, strict=True):
        x, zeta = axis.lines[1].get_data()
        # With the mean held nothing is integrated over, and the profile has its minimum at the mean of all.
        lowest = best({name: float(fit.estimates()[name])} if name == "Intercept" else {})
        for k in range(0, len(x), 8):
            rise = best({name: float(x[k])}) - lowest
            expected = np.sign(x[k] - fit.estimates()[name]) * np.sqrt(max(rise, 0.0))
            assert zeta[k] == pytest.approx(expected, abs=2e-5), (name, x[k])


def test_the_interval_of_a_profile_is_where_the_curve_crosses_the_lines(dyestuff: bl.Model) -> None:
    fit = dyestuff.fit()
    (axis,) = bl.plot_profile(fit, "sigma", level=0.9)
    x, zeta = axis.lines[1].get_data()
    marked = [line.get_xdata()[0] for line in axis.lines if line.get_marker() == "|"]
    cut = stats.norm.ppf(0.95)
    assert marked == pytest.approx(fit.confint(0.9, parameters="sigma").to_numpy()[0])
    assert np.interp([-cut, cut], zeta, x) == pytest.approx(marked, rel=2e-3)


# Interaction plots


def test_means_of_data_are_those_of_groupby() -> None:
    rng = np.random.default_rng(1)
    data = pd.DataFrame(
        {"a": rng.choice(["10", "9", "2"], 90), "b": rng.choice(["u", "v"], 90), "y": rng.normal(size=90)}
    )
    data.loc[[3, 5, 8], "y"] = np.nan
    data.loc[[2, 4], "b"] = None
    axis = bl.plot_interaction(data, "a", "b", y="y")
    expected = data.dropna().groupby(["b", "a"])["y"].mean()
    lines = labelled(axis)
    assert list(lines) == ["u", "v"]
    for name, line in lines.items():
        # Numbers stand at their places, whatever the order of their texts.
        assert line.get_xdata().tolist() == [2.0, 9.0, 10.0]
        assert line.get_ydata() == pytest.approx(expected[name][["2", "9", "10"]].to_numpy())


def test_a_model_draws_the_means_of_the_rows_that_it_uses(oats: pd.DataFrame) -> None:
    data = oats.copy()
    data.loc[[0, 7], "yield"] = np.nan
    lines = labelled(bl.plot_interaction(bl.Model(OATS, data), "nitro", "Variety"))
    expected = data.dropna().groupby(["Variety", "nitro"], observed=True)["yield"].mean()
    for name, line in lines.items():
        assert line.get_ydata() == pytest.approx(expected[name].to_numpy())


def test_frequencies_count() -> None:
    data = pd.DataFrame({"a": list("uuvv") * 3, "y": np.arange(12.0), "g": list("pqr") * 4, "f": [1, 3] * 6})
    axis = bl.plot_interaction(bl.Model("y ~ a + (1 | g)", data, frequency="f"), "a")
    expected = [np.average(own["y"], weights=own["f"]) for _, own in data.groupby("a")]
    assert axis.lines[0].get_ydata() == pytest.approx(expected)


def test_means_of_a_balanced_fit_are_those_of_its_cells(oats: pd.DataFrame, oats_fit: bl.REMLResult) -> None:
    lines = labelled(bl.plot_interaction(oats_fit, "nitro", "Variety"))
    cells = oats.groupby(["Variety", "nitro"], observed=True)["yield"]
    # Mean squares of a split plot: sd of a cell mean from those of blocks, plots and rests.
    sds = oats_fit.estimates()[["sd_Block[Intercept]", "sd_Block:Variety[Intercept]", "sigma"]]
    se = np.sqrt((sds**2).sum() / 6)
    for name, bar in lines.items():
        assert isinstance(bar, ErrorbarContainer)
        assert bar.lines[0].get_ydata() == pytest.approx(cells.mean()[name].to_numpy())
        (segments,) = [np.array(own.get_segments()) for own in bar.lines[2]]
        half = np.ptp(segments[:, :, 1], axis=1) / 2
        table = oats_fit.means(["nitro", "Variety"]).frame
        own = table[table["Variety"] == name]
        assert half == pytest.approx(stats.t.ppf(0.975, own["df"].to_numpy()) * se, rel=1e-5)


def test_both_engines_stand_beside_each_other(oats: pd.DataFrame, oats_fit: bl.REMLResult) -> None:
    post = bl.Model(OATS, oats).sample(200, random_seed=1)
    lines = labelled(bl.plot_interaction(bl.compare(oats_fit, post), "nitro", "Variety"))
    names = ["Golden Rain", "Marvellous", "Victory"]
    assert list(lines) == [f"{name}, {engine}" for name in names for engine in ("REML", "posterior")]
    table = post.means(["nitro", "Variety"]).frame
    for name in names:
        expected = table.loc[table["Variety"] == name, "mean"].to_numpy()
        assert lines[f"{name}, posterior"].lines[0].get_ydata() == pytest.approx(expected)
        assert lines[f"{name}, posterior"].lines[0].get_fillstyle() == "none"


def test_many_lines_are_counted_and_not_named() -> None:
    sleep = bl.load_dataset("sleepstudy")
    axis = bl.plot_interaction(sleep, "Days", "Subject", y="Reaction")
    assert len(axis.lines) == 18 and [t.get_text() for t in axis.get_legend().get_texts()] == ["18 levels of Subject"]
    assert axis.lines[0].get_ydata() == pytest.approx(sleep.loc[sleep["Subject"] == "308", "Reaction"].to_numpy())


def test_a_number_of_the_model_runs_over_its_values() -> None:
    fit = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()
    (bar,) = bl.plot_interaction(fit, "Days").containers
    beta = fit.fixef().to_numpy()
    assert bar.lines[0].get_ydata() == pytest.approx(beta[0] + beta[1] * np.arange(10))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda data, fit: bl.plot_interaction(data, "nitro", "Varieti", y="yield"), "by='Varieti' is unknown"),
        (lambda data, fit: bl.plot_interaction(data, "nitro", "Variety"), "needs the response"),
        (lambda data, fit: bl.plot_interaction(data, "nitro", y="Variety"), "means are of numbers"),
        (lambda data, fit: bl.plot_interaction(fit, "Block"), "x"),
        (lambda data, fit: bl.plot_interaction(None, "x"), r"plot_interaction\(\) got None"),
        (lambda data, fit: bl.plot_interaction(data, "nitro", "nitro", y="yield"), "two columns"),
        (lambda data, fit: bl.plot_means(fit), "fit.means"),
        (lambda data, fit: bl.plot_models(fit), "bl.compare"),
        (lambda data, fit: bl.plot_prior_sweep(data), "prior_sweep"),
        (lambda data, fit: bl.plot_profile(fit, "sd"), "sd"),
    ],
)
def test_what_cannot_be_drawn_is_said(
    oats: pd.DataFrame, oats_fit: bl.REMLResult, call: Callable[..., Any], words: str
) -> None:
    with pytest.raises(DesignError, match=words):
        call(oats, oats_fit)


# Means


def test_letters_are_those_of_the_studentised_range(oats: pd.DataFrame) -> None:
    fit = bl.Model("`yield` ~ Variety + C(nitro) + (1 | Block / Variety)", oats).fit()
    axis = bl.plot_means(fit.means("nitro"))
    # The analysis of variance of the split plot: rests within plots, 51 degrees of freedom.
    cells = oats.groupby("nitro")["yield"].mean().to_numpy()
    whole = oats.groupby(["Block", "Variety"], observed=True)["yield"].transform("mean")
    rest = oats["yield"] - whole - oats.groupby("nitro")["yield"].transform("mean") + oats["yield"].mean()
    error = float((rest**2).sum()) / 51
    q = np.abs(np.subtract.outer(cells, cells)) / np.sqrt(error / 18)
    p = stats.studentized_range.sf(q, 4, 51)
    letters = [text.get_text() for text in axis.texts]
    share = [[bool(set(a) & set(b)) for b in letters] for a in letters]
    assert share == (p > 0.05).tolist() and len(set(letters)) > 1
    middle = next(line for line in axis.lines if line.get_marker() == "D").get_xdata()
    assert middle == pytest.approx(cells)
    table = fit.means("nitro").frame
    assert bars(axis)[:, :, 0] == pytest.approx(table[["conf_low", "conf_high"]].to_numpy())


def test_groups_of_means_have_headings_and_their_own_rows(oats_fit: bl.REMLResult) -> None:
    means = oats_fit.means("nitro", by="Variety")
    axis = bl.plot_means(means)
    heads = [text.get_text() for text in axis.get_yticklabels() if text.get_fontweight() == "bold"]
    assert heads == [f"Variety = {name}" for name in ("Golden Rain", "Marvellous", "Victory")]
    (line,) = [line for line in axis.lines if line.get_marker() == "D"]
    assert line.get_xdata() == pytest.approx(means.frame["estimate"].to_numpy())
    places = dict(zip(axis.get_yticks(), (text.get_text() for text in axis.get_yticklabels()), strict=True))
    assert [places[y] for y in line.get_ydata()] == ["0", "0.2", "0.4", "0.6"] * 3


def test_contrasts_have_a_line_at_no_difference_and_no_letters(oats_fit: bl.REMLResult) -> None:
    axis = bl.plot_means(oats_fit.means("Variety").pairs())
    assert not axis.texts
    assert any(np.array_equal(line.get_xdata(), [0.0, 0.0]) for line in axis.lines)


def test_one_mean_has_no_letter(oats_fit: bl.REMLResult) -> None:
    axis = bl.plot_means(oats_fit.means())
    assert not axis.texts and "letter" not in axis.get_xlabel()
    assert axis.lines[0].get_xdata() == pytest.approx([bl.load_dataset("Oats")["yield"].mean()])


# Prior sweep, models


def test_a_sweep_shows_its_table_and_what_cannot_be_told(dyestuff: bl.Model) -> None:
    post = dyestuff.sample(1000, random_seed=1)
    priors = {"wide": bl.HalfNormal(200), "far too narrow": bl.HalfNormal(2)}
    with pytest.warns(ConvergenceWarning):
        table = post.prior_sweep(priors)
    axis = bl.plot_prior_sweep(table, "sd_Batch[Intercept]")
    own = table.xs("sd_Batch[Intercept]", level="parameter")
    marks = {line.get_fillstyle(): line for line in axis.lines if line.get_marker() == "o"}
    assert marks["full"].get_xdata() == pytest.approx([own.loc["wide", "mean"]])
    assert marks["none"].get_xdata() == pytest.approx([own.loc["far too narrow", "mean"]])
    assert "sample with this prior" in axis.get_legend().get_texts()[0].get_text()
    assert bars(axis)[:, :, 0] == pytest.approx(own[["hdi_low", "hdi_high"]].to_numpy())
    assert axis.get_ylim()[0] > axis.get_ylim()[1] and [t.get_text() for t in axis.get_yticklabels()] == list(priors)


def test_a_forest_of_models_has_a_row_for_each() -> None:
    data = bl.load_dataset("Penicillin")
    parts = {"both": "(1 | plate) + (1 | sample)", "sample": "(1 | sample)"}
    models = bl.compare({name: bl.Model(f"diameter ~ 1 + {part}", data) for name, part in parts.items()}, draws=200)
    axes = bl.plot_models(models, ["sigma", "Intercept", "sd_plate[Intercept]"])
    within = float(data.groupby("sample", observed=True)["diameter"].var().mean())
    # Balanced data: the ML estimate of sigma^2 is the mean square within samples.
    sigma = [line.get_xdata()[0] for line in axes[0].lines if line.get_marker() == "D"]
    assert sigma == pytest.approx([models.fits[0].sigma, np.sqrt(within)], rel=1e-6)
    means = [line.get_xdata()[0] for line in axes[1].lines if line.get_marker() == "D"]
    assert means == pytest.approx([data["diameter"].mean()] * 2)
    medians = [line.get_xdata()[0] for line in axes[0].lines if line.get_marker() == "o"]
    assert medians == pytest.approx([np.median(post.draws("sigma")) for post in models.posteriors], rel=0.01)
    (text,) = axes[2].texts
    assert text.get_text() == "not in this model" and text.get_position()[1] == 1
    assert [t.get_text() for t in axes[0].get_yticklabels()] == ["both", "sample"]


# Axes that are given


def test_every_figure_draws_into_axes_that_are_given(dyestuff: bl.Model, oats_fit: bl.REMLResult) -> None:
    sleep = bl.load_dataset("sleepstudy")
    model = bl.Model("Reaction ~ Days + (Days | Subject)", sleep)
    both = bl.compare(model.fit(), model.sample(200, random_seed=1))
    studies = bl.Model("yi ~ 1 + (1 | school)", bl.load_dataset("eight_schools"), residual_sd="sei").fit()
    atlas = bl.coverage_atlas().table.query("size == 5")
    drawn: list[tuple[int, Callable[[Any], Any]]] = [
        (1, lambda ax: bl.plot_acf(both.reml, ax=ax)),
        (1, lambda ax: bl.plot_semivariogram(both.reml, ax=ax)),
        (1, lambda ax: bl.plot_boundary(both, ax=ax)),
        (1, lambda ax: bl.plot_influence(both.reml, "Subject", ax=ax)),
        (1, lambda ax: bl.plot_plane(both, levels=6, ax=ax)),
        (1, lambda ax: bl.plot_forest(studies, ax=ax)),
        (1, lambda ax: bl.plot_interaction(sleep, "Days", y="Reaction", ax=ax)),
        (1, lambda ax: bl.plot_means(oats_fit.means("Variety"), ax=ax)),
        (1, lambda ax: bl.plot_prior_sweep(both.posterior, ax=ax)),
        (1, lambda ax: bl.plot_ranef(both, effect="Days", levels=6, ax=ax)),
        (2, lambda ax: bl.plot_shrinkage(both, ax=ax)),
        (4, lambda ax: bl.plot_variance(both, ax=ax)),
        (3, lambda ax: bl.plot_groups(both, levels=3, ax=ax)),
        (2, lambda ax: bl.plot_profile(both.reml, ["sigma", "Days"], ax=ax)),
        (6, lambda ax: bl.plot_coverage(atlas, ax=ax)),
        (5, lambda ax: both.reml.plot(ax=ax)),
    ]
    for count, draw in drawn:
        figure, grid = plt.subplots(1, count, squeeze=False, figsize=(4 * count, 4))
        own = grid.ravel()
        found = draw(own[0] if count == 1 else own)
        assert list(np.ravel(found)) == list(own)
        assert plt.get_fignums() == [figure.number] and figure.get_size_inches().tolist() == [4.0 * count, 4.0]
        figure.canvas.draw()
        plt.close(figure)


def test_what_is_left_out_is_said_in_axes_that_are_given() -> None:
    fit = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()
    axis = plt.subplots()[1]
    bl.plot_ranef(fit, effect="Days", levels=6, ax=axis)
    assert "12 between them left out" in axis.get_xlabel().replace("\n", " ")
    with pytest.raises(DesignError, match=r"plot_ranef\(\) draws 2 panels, and ax= has 1 axes"):
        bl.plot_ranef(fit, ax=axis)


def test_curves_of_several_posteriors_differ_without_colours(dyestuff: bl.Model) -> None:
    posts = [dyestuff.sample(200, random_seed=1, priors=own) for own in (None, "brms", "flat")]
    axis = bl.plot_boundary(bl.compare(dyestuff.fit(), *posts, names=["a", "b", "c"]), "sd_Batch")
    looks = [
        (line.get_marker(), line.get_linestyle())
        for name, line in labelled(axis).items()
        if name.startswith(("posterior, ", "prior, ", "REML profile"))
    ]
    assert len(looks) == 7 == len(set(looks))


def test_the_style_sheet_has_the_colours_of_the_figures() -> None:
    from bayeslmm.plots.style import COLOURS

    with plt.style.context("bayeslmm.plots.colours"):
        cycle = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    assert [f"#{colour.lstrip('#')}" for colour in cycle] == list(COLOURS)
