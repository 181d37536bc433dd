"""Means of the combinations of two factors, a line for every level of the second: the interaction plot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.arguments import choice
from bayeslmm.comparison import Comparison
from bayeslmm.design.names import in_plot
from bayeslmm.design.newdata import known_recipe
from bayeslmm.design.recovered import recovered_columns
from bayeslmm.design.reference import Covariate
from bayeslmm.design.tables import open_table, to_pandas
from bayeslmm.errors import DesignError
from bayeslmm.faces import Posterior, REMLResult
from bayeslmm.figures.axes import axes_or_new, found
from bayeslmm.means.marginal import MarginalMeans
from bayeslmm.means.of_draws import PosteriorMeans
from bayeslmm.plots.across import across, label
from bayeslmm.plots.style import response_name, series_style, wrapped
from bayeslmm.results.intervals import check_level
from bayeslmm.specification import Specification
from bayeslmm.types import FloatArray

_SIZE = (6.4, 3.8)
# Lines beyond which a legend is no help, and values of a number at which means are taken.
_MOST, _POINTS = 8, 12
# Share of the distance of two places that lines with intervals are moved apart.
_DODGE = 0.09


@dataclass(frozen=True)
class _Line:
    """One line: the values of x, and estimate, lower and upper end (k, 3) at each; nan without intervals."""

    level: str
    x: tuple[Any, ...]
    values: FloatArray
    engine: str = ""

    @property
    def name(self) -> str:
        return in_plot(", ".join(text for text in (self.level, self.engine) if text))


def plot_interaction(
    of: Any, x: str, by: str | None = None, *, y: str | None = None, level: float = 0.95, ax: Any = None
) -> Any:
    """Means along one factor or number, a line for every level of another: lines that are not parallel interact.

    Parameters
    ----------
    of : DataFrame, Model, REMLResult, Posterior or Comparison
        Of a table, or of a model, the means of the data, without intervals. Of a fit, posterior or comparison the
        means that the model estimates (`REMLResult.means`, `Posterior.means`) with their intervals.
    x : str
        Column along the horizontal axis. Levels that are numbers or dates stand at their places.
    by : str, optional
        Column with a line for each of its levels. Of a number of a fit, three values over its range; the numbers of
        a table are lines only where they recur.
    y : str, optional
        Response; needed with a table.
    level : float
        Of the intervals; a comparison has its own.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    DesignError
        No such column, or none of the fixed part; infinite values; values of `by` of which none has two places on the
        line; another object; axes of another kind.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> oats = bl.load_dataset("Oats")
    >>> bl.plot_interaction(oats, "nitro", "Variety", y="yield").get_ylabel()
    'mean of yield'
    >>> fit = bl.Model("`yield` ~ Variety * C(nitro) + (1 | Block / Variety)", oats).fit()
    >>> bl.plot_interaction(fit, "nitro", "Variety").get_ylabel()
    'mean of yield, 95 % interval'
    """
    level = of.level if isinstance(of, Comparison) else check_level(level)
    if isinstance(of, REMLResult | Posterior | Comparison):
        lines, name = _of_model(of, x, by, level), response_name(of.design)
        order = list(lines[0].x)
    else:
        columns, values, counts, name = _table(of, x, by, y)
        lines, order = _of_data(columns, values, counts)
    ax = axes_or_new(ax, "plot_interaction", _SIZE)
    note = _draw(ax, lines, order, by)
    ax.set_xlabel("\n".join(wrapped(text, _SIZE[0] - 1.0, 10) for text in (x, note, _lost(lines)) if text))
    interval = "" if np.isnan(lines[0].values[:, 1]).all() else f", {100 * level:g} % interval"
    ax.set_ylabel(wrapped(f"mean of {name}{interval}", _SIZE[1] - 0.6, 10))
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _table(of: Any, x: Any, by: Any, y: Any) -> tuple[pd.DataFrame, FloatArray, FloatArray, str]:
    """Columns `by` and `x` of the rows, their responses (n,), how often each counts (n,), and the response's name."""
    if isinstance(of, Specification):
        if of.planned:
            raise DesignError("plot_interaction() got a planned study, which has no responses. model.simulate() has.")
        names = _known(x, by, known_recipe(of.design).columns)
        columns = pd.DataFrame(recovered_columns(of.design, names, of._table))
        return columns, of.design.y, of.design.counts, response_name(of.design)
    if isinstance(of, str) or of is None:
        raise DesignError(f"plot_interaction() got {found(of)}. It draws a table, a model, a fit or a posterior.")
    table, known = open_table(of)
    names = _known(x, by, known)
    if y is None:
        raise DesignError("plot_interaction() of a table needs the response: y='...', the name of a column.")
    choice("y", y, known, DesignError)
    frame = to_pandas(table, list(dict.fromkeys([*names, y])))
    if not pd.api.types.is_numeric_dtype(frame[y]):
        raise DesignError(f"y={y!r} holds {frame[y].dtype}, and means are of numbers.")
    _finite(frame)
    return frame[names], frame[y].to_numpy(dtype=float), np.ones(len(frame)), y


def _finite(frame: pd.DataFrame) -> None:
    """Refuse infinite values, which have no place and no mean."""
    for name, column in frame.items():
        numbers = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
        infinite = np.isinf(column.to_numpy(dtype=float, na_value=np.nan)) if numbers else np.zeros(0, dtype=bool)
        if infinite.any():
            raise DesignError(
                f"{name} is infinite in {infinite.sum()} of {len(frame)} rows, the first {frame.index[infinite][0]!r}: "
                "means and places are finite. Leave these rows out, or make them missing values."
            )


