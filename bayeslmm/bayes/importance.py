"""Importance sampling of the collapsed posterior with an adapted mixture proposal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.special import logsumexp

from bayeslmm.bayes.default_priors import default_priors
from bayeslmm.bayes.prior_families import HalfNormal, SdPrior
from bayeslmm.bayes.proposals import MixtureT, blend, fit_mixture, single
from bayeslmm.bayes.ridges import with_ridges
from bayeslmm.bayes.signed_density import SignedDensity, climb
from bayeslmm.bayes.target import Points, Target, away_from_zero
from bayeslmm.bayes.term_priors import Relative
from bayeslmm.imports import load
from bayeslmm.numerics.differences import trials
from bayeslmm.numerics.newton import minimise
from bayeslmm.numerics.resample import kish, normalised
from bayeslmm.types import FloatArray

# Points of a round: few parameters need few.
_PILOT = {True: 1000, False: 1500}
_FEW = 4
_DEFENSIVE = 0.1
# Rounds of adaptation, and the efficiency that makes a further one pointless.
_ROUNDS = 6
_GOOD, _BEST = 0.8, 0.85
_FAIR = 0.5
_COMPONENTS = 3
# Dimensions beyond which a mixture has more entries than points can tell; degrees of freedom of what is tried there,
# and its points.
_MANY, _TAILS, _POINTS_EACH = 20, (5.0, 25.0, 125.0), 30
# How much less likely the image of a mode may be to get a hump of its own.
_IMAGE = 8.0
# Of a half-normal with scale 1.
_MEDIAN = 0.6745
# A peak with a curvature above the inverse square of this is narrow for differences on the coordinates themselves;
# passes that make it round.
_NARROWEST, _PASSES = 1e-3, 6
# Minus log density where there is none; its second differences must not overflow.
_NOWHERE = 1e100


@dataclass(frozen=True)
class Weighted:
    """Points with importance weights.

    Attributes
    ----------
    points : Points
    log_weights : FloatArray, shape (K,)
        log p(x, y) - log q(x).
    """

    points: Points
    log_weights: FloatArray

    @property
    def log_evidence(self) -> float:
        """Log of the mean weight."""
        top = self.log_weights.max()
        return float(top + np.log(np.mean(np.exp(self.log_weights - top))))

    @cached_property
    def weights(self) -> FloatArray:
        """Normalised to sum to one."""
        return normalised(self.log_weights)

    @property
    def efficiency(self) -> float:
        """Kish's effective size over the number of points."""
        return kish(self.weights) / self.weights.size

    @property
    def largest_weight(self) -> float:
        """In units of the mean weight."""
        return float(self.weights.max() * self.weights.size)

    @property
    def pareto_k(self) -> float:
        """Shape of the upper tail of the weights; -inf where they are all but equal."""
        load("arviz_stats")
        from arviz_stats.base import array_stats

        if np.ptp(self.log_weights) < 1e-12:
            return float("-inf")
        # ArviZ takes the log likelihood ratio of a leave-one-out weight: minus our log weight.
        return float(array_stats.psislw(-self.log_weights)[1])


def importance_points(target: Target, start: FloatArray, size: int, rng: np.random.Generator) -> Weighted:
    """Weighted points whose Kish effective size is about `size`; see `two_samples`."""
    return two_samples(target, start, size, rng)[0]


def two_samples(target: Target, start: FloatArray, size: int, rng: np.random.Generator) -> tuple[Weighted, Weighted]:
    """Weighted points whose Kish effective size is about `size`, and those of a first proposal, to compare with.

    A t at the mode, then mixtures fitted to the weighted points of all rounds before, then one final sample; adapted
    rounds are not used for the result, so that the weights of the final one are independent.

    Parameters
    ----------
    target : Target
    start : FloatArray, shape (d,)
        Near the mode (the REML fit).
    size : int
    rng : numpy.random.Generator

    References
    ----------
    Vehtari, Simpson, Gelman, Yao & Gabry (2024), JMLR 25(72), for the diagnostic; Cappe, Douc, Guillin, Marin
    & Robert (2008), Statistics and Computing 18, for adaptive mixtures; Cornuet, Marin, Mira & Robert (2012),
    Scandinavian J. of Statistics 39, for weights over all rounds.
    """
    rounds = _few(target, start, size, rng) if target.dimension <= _MANY else _many(target, start, rng)
    best = max(rounds, key=lambda r: r.sample.efficiency)
    # Some spare points, so that resampling repeats few of them.
    final = int(np.ceil(size * min(max(1.0 / best.sample.efficiency, 1.0) * 1.1, 6.0)))
    return draw(target, best.proposal, final, rng, keep=True), rounds[0].sample


