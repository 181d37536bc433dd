"""Functions of a formula that look at a whole column once and remember: means, knots, polynomials, splines.

Each is made on the rows of the model, where a row may count several times, and gives the function that is then
applied to these and to other rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bayeslmm.errors import DesignError
from bayeslmm.types import FloatArray, IntArray

type Applied = Callable[[FloatArray], FloatArray]

# Polynomials and splines of a higher degree have no digits left in double precision.
_HIGHEST_DEGREE = 30
_MOST_SPLINES = 1000
_CUBIC = 3


def mean(x: FloatArray, counts: IntArray | None = None) -> float:
    """Mean over observations."""
    return float(np.average(x, weights=counts))


def variance(x: FloatArray, counts: IntArray | None = None, ddof: int = 1) -> float:
    """Variance over observations, by default with n - 1."""
    n = x.size if counts is None else int(counts.sum())
    squares = np.square(x - mean(x, counts))
    return float((squares if counts is None else squares * counts).sum() / (n - ddof))


def quantiles(x: FloatArray, at: Sequence[float] | FloatArray, counts: IntArray | None = None) -> FloatArray:
    """Quantiles over observations, between order statistics by R's rule 7.

    Parameters
    ----------
    x : FloatArray, shape (n,)
    at : sequence of float
        Probabilities.
    counts : IntArray, shape (n,), optional
        How often each row counts.

    Examples
    --------
    >>> quantiles(np.array([1.0, 3.0]), [0.5], np.array([3, 1])).tolist()
    [1.0]
    """
    probabilities = np.asarray(at, dtype=float)
    if counts is None:
        return np.asarray(np.quantile(x, probabilities))
    order = np.argsort(x, kind="stable")
    last = np.cumsum(counts[order])
    place = (last[-1] - 1) * probabilities
    lower = np.floor(place)
    low, high = (x[order][np.searchsorted(last, np.minimum(k, last[-1] - 1), side="right")] for k in (lower, lower + 1))
    return np.asarray(low + (place - lower) * (high - low))


def centred(x: FloatArray, counts: IntArray | None) -> Applied:
    """``center(x)``: minus the mean."""
    middle = mean(x, counts)
    return lambda new: new - middle


def scaled(x: FloatArray, counts: IntArray | None, center: Any = True, scale: Any = True) -> Applied:
    """R's ``scale(x)``: minus the mean, divided by the standard deviation with n - 1.

    Without centring the divisor is the root of the sum of squares over n - 1.
    """
    for name, value in (("center", center), ("scale", scale)):
        if not isinstance(value, bool):
            raise DesignError(
                f"scale() in a formula understands {name}=True and False, not {value!r}. Write the arithmetic out: "
                "I((x - 3) / 2)."
            )
    middle = mean(x, counts) if center else 0.0
    width = 1.0
    if scale:
        n = x.size if counts is None else int(counts.sum())
        squares = np.square(x - middle)
        width = float(np.sqrt((squares if counts is None else squares * counts).sum() / (n - 1)))
    return lambda new: (new - middle) / width


def standardized(x: FloatArray, counts: IntArray | None) -> Applied:
    """``standardize(x)``: minus the mean, divided by the standard deviation with n, as in formulae."""
    middle, width = mean(x, counts), float(np.sqrt(variance(x, counts, ddof=0)))
    return lambda new: (new - middle) / width


def polynomial(x: FloatArray, counts: IntArray | None, degree: Any = 1, raw: Any = False) -> Applied:
    """R's ``poly(x, degree)``: polynomials orthonormal over the observations, or (raw) powers.

    The three-term recurrence has the digits that powers of x would lose.
    """
    k = _whole(degree, "degree", "poly", 1, _HIGHEST_DEGREE)
    if _flag(raw, "raw", "poly"):
        return lambda new: np.column_stack([new**power for power in range(1, k + 1)])
    distinct = np.unique(x).size
    if k >= distinct:
        raise DesignError(
            f"poly() of degree {k} needs more than {k} different values, but the column has {distinct}. Lower the "
            "degree."
        )
    weights = np.ones_like(x) if counts is None else counts.astype(float)
    # The size of x does not matter to polynomials that are normed, but would to their powers.
    middle, width = mean(x, counts), float(np.abs(x - mean(x, counts)).max())
    shifts, ratios, norms = [0.0] * k, [0.0] * k, [float(weights.sum())]
    basis = [np.ones_like(x)]
    z = (x - middle) / width
    for j in range(k):
        shifts[j] = float((weights * z * basis[j] ** 2).sum() / norms[j])
        ratios[j] = norms[j] / norms[j - 1] if j else 0.0
        basis.append((z - shifts[j]) * basis[j] - (ratios[j] * basis[j - 1] if j else 0.0))
        norms.append(float((weights * basis[-1] ** 2).sum()))

    def apply(new: FloatArray) -> FloatArray:
        scaled_new = (new - middle) / width
        before, current, columns = np.zeros_like(new), np.ones_like(new), []
        for j in range(k):
            before, current = current, (scaled_new - shifts[j]) * current - ratios[j] * before
            columns.append(current / np.sqrt(norms[j + 1]))
        return np.column_stack(columns)

    return apply


def b_splines(
    x: FloatArray,
    counts: IntArray | None,
    df: Any = None,
    knots: Any = None,
    degree: Any = _CUBIC,
    intercept: Any = False,
    boundary: Any = None,
) -> Applied:
    """R's ``bs(x, df=, knots=, degree=, intercept=)``: B-splines, without the first unless with intercept.

    Without `knots` they stand at quantiles of x. Beyond the boundary knots the outermost polynomials go on.
    """
    order = _whole(degree, "degree", "bs", 1, _HIGHEST_DEGREE) + 1
    first = 0 if _flag(intercept, "intercept", "bs") else 1
    ends = _ends(x, boundary, "bs")
    inner = _inner_knots(x, counts, ends, knots, df, order - first, "bs")
    every = np.concatenate([[ends[0]] * order, inner, [ends[1]] * order])
    return lambda new: _basis(every, order, new)[:, first:]


def natural_splines(
    x: FloatArray,
    counts: IntArray | None,
    df: Any = None,
    knots: Any = None,
    intercept: Any = False,
    boundary: Any = None,
) -> Applied:
    """R's ``ns(x, df=, knots=, intercept=)``: cubic splines that are straight lines beyond the boundary knots."""
    first = 0 if _flag(intercept, "intercept", "ns") else 1
    ends = _ends(x, boundary, "ns")
    inner = _inner_knots(x, counts, ends, knots, df, 2 - first, "ns")
    every = np.concatenate([[ends[0]] * (_CUBIC + 1), inner, [ends[1]] * (_CUBIC + 1)])
    curvature = _basis(every, _CUBIC + 1, np.array(ends), derivative=2)[:, first:]
    straight = np.linalg.qr(curvature.T, mode="complete")[0][:, 2:]

    def apply(new: FloatArray) -> FloatArray:
        inside = np.clip(new, *ends)
        slope = _basis(every, _CUBIC + 1, inside, derivative=1)
        return np.asarray((_basis(every, _CUBIC + 1, inside) + (new - inside)[:, None] * slope)[:, first:] @ straight)

    return apply


