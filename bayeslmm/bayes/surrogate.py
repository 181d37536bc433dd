"""A polynomial in place of an expensive likelihood, fitted where the posterior is.

Sigma apart, the likelihood enters the posterior through two numbers of a point: a log determinant and r2. Both are
analytic functions of the coordinates, so that a polynomial fitted to some dozens of evaluations with their exact
gradients has them to many digits over the whole region that carries mass; everything that follows (mode, grid,
importance sampling) then costs nothing, whatever the size of the data. The error is measured at draws of the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bayeslmm.bayes.importance import Weighted, importance_points
from bayeslmm.bayes.progress import Progress
from bayeslmm.bayes.surrogate_nodes import Nodes, evaluate_nodes, outputs
from bayeslmm.bayes.target import Target
from bayeslmm.likelihood import CrossProducts, Factor, evaluate
from bayeslmm.likelihood import parameters as par
from bayeslmm.numerics.polynomial import Polynomial, basis, exponents_of, scaled
from bayeslmm.numerics.resample import normalised, systematic
from bayeslmm.types import BoolArray, FloatArray, IntArray

# Degree along a coordinate that spans one unit (a factor e in an sd) or more, first while the region is looked for,
# then for the result; lower along shorter ones, and where the coefficients would be too many.
_ROUGH, _DEGREE = 7, 14
_MOST_ROUGH, MOST_TERMS = 120, 330
_MOST_DIMENSIONS = 8
# Equations for each coefficient.
_SURPLUS = 1.8
# The same for each term in the other coordinates where values along some are free.
_FREE_SURPLUS = 1.3
# Values for each coefficient, beyond which more only take time; coordinates that a rough polynomial spans at once.
_MOST_FREE, _MOST_FREE_SIDES = 12, 2
# Side of the final region that is short: it has so much of the degree of one of a unit.
_SHORTEST = 0.35
# The region reaches to where the log density is this far below its maximum.
_DEPTH = 16.0
_ROUNDS = 8
# Refits of a rough polynomial with nodes where it sees mass, and the error there that lets it choose the region.
_PROBES = 4
_TRUSTED, _FINE = 1.5, 0.01
_WEIGHT, _FREE_WEIGHT, _FREE_DEPTH = 0.08, 0.3, 24.0
# Standard errors of the first region to each side, and where values along wide coordinates are free.
_FIRST, _FREE_FIRST = 3.0, 5.5
# Steepness of the density beyond the box.
_WALL = 2000.0


def _free(target: Target) -> BoolArray:
    """Mask (d,) of the coordinates of the last blocks, along which an evaluation at one point is one for all."""
    cp, free = target.cp, np.zeros(target.dimension, dtype=bool)
    ends = np.cumsum([0, *(c.dimension for c in target.coordinates)])
    for block in cp.blocks[cp.sums.first_of_last :]:
        for term in block.terms:
            free[ends[term] : ends[term + 1]] = True
    return free if free.sum() <= _MOST_FREE_SIDES else np.zeros_like(free)


def _along(target: Target, nodes: Nodes, lower: FloatArray, upper: FloatArray, exponents: IntArray) -> Nodes:
    """The likelihood at other covariances of the last blocks, for every node that is in the box but for these."""
    free = _free(target)
    inside = ((nodes.x >= lower) & (nodes.x <= upper))[:, ~free].all(axis=1)
    chosen = np.flatnonzero(inside) if nodes.last and free.any() else np.empty(0, dtype=np.int64)
    count = int(np.ceil(_SURPLUS * _distinct(exponents[:, free]))) + 2
    count = min(count, int(_MOST_FREE * exponents.shape[0] / max(chosen.size, 1)) + 1)
    x = np.repeat(nodes.x[chosen], count, axis=0)
    found = []
    if chosen.size:
        x[:, free] = _spread(lower[free], upper[free], x.shape[0], 77)
        first = target.cp.sums.first_of_last
        factors = par.block_factors(target.cp, target.terms(x)[0])[first:]
        for j, k in enumerate(chosen):
            own = [T[j * count : (j + 1) * count] for T in factors]
            found.append(outputs(nodes.last[k].evaluate(own, count), np.empty((count, 2, 0)), target.cp.p))
    if not found:
        return Nodes(x, nodes.values[:0], nodes.slopes[:0], nodes.fixed[:0])
    values, slopes, fixed = (np.concatenate(part) for part in zip(*found, strict=True))
    return Nodes(x, values, slopes, fixed)


def _distinct(exponents: IntArray) -> int:
    """Number of different rows."""
    return int(np.unique(exponents, axis=0).shape[0])


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
        log_det = values[:, 0] + _WALL * self.likelihood.beyond(x)
        fixed = self.fixed(box)
        values = np.column_stack([log_det, np.clip(values[:, 1], -700.0, 700.0)])
        return _as_factor(values, fixed, p)


def _as_factor(values: FloatArray, fixed: FloatArray, p: int) -> Factor:
    """The parts of a `Factor` that a density needs."""
    K, size = values.shape[0], p * (p + 1) // 2
    chol = np.zeros((K, p, p))
    chol[:, *np.tril_indices(p)] = fixed[:, :size]
    diagonal = np.exp(np.clip(np.diagonal(chol, axis1=1, axis2=2), -300.0, 300.0))
    chol[:, np.arange(p), np.arange(p)] = 1.0
    chol *= diagonal[:, None, :]
    empty, r2 = np.zeros((K, 0)), np.exp(values[:, 1])
    return Factor(values[:, 0], np.zeros(K), r2, empty[..., None], chol, fixed[:, size:], empty, r2)


def _fit(
    nodes: Nodes, others: Nodes, lower: FloatArray, upper: FloatArray, exponents: IntArray, importance: FloatArray
) -> Polynomial:
    """Least squares on values and gradients at nodes, and on values at others; `importance` of all of them."""
    d, degree = lower.size, int(exponents.max())
    z = scaled(nodes.x, lower, upper)
    half = 0.5 * (upper - lower)
    # A slope counts for as much as the value it would predict over the spacing of nodes.
    weight = 1.0 / max(degree, 1)
    rows = [basis(z, exponents)] + [weight * basis(z, exponents, k) for k in range(d)]
    right = [nodes.values] + [weight * nodes.slopes[:, :, k] * half[k] for k in range(d)]
    rows.append(basis(scaled(others.x, lower, upper), exponents))
    right.append(others.values)
    share = np.r_[np.tile(importance[: z.shape[0]], d + 1), importance[z.shape[0] :]][:, None]
    solution = np.linalg.lstsq(share * np.concatenate(rows), share * np.concatenate(right), rcond=1e-13)[0]
    return Polynomial(lower, upper, exponents, solution)


def _fit_values(nodes: Nodes, others: Nodes, lower: FloatArray, upper: FloatArray, free: BoolArray) -> Polynomial:
    x, fixed = np.concatenate([nodes.x, others.x]), np.concatenate([nodes.fixed, others.fixed])
    most, few = max(x.shape[0] / 1.4, 1.0), max(nodes.x.shape[0] / 1.4, 1.0)
    exponents = exponents_of(upper - lower, _DEGREE, most)
    while _distinct(exponents[:, ~free]) > few:
        most = max(0.8 * most, 1.0)
        exponents = exponents_of(upper - lower, _DEGREE, most)
    solution = np.linalg.lstsq(basis(scaled(x, lower, upper), exponents), fixed, rcond=1e-13)[0]
    return Polynomial(lower, upper, exponents, solution)


def _spread(lower: FloatArray, upper: FloatArray, count: int, seed: int) -> FloatArray:
    """Quasi-random points, denser towards the faces of the box."""
    from scipy.stats import qmc

    u = qmc.Halton(lower.size, scramble=True, rng=seed).random(count)
    return np.asarray(0.5 * (lower + upper) - 0.5 * (upper - lower) * np.cos(np.pi * u))


def _count(exponents: IntArray, free: BoolArray) -> int:
    """Nodes for a polynomial; values at others determine it along coordinates that are free."""
    terms, d = exponents.shape
    if free.any():
        return int(np.ceil(_FREE_SURPLUS * _distinct(exponents[:, ~free]))) + 2
    return int(np.ceil(_SURPLUS * terms / (d + 1))) + 2


def _make(target: Target, nodes: Nodes, lower: FloatArray, upper: FloatArray, exponents: IntArray) -> SurrogateTarget:
    others = _along(target, nodes, lower, upper, exponents)
    nodes = nodes.within(lower, upper)
    density = np.concatenate([_exact(target, nodes), _exact(target, others) if others.x.size else others.x[:, 0]])
    # The polynomial has to be right where the mass is; elsewhere it only has to say that there is none.
    depth, K = density - density.max(), nodes.x.shape[0]
    own = np.exp(_WEIGHT * np.maximum(depth[:K], -3.0 * _DEPTH))
    # Of values that cost nothing there are many, most of them where an sd is far from what it can be.
    importance = np.concatenate([own, np.exp(_FREE_WEIGHT * np.maximum(depth[K:], -_FREE_DEPTH))])
    likelihood = _fit(nodes, others, lower, upper, exponents, importance)
    fixed = _fit_values(nodes, others, lower, upper, _free(target))
    surrogate = Surrogate(likelihood, fixed, target.folded, target.cp.p)
    return SurrogateTarget(target.cp, target.priors, target.coordinates, surrogate, changes=target.changes)


@dataclass(frozen=True)
class SurrogateTarget(Target):
    """A target whose likelihood is a polynomial; densities outside its box are zero."""

    surrogate: Surrogate

    def factor(self, x: FloatArray, factors: Sequence[FloatArray]) -> Factor:
        """Predicted in place of an elimination."""
        return self.surrogate(x)

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
    lower, upper = _first_box(target, start)
    rng = np.random.default_rng(0)
    nodes = evaluate_nodes(target, np.where(target.folded, np.maximum(start, 1e-4), start)[None])
    free = _free(target)
    for attempt in range(_ROUNDS):
        exponents = exponents_of(upper - lower, _ROUGH, _MOST_ROUGH)
        missing = max(_count(exponents, free) - nodes.within(lower, upper).x.shape[0], int((~free).sum()) + 2)
        nodes = nodes + evaluate_nodes(target, _spread(lower, upper, missing, attempt))
        nodes, sample, trusted = _probe(target, nodes, lower, upper, exponents, start, rng, _TRUSTED)
        if trusted:
            lower, upper, settled = _region(target, sample, lower, upper)
        else:
            lower, upper, settled = *_known_region(target, nodes), False
        exponents = exponents_of(upper - lower, _DEGREE, most, _SHORTEST)
        progress.report("likelihood", nodes.x.shape[0], nodes.x.shape[0] + _count(exponents, free))
        if settled:
            break
    missing = _count(exponents, free) - nodes.within(lower, upper).x.shape[0]
    if missing > 0:
        nodes = nodes + evaluate_nodes(target, _spread(lower, upper, missing, 99))
    nodes, _, _ = _probe(target, nodes, lower, upper, exponents, start, rng, _FINE)
    return _make(target, nodes, lower, upper, exponents)


def _probe(
    target: Target,
    nodes: Nodes,
    lower: FloatArray,
    upper: FloatArray,
    exponents: IntArray,
    start: FloatArray,
    rng: np.random.Generator,
    tolerance: float,
) -> tuple[Nodes, Weighted, bool]:
    """Sample a polynomial, with exact nodes where it sees mass until there is some, or for a few rounds."""
    for k in range(_PROBES):
        rough = _make(target, nodes, lower, upper, exponents)
        sample = importance_points(rough, np.clip(start, lower, upper), 1500, rng)
        few = int((~_free(target)).sum()) + 1
        chosen = systematic(normalised(sample.log_weights), 2 ** (k + 1) * few, rng)
        x = np.clip(sample.points.x[chosen], lower, upper)
        more = evaluate_nodes(target, x)
        nodes = nodes + more
        # Not less its mean: a spurious peak is off by about the same everywhere on it.
        if np.abs(rough.evaluate(x).log_density - _exact(target, more)).max() < tolerance:
            return nodes, sample, True
    return nodes, sample, False


def _exact(target: Target, nodes: Nodes) -> FloatArray:
    """Log density (K,) at the nodes."""
    return target.evaluate_with(nodes.x, _as_factor(nodes.values, nodes.fixed, target.cp.p)).log_density


def _known_region(target: Target, nodes: Nodes) -> tuple[FloatArray, FloatArray]:
    """Box around the nodes with mass."""
    density = _exact(target, nodes)
    x = nodes.x[density > density.max() - _DEPTH]
    low, high = x.min(axis=0), x.max(axis=0)
    margin = np.maximum(0.15 * (high - low), 0.05)
    return np.where(target.folded, np.maximum(low - margin, 0.0), low - margin), high + margin


def _first_box(target: Target, start: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Some standard errors around the start, from the curvature there."""
    d, h = start.size, 1e-3
    centre = np.where(target.folded, np.maximum(start, 2 * h), start)
    points = centre + h * np.concatenate([np.eye(d), -np.eye(d)])
    slopes = evaluate_nodes(target, points).slopes
    nu = target.cp.n - target.cp.p
    gradient = 0.5 * (slopes[:, 0] + nu * slopes[:, 1])
    H = (gradient[:d] - gradient[d:]) / (2 * h)
    values, vectors = np.linalg.eigh(0.5 * (H + H.T))
    se = np.sqrt(np.diagonal((vectors / np.maximum(np.abs(values), 0.3)) @ vectors.T))
    free = _free(target)
    reach = _FREE_FIRST if free.any() else _FIRST
    lower = centre - reach * se
    return np.where(target.folded, np.maximum(lower, 0.0), lower), centre + reach * se


def _region(
    target: Target, sample: Weighted, lower: FloatArray, upper: FloatArray
) -> tuple[FloatArray, FloatArray, bool]:
    """Box around what carries mass, and whether the present one already was."""
    density = sample.points.log_density
    x = sample.points.x[density > density.max() - _DEPTH]
    low, high, width = x.min(axis=0), x.max(axis=0), upper - lower
    # The ends of 1500 draws, not of the region.
    margin = 0.25 * (high - low)
    at_low = (low - lower < 0.03 * width) & ~(target.folded & (lower <= 0.0))
    at_high = upper - high < 0.03 * width
    new_lower = np.where(at_low, lower - 0.5 * width, low - margin)
    new_upper = np.where(at_high, upper + 0.5 * width, high + margin)
    new_lower = np.where(target.folded, np.maximum(new_lower, 0.0), new_lower)
    settled = not (at_low | at_high).any() and bool(((new_upper - new_lower) > 0.6 * width).all())
    return new_lower, new_upper, settled


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
