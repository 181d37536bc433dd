"""From a design and priors to a labelled posterior."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bayeslmm.bayes.collapsed import sample_collapsed
from bayeslmm.bayes.default_priors import PriorSpec, resolve_priors
from bayeslmm.bayes.priors import Priors
from bayeslmm.design import Design
from bayeslmm.errors import FitError
from bayeslmm.likelihood import CrossProducts
from bayeslmm.reml import Optimum
from bayeslmm.results import Posterior
from bayeslmm.results.diagnostics import nuts_diagnostics

# Below this the tail of the importance weights has no shape to be judged by.
_FEWEST = 20


@dataclass(frozen=True)
class Settings:
    """Arguments of `Model.sample`."""

    draws: int
    method: str
    chains: int
    tune: int
    random_seed: int | np.random.Generator | None
    progressbar: bool
    log_likelihood: bool


def sample_posterior(
    design: Design,
    priors: PriorSpec,
    settings: Settings,
    fitted: Callable[[], tuple[CrossProducts, Optimum]],
) -> Posterior:
    """Sample the posterior as `Model.sample` describes.

    Parameters
    ----------
    design : Design
    priors : None, "default", "weak", Priors or mapping
    settings : Settings
    fitted : callable
        Gives the cross-products and a REML fit, which only the collapsed methods need.
    """
    draws, chains, method = settings.draws, settings.chains, settings.method
    for name, value in (("draws", draws), ("chains", chains), ("tune", settings.tune)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise FitError(f"{name}={value!r} is not a whole number.")
    if method != "nuts" and draws < _FEWEST:
        raise FitError(f"draws={draws}: the diagnostics of the sample need at least {_FEWEST} draws.")
    if chains < 1 or draws < chains:
        raise FitError(f"draws={draws}, chains={chains}: there must be at least one draw in each chain.")
    resolved = resolve_priors(design, priors)
    if method == "nuts":
        return _nuts(design, resolved, settings)
    if method not in ("auto", "quadrature", "importance"):
        raise FitError(f"method={method!r} is unknown. Use 'auto', 'quadrature', 'importance' or 'nuts'.")
    from bayeslmm.bayes.datatree import build_datatree

    cp, optimum = fitted()
    rng = np.random.default_rng(settings.random_seed)
    drawn = sample_collapsed(cp, resolved, optimum.terms, draws=draws, method=method, rng=rng)
    tree = build_datatree(cp, resolved, drawn, chains=chains, log_likelihood=settings.log_likelihood)
    d = drawn.diagnostics
    return Posterior(design, tree, resolved, d.method, d, drawn.exact, cp)


def _nuts(design: Design, priors: Priors, settings: Settings) -> Posterior:
    from bayeslmm.bayes.datatree import nuts_datatree
    from bayeslmm.bayes.layout import make_layout
    from bayeslmm.bayes.nuts import sample_nuts
    from bayeslmm.bayes.pymc_model import build_pymc_model

    rng = np.random.default_rng(settings.random_seed)
    drawn = sample_nuts(
        build_pymc_model(design, priors),
        make_layout(design),
        draws=-(-settings.draws // settings.chains),
        tune=settings.tune,
        chains=settings.chains,
        random_seed=int(rng.integers(2**31)),
        progress=settings.progressbar,
    )
    tree = nuts_datatree(design, priors, drawn, log_likelihood=settings.log_likelihood)
    return Posterior(design, tree, priors, "nuts", nuts_diagnostics(tree))
