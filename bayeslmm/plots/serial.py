"""Residuals of a group beside one another: autocorrelation by lag, semivariogram by distance."""

from __future__ import annotations

from typing import Any

from bayeslmm.arguments import instance
from bayeslmm.design.names import in_plot
from bayeslmm.errors import DesignError
from bayeslmm.faces import REMLResult
from bayeslmm.figures.axes import axes_or_new
from bayeslmm.plots.style import NEUTRAL, POSTERIOR, REML, wrapped
from bayeslmm.results.serial import SerialKind

_SIZE, _STRUCTURE = (6.0, 3.6), "fitted structure"
_WORDS = {"raw": "raw residuals", "pearson": "Pearson residuals", "normalized": "normalized residuals"}


def plot_acf(
    fit: REMLResult,
    kind: SerialKind = "normalized",
    *,
    time: Any = None,
    by: Any = None,
    max_lag: int | None = None,
    level: float = 0.95,
    ax: Any = None,
) -> Any:
    """Autocorrelation of the residuals within groups, with limits and what the fitted structure says.

    Parameters
    ----------
    fit : REMLResult
    kind : {"raw", "pearson", "normalized"}
        Of normalized residuals nothing should be left beyond the limits; raw and Pearson ones should follow the line
        of the structure.
    time, by, max_lag, level : optional
        As in `REMLResult.acf`, which has the numbers.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    DesignError
        No fit, axes of another kind, or an argument that is none of these.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> data = bl.load_dataset("sleepstudy")
    >>> fit = bl.Model("Reaction ~ Days", data, residual="ar1(Days | Subject)").fit()
    >>> bl.plot_acf(fit).get_ylabel()
    'autocorrelation'
    """
    fit = _fitted(fit)
    axes = axes_or_new(ax, "plot_acf", _SIZE)
    table = fit.acf(kind, time=time, by=by, max_lag=max_lag, level=level)
    lags = table.index.to_numpy()
    axes.axhline(0.0, color="0.6", linewidth=1)
    axes.vlines(lags, 0.0, table["acf"], color=POSTERIOR, linewidth=1.5)
    axes.plot(lags, table["acf"], "o", color=POSTERIOR, markersize=4.5, label=_WORDS[kind])
    for sign, label in ((1, f"{100 * level:g} % limits of independent ones"), (-1, None)):
        axes.plot(lags[1:], sign * table["limit"][1:], color=NEUTRAL, linestyle="--", linewidth=1.2, label=label)
    if (table["expected"][1:] != 0).any():
        axes.plot(lags, table["expected"], "x-", color=REML, markersize=5, linewidth=1, label=_STRUCTURE)
    axes.xaxis.get_major_locator().set_params(integer=True)
    unit = "rows of a group" if table.attrs["time"] == "rows" else "units of time or visits"
    axes.set_xlabel(f"lag ({unit})")
    axes.set_ylabel("autocorrelation")
    _finish(axes, fit, table.attrs["by"])
    return axes


def plot_semivariogram(
    fit: REMLResult,
    kind: SerialKind = "pearson",
    *,
    time: Any = None,
    by: Any = None,
    bins: int = 20,
    max_distance: float | None = None,
    ax: Any = None,
) -> Any:
    """Semivariogram of the residuals within groups, with what the fitted structure says.

    Parameters
    ----------
    fit : REMLResult
    kind : {"raw", "pearson", "normalized"}
        Normalized residuals should lie about 1 at all distances.
    time, by, bins, max_distance : optional
        As in `REMLResult.semivariogram`, which has the numbers.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        The area of a point goes with its number of pairs.

    Raises
    ------
    DesignError
        No fit, axes of another kind, or an argument that is none of these.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> data = bl.load_dataset("Orthodont")
    >>> fit = bl.Model("distance ~ age", data, residual="car1(age | Subject)").fit()
    >>> bl.plot_semivariogram(fit).get_ylabel()
    'semivariogram'
    """
    fit = _fitted(fit)
    axes = axes_or_new(ax, "plot_semivariogram", _SIZE)
    table = fit.semivariogram(kind, time=time, by=by, bins=bins, max_distance=max_distance)
    size = 15 + 75 * table["pairs"] / table["pairs"].max()
    axes.scatter(table["distance"], table["semivariogram"], s=size, color=POSTERIOR, alpha=0.7, label=_WORDS[kind])
    axes.plot(table["distance"], table["expected"], "x-", color=REML, markersize=5, linewidth=1, label=_STRUCTURE)
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel("distance within a group")
    axes.set_ylabel("semivariogram")
    _finish(axes, fit, table.attrs["by"])
    return axes


def _fitted(fit: Any) -> REMLResult:
    return instance("fit", fit, REMLResult, "what model.fit() returned", DesignError)


def _finish(axes: Any, fit: REMLResult, group: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    residual = getattr(fit.design.residual, "expression", "")
    text = fit.formula.replace("`", "") + (f", residual='{residual}'" if residual else "")
    axes.set_title(in_plot(wrapped(f"{text}: within {group}", _SIZE[0], 9)), fontsize=9, loc="left")
    # Below: values of any height stand inside.
    axes.legend(frameon=False, fontsize=8.5, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
