"""From a design and priors to a labelled posterior."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bayeslmm.bayes.collapsed import ChainDiagnostics, Diagnostics, UnreliableWeightsError, sample_collapsed
from bayeslmm.bayes.default_priors import PriorSpec, resolve_priors
from bayeslmm.bayes.layout import make_layout
from bayeslmm.bayes.priors import Priors
from bayeslmm.bayes.progress import Progress, interactive
from bayeslmm.bayes.propriety import check_posterior
from bayeslmm.design import Design
from bayeslmm.errors import BayesLMMWarning, ConvergenceWarning, FitError
from bayeslmm.likelihood import CrossProducts
from bayeslmm.reml import Optimum
from bayeslmm.reml.status import FitStatus
from bayeslmm.results.diagnostics import nuts_diagnostics
from bayeslmm.results.posterior import Posterior

# Below this the tail of the importance weights has no shape to be judged by.
_FEWEST = 30
# Means beyond so many sds are far from zero.
_FAR = 5.0
# Numbers of the pointwise log likelihood (n times draws) that are stored without being asked for.
_LOG_LIKELIHOOD = 4_000_000
_METHODS = ("auto", "quadrature", "importance", "collapsed_nuts", "nuts")


@dataclass(frozen=True)
class Settings:
    """Arguments of `Model.sample`."""

    draws: int
    method: str
    chains: int
    tune: int
    random_seed: int | np.random.Generator | None
    progressbar: bool
    log_likelihood: bool | None
    keep: Sequence[str] | None


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
    priors : None, str, Priors or mapping
    settings : Settings
    fitted : callable
        Gives the cross-products and a REML fit, which only the collapsed methods need.
    """
    _check(settings)
    kept = kept_groups(design, settings.keep)
    log_likelihood = _with_log_likelihood(design, settings, all(kept.values()))
    resolved = resolve_priors(design, priors)
    if settings.method == "nuts":
        return _nuts(design, resolved, settings, kept, log_likelihood)
    from bayeslmm.bayes.datatree import build_datatree

    cp, optimum = fitted()
    if optimum.status is FitStatus.non_finite:
        warnings.warn(
            "The model reproduces the response exactly: the residual variance is zero but for rounding, and so "
            "are the numbers that depend on it. Remove a random term or check for duplicated responses.",
            ConvergenceWarning,
            stacklevel=3,
        )
    keep = [kept[block.grouping.name] for block in cp.blocks]
    rng = generator(settings.random_seed)
    with Progress(settings.progressbar) as progress:
        if settings.method == "collapsed_nuts":
            return _chains(cp, resolved, optimum, settings, keep, rng, progress, log_likelihood)
        try:
            drawn = sample_collapsed(
                cp,
                resolved,
                optimum.terms,
                draws=settings.draws,
                method=settings.method,
                rng=rng,
                keep=keep,
                progress=progress,
                unreliable="raise" if settings.method == "auto" else "warn",
            )
        except UnreliableWeightsError as error:
            warnings.warn(
                f"{error.found} Markov chains (method='collapsed_nuts') take over, which takes longer"
                f"{far_covariates(design)}.",
                BayesLMMWarning,
                stacklevel=3,
            )
            return _chains(cp, resolved, optimum, settings, keep, rng, progress, log_likelihood)
    tree = build_datatree(cp, resolved, drawn, chains=settings.chains, log_likelihood=log_likelihood)
    d = drawn.diagnostics
    assert isinstance(d, Diagnostics)
    return Posterior(design, tree, resolved, d.method, d, drawn.exact, cp)


def far_covariates(design: Design) -> str:
    """A word on covariates of random terms that are so far from zero that centring them may help; else nothing."""
    found = []
    for term in design.terms:
        for name, column in zip(term.effects, term.Z.T, strict=True):
            mean, sd = float(column.mean()), float(column.std())
            if len(term.effects) > 1 and 0 < _FAR * sd < abs(mean):
                found.append(f"{name} (mean {mean:.4g}, sd {sd:.3g})")
    return f"; centring {', '.join(dict.fromkeys(found))} may help" if found else ""


