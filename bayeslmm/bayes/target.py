"""The collapsed posterior: beta and the random effects integrated out exactly, sigma on a line.

At a point of relative factors the likelihood as a function of sigma is known in closed form (two numbers),
so the integral over sigma costs no further elimination; what is left are the relative sds and correlations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from bayeslmm.bayes.at_means import AtMeans, design_at_means, factors_at_means, products_at_means
from bayeslmm.bayes.coefficient_priors import check_integrable
from bayeslmm.bayes.coordinates import TermCoordinates
from bayeslmm.bayes.prior_families import InverseGammaVariance, SdPrior
from bayeslmm.bayes.prior_slopes import upper_end
from bayeslmm.bayes.priors import Priors
from bayeslmm.bayes.sigma_line import Lines, Places, at_one_place, integrate_lines
from bayeslmm.bayes.term_priors import Relative
from bayeslmm.errors import PriorError
from bayeslmm.likelihood import (
    Factor,
    SummedDesign,
    evaluate,
    minus_two_log_density_normal,
)
from bayeslmm.likelihood import parameters as par
from bayeslmm.likelihood.level_grams import term_gram
from bayeslmm.likelihood.normal_prior import rotate
from bayeslmm.likelihood.patterns import PatternSums
from bayeslmm.likelihood.residual_products import PointSums, ResidualProducts, residual_products
from bayeslmm.likelihood.rotation import Rotation
from bayeslmm.residual import laws
from bayeslmm.types import BoolArray, FloatArray, IntArray

# Relative sds, on orthogonalised columns and in units of their scale, from which on a point has no density.
_LARGE, _ABOVE = 1e6, 1e3
# Scale of a coordinate in units of the prior's first decile: 1 to 1.3 times the scale of a half-normal or half-t, where
# their densities are smooth in x. Little changes for the default priors, whose scale is that of the response.
_NARROW = 8.0
# Residual sds below this share of the spread of the response are rounding.
_ROUNDING = 1e-14
# Ratio of the residual sd to what its prior makes of it from which on one of the two is lost to rounding.
_CONFLICT = 1e5
# Medians of priors beside the residual sd whose squares are numbers, and the narrowest prior, relative to its median,
# that is more than a few floating-point numbers wide.
_SMALLEST, _NARROWEST = 1e-140, 1e-13
# First permille of a prior over its median from which on zero is out of the question.
_ABOUT = 0.3
# Shapes of correlations, and prior sds, from which on and to which a start is drawn to the prior.
_TIGHT, _START_SDS = 10.0, 3.0
# Doubles of Cholesky factors that are kept to be used again.
_KEPT = 10_000_000


@dataclass(frozen=True)
class Points:
    """K points of the collapsed posterior.

    Attributes
    ----------
    x : FloatArray, shape (K, d)
    log_density : FloatArray, shape (K,)
        log p(x, y): sigma, beta and the random effects integrated out; normalised but for flat priors.
    log_sigma : FloatArray, shape (K, S)
        Nodes at each point.
    log_joint : FloatArray, shape (K, S)
        Log density of x, y and the place on the line of log sigma, at the nodes.
    lines : Lines
        The lines themselves.
    factor : Factor or None
        The eliminations, where they were kept.
    """

    x: FloatArray
    log_density: FloatArray
    log_sigma: FloatArray
    log_joint: FloatArray
    lines: Lines
    factor: Factor | None = None


@dataclass(frozen=True)
class Target:
    """Log posterior density of a model on the unconstrained coordinates.

    Attributes
    ----------
    cp : SummedDesign
    priors : Priors
    coordinates : tuple of TermCoordinates
        Terms in the order of the formula.
    changes : tuple of AtMeans or None
        For every term the effects that `cp`, `priors` and `coordinates` are about, where not the user's own.
    sums : PatternSums or PointSums or None
        What is evaluated where residuals have k parameters; these are the last k coordinates.
    held : FloatArray or None, shape (k,)
        Values of residual parameters that are no coordinates; nan of those that are.
    """

    cp: SummedDesign
    priors: Priors
    coordinates: tuple[TermCoordinates, ...]
    changes: tuple[AtMeans | None, ...] = field(default=(), kw_only=True)
    sums: PatternSums | PointSums | None = field(default=None, kw_only=True)
    held: FloatArray | None = field(default=None, kw_only=True)

    @cached_property
    def n_effects(self) -> int:
        """Number of relative sds and correlations of random effects."""
        return sum(c.dimension for c in self.coordinates)

    @cached_property
    def dimension(self) -> int:
        """d, the number of relative sds and correlations, and of residual parameters."""
        free = len(self.priors.residual) if self.held is None else np.isnan(self.held).sum()
        return self.n_effects + int(free)

    @cached_property
    def folded(self) -> BoolArray:
        """Mask (d,) of the coordinates in which the density is even."""
        effects = [f for c in self.coordinates for f in c.folded]
        return np.array([*effects, *([False] * (self.dimension - self.n_effects))], dtype=bool)

    def lam(self, x: FloatArray) -> FloatArray:
        """Residual parameters (..., k) on their scales without bounds."""
        own = x[..., self.n_effects :]
        if self.held is None:
            return own
        lam = np.broadcast_to(self.held, (*own.shape[:-1], self.held.size)).copy()
        lam[..., np.isnan(self.held)] = own
        return lam

    def terms(self, x: FloatArray) -> tuple[list[FloatArray], list[FloatArray], FloatArray]:
        """Relative factors (K, c, c), relative sds (K, c or 1) of every term; log priors plus log Jacobians (K,).

        The priors are those of correlations and residual parameters.
        """
        factors, sds, position = [], [], 0
        total = laws.log_density(self.priors.residual, self.lam(x))
        for coordinates in self.coordinates:
            part = x[:, position : position + coordinates.dimension]
            t, log_slope = coordinates.sds(part)
            L, log_density = coordinates.correlation_factor(part)
            factors.append(t[:, :, None] * L)
            sds.append(t)
            total = total + log_slope + log_density
            position += coordinates.dimension
        return factors, sds, total

    def evaluate(self, x: FloatArray, keep: bool = False) -> Points:
        """Integrate sigma out at K points; `keep` the eliminations for draws there."""
        # Far out, relative sds overflow and the density is nan: zero, as it is there to rounding.
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            factors, sds, _ = self.terms(x)
            beyond = self._beyond(factors, sds)
            place = x
            if beyond.any():
                place = np.where(beyond[:, None], 0.0, x)
                factors = self.terms(place)[0]
            factor = self.factor(place, factors)
        points = self.evaluate_with(place, factor, keep)
        if not beyond.any():
            return points
        density = np.where(beyond, -np.inf, points.log_density)
        return replace(points, x=x, log_density=density, log_joint=np.where(beyond[:, None], -np.inf, points.log_joint))

    def _beyond(self, factors: Sequence[FloatArray], sds: Sequence[FloatArray]) -> BoolArray:
        """Mask (K,) of points with effects so large, beside noise and scale, that they have no density.

        There the elimination fails, and one such point would be the end of the batch.
        """
        if not factors:
            return np.zeros(1, dtype=bool)
        internal = par.block_factors(self.cp, factors)
        large = np.any([~(np.abs(T).max(axis=(1, 2), initial=0.0) <= _LARGE) for T in internal], axis=0)
        pairs = zip(sds, self.coordinates, strict=True)
        above = np.any([~(t <= _ABOVE * c.scale * c.ratio).all(axis=1) for t, c in pairs], axis=0)
        return np.asarray(large & above)

    def evaluate_with(self, x: FloatArray, factor: Factor, keep: bool = False) -> Points:
        """The same with eliminations that were made before."""
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            _, sds, log_jacobian = self.terms(x)
            rotation = None if self.priors.beta is None else rotate(self.cp, factor, self.priors.beta)

            def integrand(log_sigma: FloatArray, rows: IntArray | None) -> FloatArray:
                if rows is None:
                    return self.log_joint(factor, sds, log_jacobian, log_sigma, rotation)
                some = None if rotation is None else rotation.take(rows)
                return self.log_joint(factor.take(rows), [t[rows] for t in sds], log_jacobian[rows], log_sigma, some)

            known = self.priors.known_log_sigma
            if known is None:
                places = self._places(factor, sds, rotation)
                found = integrate_lines(integrand, float(self.cp.n - self.cp.p), places)
            else:
                found = at_one_place(integrand, known, x.shape[0])
            lines, log_sigma, log_joint, log_density = found
        kept = factor if keep and factor.chol.size <= _KEPT else None
        return Points(x, log_density, log_sigma, log_joint, lines, kept)

    def factor(self, x: FloatArray, factors: Sequence[FloatArray]) -> Factor:
        """Eliminate at K points x with relative factors (K, c, c) on the user's columns."""
        if self.sums is not None:
            return self.sums.evaluate(factors, self.lam(x), self.cp.log_weights)
        return self.cp.sums.evaluate_many(par.block_factors(self.cp, factors))

    def log_joint(
        self,
        factor: Factor,
        sds: Sequence[FloatArray],
        log_jacobian: FloatArray,
        log_sigma: FloatArray,
        rotation: Rotation | None = None,
    ) -> FloatArray:
        """Log p(x, log sigma, y) at S values of log sigma for each of K points, shape (K, S)."""
        log_p = -0.5 * minus_two_log_density_normal(self.cp, factor, np.exp(log_sigma), self.priors.beta, rotation)
        return log_p + self.log_prior(sds, log_jacobian, log_sigma)

    def log_prior(self, sds: Sequence[FloatArray], log_jacobian: FloatArray, log_sigma: FloatArray) -> FloatArray:
        """Log p(x, log sigma) at S values of log sigma for each of K points, shape (K, S)."""
        sigma = np.exp(log_sigma)
        own = log_jacobian[:, None] + self.priors.log_density_sigma(log_sigma)
        return np.asarray(own + self.priors.log_density_relative(sds, sigma))

    def _places(self, factor: Factor, sds: Sequence[FloatArray], rotation: Rotation | None) -> Places:
        """What is known of the integrands in log sigma: where the likelihood is, and where a uniform prior ends."""
        nu = float(self.cp.n - self.cp.p)
        centre = reach = 0.5 * np.log(np.fmax(factor.r2, 1e-300) / nu)
        width = 1.0 / np.sqrt(2.0 * nu)
        if rotation is not None:
            # With all coefficients at their prior means the residuals are as large as they can become.
            proper = np.where(rotation.eigenvalues > 0, rotation.distance**2, 0.0).sum(1)
            reach = 0.5 * np.log(np.fmax(factor.r2 + proper, 1e-300) / nu)
            width = 1.0 / np.sqrt(2.0 * (nu + self.cp.p))
        wall = np.full(centre.shape, np.log(upper_end(self.priors.sigma)))
        for own, joint, t in zip(self.priors.sds, self.priors.joints, sds, strict=True):
            for k in range(t.shape[1] if joint is None else 0):
                if not own[k].relative and np.isfinite(end := upper_end(own[k])):
                    wall = np.minimum(wall, np.log(end) - np.log(t[:, k]))
        return Places(centre, reach, wall, width)


