"""Tests and intervals of a family of functions, adjusted for their number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import fdtrc, fdtri, ndtri, stdtr, stdtrit
from scipy.special import ndtr as normal_cdf

from bayeslmm.equality import by_value
from bayeslmm.means import studentised
from bayeslmm.means.max_t import Directions, directions
from bayeslmm.types import FloatArray

ADJUSTMENTS = (
    "tukey",
    "sidak",
    "bonferroni",
    "holm",
    "hochberg",
    "hommel",
    "fdr",
    "scheffe",
    "mvt",
    "none",
)
# What an interval has whose p value is adjusted step by step.
STEPWISE = ("holm", "hochberg", "hommel", "fdr")
# Degrees of freedom that agree to this are those of one quantile.
_DIGITS = 10


@by_value
@dataclass(frozen=True, eq=False)
class Family:
    """Functions that are judged together, all of which can be estimated.

    Attributes
    ----------
    estimate, std_error, df : FloatArray, shape (m,)
    correlation : FloatArray, shape (m, m)
    means : int
        Means that are compared in pairs; 0 if the functions are something else.
    rank : int
        Dimensions of the functions, for Scheffe's adjustment.
    """

    estimate: FloatArray
    std_error: FloatArray
    df: FloatArray
    correlation: FloatArray
    means: int
    rank: int

    @property
    def size(self) -> int:
        return len(self.estimate)

    @cached_property
    def directions(self) -> Directions:
        return directions(self.correlation)

    def method(self, adjust: str) -> str:
        """The adjustment that is made: Tukey's is for all pairs of means only."""
        if self.size == 1 and adjust != "scheffe":
            return "none"
        return "sidak" if adjust == "tukey" and not self.means else adjust


def t_upper(t: FloatArray, df: FloatArray) -> FloatArray:
    """P(T > t)."""
    return np.asarray(np.where(np.isinf(df), normal_cdf(-t), stdtr(np.where(np.isinf(df), 1.0, df), -t)))


def t_quantile(level: float, df: FloatArray) -> FloatArray:
    """Quantiles of t; normal for infinite degrees of freedom."""
    return np.asarray(np.where(np.isinf(df), ndtri(level), stdtrit(np.where(np.isinf(df), 1.0, df), level)))


def p_values(family: Family, t: FloatArray, adjust: str, side: int = 0) -> FloatArray:
    """Adjusted p values.

    Parameters
    ----------
    family : Family
    t : FloatArray, shape (m,)
    adjust : str
        One of `ADJUSTMENTS`.
    side : {0, 1, -1}
        Two-sided; against larger or smaller values.

    Returns
    -------
    FloatArray, shape (m,)
    """
    method = family.method(adjust)
    if side and method in ("tukey", "scheffe", "mvt"):
        # Theirs are distributions of absolute values.
        method = "sidak"
    raw = 2.0 * t_upper(np.abs(t), family.df) if side == 0 else t_upper(side * t, family.df)
    if method == "tukey":
        return studentised.upper(np.sqrt(2.0) * np.abs(t), family.means, family.df)
    if method == "mvt":
        return np.array([family.directions.upper(abs(a), b) for a, b in zip(t, family.df, strict=True)])
    if method == "scheffe":
        square = t**2 / family.rank
        finite = np.where(np.isinf(family.df), 1e10, family.df)
        return np.asarray(fdtrc(family.rank, finite, square))
    return _ADJUSTED[method](raw)


def critical_values(family: Family, level: float, adjust: str) -> FloatArray:
    """Standard errors (m,) that an interval reaches to either side; stepwise adjustments have Bonferroni's."""
    method, m = family.method(adjust), family.size
    if method in STEPWISE:
        method = "bonferroni"
    if method == "tukey":
        return _each(family.df, lambda df: studentised.critical(level, family.means, df) / np.sqrt(2.0))
    if method == "mvt":
        return _each(family.df, lambda df: family.directions.critical(level, df))
    if method == "scheffe":
        finite = np.where(np.isinf(family.df), 1e10, family.df)
        return np.asarray(np.sqrt(family.rank * fdtri(family.rank, finite, level)))
    own = {"none": level, "sidak": level ** (1.0 / m), "bonferroni": 1.0 - (1.0 - level) / m}[method]
    return t_quantile(0.5 + own / 2, family.df)


def _each(df: FloatArray, quantile: Callable[[float], float]) -> FloatArray:
    found: dict[float, float] = {}
    for value in df.tolist():
        key = float(f"{value:.{_DIGITS - 1}e}")
        if key not in found:
            found[key] = quantile(value)
    return np.array([found[float(f"{value:.{_DIGITS - 1}e}")] for value in df.tolist()])


def _sidak(p: FloatArray) -> FloatArray:
    return np.asarray(-np.expm1(len(p) * np.log1p(-np.minimum(p, 1.0 - 1e-16))))


def _bonferroni(p: FloatArray) -> FloatArray:
    return np.minimum(len(p) * p, 1.0)


def _ordered(p: FloatArray, factors: FloatArray, up: bool) -> FloatArray:
    """P values by size times factors, made monotone from the largest down (step up) or from the smallest on."""
    order = np.argsort(p, kind="stable")
    scaled = p[order] * factors
    steps = np.minimum.accumulate(scaled[::-1])[::-1] if up else np.maximum.accumulate(scaled)
    out = np.empty(len(p))
    out[order] = np.minimum(steps, 1.0)
    return out


def _holm(p: FloatArray) -> FloatArray:
    return _ordered(p, np.arange(len(p), 0.0, -1.0), up=False)


def _hochberg(p: FloatArray) -> FloatArray:
    return _ordered(p, np.arange(len(p), 0.0, -1.0), up=True)


def _fdr(p: FloatArray) -> FloatArray:
    """Benjamini and Hochberg (1995)."""
    return _ordered(p, len(p) / np.arange(1.0, len(p) + 1.0), up=True)


def _hommel(p: FloatArray) -> FloatArray:
    """The closed test of Simes's hypotheses (Hommel 1988): the largest p value of all sets that hold a hypothesis."""
    order = np.argsort(p, kind="stable")
    own, m = p[order], len(p)
    out = own.copy()
    for j in range(m, 1, -1):
        # The worst set of j: the hypothesis itself and those with the largest p values.
        last = own[m - j + 1 :]
        simes = float(np.min(j * last / np.arange(2.0, j + 1.0)))
        head = np.minimum(simes, j * own[: m - j + 1])
        out[: m - j + 1] = np.maximum(out[: m - j + 1], head)
        out[m - j + 1 :] = np.maximum(out[m - j + 1 :], head[-1])
    found = np.empty(m)
    found[order] = np.minimum(out, 1.0)
    return found


_ADJUSTED: dict[str, Callable[[FloatArray], FloatArray]] = {
    "none": lambda p: p,
    "sidak": _sidak,
    "bonferroni": _bonferroni,
    "holm": _holm,
    "hochberg": _hochberg,
    "hommel": _hommel,
    "fdr": _fdr,
}
