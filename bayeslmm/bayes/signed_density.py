"""The collapsed posterior density with sigma as one more coordinate, and its gradient, on the whole line.

Coordinates are those of the collapsed target with the sign of a standard deviation restored: the density is then smooth
and symmetric, and zero is an ordinary point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayeslmm.bayes.target import Target
from bayeslmm.likelihood.density_gradient import DensityGradient, density_gradient, residual_density_gradient
from bayeslmm.likelihood.pattern_gradient import pattern_gradient
from bayeslmm.likelihood.patterns import PatternSums
from bayeslmm.likelihood.residual_products import ResidualProducts
from bayeslmm.types import AnyArray, FloatArray

# Step of central differences of the map from coordinates to factors and of the log prior.
_STEP = 1e-5
# Step of differences of gradients.
_CURVATURE_STEP = 1e-4
# Steps towards the mode, and the gain at which there is no more to be had of a centre.
_ROUNDS, _STEPS, _NOTHING = 20, 6, 1e-4
# Halvings of a step that leads nowhere.
_HALVINGS = 6


@dataclass(frozen=True, eq=False)
class SignedDensity:
    """Log posterior density of (x, log sigma) and its gradient, x on the whole line.

    Attributes
    ----------
    target : Target
        Gives the coordinates, with scales; ``x[k]`` of a folded coordinate may have either sign.
    """

    target: Target

    @property
    def dimension(self) -> int:
        """Number of relative sds and correlations, d, and log sigma where it is not known."""
        return self.target.dimension + (not self.target.priors.sigma_known)

    def split(self, z: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Coordinates (..., d) and log sigma (...) from points (..., dimension)."""
        known = self.target.priors.known_log_sigma
        return (z[..., :-1], z[..., -1]) if known is None else (z, np.full(z.shape[:-1], known))

    def terms(self, x: FloatArray) -> tuple[list[FloatArray], list[FloatArray], FloatArray]:
        """Relative factors with signed rows (K, c, c), relative sds (K, c or 1); log LKJ plus log Jacobians (K,).

        A negative row of a factor is a change of sign of all correlations of that effect, so that factors are smooth
        functions of the coordinates (where a structure allows such a change).
        """
        factors, sds, log_density = self.target.terms(x)
        position = 0
        for k, coordinates in enumerate(self.target.coordinates):
            own = x[:, position : position + sds[k].shape[1]]
            folded = np.array(coordinates.folded[: own.shape[1]]) & coordinates.structure.mirrored
            signs = np.where(folded & (own < 0), -1.0, 1.0)
            factors[k] = signs[:, :, None] * factors[k]
            position += coordinates.dimension
        return factors, sds, log_density

    def __call__(self, z: AnyArray) -> tuple[float, FloatArray]:
        """Log density and gradient at one point (d + 1,); minus infinity and zeros where it cannot be evaluated."""
        z = np.asarray(z, dtype=float)
        try:
            with np.errstate(all="ignore"):
                value, slope = self._evaluate(z)
        except np.linalg.LinAlgError:
            return -np.inf, np.zeros_like(z)
        if not (np.isfinite(value) and np.isfinite(slope).all()):
            return -np.inf, np.zeros_like(z)
        return value, slope

    def _evaluate(self, z: FloatArray) -> tuple[float, FloatArray]:
        # The likelihood has its exact gradient; what is elementary around it is differentiated numerically.
        size, target = z.size, self.target
        points = np.vstack([z, z + _STEP * np.eye(size), z - _STEP * np.eye(size)])
        x, log_sigma = self.split(points)
        factors, sds, log_jacobian = self.terms(x)
        log_prior = target.log_prior(sds, log_jacobian, log_sigma[:, None])[:, 0]
        sigma = float(np.exp(log_sigma[0]))
        likelihood = self._likelihood([T[0] for T in factors], target.lam(x[0]), sigma)
        slope = (log_prior[1 : size + 1] - log_prior[size + 1 :]) / (2.0 * _STEP)
        for T, S in zip(factors, likelihood.in_factors([T[0] for T in factors]), strict=True):
            change = (T[1 : size + 1] - T[size + 1 :]) / (2.0 * _STEP)
            slope = slope - 0.5 * (change * S).sum((1, 2))
        slope[target.n_effects : target.dimension] -= 0.5 * likelihood.lam
        if size > target.dimension:
            slope[-1] -= 0.5 * likelihood.log_sigma
        return float(log_prior[0] - 0.5 * likelihood.value), slope

    def _likelihood(self, factors: list[FloatArray], lam: FloatArray, sigma: float) -> DensityGradient:
        cp, prior = self.target.cp, self.target.priors.beta
        if isinstance(self.target.sums, PatternSums):
            return pattern_gradient(cp, self.target.sums, factors, lam, sigma, prior)
        if isinstance(cp, ResidualProducts):
            return residual_density_gradient(cp.at_points, factors, lam, sigma, prior)
        return density_gradient(cp, factors, sigma, prior)

    def curvature(self, z: FloatArray) -> FloatArray:
        """Second derivatives of minus the log density, by differences of the gradient to one side."""
        here = self(z)[1]
        H = np.array([(here - self(z + step)[1]) / _CURVATURE_STEP for step in _CURVATURE_STEP * np.eye(z.size)])
        return np.asarray(0.5 * (H + H.T))

    def log_sigma(self, x: FloatArray) -> float:
        """Log sigma where its density given x (d,) is highest."""
        points = self.target.evaluate(x[None])
        return float(points.log_sigma[0, np.argmax(points.log_joint[0])])


def climb(density: SignedDensity, z: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The mode from a point near it, and the eigenvalue-floored covariance of a normal density there.

    Steps by one curvature as long as they lead up by about as much as it says, then by another.

    Returns
    -------
    FloatArray, shape (d,)
    FloatArray, shape (d, d)
        A square root of the covariance.
    """
    for _ in range(_ROUNDS):
        root = _root(density.curvature(z))
        z, settled = _stepped(density, z, root)
        if settled:
            break
    return z, _root(density.curvature(z))


def _root(H: FloatArray) -> FloatArray:
    """A square root of the inverse, flat and convex directions as wide as the coordinates are meant to be."""
    values, vectors = np.linalg.eigh(H)
    return np.asarray(vectors / np.sqrt(np.maximum(np.abs(values), 0.05)))


def _stepped(density: SignedDensity, z: FloatArray, root: FloatArray) -> tuple[FloatArray, bool]:
    """Some steps up by one curvature, and whether nothing more was to be had."""
    value, slope = density(z)
    for _ in range(_STEPS):
        step = root @ (root.T @ slope)
        gain = float(step @ slope)
        if gain < _NOTHING:
            return z, True
        for _ in range(_HALVINGS):
            trial = density(z + step)
            if trial[0] > value:
                break
            step = 0.5 * step
        else:
            return z, False
        fell_short = trial[0] - value < 0.1 * gain
        z, (value, slope) = z + step, trial
        if fell_short:
            return z, False
    return z, False