@dataclass(frozen=True)
class Round:
    """One proposal and the points drawn from it."""

    proposal: MixtureT
    sample: Weighted


def _few(target: Target, start: FloatArray, size: int, rng: np.random.Generator) -> list[Round]:
    """Rounds of mixtures that adapt to all that was seen before, as long as one pays for its points.

    A further one pays if the best to be hoped for would save more points of the final sample.
    """
    pilot = with_ridges(target, laplace(target, start))
    count = _PILOT[target.dimension <= _FEW]
    rounds = [Round(pilot, draw(target, pilot, count, rng))]
    table = np.zeros((0, 0))
    for _ in range(_ROUNDS):
        efficiency = rounds[-1].sample.efficiency
        pays = len(rounds) == 1 or size * (1.0 / efficiency - 1.0 / _BEST) > count
        if efficiency > _GOOD or not pays or _settled(rounds):
            break
        table = _extend(table, rounds)
        proposal = blend(_adapt(target, rounds, table, rng), pilot, _DEFENSIVE)
        rounds.append(Round(proposal, draw(target, proposal, count, rng)))
    return rounds


def _many(target: Target, start: FloatArray, rng: np.random.Generator) -> list[Round]:
    """Rounds of single t distributions, whose tails have to be right where points of many dimensions lie.

    Their radius is what differs: that of a normal density hardly varies, that of a t with few degrees of freedom does.
    Where none is good enough, mean and covariance follow the points of all rounds.
    """
    density = SignedDensity(_with_smooth_priors(target))
    z = start if target.priors.sigma_known else np.append(start, density.log_sigma(start))
    mode, root = climb(density, z)
    d = target.dimension
    mean, root = np.where(target.folded, np.abs(mode[:d]), mode[:d]), root[:d]
    count, rounds = max(_PILOT[False], _POINTS_EACH * d), list[Round]()
    table = np.zeros((0, 0))
    for df in _TAILS:
        proposal = single(mean, root, df, target.folded)
        rounds.append(Round(proposal, draw(target, proposal, count, rng)))
        table = _extend(table, rounds)
    for _ in range(_ROUNDS + 1):
        best = max(rounds, key=lambda r: r.sample.efficiency)
        if best.sample.efficiency > _FAIR or _settled(rounds):
            break
        proposal = replace(_adapt(target, rounds, table, rng, 1), df=best.proposal.df)
        rounds.append(Round(proposal, draw(target, proposal, count, rng)))
        table = _extend(table, rounds)
    return rounds


def _settled(rounds: Sequence[Round]) -> bool:
    """Whether a further round is not worth its evaluations."""
    if len(rounds) < 2 or rounds[-1].sample.efficiency < _FAIR:
        return False
    return rounds[-1].sample.efficiency < 1.05 * rounds[-2].sample.efficiency


def laplace(target: Target, start: FloatArray) -> MixtureT:
    """A t at the mode with the curvature there.

    Where a prior has a kink or a zero at sd = 0 that is the mode under the default priors, which have neither, or under
    half-normals where priors are much narrower.
    """
    mode = find_mode(_with_smooth_priors(target), start)
    curvature, vectors = np.linalg.eigh(mode.hessian)
    # The density is bounded in every direction on these coordinates, but may be nearly flat.
    root = mode.basis @ (vectors / np.sqrt(np.maximum(np.abs(curvature), 0.05 * mode.unit)))
    return _with_images(target, single(mode.x, np.sqrt(1.2) * root, 5.0, target.folded))


