"""Collapsed NUTS completed: chains of the variance parameters, everything else drawn exactly given them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bayeslmm.bayes.collapsed import ChainDiagnostics, CollapsedDraws, in_units
from bayeslmm.bayes.collapsed_nuts import CollapsedNuts, sample_collapsed_nuts
from bayeslmm.bayes.completion import Completed, draw_effects
from bayeslmm.bayes.priors import Priors
from bayeslmm.bayes.progress import Progress, interactive
from bayeslmm.bayes.propriety import check_posterior
from bayeslmm.bayes.self_check import check_chains
from bayeslmm.likelihood import SummedDesign
from bayeslmm.likelihood.rowless import summed_elsewhere
from bayeslmm.types import FloatArray


def sample_chains(
    cp: SummedDesign,
    priors: Priors,
    start_terms: Sequence[FloatArray],
    *,
    draws: int,
    tune: int,
    chains: int,
    rng: np.random.Generator,
    keep: Sequence[bool] | None = None,
    progress: Progress | None = None,
) -> tuple[CollapsedDraws, CollapsedNuts]:
    """NUTS on the collapsed posterior, then exact draws of beta and the random effects.

    Parameters
    ----------
    cp : SummedDesign
    priors : Priors
    start_terms : sequence of FloatArray, each (c, c)
        Relative factors of a REML fit on the user's columns.
    draws, tune : int
        Per chain.
    chains : int
    rng : numpy.random.Generator
    keep : sequence of bool, optional
        For every block of ``cp.blocks`` whether its random effects are stored.
    progress : Progress, optional

    Returns
    -------
    CollapsedDraws
        Chain after chain.
    CollapsedNuts
        What the sampler says about the chains.
    """
    check_posterior(cp.design, priors, summed_elsewhere(cp))
    progress = Progress() if progress is None else progress
    run = sample_collapsed_nuts(
        cp,
        priors,
        start_terms,
        draws=draws,
        tune=tune,
        chains=chains,
        random_seed=rng,
        progress=progress.wanted and interactive(),
    )
    factors, lam = [T.reshape(-1, *T.shape[2:]) for T in run.factors], run.target.lam(run.x)
    relative = [t.reshape(-1, t.shape[-1]) for t in run.sds]
    sigma = run.sigma.ravel()
    done, beta, b = draw_effects(run.target, factors, lam, sigma, rng, keep, progress)
    if done < sigma.size:
        # Some chains would be without effects: what is not whole cannot be laid out by chain.
        raise KeyboardInterrupt
    verdict = check_chains(run.target, run.x, np.log(sigma))
    diagnostics = ChainDiagnostics(run.rhat, run.ess, int(run.divergences), *verdict)
    completed = Completed(sigma, factors, relative, beta, b, lam)
    return in_units(cp, priors.changes, completed, diagnostics, None), run
