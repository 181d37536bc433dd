"""Priors of standard deviations and fixed effects in PyMC."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bayeslmm.bayes.at_means import group_change
from bayeslmm.bayes.layout import GroupLayout
from bayeslmm.bayes.prior_families import (
    Exponential,
    Flat,
    Gamma,
    HalfNormal,
    HalfT,
    InverseGammaVariance,
    Power,
    SdPrior,
    Uniform,
)
from bayeslmm.bayes.priors import Priors
from bayeslmm.bayes.term_priors import Chi, Decov, Relative
from bayeslmm.design.variances import SdLabel
from bayeslmm.errors import PriorError
from bayeslmm.likelihood import NormalPrior


def beta_variable(prior: NormalPrior | None) -> Any:
    """Fixed effects; a potential holds the prior where it is on combinations, or not on all coefficients."""
    import pymc as pm

    if prior is not None and prior.proper.all() and prior.basis is None:
        return pm.Normal("beta", mu=prior.mean, sigma=prior.sd, dims="coef")
    beta = pm.Flat("beta", dims="coef")
    if prior is None or not prior.proper.any():
        return beta
    proper = np.flatnonzero(prior.proper)
    normal = pm.Normal.dist(mu=prior.mean[proper], sigma=prior.sd[proper])
    on = beta if prior.basis is None else pm.math.dot(prior.basis, beta)
    pm.Potential("beta_prior", pm.logp(normal, on[proper]).sum())
    return beta


def sigma_variable(priors: Priors) -> Any:
    """The residual standard deviation."""
    return _variable("sigma", [priors.sigma], None)


def sd_variables(group: GroupLayout, priors: Priors, sigma: Any) -> Any:
    """Standard deviations of a group, a vector ``sd_<group>``, or ``sd_at_mean_<group>`` where priors are about these.

    One free variable if their priors are of one family, else one each. A prior on the ratio to sigma makes the free
    variable ``ratio_<group>``; decov has ``tau_<group>`` and ``shares_<group>``.
    """
    import pymc as pm
    import pytensor.tensor as pt

    name = sd_name(group, priors)
    if one_variable(group, priors):
        return _group_sds(group, name, [priors.sds[label.term][label.effects[0]] for label in group.sds], sigma)
    parts = []
    for term in group.labels.terms:
        labels = [label for label in group.sds if label.term == term]
        prior = priors.joints[term]
        if isinstance(prior, Decov):
            parts.append(_decov(group, labels, prior) * sigma)
            continue
        for label in labels:
            parts.append(pt.atleast_1d(_single_sd(group, name, label, priors.sds[term][label.effects[0]], sigma)))
    return pm.Deterministic(name, pt.concatenate(parts), dims=group.sd_dim)


def sd_name(group: GroupLayout, priors: Priors) -> str:
    """Name of the sds that the priors of a group are about."""
    return group.sd if group_change(group, priors.changes) is None else group.sd_at_mean


def one_variable(group: GroupLayout, priors: Priors) -> bool:
    """Whether all sds of a group have independent priors of one family."""
    own = {_family(priors.sds[label.term][label.effects[0]]) for label in group.sds}
    return len(own) == 1 and not any(isinstance(priors.joints[label.term], Decov) for label in group.sds)


def suffix_of(group: GroupLayout, labels: Sequence[SdLabel]) -> str:
    """What names of a term's own variables end in."""
    return group.name if len(group.labels.terms) == 1 else f"{group.name}__{labels[0].name}"


def _family(prior: SdPrior) -> tuple[object, ...]:
    if isinstance(prior, Relative):
        return Relative, *_family(prior.prior)
    return type(prior), prior.proper


def _group_sds(group: GroupLayout, name: str, priors: Sequence[SdPrior], sigma: Any) -> Any:
    import pymc as pm

    absolute = _ratios(priors)
    if absolute is None:
        return _variable(name, priors, group.sd_dim)
    ratio = _variable(f"ratio_{group.name}", absolute, group.sd_dim)
    return pm.Deterministic(name, ratio * sigma, dims=group.sd_dim)


def _single_sd(group: GroupLayout, name: str, label: SdLabel, prior: SdPrior, sigma: Any) -> Any:
    ratio = _ratios([prior])
    if ratio is None:
        return _variable(f"{name}__{label.name}", [prior], None)
    return _variable(f"ratio_{group.name}__{label.name}", ratio, None) * sigma


def _ratios(priors: Sequence[SdPrior]) -> list[SdPrior] | None:
    """Priors of the ratios to sigma, or None if these are priors of sds."""
    inner = [prior.prior for prior in priors if isinstance(prior, Relative)]
    return inner or None


def _decov(group: GroupLayout, labels: Sequence[SdLabel], prior: Decov) -> Any:
    """Sds relative to sigma of one term: their root mean square tau and the shares of the variances."""
    import pymc as pm

    suffix = suffix_of(group, labels)
    tau = pm.Gamma(f"tau_{suffix}", alpha=prior.shape, beta=1.0 / prior.scale)
    shares = pm.Dirichlet(f"shares_{suffix}", a=np.full(len(labels), prior.concentration))
    return tau * pm.math.sqrt(len(labels) * shares)


def _variable(name: str, priors: Sequence[SdPrior], dims: str | None) -> Any:
    """A PyMC variable with priors of one family; a scalar if it has no dims."""
    import pymc as pm

    def values(parameter: str) -> Any:
        numbers = [float(getattr(prior, parameter)) for prior in priors]
        return np.array(numbers) if dims else numbers[0]

    match priors[0]:
        case HalfT():
            return pm.HalfStudentT(name, nu=values("df"), sigma=values("scale"), dims=dims)
        case HalfNormal():
            return pm.HalfNormal(name, sigma=values("scale"), dims=dims)
        case Exponential():
            return pm.Exponential(name, scale=values("mean"), dims=dims)
        case Uniform():
            return pm.Uniform(name, lower=0.0, upper=values("upper"), dims=dims)
        case Gamma(proper=True):
            return pm.Gamma(name, alpha=values("shape"), beta=values("rate"), dims=dims)
        case Gamma():
            return _power(name, values("shape") - 1.0, dims)
        case Flat():
            return pm.HalfFlat(name, dims=dims)
        case Power():
            return _power(name, values("exponent"), dims)
        case Chi():
            return _root_of(name, pm.Gamma, 0.5 * values("df"), 0.5 / values("scale") ** 2, dims)
        case InverseGammaVariance():
            return _root_of(name, pm.InverseGamma, values("shape"), values("rate"), dims)
    raise PriorError(
        f"The prior of {name} is {priors[0]!r}, which has no counterpart in PyMC. Use one of the "
        "priors of bayeslmm, or sample with method='importance'."
    )


def _power(name: str, exponent: Any, dims: str | None) -> Any:
    """An improper density ``s^exponent``."""
    import pymc as pm

    sd = pm.HalfFlat(name, dims=dims)
    pm.Potential(f"{name}_prior", (exponent * pm.math.log(sd)).sum())
    return sd


def _root_of(name: str, variance: Any, shape: Any, rate: Any, dims: str | None) -> Any:
    """Square root of a variance with a gamma or inverse-gamma prior; PyMC derives its density."""
    import pymc as pm

    def root(alpha: Any, beta: Any, size: Any) -> Any:
        return pm.math.sqrt(variance.dist(alpha=alpha, beta=beta, size=size))

    positive = pm.distributions.transforms.log
    return pm.CustomDist(name, shape, rate, dist=root, transform=positive, dims=dims)
