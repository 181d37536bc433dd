"""Posterior draws by the collapsed path: a few parameters integrated or sampled, the rest drawn exactly."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bayeslmm.bayes.importance import Weighted, importance_points
from bayeslmm.bayes.moments import ExactMoments, grid_moments
from bayeslmm.bayes.priors import Priors
from bayeslmm.bayes.quadrature import draw_from_grid, integrate
from bayeslmm.bayes.target import Target, make_target
from bayeslmm.errors import ConvergenceWarning, FitError, PriorError
from bayeslmm.likelihood import CrossProducts, conditional_draws, evaluate
from bayeslmm.likelihood import parameters as par
from bayeslmm.numerics.resample import kish, normalised, systematic
from bayeslmm.types import FloatArray

# Doubles of random effects drawn at once.
_CHUNK = 4_000_000
# Ratio of the largest weight to the mean beyond which a bad Pareto k is believed: weights that are bounded
# can show a large k without harm.
_LARGE_WEIGHT = 20.0


@dataclass(frozen=True)
class Diagnostics:
    """Certificate of a collapsed posterior.

    Attributes
    ----------
    method : str
        ``"quadrature"`` or ``"importance"``.
    pareto_k : float
        Shape of the tail of the importance weights (Vehtari et al. 2024); below 0.5 is good.
    efficiency : float
        Kish effective size of the weighted points divided by their number.
    largest_weight : float
        Largest weight in units of the mean weight.
    log_evidence : float
        Log p(y); None of its meaning survives a flat prior on a variance parameter.
    quadrature_error : float or None
        Upper bound of the relative error of the grid.
    points : int
        Evaluations of the final sample.
    """

    method: str
    pareto_k: float
    efficiency: float
    largest_weight: float
    log_evidence: float
    quadrature_error: float | None
    points: int


@dataclass(frozen=True)
class CollapsedDraws:
    """Independent posterior draws in the user's units.

    Attributes
    ----------
    beta : FloatArray, shape (S, p)
    sigma : FloatArray, shape (S,)
    sds : tuple of FloatArray, each (S, c)
        Terms in the order of the formula.
    corrs : tuple of FloatArray, each (S, c, c)
    b : tuple of FloatArray, each (S, J, c)
        Random effects of every block of ``cp.blocks``, columns in the order of its terms.
    diagnostics : Diagnostics
    exact : ExactMoments or None
        Means and sds without Monte Carlo error (quadrature only).
    """

    beta: FloatArray
    sigma: FloatArray
    sds: tuple[FloatArray, ...]
    corrs: tuple[FloatArray, ...]
    b: tuple[FloatArray, ...]
    diagnostics: Diagnostics
    exact: ExactMoments | None


def sample_collapsed(
    cp: CrossProducts,
    priors: Priors,
    start_terms: Sequence[FloatArray],
    *,
    draws: int = 4000,
    method: str = "auto",
    rng: np.random.Generator,
) -> CollapsedDraws:
    """Draw from the posterior with beta and the random effects integrated out.

    Parameters
    ----------
    cp : CrossProducts
    priors : Priors
    start_terms : sequence of FloatArray, each (c, c)
        Relative factors of a fit on the user's columns, for scales and start.
    draws : int
    method : {"auto", "quadrature", "importance"}
        ``"auto"``: quadrature for at most three variance parameters (sigma included), else importance
        sampling.
    rng : numpy.random.Generator

    Returns
    -------
    CollapsedDraws

    Warns
    -----
    ConvergenceWarning
        If the importance weights have a heavy tail.
    """
    check_propriety(cp, priors)
    target, start = make_target(cp, priors, start_terms)
    if method == "auto":
        method = "quadrature" if target.dimension <= 2 else "importance"
    if method == "quadrature":
        grid = integrate(target, start)
        sample = draw_from_grid(target, grid, int(np.ceil(1.05 * draws)), rng)
        exact, evidence, error = grid_moments(target, grid), grid.log_evidence, grid.error
    else:
        sample = importance_points(target, start, draws, rng)
        exact, evidence, error = None, sample.log_evidence, None
    diagnostics = _diagnose(sample, method, evidence, error)
    return _complete(target, sample, draws, rng, diagnostics, exact)


def check_propriety(cp: CrossProducts, priors: Priors) -> None:
    """Refuse priors under which the posterior of a variance is known to be improper.

    A flat prior on the sd of J exchangeable effects needs J >= 3, a density proportional to s^a needs
    J >= 3 + a (Gelman 2006, sec. 3.2).

    Raises
    ------
    PriorError
    """
    for term, sd_priors in zip(cp.design.terms, priors.sds, strict=True):
        levels = cp.design.groupings[term.group].n_levels
        for effect, prior in zip(term.effects, sd_priors, strict=True):
            needed = 3 + getattr(prior, "exponent", 0)
            if not prior.proper and levels < needed:
                raise PriorError(
                    f"The prior of sd_{term.group}[{effect}] is {prior}, and {term.group} has {levels} "
                    f"levels: the posterior is improper (its tail does not fall fast enough below "
                    f"{needed:g} levels). Use a proper prior such as the default half-t."
                )


def _diagnose(sample: Weighted, method: str, evidence: float, error: float | None) -> Diagnostics:
    weights = normalised(sample.log_weights)
    size = weights.size
    k = pareto_k(sample.log_weights)
    efficiency, largest = kish(weights) / size, float(weights.max() * size)
    if not np.isfinite(efficiency):
        raise FitError(
            "The importance weights are not finite: the posterior could not be evaluated around its mode. "
            "Check the scales of the predictors, or use method='nuts'."
        )
    if (k > 0.7 and largest > _LARGE_WEIGHT) or efficiency < 0.05:
        warnings.warn(
            f"The importance sample of the posterior is unreliable: Pareto k = {k:.2f}, efficiency "
            f"{efficiency:.0%}, largest weight {largest:.0f} times the mean. Use method='nuts'.",
            ConvergenceWarning,
            stacklevel=4,
        )
    return Diagnostics(method, k, efficiency, largest, evidence, error, size)


def pareto_k(log_weights: FloatArray) -> float:
    """Shape of the upper tail of importance weights; -inf where they are all but equal."""
    from arviz_stats.base import array_stats

    if np.ptp(log_weights) < 1e-12:
        return float("-inf")
    # ArviZ takes the log likelihood ratio of a leave-one-out weight: minus our log weight.
    return float(array_stats.psislw(-log_weights)[1])


def _complete(
    target: Target,
    sample: Weighted,
    draws: int,
    rng: np.random.Generator,
    diagnostics: Diagnostics,
    exact: ExactMoments | None,
) -> CollapsedDraws:
    # Proposals so far out that their density cannot be represented carry no weight; one nan would spoil all weights.
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        sigma, correction = _draw_sigma(target, sample, rng)
    log_weights = sample.log_weights + correction
    weights = normalised(np.where(np.isfinite(log_weights), log_weights, -np.inf))
    chosen = systematic(weights, draws, rng)
    sigma = sigma[chosen]
    factors, relative, _ = target.terms(sample.points.x[chosen])
    blocks = par.block_factors(target.cp, factors)
    beta, b = _effects(target, blocks, sigma, rng)
    sds = tuple(t * sigma[:, None] for t in relative)
    corrs = tuple(_correlations(T, t) for T, t in zip(factors, relative, strict=True))
    return CollapsedDraws(beta, sigma, sds, corrs, b, diagnostics, exact)


def _correlations(T: FloatArray, t: FloatArray) -> FloatArray:
    L = T / np.where(t > 0, t, 1.0)[:, :, None]
    return L @ np.swapaxes(L, -1, -2)


def _effects(
    target: Target, blocks: Sequence[FloatArray], sigma: FloatArray, rng: np.random.Generator
) -> tuple[FloatArray, tuple[FloatArray, ...]]:
    cp = target.cp
    size = sigma.size
    beta = np.empty((size, cp.p))
    b = tuple(np.empty((size, block.n_levels, block.size)) for block in cp.blocks)
    width = cp.blocks[0].n_levels * cp.blocks[0].size ** 2 + cp.q_trailing**2 + 1
    step = max(1, _CHUNK // width)
    for start in range(0, size, step):
        part = slice(start, start + step)
        factors = [f[part] for f in blocks]
        factor = evaluate(cp, factors)
        drawn = conditional_draws(cp, factors, factor, sigma[part], rng, target.priors.beta)
        beta[part] = drawn.beta
        for out, values in zip(b, drawn.b, strict=True):
            out[part] = values
    return beta, b


def _draw_sigma(target: Target, sample: Weighted, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """One sigma per point from the linear interpolant of its conditional density, and the log correction."""
    nodes, log_joint = sample.points.log_sigma, sample.points.log_joint
    step = nodes[:, 1] - nodes[:, 0]
    p = np.exp(log_joint - log_joint.max(axis=1, keepdims=True))
    total = p.sum(axis=1)
    cumulative = np.cumsum(p, axis=1) / total[:, None]
    rows = np.arange(nodes.shape[0])
    node = (cumulative < rng.random((nodes.shape[0], 1))).sum(axis=1)
    node = np.minimum(node, nodes.shape[1] - 1)
    place = node + rng.random(nodes.shape[0]) + rng.random(nodes.shape[0]) - 1.0
    log_sigma = nodes[:, 0] + place * step
    left = np.floor(place).astype(int)
    share = place - left
    lower = np.where(left >= 0, p[rows, np.clip(left, 0, None)], 0.0)
    upper = np.where(left + 1 < p.shape[1], p[rows, np.clip(left + 1, None, p.shape[1] - 1)], 0.0)
    log_q = np.log((1 - share) * lower + share * upper) - np.log(total * step)
    factors, sds, log_jacobian = target.terms(sample.points.x)
    factor = evaluate(target.cp, par.block_factors(target.cp, factors))
    exact = target.log_joint(factor, sds, log_jacobian, log_sigma[:, None])[:, 0]
    return np.exp(log_sigma), exact - sample.points.log_density - log_q
