"""From a design and priors to a labelled posterior."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bayeslmm.arguments import MOST_REFITS, choice, flag, labels, seed, shown, whole
from bayeslmm.arguments import generator as generator_of
from bayeslmm.bayes.coefficient_priors import check_integrable
from bayeslmm.bayes.collapsed import ChainDiagnostics, Diagnostics, UnreliableWeightsError, sample_collapsed
from bayeslmm.bayes.default_priors import PriorSpec, resolve_priors
from bayeslmm.bayes.forms import Form, resolve_forms
from bayeslmm.bayes.layout import make_layout
from bayeslmm.bayes.priors import Priors
from bayeslmm.bayes.progress import Progress, interactive
from bayeslmm.bayes.propriety import check_posterior
from bayeslmm.design import Design
from bayeslmm.design.observations import need_observations
from bayeslmm.design.residual_text import INDEPENDENT
from bayeslmm.design.rows_elsewhere import gigabytes, memory_of
from bayeslmm.errors import BayesLMMWarning, ConvergenceWarning, FitError
from bayeslmm.imports import load
from bayeslmm.likelihood import SummedDesign
from bayeslmm.likelihood.residual_products import residual_products
from bayeslmm.memory import memory
from bayeslmm.reml import Optimum
from bayeslmm.reml.status import FitStatus
from bayeslmm.residual import Estimable
from bayeslmm.results.diagnostics import nuts_diagnostics
from bayeslmm.results.draws import Draws

# Below this the tail of the importance weights has no shape to be judged by.
FEWEST_DRAWS = 30
# Means beyond so many sds are far from zero.
_FAR = 5.0
# Numbers of the pointwise log likelihood (n times draws) that are stored without being asked for.
_LOG_LIKELIHOOD = 4_000_000
# The default number of tuning draws, of which only other ones can be meant.
_TUNE = 1000
# What can be counted; memory ends long before.
_COUNTED = 10**15
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
    form: str | Mapping[str, str] | None = None


def sample_posterior(
    design: Design,
    priors: PriorSpec,
    settings: Settings,
    fitted: Callable[[], tuple[SummedDesign, Optimum]],
) -> Draws:
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
    if design.residual.names or not design.terms:
        settings = _beside_residuals(design, settings)
    kept = _stored(design, settings)
    log_likelihood = _with_log_likelihood(design, settings, all(kept.values()))
    _check_memory(design, settings, kept, log_likelihood)
    resolved = resolve_priors(design, priors)
    if settings.method == "nuts" or (resolved.heavy and settings.method == "auto"):
        forms = resolve_forms(
            design, settings.form or "noncentered", lambda: fitted()[1].terms, lambda: fitted()[1].lam
        )
        return _nuts(design, resolved, settings, forms, kept, log_likelihood)
    if settings.form is not None:
        raise FitError(
            f"form={shown(settings.form)} is how PyMC's model has the random effects, and method={settings.method!r} "
            "integrates them out. Use method='nuts', or leave form= out."
        )
    from bayeslmm.bayes.datatree import build_datatree

    asked = f"method={settings.method!r}"
    check_integrable(design.fixed_names, resolved.heavy, asked, "Use method='nuts', or 'auto', which takes it.")
    cp, optimum = fitted()
    # The sums of a fit are those of rows whitened at its estimates; a posterior needs others, too.
    cp = residual_products(design, optimum.lam) if design.residual.names else cp
    _warn_before(optimum)
    keep = [kept.get(block.grouping.name, False) for block in cp.blocks]
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
    return Draws(design, tree, resolved, d.method, d, drawn.exact, cp)


def _beside_residuals(design: Design, settings: Settings) -> Settings:
    """Settings of a model whose residuals have parameters; NUTS alone samples one without any, and without effects."""
    residual, correlated = design.residual, design.residual.clusters is not None
    written = residual.expression if isinstance(residual, Estimable) else INDEPENDENT
    if not residual.names and settings.method not in ("auto", "nuts"):
        raise FitError(
            f"method={settings.method!r} is not there yet for a model without random effects whose residuals are "
            f"independent (residual={written!r}). Leave method= out, or use method='nuts'."
        )
    if settings.log_likelihood and correlated:
        raise FitError(
            f"log_likelihood=True: the rows of residual={written!r} are dependent given all parameters, so that there "
            "is no log likelihood row by row. Leave it out; post.add_groups('log_likelihood') has the density of a row "
            "given the others of its group."
        )
    if design.frequency is not None and correlated:
        raise FitError(
            f"Rows with frequencies have no posterior with residual={written!r} yet: copies of a row that is "
            "correlated with others are no such row. Write the rows out, or leave the structure out."
        )
    if not residual.names:
        settings = replace(settings, method="nuts")
    return replace(settings, log_likelihood=False) if correlated else settings


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
    cp: SummedDesign,
    priors: Priors,
    optimum: Optimum,
    settings: Settings,
    keep: Sequence[bool],
    rng: np.random.Generator,
    progress: Progress,
    log_likelihood: bool,
) -> Draws:
    """Collapsed NUTS: asked for, or where importance weights cannot be trusted."""
    load("pymc", "nutpie")
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
    return Draws(cp.design, tree, priors, "collapsed_nuts", certificate, None, cp)


def _warn_before(optimum: Optimum) -> None:
    """Say, before draws are made, that nothing is left of the response, or that parameters cannot be told apart."""
    if optimum.status is FitStatus.non_finite:
        warnings.warn(
            "The model reproduces the response exactly: the residual variance is zero but for rounding, and so "
            "are the numbers that depend on it. Remove a random term or check for duplicated responses.",
            ConvergenceWarning,
            stacklevel=4,
        )
    if optimum.ridges:
        warnings.warn(
            f"Not identified: {'; '.join(map(str, optimum.ridges))}. There the posterior is as wide as its prior, "
            "and sampling may take long. Leave one of these parts out of the model; with "
            "method='collapsed_nuts' fewer draws and a shorter tune= are quicker.",
            BayesLMMWarning,
            stacklevel=4,
        )


def _warn_failed(found: ChainDiagnostics) -> None:
    """Say so if chains fail the self-check."""
    if found.checked:
        return
    warnings.warn(
        f"The chains fail their self-check: the log density at draws is off by {found.density_error:.2g}, and log "
        f"sigma is {found.sigma_error:.1f} standard errors from its distribution given the other parameters. Do not "
        "use them; sample longer, or check for priors much narrower than the data or far from them.",
        ConvergenceWarning,
        stacklevel=4,
    )


def _check(settings: Settings) -> None:
    draws = whole("draws", settings.draws, most=_COUNTED, error=FitError)
    chains = whole("chains", settings.chains, error=FitError)
    whole("tune", settings.tune, 0, MOST_REFITS, FitError)
    flag("progressbar", settings.progressbar, FitError)
    if settings.log_likelihood is not None:
        flag("log_likelihood", settings.log_likelihood, FitError)
    method = choice("method", settings.method, _METHODS, FitError)
    if method != "nuts" and draws < FEWEST_DRAWS:
        raise FitError(f"draws={draws}: the diagnostics of the sample need at least {FEWEST_DRAWS} draws.")
    if chains < 1 or draws < chains:
        raise FitError(f"draws={draws}, chains={chains}: there must be at least one draw in each chain.")
    seed("random_seed", settings.random_seed, FitError)
    if method in ("quadrature", "importance") and settings.tune != _TUNE:
        warnings.warn(
            f"tune={settings.tune} has no effect: the draws of method={method!r} are independent. Only 'nuts' and "
            "'collapsed_nuts' tune.",
            BayesLMMWarning,
            stacklevel=4,
        )


def _check_memory(design: Design, settings: Settings, kept: dict[str, bool], log_likelihood: bool) -> None:
    """Refuse at once what cannot end well: draws that take more memory than the machine has."""
    effects = sum(
        design.groupings[term.group].n_levels * len(term.effects) for term in design.terms if kept[term.group]
    )
    numbers = design.p + effects + sum(len(term.effects) for term in design.terms) + 1 + log_likelihood * design.n
    needed, there = 8 * int(settings.draws) * numbers, memory()
    if there is not None and needed > there:
        raise FitError(
            f"draws={settings.draws}: with {numbers} numbers in each draw they take {needed / 1e9:,.0f} GB at least, "
            f"and this machine has {there / 1e9:,.0f} GB. Ask for fewer draws (4,000 are enough for most purposes), or "
            "pass keep=() to leave the random effects out."
        )


def _stored(design: Design, settings: Settings) -> dict[str, bool]:
    """For every grouping factor whether its random effects are stored.

    Of designs whose rows are elsewhere those are left out by default whose draws take more memory than rows may.
    """
    limit, draws, chosen = memory_of(design), settings.draws, kept_groups(design, settings.keep)
    if settings.keep is not None or design.facts is None:
        return chosen
    for group, (levels, effects) in design.sizes.items():
        needed = 8 * draws * levels * effects
        if needed > limit:
            chosen[group] = False
            warnings.warn(
                f"{draws:,} draws of the {levels * effects:,} random effects of {group} take {gigabytes(needed)} and "
                f"are not stored ({gigabytes(limit)} are what the model may keep of data that are elsewhere). "
                f"keep=[{group!r}] stores them all the same; keep=() says that they are not wanted.",
                BayesLMMWarning,
                stacklevel=4,
            )
    return chosen


def generator(seed: Any) -> np.random.Generator:
    """The generator of a user's ``random_seed``; a `FitError` if it is no seed."""
    return generator_of(seed, error=FitError)


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
    if not isinstance(keep, str | list | tuple | set | frozenset):
        keep = labels("keep", keep, error=FitError)
    names = [keep] if isinstance(keep, str) else list(keep)
    known = {name for group in groups for name in (group.labels.group, group.b)}
    unknown = [
        name if isinstance(name, str) else shown(name)
        for name in names
        if not (isinstance(name, str) and name in known)
    ]
    if unknown:
        raise FitError(
            f"keep={shown(names)} names {', '.join(sorted(unknown))}, which has no random effects. Known: "
            f"{', '.join(group.b for group in groups)}; keep=() stores none of them."
        )
    wanted = set(names)
    return {group.labels.group: bool({group.labels.group, group.b} & wanted) for group in groups}


