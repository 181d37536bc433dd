"""Value and exact gradient of the marginal density of y in the covariances and sigma, at one point.

With V = sigma^2 (I + Z G Z'), plus X S0 X' where beta has a normal prior, -2 log p(y) changes by ``tr(S dG)`` minus
``s' dG s / sigma^2`` with ``S = Z' P Z`` and ``s = Z' P y``, P being sigma^2 V^-1, or its limit for a flat prior.
A normal prior on beta adds ``sigma^2 S0^-1`` to X'V0^-1 X inside P, so that S and s are those of a flat
prior with another trailing Cholesky factor and another estimate of beta. Nothing is divided by a variance of the random
effects: zero is an ordinary point. Where beta is not integrated out but put at its best value, the traces are those of
``Z' V0^-1 Z`` and s is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bayeslmm.likelihood import parameters as par
from bayeslmm.likelihood import small
from bayeslmm.likelihood.criteria import (
    LOG_2PI,
    degrees_of_freedom,
    derivatives,
    evaluate,
    minus_two_log_density,
)
from bayeslmm.likelihood.crossproducts import CrossProducts
from bayeslmm.likelihood.factor import Factor
from bayeslmm.likelihood.normal_prior import NormalPrior, minus_two_log_density_normal, rotate
from bayeslmm.likelihood.residual_slopes import residual_slopes
from bayeslmm.likelihood.rotation import Rotation
from bayeslmm.likelihood.whitened import RowsAtPoints
from bayeslmm.residual import NO_PARAMETERS
from bayeslmm.types import FloatArray


@dataclass(frozen=True)
class DensityGradient:
    """-2 log p(y | G, sigma) and its derivatives, beta integrated out or at its best value.

    Attributes
    ----------
    value : float
    covariances : tuple of FloatArray, each (c, c)
        Derivatives in the relative covariance G of every term on the user's columns, terms in the order of the
        formula, at fixed sigma. Symmetric: element (a, b) is the derivative along a change of that entry alone.
    log_sigma : float
        Derivative in log sigma at fixed relative covariances.
    lam : FloatArray, shape (k,)
        Derivatives in the parameters of the residual structure.
    """

    value: float
    covariances: tuple[FloatArray, ...]
    log_sigma: float
    lam: FloatArray = field(default_factory=lambda: NO_PARAMETERS)

    def in_factors(self, terms: Sequence[FloatArray]) -> tuple[FloatArray, ...]:
        """Derivatives in factors T (c, c) with ``G = T T'``."""
        return tuple(2.0 * slope @ T for slope, T in zip(self.covariances, terms, strict=True))


def density_gradient(
    cp: CrossProducts,
    terms: Sequence[FloatArray],
    sigma: float,
    prior: NormalPrior | None = None,
    *,
    reml: bool = True,
) -> DensityGradient:
    """-2 log p(y | G, sigma) with beta and the random effects integrated out, and its gradient.

    Parameters
    ----------
    cp : CrossProducts
    terms : sequence of FloatArray, each (c, c)
        Relative factors on the user's columns, terms in the order of the formula: any square roots, zero included.
    sigma : float
        Residual standard deviation in the units of y.
    prior : NormalPrior, optional
        Of beta; flat by default.
    reml : bool
        False: beta is not integrated out but where the likelihood, times its prior, is highest.

    Returns
    -------
    DensityGradient

    Raises
    ------
    numpy.linalg.LinAlgError
        The covariances are so large that the system is singular to rounding.

    Examples
    --------
    >>> import numpy as np
    >>> import bayeslmm as bl
    >>> model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))
    >>> fit = model.fit()
    >>> at_reml = density_gradient(model.cross_products, fit.optimum.terms, fit.sigma)
    >>> bool(abs(at_reml.value - fit.criterion) < 1e-8), bool(abs(at_reml.log_sigma) < 1e-6)
    (True, True)
    """
    return _gradient(cp, terms, sigma, prior, reml)[0]


def residual_density_gradient(
    rows: RowsAtPoints, terms: Sequence[FloatArray], lam: FloatArray, sigma: float, prior: NormalPrior | None = None
) -> DensityGradient:
    """The same at one point lam (k,) of residual parameters, with the derivatives in these.

    Raises
    ------
    numpy.linalg.LinAlgError
        The system, or the residual covariance, is singular to rounding.
    """
    cp = rows.at(lam)
    found, factors, factor = _gradient(cp, terms, sigma, prior, True)
    return replace(found, lam=residual_slopes(rows, cp, factors, factor, lam, True, sigma))


