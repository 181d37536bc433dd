"""Residuals and predicted effects of a fit in panels: against fitted values, normal quantiles, scale and location."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import betaincinv, ndtri

from bayeslmm.arguments import choice, labels
from bayeslmm.design.labels import group_labels
from bayeslmm.design.names import in_plot
from bayeslmm.errors import DesignError, FitError
from bayeslmm.figures.axes import panels_or_new
from bayeslmm.figures.point_labels import name_points
from bayeslmm.results.fit import Fit
from bayeslmm.results.residual_kinds import residual_values
from bayeslmm.types import BoolArray, FloatArray

PANELS = ("fitted", "qq", "scale", "ranef")
# Okabe-Ito colours, as in the other figures.
_POINT, _BAND, _GREY = "#0072B2", "#D55E00", "0.35"
# Points that are named in a panel, panels of effects, and panels side by side.
_NAMED, _MOST, _ACROSS = 3, 6, 3
_LEVEL = 0.95
# Share of its variance below which what is predicted of an effect is rounding.
_NOTHING = 1e-10


@dataclass(frozen=True)
class _Residuals:
    """What the panels of residuals are drawn from."""

    fitted: FloatArray
    values: FloatArray
    labels: Sequence[Any]
    name: str


def plot_fit(fit: Fit, which: str | Sequence[str] = PANELS, *, ax: Any = None) -> Any:
    """Diagnostic panels: residuals against fitted values, normal quantiles, scale and location, random effects.

    Residuals are standardised (`residuals`); quantiles have a pointwise 95 % envelope, that of order statistics of a
    normal sample. Predicted effects are over their own standard deviation, ``sqrt(sd^2 - conditional variance)``, so
    that shrinkage does not hide heavy tails. The most extreme cases bear their labels.

    Parameters
    ----------
    which : {"fitted", "qq", "scale", "ranef"} or several, optional
        Panels; all by default.
    ax : matplotlib.axes.Axes or sequence of these, optional
        One for each panel, in place of a new figure.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes
        In the order of the panels; ``"ranef"`` has one for every grouping factor and effect (six at most, the figure
        says what is left out).

    Raises
    ------
    DesignError
        No such panel; other axes than one for each panel.
    FitError
        Sigma is 0, so that residuals have no scale.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()
    >>> [axis.get_title() for axis in fit.plot(["qq", "ranef"])]
    ['Normal quantiles of residuals', 'Subject: Intercept', 'Subject: Days']
    """
    asked = tuple(dict.fromkeys(choice("which", name, PANELS, DesignError) for name in labels("which", which)))
    if not asked:
        raise DesignError(f"which is empty; it takes some of {', '.join(PANELS)}.")
    panels, note = _panels(fit, asked)
    # Three panels have to fit the width of a page.
    inches = (3.7, 3.4) if len(panels) in (1, 2, 4) else (3.2, 3.1)
    axes = panels_or_new(ax, "plot", len(panels), inches, _ACROSS)
    for axis, (title, draw) in zip(axes, panels, strict=True):
        draw(axis)
        axis.set_title(in_plot(title), fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    heading = f"{fit.formula.replace('`', '')}   ({fit.design.observations})" + (f"\n{note}" if note else "")
    if ax is None:
        axes[0].figure.suptitle(in_plot(heading), fontsize=8.5, color=_GREY)
    elif note:
        axes[-1].set_xlabel(in_plot(f"{axes[-1].get_xlabel()}\n{note}"))
    return np.array(axes, dtype=object)


def _panels(fit: Fit, asked: Sequence[str]) -> tuple[list[tuple[str, Callable[[Any], None]]], str]:
    """Titles and what draws each panel; a note on what is left out."""
    made = list[tuple[str, Callable[[Any], None]]]()
    note = ""
    if set(asked) & {"fitted", "qq", "scale"}:
        shown = _residuals(fit)
        drawn: dict[str, tuple[str, Callable[[Any], None]]] = {
            "fitted": ("Residuals against fitted values", lambda axis: _against_fitted(shown, axis)),
            "qq": (
                "Normal quantiles of residuals",
                lambda axis: _quantiles(shown.values, shown.labels, f"{shown.name} residual", axis),
            ),
            "scale": ("Scale and location", lambda axis: _scale(shown, axis)),
        }
        made += [drawn[name] for name in asked if name in drawn]
    if "ranef" in asked:
        effects = _effects(fit)
        made += effects[:_MOST]
        if len(effects) > _MOST:
            note = f"{_MOST} of {len(effects)} random effects; left out: " + ", ".join(t for t, _ in effects[_MOST:])
    return made, note


def _residuals(fit: Fit) -> _Residuals:
    fitted = fit._fitted
    if fit.design.residual.clusters is not None:
        # Whitened, but not over the share that the fit leaves of each.
        return _Residuals(fitted, residual_values(fit, "normalized"), list(fit.design.index), "normalized")
    values = residual_values(fit, "standardised")
    known = np.isfinite(values)
    if not known.any():
        raise FitError("Every row determines its own fitted value, so that no residual has a scale.")
    return _Residuals(fitted[known], values[known], list(np.asarray(fit.design.index)[known]), "standardised")


def _against_fitted(shown: _Residuals, axis: Any) -> None:
    axis.axhline(0.0, color="0.6", linewidth=1)
    _points(shown.fitted, shown.values, axis)
    _trend(shown.fitted, shown.values, axis)
    _name(shown.fitted, shown.values, np.abs(shown.values), shown.labels, axis)
    axis.set_xlabel("fitted value")
    axis.set_ylabel(f"{shown.name} residual")


def _scale(shown: _Residuals, axis: Any) -> None:
    root = np.sqrt(np.abs(shown.values))
    _points(shown.fitted, root, axis)
    _trend(shown.fitted, root, axis)
    _name(shown.fitted, root, root, shown.labels, axis)
    axis.set_xlabel("fitted value")
    axis.set_ylabel(f"root of |{shown.name} residual|")


def _points(x: FloatArray, y: FloatArray, axis: Any) -> None:
    many = x.size > 5000
    axis.plot(x, y, "." if many else "o", color=_POINT, markersize=2 if many else 3.5, alpha=0.6, rasterized=many)


def _trend(x: FloatArray, y: FloatArray, axis: Any) -> None:
    """Medians of equal shares of the points, from left to right."""
    bins = min(12, x.size // 8)
    if bins < 3:
        return
    parts = np.array_split(np.argsort(x, kind="stable"), bins)
    middle = [float(np.median(x[part])) for part in parts]
    axis.plot(middle, [float(np.median(y[part])) for part in parts], color=_BAND, linewidth=1.5)


def _name(x: FloatArray, y: FloatArray, size: FloatArray, names: Sequence[Any], axis: Any) -> None:
    """Labels at the most extreme points."""
    name_points(x, y, np.argsort(-size)[:_NAMED], names, axis, _GREY)


def envelope(n: int, level: float = _LEVEL) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Expected places of n ordered normal numbers, and the pointwise interval of each.

    The k-th smallest of n uniform numbers has the beta distribution with parameters k and n + 1 - k.

    Examples
    --------
    >>> middle, low, high = envelope(9)
    >>> float(middle[4].round(12)), bool(low[0] < middle[0] < high[0])
    (0.0, True)
    """
    k = np.arange(1, n + 1)
    ends = (betaincinv(k, n + 1 - k, p) for p in (0.5, 0.5 - level / 2, 0.5 + level / 2))
    middle, low, high = (ndtri(p) for p in ends)
    return np.asarray(middle), np.asarray(low), np.asarray(high)