def _known(x: Any, by: Any, known: Iterable[str]) -> list[str]:
    """The columns `by`, where there is one, and `x`."""
    given = {"by": by, "x": x} if by is not None else {"x": x}
    names = [choice(what, name, list(known), DesignError) for what, name in given.items()]
    if len(set(names)) < len(names):
        raise DesignError(f"x and by are both {x!r}: an interaction is one of two columns.")
    return names


def _of_data(columns: pd.DataFrame, y: FloatArray, counts: FloatArray) -> tuple[list[_Line], list[Any]]:
    """Means of the rows without missing values, and the values of x in their order."""
    used = columns.notna().all(axis=1).to_numpy() & ~np.isnan(y)
    if not used.any():
        raise DesignError(f"No row has a response and {' and '.join(map(str, columns))}: all have missing values.")
    keys = [own for _, own in columns[used].items()]
    sums = pd.DataFrame({"y": y * counts, "n": counts}, index=columns.index)[used].groupby(keys, observed=True).sum()
    means = sums["y"] / sums["n"]
    groups = [("", means)] if len(keys) == 1 else means.groupby(level=0, observed=True)
    lines = []
    for name, own in groups:
        values = np.column_stack([own.to_numpy(), np.full((len(own), 2), np.nan)])
        lines.append(_Line(label(name), tuple(own.index.get_level_values(-1)), values))
    _check_lines(lines, columns)
    return lines, list(means.groupby(level=-1, observed=True).size().index)


def _check_lines(lines: Sequence[_Line], columns: pd.DataFrame) -> None:
    """Refuse a column of which no value has two places: a number that was measured and is no factor."""
    if len(lines) > _MOST and columns.iloc[:, -1].nunique() > 1 and max(len(line.x) for line in lines) == 1:
        by, x = columns
        raise DesignError(
            f"by={by!r} has {len(lines)} values, each at a single value of {x!r}, so that no line joins two means. Cut "
            f"it into groups, e.g. pandas.qcut(data[{by!r}], 3)."
        )


def _of_model(of: REMLResult | Posterior | Comparison, x: str, by: str | None, level: float) -> list[_Line]:
    """Estimated means of a fit, or of a posterior, or of both beside each other."""
    reference = known_recipe(of.design).reference
    names = _known(x, by, dict.fromkeys([*reference.factors, *reference.covariates]))[::-1]
    at = {
        name: _values(reference.covariates[name], most)
        for name, most in zip(names, (_POINTS, 3), strict=False)
        if name in reference.covariates and name not in reference.factors
    }
    tables: list[tuple[str, MarginalMeans | PosteriorMeans]]
    if isinstance(of, Comparison):
        both = of.means(names, at=at)
        one = len(both.posteriors) == 1
        tables = [("REML", both.reml), *(("posterior" if one else name, own) for name, own in both.posteriors.items())]
    else:
        tables = [("", of.means(names, at=at, level=level))]
    lines = []
    for engine, means in tables:
        frame = pd.DataFrame(means._frame)
        columns = ["mean", "hdi_low", "hdi_high"] if "mean" in frame else ["estimate", "conf_low", "conf_high"]
        for name, own in [("", frame)] if by is None else frame.groupby(by, sort=False):
            lines.append(_Line(label(name), tuple(own[x]), own[columns].to_numpy(dtype=float), engine))
    # The engines of a level beside each other.
    order = list(dict.fromkeys(line.level for line in lines))
    return sorted(lines, key=lambda line: order.index(line.level))


def _values(known: Covariate, most: int) -> list[float]:
    """The values of a number at which means are taken: its own if they are few, else equal steps over its range."""
    values = known.values
    return list(values if 0 < len(values) <= most else np.linspace(known.low, known.high, most))


def _draw(ax: Any, lines: Sequence[_Line], order: Sequence[Any], by: str | None) -> str:
    """All lines; of many, thin ones without names, and how many there are. What the ticks leave out, in words."""
    scale = across(order)
    places = scale.places
    step = float(np.diff(np.sort(list(places.values()))).min(initial=np.inf)) if len(places) > 1 else 1.0
    levels, engines = (
        [*dict.fromkeys(own)] for own in zip(*((line.level, line.engine) for line in lines), strict=True)
    )
    many = len(levels) > _MOST
    for k, line in enumerate(lines):
        at = np.array([places[value] for value in line.x])
        rising = np.argsort(at)
        at, (mean, low, high) = at[rising], line.values[rising].T
        if many:
            # A line of one point is a point.
            style = {"color": "0.55", "linewidth": 0.9, "marker": "." if len(at) == 1 else ""}
            ax.plot(at, mean, **style, label=f"{len(levels)} levels of {by}" if k == 0 else None)
            continue
        style = series_style(levels.index(line.level))
        if line.engine != engines[0]:
            style |= {"fillstyle": "none", "linestyle": "none"}
        if np.isnan(low).all():
            ax.plot(at, mean, **style, label=line.name)
        else:
            moved = at + _DODGE * step * (k - (len(lines) - 1) / 2)
            ax.errorbar(moved, mean, [mean - low, high - mean], **style, capsize=2, label=line.name)
    if by is not None or len(engines) > 1:
        # Beside the panel, where it covers no interval.
        title = None if by is None or many else in_plot(by)
        ax.legend(frameon=False, fontsize=9, title=title, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return scale.dress(ax)


def _lost(lines: Sequence[_Line]) -> str:
    """The means that cannot be estimated, in words."""
    lost = [
        f"{line.level} at {label(value)}" if line.level else label(value)
        for line in lines
        for value, mean in zip(line.x, line.values[:, 0], strict=True)
        if np.isnan(mean)
    ]
    return f"not estimable: {', '.join(lost[:6])}{', ...' if len(lost) > 6 else ''}" if lost else ""