def make_target(
    cp: SummedDesign, priors: Priors, relative_terms: Sequence[FloatArray], *, smooth: bool = True
) -> tuple[Target, FloatArray]:
    """Target with coordinates scaled to the data, and a start.

    Parameters
    ----------
    cp : SummedDesign
    priors : Priors
    relative_terms : sequence of FloatArray, each (c, c)
        A fit (REML) on the user's columns; gives the scales and the start.
    smooth : bool
        Whether a density with a kink or a zero at sd = 0 has to be smooth on the coordinates (as quadrature needs), for
        which it pays with a long tail of log sd; or only has to be well covered by a folded proposal.

    Returns
    -------
    Target
        Its effects are those that the priors are about: at the means of columns where `priors.at_means` says so.
    FloatArray, shape (d,)
        Coordinates of the fit, moved to where narrow priors are.

    Raises
    ------
    PriorError
        The prior of sigma is orders of magnitude from the residuals.
    """
    if isinstance(cp, ResidualProducts):
        return _with_residuals(cp, priors, relative_terms, smooth)
    check_integrable(cp.design.fixed_names, priors.heavy, "This", "Use bl.Normal(mean, sd) in its place.")
    coordinates: list[TermCoordinates] = []
    folded = priors.even if smooth else _bounded_at_zero(priors)
    terms = factors_at_means(priors.changes, relative_terms)
    changes, cp, priors = priors.changes, products_at_means(cp, priors.changes), replace(priors, at_means=())
    sigma = _residual_sd(cp, priors, terms) if cp.sigma is None else cp.sigma
    _check_priors(cp, priors, sigma)
    for k, (term, T, even) in enumerate(zip(cp.design.terms, terms, folded, strict=True)):
        fitted = np.sqrt((T**2).sum(-1))
        owners = term.structure.sd_effects
        wide = np.hypot(fitted[[own[0] for own in owners]], resolution(cp, k))
        scale, ratio = _scales(wide, priors.sds[k][: len(owners)], even[: len(owners)], sigma)
        shapes = priors.shapes(k, term.structure)
        coordinates.append(TermCoordinates(term.structure, even[: len(owners)], scale, shapes, ratio))
    target = Target(cp, priors, tuple(coordinates), changes=changes)
    fitted_at = [c.inverse(T) for c, T in zip(coordinates, terms, strict=True)]
    start = [
        _towards_prior(c, own if joint is None else (), sigma, at)
        for c, own, joint, at in zip(coordinates, priors.sds, priors.joints, fitted_at, strict=True)
    ]
    nothing = np.empty(0)
    return target, _somewhere(target, np.concatenate([nothing, *start]), np.concatenate([nothing, *fitted_at]))