def _with_log_likelihood(design: Design, settings: Settings, complete: bool) -> bool:
    if settings.log_likelihood and not complete:
        raise FitError(
            "log_likelihood=True needs the random effects of all grouping factors, but keep= leaves some out. Drop one "
            "of the two arguments."
        )
    if settings.log_likelihood:
        need_observations(
            design, "log_likelihood=True stores densities", "post.group_log_likelihood() has those of groups.", FitError
        )
    if settings.log_likelihood is None:
        rows_there = design.facts is None and design.cells is None
        return complete and rows_there and design.n * settings.draws <= _LOG_LIKELIHOOD
    return settings.log_likelihood


def _nuts(
    design: Design,
    priors: Priors,
    settings: Settings,
    forms: Mapping[str, Form],
    kept: dict[str, bool],
    log_likelihood: bool,
) -> Draws:
    load("pymc", "nutpie")
    from bayeslmm.bayes.datatree import nuts_datatree
    from bayeslmm.bayes.nuts import sample_nuts
    from bayeslmm.bayes.pymc_model import build_pymc_model

    check_posterior(design, priors)
    rng = generator(settings.random_seed)
    layout = make_layout(design)
    drawn = sample_nuts(
        build_pymc_model(design, priors, forms),
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
    return Draws(design, tree, priors, "nuts", nuts_diagnostics(tree, design.sigma is not None))
