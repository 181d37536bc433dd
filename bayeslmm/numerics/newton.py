"""Newton's method with exact curvature for smooth functions of a few variables that may have saddle points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np

from bayeslmm.types import FloatArray

# Newton decrement (predicted fall of the criterion, in -2 log likelihood units) below which the next step
# would be lost in rounding; convergence is quadratic, so that one step from `_NEARLY` is the last.
_TINY = 1e-26
_NEARLY = 1e-13
# Below this predicted fall the value itself is rounding error, and a step that keeps it is as good as one that
# lowers it.
_CLOSE = 1e-7
# Directions whose curvature is below this share of the largest are flat: no step along them.
_FLAT = 1e-12


class Ending(Enum):
    """Why the iteration stopped."""

    converged = auto()
    evaluation_limit = auto()
    no_descent = auto()
    non_finite = auto()


@dataclass(frozen=True)
class Point:
    """Value and derivatives at x.

    Attributes
    ----------
    x, gradient : FloatArray, shape (k,)
    hessian : FloatArray, shape (k, k)
    value : float
    """

    x: FloatArray
    value: float
    gradient: FloatArray
    hessian: FloatArray


@dataclass(frozen=True)
class Trial:
    """Value at a point, with the derivatives on demand."""

    value: float
    expand: Callable[[], Point]


@dataclass(frozen=True)
class Step:
    """One accepted or rejected trial, for the trace."""

    value: float
    decrement: float
    length: float
    accepted: bool


@dataclass(frozen=True)
class NewtonResult:
    """Where and why the iteration stopped."""

    point: Point
    ending: Ending
    evaluations: int
    steps: tuple[Step, ...]


def minimise(
    evaluate: Callable[[FloatArray], Trial],
    x: FloatArray,
    max_evaluations: int = 200,
) -> NewtonResult:
    """Minimise a smooth function from exact first and second derivatives.

    The step is Newton's with the absolute values of the curvatures, so that it leaves saddle points (a
    false zero of a standard deviation is one: gradient zero, curvature negative), limited to a trust radius.

    Parameters
    ----------
    evaluate : callable
        Returns the value at a point (inf where undefined) and a way to its derivatives.
    x : FloatArray, shape (k,)
        Start.
    max_evaluations : int

    Returns
    -------
    NewtonResult

    References
    ----------
    Nocedal & Wright (2006), Numerical Optimization, ch. 4; Dauphin et al. (2014) for absolute curvatures.
    """
    point, evaluations, steps = evaluate(x).expand(), 1, list[Step]()
    radius = max(1.0, float(np.abs(x).max(initial=0.0)))
    while evaluations < max_evaluations:
        if not np.isfinite(point.value) or not np.isfinite(point.hessian).all():
            return NewtonResult(point, Ending.non_finite, evaluations, tuple(steps))
        direction, decrement, saddle = _direction(point, radius)
        if decrement < _TINY and not saddle:
            return NewtonResult(point, Ending.converged, evaluations, tuple(steps))
        length = float(np.linalg.norm(direction))
        shrink = min(1.0, radius / length)
        trial = evaluate(point.x + shrink * direction)
        new_value = trial.value
        evaluations += 1
        noise = max(1e-11, 4e-14 * abs(point.value))
        accepted = new_value < point.value or (decrement < _CLOSE and new_value <= point.value + noise)
        steps.append(Step(new_value, decrement, shrink * length, bool(accepted)))
        if accepted:
            radius = 2.0 * radius if shrink < 1.0 else max(radius, 2.0 * length)
            point = trial.expand()
            if decrement < _NEARLY and not saddle:
                return NewtonResult(point, Ending.converged, evaluations, tuple(steps))
        else:
            radius = 0.25 * shrink * length
            if radius < 1e-13 * (1.0 + float(np.abs(point.x).max())):
                ending = Ending.converged if decrement < 1e-7 else Ending.no_descent
                return NewtonResult(point, ending, evaluations, tuple(steps))
    return NewtonResult(point, Ending.evaluation_limit, evaluations, tuple(steps))


def _direction(point: Point, radius: float) -> tuple[FloatArray, float, bool]:
    """Step, predicted fall, and whether the point is a saddle."""
    curvature, vectors = np.linalg.eigh(point.hessian)
    slope = vectors.T @ point.gradient
    largest = float(np.abs(curvature).max(initial=0.0))
    steep = np.maximum(np.abs(curvature), _FLAT * max(largest, 1e-300))
    decrement = float((slope**2 / steep).sum())
    step = -slope / steep
    down = curvature < -1e-7 * max(largest, 1e-300)
    saddle = bool(down.any())
    if saddle:
        # Along negative curvature the model is unbounded below: go to the trust radius, downhill if there
        # is a slope, else to the positive side (the function is even there).
        push = np.where(slope > 0, -1.0, 1.0) * 0.5 * radius
        step = np.where(down & (np.abs(step) < np.abs(push)), push, step)
        decrement = max(decrement, float(np.abs(curvature[down]).max()) * radius**2)
    return vectors @ step, decrement, saddle