def _with_residuals(
    cp: ResidualProducts, priors: Priors, relative_terms: Sequence[FloatArray], smooth: bool
) -> tuple[Target, FloatArray]:
    """The same where residuals have parameters: what is made at those of the fit, with these as further coordinates."""
    at, start = make_target(cp.whitened, replace(priors, residual=()), relative_terms, smooth=smooth)
    own = residual_products(design_at_means(cp.design, at.changes), cp.lam)
    sums = own.sums_at_points(factors_at_means(at.changes, relative_terms))
    priors = replace(at.priors, residual=priors.residual)
    # Estimates of few data may be at correlations of one, from where no slope leads back.
    low, high = np.reshape([law.bulk for law in priors.residual], (-1, 2)).T
    return replace(at, cp=own, priors=priors, sums=sums), np.concatenate([start, np.clip(cp.lam, low, high)])


def _check_priors(cp: SummedDesign, priors: Priors, sigma: float) -> None:
    """Refuse priors that double precision cannot hold: a point, or sds whose squares are zero or infinite.

    Raises
    ------
    PriorError
    """
    named = [("sigma", priors.sigma)]
    for term, own, joint in zip(cp.design.terms, priors.sds, priors.joints, strict=True):
        named += [(f"sd_{term.group}[{e}]", p) for e, p in zip(term.effects, own, strict=True) if joint is None]
    for name, prior in named:
        if not prior.proper:
            continue
        if name == "sigma" and cp.sigma is not None:
            continue
        low, median, high = (prior.quantile(p) for p in (0.1, 0.5, 0.9))
        # Of sigma only the likelihood's own place matters.
        share = median / (sigma if np.isfinite(sigma) and not prior.relative else 1.0)
        if name != "sigma" and not share > _SMALLEST:
            raise PriorError(
                f"The prior of {name} is {prior}, whose median is {median:.3g}: {share:.3g} residual standard "
                "deviations, whose square is not a number in double precision. If it is to be zero, leave the effect "
                "out of the formula; else give a prior on the scale of the response."
            )
        if high - low < _NARROWEST * median:
            raise PriorError(
                f"The prior of {name} is {prior}, which is narrower than {_NARROWEST:g} of its median {median:.6g}: "
                "only a few floating-point numbers wide. A relative width of 1e-8 says as much."
            )


