"""Conditional distribution of (beta, u) given the variance parameters: means, covariances, exact draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bayeslmm.likelihood import small
from bayeslmm.likelihood.crossproducts import CrossProducts
from bayeslmm.likelihood.factor import Factor
from bayeslmm.likelihood.normal_prior import NormalPrior, internal_prior
from bayeslmm.likelihood.rotation import draw_trailing
from bayeslmm.types import FloatArray


@dataclass(frozen=True)
class Conditional:
    """Coefficients in the user's units at K points.

    Attributes
    ----------
    beta : FloatArray, shape (K, p)
    b : tuple of FloatArray, each (K, J, c)
        Random effects of each block of ``cp.blocks``, in the user's columns.
    """

    beta: FloatArray
    b: tuple[FloatArray, ...]


def user_beta(cp: CrossProducts, solution: FloatArray) -> FloatArray:
    """Fixed effects in the user's columns from internal ones (K, p)."""
    return np.asarray((solution + cp.response.removed) @ cp.fixed.transform.T)


def internal_beta(cp: CrossProducts, beta: FloatArray) -> FloatArray:
    """The inverse of `user_beta`: internal fixed effects of those in the user's columns (K, p)."""
    return np.asarray(np.linalg.solve(cp.fixed.transform, beta.T).T - cp.response.removed)


def beta_covariance(cp: CrossProducts, factor: Factor) -> FloatArray:
    """Covariance of beta given theta divided by sigma^2, flat prior; shape (K, p, p)."""
    q2 = factor.chol.shape[1] - cp.p
    L = factor.chol[:, q2:, q2:]
    half = np.linalg.solve(L, np.broadcast_to(np.eye(cp.p), L.shape)) @ cp.fixed.transform.T
    return small.transpose(half) @ half


def conditional_means(cp: CrossProducts, factors: Sequence[FloatArray], factor: Factor) -> Conditional:
    """Conditional estimates of beta and of the random effects (BLUPs) at K points."""
    solution = factor.solution
    return _in_user_units(cp, solution[:, cp.q_trailing :], cp.sums.complete(factors, factor, solution))


def conditional_draws(
    cp: CrossProducts,
    factors: Sequence[FloatArray],
    factor: Factor,
    sigma: FloatArray,
    rng: np.random.Generator,
    prior: NormalPrior | None = None,
) -> Conditional:
    """One exact draw of (beta, b) at each of K points.

    Parameters
    ----------
    cp : CrossProducts
    factors : sequence of FloatArray, each (K, c, c)
        Internal relative factors.
    factor : Factor
        ``evaluate(cp, factors)``.
    sigma : FloatArray, shape (K,)
        Units of y.
    rng : numpy.random.Generator
    prior : NormalPrior, optional
        Normal prior on beta; flat if None.

    Returns
    -------
    Conditional
    """
    q2 = cp.q_trailing
    drawn = draw_trailing(factor, q2, sigma, rng, None if prior is None else internal_prior(cp, prior))
    return _in_user_units(cp, drawn[:, q2:], cp.sums.complete(factors, factor, drawn, sigma, rng))


def joint_draws(
    cp: CrossProducts,
    factors: Sequence[FloatArray],
    sigma: FloatArray,
    rng: np.random.Generator,
    prior: NormalPrior | None = None,
    *,
    factor: Factor | None = None,
    report: Callable[[int], None] | None = None,
) -> Conditional:
    """The same at many points, with as few factorisations as that takes.

    Parameters
    ----------
    cp, factors, sigma, rng, prior
        As for `conditional_draws`.
    factor : Factor, optional
        ``evaluate(cp, factors)``, where it is at hand.
    report : callable, optional
        Told how many draws are done.
    """
    internal = None if prior is None else internal_prior(cp, prior)
    return _in_user_units(cp, *cp.sums.draw_jointly(factors, factor, sigma, rng, internal, report))


def fixed_draws(
    cp: CrossProducts, factor: Factor, sigma: FloatArray, rng: np.random.Generator, prior: NormalPrior | None = None
) -> FloatArray:
    """One exact draw of beta (K, p) at each of K points, without effects of levels; as for `conditional_draws`."""
    q2 = cp.q_trailing
    drawn = draw_trailing(factor, q2, sigma, rng, None if prior is None else internal_prior(cp, prior))
    return user_beta(cp, drawn[:, q2:])


def _in_user_units(cp: CrossProducts, beta: FloatArray, b: Sequence[FloatArray]) -> Conditional:
    user = tuple(v @ block.basis.T for v, block in zip(b, cp.blocks, strict=True))
    return Conditional(user_beta(cp, beta), user)


def conditional_variances(
    cp: CrossProducts, factors: Sequence[FloatArray], factor: Factor, *, fixed_known: bool = True
) -> tuple[FloatArray, ...]:
    """Covariance of the effects of each level given theta, divided by sigma^2 (one point).

    Parameters
    ----------
    fixed_known : bool
        Hold beta at its estimate (lme4's condVar); otherwise beta is integrated over a flat prior.

    Returns
    -------
    tuple of FloatArray, each (J, c, c)
        For every block, in the user's columns.
    """
    return tuple(cp.sums.variances(factors, factor, fixed_known))
