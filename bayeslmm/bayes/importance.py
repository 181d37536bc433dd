"""Importance sampling of the collapsed posterior with an adapted mixture proposal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayeslmm.bayes.proposals import MixtureT, blend, fit_mixture, single
from bayeslmm.bayes.target import Points, Target
from bayeslmm.numerics.differences import trials
from bayeslmm.numerics.newton import Point, minimise
from bayeslmm.numerics.resample import kish, normalised
from bayeslmm.types import FloatArray

_PILOT = 1000
_DEFENSIVE = 0.1
# Rounds of adaptation and the efficiency that makes a further round pointless.
_ROUNDS = 3
_GOOD = 0.85


@dataclass(frozen=True)
class Weighted:
    """Points with importance weights.

    Attributes
    ----------
    points : Points
    log_weights : FloatArray, shape (K,)
        log p(x, y) - log q(x).
    """

    points: Points
    log_weights: FloatArray

    @property
    def log_evidence(self) -> float:
        """Log of the mean weight."""
        top = self.log_weights.max()
        return float(top + np.log(np.mean(np.exp(self.log_weights - top))))


def importance_points(target: Target, start: FloatArray, size: int, rng: np.random.Generator) -> Weighted:
    """Weighted points whose Kish effective size is about `size`.

    A t at the mode, then mixtures fitted to the weighted points of the round before, then one final sample;
    adapted rounds are not used for the result, so that the weights of the final one are independent.

    Parameters
    ----------
    target : Target
    start : FloatArray, shape (d,)
        Near the mode (the REML fit).
    size : int
    rng : numpy.random.Generator

    References
    ----------
    Vehtari, Simpson, Gelman, Yao & Gabry (2024), JMLR 25(72), for the diagnostic; Cappe, Douc, Guillin, Marin
    & Robert (2008), Statistics and Computing 18, for adaptive mixtures.
    """
    pilot = laplace(target, start)
    proposal = pilot
    sample = draw(target, proposal, _PILOT, rng)
    efficiency = _efficiency(sample)
    for _ in range(_ROUNDS):
        if efficiency > _GOOD:
            break
        adapted = _adapt(sample, pilot, rng)
        trial = draw(target, adapted, _PILOT, rng)
        better = _efficiency(trial)
        if better <= efficiency * 1.02:
            break
        proposal, sample, efficiency = adapted, trial, better
    # Some spare points, so that resampling repeats few of them.
    final = int(np.ceil(size * min(max(1.0 / efficiency, 1.0) * 1.1, 6.0)))
    return draw(target, proposal, final, rng)


def laplace(target: Target, start: FloatArray) -> MixtureT:
    """A t at the mode with the curvature there."""
    mode = find_mode(target, start)
    curvature, vectors = np.linalg.eigh(mode.hessian)
    # The density is bounded in every direction on these coordinates, but may be nearly flat.
    curvature = np.maximum(np.abs(curvature), 0.05)
    covariance = (vectors / curvature) @ vectors.T
    return single(mode.x, 1.2 * covariance, 5.0, target.folded)


def find_mode(target: Target, start: FloatArray) -> Point:
    """Mode of the collapsed posterior on the unconstrained coordinates (density of x)."""

    def minus_log(x: FloatArray) -> FloatArray:
        value = -target.evaluate(x).log_density
        return np.where(np.isfinite(value), value, 1e300)

    problem = trials(minus_log)
    point = problem(minimise(problem, start, max_evaluations=60).x).expand()
    return Point(np.where(target.folded, np.abs(point.x), point.x), point.value, *_folded(target, point))


def _folded(target: Target, point: Point) -> tuple[FloatArray, FloatArray]:
    sign = np.where(target.folded & (point.x < 0), -1.0, 1.0)
    return point.gradient * sign, point.hessian * np.outer(sign, sign)


def draw(target: Target, proposal: MixtureT, size: int, rng: np.random.Generator) -> Weighted:
    """Draw from the proposal and weigh."""
    x = proposal.draw(size, rng)
    points = target.evaluate(x)
    # The density of |x| is the sum over both signs of an even density: one factor 2 per folded coordinate is
    # not needed, because the target is a density on the positive side already.
    return Weighted(points, points.log_density - proposal.log_density(x))


def _efficiency(sample: Weighted) -> float:
    return kish(normalised(sample.log_weights)) / sample.log_weights.size


def _adapt(sample: Weighted, pilot: MixtureT, rng: np.random.Generator) -> MixtureT:
    weights = normalised(sample.log_weights)
    x = sample.points.x
    # Let EM see both mirror images where the density reaches zero, so that components there stay centred.
    signs = np.where(pilot.folded, rng.choice([-1.0, 1.0], size=x.shape), 1.0)
    near = pilot.folded & (weights @ (x**2) < 4.0 * (weights @ x**2 - (weights @ x) ** 2))
    mirrored = np.where(near, x * signs, x)
    fitted = fit_mixture(mirrored, weights, 3, pilot.folded, rng)
    return blend(fitted, pilot, _DEFENSIVE)
