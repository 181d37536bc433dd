"""The same parameters in several models: a forest of a comparison of models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bayeslmm.arguments import instance
from bayeslmm.arguments import labels as texts
from bayeslmm.comparison import ModelComparison
from bayeslmm.errors import DesignError, FitError
from bayeslmm.figures.axes import panels_or_new
from bayeslmm.plots.style import ML, POSTERIOR, legend_below, widest, wrapped
from bayeslmm.results.intervals import check_level

_FONT, _ROW, _WIDTH, _ACROSS = 9, 0.42, 2.6, 3
_APART = 0.14


def plot_models(
    models: ModelComparison, parameters: str | Sequence[str] | None = None, *, level: float = 0.95, ax: Any = None
) -> Any:
    """Every parameter in every model: estimate by maximum likelihood and posterior, with their intervals.

    Parameters
    ----------
    models : ModelComparison
        ``bl.compare(model1, model2, ...)``.
    parameters : str or sequence of str, optional
        Labels; by default all parameters that two models or more have, a panel each.
    level : float
        Of profile intervals and highest-density intervals.
    ax : matplotlib.axes.Axes or sequence of these, optional
        One for each panel.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes

    Raises
    ------
    DesignError
        Not a comparison of models; no such parameter; other axes than one for each panel.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> sleep = bl.load_dataset("sleepstudy")
    >>> formulas = ["Reaction ~ Days + (1 | Subject)", "Reaction ~ Days + (Days | Subject)"]
    >>> models = bl.compare([bl.Model(formula, sleep) for formula in formulas])
    >>> [axis.get_title() for axis in bl.plot_models(models, ["Days", "sigma"])]
    ['Days', 'sigma']
    """
    models = instance("models", models, ModelComparison, "what bl.compare(model1, model2) returned", DesignError)
    level = check_level(level)
    own = [fit.estimates().index.tolist() for fit in models.fits]
    known = list(dict.fromkeys(label for labels in own for label in labels))
    shared = [label for label in known if sum(label in labels for labels in own) > 1]
    chosen = shared if parameters is None else list(texts("parameters", parameters, known, DesignError))
    if not chosen:
        raise DesignError(f"No parameter is in two of the models. parameters= takes some of {', '.join(known)}.")
    names = [wrapped(str(name), 2.4, _FONT) for name in models.table.index]
    room = min(widest(names, _FONT), 2.4)
    height = 0.9 + _ROW * len(names)
    axes = panels_or_new(ax, "plot_models", len(chosen), (_WIDTH + room / min(len(chosen), _ACROSS), height), _ACROSS)
    for axis, label in zip(axes, chosen, strict=True):
        _panel(axis, models, own, label, level)
        axis.set_title(wrapped(label, _WIDTH, _FONT + 0.5), fontsize=_FONT + 0.5)
        first = ax is not None or axis.get_subplotspec().is_first_col()
        axis.set_yticks(range(len(names)), names if first else [], fontsize=_FONT)
    if ax is None:
        figure = axes[0].figure
        figure.set_figheight(figure.get_figheight() + legend_below(figure, axes))
    else:
        axes[-1].legend(frameon=False, fontsize=_FONT)
    return np.array(axes, dtype=object)


def _panel(axis: Any, models: ModelComparison, known: Sequence[Sequence[str]], label: str, level: float) -> None:
    """One parameter, a row for each model that has it."""
    percent = f"{100 * level:g} %"
    for row, (fit, post, own) in enumerate(zip(models.fits, models.posteriors, known, strict=True)):
        if label not in own:
            axis.text(
                0.5,
                row,
                "not in this model",
                transform=axis.get_yaxis_transform(),
                fontsize=_FONT - 1,
                color="0.45",
                ha="center",
                va="center",
            )
            continue
        try:
            low, high = fit.confint(level, parameters=label).to_numpy(dtype=float)[0]
        except (DesignError, FitError):
            # A fit without a minimum has estimates and no profile.
            low = high = np.nan
        found = post.table(level).loc[label]
        first = row == next(k for k, labels in enumerate(known) if label in labels)
        for at, ends, middle, color, mark, text in (
            (row - _APART, (low, high), fit.estimates()[label], ML, "D", f"ML, {percent} profile"),
            (
                row + _APART,
                found[["hdi_low", "hdi_high"]],
                found["median"],
                POSTERIOR,
                "o",
                f"posterior median, {percent} HDI",
            ),
        ):
            axis.hlines(at, *ends, color=color, linewidth=2.2)
            axis.plot(middle, at, mark, color=color, markersize=5.5, label=text if first else None)
    axis.set_ylim(len(known) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)
    axis.tick_params(axis="x", labelsize=_FONT - 0.5)
    axis.locator_params(axis="x", nbins=4)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.grid(axis="x", color="0.92")
    axis.set_axisbelow(True)
