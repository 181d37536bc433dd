"""Rows whose precision weight dwarfs all others: their effects take them up, whatever the weight is.

A row of infinite weight is a constraint on the effects. Its weight says nothing about the scale of the residuals then:
that is the matter of the rows that the heavier ones do not determine. What is called heavy is measured against these.
"""

from __future__ import annotations

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.errors import DesignError
from bayeslmm.types import AnyArray, BoolArray, FloatArray, IntArray

# Weights this many times the typical one dominate sums of squares; up to here few digits are lost.
HEAVY = 1e4
# Beyond this ratio a weight is as good as infinite: 1 / (weight * variance ratio) is no digit of anything. Where heavy
# rows meet in one level that has several effects, or in levels of several factors, the ratio is also the condition of
# cross-products.
INFINITE, INFINITE_TOGETHER = 1e60, 1e8
# Rows that are looked at for dependence, at most.
_LOOKED_AT = 400
# A row this close to the span of heavier ones (squared, on columns of one length) is determined by them.
_DETERMINED = 1e-18
_SHOWN = 5
# Typical weights beyond these would take squares of weighted sums out of the range of numbers.
_SMALLEST, _LARGEST = 1e-120, 1e120


def typical_weight(design: Design) -> float:
    """The weight that the residuals are measured by: the largest of a row that heavier rows do not leave free.

    Examples
    --------
    >>> import pandas as pd
    >>> from bayeslmm.design.build import build_design
    >>> frame = pd.DataFrame({"y": [1.0, 2.0, 4.0, 3.0, 0.0, 2.0], "g": list("aabbcc"), "w": [1e30, 1, 1, 1, 2, 2]})
    >>> typical_weight(build_design("y ~ 1 + (1 | g)", frame, weights="w"))
    2.0
    """
    weights = design.weights
    if weights is None:
        return 1.0
    low = float(np.quantile(weights, 0.1, method="lower"))
    order = np.argsort(-weights, kind="stable")
    heavy = order[: int(np.count_nonzero(weights > HEAVY * low))]
    if not heavy.size:
        return float(np.median(weights))
    first = _first_determined(design, heavy[:_LOOKED_AT])
    if first is not None:
        return float(weights[first])
    return float(np.median(weights) if heavy.size > _LOOKED_AT else weights[order[heavy.size]])


def _first_determined(design: Design, rows: IntArray) -> int | None:
    """The first of some rows whose fixed and random effects are a combination of those of the rows before it."""
    A = _columns(design, rows)
    basis = np.zeros((0, A.shape[1]))
    for row, values in zip(rows, A, strict=True):
        size = float(values @ values)
        for _ in range(2):
            values = values - (basis @ values) @ basis
        left = float(values @ values)
        if left <= _DETERMINED * size or left == 0:
            return int(row)
        basis = np.vstack([basis, values / np.sqrt(left)])
    return None


def _columns(design: Design, rows: IntArray) -> FloatArray:
    """Fixed and random effects' columns (rows, columns), those of one length that occur."""
    parts = [design.X[rows] / np.maximum(np.abs(design.X).max(axis=0), 1e-300)]
    for term in design.terms:
        codes, which = np.unique(design.groupings[term.group].codes[rows], return_inverse=True)
        Z = term.Z[rows] / np.maximum(np.abs(term.Z).max(axis=0), 1e-300)
        wide = np.zeros((rows.size, codes.size, Z.shape[1]))
        wide[np.arange(rows.size), which.ravel()] = Z
        parts.append(wide.reshape(rows.size, -1))
    return np.hstack(parts)


def limited(design: Design) -> FloatArray | None:
    """Weights (n,) with those that are as good as infinite put to a large one; None where there are none.

    Raises
    ------
    DesignError
        Weights out of the range that sums of squares need.
    """
    weights = design.weights
    if weights is None:
        return None
    low, high = float(weights.min()), float(weights.max())
    if low > _SMALLEST and high < _LARGEST and high / INFINITE_TOGETHER <= low:
        return None
    typical = typical_weight(design)
    if not _SMALLEST < typical < _LARGEST:
        rows = np.flatnonzero((weights <= _SMALLEST) | (weights >= _LARGEST))
        values = ", ".join(f"{w:g}" for w in weights[rows[:_SHOWN]]) + (", ..." if rows.size > _SHOWN else "")
        raise DesignError(
            f"The weights of {_listed(design.index, rows)} are {values}: sums of their "
            "squares leave the range of floating point numbers. Only ratios of weights matter for all but sigma: "
            f"divide all weights by {typical:.3g}, which divides sigma by {typical**0.5:.3g} and changes nothing else."
        )
    limit = _most(design, typical) * typical
    return np.minimum(weights, limit) if weights.max() > limit else None


def _most(design: Design, typical: float) -> float:
    """How many times the typical weight stands for an infinite one."""
    if len(design.groupings) > 1:
        return INFINITE_TOGETHER
    (grouping,) = design.groupings.values()
    heavy = np.bincount(grouping.codes, weights=np.asarray(design.weights) > HEAVY * typical)
    effects = sum(len(term.effects) for term in design.terms)
    return INFINITE_TOGETHER if effects > 1 and heavy.max() > 1 else INFINITE


def heavy_rows(design: Design) -> BoolArray | None:
    """Which rows dominate all others; None where none does."""
    weights = design.weights
    if weights is None:
        return None
    low, high = (weights.min(), weights.max()) if design.facts is None else _extremes(design)
    if not high > HEAVY * low:
        return None
    heavy = weights > HEAVY * typical_weight(design)
    return heavy if heavy.any() else None


def _extremes(design: Design) -> tuple[float, float]:
    known = None if design.facts is None else design.facts.weights
    return (1.0, 1.0) if known is None else known[:2]


def note(design: Design) -> str:
    """A word on rows that dominate; empty where none does."""
    heavy = heavy_rows(design)
    if heavy is None or design.weights is None:
        return ""
    rows = np.flatnonzero(heavy)
    typical = typical_weight(design)
    ratio, most = float(design.weights[heavy].max()) / typical, _most(design, typical)
    cut = f"; {most:g} stands for anything larger" if ratio >= 0.99 * most else ""
    return (
        f"the weights of {_listed(design.index, rows)} are up to {ratio:.3g} times those that the residuals are "
        f"measured by{cut}: their fitted values are practically their responses"
    )


def _listed(index: AnyArray, rows: IntArray) -> str:
    shown = ", ".join(str(index[i]) for i in rows[:_SHOWN]) + (", ..." if rows.size > _SHOWN else "")
    return f"row {shown}" if rows.size == 1 else f"{rows.size} rows ({shown})"


def ordinary_weights(design: Design) -> FloatArray | None:
    """Weights (n,) by which columns may be measured: those of heavy rows cut."""
    if heavy_rows(design) is None or design.weights is None:
        return design.weights
    return np.minimum(design.weights, HEAVY * typical_weight(design))
