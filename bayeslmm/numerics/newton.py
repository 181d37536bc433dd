"""Newton's method with exact curvature for smooth functions of a few variables that may have saddle points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np

from bayeslmm.equality import made_fast
from bayeslmm.numerics import direct
from bayeslmm.types import FloatArray

# Newton decrement (predicted fall of the criterion, in -2 log likelihood units) below which the next step
# would be lost in rounding; convergence is quadratic, so that one step from `NEARLY` is the last. With an
# approximate Hessian it is superlinear only, and the problem large enough for the rest not to matter.
TINY = 1e-26
NEARLY = 1e-13
_NEARLY_APPROXIMATE = 1e-7
# Below this predicted fall the value itself is rounding error, and a step that keeps it is as good as one that
# lowers it.
CLOSE = 1e-7
# Below this, blurred derivatives are no reason to stop.
_NOISY = 1e-8
# Predicted fall below which a step is short enough for a secant correction.
_LOCAL = 0.1
# Directions whose curvature is below this share of the largest are flat: no step along them.
FLAT = 1e-12
# Steps are limited to this before the trust radius limits them, so that their squares are numbers.
LONGEST = 1e100
# A variable this many times its unit, or that share of it, has outgrown it.
_OUTGROWN = 8.0


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
    exact : bool
        Whether the Hessian is exact; secant corrections are added to one that is not.
    """

    x: FloatArray
    value: float
    gradient: FloatArray
    hessian: FloatArray
    exact: bool = True


@dataclass(frozen=True)
class Trial:
    """Value at a point with its rounding error, and the derivatives on demand.

    `blur` is a predicted fall that the rounding of the derivatives alone can suggest.
    """

    value: float
    expand: Callable[[], Point]
    noise: float = 1e-11
    blur: float = 0.0


@dataclass(frozen=True)
class Step:
    """One accepted or rejected trial, for the trace."""

    value: float
    decrement: float
    length: float
    accepted: bool


