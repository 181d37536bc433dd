"""Profiles of a fit on the scale on which a parabola is a straight line: zeta, the signed root of the criterion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri

from bayeslmm.arguments import instance
from bayeslmm.arguments import labels as texts
from bayeslmm.comparison.tables import is_scale
from bayeslmm.errors import DesignError
from bayeslmm.faces import REMLResult
from bayeslmm.figures.axes import panels_or_new
from bayeslmm.plots.style import NEUTRAL, REML, units, wrapped
from bayeslmm.results.intervals import check_level
from bayeslmm.results.profiles import find_derived

_WIDTH, _HEIGHT, _TITLE, _TEXT = 3.1, 2.9, 9.5, 8.5
# Zeta that is shown on either side.
_MOST = 3.0
_WORDS = {"fixed": "coefficient", "corr": "correlation", "icc": "intraclass correlation", "ratio": "ratio of variances"}


def plot_profile(
    fit: REMLResult, parameters: str | Sequence[str] | None = None, *, level: float = 0.95, ax: Any = None
) -> Any:
    """Profile zeta of every parameter: how far the data speak against each of its values.

    Zeta is the signed root of the rise of the criterion, minimised over all other parameters. Where it is a straight
    line, the criterion is a parabola and Wald's interval is right; a bend is what a profile interval sees and Wald's
    does not. The interval is where the curve lies between the dashed lines.

    Parameters
    ----------
    fit : REMLResult
    parameters : str or sequence of str, optional
        Labels, as in `REMLResult.confint`; all by default, a panel each.
    level : float
    ax : matplotlib.axes.Axes or sequence of these, optional
        One for each panel.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes

    Raises
    ------
    DesignError
        Not a fit; no such parameter, or one without a profile; other axes than one for each panel.

    See Also
    --------
    REMLResult.profile : The numbers.

    References
    ----------
    Bates & Watts (1988), Nonlinear Regression Analysis and Its Applications, 6.1.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()
    >>> [axis.get_title() for axis in bl.plot_profile(fit)]
    ['sd_Batch[Intercept]', 'sigma', 'Intercept']
    """
    fit = instance("fit", fit, REMLResult, "what model.fit() returned", DesignError)
    level = check_level(level)
    known = fit.estimates().index.tolist()
    chosen = known if parameters is None else list(texts("parameters", parameters, error=DesignError))
    ends = fit.confint(level, parameters=chosen)
    curves = [fit.profile(label) for label in chosen]
    axes = panels_or_new(ax, "plot_profile", len(chosen), (_WIDTH, _HEIGHT))
    cut = float(ndtri(0.5 + level / 2))
    for axis, label, curve in zip(axes, ends.index, curves, strict=True):
        low, high = ends.loc[label].to_numpy(dtype=float)
        _panel(axis, curve, (low, high), cut)
        axis.set_title(wrapped(label, _WIDTH - 0.4, _TITLE), fontsize=_TITLE)
        axis.set_xlabel(wrapped(_unit(fit, label), _WIDTH - 0.4, _TEXT), fontsize=_TEXT)
        axis.set_ylabel("zeta", fontsize=_TEXT)
        _below_offset(axis)
    if ax is None:
        heading = f"{fit.formula.replace('`', '')}   ({fit.design.observations})\ndashed: {100 * level:g} % interval"
        text = "\n".join(wrapped(line, axes[0].figure.get_figwidth() - 0.2, 8.5) for line in heading.split("\n"))
        axes[0].figure.suptitle(text, fontsize=8.5, color="0.35")
    return np.array(axes, dtype=object)


def _panel(axis: Any, curve: pd.DataFrame, ends: tuple[float, float], cut: float) -> None:
    """One curve, the lines of the interval, and where the curve crosses them."""
    shown = curve[np.abs(curve["zeta"]) <= max(_MOST, 1.3 * cut)]
    axis.axhline(0.0, color="0.8", linewidth=0.8, zorder=0)
    axis.plot(shown["value"], shown["zeta"], color=REML, linewidth=2.0)
    at = np.interp(ends, curve["value"], curve["zeta"])
    for end, zeta, side in zip(ends, at, (-1.0, 1.0), strict=True):
        axis.axhline(side * cut, color=NEUTRAL, linewidth=0.9, linestyle="--", zorder=0)
        # An interval may reach the end of the range without a crossing.
        if np.isfinite(end):
            height = side * cut if abs(zeta - side * cut) < 0.2 else zeta
            axis.vlines(end, 0.0, height, color=NEUTRAL, linewidth=0.9, linestyle="--", zorder=0)
            axis.plot(end, 0.0, "|", color=REML, markersize=8)
    axis.locator_params(axis="x", nbins=5)
    axis.tick_params(labelsize=_TEXT)
    axis.spines[["top", "right"]].set_visible(False)


def _below_offset(axis: Any) -> None:
    """Room for what the ticks leave out (``+1e9``), which Matplotlib writes where the label stands."""
    formatter = axis.xaxis.get_major_formatter()
    formatter.set_locs(axis.get_xticks())
    if formatter.get_offset():
        axis.xaxis.labelpad += 1.3 * _TEXT


def _unit(fit: REMLResult, label: str) -> str:
    p = find_derived(fit.design, label)
    return units(fit.design, p) if is_scale(p) else _WORDS.get(p.kind, p.kind)
