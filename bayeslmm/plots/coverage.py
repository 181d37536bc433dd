"""Heat maps of a coverage study: one panel for the share of singular fits, one for every kind of interval."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bayeslmm.errors import DesignError
from bayeslmm.figures.axes import found, given_axes
from bayeslmm.plots.style import wrapped
from bayeslmm.results.intervals import check_level

if TYPE_CHECKING:
    import pandas as pd

_TITLES = {
    "reml_profile": "REML profile",
    "ml_profile": "ML profile",
    "pivot": "F pivot (sd / sigma)",
    "hdi": "posterior, HDI",
    "equal_tailed": "posterior, equal-tailed",
    "z": "plug-in z",
    "satterthwaite": "Satterthwaite",
    "kenward_roger": "Kenward-Roger",
    "posterior": "posterior",
}

_COLUMNS = ("design", "parameter", "method", "groups", "size", "icc", "slope_sd", "rho", "coverage", "zero_share")
_TITLE, _ACROSS = 8.5, 4
# Inches that the titles need in two lines.
_NARROWEST = 1.15


def plot_coverage(
    study: Any, parameter: str = "sd[Intercept]", design: str = "balanced", *, level: float = 0.95, ax: Any = None
) -> Any:
    """Coverage of every kind of interval of one parameter, by design and true variance.

    Orange: the interval holds the truth less often than it says. Blue: more often.

    Parameters
    ----------
    study : CoverageStudy or pandas.DataFrame
        A study, or its table.
    parameter : {"sd[Intercept]", "sd[x]", "Intercept", "x"}
    design : {"balanced", "unbalanced", "x || g", "x | g"}
    level : float
    ax : matplotlib.axes.Axes or sequence of these, optional
        One for each panel, in place of a new figure.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes

    Raises
    ------
    DesignError
        The table has no such rows; not a study or its table; `level` is not between 0 and 1.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> len(bl.plot_coverage(bl.coverage_atlas(), "Intercept"))
    5
    """
    import matplotlib.pyplot as plt

    table = _table(study)
    level = check_level(level)
    _check_names(parameter=parameter, design=design)
    # As Python's text: a library of strings may refuse one that it cannot encode.
    names = zip(table["parameter"].tolist(), table["design"].tolist(), strict=True)
    own = table[[pair == (parameter, design) for pair in names]]
    if own.empty:
        known = table[["design", "parameter"]].drop_duplicates().itertuples(index=False)
        raise DesignError(
            f"The study has no rows of parameter {parameter!r} in design {design!r}. It has "
            f"{'; '.join(f'{p} in {d}' for d, p in known)}."
        )
    methods = list(dict.fromkeys(own["method"]))
    across = _across(own)
    height = 1.65 + 0.26 * len(own[["groups", "size"]].drop_duplicates())
    panel = max(0.42 * len(across.drop_duplicates()) + 0.35, _NARROWEST)
    count = len(methods) + 1
    columns = count if count <= _ACROSS else -(-count // 2)
    width, rows = 1.3 + panel * columns, -(-count // columns)
    if ax is None:
        size = (width, height * rows)
        _, grid = plt.subplots(rows, columns, figsize=size, sharey=True, squeeze=False, layout="constrained")
        axes = grid.ravel()[:count]
        for spare in grid.ravel()[count:]:
            spare.remove()
    else:
        axes = np.array(given_axes(ax, "plot_coverage", count), dtype=object)
    zeros = _square(own[own["method"] == methods[0]], "zero_share")
    _panel(axes[0], zeros, "{:.0f}", "Greys", (0.0, 1.0))
    limits = (level - 0.1, level + 0.1)
    for axis, method in zip(axes[1:], methods, strict=True):
        _panel(axis, _square(own[own["method"] == method], "coverage"), "{:.1f}", _colours(), limits)
    for axis, title in zip(axes, ("REML says zero", *(_TITLES.get(method, method) for method in methods)), strict=True):
        axis.set_title(wrapped(title, panel - 0.1, _TITLE), fontsize=_TITLE)
    for axis in axes[::columns]:
        axis.set_ylabel("groups x observations", fontsize=_TITLE)
    label = "slope sd / intercept sd; correlation" if "|" in design else "true intraclass correlation"
    heading = f"{parameter}, {design}: coverage of {level:.0%} intervals, per cent"
    if ax is None:
        axes[0].figure.supxlabel(label, fontsize=9)
        axes[0].figure.suptitle(wrapped(heading, width - 0.2, 10), fontsize=10)
    else:
        axes[0].set_xlabel(f"{label}\n{heading}", fontsize=8, loc="left")
    return axes


def _table(study: Any) -> pd.DataFrame:
    import pandas as pd

    table = getattr(study, "table", study)
    if isinstance(table, pd.DataFrame):
        missing = [name for name in _COLUMNS if name not in table.columns]
        if not missing:
            return table
        what = f"a DataFrame without the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}"
    else:
        what = found(study)
    raise DesignError(
        f"plot_coverage() got {what}. It draws a coverage study or its table: bl.plot_coverage(bl.coverage_atlas()), "
        "or that of bl.coverage_study([bl.Cell(...)]). Fits and posteriors are drawn by bl.plot_variance."
    )


def _check_names(**names: Any) -> None:
    for name, value in names.items():
        if not isinstance(value, str):
            raise DesignError(f"{name} is {found(value)}; it takes a text, as in the column {name} of the table.")


def _across(rows: pd.DataFrame) -> pd.Series:
    if (rows["slope_sd"] > 0).any():
        shown = rows["slope_sd"].map("{:g}".format)
        return shown.where(rows["rho"] == 0, shown + "; " + rows["rho"].map("{:g}".format))
    return rows["icc"].map("{:g}".format)


def _square(rows: pd.DataFrame, values: str) -> pd.DataFrame:
    labelled = rows.assign(across=_across(rows), down=rows["groups"].astype(str) + " x " + rows["size"].astype(str))
    square = labelled.pivot(index="down", columns="across", values=values)
    return square.loc[labelled["down"].unique(), labelled["across"].unique()]


def _panel(ax: Any, square: pd.DataFrame, numbers: str, colours: Any, limits: tuple[float, float]) -> None:
    values = square.to_numpy(dtype=float)
    image = ax.imshow(values, cmap=colours, vmin=limits[0], vmax=limits[1], aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            red, green, blue, _ = image.cmap(image.norm(value))
            dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.55
            text = numbers.format(100 * value)
            ax.text(column, row, text, ha="center", va="center", fontsize=7.5, color="white" if dark else "black")
    ax.set_xticks(range(square.shape[1]), square.columns, fontsize=8)
    ax.set_yticks(range(square.shape[0]), square.index, fontsize=8)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _colours() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    stops = ["#8A3B00", "#D55E00", "#F6F6F6", "#7DB8DE", "#0072B2"]
    return LinearSegmentedColormap.from_list("coverage", stops)
