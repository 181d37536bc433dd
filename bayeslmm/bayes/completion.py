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
from bayeslmm.likelihood import CrossProducts, Factor, NormalPrior
from bayeslmm.likelihood import parameters as par
from bayeslmm.likelihood.conditional import joint_draws
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
    """

    sigma: FloatArray
    factors: list[FloatArray]
    relative: list[FloatArray]
    beta: FloatArray
    b: tuple[FloatArray | None, ...]


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
    cp, points = target.cp, sample.points
    chosen = systematic(sample.weights, draws, rng)
    factors, relative, _ = target.terms(points.x[chosen])
    # A polynomial has no factor of the random effects.
    whole = points.factor is not None and points.factor.chol.shape[1] == cp.q_trailing + cp.p
    at_hand = (points.factor, chosen) if whole and points.factor is not None else None
    done, beta, b = draw_effects(cp, factors, sigma[chosen], target.priors.beta, rng, keep, progress, at_hand)
    return Completed(sigma[chosen[:done]], [T[:done] for T in factors], [t[:done] for t in relative], beta, b)


def draw_effects(
    cp: CrossProducts,
    factors: Sequence[FloatArray],
    sigma: FloatArray,
    prior: NormalPrior | None,
    rng: np.random.Generator,
    keep: Sequence[bool] | None,
    progress: Progress,
    at_hand: tuple[Factor, IntArray] | None = None,
) -> tuple[int, FloatArray, tuple[FloatArray | None, ...]]:
    """Exact draws of beta and b in chunks.

    Parameters
    ----------
    cp : CrossProducts
    factors : sequence of FloatArray, each (S, c, c)
        Relative factors on the user's columns, terms in the order of the formula.
    sigma : FloatArray, shape (S,)
    prior : NormalPrior or None
        Of beta.
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
    size = sigma.size
    kept = (True,) * len(cp.blocks) if keep is None else tuple(keep)
    beta = np.empty((size, cp.p))
    b = tuple(np.empty((size, x.n_levels, x.size)) if k else None for x, k in zip(cp.blocks, kept, strict=True))
    width = cp.blocks[0].n_levels * cp.blocks[0].size ** 2 + cp.q_trailing**2 + 1
    step = max(1, _CHUNK // width) if cp.sums.batched else _LARGE_CHUNK
    done = 0
    try:
        for start in range(0, size, step):
            part = slice(start, start + step)
            own = par.block_factors(cp, [T[part] for T in factors])
            factor = None if at_hand is None else at_hand[0].take(at_hand[1][part])
            drawn = joint_draws(cp, own, sigma[part], rng, prior, factor=factor)
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
