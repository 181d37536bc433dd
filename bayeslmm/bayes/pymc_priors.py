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
from bayeslmm.bayes.statements import Node, Statement, Symbol
from bayeslmm.bayes.term_priors import Chi, Decov, Relative
from bayeslmm.design.variances import SdLabel
from bayeslmm.errors import PriorError
from bayeslmm.likelihood import NormalPrior

_pm, _pt = Symbol("pm"), Symbol("pt")
# Families with a distribution in PyMC: its name, and its parameters with the attributes that hold them, or a number.
_FAMILIES: dict[type, tuple[str, dict[str, str | float]]] = {
    HalfT: ("HalfStudentT", {"nu": "df", "sigma": "scale"}),
    HalfNormal: ("HalfNormal", {"sigma": "scale"}),
    Exponential: ("Exponential", {"scale": "mean"}),
    Uniform: ("Uniform", {"lower": 0.0, "upper": "upper"}),
    Gamma: ("Gamma", {"alpha": "shape", "beta": "rate"}),
    Flat: ("HalfFlat", {}),
}
_STUDENT = {"nu": "df", "mu": "location", "sigma": "scale"}


def beta_statements(priors: Priors) -> list[Statement]:
    """Fixed effects; potentials hold the priors where they are on combinations, or not of one family."""
    heavy = priors.heavy
    if not heavy:
        return _normal_statements(priors.beta)
    t = {key: np.array([float(getattr(own, held)) for _, own in heavy]) for key, held in _STUDENT.items()}
    if len(heavy) == len(priors.coefficients):
        return [Statement("beta", _pm.StudentT("beta", **t, dims="coef"))]
    density = _pm.logp(_pm.StudentT.dist(**t), Symbol("beta")[[j for j, _ in heavy]]).sum()
    return [*_normal_statements(priors.beta), Statement(None, _pm.Potential("beta_heavy_prior", density))]


def _normal_statements(prior: NormalPrior | None) -> list[Statement]:
    if prior is not None and prior.proper.all() and prior.basis is None:
        return [Statement("beta", _pm.Normal("beta", mu=prior.mean, sigma=prior.sd, dims="coef"))]
    flat = Statement("beta", _pm.Flat("beta", dims="coef"))
    if prior is None or not prior.proper.any():
        return [flat]
    proper = np.flatnonzero(prior.proper)
    normal = _pm.Normal.dist(mu=prior.mean[proper], sigma=prior.sd[proper])
    on: Node = Symbol("beta") if prior.basis is None else _pm.math.dot(prior.basis, Symbol("beta"))
    return [flat, Statement(None, _pm.Potential("beta_prior", _pm.logp(normal, on[proper.tolist()]).sum()))]


def sigma_statements(priors: Priors) -> list[Statement]:
    """The residual standard deviation."""
    return _variable("sigma", "sigma", [priors.sigma], None)


def sd_statements(group: GroupLayout, priors: Priors, own: str) -> list[Statement]:
    """``sd_<own>``, a vector: ``sd_<group>``, or ``sd_at_mean_<group>`` where priors are about these.

    One free variable if their priors are of one family, else one each. A prior on the ratio to sigma makes the free
    variable ``ratio_<group>``; decov has ``tau_<group>`` and ``shares_<group>``.
    """
    name = sd_name(group, priors)
    if one_variable(group, priors):
        return _group_sds(group, name, [priors.sds[label.term][label.effects[0]] for label in group.sds], own)
    out, parts = list[Statement](), list[Node]()
    for term in group.labels.terms:
        labels = [label for label in group.sds if label.term == term]
        prior = priors.joints[term]
        if isinstance(prior, Decov):
            target = f"t{len(parts)}"
            out += _decov(group, labels, prior, target)
            parts.append(Symbol(target) * Symbol("sigma"))
            continue
        for label in labels:
            statements, sd = _single_sd(group, name, label, priors.sds[term][label.effects[0]], f"t{len(parts)}")
            out += statements
            parts.append(_pt.atleast_1d(sd))
    together = _pm.Deterministic(name, _pt.concatenate(parts), dims=group.sd_dim)
    return [*out, Statement(f"sd_{own}", together)]


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