@made_fast
@dataclass(frozen=True)
class NewtonResult:
    """Where and why the iteration stopped; derivatives at the end are not needed for stopping, so not formed.

    `hessian` is the one of the last step.
    """

    x: FloatArray
    value: float
    ending: Ending
    evaluations: int
    steps: tuple[Step, ...]
    hessian: FloatArray


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
    Nocedal & Wright (2006), Numerical Optimization, ch. 4 and 6.2; Dauphin et al. (2014) for absolute curvatures.
    """
    trial = evaluate(x)
    point, evaluations, steps = trial.expand(), 1, list[Step]()
    secants, hessian = _Secants(), point.hessian
    radius = max(1.0, float(np.abs(x).max(initial=0.0)))

    def end(ending: Ending, x: FloatArray = point.x, value: float = point.value) -> NewtonResult:
        return NewtonResult(x, value, ending, evaluations, tuple(steps), hessian)

    while evaluations < max_evaluations:
        if not np.isfinite(point.value) or not np.isfinite(point.hessian).all():
            return end(Ending.non_finite, point.x, point.value)
        hessian = secants.correct(point)
        direction, decrement, saddle = _direction(point.gradient, hessian, radius)
        # Where the derivatives are blurred no sign of a curvature means anything.
        lost = trial.blur > _NOISY and decrement < trial.blur
        if lost or (decrement < TINY and not saddle):
            return end(Ending.converged, point.x, point.value)
        length = float(np.linalg.norm(direction))
        shrink = min(1.0, radius / length)
        step = shrink * direction
        trial = evaluate(point.x + step)
        evaluations += 1
        close = max(CLOSE, 100.0 * trial.noise)
        accepted = trial.value < point.value or (decrement < close and trial.value <= point.value + trial.noise)
        steps.append(Step(trial.value, decrement, shrink * length, bool(accepted)))
        if accepted:
            if decrement < (NEARLY if point.exact else _NEARLY_APPROXIMATE) and not saddle:
                return end(Ending.converged, point.x + step, trial.value)
            radius = 2.0 * radius if shrink < 1.0 else max(radius, 2.0 * length)
            before, point = point, trial.expand()
            secants.add(step, point.gradient - before.gradient, decrement)
        else:
            radius = 0.25 * shrink * length
            if radius < 1e-13 * (1.0 + float(np.abs(point.x).max())):
                ending = Ending.converged if decrement < close else Ending.no_descent
                return end(ending, point.x, point.value)
    return end(Ending.evaluation_limit, point.x, point.value)


def minimise_scaled(
    evaluate: Callable[[FloatArray], Trial],
    x: FloatArray,
    max_evaluations: int = 200,
) -> NewtonResult:
    """The same in units of the size of every variable, for variables that differ by many orders of magnitude.

    Curvatures in one unit would differ by the squares of these, and the smallest pass for rounding. The units are
    taken anew until they fit.
    """
    used, steps = 0, tuple[Step, ...]()
    while True:
        unit = np.maximum(1.0, np.abs(x))
        result = minimise(_in_units(evaluate, unit), x / unit, max_evaluations - used)
        used, steps, moved = used + result.evaluations, steps + result.steps, np.abs(result.x)
        x, hessian = result.x * unit, result.hessian / (unit * unit[:, None])
        outgrown = (moved > _OUTGROWN) | ((moved < 1.0 / _OUTGROWN) & (unit > _OUTGROWN))
        done = result.ending is Ending.non_finite or not outgrown.any()
        if done or used >= max_evaluations:
            return NewtonResult(x, result.value, result.ending, used, steps, hessian)


def _in_units(evaluate: Callable[[FloatArray], Trial], unit: FloatArray) -> Callable[[FloatArray], Trial]:
    def scaled(z: FloatArray) -> Trial:
        trial = evaluate(unit * z)

        def expand() -> Point:
            point = trial.expand()
            hessian = point.hessian * (unit * unit[:, None])
            return Point(z, point.value, point.gradient * unit, hessian, point.exact)

        return Trial(trial.value, expand, trial.noise, trial.blur)

    return scaled


class _Secants:
    """Symmetric rank-one corrections of an approximate Hessian from the last changes of the gradient."""

    def __init__(self) -> None:
        self._pairs: list[tuple[FloatArray, FloatArray]] = []

    def add(self, step: FloatArray, change: FloatArray, decrement: float) -> None:
        # Far from the optimum the curvature changes along the step by more than the approximation is off.
        if decrement < _LOCAL:
            self._pairs = [*self._pairs[-step.size :], (step, change)]

    def correct(self, point: Point) -> FloatArray:
        if point.exact:
            return point.hessian
        hessian = point.hessian
        for step, change in self._pairs:
            rest = change - hessian @ step
            against = float(rest @ step)
            if abs(against) > 1e-6 * float(np.linalg.norm(rest) * np.linalg.norm(step)):
                hessian = hessian + np.outer(rest, rest) / against
        return hessian


def _direction(gradient: FloatArray, hessian: FloatArray, radius: float) -> tuple[FloatArray, float, bool]:
    """Step, predicted fall, and whether the point is a saddle."""
    curvature, vectors = direct.eigenvectors(hessian)
    slope = vectors.T @ gradient
    largest = float(np.abs(curvature).max(initial=0.0))
    steep = np.maximum(np.abs(curvature), FLAT * max(largest, 1e-300))
    with np.errstate(over="ignore"):
        decrement = float((slope**2 / steep).sum())
        # Along a perfect ridge curvature is rounding of any smallness; the length of the step must still be a number.
        step = np.minimum(np.maximum(-slope / steep, -LONGEST), LONGEST)
    down = curvature < -1e-7 * max(largest, 1e-300)
    saddle = bool(down.any())
    if saddle:
        # Along negative curvature the model is unbounded below: go to the trust radius, downhill if there
        # is a slope, else to the positive side (the function is even there).
        push = np.where(slope > 0, -1.0, 1.0) * 0.5 * radius
        step = np.where(down & (np.abs(step) < np.abs(push)), push, step)
        decrement = max(decrement, float(np.abs(curvature[down]).max()) * radius**2)
    return vectors @ step, decrement, saddle
