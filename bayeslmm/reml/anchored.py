"""A minimum of an estimated criterion, made one of the exact criterion by factorisations at two or three points.

The estimate leaves the minimum within a small share of a standard error. There the log determinant and its gradient
are taken exactly, and the estimate says only how they change from there: what is left is of second order in a step
that is short already.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bayeslmm.likelihood import parameters as par
from bayeslmm.numerics.newton import Ending, NewtonResult, minimise
from bayeslmm.reml.criterion import Criterion
from bayeslmm.reml.status import LogDetNoise
from bayeslmm.types import FloatArray

if TYPE_CHECKING:
    from bayeslmm.likelihood.derivatives import Derivatives

# Factorisations at most, and the predicted fall of the criterion from an exact point at which it is the minimum.
_MOST, _THERE = 3, 1e-6


def refine(criterion: Criterion, result: NewtonResult, max_evaluations: int) -> tuple[Criterion, NewtonResult, int]:
    """Go on from a minimum of the estimated criterion; the criterion, its minimum, and how many points were exact."""
    if criterion.cp.plan.store != "anchored" or result.ending is not Ending.converged:
        return criterion, result, 0
    points = 0
    while points < _MOST:
        points += 1
        sums = criterion.cp.sums.anchored(criterion.factors(result.x))  # type: ignore[attr-defined]
        criterion = replace(criterion, cp=replace(criterion.cp, sums=sums), _last={})
        again = minimise(criterion, result.x, max_evaluations)
        fall = again.steps[0].decrement if again.steps else 0.0
        total = result.evaluations + again.evaluations
        result = replace(again, evaluations=total, steps=result.steps + again.steps)
        if fall < _THERE or result.ending is not Ending.converged:
            break
    return criterion, result, points


def estimated(criterion: Criterion, result: NewtonResult, points: int) -> LogDetNoise | None:
    """What the spread of the probes says of a fit; None where nothing was estimated."""
    factor = criterion.factor(result.x, criterion.factors(result.x))
    point = factor.crossed
    if point is None or not point.log_det.values.size:
        return None
    found, z = point.log_det, point.log_det.values.size
    share = 0.0
    if result.x.size:
        internal = np.broadcast_to(criterion.internal(result.x), (z, criterion.cp.frame.n_theta))
        slopes = par.gradient(criterion.cp, internal, _only_traces(found.gradients, z))
        free = slopes[:, criterion.held.free] if criterion.held.terms else slopes
        noise = np.atleast_2d(np.cov(free, rowvar=False)) / z
        values, vectors = np.linalg.eigh(result.hessian)
        kept = values > 1e-10 * max(float(values.max()), 1e-300)
        half = vectors[:, kept] / np.sqrt(values[kept])
        # The criterion is -2 log likelihood: sampling covariance 2 H^-1, that of the noise H^-1 C H^-1.
        share = float(np.sqrt(0.5 * np.linalg.eigvalsh(half.T @ noise @ half).max(initial=0.0)))
    return LogDetNoise(z, points, found.error, share)


def _only_traces(gradients: tuple[FloatArray, ...], z: int) -> Derivatives:
    from bayeslmm.likelihood.derivatives import Derivatives

    nothing = tuple(np.zeros_like(x) for x in gradients)
    return Derivatives(gradients, nothing, None, np.zeros(z), np.ones(z))  # type: ignore[arg-type]
