"""Value, gradient and Hessian of a batched function by central differences in one call."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bayeslmm.numerics.newton import Point, Trial
from bayeslmm.types import FloatArray

type BatchFunction = Callable[[FloatArray], FloatArray]

# Cube root of the rounding of one evaluation, the best step of a central first difference; second
# differences taken with it keep about four digits, which is plenty for a Newton step.
_STEP = 1e-4


def expand(function: BatchFunction, x: FloatArray, value: float, step: float | None = None) -> Point:
    """Gradient and Hessian at x from one batched call.

    Parameters
    ----------
    function : callable
        Maps points (K, d) to values (K,).
    x : FloatArray, shape (d,)
    value : float
        ``function(x)``, known already.
    step : float, optional
        The same along every axis, for coordinates whose scale is known.
    """
    d = x.size
    h = _STEP * np.maximum(1.0, np.abs(x)) if step is None else np.full(d, step)
    axis = np.diag(h)
    pairs = [(i, j) for i in range(d) for j in range(i)]
    shifts = [axis, -axis]
    if pairs:
        i, j = np.array(pairs).T
        shifts += [axis[i] + axis[j], -axis[i] - axis[j]]
    values = function(x + np.concatenate(shifts))
    up, down = values[:d], values[d : 2 * d]
    gradient = (up - down) / (2 * h)
    hessian = np.diag((up - 2 * value + down) / h**2)
    if pairs:
        both = values[2 * d :].reshape(2, -1)
        mixed = both[0] + both[1] + 2 * value - up[i] - down[i] - up[j] - down[j]
        hessian[i, j] = hessian[j, i] = mixed / (2 * h[i] * h[j])
    return Point(x, value, gradient, hessian)


def trials(function: BatchFunction, step: float | None = None) -> Callable[[FloatArray], Trial]:
    """Turn a batched function into what `newton.minimise` takes."""

    def evaluate(x: FloatArray) -> Trial:
        value = float(function(x[None])[0])
        return Trial(value, lambda: expand(function, x, value, step), max(1e-11, 4e-14 * abs(value)))

    return evaluate


def jacobian(gradient: Callable[[FloatArray], FloatArray], x: FloatArray) -> FloatArray:
    """Hessian (d, d) of a function from its gradient, by central differences.

    Parameters
    ----------
    gradient : callable
        Maps a point (d,) to the gradient there.
    x : FloatArray, shape (d,)
    """
    matrix = slopes(gradient, x, _STEP * np.maximum(1.0, np.abs(x)))
    return np.asarray(0.5 * (matrix + matrix.T))


def slopes(function: Callable[[FloatArray], FloatArray], x: FloatArray, step: FloatArray | float) -> FloatArray:
    """Derivatives (d, m) of a function with m values, by central differences.

    Parameters
    ----------
    function : callable
        Maps a point (d,) to values (m,).
    x : FloatArray, shape (d,)
    step : float or FloatArray, shape (d,)
        Of all coordinates, or of each.
    """
    steps = np.diag(np.broadcast_to(step, x.shape))
    rows = [(function(x + own) - function(x - own)) / (2.0 * own.sum()) for own in steps]
    return np.array(rows).reshape(x.size, -1) if rows else np.empty((0, np.size(function(x))))
