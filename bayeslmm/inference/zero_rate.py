"""How often a fit would be singular if a variance were what one supposes, by simulation at the design."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bayeslmm.inference.budget import counted_cost, first_refits
from bayeslmm.inference.simulation import simulate_responses
from bayeslmm.likelihood import SummedDesign
from bayeslmm.reml.many import Optima, optimise_many
from bayeslmm.types import BoolArray, FloatArray

# Beside the largest, a singular value of a factor below this is zero.
_NONE = 1e-8
# Replicates that tell a rare zero from a common one.
_LEAST = 40


def singular_rate(
    cp: SummedDesign,
    terms: Sequence[FloatArray],
    position: int,
    effect: int,
    shares: Sequence[float],
    *,
    reml: bool = True,
    replicates: int = 400,
    fixed: Mapping[int, FloatArray] | None = None,
    rng: np.random.Generator,
    budget: float = np.inf,
) -> tuple[FloatArray, FloatArray]:
    """Share of fits in which a term is singular, given the true share of variance of one of its effects.

    All other variances are as given; the effect is independent of the other effects of its term.

    Parameters
    ----------
    cp : SummedDesign
    terms : sequence of FloatArray, each (c, c)
        Relative factors on the user's columns, e.g. those of a fit.
    position, effect : int
        Term and effect in it.
    shares : sequence of float
        ``v / (v + sigma^2)``, v the variance that the effect adds to an observation (its variance times the mean
        square of its column).
    reml : bool
    replicates : int
        Responses for each share; the same random numbers for all, so that the rates are comparable.
    fixed : mapping, optional
        Position of a term to its theta, where the fit holds it.
    rng : numpy.random.Generator
    budget : float
        Milliseconds: of the replicates no more than take that long, by the evaluations of a few, but at least 40.

    Returns
    -------
    rate, error : FloatArray, shape (len(shares),)
        And their Monte Carlo standard errors.
    """
    seed, held = rng.integers(2**63), bool(fixed)

    def refits(share: float, count: int) -> Optima:
        changed = list(terms)
        changed[position] = with_share(cp, terms[position], position, effect, share)
        sigma = 1.0 if cp.sigma is None else cp.sigma
        Y = simulate_responses(cp.design, changed, sigma, np.zeros(cp.p), count, np.random.default_rng(seed))
        return optimise_many(cp, Y, reml, fixed=fixed)

    if np.isfinite(budget):
        cost = counted_cost(cp, refits(shares[0], first_refits(cp, held)), held) * len(shares)
        replicates = min(replicates, max(_LEAST, int(budget / cost)))
    rates = [is_singular(refits(share, replicates), position, effect).mean() for share in shares]
    rate = np.array(rates)
    return rate, np.sqrt(np.maximum(rate * (1.0 - rate), 0.25 / replicates**2) / replicates)


def with_share(cp: SummedDesign, T: FloatArray, position: int, effect: int, share: float) -> FloatArray:
    """The relative factor of a term with one effect independent of the others and of a given share of variance."""
    term = cp.design.terms[position]
    size = float(np.average(term.Z[:, effect] ** 2, weights=cp.design.frequency))
    G = T @ T.T
    if term.structure.shared:
        own = share / (1.0 - share) / float(np.average((term.Z**2).sum(axis=1), weights=cp.design.frequency))
        scaled = np.sqrt(own) * np.eye(G.shape[0]) if not G[0, 0] > 0 else T * np.sqrt(own / G[0, 0])
        return np.asarray(scaled)
    if not term.structure.entries:
        theta = term.structure.theta(T)
        theta[effect] = np.sqrt(share / (1.0 - share) / size)
        return term.structure.factor(term.structure.coordinates(theta))
    G[effect] = G[:, effect] = 0.0
    G[effect, effect] = share / (1.0 - share) / size
    values, vectors = np.linalg.eigh(G)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


def is_singular(optima: Optima, position: int, effect: int) -> BoolArray:
    """Whether the term has a direction without variance, shape (K,); an uncorrelated effect of its own is that."""
    T = optima.terms[position]
    if not np.tril(T, -1).any():
        return np.asarray((T[:, effect] == 0).all(axis=1))
    s = np.linalg.svd(T, compute_uv=False)
    return np.asarray(s[:, -1] <= _NONE * np.maximum(s[:, 0], 1e-300))
