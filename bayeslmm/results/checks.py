"""Questions to a posterior: cross-validation, sensitivity to the prior, evidence, storage."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np

from bayeslmm.arguments import choice, flag, text
from bayeslmm.bayes import evidence
from bayeslmm.bayes.coefficient_priors import check_integrable
from bayeslmm.bayes.evidence import (
    BayesFactor,
    Evidence,
    check_density_at_zero,
    improper_parts,
    integrated,
    log_evidence_at_zero,
)
from bayeslmm.bayes.layout import level_names, make_layout
from bayeslmm.bayes.log_likelihood import group_log_likelihood as levels_log_likelihood
from bayeslmm.bayes.mixed_normals import evidence_of_draws
from bayeslmm.bayes.priors import Priors
from bayeslmm.bayes.progress import Progress, interactive
from bayeslmm.bayes.residual_evidence import independence, log_evidence_at_independence
from bayeslmm.bayes.sensitivity import reweight, scaled_priors
from bayeslmm.errors import BayesLMMWarning, DesignError
from bayeslmm.likelihood.residual_products import ResidualProducts
from bayeslmm.residual import refuse_regression
from bayeslmm.residual.laws import NormalLaw
from bayeslmm.results.draws import Draws
from bayeslmm.results.labels import Parameter, find
from bayeslmm.results.prior_checks import SCALES, listed
from bayeslmm.results.prior_table import prior_text

if TYPE_CHECKING:
    from arviz_stats.utils import ELPDDataLOO
    from xarray import DataArray

# Models with at most this many relative sds and correlations are integrated anew for every scale of a prior.
_INTEGRATED = 2


def loo(
    post: Draws,
    kind: Literal["observation", "group"] = "observation",
    group: str | None = None,
    *,
    draws: int | None = None,
    refit: bool = False,
) -> ELPDDataLOO:
    """Leave-one-out cross-validation with fixed and random effects integrated out exactly.

    Only the variance parameters are reweighted (Pareto-smoothed importance sampling), so that leaving out a whole
    group works too: it is then predicted as a new group. Where residuals are correlated, a row is predicted from all
    others, those of its own group included, at other times before and after it; to leave out what hangs together,
    leave out groups.

    Parameters
    ----------
    kind : {"observation", "group"}
        What is left out at a time.
    group : str, optional
        Grouping factor, or that of the residual correlations, for ``kind="group"``; all rows of a level are left out
        together.
    draws : int, optional
        About how many draws to use, at least 30; 1,000 by default, fewer for very large designs.
    refit : bool
        Whether units with a large Pareto k are computed as ratios of evidences, with the posterior integrated
        anew without them; their k is then 0.

    Returns
    -------
    arviz_stats.ELPDDataLOO
        With pointwise values: for ``az.compare`` and ``az.plot_khat``.

    Raises
    ------
    DesignError
        `kind` or `group` names nothing.
    FitError
        The rows have frequencies (observations), a coefficient with a flat prior rests on one unit alone, or there
        are too few draws.

    Warns
    -----
    ConvergenceWarning
        A Pareto k is too large, and ``refit=False``.

    Notes
    -----
    ``p`` is how much better new values of what is left out would be predicted with it than without. Where groups with
    random effects are left out it counts their effects, too: with its data a group is known, without them it is a new
    one. Residual correlations have no effects, and ``p`` is about the number of parameters, more if some groups are
    unlike the others: two models that say the same of new groups, ``(1 | g)`` and ``residual="cs(g)"``, have the same
    elpd and not the same ``p``.

    Groups of large crossed models have densities interpolated between some two dozen draws, where others drawn at
    random say that averages are off by less than their Monte Carlo error; else they are computed at every draw used.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))
    >>> left = model.sample(1000, random_seed=1).loo("group")
    >>> int(left.n_data_points), round(left.elpd)
    (6, -167)
    """
    from bayeslmm.bayes.loo import leave_out, psis_loo, refitted, warn_about_k

    choice("kind", kind, ("observation", "group"), DesignError)
    flag("refit", refit, DesignError)
    if group is not None:
        text("group", group, "the name of a grouping factor", DesignError)
    cp = post.cross_products
    with Progress(interactive()) as progress:
        progress.announce("leave-one-out: every unit at many draws (draws= for fewer)")
        left = leave_out(cp, post.data, post.priors, kind, group, draws)
        result = psis_loo(left, post.data, post.method)
        if refit:
            check_integrable(post.design.fixed_names, post.priors.heavy, "refit=True", "Leave refit= out.")
            progress.announce("leave-one-out: evidences without units of large Pareto k (refit=False: none)")
            return refitted(post._integrated, post.priors, post._typical, left, result)
    warn_about_k(result, left)
    return result


def group_log_likelihood(post: Draws) -> DataArray:
    """Log density of each group's observations given fixed effects and variances, its effects integrated out.

    Returns
    -------
    xarray.DataArray
        Named ``<response>_<group>``, dims chain, draw and the levels of the outermost factor, that of the residual
        correlations among them.

    Raises
    ------
    FitError
        Crossed factors: no groups of rows are independent.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> post = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).sample(200, random_seed=1)
    >>> log_lik = post.group_log_likelihood()
    >>> log_lik.name, dict(log_lik.sizes)
    ('Yield_Batch', {'chain': 4, 'draw': 50, 'Batch': 6})
    """
    from xarray import DataArray

    grouping, values = levels_log_likelihood(post.cross_products, post._variance_draws)
    layout = make_layout(post.design)
    dim, name = level_names(layout, grouping.name)
    coords = {**{own: post.data["posterior"][own] for own in ("chain", "draw")}, dim: np.asarray(grouping.levels)}
    return DataArray(post._by_chain(values), coords, ("chain", "draw", dim), name=f"{layout.response}_{name}")


def log_evidence(post: Draws) -> float:
    """Log p(y), flat priors of fixed effects counting with density one per unit; nan with improper priors.

    Warns
    -----
    BayesLMMWarning
        Why it is nan.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> post = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).sample(200, random_seed=1)
    >>> round(post.log_evidence, 2)
    -162.71
    """
    refuse_regression(post.design.residual, "log_evidence")
    improper = improper_parts(post.design, post.priors)
    if not improper and not isinstance(post.diagnostics, Mapping):
        return float(post.diagnostics.log_evidence)
    if post.priors.heavy and not improper:
        return evidence_of_draws(
            post._integrated, post.priors, post._typical, post._variance_draws.beta, post._inflation
        ).value
    found = evidence.log_evidence(post._integrated, post.priors, post._typical, np.random.default_rng(0))
    if found.reason:
        warnings.warn(
            f"There is no log evidence: {found.reason}. Sample with proper priors of the sds and of sigma.",
            BayesLMMWarning,
            stacklevel=3,
        )
    return found.value


def bayes_factor(post: Draws, label: str, *, scales: Sequence[float] = SCALES) -> BayesFactor:
    """Bayes factor of a zero standard deviation against its prior (Savage-Dickey, as a ratio of evidences).

    Or of a residual parameter where it means no correlation (0), or equal standard deviations (a ratio of 1, an
    exponent of 0), the others having their priors.

    Parameters
    ----------
    label : str
        Of an sd, e.g. ``"sd_Subject[Days]"``. In a term whose prior is about the means of its columns (`at_means`)
        the intercept's is that of the level at the means, under either label: it is compared with ``(x | g)``
        whose lines all cross at the mean of x. At the zero of x, a zero sd has no prior density.
        Or of a residual parameter, e.g. ``"residual_rho"``.
    scales : sequence of float
        Factors on the scale of its prior, for the table of how much the Bayes factor depends on it. A correlation that
        is uniform has none.

    Returns
    -------
    BayesFactor

    Raises
    ------
    DesignError
        `label` is no standard deviation of random effects and no residual parameter.
    PriorError
        The prior density of the sd at zero is zero, infinite or has no scale; no value of the residual parameter alone
        means independence (ranges, correlations of an unstructured matrix).

    References
    ----------
    Dickey (1971), Annals of Mathematical Statistics 42, 204-223.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> post = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).sample(200, random_seed=1)
    >>> post.bayes_factor("sd_Batch", scales=(0.5, 1, 2))
    sd_Batch[Intercept] = 0 against half-t(3, scale 3.716): BF01 = 3.41 (BF10 =
      0.294)
    It depends on the scale of that prior:
      scale x 0.5   BF01 = 2.01
      scale x 1     BF01 = 3.41
      scale x 2     BF01 = 6.39
    """
    return bayes_factor_against(post, label, scales, partial(whole_evidence, post))


def whole_evidence(post: Draws) -> Evidence:
    """Evidence of all parameters, up to the constants of improper priors."""
    return integrated(post._integrated, post.priors, post._typical, np.random.default_rng(0))


def bayes_factor_against(
    post: Draws, label: str, scales: Sequence[float], whole: Callable[[], Evidence]
) -> BayesFactor:
    """The same; several Bayes factors of one posterior can share its `whole_evidence`."""
    p, scales = find(post.design, label, post.priors), listed("scales", scales)
    if p.kind not in ("sd", "residual"):
        raise DesignError(
            f"{label!r} is no standard deviation of random effects and no residual parameter. Name one, e.g. "
            "'sd_<group>'."
        )
    instead = "Compare post.log_evidence of both models, or use bl.Normal(mean, sd)."
    check_integrable(post.design.fixed_names, post.priors.heavy, f"The Bayes factor of {p.label}", instead)
    if p.kind == "residual":
        return _of_residual(post, p, scales, whole)
    position, effect = p.position, p.effects[0]
    at_zero = check_density_at_zero(post.design, post.priors, position, effect)
    swept = [scaled_priors(post.design, post.priors, s, [(position, effect)], False) for s in scales]

    def without() -> Evidence:
        rng = np.random.default_rng(0)
        return log_evidence_at_zero(post._integrated, post.priors, post._typical, position, effect, rng)

    prior = str(post.priors.sds[position][effect])
    asked = BayesFactor(_prior_label(post, p), 0.0, prior, at_zero, 0.0, scales, ())
    return _bayes_factor(post, asked, whole, without, swept)


def _of_residual(post: Draws, p: Parameter, scales: tuple[float, ...], whole: Callable[[], Evidence]) -> BayesFactor:
    """Bayes factor of a residual parameter where it means independence."""
    cp, priors, k = post._integrated, post.priors, p.position
    assert isinstance(cp, ResidualProducts)
    at = independence(post.design, priors, k)
    scales = scales if isinstance(priors.residual[k], NormalLaw) else ()
    swept = [scaled_priors(post.design, priors, s, (), False, [k]) for s in scales]
    prior, log_prior = prior_text(post.design, priors, p), at.log_prior - at.log_slope
    asked = BayesFactor(p.label, 0.0, prior, log_prior, 0.0, scales, (), at.value)
    return _bayes_factor(
        post, asked, whole, lambda: log_evidence_at_independence(cp, priors, post._typical, k, at), swept
    )


def _bayes_factor(
    post: Draws,
    asked: BayesFactor,
    whole: Callable[[], Evidence],
    without: Callable[[], Evidence],
    swept: Sequence[Priors],
) -> BayesFactor:
    """The Bayes factor that is asked for from both evidences, and under priors of other scales."""
    with Progress(interactive()) as progress:
        progress.announce(
            f"Bayes factor of {asked.label}: evidences under {len(swept) + 1} priors (scales=(1,): fewer)"
        )
        free, held = whole(), without()
        log_bf = held.value - free.value
        ratios = [
            0.0 if scale == 1 else _evidence_ratio(post, changed, free.value)
            for scale, changed in zip(asked.scales, swept, strict=True)
        ]
    return replace(
        asked,
        log_bf01=log_bf,
        error=float(np.hypot(free.error, held.error)),
        scales=tuple(map(float, asked.scales)),
        log_bf01_at_scales=tuple(log_bf - ratio for ratio in ratios),
    )


def _prior_label(post: Draws, p: Parameter) -> str:
    """Label of the sd that the prior under a label is about."""
    change = post.priors.changes[p.position]
    moved = change is not None and not p.at_mean and change.moved[p.effects[0]]
    return f"sd_at_mean_{p.label.removeprefix('sd_')}" if moved else p.label


def _evidence_ratio(post: Draws, changed: Priors, reference: float) -> float:
    """Log of the evidence under other priors, over that under these, whose log is `reference`."""
    if post.design.n_theta + len(post.design.residual.names) <= _INTEGRATED:
        found = integrated(post._integrated, changed, post._typical, np.random.default_rng(0))
        return found.value - reference
    weighed = reweight(post.design, post.priors, changed, post._variance_draws)
    return weighed.log_evidence_ratio if weighed.reliable else float("nan")
