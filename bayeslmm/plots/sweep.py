"""What becomes of one parameter under other priors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.arguments import choice
from bayeslmm.errors import DesignError
from bayeslmm.faces import Posterior
from bayeslmm.figures.axes import axes_or_new, found
from bayeslmm.plots.style import NEUTRAL, POSTERIOR, widest, wrapped

_FONT, _ROW, _WIDTH = 9, 0.34, 4.8
_COLUMNS = ("mean", "hdi_low", "hdi_high", "p_below", "delta", "reliable")


def plot_prior_sweep(sweep: pd.DataFrame | Posterior, parameter: str | None = None, *, ax: Any = None) -> Any:
    """One parameter under every prior of a sweep: mean, highest-density interval, and how probable it is near zero.

    Parameters
    ----------
    sweep : DataFrame or Posterior
        What ``post.prior_sweep(...)`` returned; of a posterior its sweep of the scales of its priors.
    parameter : str, optional
        A label in the table; the first by default.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        Priors from above in the order of the table. Rows that the draws cannot tell have hollow marks.

    Raises
    ------
    DesignError
        Not a sweep; no such parameter; axes of another kind.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> post = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).sample(2000, random_seed=1)
    >>> axis = bl.plot_prior_sweep(post.prior_sweep(scales=[0.5, 1, 2]))
    >>> [text.get_text() for text in axis.get_yticklabels()]
    ['scale x 0.5', 'scale x 1', 'scale x 2']
    """
    table = sweep.prior_sweep() if isinstance(sweep, Posterior) else sweep
    if not (isinstance(table, pd.DataFrame) and {*_COLUMNS} <= {*table} and table.index.nlevels == 2):
        raise DesignError(
            f"plot_prior_sweep() got {found(sweep)}. It draws what post.prior_sweep() returned, or a posterior."
        )
    known = list(dict.fromkeys(table.index.get_level_values("parameter")))
    parameter = known[0] if parameter is None else choice("parameter", parameter, known, DesignError)
    rows = pd.DataFrame(table[table.index.get_level_values("parameter") == parameter]).droplevel("parameter")
    names = [wrapped(str(name), 2.6, _FONT) for name in rows.index]
    ax = axes_or_new(ax, "plot_prior_sweep", (_WIDTH + min(widest(names, _FONT), 2.6), 1.3 + _ROW * len(rows)))
    _intervals(ax, rows)
    ax.set_yticks(range(len(rows)), names, fontsize=_FONT)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.set_xlabel(
        "\n".join(wrapped(line, _WIDTH, _FONT) for line in _words(parameter, rows, table.attrs)), fontsize=_FONT
    )
    return ax


def _words(parameter: str, rows: pd.DataFrame, attrs: Mapping[Any, Any]) -> list[str]:
    """What is drawn; a table that somebody put together does not say the level of its intervals."""
    level = f"{100 * attrs['level']:g} % " if "level" in attrs else ""
    words = [f"{parameter}: posterior mean and {level}HDI"]
    if rows["p_below"].notna().all():
        words.append(f"grey, and P at the right: below delta = {rows['delta'].iloc[0]:.3g}, a negligible sd")
    return words


def _intervals(ax: Any, rows: pd.DataFrame) -> None:
    """A row for every prior; those that reweighting cannot tell dashed and hollow."""
    for sure, label in ((True, None), (False, "draws cannot tell: sample with this prior")):
        own = (rows["reliable"] == sure).to_numpy()
        at, part = np.flatnonzero(own), rows[own]
        color = POSTERIOR if sure else NEUTRAL
        ax.hlines(at, part["hdi_low"], part["hdi_high"], color=color, linestyle="-" if sure else "--", linewidth=2.2)
        if own.any():
            style = {"color": color, "markersize": 6, "fillstyle": "full" if sure else "none", "linestyle": "none"}
            ax.plot(part["mean"], at, "o", **style, label=label)
    if not rows["reliable"].all():
        ax.legend(frameon=False, fontsize=_FONT, loc="lower left", bbox_to_anchor=(0.0, 1.0))
    if rows["p_below"].notna().all():
        across = ax.get_yaxis_transform()
        ax.axvspan(0.0, float(rows["delta"].iloc[0]), color="0.9", zorder=0, linewidth=0)
        for place, share in enumerate(rows["p_below"]):
            ax.text(1.03, place, _share(share), transform=across, fontsize=_FONT, va="center")
        ax.text(1.03, 1.0, f"P(sd < {rows['delta'].iloc[0]:.3g})", transform=ax.transAxes, fontsize=_FONT, va="bottom")
        ax.set_xlim(left=0.0)


def _share(share: float) -> str:
    return "< 0.01" if share < 0.005 else "> 0.99" if share > 0.995 else f"{share:.2f}"
