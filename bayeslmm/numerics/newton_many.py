"""Newton's method for many functions of the same few variables at once; see `newton` for the method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bayeslmm.numerics.newton import CLOSE, FLAT, LONGEST, NEARLY, TINY, Ending
from bayeslmm.types import BoolArray, FloatArray, IntArray

type ManyFunction = Callable[[FloatArray, IntArray], tuple[FloatArray, FloatArray, FloatArray]]

_ENDINGS = tuple(Ending)


@dataclass(frozen=True)
class NewtonMany:
    """Where each of K iterations stopped.

    Attributes
    ----------
    x : FloatArray, shape (K, k)
    value : FloatArray, shape (K,)
    ending : tuple of Ending
    evaluations : IntArray, shape (K,)
    """

    x: FloatArray
    value: FloatArray
    ending: tuple[Ending, ...]
    evaluations: IntArray


@dataclass
class _State:
    """Of all iterations; updated in place."""

    x: FloatArray
    value: FloatArray
    gradient: FloatArray
    hessian: FloatArray
    radius: FloatArray
    evaluations: IntArray
    ending: IntArray  # -1 while running


def minimise_many(function: ManyFunction, x: FloatArray, max_evaluations: int = 200) -> NewtonMany:
    """Minimise K smooth functions from exact first and second derivatives.

    Parameters
    ----------
    function : callable
        Maps points (A, k) and the numbers (A,) of the functions to be evaluated there to values (A,), gradients
        (A, k) and Hessians (A, k, k); inf or nan where undefined.
    x : FloatArray, shape (K, k)
        Starts.
    max_evaluations : int

    Returns
    -------
    NewtonMany
    """
    K = x.shape[0]
    everyone = np.arange(K)
    value, gradient, hessian = function(x, everyone)
    radius = np.maximum(1.0, np.abs(x).max(axis=1, initial=0.0))
    state = _State(x.copy(), value, gradient, hessian, radius, np.ones(K, dtype=np.int64), np.full(K, -1))
    while True:
        running = np.flatnonzero(state.ending < 0)
        running = _stop(state, running, ~_finite(state, running), Ending.non_finite)
        running = _stop(state, running, state.evaluations[running] >= max_evaluations, Ending.evaluation_limit)
        if running.size == 0:
            endings = tuple(_ENDINGS[i] for i in state.ending)
            return NewtonMany(state.x, state.value, endings, state.evaluations)
        _step(function, state, running)


def _finite(state: _State, running: IntArray) -> BoolArray:
    return np.isfinite(state.value[running]) & np.isfinite(state.hessian[running]).all(axis=(1, 2))


def _stop(state: _State, running: IntArray, mask: BoolArray, ending: Ending) -> IntArray:
    state.ending[running[mask]] = _ENDINGS.index(ending)
    return running[~mask]


def _step(function: ManyFunction, state: _State, running: IntArray) -> None:
    direction, decrement, saddle = _directions(state, running)
    keep = ~((decrement < TINY) & ~saddle)
    _stop(state, running, ~keep, Ending.converged)
    running, direction, decrement, saddle = running[keep], direction[keep], decrement[keep], saddle[keep]
    if running.size == 0:
        return
    length = np.linalg.norm(direction, axis=1)
    shrink = np.minimum(1.0, state.radius[running] / length)
    trial = state.x[running] + shrink[:, None] * direction
    value, gradient, hessian = function(trial, running)
    state.evaluations[running] += 1
    old = state.value[running]
    noise = np.maximum(1e-11, 4e-14 * np.abs(old))
    accepted = (value < old) | ((decrement < CLOSE) & (value <= old + noise))
    last = accepted & (decrement < NEARLY) & ~saddle
    longer = np.where(shrink < 1.0, 2.0 * state.radius[running], np.maximum(state.radius[running], 2.0 * length))
    state.radius[running] = np.where(accepted, longer, 0.25 * shrink * length)
    moved = running[accepted]
    state.x[moved], state.value[moved] = trial[accepted], value[accepted]
    state.gradient[moved], state.hessian[moved] = gradient[accepted], hessian[accepted]
    _stop(state, running, last, Ending.converged)
    stuck = ~accepted & (state.radius[running] < 1e-13 * (1.0 + np.abs(state.x[running]).max(axis=1)))
    _stop(state, running, stuck & (decrement < 1e-7), Ending.converged)
    _stop(state, running, stuck & (decrement >= 1e-7), Ending.no_descent)


def _directions(state: _State, running: IntArray) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Steps, predicted falls, and which points are saddles."""
    curvature, vectors = np.linalg.eigh(state.hessian[running])
    slope = (state.gradient[running, None] @ vectors)[:, 0]
    largest = np.maximum(np.abs(curvature).max(axis=1, keepdims=True, initial=0.0), 1e-300)
    steep = np.maximum(np.abs(curvature), FLAT * largest)
    with np.errstate(over="ignore"):
        decrement = (slope**2 / steep).sum(axis=1)
        # Without curvature a step is as long as its radius lets it be; its length must still be a number.
        step = np.clip(-slope / steep, -LONGEST, LONGEST)
    down = curvature < -1e-7 * largest
    saddle = down.any(axis=1)
    if saddle.any():
        radius = state.radius[running, None]
        push = np.where(slope > 0, -1.0, 1.0) * 0.5 * radius
        step = np.where(down & (np.abs(step) < np.abs(push)), push, step)
        fall = np.where(down, np.abs(curvature), 0.0).max(axis=1) * radius[:, 0] ** 2
        decrement = np.where(saddle, np.maximum(decrement, fall), decrement)
    return (vectors @ step[..., None])[..., 0], decrement, saddle