def _quantiles(values: FloatArray, names: Sequence[Any], what: str, axis: Any) -> None:
    order = np.argsort(values, kind="stable")
    middle, low, high = envelope(values.size)
    axis.fill_between(middle, low, high, color=_BAND, alpha=0.15, linewidth=0, label="95 %, pointwise")
    axis.plot(middle, middle, color=_BAND, linewidth=1.2)
    sorted_values = values[order]
    _points(middle, sorted_values, axis)
    _name(middle, sorted_values, np.abs(sorted_values), [names[k] for k in order], axis)
    axis.set_xlabel("normal quantile")
    axis.set_ylabel(what)


def _effects(fit: Fit) -> list[tuple[str, Callable[[Any], None]]]:
    """A panel for every grouping factor and effect."""
    means, variances, out = Fit.ranef(fit), Fit.ranef_variances(fit, fixed_known=False), []
    for group in group_labels(fit.design):
        prior = np.concatenate([fit.sigma**2 * (fit.optimum.terms[i] ** 2).sum(axis=1) for i in group.terms])
        for j, name in enumerate(group.effects):
            own = prior[j] - variances[group.group][:, j, j]
            told = own > _NOTHING * prior[j]
            title = f"{group.group}: {name}"
            out.append((title, _effect_panel(means[group.group].iloc[:, j].to_numpy(), own, told, group.levels)))
    return out


def _effect_panel(b: FloatArray, variance: FloatArray, told: BoolArray, levels: Sequence[str]) -> Callable[[Any], None]:
    def draw(axis: Any) -> None:
        if told.sum() < 2:
            axis.text(0.5, 0.5, "no variance", transform=axis.transAxes, ha="center", va="center", color=_GREY)
            axis.set_xticks([])
            axis.set_yticks([])
            return
        names = [level for level, known in zip(levels, told, strict=True) if known]
        _quantiles(b[told] / np.sqrt(variance[told]), names, "standardised effect", axis)

    return draw