def _basis(knots: FloatArray, order: int, x: FloatArray, derivative: int = 0) -> FloatArray:
    """B-splines at x, shape (n, k); the outermost polynomials go on beyond the ends."""
    from scipy.interpolate import BSpline  # half of a second that few formulas need

    k = knots.size - order
    return np.asarray(BSpline(knots, np.eye(k), order - 1)(x, nu=derivative, extrapolate=True))


def _ends(x: FloatArray, boundary: Any, name: str) -> tuple[float, float]:
    ends = np.array([x.min(), x.max()]) if boundary is None else _numbers(boundary, "Boundary.knots", name)
    if ends.size != 2 or ends[0] == ends[1]:
        raise DesignError(
            f"{name}() needs two different boundary knots, by default the ends of the column, not "
            f"{', '.join(f'{end:g}' for end in ends)}."
        )
    return float(ends.min()), float(ends.max())


def _inner_knots(
    x: FloatArray, counts: IntArray | None, ends: tuple[float, float], knots: Any, df: Any, free: int, name: str
) -> FloatArray:
    """Knots as given, or as many at quantiles as `df` leaves over what the function needs anyway."""
    if knots is not None:
        inner = np.sort(_numbers(knots, "knots", name))
        _whole(inner.size, "The number of knots", name, 0, _MOST_SPLINES)
        outside = inner[(inner <= ends[0]) | (inner >= ends[1])]
        if outside.size:
            raise DesignError(
                f"Knots of {name}() have to stand within the range of the column, {ends[0]:g} to {ends[1]:g}, but "
                f"{', '.join(f'{k:g}' for k in outside[:5])} do not."
            )
        if df is not None and df != inner.size + free:
            raise DesignError(
                f"{name}() with {inner.size} knots has df={inner.size + free}, not {df}. Give one of them."
            )
        return inner
    if df is None:
        return np.empty(0)
    wanted = _whole(df, "df", name, free, min(x.size, _MOST_SPLINES)) - free
    inside = (x >= ends[0]) & (x <= ends[1])
    at = np.linspace(0.0, 1.0, wanted + 2)[1:-1]
    return quantiles(x[inside], at, None if counts is None else counts[inside])


def _flag(value: Any, argument: str, name: str) -> bool:
    if isinstance(value, bool):
        return value
    raise DesignError(f"{argument} of {name}() is True or False, not {value!r}.")


def _whole(value: Any, argument: str, name: str, least: int, most: int) -> int:
    whole = isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer()
    if not whole or not least <= value <= most:
        raise DesignError(f"{argument} of {name}() is a whole number from {least} to {most} here, not {value!r}.")
    return int(value)


def _numbers(value: Any, argument: str, name: str) -> FloatArray:
    values = value if isinstance(value, list) else [value]
    good = all(isinstance(v, int | float) and not isinstance(v, bool) and np.isfinite(v) for v in values)
    if not good:
        raise DesignError(f"{argument} of {name}() are numbers, e.g. {argument}=[3, 6], not {value!r}.")
    return np.asarray(values, dtype=float)
