"""Minima of a smooth function under one equation, from gradients: quasi-Newton steps along its surface."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bayeslmm.types import FloatArray

# Predicted fall, in units of the function, at which there is nothing to be gained.
_NOTHING = 1e-10
# The same where the value does not fall any more: rounding of value and gradient.
_ROUNDING = 1e-7
_STEPS, _HALVINGS, _RETURNS = 80, 12, 12
# Distance to the surface, relative to the size of the value that is held, at which a point is on it.
_ON = 1e-12
# Shares of the diagonal that are added where no step is lower, tenfold each time, and how often.
_STIFF, _STIFFER = 1e-3, 4
# A secant whose curvature is below this share of the expected one is damped (Powell).
_DAMPED = 0.2
# Of eigenvalues, relative to a unit diagonal: a curvature that is less, or negative, is taken for this.
_LEAST = 1e-6

type Function = Callable[[FloatArray], tuple[float, FloatArray]]


@dataclass(frozen=True)
class HeldMinimum:
    """A minimum on a surface.

    Attributes
    ----------
    x, gradient : FloatArray, shape (d,)
    value : float
    multiplier : float
        Derivative of the minimum in the value that is held; 0 where none is.
    curvature : FloatArray, shape (d, d)
        As the secants left it, for a point nearby.
    converged : bool
    """

    x: FloatArray
    value: float
    gradient: FloatArray
    multiplier: float
    curvature: FloatArray
    converged: bool


def positive(matrix: FloatArray) -> FloatArray:
    """A positive definite matrix: absolute eigenvalues, after scaling to a unit diagonal."""
    scale = np.sqrt(np.abs(np.diagonal(matrix)))
    scale = np.where(scale > 0, scale, 1.0)
    values, vectors = np.linalg.eigh(matrix / (scale * scale[:, None]))
    kept = (vectors * np.maximum(np.abs(values), _LEAST)) @ vectors.T
    return np.asarray(kept * scale * scale[:, None])


def minimise_held(
    function: Function, x: FloatArray, curvature: FloatArray, target: Function | None = None, at: float = 0.0
) -> HeldMinimum | None:
    """Minimise a function where another one has a given value.

    Parameters
    ----------
    function : callable
        Value, inf where it is not defined, and gradient (d,) at a point.
    x : FloatArray, shape (d,)
        Start.
    curvature : FloatArray, shape (d, d)
        Positive definite.
    target : callable, optional
        What is held, with its gradient, at little cost; None for a minimum without an equation.
    at : float

    Returns
    -------
    HeldMinimum or None
        None where the surface was not reached, or the function is not defined there.

    References
    ----------
    Nocedal & Wright (2006), Numerical Optimization, ch. 18 (damped updates: procedure 18.2).

    Examples
    --------
    >>> import numpy as np
    >>> found = minimise_held(lambda x: (float(x @ x), 2 * x), np.ones(2), np.eye(2), lambda x: (x[0], np.eye(2)[0]), 3)
    >>> found.x.round(6).tolist(), round(found.multiplier, 6)
    ([3.0, 0.0], 6.0)
    """
    start = _returned(target, x, curvature, at)
    if start is None:
        return None
    x, a = start
    value, gradient = function(x)
    if not np.isfinite(value):
        return None
    first, stiffer = curvature, 0
    for _ in range(_STEPS):
        step, multiplier = _step(curvature, gradient, a)
        fall = -float(step @ gradient)
        if fall < _NOTHING:
            return HeldMinimum(x, value, gradient, multiplier, curvature, True)
        found = _lower(function, target, at, curvature, x, value, step, fall)
        if found is None and fall >= _ROUNDING and stiffer < _STIFFER:
            # Along a bent ridge a step by next to no curvature leads off it: shorter ones follow it.
            stiffer += 1
            curvature = curvature + _STIFF * 10.0**stiffer * np.diag(np.diagonal(first))
            continue
        if found is None:
            return HeldMinimum(x, value, gradient, multiplier, curvature, fall < _ROUNDING)
        new, new_a, new_value, new_gradient = found
        _, multiplier = _step(curvature, new_gradient, new_a)
        change = new_gradient - gradient - multiplier * (new_a - a)
        curvature = _updated(curvature, new - x, change)
        x, a, value, gradient = new, new_a, new_value, new_gradient
    return HeldMinimum(x, value, gradient, multiplier, curvature, False)


def _step(curvature: FloatArray, gradient: FloatArray, a: FloatArray) -> tuple[FloatArray, float]:
    """The step along the surface with normal a, and the multiplier."""
    if not a.any():
        return -np.linalg.solve(curvature, gradient), 0.0
    v, w = np.linalg.solve(curvature, np.column_stack([gradient, a])).T
    multiplier = float(a @ v) / float(a @ w)
    return -(v - multiplier * w), multiplier


def _returned(
    target: Function | None, x: FloatArray, curvature: FloatArray, at: float
) -> tuple[FloatArray, FloatArray] | None:
    """The point of the surface near x in the metric of the curvature, with its normal."""
    if target is None:
        return x, np.zeros(x.size)
    for _ in range(_RETURNS):
        value, a = target(x)
        if not (np.isfinite(value) and np.isfinite(a).all() and a.any()):
            return None
        if abs(value - at) <= _ON * max(1.0, abs(at)):
            return x, a
        w = np.linalg.solve(curvature, a)
        slope = float(a @ w)
        if slope == 0:
            return None
        x = x + w * ((at - value) / slope)
    return (x, a) if abs(target(x)[0] - at) < 1e-9 * max(1.0, abs(at)) else None


def _lower(
    function: Function,
    target: Function | None,
    at: float,
    curvature: FloatArray,
    x: FloatArray,
    value: float,
    step: FloatArray,
    fall: float,
) -> tuple[FloatArray, FloatArray, float, FloatArray] | None:
    """A lower point of the surface along a step, which is halved until there is one."""
    for _ in range(_HALVINGS):
        back = _returned(target, x + step, curvature, at)
        if back is not None:
            found, gradient = function(back[0])
            if np.isfinite(found) and found <= value - 1e-4 * fall:
                return *back, found, gradient
        step, fall = 0.5 * step, 0.5 * fall
    return None


def _updated(curvature: FloatArray, step: FloatArray, change: FloatArray) -> FloatArray:
    """The curvature with a secant in it, damped so that it stays positive definite."""
    along = curvature @ step
    expected, found = float(step @ along), float(step @ change)
    if not expected > 0:
        return curvature
    if found < _DAMPED * expected:
        share = (1.0 - _DAMPED) * expected / (expected - found)
        change = share * change + (1.0 - share) * along
        found = float(step @ change)
    return np.asarray(curvature - np.outer(along, along) / expected + np.outer(change, change) / found)