def _somewhere(target: Target, start: FloatArray, fitted_at: FloatArray) -> FloatArray:
    """The start, or the fit where nothing is left of the likelihood at the start: a wide prior far from the data."""
    moved = start.size and not np.array_equal(start, fitted_at)
    if moved and not np.isfinite(target.evaluate(start[None]).log_density[0]):
        return fitted_at
    return start


def _towards_prior(own: TermCoordinates, priors: Sequence[SdPrior], sigma: float, start: FloatArray) -> FloatArray:
    """The start moved to where narrow priors are, which the way from the likelihood might not lead to."""
    start = start.copy()
    for k, prior in enumerate(priors[: own.size]):
        unit = 1.0 if prior.relative else sigma
        if not prior.proper or not np.isfinite(unit):
            continue
        outer = 1e-3 if away_from_zero(prior) else 1e-6
        low, high = prior.quantile(outer) / unit, prior.quantile(1.0 - outer) / unit
        if own.even[k]:
            start[k] = min(start[k], np.arcsinh(high / own.scale[k]))
        else:
            start[k] = np.clip(start[k], np.log(max(low, 1e-300)), np.log(max(high, 1e-300)))
    shapes = own.shapes
    reach = np.where(shapes > _TIGHT, _START_SDS / np.sqrt(2.0 * np.maximum(shapes, _TIGHT)), np.inf)
    start[own.size :] = np.clip(start[own.size :], -reach, reach)
    return start


