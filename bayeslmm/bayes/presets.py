"""Sets of priors by name: our defaults, and those of the packages and papers that users know.

Every preset is a function of the design. Where the collapsed path cannot have a package's prior on the fixed effects
(it integrates normal and flat ones), the nearest is taken and a note says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from bayeslmm.bayes.at_means import AtMeans, at_means, effect_sizes
from bayeslmm.bayes.prior_scales import (
    columns,
    response_mad,
    response_mean,
    response_sd,
    term_rms,
)
from bayeslmm.bayes.priors import (
    Decov,
    Exponential,
    Flat,
    FlatFactor,
    Gamma,
    HalfNormal,
    HalfT,
    Power,
    Priors,
    Relative,
    SdPrior,
    TermPrior,
)
from bayeslmm.design.design import Design, RandomTerm
from bayeslmm.design.observations import need_observations
from bayeslmm.errors import PriorError
from bayeslmm.likelihood import NormalPrior
from bayeslmm.types import FloatArray

DEGREES_OF_FREEDOM = 3.0

# Width of the proper normal priors of the "weak" set, in standard deviations of y.
WEAK_SLOPE = 2.5
WEAK_INTERCEPT = 10.0
# The factor that rstanarm and bambi put before sd(y) / sd(x).
_AUTOSCALE = 2.5


def default_priors(design: Design) -> Priors:
    """Half-t(3) on every sd, LKJ(1) on correlations, flat beta.

    In a term with an intercept and an unstructured covariance these are the sds and correlations of the effects at the
    means of its columns, with scale ``sd(y)`` for the level there and ``sd(y) / sd(column)`` for a slope: invariant to
    shifting and rescaling predictors. Elsewhere the model itself depends on the zeros of the columns; the scale is
    ``sd(y) / rms(column)``, and for an sd that effects share the one that they ask for together: ``sd(y)`` for the
    levels of a factor. Its correlation is uniform on its range. Equivariant to ``y -> a + c y``.

    Parameters
    ----------
    design : Design

    Returns
    -------
    Priors
    """
    spread, changes = response_sd(design), _changes(design)
    sds = tuple(
        tuple(HalfT(DEGREES_OF_FREEDOM, float(spread / size)) for size in effect_sizes(design, k, change))
        for k, change in enumerate(changes)
    )
    return Priors(sds, (1.0,) * len(changes), HalfT(DEGREES_OF_FREEDOM, spread), at_means=changes)


def _changes(design: Design) -> tuple[AtMeans | None, ...]:
    """For every term the effects that our own priors are about."""
    return tuple(at_means(design, k) for k in range(len(design.terms)))


def weak_priors(design: Design) -> Priors:
    """The default with `weak_beta`: all priors proper."""
    return replace(default_priors(design), beta=weak_beta(design))


def weak_beta(design: Design) -> NormalPrior:
    """Proper normal priors on the fixed effects, wide in units of sd(y) / sd(column).

    The intercept's is centred at the mean of y and covers the whole shift that moving the predictors can cause.
    """
    return _scaled_beta(design, WEAK_SLOPE, WEAK_INTERCEPT, ddof=1)


def _scaled_beta(
    design: Design, slope: float, intercept: float, *, ddof: int, column_ddof: int = 0, centred: bool = False
) -> NormalPrior:
    """Normal priors in units of sd(y) / sd(column).

    With `centred` the prior of the intercept is that at the means of the predictors; else the intercept itself has the
    variance of ``alpha - sum mean(x) beta`` with alpha the centred one, independently of the slopes.
    """
    spread, x = response_sd(design, ddof), columns(design, ddof=column_ddof)
    slopes = slope * spread / x.sd
    shift = 0.0 if centred else np.sqrt(np.sum((slopes * x.mean)[~x.constant] ** 2))
    level = np.hypot(intercept * spread, shift)
    sd = np.where(x.constant, level / np.abs(x.value), slopes)
    mean = np.where(x.constant, response_mean(design) / x.value, 0.0)
    if not centred or x.constant.sum() != 1 or not (x.mean[~x.constant] != 0).any():
        return NormalPrior(mean, sd)
    basis, k = np.eye(design.p), int(np.flatnonzero(x.constant)[0])
    basis[k] = np.where(x.constant, 1.0, x.mean / x.value[k])
    return NormalPrior(mean, sd, basis)


def brms_priors(design: Design) -> Priors:
    """The defaults of brms: every sd and sigma half-t(3, 0, max(2.5, round(mad(y), 1))), LKJ(1), flat slopes.

    brms puts t(3, median(y), the same scale) on the centred intercept, which cannot be integrated out in closed form:
    it is flat here. The scale does not follow the units of a predictor, nor those of y where mad(y) is below 2.5.
    """
    need_observations(
        design,
        "brms scales its priors by the median absolute deviation",
        "The scale can be given, priors={'sd': bl.HalfT(3, scale), 'sigma': bl.HalfT(3, scale)}.",
        PriorError,
    )
    scale = max(2.5, round(response_mad(design), 1))
    prior = HalfT(3.0, scale)
    note = (
        f"brms: t(3, scale {scale:g}) on the centred intercept, flat here, since a t cannot be integrated out exactly"
    )
    constant = columns(design).constant
    notes = tuple((name, note) for name, is_constant in zip(design.fixed_names, constant, strict=True) if is_constant)
    return Priors(_same(design, prior), (1.0,) * len(design.terms), prior, notes=notes)


def rstanarm_priors(design: Design) -> Priors:
    """The defaults of rstanarm: decov(1, 1, 1, 1), sigma exponential(1 / sd(y)), autoscaled normal fixed effects.

    Slopes are normal(0, 2.5 sd(y) / sd(x)) and the centred intercept normal(mean(y), 2.5 sd(y)), which makes intercept
    and slopes correlated.
    """
    beta = _scaled_beta(design, _AUTOSCALE, _AUTOSCALE, ddof=1, column_ddof=1, centred=True)
    parts = [term_prior(Decov(), term) for term in design.terms]
    sds, lkj, joint = tuple(p[0] for p in parts), tuple(p[1] for p in parts), tuple(p[2] for p in parts)
    sigma = Exponential(response_sd(design))
    return Priors(sds, lkj, sigma, beta, joint, _centred_note(design, beta))


def term_prior(prior: Decov, term: RandomTerm) -> tuple[tuple[SdPrior, ...], float, TermPrior | None]:
    """Marginals, LKJ shape and joint prior that decov means for a term; without correlations every sd is a term."""
    c = len(term.effects)
    if not correlated(term):
        return (Relative(prior.scalar()),) * c, prior.regularization, None
    return tuple(prior.marginal(k, c) for k in range(c)), prior.regularization, prior


def _centred_note(design: Design, beta: NormalPrior) -> tuple[tuple[str, str], ...]:
    if beta.basis is None:
        return ()
    text = "stated for the intercept at the means of the predictors, hence correlated with the slopes"
    constant = columns(design).constant
    return tuple((name, text) for name, is_constant in zip(design.fixed_names, constant, strict=True) if is_constant)


def bambi_priors(design: Design) -> Priors:
    """The defaults of bambi 0.21: half-normal sds, sigma half-t(4, sd(y)), autoscaled normal fixed effects.

    With sds that divide by n: slopes normal(0, 2.5 sd(y) / sd(x)); the intercept's width is
    ``w = sqrt((2.5 sd(y))^2 + sum (2.5 sd(y) / sd(x_k))^2 mean(x_k)^2)``, around mean(y) and for the centred intercept.
    Group-specific intercepts are half-normal(w), slopes half-normal(2.5 sd(y) / sd(x)). bambi has no correlations
    (its (x | g) is our (x || g)): where the formula has them they are LKJ(1) here.
    """
    spread, x = response_sd(design, 0), columns(design)
    width = float(np.hypot(1.0, np.sqrt(np.sum((x.mean / x.sd)[~x.constant] ** 2)))) * _AUTOSCALE * spread
    sds = tuple(tuple(HalfNormal(float(v)) for v in _bambi_scales(design, k, width)) for k in range(len(design.terms)))
    beta = _scaled_beta(design, _AUTOSCALE, width / spread if spread else _AUTOSCALE, ddof=0, centred=True)
    notes = _centred_note(design, beta)
    if any(correlated(term) for term in design.terms):
        notes += (("corr", "bambi has no correlations within a term"),)
    return Priors(sds, (1.0,) * len(design.terms), HalfT(4.0, spread), beta, notes=notes)


def _bambi_scales(design: Design, position: int, width: float) -> FloatArray:
    spread = response_sd(design, 0)
    if design.terms[position].structure.shared:
        return _AUTOSCALE * spread / term_rms(design, position)
    z = columns(design, position)
    return np.where(z.constant, width / np.abs(z.value), _AUTOSCALE * spread / z.sd)


def pc_priors(design: Design) -> Priors:
    """Penalised-complexity priors: sds exponential with ``P(sd > U) = 0.05``, flat sigma and beta.

    U is the scale of the default prior, ``sd(y) / sd(column)`` at the means where terms have an intercept.

    The mode is at zero by design and the scale matters: this common choice is tight if much of the variance lies
    between groups. For another use ``bl.Exponential.pc(U, alpha)``.

    References
    ----------
    Simpson, Rue, Riebler, Martins & Sorbye (2017), Statistical Science 32, 1-28.
    """
    spread, changes = response_sd(design), _changes(design)
    sds = tuple(
        tuple(Exponential.pc(float(spread / size)) for size in effect_sizes(design, k, change))
        for k, change in enumerate(changes)
    )
    return Priors(sds, (1.0,) * len(changes), Flat(), at_means=changes)


def boundary_avoiding_priors(design: Design) -> Priors:
    """A factor ``|Sigma|^(1/2)`` for every term, sigma and beta flat: the posterior mode is never singular.

    That is gamma(2, 0) for a scalar sd; for a matrix s^1 on every sd and LKJ(1.5). Meant for point
    estimates: intervals exclude zero by construction.

    References
    ----------
    Chung, Rabe-Hesketh, Dorie, Gelman & Liu (2013), Psychometrika 78, 685-709; Chung, Gelman, Rabe-Hesketh, Liu & Dorie
    (2015), J. Educational and Behavioral Statistics 40, 136-157.
    """
    sds = tuple((Power(1.0) if correlated(t) else Gamma(2.0, 0.0),) * len(t.effects) for t in design.terms)
    lkj = tuple(1.5 if correlated(term) else 1.0 for term in design.terms)
    return Priors(sds, lkj, Flat(), at_means=_changes(design))


def flat_priors(design: Design) -> Priors:
    """Flat in theta (the relative Cholesky factors at the means), beta and log sigma: the posterior mode is REML.

    With sigma integrated out, minus twice the log posterior density of theta is the profiled REML criterion up to a
    constant.
    """
    sds: list[tuple[SdPrior, ...]] = []
    joint: list[TermPrior | None] = []
    for term in design.terms:
        c = len(term.effects)
        prior = FlatFactor() if correlated(term) else None
        sds.append((Relative(Flat()),) * c if prior is None else tuple(prior.marginal(k, c) for k in range(c)))
        joint.append(prior)
    lkj = tuple(1.0 if prior is None else 0.5 for prior in joint)
    return Priors(tuple(sds), lkj, Power(-1.0), joint=tuple(joint), at_means=_changes(design))


def correlated(term: RandomTerm) -> bool:
    """Whether a term has a free correlation matrix."""
    return term.structure.basis_free and len(term.effects) > 1


def _same(design: Design, prior: SdPrior) -> tuple[tuple[SdPrior, ...], ...]:
    return tuple((prior,) * len(term.effects) for term in design.terms)


PRESETS: dict[str, Callable[[Design], Priors]] = {
    "default": default_priors,
    "weak": weak_priors,
    "brms": brms_priors,
    "rstanarm": rstanarm_priors,
    "bambi": bambi_priors,
    "pc": pc_priors,
    "boundary_avoiding": boundary_avoiding_priors,
    "flat": flat_priors,
}
