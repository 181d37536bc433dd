"""Evidence of a model, of the model without one standard deviation, and of the data without some rows.

A density ratio at a zero sd (Savage and Dickey) is a ratio of evidences, because the collapsed likelihood is defined
there: ``p(sd = 0 | y) / p(sd = 0) = p(y | sd = 0) / p(y)``. The numerator is the evidence of the model without the
effect; its correlations integrate to one, and what an LKJ(eta) prior leaves to the c - 1 others is LKJ(eta + 1/2).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from bayeslmm.bayes.at_means import design_at_means, factors_at_means, products_at_means
from bayeslmm.bayes.importance import importance_points
from bayeslmm.bayes.priors import Priors
from bayeslmm.bayes.quadrature import TOLERABLE, integrate
from bayeslmm.bayes.target import Target, make_target
from bayeslmm.design.covariance import canonical
from bayeslmm.design.design import Design
from bayeslmm.design.row_arrays import chosen_columns
from bayeslmm.design.screen import fill
from bayeslmm.errors import ConvergenceWarning, PriorError
from bayeslmm.likelihood import SummedDesign, cross_products, evaluate
from bayeslmm.likelihood.part_sums import kept_columns, products_of_part
from bayeslmm.likelihood.residual_products import PointSums, ResidualProducts, residual_products
from bayeslmm.numerics.resample import trustworthy
from bayeslmm.types import FloatArray, IntArray

# More relative sds and correlations than this are integrated by importance sampling.
_QUADRATURE = 3
_DRAWS = 4000


@dataclass(frozen=True)
class Evidence:
    """Log p(y), or why there is none.

    Attributes
    ----------
    value : float
        nan where the priors do not define it.
    error : float
        Relative error of p(y): a bound for quadrature, a Monte Carlo standard error for importance sampling.
    method : str
        ``"quadrature"`` or ``"importance"``.
    reason : str
        Why the value is nan; empty otherwise.
    """

    value: float
    error: float = 0.0
    method: str = "quadrature"
    reason: str = ""


@dataclass(frozen=True)
class BayesFactor:
    """Bayes factor of "this sd is zero" against "it has its prior"; or of a residual parameter at independence.

    Attributes
    ----------
    label : str
        Label of the parameter; with ``sd_at_mean`` where it is the sd of an effect at the means of columns.
    log_bf01 : float
        Log of the Bayes factor in favour of zero (of one, for a ratio of residual sds).
    prior : str
        Its prior.
    log_prior_at_zero : float
        Log prior density there, in one over the units of the parameter.
    error : float
        Relative error of the Bayes factor.
    scales : tuple of float
        Factors on the scale of that prior.
    log_bf01_at_scales : tuple of float
        Log Bayes factors under these priors; nan where the draws cannot tell.
    value : float
        What the parameter is held at: 0, or 1 for a ratio.
    """

    label: str
    log_bf01: float
    prior: str
    log_prior_at_zero: float
    error: float
    scales: tuple[float, ...]
    log_bf01_at_scales: tuple[float, ...]
    value: float = 0.0

    @property
    def bf01(self) -> float:
        """Bayes factor in favour of zero, or one."""
        return float(np.exp(self.log_bf01))

    @property
    def bf10(self) -> float:
        """Bayes factor in favour of any other value."""
        return float(np.exp(-self.log_bf01))

    @property
    def posterior_density_at_zero(self) -> float:
        """Posterior density of the parameter there, in one over its units."""
        return float(np.exp(self.log_bf01 + self.log_prior_at_zero))

    def __repr__(self) -> str:
        lines = [f"{self.label} = {self.value:g} against {self.prior}: BF01 = {self.bf01:.3g} (BF10 = {self.bf10:.3g})"]
        if self.error > 2e-3:
            lines[0] += f", Monte Carlo error {self.error:.1%}"
        if self.scales:
            lines.append("It depends on the scale of that prior:")
        for scale, log_bf in zip(self.scales, self.log_bf01_at_scales, strict=True):
            value = "not reached by the draws" if np.isnan(log_bf) else f"BF01 = {np.exp(log_bf):.3g}"
            lines.append(f"  scale x {scale:<5g} {value}")
        return fill("\n".join(lines), indent="  ")


def improper_parts(design: Design, priors: Priors) -> str:
    """Which priors of variance parameters are improper, in words; empty if none."""
    found = [
        f"sd_{term.group}[{effect}] is {prior}"
        for term, own, joint in zip(design.terms, priors.sds, priors.joints, strict=True)
        for effect, prior in zip(term.effects, own, strict=True)
        if not (prior.proper and (joint is None or joint.proper))
    ]
    return "; ".join([*found, *([] if priors.sigma.proper else [f"sigma is {priors.sigma}"])])


def log_evidence(cp: SummedDesign, priors: Priors, terms: Sequence[FloatArray], rng: np.random.Generator) -> Evidence:
    """Log p(y) of a model.

    Parameters
    ----------
    cp : SummedDesign
    priors : Priors
        A flat prior on a fixed effect counts with density one per its unit; improper priors of variances leave the
        evidence undefined.
    terms : sequence of FloatArray, each (c, c)
        Relative factors near the bulk of the posterior.
    rng : numpy.random.Generator
        For models of more than three relative sds and correlations.
    """
    improper = improper_parts(cp.design, priors)
    if improper:
        reason = f"the evidence has an arbitrary constant under an improper prior ({improper})"
        return Evidence(float("nan"), float("nan"), "none", reason)
    return integrated(cp, priors, terms, rng)


def integrated(cp: SummedDesign, priors: Priors, terms: Sequence[FloatArray], rng: np.random.Generator) -> Evidence:
    """The same up to the constants of improper priors, which cancel between models that share them.

    Warns
    -----
    ConvergenceWarning
        Neither a grid nor importance sampling gave a number to be trusted.
    """
    factors = [canonical(np.asarray(T)) for T in terms]
    target, start = make_target(cp, priors, factors)
    rough = None if priors.smooth else partial(make_target, cp, priors, factors, smooth=False)
    return integral(target, start, rng, rough)


def integral(
    target: Target,
    start: FloatArray,
    rng: np.random.Generator,
    rough: Callable[[], tuple[Target, FloatArray]] | None = None,
) -> Evidence:
    """The integral of a collapsed density; `rough` makes the target and start for importance sampling, where others."""
    if target.dimension == 0:
        return Evidence(float(target.evaluate(start[None]).log_density[0]))
    priors = target.priors
    # One at a time, the evaluations of a plane would take long.
    most = 1 if isinstance(target.sums, PointSums) else _QUADRATURE
    if target.dimension <= most and not priors.jumps:
        grid = integrate(target, start)
        if grid.error < TOLERABLE:
            return Evidence(grid.log_evidence, grid.error)
    if rough is not None:
        target, start = rough()
    sample = importance_points(target, start, _DRAWS, rng)
    k, largest = sample.pareto_k, sample.largest_weight
    error = np.sqrt(max(1.0 / sample.efficiency - 1.0, 0.0) / sample.weights.size)
    if not trustworthy(k, largest, sample.efficiency):
        warnings.warn(
            f"A log evidence is unreliable: its importance weights have Pareto k = {k:.2f}, efficiency "
            f"{sample.efficiency:.0%} and a largest weight of {largest:.0f} times the mean. Evidences and Bayes "
            "factors made of it may be far off. Check for a prior much narrower or wider than the data, or of "
            "another order of magnitude.",
            ConvergenceWarning,
            stacklevel=4,
        )
    return Evidence(sample.log_evidence, float(error), "importance")


def log_evidence_without_effects(cp: SummedDesign, priors: Priors) -> Evidence:
    """Log p(y) with all random effects at zero: a linear model, sigma integrated on a line."""
    factor = evaluate(cp, [np.zeros((1, block.size, block.size)) for block in cp.blocks])
    target = Target(cp, replace(priors, sds=(), lkj=(), joint=(), at_means=()), ())
    return Evidence(float(target.evaluate_with(np.zeros((1, 0)), factor).log_density[0]))


def log_evidence_at_zero(
    cp: SummedDesign,
    priors: Priors,
    terms: Sequence[FloatArray],
    position: int,
    effect: int,
    rng: np.random.Generator,
) -> Evidence:
    """Log p(y | sd = 0): the prior of everything else as it is, and the constants of improper ones as in `integrated`.

    Parameters
    ----------
    terms : sequence of FloatArray, each (c, c)
        Relative factors near the bulk of the posterior.
    position, effect : int
        Term, and effect within it: at the means of the columns, where its prior is about these. Effects that share an
        sd vanish together.

    Raises
    ------
    PriorError
        The prior density of the sd at zero is zero, infinite or has no scale.
    """
    check_density_at_zero(cp.design, priors, position, effect)
    design, remaining, kept = without_effect(cp.design, priors, position, effect)
    if not design.terms and not isinstance(cp, ResidualProducts):
        return log_evidence_without_effects(cp, priors)
    covariances = [T @ T.T for T in factors_at_means(priors.changes, terms)]
    own = covariances[position][np.ix_(kept, kept)]
    left = [*covariances[:position], *([own] if kept.size else []), *covariances[position + 1 :]]
    roots = [_root(G) for G in left]
    if design.facts is not None:
        whole = products_at_means(cp, priors.changes)
        smaller = products_of_part(whole, design, kept_columns(whole.design, position, kept.tolist()))
        return integrated(smaller, remaining, roots, rng)
    return integrated(products_like(cp, design), remaining, roots, rng)


def products_like(cp: SummedDesign, design: Design) -> SummedDesign:
    """Cross-products of another design of the same structure, from which its posterior is integrated."""
    return residual_products(design, cp.lam) if isinstance(cp, ResidualProducts) else cross_products(design)


def _root(G: FloatArray) -> FloatArray:
    values, vectors = np.linalg.eigh(G)
    return canonical(vectors * np.sqrt(np.maximum(values, 0.0)))


def check_density_at_zero(design: Design, priors: Priors, position: int, effect: int) -> float:
    """Log prior density of a standard deviation at zero, if a Bayes factor against zero exists.

    Raises
    ------
    PriorError
    """
    term, prior, joint = design.terms[position], priors.sds[position][effect], priors.joints[position]
    name = f"sd_{term.group}[{term.effects[effect]}]"
    advice = "Sample with a prior that is proper and positive at 0: half-t (the default), half-normal or exponential."
    if joint is not None:
        raise PriorError(
            f"The term {term.label} has a joint prior ({joint}): there is no prior of {name} alone whose density at "
            f"zero could be compared. {advice}"
        )
    if not prior.proper:
        raise PriorError(
            f"The prior of {name} is {prior}, which is improper: its density at zero, and with it any Bayes factor, "
            f"has an arbitrary constant. {advice}"
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        at_zero = float(prior.log_density(np.zeros(1))[0])
    if not np.isfinite(at_zero):
        size = "infinite" if at_zero > 0 else "zero"
        raise PriorError(
            f"The prior of {name} is {prior}, whose density at zero is {size}: it decides the Bayes factor before any "
            f"data. {advice}"
        )
    return float(priors.log_density_sd(position, effect, np.zeros(1))[0])


def without_effect(design: Design, priors: Priors, position: int, effect: int) -> tuple[Design, Priors, IntArray]:
    """Design and priors of the model in which an sd is zero, and the effects of its term that are left.

    An effect that the prior has at the means of the columns is left out there: what is left of ``(x | g)`` without its
    level is ``(0 + (x - mean(x)) | g)``. The columns of all terms are those that the priors are about.
    """
    design, priors = design_at_means(design, priors.changes), replace(priors, at_means=())
    term = design.terms[position]
    removed = term.structure.sharing(effect)
    kept = np.array([k for k in range(len(term.effects)) if k not in removed], dtype=np.int64)
    terms, sds, lkj = list(design.terms), list(priors.sds), list(priors.lkj)
    joint = list(priors.joints)
    if kept.size:
        names = tuple(term.effects[k] for k in kept)
        structure = term.structure.keeping(kept.tolist())
        terms[position] = replace(term, effects=names, Z=chosen_columns(term.Z, kept.tolist()), structure=structure)
        sds[position] = tuple(sds[position][k] for k in kept)
        lkj[position] += 0.5 if structure.basis_free else 0.0
    else:
        for values in (terms, sds, lkj, joint):
            del values[position]
    used = {t.group for t in terms}
    groupings = {name: grouping for name, grouping in design.groupings.items() if name in used}
    facts = design.facts
    if facts is not None:
        facts = facts.selected(range(design.p), kept_columns(design, position, kept.tolist()).terms)
    smaller = replace(design, terms=tuple(terms), groupings=groupings, facts=facts)
    return smaller, replace(priors, sds=tuple(sds), lkj=tuple(lkj), joint=tuple(joint)), kept