def _residual_sd(cp: SummedDesign, priors: Priors, terms: Sequence[FloatArray]) -> float:
    """Where sigma is at a fit under its prior, nan where that is rounding.

    Raises
    ------
    PriorError
        The prior is so far from the residuals that nothing is left of one of them in double precision.
    """
    factor = evaluate(cp, par.block_factors(cp, [T[None] for T in terms]))
    target = Target(cp, replace(priors, sds=(), lkj=(), joint=()), ())
    with np.errstate(over="ignore"):
        points = target.evaluate_with(np.zeros((1, 0)), factor)
    sigma = float(np.sqrt(max(float(factor.r2[0]), 1e-300) / (cp.n - cp.p)))
    if sigma <= _ROUNDING * cp.response.spread:
        return float("nan")
    found = float(np.exp(points.log_sigma[0, np.argmax(points.log_joint[0])]))
    if np.isfinite(points.log_density[0]) and 1.0 / _CONFLICT <= found / sigma <= _CONFLICT:
        return found
    between = f", and what agrees best with both is {found:.3g}" if np.isfinite(points.log_density[0]) else ""
    raise PriorError(
        f"The prior of sigma is {priors.sigma}, but the residual standard deviation is about {sigma:.3g}{between}: "
        f"they contradict each other by a factor of more than {_CONFLICT:g}, which leaves nothing of the data in "
        "double precision. Give sigma a prior on the scale of the residuals, in the units of the response, or check "
        "these units."
    )


def _scales(
    wide: FloatArray, priors: Sequence[SdPrior], even: Sequence[bool], sigma: float
) -> tuple[FloatArray, FloatArray]:
    """Scales c of the sinh coordinates, and those of the likelihood over them.

    Much below c the coordinate is linear, and a prior that lives there is a spike no grid resolves. With c of the size
    of the prior the way up to the likelihood is logarithmic, as smooth as the tail of the prior.
    """
    narrow = wide.copy()
    for k, (prior, folded) in enumerate(zip(priors, even, strict=True)):
        if not (folded and prior.proper):
            continue
        near = _NARROW * prior.quantile(0.1) / (1.0 if prior.relative else sigma)
        if np.isfinite(near) and near > 0:
            narrow[k] = min(wide[k], near)
    with np.errstate(invalid="ignore"):
        return narrow, wide / narrow


def _bounded_at_zero(priors: Priors) -> tuple[tuple[bool, ...], ...]:
    """Per term and sd, whether the prior density is bounded near zero and does not live on many decades there."""
    zero = np.zeros(1)
    return tuple(
        tuple(
            not _over_decades(prior) and not away_from_zero(prior) and bool(prior.log_density(zero)[0] < np.inf)
            for prior in sds
        )
        for sds in priors.sds
    )


def away_from_zero(prior: SdPrior) -> bool:
    """Whether the prior says that the sd is about so much: on the logarithm it is then short on both sides."""
    return prior.proper and not prior.even and prior.quantile(1e-3) > _ABOUT * prior.quantile(0.5)


def _over_decades(prior: SdPrior) -> bool:
    inner = prior.prior if isinstance(prior, Relative) else prior
    return isinstance(inner, InverseGammaVariance)


def resolution(cp: SummedDesign, position: int) -> FloatArray:
    """Relative sds of a term that the data can tell from zero: the information of one level, spread over the levels."""
    design, term = cp.design, cp.design.terms[position]
    levels, owners = design.groupings[term.group].n_levels, term.structure.sd_effects
    if design.facts is None:
        Z = np.stack([np.sqrt((term.Z[:, own] ** 2).sum(1)) for own in owners], axis=1)
        information = (design.whitened(Z) ** 2).sum(0) / levels
    else:
        squares = np.diagonal(term_gram(cp, position))
        information = np.array([squares[list(own)].sum() for own in owners]) / levels
    return np.asarray((2.0 / levels) ** 0.25 / np.sqrt(np.maximum(information, 1e-300)))
