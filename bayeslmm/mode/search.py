"""The lowest point of a smooth function of variables with bounds, from several starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bayeslmm.numerics.newton import Ending
from bayeslmm.types import BoolArray, FloatArray

type Evaluated = Callable[[FloatArray], tuple[float, FloatArray]]

# Steps of the differences of the exact gradient.
_STEP = 1e-5
# Newton steps after the search, and the predicted fall (-2 log density) below which nothing is left to gain.
_POLISH, _DONE, _NEARLY = 30, 1e-20, 1e-10
# Share of the largest curvature below which a direction is flat.
_FLAT = 1e-10
# An sd below this share of its unit is tried at exactly zero; those from which it is tried to leave zero.
_SMALL, _OFF = 3e-2, (0.05, 0.5)
# A function that rises by less than this share of itself has not risen.
ROUNDING = 1e-13


@dataclass(frozen=True)
class Found:
    """Where a search ended.

    Attributes
    ----------
    x : FloatArray, shape (d,)
    value : float
    curvature : FloatArray, shape (f, f)
        Hessian in the variables that are free.
    free : BoolArray, shape (d,)
        Those that are not at a bound.
    ending : Ending
    evaluations : int
    """

    x: FloatArray
    value: float
    curvature: FloatArray
    free: BoolArray
    ending: Ending
    evaluations: int


class _Counted:
    """A function that counts its calls."""

    def __init__(self, function: Evaluated) -> None:
        self.function, self.calls = function, 0

    def __call__(self, x: FloatArray) -> tuple[float, FloatArray]:
        self.calls += 1
        return self.function(x)


def lowest(
    function: Evaluated,
    starts: Sequence[FloatArray],
    bounds: tuple[FloatArray, FloatArray],
    zeros: BoolArray,
    limit: int,
) -> Found:
    """The lowest of the minima that starts lead to.

    Each is followed by L-BFGS-B; the lowest is polished by Newton's method with differences of the exact gradient,
    tried at exactly zero where it is near, and off zero where it is there.

    Parameters
    ----------
    function : callable
        Value and gradient; inf where undefined.
    starts : sequence of FloatArray, each (d,)
    bounds : pair of FloatArray, each (d,)
    zeros : BoolArray, shape (d,)
        Variables in which zero is the lower bound, and what the others mean may change there.
    limit : int
        Iterations of each search.
    """
    counted = _Counted(function)
    inside = [np.clip(x, *bounds) for x in starts]
    ends = [_descend(counted, x, bounds, limit) for x in _distinct(inside)]
    x, value = min(ends, key=lambda pair: pair[1])
    while True:
        x, value = _to_zero(counted, x, value, bounds, zeros, limit)
        found = _polish(counted, x, bounds, limit)
        lower = _off_zero(counted, found, bounds, zeros, limit)
        if lower is None:
            return found
        x, value = lower


def _distinct(points: Sequence[FloatArray]) -> list[FloatArray]:
    kept: list[FloatArray] = []
    for x in points:
        if not any(np.allclose(x, other, rtol=1e-6, atol=1e-9) for other in kept):
            kept.append(x)
    return kept


def is_lower(value: float, than: float) -> bool:
    """Whether a value is lower than another by more than rounding."""
    return value < than - ROUNDING * (1.0 + abs(than)) if np.isfinite(than) else value < than


def _descend(
    function: Evaluated, x: FloatArray, bounds: tuple[FloatArray, FloatArray], limit: int
) -> tuple[FloatArray, float]:
    from scipy.optimize import minimize

    value = function(x)[0]
    if not np.isfinite(value):
        return x, np.inf

    def finite(at: FloatArray) -> tuple[float, FloatArray]:
        # A line search takes a large number for too far, and an infinite one for the end.
        found, slope = function(at)
        return (found, slope) if np.isfinite(found) else (abs(value) * 1e3 + 1e10, slope)

    pairs = list(zip(bounds[0].tolist(), bounds[1].tolist(), strict=True))
    options = {"maxiter": limit, "ftol": 1e-13, "gtol": 1e-7, "maxls": 40}
    result = minimize(finite, x, jac=True, method="L-BFGS-B", bounds=pairs, options=options)  # type: ignore[call-overload]
    end = np.clip(np.asarray(result.x), *bounds)
    reached = function(end)[0]
    return (end, reached) if reached < value else (x, value)


def _to_zero(
    function: Evaluated,
    x: FloatArray,
    value: float,
    bounds: tuple[FloatArray, FloatArray],
    zeros: BoolArray,
    limit: int,
) -> tuple[FloatArray, float]:
    """Small sds at exactly zero, all or one by one, where the function does not rise."""
    small = zeros & (x > 0) & (x < _SMALL)
    if not small.any():
        return x, value
    for mask in [small, *(np.arange(x.size) == i for i in np.flatnonzero(small))]:
        moved = np.where(mask, 0.0, x)
        high = np.where(mask, 0.0, bounds[1])
        end, reached = _descend(function, moved, (bounds[0], high), limit)
        if not is_lower(value, reached):
            return _to_zero(function, end, reached, bounds, zeros, limit)
    return x, value


def _off_zero(
    function: Evaluated, found: Found, bounds: tuple[FloatArray, FloatArray], zeros: BoolArray, limit: int
) -> tuple[FloatArray, float] | None:
    """A lower point with an sd off zero, where what it is correlated with may have to change as well."""
    for i in np.flatnonzero(zeros & (found.x == 0) & (bounds[1] > 0)):
        for size in _OFF:
            x = found.x.copy()
            x[i] = min(size, bounds[1][i])
            end, reached = _descend(function, x, bounds, limit)
            if is_lower(reached, found.value - 1e-9):
                return end, reached
    return None


def _polish(function: _Counted, x: FloatArray, bounds: tuple[FloatArray, FloatArray], limit: int) -> Found:
    """Newton's method in the variables that are not held by a bound."""
    value, gradient = function(x)
    ending = Ending.evaluation_limit
    for _ in range(min(_POLISH, limit)):
        free = free_variables(x, gradient, bounds)
        H = hessian(function, x, free, bounds)
        step, decrement = _step(gradient[free], H)
        if decrement < _DONE:
            ending = Ending.converged
            break
        moved, reached = _along(function, x, value, free, step, bounds)
        if moved is None:
            ending = Ending.converged if decrement < _NEARLY else Ending.no_descent
            break
        x, (value, gradient) = moved, reached
    free = free_variables(x, gradient, bounds)
    return Found(x, value, hessian(function, x, free, bounds), free, ending, function.calls)