def _group_sds(group: GroupLayout, name: str, priors: Sequence[SdPrior], own: str) -> list[Statement]:
    ratios = [prior.prior for prior in priors if isinstance(prior, Relative)]
    if not ratios:
        return _variable(f"sd_{own}", name, priors, group.sd_dim)
    sds = _pm.Deterministic(name, Symbol("t") * Symbol("sigma"), dims=group.sd_dim)
    return [*_variable("t", f"ratio_{group.name}", ratios, group.sd_dim), Statement(f"sd_{own}", sds)]


def _single_sd(
    group: GroupLayout, name: str, label: SdLabel, prior: SdPrior, target: str
) -> tuple[list[Statement], Node]:
    if isinstance(prior, Relative):
        statements = _variable(target, f"ratio_{group.name}__{label.name}", [prior.prior], None)
        return statements, Symbol(target) * Symbol("sigma")
    return _variable(target, f"{name}__{label.name}", [prior], None), Symbol(target)


def _decov(group: GroupLayout, labels: Sequence[SdLabel], prior: Decov, target: str) -> list[Statement]:
    """Sds relative to sigma of one term: their root mean square tau and the shares of the variances."""
    suffix, size = suffix_of(group, labels), len(labels)
    tau = _pm.Gamma(f"tau_{suffix}", alpha=prior.shape, beta=1.0 / prior.scale)
    shares = _pm.Dirichlet(f"shares_{suffix}", a=np.full(size, prior.concentration))
    root = Symbol("tau") * _pm.math.sqrt(size * Symbol("shares"))
    return [Statement("tau", tau), Statement("shares", shares), Statement(target, root)]


def _variable(target: str, name: str, priors: Sequence[SdPrior], dims: str | None) -> list[Statement]:
    """A PyMC variable with priors of one family; a scalar if it has no dims."""

    def values(parameter: str) -> Any:
        numbers = [float(getattr(prior, parameter)) for prior in priors]
        return np.array(numbers) if dims else numbers[0]

    match priors[0]:
        case Gamma(proper=False):
            return _power(target, name, values("shape") - 1.0, dims)
        case Power():
            return _power(target, name, values("exponent"), dims)
        case Chi():
            return _root(target, name, "root_gamma", (0.5 * values("df"), 0.5 / values("scale") ** 2), dims)
        case InverseGammaVariance():
            return _root(target, name, "root_inverse_gamma", (values("shape"), values("rate")), dims)
    if type(priors[0]) not in _FAMILIES:
        raise PriorError(
            f"The prior of {name} is {priors[0]!r}, which has no counterpart in PyMC. Use one of the "
            "priors of bayeslmm, or sample with method='importance'."
        )
    family, parameters = _FAMILIES[type(priors[0])]
    options = {key: values(held) if isinstance(held, str) else held for key, held in parameters.items()}
    return [Statement(target, getattr(_pm, family)(name, **options, dims=dims))]


def _power(target: str, name: str, exponent: Any, dims: str | None) -> list[Statement]:
    """An improper density ``s^exponent``."""
    log_density = (exponent * _pm.math.log(Symbol(target))).sum()
    return [
        Statement(target, _pm.HalfFlat(name, dims=dims)),
        Statement(None, _pm.Potential(f"{name}_prior", log_density)),
    ]


def _root(target: str, name: str, dist: str, parameters: tuple[Any, Any], dims: str | None) -> list[Statement]:
    """Square root of a variance with a gamma or inverse-gamma prior; PyMC derives its density."""
    positive = _pm.distributions.transforms.log
    return [Statement(target, _pm.CustomDist(name, *parameters, dist=Symbol(dist), transform=positive, dims=dims))]
