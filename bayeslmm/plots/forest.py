"""Forest plot of a meta-analysis: studies, what both engines make of them, the mean and a new study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri

from bayeslmm.arguments import choice
from bayeslmm.arguments import shown as shown_value
from bayeslmm.comparison import Comparison
from bayeslmm.design.design import Design
from bayeslmm.design.known import known_text
from bayeslmm.design.names import in_plot
from bayeslmm.design.observations import need_observations
from bayeslmm.design.padding import rows_of_design
from bayeslmm.errors import DesignError
from bayeslmm.faces import Posterior, REMLResult
from bayeslmm.figures.axes import axes_or_new
from bayeslmm.plots.panels import finish_panel
from bayeslmm.plots.style import (
    NEUTRAL,
    REML,
    posterior_style,
    response_name,
    tidy_axes,
    widest,
    wrapped,
)
from bayeslmm.plots.subject import Subject, subject
from bayeslmm.results.linear import one_effect_per_row
from bayeslmm.types import FloatArray

# Studies beyond which a figure has no room for them; inches of a row; letters of labels and numbers.
MOST, _ROW, _FONT = 200, 0.34, 8.5
# Inches of a line of a label.
_LINE = 1.25 * _FONT / 72.0
_WIDTH = 5.2
# Squares of the least and the heaviest study, points; half the height of a diamond in rows.
_SQUARES, _DIAMOND = (8.0, 70.0), 0.22
_COLUMNS = ["estimate", "conf_low", "conf_high"]


@dataclass(frozen=True)
class _Engine:
    """What one engine says: effects of the studies (n, 3), the mean (3,) and a new study (3,), where there is one."""

    name: str
    style: dict[str, Any]
    studies: FloatArray
    mean: FloatArray | None
    new: FloatArray | None


def plot_forest(
    both: Comparison | REMLResult | Posterior,
    *,
    labels: Sequence[object] | None = None,
    ddf: str = "z",
    ax: Any = None,
) -> Any:
    """Studies with their intervals, their predicted effects, the mean and the interval of a new study.

    Parameters
    ----------
    both : Comparison, REMLResult or Posterior
        Of a model with known residual standard deviations (``residual_sd=``), one row per study. Of a fit: predicted
        effects (BLUPs), a diamond for the mean, and a line for a new study; of a posterior means and equal-tailed
        intervals of the same; of a comparison both.
    labels : sequence, optional
        Names of the rows; by default the levels of the grouping factor that has one for every row, else the index.
    ddf : {"z", "knapp-hartung"}
        By what the fit's mean and new study have their intervals.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    DesignError
        Sigma is estimated; more than 200 rows; a wrong number of labels; no comparison, fit or posterior.

    Notes
    -----
    Squares are as large as the weight ``1 / residual_sd^2`` of a study. With moderators there is no one mean, and
    neither diamond nor new study.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("yi ~ 1 + (1 | school)", bl.load_dataset("eight_schools"), residual_sd="sei")
    >>> axes = bl.plot_forest(model.fit())
    >>> [text.get_text() for text in axes.get_yticklabels()][-2:]
    ['mean (REML)', 'new study (REML)']
    """
    shown = subject(both, "plot_forest")
    design = shown.design
    choice("ddf", ddf, ("z", "knapp-hartung"), DesignError)
    names = _checked(design, labels)
    engines = _engines(shown, ddf)
    means = [(e, e.mean) for e in engines if e.mean is not None]
    new = [(e, e.new) for e in engines if e.new is not None]
    texts = [in_plot(name) for name in names]
    texts += [*(f"mean ({e.name})" for e, _ in means), *(f"new study ({e.name})" for e, _ in new)]
    places = _rows(texts, len(names))
    width = _WIDTH + min(widest(texts, _FONT), 3.0) + widest([_number(np.full(3, -88.888), 2)], _FONT)
    axis = axes_or_new(ax, "plot_forest", (width, 1.0 + _ROW * (places[-1] + 1)))
    observed = _studies(shown, axis, places[: len(names)])
    for k, engine in enumerate(engines):
        _effects(axis, engine, places[: len(names)] + 0.2 * (k + 1))
    below = places[len(names) :].tolist()
    for place, (engine, values) in zip(below[: len(means)], means, strict=True):
        _diamond(axis, engine.style["color"], place, values)
    for place, (engine, values) in zip(below[len(means) :], new, strict=True):
        _bar(axis, engine.style["color"], place, values)
    _decorate(shown, axis, texts, places, [*observed, *(values for _, values in (*means, *new))])
    finish_panel(axis, shown, _notes(shown, ddf), own=ax is None)
    return axis


def _checked(design: Design, labels: Sequence[object] | None) -> list[str]:
    """Names of the rows of a design that can be drawn."""
    if design.sigma is None:
        raise DesignError(
            "plot_forest() draws studies with known standard errors, and sigma of this model is estimated. Make it "
            "with bl.Model(formula, data, residual_sd='se'); bl.plot_ranef(fit) and bl.plot_shrinkage(fit) draw the "
            "levels of other models."
        )
    if design.n > MOST:
        raise DesignError(f"plot_forest() draws at most {MOST} rows, and this model has {design.n}.")
    if labels is not None:
        return _given(labels, design.n)
    for grouping in design.groupings.values():
        if grouping.n_levels == design.n:
            return [str(grouping.levels[code]) for code in grouping.codes]
    return [str(label) for label in design.index]


def _given(labels: Any, n: int) -> list[str]:
    """The labels that were given as texts."""
    problem = DesignError(f"labels={shown_value(labels)} has to be a list with one name for each of {n} rows.")
    if isinstance(labels, str) or not isinstance(labels, Sequence | np.ndarray | pd.Series | pd.Index):
        raise problem
    if np.ndim(labels) != 1 if isinstance(labels, np.ndarray) else len(labels) != n:
        raise problem
    try:
        names = [str(label) for label in labels]
    except Exception as error:
        raise problem from error
    if len(names) != n:
        raise problem
    return names


def _engines(shown: Subject, ddf: str) -> list[_Engine]:
    found = [] if shown.fit is None else [_of_fit(shown.fit, shown.criterion, shown.level, ddf)]
    for k, post in enumerate(shown.posteriors):
        name = shown.title("posterior", k)
        mean, new = _means(post, {"level": shown.level, "random_seed": 1})
        studies = _of_rows(post.design, post.predict(level=shown.level))
        found.append(_Engine(name, {**posterior_style(k), "marker": "o"}, studies, mean, new))
    return found


def _of_fit(fit: REMLResult, name: str, level: float, ddf: str) -> _Engine:
    need_observations(fit.design, "plot_forest draws estimates")
    if ddf == "knapp-hartung" and not one_effect_per_row(fit.design):
        raise DesignError("ddf='knapp-hartung' is for models with one random intercept per row; use ddf='z'.")
    mean, new = _means(fit, {"level": level, "ddf": ddf})
    studies = _of_rows(fit.design, fit.predict(level=level, ddf="z"))
    return _Engine(name, {"color": REML, "linestyle": "-", "marker": "D"}, studies, mean, new)


def _of_rows(design: Design, predicted: pd.DataFrame) -> FloatArray:
    """Estimates and ends (n, 3) of the rows that are in the design."""
    return np.asarray(rows_of_design(design, predicted[_COLUMNS].to_numpy()))


def _means(result: Any, options: dict[str, Any]) -> tuple[FloatArray | None, FloatArray | None]:
    """Mean and new study, where the fixed part is an intercept."""
    design = result.design
    if design.fixed_names != ("Intercept",) or design.offset is not None or design.recipe is None:
        return None, None
    at = pd.DataFrame(index=[0])
    both = [result.predict(at, random=random, **options)[_COLUMNS].to_numpy()[0] for random in (None, "new")]
    return both[0], both[1]


def _rows(texts: Sequence[str], studies: int) -> FloatArray:
    """Places of the rows from above, further apart where labels have several lines; those of means a bit below."""
    lines = np.array([1 + _label(text).count("\n") for text in texts])
    heights = np.maximum(1.0, lines * _LINE / _ROW)
    places = np.concatenate([[0.0], np.cumsum(0.5 * (heights[:-1] + heights[1:]))])
    return np.where(np.arange(len(texts)) < studies, places, places + 0.5)


def _label(text: str) -> str:
    return wrapped(text.replace(r"\$", "$"), 3.0, _FONT)


def _studies(shown: Subject, axis: Any, rows: FloatArray) -> list[FloatArray]:
    """Estimates of the studies with their intervals (n, 3)."""
    design = shown.design
    sd = design.sigma * np.sqrt(design.residual.variance(np.empty(0)))
    half = float(ndtri(0.5 + shown.level / 2)) * sd
    weight = sd.min() / sd
    axis.hlines(rows, design.y - half, design.y + half, color=NEUTRAL, linewidth=1.0)
    low, high = _SQUARES
    axis.scatter(design.y, rows, s=low + (high - low) * weight**2, marker="s", color=NEUTRAL, label="study alone")
    return list(np.column_stack([design.y, design.y - half, design.y + half]))


def _effects(axis: Any, engine: _Engine, rows: FloatArray) -> None:
    style = {"color": engine.style["color"], "linewidth": 1.3}
    axis.hlines(rows, engine.studies[:, 1], engine.studies[:, 2], linestyle=engine.style["linestyle"], **style)
    axis.plot(
        engine.studies[:, 0],
        rows,
        engine.style["marker"],
        markersize=3.5,
        color=style["color"],
        label=f"effect, {engine.name}",
    )


def _diamond(axis: Any, color: str, place: float, values: FloatArray) -> None:
    middle, low, high = values
    axis.fill([low, middle, high, middle], [place, place - _DIAMOND, place, place + _DIAMOND], color=color)
    axis.axvline(middle, color=color, linewidth=0.8, linestyle=":", zorder=0)


def _bar(axis: Any, color: str, place: float, values: FloatArray) -> None:
    middle, low, high = values
    axis.plot([low, high], [place, place], color=color, linewidth=3.0, alpha=0.6, solid_capstyle="butt")
    axis.plot(middle, place, "|", color=color, markersize=9)


def _number(values: FloatArray, places: int) -> str:
    middle, low, high = (f"{value + 0.0:.{places}f}" for value in values)
    return f"{middle} [{low}, {high}]"


def _places(values: list[Any]) -> int:
    """Digits after the point that leave three of the widest interval."""
    widest_interval = max(float(row[2] - row[1]) for row in values)
    return int(np.clip(2 - np.floor(np.log10(widest_interval)), 0, 12))


def _decorate(shown: Subject, axis: Any, texts: list[str], places: FloatArray, values: list[Any]) -> None:
    tidy_axes(axis)
    axis.set_yticks(places, [_label(text) for text in texts], fontsize=_FONT)
    axis.tick_params(axis="y", length=0)
    lines = [1 + _label(text).count("\n") for text in texts]
    axis.set_ylim(places[-1] + max(0.8, 0.6 * lines[-1] * _LINE / _ROW), -max(0.8, 0.6 * lines[0] * _LINE / _ROW))
    right = axis.secondary_yaxis("right")
    digits = _places(values)
    right.set_yticks(places, [_number(row, digits) for row in values], fontsize=_FONT)
    right.tick_params(axis="y", length=0)
    right.spines["right"].set_visible(False)
    if len(places) > shown.design.n:
        axis.axhline(places[shown.design.n - 1 : shown.design.n + 1].mean() + 0.2, color="0.8", linewidth=0.8)
    axis.axvline(0.0, color="0.6", linewidth=0.8, zorder=0)
    axis.set_xlabel(in_plot(response_name(shown.design)))


def _notes(shown: Subject, ddf: str) -> list[str]:
    by = "Knapp and Hartung" if ddf == "knapp-hartung" else "the normal distribution"
    notes = [f"{shown.percent} intervals; {known_text(shown.design)}; numbers beside studies are their own"]
    return [*notes, *([f"mean and new study by {by}"] if shown.fit is not None else [])]
