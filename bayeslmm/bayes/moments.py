"""Posterior means and sds without Monte Carlo error, from the quadrature grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bayeslmm.bayes.at_means import factors_at_zeros
from bayeslmm.bayes.quadrature import Grid
from bayeslmm.bayes.target import Target
from bayeslmm.equality import by_value
from bayeslmm.likelihood import beta_covariance
from bayeslmm.likelihood.conditional import user_beta
from bayeslmm.likelihood.normal_prior import rotate
from bayeslmm.residual import NO_PARAMETERS, natural_parameters
from bayeslmm.types import BoolArray, FloatArray


@by_value
@dataclass(frozen=True, eq=False)
class ExactMoments:
    """Posterior means and standard deviations from quadrature.

    Attributes
    ----------
    sd_mean, sd_sd : tuple of FloatArray, each (c,)
        Group-level standard deviations, terms in the order of the formula.
    sigma_mean, sigma_sd : float
    beta_mean, beta_sd : FloatArray, shape (p,)
    residual_mean, residual_sd : FloatArray, shape (k,)
        Residual parameters in the user's units.
    """

    sd_mean: tuple[FloatArray, ...]
    sd_sd: tuple[FloatArray, ...]
    sigma_mean: float
    sigma_sd: float
    beta_mean: FloatArray
    beta_sd: FloatArray
    residual_mean: FloatArray = field(default_factory=lambda: NO_PARAMETERS)
    residual_sd: FloatArray = field(default_factory=lambda: NO_PARAMETERS)

    def of(self, kind: str, position: int, effects: Sequence[int]) -> tuple[float, float] | None:
        """Mean and standard deviation of a parameter; None where they are not known."""
        match kind:
            case "sigma":
                return self.sigma_mean, self.sigma_sd
            case "fixed":
                return self.beta_mean[position], self.beta_sd[position]
            case "sd":
                return self.sd_mean[position][effects[0]], self.sd_sd[position][effects[0]]
            case "residual" if self.residual_mean.size:
                return self.residual_mean[position], self.residual_sd[position]
        return None


def grid_moments(target: Target, grid: Grid) -> ExactMoments:
    """Moments of the posterior over a grid of relative sds and the nodes of sigma."""
    p = np.exp(grid.log_mass - grid.log_evidence)
    keep = p > 1e-16 * p.max()
    points = grid.points
    log_sigma, log_joint = points.log_sigma[keep], points.log_joint[keep]
    conditional = np.exp(log_joint - log_joint.max(axis=1, keepdims=True))
    conditional /= conditional.sum(axis=1, keepdims=True)
    mass = (p[keep] / p[keep].sum())[:, None] * conditional
    sigma = np.exp(log_sigma)
    factors, sds, _ = target.terms(points.x[keep])
    sds = sds_at_zeros(target, factors, sds)
    ends = iter(_end_corrections(target, grid, keep, (mass * sigma).sum(1)))
    sd_moments = [np.array([_mean_sd(mass, t[:, k, None] * sigma, next(ends)) for k in range(t.shape[1])]) for t in sds]
    sigma_mean, sigma_sd = _mean_sd(mass, sigma)
    beta_mean, beta_sd = _beta_moments(target, points.x[keep], factors, sigma, mass)
    return ExactMoments(
        tuple(m[:, 0] for m in sd_moments),
        tuple(m[:, 1] for m in sd_moments),
        sigma_mean,
        sigma_sd,
        beta_mean,
        beta_sd,
        *_residual_moments(target, points.x[keep], mass),
    )


def _residual_moments(target: Target, x: FloatArray, mass: FloatArray) -> tuple[FloatArray, FloatArray]:
    values, p = natural_parameters(target.cp.design.residual, target.lam(x)), mass.sum(1)
    mean = p @ values
    return mean, np.sqrt(p @ (values - mean) ** 2)


def sds_at_zeros(target: Target, factors: list[FloatArray], sds: list[FloatArray]) -> list[FloatArray]:
    """Relative sds of the effects at the zeros of the columns."""
    if not target.changes:
        return sds
    own = factors_at_zeros(target.changes, factors)
    return [
        t if change is None else np.sqrt((T**2).sum(axis=-1))
        for change, T, t in zip(target.changes, own, sds, strict=True)
    ]


def _mean_sd(mass: FloatArray, values: FloatArray, correction: float = 0.0) -> tuple[float, float]:
    mean = float((mass * values).sum()) + correction
    square = float((mass * values**2).sum())
    return mean, float(np.sqrt(max(square - mean**2, 0.0)))


def _end_corrections(target: Target, grid: Grid, keep: BoolArray, sigma_mass: FloatArray) -> list[float]:
    """Euler-Maclaurin terms of the mean of each sd, whose integrand is odd where its axis is folded.

    On a folded axis the density D is even and the trapezoidal rule converges geometrically, but ``g = c sinh(x) D`` is
    odd: its integral over x >= 0 lacks ``h^2 / 12 g'(0) - h^4 / 720 g'''(0)``, with ``g' = c D`` and
    ``g''' = c (D + 3 D'')`` there, and the second derivative of D from its values at 0 and h. The sd at the zero of a
    column that an effect is centred on mixes several; where one of them vanishes its slopes cancel over the
    correlation, which the data then say nothing about.
    """
    corrections, axis = [], 0
    x = grid.points.x[keep]
    for position, coordinates in enumerate(target.coordinates):
        change = target.changes[position] if target.changes else None
        for k in range(coordinates.size):
            nodes, correction = grid.axes[axis + k], 0.0
            if nodes[0] == 0.0 and not (change is not None and change.moved[k]):
                h = nodes[1]
                # Half the weight belongs to the node at zero.
                at_zero = 2.0 * sigma_mass[x[:, axis + k] == 0.0].sum() / h
                at_step = sigma_mass[x[:, axis + k] == h].sum() / h
                third = at_zero + 6.0 * (at_step - at_zero) / h**2
                correction = float(coordinates.scale[k] * (h**2 / 12.0 * at_zero - h**4 / 720.0 * third))
            corrections.append(correction)
        axis += coordinates.dimension
    return corrections


def _beta_moments(
    target: Target, x: FloatArray, factors: list[FloatArray], sigma: FloatArray, mass: FloatArray
) -> tuple[FloatArray, FloatArray]:
    cp = target.cp
    factor = target.factor(x, factors)
    prior = target.priors.beta
    if prior is None:
        means = user_beta(cp, factor.solution[:, factor.chol.shape[1] - cp.p :])
        variances = np.diagonal(beta_covariance(cp, factor), axis1=1, axis2=2)
        centre = mass.sum(1) @ means
        within = (mass * sigma**2).sum(1) @ variances
        return centre, np.sqrt(within + mass.sum(1) @ (means - centre) ** 2)
    rotation = rotate(cp, factor, prior)
    q2 = factor.chol.shape[1] - cp.p
    L_X = factor.chol[:, q2:, q2:]
    back = np.linalg.solve(np.swapaxes(L_X, 1, 2), rotation.vectors)
    shrink = 1.0 + (sigma**2)[..., None] * rotation.eigenvalues[:, None, :]
    w = rotation.distance[:, None, :] / shrink
    means = user_beta(cp, rotation.mean + np.einsum("kij,ksj->ksi", back, w))
    rows = cp.fixed.transform @ back
    variances = np.einsum("kij,ksj->ksi", rows**2, (sigma**2)[..., None] / shrink)
    centre = np.einsum("ks,ksi->i", mass, means)
    spread = np.einsum("ks,ksi->i", mass, variances + (means - centre) ** 2)
    return centre, np.sqrt(spread)
