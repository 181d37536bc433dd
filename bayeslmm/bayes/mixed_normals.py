"""Student t priors of fixed effects as normal priors of random precision, and evidences from draws under them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from scipy.special import logsumexp

from bayeslmm.bayes.coefficient_priors import StudentT
from bayeslmm.bayes.evidence import Evidence, integrated
from bayeslmm.bayes.priors import Priors, normal_coefficients
from bayeslmm.likelihood import NormalPrior, SummedDesign
from bayeslmm.types import FloatArray

# Sds of the posterior that the normal prior has that stands in for another: the ratio of the two hardly varies there.
_WIDE = 3.0


def mixed_normals(
    usual: NormalPrior | None, heavy: Sequence[tuple[int, StudentT]], beta: FloatArray
) -> list[NormalPrior | None]:
    """Normal priors, for each of K draws or one for all, given which the draws are those of the posterior, too.

    A t prior is a normal one whose precision has a gamma distribution; given the coefficient it has another, from which
    one is drawn (always the same). Given it, the fixed effects can be integrated out in closed form.

    Parameters
    ----------
    usual : NormalPrior or None
        Priors of the other fixed effects.
    heavy : sequence of (int, StudentT)
        As `Priors.heavy`.
    beta : FloatArray, shape (K, p)

    Returns
    -------
    list of NormalPrior or None
        K, or one where all are normal.

    References
    ----------
    West (1984), J. R. Statist. Soc. B 46, 431-439.
    """
    if not heavy:
        return [usual]
    rng, (K, p) = np.random.default_rng(0), beta.shape
    usual = normal_coefficients(usual, p)
    mean, sd = usual.mean.copy(), np.tile(usual.sd, (K, 1))
    for j, prior in heavy:
        mean[j] = prior.location
        rate = 0.5 * (prior.df + ((beta[:, j] - prior.location) / prior.scale) ** 2)
        sd[:, j] = prior.scale * np.sqrt(rate / rng.standard_gamma(0.5 * (prior.df + 1.0), K))
    return [NormalPrior(mean, own) for own in sd]


def by_prior[Parts](
    priors: Sequence[NormalPrior | None], found: Callable[[slice, NormalPrior | None], Parts]
) -> list[Parts]:
    """What is found of all draws with one prior, or of each with its own."""
    if len(priors) == 1:
        return [found(slice(None), priors[0])]
    return [found(slice(k, k + 1), prior) for k, prior in enumerate(priors)]


def evidence_of_draws(
    cp: SummedDesign, priors: Priors, terms: Sequence[FloatArray], beta: FloatArray, error: float
) -> Evidence:
    """Log p(y) where some fixed effects have t priors: that of normal ones, times what the draws say of their ratio.

    The normal priors are centred at the posterior and three times as wide, so that the ratio of the densities hardly
    varies over the draws.

    Parameters
    ----------
    cp : SummedDesign
    priors : Priors
        Proper in the variance parameters.
    terms : sequence of FloatArray, each (c, c)
        As in `evidence.log_evidence`.
    beta : FloatArray, shape (S, p)
        Draws of the posterior.
    error : float
        Factor on Monte Carlo errors of independent draws.
    """
    p = beta.shape[1]
    usual = normal_coefficients(priors.beta, p)
    mean, sd, ratio = usual.mean.copy(), usual.sd.copy(), np.zeros(len(beta))
    for j, prior in priors.heavy:
        mean[j], sd[j] = beta[:, j].mean(), _WIDE * beta[:, j].std()
        normal = -0.5 * ((beta[:, j] - mean[j]) / sd[j]) ** 2 - np.log(sd[j]) - 0.5 * np.log(2 * np.pi)
        ratio += normal - prior.log_density(beta[:, j])
    known = integrated(
        cp, replace(priors, beta=NormalPrior(mean, sd), coefficients=()), terms, np.random.default_rng(0)
    )
    weights = np.exp(ratio - ratio.max())
    own = error * float(weights.std() / weights.mean()) / np.sqrt(len(beta))
    value = known.value - float(logsumexp(ratio) - np.log(len(beta)))
    return Evidence(value, float(np.hypot(known.error, own)), known.method)