def _gradient(
    cp: CrossProducts, terms: Sequence[FloatArray], sigma: float, prior: NormalPrior | None, reml: bool
) -> tuple[DensityGradient, list[FloatArray], Factor]:
    """The gradient, and the factors and the evaluation under the prior that it is made of."""
    factors = par.block_factors(cp, [np.asarray(T, dtype=float)[None] for T in terms])
    factor = evaluate(cp, factors)
    value, slope, rotation = value_and_slope(cp, factor, sigma, prior, reml)
    if prior is not None and rotation is not None:
        factor = with_normal_prior(cp, factors, factor, sigma, prior, rotation)
    if not terms:
        return DensityGradient(value, (), slope), factors, factor
    first = derivatives(cp, factors, factor, reml)
    blocks = [trace[0] - square[0] / sigma**2 for trace, square in zip(first.traces, first.squares, strict=True)]
    return DensityGradient(value, _on_terms(cp, blocks), slope), factors, factor


def value_and_slope(
    cp: CrossProducts, factor: Factor, sigma: float, prior: NormalPrior | None, reml: bool = True
) -> tuple[float, float, Rotation | None]:
    """-2 log p(y) of an evaluation at one point, its derivative in log sigma, and the prior beside the likelihood."""
    if prior is None or not cp.p:
        value = float(minus_two_log_density(cp, factor, np.array([sigma]), reml)[0])
        return value, float(2.0 * degrees_of_freedom(cp, reml) - 2.0 * factor.r2[0] / sigma**2), None
    rotation = rotate(cp, factor, prior)
    value = _value_normal(cp, factor, sigma, prior, rotation, reml)
    return value, _slope_normal(cp, factor, sigma, rotation, reml), rotation


def _value_normal(
    cp: CrossProducts, factor: Factor, sigma: float, prior: NormalPrior, rotation: Rotation, reml: bool
) -> float:
    if reml:
        return float(minus_two_log_density_normal(cp, factor, np.array([[sigma]]), prior, rotation)[0, 0])
    proper, ratio = prior.proper, sigma**2 * rotation.eigenvalues[0]
    # The log density of beta at its best value, where it has one.
    constant = int(proper.sum()) * LOG_2PI + 2.0 * float(np.log(prior.sd[proper]).sum())
    away = float((rotation.distance[0] ** 2 * rotation.eigenvalues[0] / (1.0 + ratio)).sum())
    return float(minus_two_log_density(cp, factor, np.array([sigma]), False)[0]) + constant + away


def _slope_normal(cp: CrossProducts, factor: Factor, sigma: float, rotation: Rotation, reml: bool) -> float:
    ratio = sigma**2 * rotation.eigenvalues[0]
    shares = ratio / (1.0 + ratio)
    quadratic = rotation.distance[0] ** 2 * rotation.eigenvalues[0] / (1.0 + ratio)
    inflated = 2.0 * float(shares.sum()) if reml else 0.0
    plain = 2.0 * degrees_of_freedom(cp, reml) - 2.0 * factor.r2[0] / sigma**2
    return float(plain + inflated - 2.0 * (quadratic * shares).sum())


def with_normal_prior(
    cp: CrossProducts,
    factors: Sequence[FloatArray],
    factor: Factor,
    sigma: float,
    prior: NormalPrior,
    rotation: Rotation | None = None,
) -> Factor:
    """The factor with the prior's precision in the block of beta and the estimates shrunk accordingly.

    Its estimates and covariances of beta and the random effects are those given sigma under the prior.
    """
    rotation = rotate(cp, factor, prior) if rotation is None else rotation
    q2, A = cp.q_trailing, cp.fixed.transform
    precision = sigma**2 * A.T @ prior.precision_matrix @ A
    chol = factor.chol.copy()
    L_X, across = chol[0, q2:, q2:].copy(), chol[0, q2:, :q2]
    whole = L_X @ L_X.T + precision
    chol[0, q2:, q2:] = np.linalg.cholesky(whole)
    move = np.empty((1, q2 + cp.p))
    move[0, q2:] = np.linalg.solve(whole, precision @ (rotation.mean - factor.solution[0, q2:]))
    move[0, :q2] = -np.linalg.solve(chol[0, :q2, :q2].T, across.T @ move[0, q2:])
    return cp.sums.moved(factors, factor, chol, move)


def _on_terms(cp: CrossProducts, blocks: Sequence[FloatArray]) -> tuple[FloatArray, ...]:
    """Gradients in the covariances of the user's columns from those of the internal ones."""
    out: list[FloatArray] = [np.zeros((0, 0))] * len(cp.frame.structures)
    for b, columns, term, _, _ in cp.frame.terms:
        inverse = cp.blocks[b].inverse_basis[columns, columns]
        slope = inverse.T @ blocks[b][columns, columns] @ inverse
        out[term] = 0.5 * (slope + small.transpose(slope))
    return tuple(out)
