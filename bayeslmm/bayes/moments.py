"""Posterior means and sds without Monte Carlo error, from the quadrature grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayeslmm.bayes.quadrature import Grid
from bayeslmm.bayes.target import Target
from bayeslmm.likelihood import beta_covariance
from bayeslmm.likelihood.conditional import user_beta
from bayeslmm.likelihood.normal_prior import rotate
from bayeslmm.types import BoolArray, FloatArray

# Added to the weights of nodes 1 to 4 so that x, x^3, x^5 and x^7 have no error at the end 0 (Euler-Maclaurin):
# B_2/2, B_4/4, B_6/6, B_8/8.
_ODD_ENDS = np.linalg.solve(
    np.arange(1.0, 5.0) ** np.array([[1], [3], [5], [7]]), [1 / 12, -1 / 120, 1 / 252, -1 / 240]
)


@dataclass(frozen=True)
class ExactMoments:
    """Posterior means and standard deviations from quadrature.

    Attributes
    ----------
    sd_mean, sd_sd : tuple of FloatArray, each (c,)
        Group-level standard deviations, terms in the order of the formula.
    sigma_mean, sigma_sd : float
    beta_mean, beta_sd : FloatArray, shape (p,)
    """

    sd_mean: tuple[FloatArray, ...]
    sd_sd: tuple[FloatArray, ...]
    sigma_mean: float
    sigma_sd: float
    beta_mean: FloatArray
    beta_sd: FloatArray


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
    shares = iter(_odd_weights(target, grid, keep))
    sd_moments = [
        np.array([_mean_sd(mass, t[:, k, None] * sigma, next(shares)) for k in range(t.shape[1])]) for t in sds
    ]
    sigma_mean, sigma_sd = _mean_sd(mass, sigma)
    beta_mean, beta_sd = _beta_moments(target, points.x[keep], factors, sigma, mass)
    return ExactMoments(
        tuple(m[:, 0] for m in sd_moments),
        tuple(m[:, 1] for m in sd_moments),
        sigma_mean,
        sigma_sd,
        beta_mean,
        beta_sd,
    )


def _mean_sd(mass: FloatArray, values: FloatArray, odd: FloatArray | float = 1.0) -> tuple[float, float]:
    mean = float(((mass * values).sum(1) * odd).sum())
    square = float((mass * values**2).sum())
    return mean, float(np.sqrt(max(square - mean**2, 0.0)))


def _odd_weights(target: Target, grid: Grid, keep: BoolArray) -> list[FloatArray]:
    """What each node counts for in the mean of every sd, relative to its weight in the grid, shape (K,).

    On a folded axis the density is even and the trapezoidal rule converges geometrically, but ``sd = c sinh(x) sigma``
    is odd: the Euler-Maclaurin terms at 0 are made up for at the first nodes.
    """
    out, axis = [], 0
    x = grid.points.x[keep]
    for coordinates in target.coordinates:
        for k in range(coordinates.size):
            nodes = grid.axes[axis + k]
            weight = np.ones(x.shape[0])
            if nodes[0] == 0.0:
                place = np.rint(x[:, axis + k] / nodes[1]).astype(int)
                near = (place > 0) & (place <= _ODD_ENDS.size)
                weight[near] += _ODD_ENDS[place[near] - 1]
            out.append(weight)
        axis += coordinates.dimension
    return out


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
