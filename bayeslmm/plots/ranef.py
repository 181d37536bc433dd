"""Random effects of every level with their intervals, ordered: the dotplot of both engines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bayeslmm.comparison import Comparison
from bayeslmm.faces import Posterior, REMLResult
from bayeslmm.plots.shrinkage import effects_figure


def plot_ranef(
    both: Comparison | REMLResult | Posterior,
    group: str | None = None,
    effect: str | None = None,
    *,
    levels: int | Sequence[object] | None = None,
    ax: Any = None,
) -> Any:
    """Predicted effects of all levels with their intervals, from the smallest to the largest.

    Of a fit, predictions (BLUPs) with intervals at variances taken as known; of a posterior, means and equal-tailed
    intervals; of a comparison, both. The levels of a factor have the same order in all its panels, that of the first
    effect. `plot_shrinkage` adds what every level says on its own.

    Parameters
    ----------
    both : Comparison, REMLResult or Posterior
    group : str, optional
        Grouping factor; all by default, one below the other.
    effect : str, optional
        One effect; all by default, a panel each.
    levels : int or sequence, optional
        How many levels of a factor to show at most, half of them the lowest and half the highest, or the labels of
        those to show. By default 400. The figure says how many are left out.
    ax : matplotlib.axes.Axes or sequence of these, optional
        One for each panel, in place of a new figure.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes
        Factor by factor, its effects in their order.

    Raises
    ------
    DesignError
        No such factor, effect or level; not a comparison, fit or posterior.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()
    >>> [axis.get_title() for axis in bl.plot_ranef(fit)]
    ['Intercept by Subject', 'Days by Subject']
    """
    return effects_figure(both, "plot_ranef", group, effect, levels, separate=False, ax=ax)
