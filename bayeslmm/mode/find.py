"""From priors and an ordinary fit to the mode of the posterior."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from bayeslmm.bayes.at_means import factors_at_means, factors_at_zeros, products_at_means
from bayeslmm.bayes.prior_slopes import at_zero, upper_end
from bayeslmm.bayes.priors import Priors
from bayeslmm.bayes.propriety import check_mode
from bayeslmm.bayes.target import resolution
from bayeslmm.design.covariance import canonical, factor_from_theta
from bayeslmm.likelihood import CrossProducts, Factor, SummedDesign, evaluate
from bayeslmm.likelihood import parameters as par
from bayeslmm.likelihood.density_gradient import density_gradient, with_normal_prior
from bayeslmm.likelihood.rowless import summed_elsewhere
from bayeslmm.mode.coordinates import Coordinates, term_coordinate
from bayeslmm.mode.objective import Objective, stated_sigma
from bayeslmm.mode.optimum import PosteriorMode
from bayeslmm.mode.search import Found, lowest
from bayeslmm.numerics.newton import Ending
from bayeslmm.reml import FitStatus, Optimum, optimise
from bayeslmm.reml.optimum import Vanished, ending_status
from bayeslmm.reml.zeros import NO_RANK
from bayeslmm.types import BoolArray, FloatArray

# Residual sds below this share of the spread of the response are rounding.
_ROUNDING = 1e-10
# Quantiles of a prior between which a start lies.
_LOW, _HIGH = 0.1, 0.9
# Sds each of which is tried at zero as a start, and numbers of parameters of an expensive model that has few starts.
_FEW = 6
# Where angles of correlations are started besides.
_ANGLES = (0.0, 1.0, -1.0)
# Share of the fit's sigma below which there is no residual left, where its prior lets it vanish.
_NO_RESIDUAL = 1e-5
# Curvatures, scaled to a unit diagonal, that show a ridge.
_FLAT = 1e-7


def find_mode(
    cp: SummedDesign,
    priors: Priors,
    reml: bool = True,
    *,
    base: Optimum | None = None,
    fixed: Mapping[int, FloatArray] | None = None,
    max_evaluations: int = 200,
) -> PosteriorMode:
    """The highest point of the posterior density of the variance parameters.

    The density is that of the sds (or of sd / sigma, where a prior is stated on that), the correlation matrices and
    sigma, each as its prior is stated, with the random effects integrated out, and the fixed effects integrated out
    (``reml``) or at their best values. Flat priors give REML, or ML.

    Parameters
    ----------
    cp : SummedDesign
    priors : Priors
    reml : bool
    base : Optimum, optional
        The fit without priors, where it is at hand.
    fixed : mapping, optional
        Position of a term in the design to its theta, which is then not estimated.
    max_evaluations : int
        Iterations of each search.

    Returns
    -------
    PosteriorMode

    Raises
    ------
    PriorError
        The density has no highest point.

    References
    ----------
    Chung, Rabe-Hesketh, Dorie, Gelman & Liu (2013), Psychometrika 78, 685-709, for the idea; Harville (1974) for the
    likelihood with the fixed effects integrated out.
    """
    held = dict(fixed or {})
    check_mode(cp.design, priors, reml, held, summed_elsewhere(cp))
    base = optimise(cp, reml, fixed=held or None) if base is None else base
    objective = make_objective(cp, priors, reml, base, held)
    limits = objective.coordinates.bounds()
    found = lowest(objective, starts(objective, base), limits, objective.coordinates.at_zero(), max_evaluations)
    return _mode(cp, priors, objective, found, base, held)


def make_objective(
    cp: SummedDesign, priors: Priors, reml: bool, base: Optimum, held: Mapping[int, FloatArray]
) -> Objective:
    """The function whose minimum is the mode, with coordinates in units that suit the data."""
    own = products_at_means(cp, priors.changes)
    plain = replace(priors, at_means=())
    sigma = _sigma_unit(cp, base)
    terms = factors_at_means(priors.changes, base.terms)
    coordinates = []
    for k, (term, T) in enumerate(zip(own.design.terms, terms, strict=True)):
        owners = term.structure.sd_effects
        fitted = np.sqrt((T**2).sum(-1))[[effects[0] for effects in owners]]
        unit = np.hypot(fitted, resolution(own, k))
        one = term_coordinate(plain, k, term.structure, unit)
        coordinates.append(replace(one, unit=_units(plain, k, unit * np.where(one.absolute, sigma, 1.0), owners)))
    given = {
        k: factors_at_means(priors.changes[k : k + 1], [factor_from_theta(cp.frame.structures[k], theta)])[0]
        for k, theta in held.items()
    }
    return Objective(
        own,
        plain,
        reml,
        Coordinates(tuple(coordinates), given, sigma, upper_end(plain.sigma), cp.sigma is not None),
        priors.changes,
    )


def _sigma_unit(cp: CrossProducts, base: Optimum) -> float:
    spread = cp.response.spread
    if cp.sigma is not None:
        return cp.sigma
    return base.sigma if base.sigma > _ROUNDING * spread else _ROUNDING * spread


def _units(priors: Priors, k: int, sizes: FloatArray, owners: Sequence[tuple[int, ...]]) -> FloatArray:
    """Sizes (d,) of the sds of a term: those that the data can tell, or that a narrow prior allows."""
    if priors.joints[k] is not None:
        return sizes
    own = [priors.sds[k][effects[0]] for effects in owners]
    typical = np.array([prior.quantile(0.5) if prior.proper else np.inf for prior in own])
    return np.asarray(np.minimum(sizes, typical))


def starts(objective: Objective, base: Optimum) -> list[FloatArray]:
    """Coordinates from which the mode is looked for: the fit, where the priors are, sds at their units and at zero."""
    own = objective.coordinates
    fitted = own.inverse(objective.factors_at_means(base.terms), _sigma_unit(objective.cp, base))
    zeros, scales = own.at_zero(), _scales(own)
    central = _towards(objective, fitted)
    middle = np.where(scales & ~zeros, 0.0, np.where(scales, 1.0, fitted))
    found = [central, _off_zero(central, zeros), fitted]
    if not objective.cp.sums.batched:
        return found[:2]
    found += [np.where(scales | _last(own), middle, angle) for angle in _ANGLES]
    if zeros.any():
        found.append(np.where(zeros, 0.0, central))
        single = np.flatnonzero(zeros)
        if 1 < single.size <= _FEW:
            found += [np.where(np.arange(zeros.size) == i, 0.0, _off_zero(central, zeros)) for i in single]
    return found


def _off_zero(z: FloatArray, zeros: BoolArray) -> FloatArray:
    return np.where(zeros & (z < 0.1), 0.1, z)


def _last(own: Coordinates) -> BoolArray:
    return np.asarray(np.arange(own.size) == own.size - 1)


def _scales(own: Coordinates) -> BoolArray:
    """Mask of the coordinates that are sds."""
    masks = [np.arange(t.size) < t.sds for k, t in enumerate(own.terms) if k not in own.held]
    return np.concatenate([*masks, np.zeros(1, dtype=bool)])


def _towards(objective: Objective, z: FloatArray) -> FloatArray:
    """The fit moved to where the priors are, which the way from the likelihood might not lead to."""
    own, priors, z = objective.coordinates, objective.priors, z.copy()
    if priors.sigma.proper and not own.sigma_known:
        low, high = (np.log(priors.sigma.quantile(p) / own.sigma_unit) for p in (_LOW, _HIGH))
        z[-1] = np.clip(z[-1], low, high)
    for k, (term, part) in enumerate(zip(own.terms, own.parts, strict=True)):
        if k in own.held or priors.joints[k] is not None:
            continue
        for i, effects in enumerate(term.structure.sd_effects):
            prior, at = priors.sds[k][effects[0]], part.start + i
            if prior.proper:
                low, high = (prior.quantile(p) / term.unit[i] for p in (_LOW, _HIGH))
                logged = term.logarithmic[i]
                z[at] = np.clip(z[at], np.log(low) if logged else 0.0, np.log(high) if logged else high)
    return z


def _mode(
    cp: SummedDesign,
    priors: Priors,
    objective: Objective,
    found: Found,
    base: Optimum,
    held: Mapping[int, FloatArray],
) -> PosteriorMode:
    own = objective.coordinates
    sigma = own.sigma(found.x)
    at_zeros = factors_at_zeros(priors.changes, own.factors(own.places(found.x)))
    terms = [canonical(np.asarray(T)[None])[0] for T in at_zeros]
    for k, theta in held.items():
        terms[k] = canonical(factor_from_theta(cp.frame.structures[k], theta)[None])[0]
    internal = par.internal_from_terms(cp, terms)
    factors = tuple(par.internal_factors(cp, internal))
    factor = factor_at_mode(cp, priors, factors, sigma)
    criterion, log_prior = heights(cp, priors, objective.reml, terms, sigma, objective.log_prior(found.x))
    vanished = vanished_at(cp, priors, objective.reml, terms, sigma, held)
    vanishing = cp.sigma is None and at_zero(stated_sigma(priors)) > -np.inf
    lost = not np.isfinite(found.value) or bool(vanishing and found.x[-1] < np.log(_NO_RESIDUAL))
    ridges = base.ridges if base.ridges and _is_flat(found.curvature) else ()
    return PosteriorMode(
        cp=cp,
        reml=objective.reml,
        internal=internal,
        factors=factors,
        terms=tuple(terms),
        theta=par.theta_from_terms(cp, [T[None] for T in terms])[0],
        sigma=sigma,
        criterion=criterion,
        factor=factor,
        vanished=vanished,
        status=_status(found, lost, bool(vanished), bool(ridges)),
        ridges=ridges,
        evaluations=found.evaluations + base.evaluations,
        trace=(),
        fixed=tuple(sorted(held)),
        priors=priors,
        log_prior=log_prior,
    )


def factor_at_mode(cp: CrossProducts, priors: Priors, factors: Sequence[FloatArray], sigma: float) -> Factor:
    """The elimination at the mode, with the normal priors of the fixed effects in it."""
    factor = evaluate(cp, factors)
    if priors.beta is None or not cp.p:
        return factor
    return with_normal_prior(cp, factors, factor, sigma, priors.beta)


def heights(
    cp: CrossProducts, priors: Priors, reml: bool, terms: Sequence[FloatArray], sigma: float, log_prior: float
) -> tuple[float, float]:
    """-2 log likelihood at the estimates, and what priors add to its logarithm.

    A normal prior of the fixed effects counts with the priors: with these at its mean the likelihood falls.
    """
    plain = density_gradient(cp, terms, sigma, reml=reml).value
    if priors.beta is None or not cp.p:
        return plain, log_prior
    whole = density_gradient(cp, terms, sigma, priors.beta, reml=reml).value
    return plain, log_prior - 0.5 * (whole - plain)


def _status(found: Found, lost: bool, singular: bool, on_ridge: bool) -> FitStatus:
    if on_ridge and not lost and found.ending is Ending.converged:
        return FitStatus.not_identified
    return ending_status(found.ending, singular, lost)


def _is_flat(hessian: FloatArray) -> bool:
    """Whether the priors have left a direction of the free coordinates as flat as the data have."""
    scale = np.sqrt(np.maximum(np.diagonal(hessian), np.finfo(float).tiny))
    return bool(np.linalg.eigvalsh(hessian / (scale * scale[:, None])).min(initial=1.0) < _FLAT)


def vanished_at(
    cp: CrossProducts,
    priors: Priors,
    reml: bool,
    terms: Sequence[FloatArray],
    sigma: float,
    held: Collection[int],
) -> tuple[Vanished, ...]:
    """Null directions of every term's covariance, and the slope of -2 log likelihood along their variances."""
    slopes = density_gradient(cp, terms, sigma, priors.beta, reml=reml).covariances
    found = list[Vanished]()
    for k, (structure, T) in enumerate(zip(cp.frame.structures, terms, strict=True)):
        if k in held or not _singular(T):
            continue
        for direction, slope in structure.vanished(structure.coordinates(structure.theta(T)), slopes[k]):
            found.append(Vanished.along(k, direction, slope))
    return tuple(found)


def _singular(T: FloatArray) -> bool:
    s = np.linalg.svd(T, compute_uv=False)
    return bool(s[-1] <= NO_RANK * s[0])