def _with_images(target: Target, pilot: MixtureT) -> MixtureT:
    """The pilot with its images where a residual parameter of the other sign is about as likely.

    A correlation of rows two, four, .. steps apart does not show its sign: the posterior has two humps.
    """
    mean = pilot.means[0]
    flips = [np.where(np.arange(mean.size) == k, -1.0, 1.0) for k in range(target.n_effects, mean.size)]
    if not flips:
        return pilot
    values = target.evaluate(np.stack([mean, *(flip * mean for flip in flips)])).log_density
    for flip, value in zip(flips, values[1:], strict=True):
        if value > values[0] - _IMAGE:
            root = flip[:, None] * pilot.chols[0]
            pilot = blend(pilot, single(flip * mean, root, float(pilot.df[0]), target.folded), 0.5)
    return pilot


def _with_smooth_priors(target: Target) -> Target:
    """The target itself, or under smooth priors where those of its sds have a kink or a zero at sd = 0."""
    if target.priors.smooth:
        return target
    usual = default_priors(target.cp.design)
    sds = tuple(
        tuple(_stand_in(*triple) for triple in zip(own, given, np.broadcast_to(c.ratio, len(own)), strict=True))
        for own, given, c in zip(usual.sds, target.priors.sds, target.coordinates, strict=True)
    )
    own = target.priors
    return replace(target, priors=replace(usual, sds=sds, lkj=own.lkj, beta=own.beta, residual=own.residual))


def _stand_in(usual: SdPrior, given: SdPrior, ratio: float) -> SdPrior:
    """A smooth prior where `given` lives: the usual one, unless the coordinate had to follow a narrow prior."""
    if away_from_zero(given):
        return given
    if ratio <= 1.0:
        return usual
    narrow = HalfNormal(given.quantile(0.5) / _MEDIAN)
    return Relative(narrow) if given.relative else narrow


@dataclass(frozen=True)
class Mode:
    """Mode of a density with the curvature there, on coordinates w with ``x = mode + basis w``.

    Attributes
    ----------
    x : FloatArray, shape (d,)
    basis : FloatArray, shape (d, d)
        The identity, unless the peak is so narrow that its curvatures cannot stand in one matrix.
    hessian : FloatArray, shape (d, d)
        Of minus the log density in w.
    """

    x: FloatArray
    basis: FloatArray
    hessian: FloatArray

    @property
    def unit(self) -> float:
        """What a curvature of one of the coordinates x is, at least, in w: 1 without a basis, else 0."""
        return 1.0 if (self.basis == np.eye(self.x.size)).all() else 0.0

    @cached_property
    def widths(self) -> FloatArray:
        """Conditional standard deviation (d,) of each coordinate given the others, at most about two."""
        back = np.linalg.inv(self.basis)
        curvature, vectors = np.linalg.eigh(self.hessian)
        root = np.sqrt(np.abs(curvature))[:, None] * (vectors.T @ back)
        return np.asarray(1.0 / np.sqrt(np.maximum((root**2).sum(0), 0.3)))


def find_mode(target: Target, start: FloatArray) -> Mode:
    """Mode of the collapsed posterior on the unconstrained coordinates (density of x)."""

    def minus_log(x: FloatArray) -> FloatArray:
        value = -target.evaluate(x).log_density
        return np.where(np.isfinite(value), value, _NOWHERE)

    problem = trials(minus_log)
    # Where the model reproduces the response the density has no maximum, and its slopes overflow.
    with np.errstate(over="ignore", invalid="ignore"):
        point = problem(minimise(problem, start, max_evaluations=60).x).expand()
        found = Mode(point.x, np.eye(point.x.size), point.hessian)
        if point.x.size and np.abs(np.diagonal(point.hessian)).max() > _NARROWEST**-2:
            found = _sharpened(minus_log, found)
    sign = np.where(target.folded & (found.x < 0), -1.0, 1.0)
    if found.unit:
        return Mode(sign * found.x, found.basis, found.hessian * np.outer(sign, sign))
    return Mode(sign * found.x, sign[:, None] * found.basis, found.hessian)


