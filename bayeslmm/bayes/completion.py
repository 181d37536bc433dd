"""From weighted points of the relative parameters to draws of everything: sigma, beta, random effects, exactly."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bayeslmm.bayes.importance import Weighted
from bayeslmm.bayes.progress import Progress
from bayeslmm.bayes.target import Target
from bayeslmm.errors import ConvergenceWarning
from bayeslmm.likelihood import Factor
from bayeslmm.likelihood import parameters as par
from bayeslmm.likelihood.conditional import joint_draws, user_beta
from bayeslmm.likelihood.normal_prior import internal_prior
from bayeslmm.likelihood.residual_products import draw_at_points
from bayeslmm.likelihood.rotation import draw_fixed
from bayeslmm.numerics.resample import systematic
from bayeslmm.types import FloatArray, IntArray

# Doubles of random effects drawn at once.
_CHUNK = 4_000_000
# Draws of a large design made together; an interruption keeps the ones before.
_LARGE_CHUNK = 2000


@dataclass(frozen=True)
class Completed:
    """Draws on the scale of the relative parameters.

    Attributes
    ----------
    sigma : FloatArray, shape (S,)
    factors : list of FloatArray, each (S, c, c)
        Relative factors in the coordinates of the target, terms in the order of the formula.
    relative : list of FloatArray, each (S, c) or (S, 1)
        Relative sds.
    beta : FloatArray, shape (S, p)
    b : tuple of FloatArray or None, each (S, J, c)
    lam : FloatArray, shape (S, k)
        Residual parameters.
    """

    sigma: FloatArray
    factors: list[FloatArray]
    relative: list[FloatArray]
    beta: FloatArray
    b: tuple[FloatArray | None, ...]
    lam: FloatArray


def complete(
    target: Target,
    sample: Weighted,
    sigma: FloatArray,
    draws: int,
    rng: np.random.Generator,
    keep: Sequence[bool] | None,
    progress: Progress,
) -> Completed:
    """Resample the points and draw beta and the random effects given them.

    Parameters
    ----------
    target : Target
    sample : Weighted
    sigma : FloatArray, shape (K,)
        One at every point; the weights are those of both.
    draws : int
    rng : numpy.random.Generator
    keep : sequence of bool, optional
        For every block whether its random effects are stored.
    progress : Progress
    """
    points = sample.points
    chosen = systematic(sample.weights, draws, rng)
    factors, relative, _ = target.terms(points.x[chosen])
    # A polynomial has no factor of the random effects.
    whole = points.factor is not None and points.factor.chol.shape[1] == target.cp.q_trailing + target.cp.p
    at_hand = (points.factor, chosen) if whole and points.factor is not None else None
    lam = target.lam(points.x[chosen])
    done, beta, b = draw_effects(target, factors, lam, sigma[chosen], rng, keep, progress, at_hand)
    own = [T[:done] for T in factors], [t[:done] for t in relative]
    return Completed(sigma[chosen[:done]], *own, beta, b, lam[:done])


def draw_effects(
    target: Target,
    factors: Sequence[FloatArray],
    lam: FloatArray,
    sigma: FloatArray,
    rng: np.random.Generator,
    keep: Sequence[bool] | None,
    progress: Progress,
    at_hand: tuple[Factor, IntArray] | None = None,
) -> tuple[int, FloatArray, tuple[FloatArray | None, ...]]:
    """Exact draws of beta and b in chunks.

    Parameters
    ----------
    target : Target
        Gives the likelihood and the prior of beta.
    factors : sequence of FloatArray, each (S, c, c)
        Relative factors on the columns of the target, terms in the order of the formula.
    lam : FloatArray, shape (S, k)
        Residual parameters.
    sigma : FloatArray, shape (S,)
    rng : numpy.random.Generator
    keep : sequence of bool, optional
        For every block whether its random effects are stored.
    progress : Progress
    at_hand : (Factor, IntArray of shape (S,)), optional
        Eliminations that were made before, and which of them belongs to each draw.

    Returns
    -------
    int
        How many draws were made before an interruption.
    FloatArray, shape (S, p)
    tuple of FloatArray or None, each (S, J, c)
    """
    size, cp, prior = sigma.size, target.cp, target.priors.beta
    kept = (True,) * len(cp.blocks) if keep is None else tuple(keep)
    beta = np.empty((size, cp.p))
    b = tuple(np.empty((size, x.n_levels, x.size)) if k else None for x, k in zip(cp.blocks, kept, strict=True))
    width = cp.blocks[0].n_levels * cp.blocks[0].size ** 2 + cp.q_trailing**2 + 1
    step = max(1, _CHUNK // width) if cp.sums.batched else _LARGE_CHUNK
    done = 0
    try:
        for start in range(0, size, step):
            part = slice(start, start + step)
            own = [T[part] for T in factors]
            factor = None if at_hand is None else at_hand[0].take(at_hand[1][part])
            if at_hand is not None and factor is not None and not any(kept) and not cp.q_trailing:
                # Nothing but beta is asked for, and the factor has all of it.
                internal = None if prior is None else internal_prior(cp, prior)
                beta[part] = user_beta(cp, draw_fixed(factor, 0, sigma[part], rng, internal))
                done = min(start + step, size)
                continue
            if target.sums is None:
                drawn = joint_draws(cp, par.block_factors(cp, own), sigma[part], rng, prior, factor=factor)
            else:
                drawn = draw_at_points(cp, target.sums, own, lam[part], sigma[part], rng, prior, factor)
            beta[part] = drawn.beta
            for out, values in zip(b, drawn.b, strict=True):
                if out is not None:
                    out[part] = values
            done = min(start + step, size)
            progress.report("random effects", done, size)
    except KeyboardInterrupt:
        if not done:
            raise
        warnings.warn(
            f"Interrupted: {done} of {size} draws were made and are returned. They are independent, so fewer draws "
            "mean larger Monte Carlo errors and nothing else.",
            ConvergenceWarning,
            stacklevel=6,
        )
    return done, beta[:done], tuple(x if x is None else x[:done] for x in b)


def draw_sigma(target: Target, sample: Weighted, rng: np.random.Generator) -> tuple[FloatArray, Weighted]:
    """One sigma per point from the linear interpolant of its conditional density, and weights that make it exact.

    Returns
    -------
    FloatArray, shape (K,)
    Weighted
        The points, weighted as points of the relative parameters and sigma.
    """
    known = target.priors.known_log_sigma
    if known is not None:
        return np.full(sample.log_weights.size, np.exp(known)), sample
    points = sample.points
    log_joint, lines, size = points.log_joint, points.lines, points.log_joint.shape[0]
    # Proposals so far out that their density cannot be represented carry no weight; one nan would spoil all weights.
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        p = np.exp(log_joint - log_joint.max(axis=1, keepdims=True))
        total = p.sum(axis=1)
        cumulative = np.cumsum(p, axis=1) / total[:, None]
        rows, last = np.arange(size), lines.count - 1
        node = np.minimum((cumulative < rng.random((size, 1))).sum(axis=1), last)
        place = node + rng.random(size) + rng.random(size) - 1.0
        log_sigma, log_slope = lines.at(place[:, None] / last)
        left = np.floor(place).astype(int)
        share = place - left
        lower = np.where(left >= 0, p[rows, np.clip(left, 0, None)], 0.0)
        upper = np.where(left + 1 <= last, p[rows, np.clip(left + 1, None, last)], 0.0)
        log_q = np.log((1 - share) * lower + share * upper) - np.log(total / last)
        factors, sds, log_jacobian = target.terms(points.x)
        factor = target.factor(points.x, factors) if points.factor is None else points.factor
        exact = (target.log_joint(factor, sds, log_jacobian, log_sigma) + log_slope)[:, 0]
        log_weights = sample.log_weights + exact - points.log_density - log_q
    return np.exp(log_sigma[:, 0]), replace(
        sample, log_weights=np.where(np.isfinite(log_weights), log_weights, -np.inf)
    )
