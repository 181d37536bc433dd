"""A polynomial in place of an expensive likelihood, fitted where the posterior is.

Sigma apart, the likelihood enters the posterior through two numbers of a point: a log determinant and r2. Both are
analytic functions of the coordinates, so that a polynomial fitted to some dozens of evaluations with their exact
gradients has them to many digits over the whole region that carries mass; everything that follows (mode, grid,
importance sampling) then costs nothing, whatever the size of the data. The error is measured at draws of the result.
Where factors have few levels, polynomials are those of `surrogate_last` instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from bayeslmm.bayes.importance import Weighted, importance_points
from bayeslmm.bayes.progress import Progress
from bayeslmm.bayes.surrogate_last import WALL, LastSurrogate, fit_last
from bayeslmm.bayes.surrogate_nodes import Box, Nodes, evaluate_nodes, from_logs
from bayeslmm.bayes.target import Target
from bayeslmm.likelihood import CrossProducts, Factor, evaluate
from bayeslmm.likelihood import parameters as par
from bayeslmm.likelihood.last_blocks import stacked
from bayeslmm.numerics.polynomial import Polynomial, basis, exponents_of, scaled
from bayeslmm.numerics.resample import normalised, systematic
from bayeslmm.types import BoolArray, FloatArray, IntArray

# Degree along a coordinate that spans one unit (a factor e in an sd) or more, first while the region is looked for,
# then for the result; lower along shorter ones, and where the coefficients would be too many.
_ROUGH, _DEGREE = 7, 14
_MOST_ROUGH, MOST_TERMS = 120, 330
_MOST_DIMENSIONS = 8
# Columns of the last effects and X, with matrices of which every density costs a factorisation.
_MOST_LEFT = 40
# Equations for each coefficient.
_SURPLUS = 1.8
# Values for each coefficient, where polynomials are fitted to values alone.
_VALUES_SURPLUS = 1.4
# Side of the final region that is short: it has so much of the degree of one of a unit.
_SHORTEST = 0.35
# The region reaches to where the log density is this far below its maximum.
_DEPTH = 16.0
_ROUNDS = 8
# Refits of a rough polynomial with nodes where it sees mass, and the error there that lets it choose the region.
_PROBES = 4
_TRUSTED, _FINE = 1.5, 0.01
_WEIGHT = 0.08
# Standard errors of the first region to each side.
_FIRST = 3.0


def _own(target: Target) -> BoolArray:
    """Mask (d,) of the coordinates that polynomials are functions of: all but those of the last blocks."""
    cp, own = target.cp, np.ones(target.dimension, dtype=bool)
    ends = np.cumsum([0, *(c.dimension for c in target.coordinates)])
    last = cp.blocks[cp.sums.first_of_last :]
    if sum(block.q for block in last) + cp.p > _MOST_LEFT:
        return own
    for block in last:
        for term in block.terms:
            own[ends[term] : ends[term + 1]] = False
    return own


@dataclass(frozen=True)
class Surrogate:
    """Polynomials for the likelihood part of a target.

    Attributes
    ----------
    likelihood : Polynomial
        Outputs: both log determinants together, log r2.
    fixed : Polynomial
        Cholesky factor and solution of the fixed effects.
    folded : BoolArray, shape (d,)
    p : int
    """

    likelihood: Polynomial
    fixed: Polynomial
    folded: BoolArray
    p: int

    def __call__(self, x: FloatArray) -> Factor:
        """The parts of a `Factor` that a density in sigma and beta needs, at K points."""
        p = self.p
        x = np.where(self.folded, np.abs(x), x)
        box = np.clip(x, self.likelihood.lower, self.likelihood.upper)
        values = self.likelihood(box)
        # Polynomials are worthless beyond their box, which ends where the density is negligible: there it falls off
        # from its value on the face, smoothly, so that derivatives by differences still mean something.
        log_det = values[:, 0] + WALL * self.likelihood.beyond(x)
        fixed = self.fixed(box)
        values = np.column_stack([log_det, np.clip(values[:, 1], -700.0, 700.0)])
        return _as_factor(values, fixed, p)


def _as_factor(values: FloatArray, fixed: FloatArray, p: int) -> Factor:
    """The parts of a `Factor` that a density needs."""
    K, size = values.shape[0], p * (p + 1) // 2
    empty, r2 = np.zeros((K, 0)), np.exp(values[:, 1])
    return Factor(
        values[:, 0], np.zeros(K), r2, empty[..., None], from_logs(fixed[:, :size], p), fixed[:, size:], empty, r2
    )


def _fit(nodes: Nodes, box: Box, exponents: IntArray, importance: FloatArray) -> Polynomial:
    """Least squares on values and gradients at nodes."""
    lower, upper = box.lower, box.upper
    d, degree = lower.size, int(exponents.max())
    z = scaled(nodes.x, lower, upper)
    half = 0.5 * (upper - lower)
    # A slope counts for as much as the value it would predict over the spacing of nodes.
    weight = 1.0 / max(degree, 1)
    rows = [basis(z, exponents)] + [weight * basis(z, exponents, k) for k in range(d)]
    right = [nodes.values] + [weight * nodes.slopes[:, :, k] * half[k] for k in range(d)]
    share = np.tile(importance, d + 1)[:, None]
    solution = np.linalg.lstsq(share * np.concatenate(rows), share * np.concatenate(right), rcond=1e-13)[0]
    return Polynomial(lower, upper, exponents, solution)


def _fit_values(nodes: Nodes, box: Box) -> Polynomial:
    """Least squares on the numbers of the fixed effects at nodes, which have no gradients."""
    exponents = exponents_of(box.width, _DEGREE, max(nodes.x.shape[0] / _VALUES_SURPLUS, 1.0))
    solution = np.linalg.lstsq(basis(scaled(nodes.x, box.lower, box.upper), exponents), nodes.fixed, rcond=1e-13)[0]
    return Polynomial(box.lower, box.upper, exponents, solution)


def _count(exponents: IntArray, box: Box) -> int:
    """Nodes for a polynomial."""
    terms, d = exponents.shape
    if not box.whole:
        return int(np.ceil(_VALUES_SURPLUS * terms)) + 2
    return int(np.ceil(_SURPLUS * terms / (d + 1))) + 2


def _missing(exponents: IntArray, box: Box, nodes: Nodes, spread: Nodes) -> int:
    """Nodes that a polynomial needs further; without gradients those at draws, which are near each other, count not."""
    there = nodes if box.whole else spread
    return _count(exponents, box) - len(there.within(box).x)


def _make(target: Target, nodes: Nodes, box: Box, exponents: IntArray, start: FloatArray) -> SurrogateTarget:
    nodes = nodes.within(box)
    if box.whole:
        density = _exact(target, nodes)
    else:
        # Whatever the free coordinates of a node are: those at the mode.
        x = np.where(box.own, nodes.x, start)
        density = target.evaluate_with(x, stacked(nodes.last).evaluate(_last_factors(target, x), len(x))).log_density
    # The polynomial has to be right where the mass is; elsewhere it only has to say that there is none.
    importance = np.exp(_WEIGHT * np.maximum(_below_largest(density), -3.0 * _DEPTH))
    surrogate: Surrogate | LastSurrogate
    if box.whole:
        surrogate = Surrogate(
            _fit(nodes, box, exponents, importance), _fit_values(nodes, box), target.folded, target.cp.p
        )
    else:
        surrogate = fit_last(nodes.x, nodes.last, box, exponents, importance, target.folded)
    return SurrogateTarget(target.cp, target.priors, target.coordinates, surrogate, changes=target.changes)


def _last_factors(target: Target, x: FloatArray) -> list[FloatArray]:
    """Factors (K, c, c) of the last blocks."""
    return par.block_factors(target.cp, target.terms(x)[0])[target.cp.sums.first_of_last :]


@dataclass(frozen=True)
class SurrogateTarget(Target):
    """A target whose likelihood is a polynomial; densities fall off steeply outside its box."""

    surrogate: Surrogate | LastSurrogate

    def factor(self, x: FloatArray, factors: Sequence[FloatArray]) -> Factor:
        """Predicted in place of an elimination."""
        if isinstance(self.surrogate, Surrogate):
            return self.surrogate(x)
        return self.surrogate(x, par.block_factors(self.cp, factors)[self.cp.sums.first_of_last :])

    @cached_property
    def exact(self) -> Target:
        """The target that this one stands for."""
        return Target(self.cp, self.priors, self.coordinates, changes=self.changes)


def available(target: Target) -> bool:
    """Whether the dimension is small enough, and the likelihood one of random effects alone."""
    return target.sums is None and 1 <= target.dimension <= _MOST_DIMENSIONS


def build_surrogate(target: Target, start: FloatArray, progress: Progress, most: int = MOST_TERMS) -> SurrogateTarget:
    """Find the region that carries the posterior and fit the polynomials there.

    Parameters
    ----------
    target : Target
    start : FloatArray, shape (d,)
        Near the mode (the REML fit).
    progress : Progress
    most : int
        Terms of a polynomial.
    """
    box = _first_box(target, start)
    rng = np.random.default_rng(0)
    at = np.where(target.folded, np.maximum(start, 1e-4), start)
    # Polynomials of the last effects' cross-products have no use for gradients.
    evaluated = partial(evaluate_nodes, target, slopes=box.whole)
    nodes = spread = evaluated(at[None])
    for attempt in range(_ROUNDS):
        exponents = exponents_of(box.width, _ROUGH, _MOST_ROUGH)
        missing = max(_missing(exponents, box, nodes, spread), int(box.own.sum()) + 2)
        more = evaluated(box.spread(at, missing, attempt))
        nodes, spread = nodes + more, spread + more
        nodes, sample, trusted = _probe(target, nodes, box, exponents, start, rng, _TRUSTED)
        if trusted:
            box, settled = _region(target, sample, box)
        else:
            box, settled = _known_region(target, nodes, box), False
        exponents = exponents_of(box.width, _DEGREE, most, _SHORTEST)
        progress.report("likelihood", nodes.x.shape[0], nodes.x.shape[0] + _count(exponents, box))
        if settled:
            break
    missing = _missing(exponents, box, nodes, spread)
    if missing > 0:
        nodes = nodes + evaluated(box.spread(at, missing, 99))
    nodes, _, _ = _probe(target, nodes, box, exponents, start, rng, _FINE)
    return _make(target, nodes, box, exponents, start)


def _probe(
    target: Target,
    nodes: Nodes,
    box: Box,
    exponents: IntArray,
    start: FloatArray,
    rng: np.random.Generator,
    tolerance: float,
) -> tuple[Nodes, Weighted, bool]:
    """Sample a polynomial, with exact nodes where it sees mass until there is some, or for a few rounds."""
    for k in range(_PROBES):
        rough = _make(target, nodes, box, exponents, start)
        sample = importance_points(rough, box.clip(start), 1500, rng)
        few = int(box.own.sum()) + 1
        chosen = systematic(normalised(sample.log_weights), 2 ** (k + 1) * few, rng)
        x = box.clip(sample.points.x[chosen])
        more = evaluate_nodes(target, x, slopes=box.whole)
        nodes = nodes + more
        # A sample whose weight is in a few points, met again and again, knows no region.
        copies = np.unique(chosen).size <= chosen.size // 2
        # Not less its mean: a spurious peak is off by about the same everywhere on it.
        if not copies and np.abs(rough.evaluate(x).log_density - _exact(target, more)).max() < tolerance:
            return nodes, sample, True
    return nodes, sample, False


def _exact(target: Target, nodes: Nodes) -> FloatArray:
    """Log density (K,) at the nodes."""
    return target.evaluate_with(nodes.x, _as_factor(nodes.values, nodes.fixed, target.cp.p)).log_density


def _below_largest(density: FloatArray) -> FloatArray:
    """Log densities of nodes (K,) less the largest; where they are not a number there is none."""
    density = np.where(np.isnan(density), -np.inf, density)
    largest = density.max(initial=-np.inf)
    if not np.isfinite(largest):
        raise np.linalg.LinAlgError("no node has a density")
    return density - largest


def _known_region(target: Target, nodes: Nodes, box: Box) -> Box:
    """Box around the nodes with mass."""
    folded = target.folded[box.own]
    x = nodes.x[_below_largest(_exact(target, nodes)) > -_DEPTH][:, box.own]
    low, high = x.min(axis=0), x.max(axis=0)
    margin = np.maximum(0.15 * (high - low), 0.05)
    return Box(np.where(folded, np.maximum(low - margin, 0.0), low - margin), high + margin, box.own)


def _first_box(target: Target, start: FloatArray) -> Box:
    """Some standard errors around the start, from the curvature there."""
    own, h = _own(target), 1e-3
    centre = np.where(target.folded, np.maximum(start, 2 * h), start)
    steps = h * np.eye(start.size)[own]
    slopes = evaluate_nodes(target, centre + np.concatenate([steps, -steps])).slopes[:, :, own]
    nu, d = target.cp.n - target.cp.p, steps.shape[0]
    gradient = 0.5 * (slopes[:, 0] + nu * slopes[:, 1])
    H = (gradient[:d] - gradient[d:]) / (2 * h)
    if not np.isfinite(H).all():
        raise np.linalg.LinAlgError("no curvature at the start")
    values, vectors = np.linalg.eigh(0.5 * (H + H.T))
    se = np.sqrt(np.diagonal((vectors / np.maximum(np.abs(values), 0.3)) @ vectors.T))
    lower = centre[own] - _FIRST * se
    return Box(np.where(target.folded[own], np.maximum(lower, 0.0), lower), centre[own] + _FIRST * se, own)


def _region(target: Target, sample: Weighted, box: Box) -> tuple[Box, bool]:
    """Box around what carries mass, and whether the present one already was."""
    density, folded, width = sample.points.log_density, target.folded[box.own], box.width
    x = sample.points.x[density > density.max() - _DEPTH][:, box.own]
    low, high = x.min(axis=0), x.max(axis=0)
    # The ends of 1500 draws, not of the region.
    margin = 0.25 * (high - low)
    at_low = (low - box.lower < 0.03 * width) & ~(folded & (box.lower <= 0.0))
    at_high = box.upper - high < 0.03 * width
    new_lower = np.where(at_low, box.lower - 0.5 * width, low - margin)
    new_upper = np.where(at_high, box.upper + 0.5 * width, high + margin)
    new_lower = np.where(folded, np.maximum(new_lower, 0.0), new_lower)
    settled = not (at_low | at_high).any() and bool(((new_upper - new_lower) > 0.6 * width).all())
    return Box(new_lower, new_upper, box.own), settled


@dataclass(frozen=True)
class Check:
    """Error of a surrogate at draws from it.

    Attributes
    ----------
    error : float
        Root mean square of the error of the log density. Its mean counts: a spurious peak is off by about the same
        all over, and the evidence is off by it.
    largest : float
    points : int
    """

    error: float
    largest: float
    points: int


def check(target: SurrogateTarget, sample: Weighted, count: int, rng: np.random.Generator, progress: Progress) -> Check:
    """Compare with exact evaluations at some draws."""
    chosen = systematic(normalised(sample.log_weights), count, rng)
    x = sample.points.x[chosen]
    exact = np.empty(count)
    batch = count if target.cp.sums.batched else 1
    for k in range(0, count, batch):
        exact[k : k + batch] = target.exact.evaluate(x[k : k + batch]).log_density
        progress.report("certificate", k + batch, count)
    difference = exact - sample.points.log_density[chosen]
    return Check(float(np.sqrt(np.mean(difference**2))), float(np.abs(difference).max()), count)


def estimated_error(target: Target, sample: Weighted) -> float | None:
    """Standard error of a difference of log densities across the posterior whose log determinants are estimated."""
    cp, weights = target.cp, normalised(sample.log_weights)
    if not cp.plan.estimated:
        return None
    x = sample.points.x
    centre = weights @ x
    sd = np.sqrt(weights @ (x - centre) ** 2)
    found = []
    for sign in (-1.0, 1.0):
        factors = par.block_factors(cp, target.terms(centre[None] + sign * sd)[0])
        point = evaluate(cp, factors).crossed
        assert point is not None
        found.append(point.log_det.values)
    # Two standard deviations apart, as two draws are on the average or less.
    change = 0.5 * (found[1] - found[0])
    return float(change.std(ddof=1) / np.sqrt(change.size))


def cost(cp: CrossProducts) -> float:
    """Doubles that one evaluation touches: where many, a surrogate pays."""
    return cp.sums.cost
