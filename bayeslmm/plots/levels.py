"""Levels of a grouping factor in a figure: which are shown, in which order, and what is known of their effects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri

from bayeslmm.arguments import shown as shown_value
from bayeslmm.bayes.layout import make_layout
from bayeslmm.comparison import Comparison
from bayeslmm.design.design import Design
from bayeslmm.errors import DesignError
from bayeslmm.faces import Posterior
from bayeslmm.plots.subject import Subject
from bayeslmm.residual import NO_PARAMETERS
from bayeslmm.types import FloatArray, IntArray

# Levels that a figure of some 20 inches has room for.
MOST = 400
# Labels that are asked for by name.
_MOST_LABELS = 1_000_000


@dataclass(frozen=True)
class DrawnLevels:
    """The levels of one factor that are shown.

    Attributes
    ----------
    group : str
    labels : tuple of str
        From the bottom to the top.
    which : IntArray, shape (K,)
        Their positions among all levels.
    total : int
        How many there are.
    cut : int
        How many of `which` are below the place of those that are left out; 0: none are left out there.
    """

    group: str
    labels: tuple[str, ...]
    which: IntArray
    total: int
    cut: int = 0

    @property
    def places(self) -> FloatArray:
        """Heights of the levels, with a gap where some are left out."""
        y = np.arange(len(self.labels), dtype=float)
        return y + np.where(y >= self.cut, 2.0, 0.0) if self.cut else y

    @property
    def left_out(self) -> int:
        return self.total - len(self.labels)


@dataclass(frozen=True)
class Effects:
    """What one fit or posterior says of all effects of a factor, each (levels, effects)."""

    mean: FloatArray
    low: FloatArray
    high: FloatArray


def of_fit(shown: Subject, group: str) -> Effects | None:
    """Predictions with intervals in which the variances are taken as known."""
    if shown.fit is None:
        return None
    mean = shown.fit.ranef()[group].to_numpy(dtype=float)
    reach = float(ndtri(0.5 + shown.level / 2)) * np.sqrt(shown.variances[group])
    return Effects(mean, mean - reach, mean + reach)


def of_posterior(post: Posterior, group: str, level: float) -> Effects | None:
    """Means and equal-tailed intervals; None where the draws of the effects were not kept."""
    name = next(own.b for own in make_layout(post.design).groups if own.labels.group == group)
    if name not in post.data["posterior"]:
        return None
    draws = np.asarray(post.data["posterior"][name])
    low, high = np.quantile(draws, [0.5 - level / 2, 0.5 + level / 2], axis=(0, 1))
    return Effects(draws.mean(axis=(0, 1)), low, high)


def known_levels(
    shown: Subject, group: str, effect: int, levels: int | Sequence[object] | None
) -> tuple[DrawnLevels, list[Effects | None]]:
    """The levels to show, ordered by one of their effects, and what the fit and each posterior say of all effects.

    Raises
    ------
    DesignError
        No such level; a posterior alone that has not kept the effects.
    """
    known = [of_fit(shown, group), *(of_posterior(post, group, shown.level) for post in shown.posteriors)]
    # A singular fit predicts 0 for all: the posterior then decides the order.
    keys = [effects.mean[:, effect] for effects in known if effects is not None]
    if not keys:
        # Says which draws are missing.
        shown.posteriors[0].ranef()
    return choose(group, shown.labels(group).levels, keys, levels), known


def choose(
    group: str, names: Sequence[str], keys: Sequence[FloatArray], levels: int | Sequence[object] | None
) -> DrawnLevels:
    """The levels to show, ordered by the first of some keys (levels,), those that it does not tell apart by the next.

    Raises
    ------
    DesignError
        No such level.
    """
    order = np.lexsort(list(keys)[::-1])
    most = MOST if levels is None else levels
    if isinstance(most, int | np.integer):
        if len(order) <= most:
            return DrawnLevels(group, tuple(names[k] for k in order), order, len(names))
        low, high = (int(most) + 1) // 2, int(most) // 2
        which = np.concatenate([order[:low], order[len(order) - high :]])
        return DrawnLevels(group, tuple(names[k] for k in which), which, len(names), low)
    chosen = _positions(names, group, most)
    which = np.array([k for k in order if k in chosen], dtype=np.intp)
    return DrawnLevels(group, tuple(names[k] for k in which), which, len(names))


def _positions(names: Sequence[str], group: str, wanted: Sequence[object]) -> set[int]:
    known = {name: k for k, name in enumerate(names)}
    missing = [level for level in wanted if str(level) not in known]
    if missing:
        first = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
        raise DesignError(f"{shown_value(missing[0])} is not a level of {group}. It has {len(names)}: {first}.")
    return {known[str(level)] for level in wanted}


def check_levels(levels: Any) -> None:
    """Refuse what is neither a number of levels nor a list of them.

    Raises
    ------
    DesignError
    """
    whole = isinstance(levels, int | np.integer) and not isinstance(levels, bool)
    without_length = isinstance(levels, np.ndarray) and levels.ndim == 0
    if levels is None or (whole and levels >= 2):
        return
    listed = not isinstance(levels, str | bytes | dict) and hasattr(levels, "__iter__") and hasattr(levels, "__len__")
    if whole or not listed or without_length or not _readable(levels):
        raise DesignError(
            f"levels={shown_value(levels)} says neither how many levels to show (a whole number from 2) nor which "
            "(a list of their labels, e.g. levels=['308', '309'])."
        )


def _readable(levels: Any) -> bool:
    """Whether a list holds labels, and no more than any factor has levels."""
    try:
        return 0 < len(levels) <= _MOST_LABELS and all(isinstance(str(level), str) for level in levels)
    except Exception:
        return False


def lost_effects(shown: Subject, group: str, drawn: Sequence[Effects | None]) -> list[str]:
    """Which posteriors have not kept the effects of a factor, in words, from what is known of them."""
    lost = [name for name, effects in zip(shown.names, drawn, strict=True) if effects is None]
    return [f"posterior ({name}): the effects of {group} were not kept (keep=)" for name in lost]


def note(shown: Subject, levels: DrawnLevels, effect: str, asked: bool) -> str:
    """What a figure leaves out, in words; empty if nothing."""
    if not levels.left_out:
        return ""
    k, n = len(levels.labels), levels.total
    if not levels.cut:
        return f"{k:,} of {n:,} levels of {levels.group}, those asked for; {levels.left_out:,} left out"
    method = "posterior means" if shown.fit is None else f"{shown.criterion} predictions"
    way = "" if asked else f" (levels={n} draws all)"
    return (
        f"{k:,} of {n:,} levels of {levels.group}: the {levels.cut:,} lowest and {k - levels.cut:,} highest {method} "
        f"of {effect}; {levels.left_out:,} between them left out{way}"
    )


def no_pooling(both: Comparison, group: str) -> FloatArray:
    """Least-squares effects of every level on what the fixed effects leave, (J, c); nan where not estimable."""
    design = both.design
    return alone(design, both.reml.fixef().to_numpy(), group, np.arange(design.groupings[group].n_levels))


def alone(
    design: Design, beta: FloatArray, group: str, levels: IntArray, lam: FloatArray = NO_PARAMETERS
) -> FloatArray:
    """The same for some levels, (K, c), at given fixed effects and parameters of the residual structure."""
    residual = design.y - design.X @ beta
    if design.offset is not None:
        residual = residual - design.offset
    Z = np.concatenate([term.Z for term in design.terms if term.group == group], axis=1)
    white = design.whitened(np.column_stack([Z, residual]), lam, within=design.groupings[group])
    codes = design.groupings[group].codes
    sorted_rows = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[sorted_rows], np.arange(design.groupings[group].n_levels + 1))
    out = np.full((len(levels), Z.shape[1]), np.nan)
    for k, level in enumerate(levels):
        rows = sorted_rows[starts[level] : starts[level + 1]]
        A, left = white[rows, :-1], white[rows, -1]
        if np.linalg.matrix_rank(A) == Z.shape[1]:
            out[k] = np.linalg.lstsq(A, left)[0]
    return out
