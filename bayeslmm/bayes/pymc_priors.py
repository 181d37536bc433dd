"""Priors of standard deviations and fixed effects in PyMC."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bayeslmm.bayes.layout import GroupLayout
from bayeslmm.bayes.priors import (
    Exponential,
    Flat,
    HalfNormal,
    HalfT,
    InverseGammaVariance,
    Power,
    Priors,
    SdPrior,
    Uniform,
)
from bayeslmm.design.design import Design
from bayeslmm.errors import PriorError
from bayeslmm.likelihood import NormalPrior


def beta_variable(prior: NormalPrior | None) -> Any:
    """Fixed effects; a potential holds the prior where only some coefficients have a proper one."""
    import pymc as pm

    if prior is not None and prior.proper.all():
        return pm.Normal("beta", mu=prior.mean, sigma=prior.sd, dims="coef")
    beta = pm.Flat("beta", dims="coef")
    if prior is None:
        return beta
    proper = np.flatnonzero(prior.proper)
    normal = pm.Normal.dist(mu=prior.mean[proper], sigma=prior.sd[proper])
    pm.Potential("beta_prior", pm.logp(normal, beta[proper]).sum())
    return beta


def sigma_variable(priors: Priors) -> Any:
    """The residual standard deviation."""
    return _sd_variable("sigma", [priors.sigma], None)


def sd_variables(design: Design, group: GroupLayout, priors: Priors, sigma: Any) -> Any:
    """Standard deviations of a group, a vector: one variable if their priors are of one family, else one each."""
    import pymc as pm
    import pytensor.tensor as pt

    own = [priors.sds[label.term][label.effects[0]] for label in group.sds]
    if len({type(prior) for prior in own}) == 1:
        return _sd_variable(group.sd, own, group.sd_dim)
    parts = [
        _sd_variable(f"{group.sd}__{label.name}", [prior], None) for label, prior in zip(group.sds, own, strict=True)
    ]
    return pm.Deterministic(group.sd, pt.stack(parts), dims=group.sd_dim)


def _sd_variable(name: str, priors: Sequence[SdPrior], dims: str | None) -> Any:
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
        case Flat():
            return pm.HalfFlat(name, dims=dims)
        case Power():
            sd = pm.HalfFlat(name, dims=dims)
            pm.Potential(f"{name}_prior", (values("exponent") * pm.math.log(sd)).sum())
            return sd
        case InverseGammaVariance():
            return _root_inverse_gamma(name, values("shape"), values("rate"), dims)
    raise PriorError(
        f"The prior of {name} is {priors[0]!r}, which has no counterpart in PyMC. Use one of the "
        "priors of bayeslmm, or sample with method='importance'."
    )


def _root_inverse_gamma(name: str, shape: Any, rate: Any, dims: str | None) -> Any:
    """Square root of an inverse-gamma variance; PyMC derives its density."""
    import pymc as pm

    def root(alpha: Any, beta: Any, size: Any) -> Any:
        return pm.math.sqrt(pm.InverseGamma.dist(alpha=alpha, beta=beta, size=size))

    positive = pm.distributions.transforms.log
    return pm.CustomDist(name, shape, rate, dist=root, transform=positive, dims=dims)
