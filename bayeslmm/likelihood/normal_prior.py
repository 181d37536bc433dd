"""A normal prior on beta inside the collapsed likelihood (math: the density d_N)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayeslmm.arguments import numbers_of, shown
from bayeslmm.equality import by_value
from bayeslmm.errors import PriorError
from bayeslmm.likelihood.criteria import LOG_2PI, minus_two_log_density
from bayeslmm.likelihood.crossproducts import CrossProducts
from bayeslmm.likelihood.factor import Factor
from bayeslmm.likelihood.rotation import InternalPrior, Rotation, rotate_internal
from bayeslmm.types import BoolArray, FloatArray


@by_value
@dataclass(frozen=True, eq=False)
class NormalPrior:
    """Independent normal priors on the fixed effects, or on combinations of them.

    Attributes
    ----------
    mean : FloatArray, shape (p,)
        Units of y per unit of the column.
    sd : FloatArray, shape (p,)
        Positive; ``inf`` where flat.
    basis : FloatArray, shape (p, p), or None
        H with determinant one: the priors are on ``H beta``, e.g. on the intercept at the mean of the predictors in
        place of the intercept at zero. None for the coefficients themselves.
    """

    mean: FloatArray
    sd: FloatArray
    basis: FloatArray | None = None

    def __post_init__(self) -> None:
        for name in ("mean", "sd", "basis"):
            value = getattr(self, name)
            if value is None and name == "basis":
                continue
            # Arrays of numbers come from the package itself.
            if not (type(value) is np.ndarray and value.dtype == np.float64):
                shape = (None, None) if name == "basis" else (None,)
                value = numbers_of(name, value, shape=shape, finite=name != "sd", error=PriorError)
                object.__setattr__(self, name, value)
        if self.sd.shape != self.mean.shape or not (self.sd > 0).all():
            raise PriorError(
                f"The normal prior has {self.mean.size} means and the sds {shown(self.sd)}: there is one for each "
                "coefficient, positive, inf where flat."
            )
        if self.basis is not None and self.basis.shape != (self.mean.size, self.mean.size):
            raise PriorError(f"The basis has the shape {self.basis.shape}; there are {self.mean.size} coefficients.")

    @property
    def precision(self) -> FloatArray:
        """Precision (p,) of each prior."""
        return 1.0 / self.sd**2

    @property
    def precision_matrix(self) -> FloatArray:
        """Precision matrix (p, p) of the coefficients."""
        own = self.precision
        return np.diag(own) if self.basis is None else self.basis.T @ (own[:, None] * self.basis)

    def combinations(self, beta: FloatArray) -> FloatArray:
        """What the priors are on, from coefficients (..., p)."""
        return beta if self.basis is None else beta @ self.basis.T

    def coefficients(self, combinations: FloatArray) -> FloatArray:
        """Coefficients (..., p) from what the priors are on."""
        return combinations if self.basis is None else np.linalg.solve(self.basis, combinations[..., None])[..., 0]

    @property
    def centre(self) -> FloatArray:
        """Prior mean (p,) of the coefficients."""
        return self.coefficients(self.mean)

    @property
    def marginal_sd(self) -> FloatArray:
        """Prior sd (p,) of each coefficient; ``inf`` where flat."""
        if self.basis is None:
            return self.sd
        back = np.linalg.inv(self.basis)
        variance = np.where(np.abs(back) > 1e-14, back**2, 0.0)
        with np.errstate(invalid="ignore"):
            return np.asarray(np.sqrt(np.nansum(variance * self.sd**2, axis=1)))

    @property
    def proper(self) -> BoolArray:
        """Mask of the coefficients that have a proper prior."""
        return np.isfinite(self.sd)


def internal_prior(cp: CrossProducts, prior: NormalPrior) -> InternalPrior:
    """A prior of the user's coefficients on internal coordinates."""
    A = cp.fixed.transform
    return InternalPrior(A.T @ prior.precision_matrix @ A, np.linalg.solve(A, prior.centre) - cp.response.removed)


def rotate(cp: CrossProducts, factor: Factor, prior: NormalPrior) -> Rotation:
    """Diagonalise the prior precision against the likelihood's at every point."""
    return rotate_internal(factor, internal_prior(cp, prior))


def minus_two_log_density_normal(
    cp: CrossProducts,
    factor: Factor,
    sigma: FloatArray,
    prior: NormalPrior | None,
    rotation: Rotation | None = None,
) -> FloatArray:
    """``d_N``: -2 log p(y | theta, sigma) with beta integrated over its normal (or partly flat) prior.

    Parameters
    ----------
    sigma : FloatArray, shape (K, S)
    prior : NormalPrior or None
        None is flat: ``d_R``.
    rotation : Rotation, optional
        What `rotate` gives, where it is at hand.

    Returns
    -------
    FloatArray, shape (K, S)
    """
    if prior is None:
        return minus_two_log_density(cp, factor, sigma, reml=True)
    rotation = rotate(cp, factor, prior) if rotation is None else rotation
    variance = np.asarray(sigma, dtype=float) ** 2
    inflated = 1.0 + variance[..., None] * rotation.eigenvalues[:, None, :]
    quadratic = (rotation.distance**2 * rotation.eigenvalues)[:, None, :] / inflated
    n_flat = int((~prior.proper).sum())
    log_prior_scale = 2.0 * float(np.log(prior.sd[prior.proper]).sum())
    constant = factor.log_det + factor.log_det_fixed - cp.log_weights + log_prior_scale
    return np.asarray(
        (cp.n - n_flat) * LOG_2PI
        + (cp.n - cp.p) * np.log(variance)
        + constant[:, None]
        + np.log(inflated).sum(-1)
        + factor.r2[:, None] / variance
        + quadratic.sum(-1)
    )
