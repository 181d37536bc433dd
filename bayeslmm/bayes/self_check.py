"""A check of a sample by other means than made it: the density by another route, the moments by a second rule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import chdtri

from bayeslmm.bayes import direct
from bayeslmm.bayes.importance import Weighted
from bayeslmm.bayes.moments import ExactMoments, sds_at_zeros
from bayeslmm.bayes.target import Points, Target
from bayeslmm.equality import by_value
from bayeslmm.numerics.resample import kish, trustworthy
from bayeslmm.types import FloatArray

# Posterior draws whose density is computed by the other route.
_POINTS = 4
# Draws whose sigma is compared with its conditional distribution.
_MANY = 1000
# Difference of log densities that is tolerable: sampling 4,000 draws leaves as much. It grows with rounding.
_TOLERABLE, _ROUNDING = 0.01, 1e-11
# Standard errors that two rules may differ by, beside a relative difference that no user sees.
_SIGMAS, _INVISIBLE = 6.0, 1e-3
# Draws of chains at which sigma is compared with its conditional distribution.
_THINNED = 200
# How much more of a log density elsewhere says that a sampler did not find the place.
_ELSEWHERE = 3.0
# Share of draws that are nearer to the mode than the one that it is compared with.
_NEAREST = 1e-3
# Shape of a tail up to which a variance is finite, and a standard error means something.
_FINITE_VARIANCE = 0.5
# Residual sds below this share of the largest response are rounding.
_EXACT = 1e-14
# Where a folded sd is zero its correlations are not defined: checked a little above.
_OFF_ZERO = 1e-3


@by_value
@dataclass(frozen=True, eq=False)
class SelfCheck:
    """What a second computation says about a sample.

    Attributes
    ----------
    points : int
        Posterior draws at which the log density was computed again.
    route : str
        How: ``"least squares"``, or ``"elimination"`` where that would be dear: then the likelihood is the sampler's
        own, and only the priors, Jacobians and the integral over sigma are computed again.
    density_error : float
        Largest difference between the two log densities; nan where it was not computed.
    sigma_error : float
        Largest difference between the conditional means of log sigma, in its conditional sds.
    elsewhere : float
        Largest log density at the REML fit and where the priors are, less that of the draws and by how much the
        nearest of a thousand draws of a normal density misses its mode.
    normaliser : float
        Difference between the log evidences by two rules, in standard errors; nan without a second rule.
    moments : float
        Largest difference between means by two rules, in standard errors.
    """

    points: int
    route: str
    density_error: float
    sigma_error: float
    elsewhere: float
    normaliser: float
    moments: float
    tolerance: float = _TOLERABLE

    @property
    def faults(self) -> tuple[str, ...]:
        """What was found, in words; empty if nothing."""
        found = []
        if self.density_error > self.tolerance or not np.isfinite(self.density_error):
            found.append(f"the log density at posterior draws is off by {self.density_error:.2g}")
        if not self.sigma_error < _SIGMAS / 100:
            found.append(f"the mean of log sigma at a draw is off by {self.sigma_error:.2g} of its sds")
        if self.elsewhere > _ELSEWHERE:
            found.append(f"the log density is larger by {self.elsewhere:.3g} where no draws are")
        if abs(self.normaliser) > _SIGMAS:
            found.append(f"two rules give evidences {abs(self.normaliser):.1f} standard errors apart")
        if self.moments > _SIGMAS:
            found.append(f"two rules give means {self.moments:.1f} standard errors apart")
        return tuple(found)

    @property
    def passed(self) -> bool:
        """Whether the two computations agree."""
        return not self.faults

    def __str__(self) -> str:
        if self.faults:
            return f"self-check failed: {'; '.join(self.faults)}"
        how = "" if self.route == "least squares" else ", likelihood not recomputed"
        return f"self-check passed (log density at {self.points} draws within {max(self.density_error, 1e-9):.0e}{how})"


def check_sample(
    target: Target,
    start: FloatArray,
    sample: Weighted,
    sigma: FloatArray,
    log_evidence: float | None,
    exact: ExactMoments | None,
    second: Weighted | None,
    polynomial: float = 0.0,
) -> SelfCheck:
    """Compute again, by other means, what a sample rests on.

    Parameters
    ----------
    target : Target
        Its likelihood may be a polynomial.
    start : FloatArray, shape (d,)
        Coordinates of a fit.
    sample : Weighted
        With weights of both relative parameters and sigma.
    sigma : FloatArray, shape (K,)
        Drawn at each point.
    log_evidence : float or None
        By a grid, where there was one; the weights of the sample are the second rule.
    exact : ExactMoments or None
        Of the grid.
    second : Weighted or None
        Points from another proposal.
    polynomial : float
        Largest error of a polynomial in place of the likelihood, which is judged by itself.
    """
    x = _draws(sample, target)
    density, line, route, size = _density_error(target, x)
    if log_evidence is not None:
        normaliser = _apart(sample.log_evidence - log_evidence, _error(sample))
    else:
        normaliser = float("nan") if second is None else _apart_by_rules(sample, second)
    moments = 0.0 if target.priors.sigma_known else _line_moments(sample.points, sigma, sample.weights)
    if exact is not None:
        moments = max(moments, _grid_moments(target, sample, sigma, exact))
    elif second is not None and _fit(second):
        moments = max(moments, _point_moments(sample, second))
    top = sample.points.log_density[sample.weights > 0].max()
    tolerance = _TOLERABLE + _ROUNDING * size + 3.0 * polynomial
    if np.median(sigma) <= _EXACT * target.cp.design.largest_response:
        # The residuals of a model that reproduces the response are rounding, by either route; a warning says so.
        tolerance, line = float("inf"), 0.0
    return SelfCheck(
        x.shape[0], route, density, line, float(_elsewhere(target, start) - top), normaliser, moments, tolerance
    )


def check_chains(target: Target, x: FloatArray, log_sigma: FloatArray) -> tuple[float, float]:
    """Error of the log density at some draws of chains, and how far log sigma is from its conditional distribution.

    The second is an identity that chains which have not moved far enough in sigma fail, whatever they agree on.

    Parameters
    ----------
    target : Target
    x : FloatArray, shape (S, d)
    log_sigma : FloatArray, shape (S,)

    Returns
    -------
    float
        Largest difference of log densities of relative parameters and sigma.
    float
        In standard errors of so many independent draws.
    """
    few = np.linspace(0, x.shape[0] - 1, _POINTS).astype(int)
    places = np.where(target.folded, np.maximum(x[few], _OFF_ZERO), x[few])
    factors, sds, log_jacobian = target.terms(places)
    own = target.log_joint(target.factor(places, factors), sds, log_jacobian, log_sigma[few, None])[:, 0]
    cheap = direct.affordable(target.cp, _POINTS)
    density = direct.DirectDensity.at(target, places) if cheap else direct.EliminatedDensity.at(target, places)
    off = np.abs(own - density(log_sigma[few], np.arange(_POINTS)))
    if target.priors.sigma_known:
        return float(off.max()), 0.0
    some = np.linspace(0, x.shape[0] - 1, min(_THINNED if cheap else 4 * _POINTS, x.shape[0])).astype(int)
    points = target.evaluate(x[some])
    mean, sd = line_mean_sd(points.log_sigma, points.log_joint)
    u = (log_sigma[some] - mean) / np.maximum(sd, 1e-15)
    return float(off.max()), standardised(u, np.full(some.size, 1.0))


def _draws(sample: Weighted, target: Target) -> FloatArray:
    """Posterior draws at even steps of the weights, whatever the order of the points."""
    cumulative = np.cumsum(sample.weights)
    index = np.searchsorted(cumulative, (np.arange(_POINTS) + 0.5) / _POINTS * cumulative[-1])
    x = sample.points.x[np.minimum(index, cumulative.size - 1)]
    return np.asarray(np.where(target.folded, np.maximum(x, _OFF_ZERO), x))


def _density_error(target: Target, x: FloatArray) -> tuple[float, float, str, float]:
    """Largest difference of log densities and of means of log sigma, the route, and the size of what is subtracted."""
    points = target.evaluate(x, keep=True)
    cheap = direct.affordable(target.cp, x.shape[0])
    density = direct.DirectDensity.at(target, x) if cheap else direct.EliminatedDensity.at(target, x)
    again = density.integrate()
    mean, _ = line_mean_sd(points.log_sigma, points.log_joint)
    with np.errstate(invalid="ignore", divide="ignore"):
        off = np.abs(points.log_density - again.log_integral).max()
        line = np.abs((mean - again.mean) / np.maximum(again.sd, 1e-15)).max()
    return float(off), float(line), "least squares" if cheap else "elimination", float(np.abs(again.log_integral).max())


def line_mean_sd(log_sigma: FloatArray, log_joint: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Conditional mean and sd of log sigma at every point, from its nodes."""
    with np.errstate(invalid="ignore"):
        p = np.exp(log_joint - log_joint.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        mean = (p * log_sigma).sum(1)
        return np.asarray(mean), np.asarray(np.sqrt((p * (log_sigma - mean[:, None]) ** 2).sum(1)))


def _line_moments(points: Points, sigma: FloatArray, weights: FloatArray) -> float:
    """Mean and mean square of log sigma, standardised at every point: 0 and 1 if it was drawn from its conditional."""
    kept = np.flatnonzero(weights > 0)[:: max(1, weights.size // _MANY)]
    mean, sd = line_mean_sd(points.log_sigma[kept], points.log_joint[kept])
    u = (np.log(sigma[kept]) - mean) / np.maximum(sd, 1e-15)
    return standardised(u, weights[kept])


def standardised(u: FloatArray, weights: FloatArray) -> float:
    """How far weighted u are from mean 0 and mean square 1, in standard errors."""
    w = weights / weights.sum()
    found = []
    for values, expected in ((u, 0.0), (u**2, 1.0)):
        mean = float(w @ values)
        error = float(np.sqrt((w**2) @ (values - mean) ** 2))
        found.append(_apart(mean - expected, error))
    return float(np.abs(found).max())


def _apart(difference: float, error: float) -> float:
    return float(difference / np.hypot(error, _INVISIBLE / _SIGMAS))


def _error(sample: Weighted) -> float:
    """Standard error of the log evidence of a weighted sample."""
    return float(np.sqrt(max(1.0 / max(sample.efficiency, 1e-300) - 1.0, 0.0) / sample.weights.size))


def _fit(second: Weighted) -> bool:
    """Whether a second sample is good enough to be compared with: its weights need a variance.

    Bounded weights are no excuse here, as they are where a sample is judged: a proposal that misses a tail has such.
    """
    efficiency = second.efficiency
    good = bool(np.isfinite(efficiency)) and trustworthy(second.pareto_k, second.largest_weight, efficiency)
    return good and second.pareto_k <= _FINITE_VARIANCE


def _apart_by_rules(sample: Weighted, second: Weighted) -> float:
    if not _fit(second):
        return float("nan")
    return _apart(sample.log_evidence - second.log_evidence, float(np.hypot(_error(sample), _error(second))))


def _point_moments(sample: Weighted, second: Weighted) -> float:
    """Means of the coordinates by both samples."""
    found = 0.0
    a, b = sample.weights, second.weights
    x, z = sample.points.x, second.points.x
    for k in range(x.shape[1]):
        first, other = float(a @ x[:, k]), float(b @ z[:, k])
        spread = np.sqrt(float(b @ (z[:, k] - other) ** 2))
        error = spread * np.hypot(1.0 / np.sqrt(kish(a)), 1.0 / np.sqrt(kish(b)))
        found = max(found, abs(first - other) / max(float(error), 1e-300))
    return found


def _grid_moments(target: Target, sample: Weighted, sigma: FloatArray, exact: ExactMoments) -> float:
    """Means of sigma and the sds by the draws, beside those of the grid, in standard errors of the draws."""
    w = sample.weights
    kept = w > 0
    w, own = w[kept], sigma[kept]
    values, means, sds = [own], [exact.sigma_mean], [exact.sigma_sd]
    factors, own_sds, _ = target.terms(sample.points.x[kept])
    for t, mean, sd in zip(sds_at_zeros(target, factors, own_sds), exact.sd_mean, exact.sd_sd, strict=True):
        values += [t[:, k] * own for k in range(t.shape[1])]
        means, sds = [*means, *mean], [*sds, *sd]
    found = 0.0
    for value, centre, spread in zip(values, means, sds, strict=True):
        error = float(spread) / np.sqrt(kish(w)) + 1e-9 * abs(float(centre))
        # Without a finite variance a mean over draws says nothing.
        if np.isfinite(error) and error > 0:
            found = max(found, abs(float(w @ value) - float(centre)) / error)
    return found


def _elsewhere(target: Target, start: FloatArray) -> float:
    """Largest log density at the fit, at the medians of the priors, and with all sds near zero; see `SelfCheck`."""
    places, position = [start], 0
    medians, zero = start.copy(), start.copy()
    at_start = target.evaluate(start[None])
    sigma = np.exp(at_start.log_sigma[0, np.argmax(at_start.log_joint[0])])
    for own, priors in zip(target.coordinates, target.priors.sds, strict=True):
        for k in range(own.size):
            prior = priors[k]
            if prior.proper:
                t = prior.quantile(0.5) / (1.0 if prior.relative else sigma)
                scale = own.scale[k]
                with np.errstate(divide="ignore", over="ignore"):
                    place = np.arcsinh(t / scale) if own.even[k] else np.log(t)
                medians[position + k] = place if np.isfinite(place) else start[position + k]
            if own.even[k]:
                zero[position + k] = _OFF_ZERO
        position += own.dimension
    places += [medians, zero]
    # In many dimensions no draw comes near a mode, where the fit is.
    below = 0.5 * float(chdtri(target.dimension, 1.0 - _NEAREST)) if target.dimension else 0.0
    return float(target.evaluate(np.stack(places)).log_density.max()) - below
