"""Draws of all parameters from a proper prior, and of responses given them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bayeslmm.bayes.at_means import factors_at_zeros, sds_and_correlations
from bayeslmm.bayes.known_sd import KnownSd
from bayeslmm.bayes.prior_families import (
    Exponential,
    Gamma,
    HalfNormal,
    HalfT,
    InverseGammaVariance,
    SdPrior,
    Uniform,
)
from bayeslmm.bayes.priors import Priors, flat_coefficients
from bayeslmm.bayes.term_priors import Chi, Relative
from bayeslmm.design.design import Design, RandomTerm
from bayeslmm.errors import PriorError
from bayeslmm.likelihood.structure import plan
from bayeslmm.residual import NO_PARAMETERS, laws
from bayeslmm.types import FloatArray

# Doubles of responses computed at once.
_CHUNK = 2_000_000
# Accuracy in probability of the numerical inverse of a distribution function.
_RESOLUTION = 1e-10
# Log of the largest ratio to a typical value that is looked at.
_FAR = 300.0


@dataclass(frozen=True)
class PriorDraws:
    """Independent draws from the prior in the user's units, laid out as `CollapsedDraws`.

    Attributes
    ----------
    beta : FloatArray, shape (S, p)
    sigma : FloatArray, shape (S,)
    sds : tuple of FloatArray, each (S, c), or (S, 1) where effects share one
        Terms in the order of the formula.
    corrs : tuple of FloatArray, each (S, c, c)
    b : tuple of FloatArray, each (S, J, c)
        Random effects of every block, in the order of ``cross_products(design).blocks``.
    block_terms : tuple of tuple of int
        Positions in ``design.terms`` of the terms of each block, whose effects are its columns.
    sds_at_mean, corrs_at_mean : tuple of FloatArray
        The same of the effects that the priors are about; those above where these are the user's own.
    lam : FloatArray, shape (S, k), or (k,) where all draws share it
        Parameters of the residual structure.
    """

    beta: FloatArray
    sigma: FloatArray
    sds: tuple[FloatArray, ...]
    corrs: tuple[FloatArray, ...]
    b: tuple[FloatArray, ...]
    block_terms: tuple[tuple[int, ...], ...]
    sds_at_mean: tuple[FloatArray, ...] = ()
    corrs_at_mean: tuple[FloatArray, ...] = ()
    lam: FloatArray = field(default_factory=lambda: NO_PARAMETERS)


def draw_prior(design: Design, priors: Priors, size: int, rng: np.random.Generator) -> PriorDraws:
    """Draw standard deviations, correlations, sigma, beta and random effects from their prior.

    Parameters
    ----------
    design : Design
    priors : Priors
        Proper in every parameter.
    size : int
        S, the number of draws.
    rng : numpy.random.Generator

    Returns
    -------
    PriorDraws

    Raises
    ------
    PriorError
        A prior is improper, so that there is nothing to draw from.

    References
    ----------
    Lewandowski, Kurowicka & Joe (2009), J. Multivariate Analysis 100, 1989-2001, for the LKJ distribution by partial
    correlations.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> from bayeslmm.bayes.default_priors import resolve_priors
    >>> design = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).design
    >>> drawn = draw_prior(design, resolve_priors(design, "weak"), 100, np.random.default_rng(1))
    >>> drawn.beta.shape, drawn.sds[0].shape, drawn.b[0].shape
    ((100, 1), (100, 1), (100, 6, 1))
    """
    check_proper(design, priors)
    sigma = draw_sd(priors.sigma, size, rng)
    sds, corrs, roots = [], [], []
    for k, term in enumerate(design.terms):
        values = _term_sds(term, priors, k, sigma, rng)
        root = _correlation_root(term, priors, k, size, rng)
        sds.append(values)
        corrs.append(root @ np.swapaxes(root, -1, -2))
        roots.append(values[:, :, None] * root)
    own, own_corrs, roots = tuple(sds), tuple(corrs), factors_at_zeros(priors.changes, roots)
    for k, change in enumerate(priors.changes):
        if change is not None:
            sds[k], corrs[k] = sds_and_correlations(roots[k])
    beta = np.zeros((size, design.p))
    if priors.beta is not None:
        prior = priors.beta
        sd = np.where(prior.proper, prior.sd, 0.0)
        beta = prior.coefficients(prior.mean + sd * rng.standard_normal((size, design.p)))
    for j, heavy in priors.heavy:
        beta[:, j] = heavy.location + heavy.scale * rng.standard_t(heavy.df, size)
    blocks = block_terms(design)
    b = tuple(_effects(design, terms, roots, rng) for terms in blocks)
    lam = laws.draw(priors.residual, size, rng)
    return PriorDraws(beta, sigma, tuple(sds), tuple(corrs), b, blocks, own, own_corrs, lam)


def check_proper(design: Design, priors: Priors) -> None:
    """Refuse priors that cannot be drawn from.

    Raises
    ------
    PriorError
    """
    wrong = [] if priors.sigma.proper else [f"sigma ~ {priors.sigma}"]
    for term, sds, joint in zip(design.terms, priors.sds, priors.joints, strict=True):
        if joint is not None:
            wrong += [] if joint.proper else [f"sds and correlations of {term.label} ~ {joint}"]
            continue
        wrong += [
            f"sd_{term.group}[{e}] ~ {prior}" for e, prior in zip(term.effects, sds, strict=True) if not prior.proper
        ]
    flat = flat_coefficients(priors, design.p)
    wrong += [f"beta[{name}] ~ flat" for name, is_flat in zip(design.fixed_names, flat, strict=True) if is_flat]
    if wrong:
        shown = ", ".join(wrong[:6]) + (f", ... ({len(wrong)} in all)" if len(wrong) > 6 else "")
        raise PriorError(
            f"This prior cannot be drawn from: it is improper, its density does not integrate to one ({shown}). "
            "Use priors='weak', which gives the fixed effects proper normal priors and keeps the half-t priors of the "
            "standard deviations, or give each of these a proper prior."
        )


def draw_sd(prior: SdPrior, size: int, rng: np.random.Generator) -> FloatArray:
    """Draws (S,) from a prior of one standard deviation, or of its ratio to sigma where the prior is of that.

    Families known to SciPy are drawn by it; any other proper density by numerical inversion of its distribution
    function.

    Parameters
    ----------
    prior : SdPrior
    size : int
    rng : numpy.random.Generator

    Raises
    ------
    PriorError
        The prior is improper.
    """
    from scipy import stats

    match prior:
        case KnownSd(value=value):
            return np.full(size, value)
        case HalfT(df=df, scale=scale):
            return np.abs(stats.t.rvs(df, scale=scale, size=size, random_state=rng))
        case HalfNormal(scale=scale):
            return np.asarray(stats.halfnorm.rvs(scale=scale, size=size, random_state=rng))
        case Exponential(mean=mean):
            return np.asarray(stats.expon.rvs(scale=mean, size=size, random_state=rng))
        case Gamma(shape=shape, rate=rate) if rate > 0:
            return np.asarray(stats.gamma.rvs(shape, scale=1.0 / rate, size=size, random_state=rng))
        case Chi(df=df, scale=scale):
            return np.asarray(stats.chi.rvs(df, scale=scale, size=size, random_state=rng))
        case Relative(prior=ratio):
            return draw_sd(ratio, size, rng)
        case Uniform(upper=upper):
            return rng.uniform(0.0, upper, size)
        case InverseGammaVariance(shape=shape, rate=rate):
            return np.sqrt(stats.invgamma.rvs(shape, scale=rate, size=size, random_state=rng))
    return _by_inversion(prior, size, rng)


def _by_inversion(prior: SdPrior, size: int, rng: np.random.Generator) -> FloatArray:
    """Inversion of the distribution function of x = log(s / c): light tails whatever those of s."""
    from scipy.stats.sampling import NumericalInversePolynomial

    if not prior.proper:
        raise PriorError(f"The prior {prior} is improper: it cannot be drawn from. Give a proper one.")
    scale = _typical(prior)

    class Density:
        def pdf(self, x: float) -> float:
            if abs(x) > _FAR:
                return 0.0
            with np.errstate(all="ignore"):
                value = prior.log_density(np.asarray(scale * np.exp(x))) + x
            return float(np.exp(value)) if np.isfinite(value) else 0.0

    density: Any = Density()
    generator = NumericalInversePolynomial(density, center=0.0, u_resolution=_RESOLUTION, random_state=rng)
    return np.asarray(scale * np.exp(generator.rvs(size)))


def _typical(prior: SdPrior) -> float:
    """Where the density of log s is largest, roughly."""
    s = np.geomspace(1e-12, 1e12, 2401)
    with np.errstate(all="ignore"):
        mass = prior.log_density(s) + np.log(s)
    return float(s[np.argmax(np.where(np.isnan(mass), -np.inf, mass))])


def _term_sds(
    term: RandomTerm, priors: Priors, position: int, sigma: FloatArray, rng: np.random.Generator
) -> FloatArray:
    """Standard deviations (S, c) of one term, or (S, 1) where its effects share one."""
    size, joint = sigma.size, priors.joints[position]
    if joint is not None:
        if not hasattr(joint, "draw"):
            raise PriorError(f"The prior {joint} of {term.label} has no way to draw from it. Give another one.")
        return np.asarray(sigma[:, None] * joint.draw(len(term.effects), size, rng))
    own = priors.sds[position][: len(term.structure.sd_effects)]
    values = [draw_sd(prior, size, rng) * (sigma if prior.relative else 1.0) for prior in own]
    return np.stack(values, axis=1)


def draw_term_sds(design: Design, priors: Priors, position: int, size: int, rng: np.random.Generator) -> FloatArray:
    """Draws (S, c) of the sds of one term at the zeros of its columns, from proper priors of these and of sigma."""
    term, change = design.terms[position], priors.changes[position]
    sds = _term_sds(term, priors, position, draw_sd(priors.sigma, size, rng), rng)
    root = sds[:, :, None] * _correlation_root(term, priors, position, size, rng)
    return np.sqrt(((root if change is None else change.matrix @ root) ** 2).sum(axis=-1))


def _correlation_root(
    term: RandomTerm, priors: Priors, position: int, size: int, rng: np.random.Generator
) -> FloatArray:
    """Square roots (S, c, c) of correlation matrices drawn from the prior of a term."""
    shapes = priors.shapes(position, term.structure)
    z = np.array([2.0 * rng.beta(shape, shape, size) - 1.0 for shape in shapes]).reshape(-1, size).T
    return term.structure.partial_root(z, 1.0 - z**2)


def block_terms(design: Design) -> tuple[tuple[int, ...], ...]:
    """Positions of the terms of every block, in the order of ``cross_products(design).blocks``."""
    if not design.terms:
        return ()
    groupings = list(design.groupings.values())
    terms = [tuple(i for i, term in enumerate(design.terms) if term.group == g.name) for g in groupings]
    sizes = [
        g.n_levels * sum(len(design.terms[i].effects) for i in own) for g, own in zip(groupings, terms, strict=True)
    ]
    return tuple(terms[i] for i in plan(groupings, sizes, design.store).order)


def _effects(design: Design, terms: tuple[int, ...], roots: list[FloatArray], rng: np.random.Generator) -> FloatArray:
    levels = design.groupings[design.terms[terms[0]].group].n_levels
    parts = []
    for k in terms:
        size, c = roots[k].shape[:2]
        z = rng.standard_normal((size, levels, c))
        parts.append(z @ np.swapaxes(roots[k], -1, -2))
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)


def simulate_response(design: Design, draws: PriorDraws, rng: np.random.Generator) -> FloatArray:
    """One response per draw, shape (S, n): an observation for every row of the design (for one copy of each row).

    Parameters
    ----------
    design : Design
    draws : PriorDraws
        Anything with its attributes.
    rng : numpy.random.Generator
    """
    out = np.empty((draws.sigma.size, design.n))
    for part, values in simulate_in_chunks(design, draws, rng):
        out[part] = values
    return out


def simulate_in_chunks(
    design: Design, draws: PriorDraws, rng: np.random.Generator
) -> Iterator[tuple[slice, FloatArray]]:
    """Slices of the draws and their responses (k, n), never more than a few million numbers at once."""
    step = max(1, _CHUNK // design.n)
    for start in range(0, draws.sigma.size, step):
        part = slice(start, min(start + step, draws.sigma.size))
        mean = _mean(design, draws, part)
        noise = draws.sigma[part, None] * rng.standard_normal(mean.shape)
        lam = draws.lam if draws.lam.ndim == 1 else draws.lam[part]
        yield part, mean + design.residual.color(lam, noise[..., None])[..., 0]


def _mean(design: Design, draws: PriorDraws, part: slice) -> FloatArray:
    mean = draws.beta[part] @ design.X.T
    if design.offset is not None:
        mean += design.offset
    for terms, b in zip(draws.block_terms, draws.b, strict=True):
        codes = design.groupings[design.terms[terms[0]].group].codes
        Z = np.concatenate([design.terms[k].Z for k in terms], axis=1)
        for k in range(Z.shape[1]):
            mean += Z[:, k] * b[part, :, k][:, codes]
    return np.asarray(mean)
