"""The fixed effects given the variance parameters, under a normal prior: coordinates that make both diagonal, draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayeslmm.likelihood import small
from bayeslmm.likelihood.factor import Factor
from bayeslmm.types import FloatArray, IntArray


@dataclass(frozen=True)
class InternalPrior:
    """A normal prior of the fixed effects on internal coordinates.

    Attributes
    ----------
    precision : FloatArray, shape (p, p)
    mean : FloatArray, shape (p,)
    """

    precision: FloatArray
    mean: FloatArray


@dataclass(frozen=True)
class Rotation:
    """Coordinates in which likelihood and prior of beta are both diagonal, at K points.

    With ``w = V' L_X' (beta - m)`` the likelihood is ``N(w; distance, sigma^2 I)`` and the prior has precision
    `eigenvalues`.
    """

    eigenvalues: FloatArray  # (K, p)
    vectors: FloatArray  # (K, p, p)
    distance: FloatArray  # (K, p)
    mean: FloatArray  # (p,) prior mean, internal coordinates

    def take(self, chosen: IntArray) -> Rotation:
        """Some of the points, in that order."""
        return Rotation(self.eigenvalues[chosen], self.vectors[chosen], self.distance[chosen], self.mean)


def rotate_internal(factor: Factor, prior: InternalPrior) -> Rotation:
    """Diagonalise the prior precision against the likelihood's at every point."""
    q2 = factor.chol.shape[1] - prior.mean.size
    L_X = factor.chol[:, q2:, q2:]
    left = np.linalg.solve(L_X, np.broadcast_to(prior.precision, L_X.shape))
    whitened = np.linalg.solve(L_X, small.transpose(left))
    lost = ~np.isfinite(whitened).all(axis=(1, 2))
    # A point without digits must not end the batch.
    whitened = np.where(lost[:, None, None], 0.0, whitened)
    eigenvalues, vectors = np.linalg.eigh(0.5 * (whitened + small.transpose(whitened)))
    eigenvalues = np.where(lost[:, None], np.nan, eigenvalues)
    offset = small.transpose(L_X) @ (factor.solution[:, q2:] - prior.mean)[..., None]
    distance = (small.transpose(vectors) @ offset)[..., 0]
    return Rotation(np.maximum(eigenvalues, 0.0), vectors, distance, prior.mean)


def draw_trailing(
    factor: Factor, q2: int, sigma: FloatArray, rng: np.random.Generator, prior: InternalPrior | None
) -> FloatArray:
    """Exact draws (K, t) of the trailing (u2, beta), one at each point.

    Parameters
    ----------
    factor : Factor
    q2 : int
        Random effects among them.
    sigma : FloatArray, shape (K,)
    rng : numpy.random.Generator
    prior : InternalPrior or None
        Flat if None.
    """
    beta = draw_fixed(factor, q2, sigma, rng, prior)
    draw = np.empty_like(factor.solution)
    draw[:, q2:] = beta
    if q2:
        shift = beta - factor.solution[:, q2:]
        right = sigma[:, None] * rng.standard_normal((beta.shape[0], q2))
        cross = small.transpose(factor.chol[:, q2:, :q2])
        right -= (cross @ shift[..., None])[..., 0]
        upper = small.transpose(factor.chol[:, :q2, :q2])
        draw[:, :q2] = factor.solution[:, :q2] + np.linalg.solve(upper, right[..., None])[..., 0]
    return draw


def draw_fixed(
    factor: Factor, q2: int, sigma: FloatArray, rng: np.random.Generator, prior: InternalPrior | None
) -> FloatArray:
    """Exact draws (K, p) of beta, one at each point; see `draw_trailing`."""
    L_X, estimate = factor.chol[:, q2:, q2:], factor.solution[:, q2:]
    z = rng.standard_normal((sigma.shape[0], estimate.shape[1]))
    if prior is None:
        step = sigma[:, None] * z
        return estimate + np.linalg.solve(small.transpose(L_X), step[..., None])[..., 0]
    rotation = rotate_internal(factor, prior)
    shrink = 1.0 + sigma[:, None] ** 2 * rotation.eigenvalues
    w = rotation.distance / shrink + sigma[:, None] * z / np.sqrt(shrink)
    step = rotation.vectors @ w[..., None]
    return rotation.mean + np.linalg.solve(small.transpose(L_X), step)[..., 0]