def free_variables(x: FloatArray, gradient: FloatArray, bounds: tuple[FloatArray, FloatArray]) -> BoolArray:
    """Mask (d,) of the variables that no bound holds."""
    low = (x <= bounds[0]) & (gradient >= -1e-10)
    high = (x >= bounds[1]) & (gradient <= 1e-10)
    return np.asarray(~(low | high))


def hessian(function: Evaluated, x: FloatArray, free: BoolArray, bounds: tuple[FloatArray, FloatArray]) -> FloatArray:
    """Second derivatives (f, f) in the free variables, by central differences of the gradient inside the bounds."""
    chosen = np.flatnonzero(free)
    rows = np.empty((chosen.size, chosen.size))
    for r, i in enumerate(chosen):
        h = _STEP * max(1.0, abs(x[i]))
        up, down = x.copy(), x.copy()
        up[i], down[i] = min(x[i] + h, bounds[1][i]), max(x[i] - h, bounds[0][i])
        rows[r] = (function(up)[1] - function(down)[1])[chosen] / (up[i] - down[i])
    return 0.5 * (rows + rows.T)


def _step(gradient: FloatArray, H: FloatArray) -> tuple[FloatArray, float]:
    """Newton's step with absolute curvatures, and the fall that it promises; none along flat directions."""
    if not gradient.size:
        return gradient, 0.0
    scale = np.sqrt(np.maximum(np.abs(np.diagonal(H)), 1e-8 * np.abs(H).max()))
    scale = np.where(scale > 0, scale, 1.0)
    values, vectors = np.linalg.eigh(H / (scale * scale[:, None]))
    slope = vectors.T @ (gradient / scale)
    size = np.abs(values)
    steep = size > _FLAT * size.max()
    moved = np.where(steep, -slope / np.where(steep, size, 1.0), 0.0)
    return vectors @ moved / scale, float(-(slope * moved).sum())


def _along(
    function: Evaluated,
    x: FloatArray,
    value: float,
    free: BoolArray,
    step: FloatArray,
    bounds: tuple[FloatArray, FloatArray],
) -> tuple[FloatArray | None, tuple[float, FloatArray]]:
    """The first of ever shorter steps that does not rise."""
    for shrink in 0.5 ** np.arange(30):
        moved = x.copy()
        moved[free] += shrink * step
        moved = np.clip(moved, *bounds)
        if np.array_equal(moved, x):
            break
        reached = function(moved)
        if reached[0] <= value + ROUNDING * (1.0 + abs(value)):
            return moved, reached
    return None, (value, np.zeros_like(x))