def _chains(
    cp: CrossProducts,
    priors: Priors,
    optimum: Optimum,
    settings: Settings,
    keep: Sequence[bool],
    rng: np.random.Generator,
    progress: Progress,
    log_likelihood: bool,
) -> Posterior:
    """Collapsed NUTS: asked for, or where importance weights cannot be trusted."""
    from bayeslmm.bayes.chains import sample_chains
    from bayeslmm.bayes.datatree import build_datatree

    drawn, run = sample_chains(
        cp,
        priors,
        optimum.terms,
        draws=-(-settings.draws // settings.chains),
        tune=settings.tune,
        chains=settings.chains,
        rng=rng,
        keep=keep,
        progress=progress,
    )
    checked = drawn.diagnostics
    assert isinstance(checked, ChainDiagnostics)
    stats = {name: np.asarray(values).ravel() for name, values in run.stats.items()}
    chains = run.sigma.shape[0]
    tree = build_datatree(cp, priors, drawn, chains=chains, sample_stats=stats, log_likelihood=log_likelihood)
    certificate = {
        "largest R-hat": run.rhat,
        "smallest ESS": run.ess,
        "divergences": float(run.divergences),
        "error of the log density": checked.density_error,
        "sigma off its conditional (standard errors)": checked.sigma_error,
    }
    _warn_failed(checked)
    return Posterior(cp.design, tree, priors, "collapsed_nuts", certificate, None, cp)


def _warn_failed(checked: ChainDiagnostics) -> None:
    """Say so if chains fail the self-check."""
    if checked.reliable:
        return
    warnings.warn(
        f"The chains fail their self-check: the log density at draws is off by {checked.density_error:.2g}, and log "
        f"sigma is {checked.sigma_error:.1f} standard errors from its distribution given the other parameters. Do not "
        "use them; sample longer, or check for priors much narrower than the data or far from them.",
        ConvergenceWarning,
        stacklevel=4,
    )


def _check(settings: Settings) -> None:
    draws, chains, method = settings.draws, settings.chains, settings.method
    for name, value in (("draws", draws), ("chains", chains), ("tune", settings.tune)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise FitError(f"{name}={value!r} is not a whole number.")
    if settings.log_likelihood is not None and not isinstance(settings.log_likelihood, bool | np.bool_):
        raise FitError(
            f"log_likelihood={settings.log_likelihood!r} is neither True nor False, nor None (where it fits in memory)."
        )
    if method not in _METHODS:
        raise FitError(f"method={method!r} is unknown. Use {', '.join(map(repr, _METHODS))}.")
    if method != "nuts" and draws < _FEWEST:
        raise FitError(f"draws={draws}: the diagnostics of the sample need at least {_FEWEST} draws.")
    if chains < 1 or draws < chains:
        raise FitError(f"draws={draws}, chains={chains}: there must be at least one draw in each chain.")
    generator(settings.random_seed)


def generator(seed: int | np.random.Generator | None) -> np.random.Generator:
    """The generator of a user's ``random_seed``.

    Raises
    ------
    FitError
        It is no seed.
    """
    try:
        return np.random.default_rng(seed)
    except (TypeError, ValueError) as error:
        raise FitError(
            f"random_seed={seed!r} is no seed ({error}). Give a nonnegative whole number, a numpy Generator, or None."
        ) from error


def kept_groups(design: Design, keep: Sequence[str] | None) -> dict[str, bool]:
    """For every grouping factor whether its random effects are stored.

    Raises
    ------
    FitError
        A name that is neither a grouping factor nor its variable ``b_<group>``.
    """
    groups = make_layout(design).groups
    if keep is None:
        return {group.labels.group: True for group in groups}
    wanted = {keep} if isinstance(keep, str) else set(keep)
    known = {name for group in groups for name in (group.labels.group, group.b)}
    if not wanted <= known:
        raise FitError(
            f"keep={sorted(map(str, wanted))} names {', '.join(sorted(map(str, wanted - known)))}, which has no random "
            f"effects. Known: {', '.join(group.b for group in groups)}; keep=() stores none of them."
        )
    return {group.labels.group: bool({group.labels.group, group.b} & wanted) for group in groups}


def _with_log_likelihood(design: Design, settings: Settings, complete: bool) -> bool:
    if settings.log_likelihood and not complete:
        raise FitError(
            "log_likelihood=True needs the random effects of all grouping factors, but keep= leaves some out. Drop one "
            "of the two arguments."
        )
    if settings.log_likelihood is None:
        return complete and design.n * settings.draws <= _LOG_LIKELIHOOD
    return settings.log_likelihood


def _nuts(design: Design, priors: Priors, settings: Settings, kept: dict[str, bool], log_likelihood: bool) -> Posterior:
    from bayeslmm.bayes.datatree import nuts_datatree
    from bayeslmm.bayes.nuts import sample_nuts
    from bayeslmm.bayes.pymc_model import build_pymc_model

    check_posterior(design, priors)
    rng = generator(settings.random_seed)
    layout = make_layout(design)
    drawn = sample_nuts(
        build_pymc_model(design, priors),
        layout,
        draws=-(-settings.draws // settings.chains),
        tune=settings.tune,
        chains=settings.chains,
        random_seed=int(rng.integers(2**31)),
        progress=settings.progressbar and interactive(),
    )
    for group in layout.groups:
        if not kept[group.labels.group]:
            drawn.posterior.pop(group.b, None)
    tree = nuts_datatree(design, priors, drawn, log_likelihood=log_likelihood)
    return Posterior(design, tree, priors, "nuts", nuts_diagnostics(tree))