def _sharpened(minus_log: Callable[[FloatArray], FloatArray], mode: Mode) -> Mode:
    """The mode of a peak that is narrow for differences on x, on coordinates in which it is round.

    Each pass measures the curvature with steps of a tenth of the widths of the pass before, along its directions: so
    widths that differ by many orders of magnitude come out one after the other.
    """
    x, basis, hessian = mode.x, mode.basis, mode.hessian
    for _ in range(_PASSES):
        if not np.isfinite(hessian).all():
            return mode
        curvature, vectors = np.linalg.eigh(hessian)
        largest = np.abs(curvature).max()
        basis = basis @ (vectors / np.sqrt(np.maximum(np.abs(curvature), max(1e-10 * largest, 1e-2))))
        origin = x

        def on_basis(w: FloatArray, origin: FloatArray = origin, basis: FloatArray = basis) -> FloatArray:
            return minus_log(origin + w @ basis.T)

        problem = trials(on_basis, 0.1)
        end = minimise(problem, np.zeros(x.size), max_evaluations=30).x
        point, x = problem(end).expand(), origin + basis @ end
        hessian = point.hessian
        values = np.linalg.eigvalsh(hessian) if np.isfinite(hessian).all() else np.full(x.size, np.nan)
        if (values > 0.5).all() and (values < 2.0).all():
            break
    return Mode(x, basis, hessian)


def draw(target: Target, proposal: MixtureT, size: int, rng: np.random.Generator, keep: bool = False) -> Weighted:
    """Draw from the proposal and weigh."""
    x = proposal.draw(size, rng)
    points = target.evaluate(x, keep)
    # The density of |x| is the sum over both signs of an even density: one factor 2 per folded coordinate is
    # not needed, because the target is a density on the positive side already.
    return Weighted(points, points.log_density - proposal.log_density(x))


def _extend(table: FloatArray, rounds: Sequence[Round]) -> FloatArray:
    """Log density of every proposal (rows) at the points of all rounds, from the table without the last round."""
    old = [r.sample.points.x for r in rounds[:-1]]
    new = rounds[-1].sample
    with np.errstate(invalid="ignore"):
        # Points without density have no weight, whatever their proposal's.
        own = np.nan_to_num(new.points.log_density - new.log_weights)
    columns = np.stack([*(r.proposal.log_density(new.points.x) for r in rounds[:-1]), own])
    if not old:
        return columns
    row = rounds[-1].proposal.log_density(np.concatenate(old))
    return np.concatenate([np.concatenate([table, row[None]]), columns], axis=1)


def _adapt(
    target: Target,
    rounds: Sequence[Round],
    table: FloatArray,
    rng: np.random.Generator,
    components: int = _COMPONENTS,
) -> MixtureT:
    """Fit a mixture to the points of all rounds, weighted by the mixture of all proposals."""
    x = np.concatenate([r.sample.points.x for r in rounds])
    log_density = np.concatenate([r.sample.points.log_density for r in rounds])
    weights = _tempered(log_density - logsumexp(table, axis=0), 20 * target.dimension)
    # Let EM see both mirror images where the density reaches zero, so that components there stay centred.
    signs = np.where(target.folded, rng.choice([-1.0, 1.0], size=x.shape), 1.0)
    near = target.folded & (weights @ (x**2) < 4.0 * (weights @ x**2 - (weights @ x) ** 2))
    # On the coordinates of the pilot, in which the posterior is about round however narrow it is.
    pilot = rounds[0].proposal
    origin, root = pilot.means[0], pilot.chols[0]
    w = np.linalg.solve(root, (np.where(near, x * signs, x) - origin).T).T
    return fit_mixture(w, weights, components, target.folded, rng).moved(origin, root)


def _tempered(log_weights: FloatArray, size: int) -> FloatArray:
    """Normalised weights, flattened until their effective size is that of a fit."""
    power = 1.0
    while kish(normalised(power * log_weights)) < size and power > 0.05:
        power *= 0.8
    return normalised(power * log_weights)
