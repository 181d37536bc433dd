"""The posterior under other priors, and its sensitivity to prior and likelihood, by exact reweighting of the draws.

Prior and likelihood are known at every draw: the log prior of the variance parameters and fixed effects, and the log
likelihood with the random effects integrated out. Draws of the random effects follow along, because they are drawn
given these parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import logsumexp

from bayeslmm.arguments import shown
from bayeslmm.bayes.at_means import sds_and_correlations
from bayeslmm.bayes.coordinates import log_beta_constant
from bayeslmm.bayes.default_priors import PriorSpec, resolve_priors
from bayeslmm.bayes.prior_families import is_sd_prior
from bayeslmm.bayes.prior_numbers import is_finite_number
from bayeslmm.bayes.priors import Priors, SdPrior, flat_coefficients
from bayeslmm.bayes.term_priors import lkj_shapes
from bayeslmm.bayes.variance_draws import VarianceDraws
from bayeslmm.design.design import Design
from bayeslmm.errors import PriorError
from bayeslmm.numerics.resample import kish, normalised, trustworthy
from bayeslmm.residual import laws, residual_labels
from bayeslmm.types import FloatArray

# Fewer weights have no tail whose shape could be judged: a fifth of them is smoothed.
_LEAST = 30


@dataclass(frozen=True)
class Scaled:
    """A prior of an sd with its scale multiplied: the prior of `factor` times the variable.

    Examples
    --------
    >>> from bayeslmm.bayes.priors import HalfNormal
    >>> wide = Scaled(HalfNormal(10.0), 2.0)
    >>> print(wide, round(wide.quantile(0.95), 2), round(HalfNormal(20.0).quantile(0.95), 2))
    2 x half-normal(scale 10) 39.2 39.2
    """

    prior: SdPrior
    factor: float

    @property
    def proper(self) -> bool:
        return self.prior.proper

    @property
    def even(self) -> bool:
        return self.prior.even

    @property
    def relative(self) -> bool:
        return self.prior.relative

    def log_density(self, s: FloatArray) -> FloatArray:
        """Log density at s >= 0."""
        return np.asarray(self.prior.log_density(np.asarray(s) / self.factor) - np.log(self.factor))

    def quantile(self, probability: float) -> float:
        """Value that s is below with the given probability."""
        return self.factor * self.prior.quantile(probability)

    def __str__(self) -> str:
        return f"{self.factor:g} x {self.prior}"


@dataclass(frozen=True)
class Reweighted:
    """Weights that turn draws of one posterior into draws of another.

    Attributes
    ----------
    weights : FloatArray, shape (S,)
        Smoothed, adding up to one.
    pareto_k : float
        Shape of the tail of the raw weights; -inf where they are all equal.
    ess : float
        Kish's effective number of draws.
    largest : float
        Largest raw weight in units of their mean.
    log_evidence_ratio : float
        Log of the evidence under the new prior over that under the old; nan where either is improper.
    """

    weights: FloatArray
    pareto_k: float
    ess: float
    largest: float
    log_evidence_ratio: float

    @property
    def reliable(self) -> bool:
        """Whether the weighted draws can stand for the other posterior."""
        return trustworthy(self.pareto_k, self.largest, self.ess / self.weights.size)


def log_prior_parts(design: Design, priors: Priors, draws: VarianceDraws) -> dict[str, FloatArray]:
    """Log prior of K draws, by kind: ``"sd"``, ``"corr"``, ``"sigma"``, ``"beta"``, ``"residual"``; each (K,).

    Densities are of sds, correlations, sigma and beta themselves, of effects at the means where the priors are about
    these, and of residual parameters on their scales without bounds; what is flat contributes 0.
    """
    log_sigma = np.log(draws.sigma)
    relative, correlations = _of_the_priors(design, priors, draws)
    count = sum(t.shape[1] for t in relative)
    sds = priors.log_density_relative(relative, draws.sigma[:, None])[:, 0] - count * log_sigma
    corr = np.zeros(draws.sigma.size)
    for position, correlation in enumerate(correlations):
        corr = corr + _log_correlation(design, priors, position, correlation)
    return {
        "sd": sds,
        "corr": corr,
        "sigma": np.asarray(priors.sigma.log_density(draws.sigma)),
        "beta": _log_beta(priors, draws.beta),
        "residual": laws.log_density(priors.residual, draws.lam),
    }


def _of_the_priors(design: Design, priors: Priors, draws: VarianceDraws) -> tuple[list[FloatArray], list[FloatArray]]:
    """Relative sds and correlations of the effects that the priors are about."""
    relative, correlations = list(draws.relative_sds), list(draws.correlations)
    for k, change in enumerate(priors.changes):
        if change is not None:
            relative[k], R = sds_and_correlations(change.inverse @ draws.factors[k])
            correlations[k] = design.terms[k].structure.pair_values(R)
    return relative, correlations


def _log_measure(design: Design, old: Priors, new: Priors, draws: VarianceDraws) -> FloatArray:
    """Log Jacobian (K,) from the sds and correlations that `old` is about to those that `new` is.

    Both describe one covariance matrix of c effects, whose volume element is ``2^c prod(sd^c)`` times that of sds and
    correlations and does not change with the basis, which has determinant 1.
    """
    total = np.zeros(draws.sigma.size)
    pairs = zip(
        old.changes,
        new.changes,
        _of_the_priors(design, old, draws)[0],
        _of_the_priors(design, new, draws)[0],
        strict=True,
    )
    for before, after, s, t in pairs:
        if before != after:
            with np.errstate(divide="ignore", invalid="ignore"):
                total = total + s.shape[1] * np.where(s == t, 0.0, np.log(t) - np.log(s)).sum(axis=1)
    return total


def log_prior(design: Design, priors: Priors, draws: VarianceDraws) -> FloatArray:
    """Log prior density of K draws, shape (K,).

    Of residual parameters that have a prior on their scales without bounds; those of correlations that are uniform
    themselves, or over matrices, contribute 0.
    """
    parts = log_prior_parts(design, priors, draws) | {"residual": np.zeros(draws.sigma.size)}
    for k, law in enumerate(priors.residual):
        if isinstance(law, laws.NormalLaw):
            parts["residual"] = parts["residual"] + law.log_density(draws.lam[:, k], draws.lam[:, :0])
    return np.asarray(sum(parts.values()))


def _log_beta(priors: Priors, beta: FloatArray) -> FloatArray:
    prior, heavy = priors.beta, np.zeros(beta.shape[0])
    for j, own in priors.heavy:
        heavy = heavy + own.log_density(beta[:, j])
    if prior is None or not prior.proper.any():
        return heavy
    mean, sd = prior.mean[prior.proper], prior.sd[prior.proper]
    z = (prior.combinations(beta)[:, prior.proper] - mean) / sd
    return np.asarray(heavy - 0.5 * (z**2).sum(1) - np.log(sd).sum() - 0.5 * sd.size * np.log(2 * np.pi))


def _log_correlation(design: Design, priors: Priors, position: int, correlation: FloatArray) -> FloatArray:
    """Log prior density relative to the uniform distribution."""
    structure = design.terms[position].structure
    root = structure.correlation_root(correlation)
    rest = structure.partial_rest(root @ np.swapaxes(root, -1, -2))
    shapes, uniform = priors.shapes(position, structure), structure.partial_shapes(1.0, lkj_shapes(1.0, structure.size))
    total = np.zeros(correlation.shape[0])
    for k, (shape, even) in enumerate(zip(shapes.tolist(), uniform.tolist(), strict=True)):
        total = total + _power(shape - even, rest[:, k]) - (log_beta_constant(shape) - log_beta_constant(even))
    return total


def _power(exponent: float, values: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore"):
        return np.zeros_like(values) if exponent == 0 else np.asarray(exponent * np.log(values))


def reweight(design: Design, old: Priors, new: Priors, draws: VarianceDraws) -> Reweighted:
    """Weights new prior / old prior at the draws.

    Parameters
    ----------
    design : Design
    old, new : Priors
        Those of the draws, and the others.
    draws : VarianceDraws
        S draws of the posterior under `old`.

    Raises
    ------
    PriorError
        No draw has a positive density under the new priors.

    References
    ----------
    Vehtari, Simpson, Gelman, Yao & Gabry (2024), JMLR 25(72), for the smoothing and k.
    """
    before, after = log_prior_parts(design, old, draws), log_prior_parts(design, new, draws)
    ratio = sum((after[name] - before[name] for name in after), -_log_measure(design, old, new, draws))
    if not np.isfinite(ratio).any():
        raise PriorError("The new prior is zero at all draws. Sample again with that prior.")
    log_ratio = float(logsumexp(ratio) - np.log(ratio.size))
    if not (_normalised(old, new, design.p)):
        log_ratio = float("nan")
    if np.ptp(ratio[np.isfinite(ratio)]) < 1e-10 and np.isfinite(ratio).all():
        return Reweighted(np.full(ratio.size, 1.0 / ratio.size), -np.inf, float(ratio.size), 1.0, log_ratio)
    raw = normalised(ratio)
    finite = np.isfinite(ratio)
    smooth = np.full(ratio.size, -np.inf)
    smooth[finite], k = _smoothed(ratio[finite])
    weights = normalised(smooth)
    return Reweighted(weights, k, kish(weights), float(raw.max() * raw.size), log_ratio)


def _smoothed(log_weights: FloatArray) -> tuple[FloatArray, float]:
    """Log weights with a smoothed upper tail, and its Pareto k: -inf where the largest are all equal."""
    from arviz_stats.base import array_stats

    n = log_weights.size
    if n < _LEAST:
        return log_weights, float("inf")
    if np.ptp(np.sort(log_weights)[-min(n // 5, int(3 * np.sqrt(n))) :]) < 1e-10:
        return log_weights, float("-inf")
    # ArviZ takes the log likelihood ratio of a leave-one-out weight: minus our log weight.
    smooth, k = array_stats.psislw(-log_weights)
    return smooth, float(k)


def _normalised(old: Priors, new: Priors, p: int) -> bool:
    """Whether what differs between the priors is proper on both sides; of p fixed effects."""
    pairs: list[tuple[Any, Any]] = [
        *((a, b) for x, y in zip(old.sds, new.sds, strict=True) for a, b in zip(x, y, strict=True)),
        *((a, b) for a, b in zip(old.joints, new.joints, strict=True) if a is not None and b is not None),
        (old.sigma, new.sigma),
    ]
    same_beta = old.beta is new.beta and old.coefficients == new.coefficients
    same_beta = same_beta or not any(flat_coefficients(prior, p).any() for prior in (old, new))
    return same_beta and all(a == b or (a.proper and b.proper) for a, b in pairs)


def scaled_priors(
    design: Design,
    priors: Priors,
    factor: float,
    labels: Sequence[tuple[int, int]],
    sigma: bool,
    residual: Sequence[int] = (),
) -> Priors:
    """Priors with the scales of some sds multiplied.

    Parameters
    ----------
    factor : float
    labels : sequence of (position, effect)
        Terms and effects whose prior is widened.
    sigma : bool
        Whether that of sigma is too.
    residual : sequence of int
        Residual parameters of which the standard deviation of the prior is multiplied.

    Raises
    ------
    PriorError
        A prior without a scale, or of a whole term.
    """
    if not (is_finite_number(factor) and factor > 0):
        raise PriorError(
            f"A prior cannot be scaled by {shown(factor)}; give positive numbers, e.g. scales=(0.5, 1, 2)."
        )
    sds = [list(own) for own in priors.sds]
    for position, effect in labels:
        term = design.terms[position]
        if priors.joints[position] is not None:
            raise PriorError(
                f"{term.label} has a joint prior ({priors.joints[position]}), whose scale is not that of one sd. Pass "
                "the other priors by name: prior_sweep({'wider': {...}})."
            )
        for k in term.structure.sharing(effect):
            sds[position][k] = _scaled(priors.sds[position][k], factor, f"sd_{term.group}[{term.effects[k]}]")
    changed = list(priors.residual)
    for position in residual:
        law, label = changed[position], f"residual_{residual_labels(design.residual)[position]}"
        if not isinstance(law, laws.NormalLaw):
            raise PriorError(_no_scale(label, "uniform"))
        changed[position] = replace(law, sd=factor * law.sd)
    return replace(
        priors,
        sds=tuple(tuple(own) for own in sds),
        sigma=_scaled(priors.sigma, factor, "sigma") if sigma else priors.sigma,
        residual=tuple(changed),
    )


def _scaled(prior: SdPrior, factor: float, name: str) -> SdPrior:
    if not prior.proper:
        raise PriorError(_no_scale(name, str(prior)))
    return prior if factor == 1 else Scaled(prior, factor)


def _no_scale(name: str, prior: str) -> str:
    return (
        f"The prior of {name} is {prior}, which has no scale to multiply. Name the parameters whose priors have "
        "one (parameters=...), or pass other priors by name."
    )


def overridden(design: Design, base: Priors, spec: PriorSpec | SdPrior) -> Priors:
    """`base` with the parts that a user's ``priors=`` argument names; a single prior is that of every group sd."""
    if is_sd_prior(spec) and not isinstance(spec, Mapping | str | Priors):
        spec = {"sd": spec}
    resolved = resolve_priors(design, spec)
    if not isinstance(spec, Mapping) or "preset" in spec:
        return resolved
    plain, keys = resolve_priors(design, None), {str(key) for key in spec}
    sds, lkj, joint, changes = list(base.sds), list(base.lkj), list(base.joints), list(base.changes)
    for k, term in enumerate(design.terms):
        about_means = any(key.startswith(f"sd_at_mean_{term.group}[") for key in keys)
        if about_means and base.changes[k] is None and resolved.changes[k] is not None:
            raise PriorError(
                f"A prior at the means of the columns is given for sd_at_mean_{term.group}, but this posterior has the "
                f"priors of {term.label} at their zeros. Give all of them: sd_{term.group}."
            )
        own = tuple(
            new if new != default or keys & {"sd", f"sd_{term.group}", f"sd_{term.group}[{name}]"} else old
            for name, old, new, default in zip(term.effects, sds[k], resolved.sds[k], plain.sds[k], strict=True)
        )
        if resolved.joints[k] is not None or own != sds[k]:
            joint[k] = resolved.joints[k]
        if resolved.changes[k] != plain.changes[k]:
            changes[k] = resolved.changes[k]
        sds[k] = own
        if resolved.lkj[k] != plain.lkj[k] or keys & {"lkj", f"lkj_{term.group}", f"corr_{term.group}"}:
            lkj[k] = resolved.lkj[k]
    named_beta = any(key.startswith("beta") for key in keys)
    triples = zip(residual_labels(design.residual), base.residual, resolved.residual, strict=True)
    return replace(
        base,
        sds=tuple(sds),
        lkj=tuple(lkj),
        joint=tuple(joint) if any(prior is not None for prior in joint) else (),
        sigma=resolved.sigma if "sigma" in keys else base.sigma,
        beta=resolved.beta if named_beta else base.beta,
        coefficients=resolved.coefficients if named_beta else base.coefficients,
        at_means=tuple(changes),
        residual=tuple(new if f"residual_{label}" in keys else old for label, old, new in triples),
    )
