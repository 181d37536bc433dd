"""The log density of a collapsed posterior by another route, for checks: least squares, differences, adaptive panels.

Nothing here is shared with what samples but the formulas of the priors: the likelihood is a QR decomposition of the
penalised least-squares problem on the user's columns instead of an elimination, Jacobians are differences of the map
from coordinates to sds and correlations, and log sigma is integrated by bisection of panels whose first ends are where
each factor of the integrand is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betaln, xlog1py

from bayeslmm.bayes.panels import LineIntegral, LogDensity, integrate_panels
from bayeslmm.bayes.prior_families import SdPrior, Uniform
from bayeslmm.bayes.target import Target
from bayeslmm.design import Design
from bayeslmm.likelihood import Factor, SummedDesign, minus_two_log_density_normal
from bayeslmm.likelihood.level_sums import LevelSums
from bayeslmm.likelihood.recheck_sums import compressed_rows
from bayeslmm.residual import NO_PARAMETERS, laws
from bayeslmm.types import FloatArray, IntArray

# Floating-point operations of a QR decomposition that a check may cost.
_DEAR = 5e7
_STEP = 1e-5
# Ends of the first panels around the peak of the likelihood and the medians of priors, in log sigma.
_ENDS = np.array([0.0, 0.3, 2.0, 12.0, 120.0])
_FARTHEST = 330.0


@dataclass(frozen=True)
class Reduced:
    """A design as a triangle: all that least squares on its columns needs.

    Attributes
    ----------
    triangle : FloatArray, shape (r, q + p + 1)
        Of the weighted columns [Z, X, y], Z term by term and level by level.
    q : int
    p : int
    n : int
        Observations.
    log_weights : float
        Sum of the log weights.
    removed : FloatArray, shape (p,)
        Coefficients that were taken off y.
    """

    triangle: FloatArray
    q: int
    p: int
    n: int
    log_weights: float
    removed: FloatArray


def affordable(cp: SummedDesign, points: int) -> bool:
    """Whether a check at some points is cheap."""
    design = cp.design
    q = sum(design.groupings[t.group].n_levels * len(t.effects) for t in design.terms)
    width, rows = q + design.X.shape[1] + 1, design.n
    if design.facts is not None:
        rows = q + width
        if not isinstance(cp.sums, LevelSums):
            return False
    return bool(2.0 * width**2 * (rows + 2.0 * points * width) <= _DEAR)


def reduce_sums(cp: SummedDesign) -> Reduced:
    """The triangle of a design whose rows are not in memory, from rows with the same sums."""
    if not isinstance(cp.sums, LevelSums):
        raise TypeError("these cross-products are stored as a hierarchy")
    columns, y = compressed_rows(cp.sums)
    by_term = dict[int, FloatArray]()
    for block, span in zip(cp.blocks, cp.frame.spans, strict=True):
        own = columns[:, span].reshape(len(y), block.n_levels, block.size) @ block.inverse_basis
        for term, part in zip(block.terms, block.slices, strict=True):
            by_term[term] = own[:, :, part].reshape(len(y), -1)
    Z = [by_term[k] for k in range(len(by_term))]
    q, transform = sum(z.shape[1] for z in Z), cp.fixed.transform
    X = np.linalg.solve(transform.T, columns[:, q:].T).T
    triangle = np.linalg.qr(np.column_stack([*Z, X, y]), mode="r")
    return Reduced(triangle, q, cp.p, cp.n, cp.log_weights, transform @ cp.response.removed)


def reduce(design: Design, n: int, lam: FloatArray = NO_PARAMETERS, removed: FloatArray | None = None) -> Reduced:
    """The triangle of a design with n observations (rows times their frequencies) at one point lam.

    The coefficients `removed` are taken off y, those of least squares if there are none.
    """
    y = design.y_less_offset
    if removed is None:
        white = design.whitened(np.column_stack([design.X, y]), lam)
        removed = np.linalg.lstsq(white[:, :-1], white[:, -1], rcond=None)[0]
    columns = []
    for term in design.terms:
        grouping = design.groupings[term.group]
        wide = np.zeros((design.n, grouping.n_levels, len(term.effects)))
        wide[np.arange(design.n), grouping.codes] = term.Z
        columns.append(wide.reshape(design.n, -1))
    Z = np.concatenate([*columns, np.zeros((design.n, 0))], axis=1)
    whole = design.whitened(np.column_stack([Z, design.X, y - design.X @ removed]), lam)
    log_weights = -float(design.log_dets(np.zeros(design.n, dtype=np.int64), lam)[0])
    return Reduced(np.linalg.qr(whole, mode="r"), Z.shape[1], design.X.shape[1], n, log_weights, removed)


@dataclass(frozen=True)
class Solved:
    """Least squares at K points of relative factors.

    Attributes
    ----------
    log_det : FloatArray, shape (K,)
        Of the covariance of y relative to sigma squared.
    fixed : FloatArray, shape (K, p, p)
        Triangles of the fixed effects.
    right : FloatArray, shape (K, p)
        Right-hand sides.
    r2 : FloatArray, shape (K,)
        Residual sums of squares.
    """

    log_det: FloatArray
    fixed: FloatArray
    right: FloatArray
    r2: FloatArray


def solve(target: Target, reduced: Reduced, factors: Sequence[FloatArray]) -> Solved:
    """Penalised least squares at K relative factors (K, c, c) of every term, on the user's columns."""
    q, p, size = reduced.q, reduced.p, factors[0].shape[0] if factors else 1
    left = np.repeat(reduced.triangle[None], size, axis=0)
    position, design = 0, target.cp.design
    for term, T in zip(design.terms, factors, strict=True):
        levels, c = design.groupings[term.group].n_levels, len(term.effects)
        own = slice(position, position + levels * c)
        block = reduced.triangle[:, own].reshape(-1, levels, c)
        left[:, :, own] = np.einsum("rlc,kcd->krld", block, T).reshape(size, -1, levels * c)
        position += levels * c
    penalty = np.broadcast_to(np.eye(q, q + p + 1), (size, q, q + p + 1))
    R = np.linalg.qr(np.concatenate([left, penalty], axis=1), mode="r")
    log_det = 2.0 * np.log(np.abs(np.diagonal(R[:, :q, :q], axis1=1, axis2=2))).sum(1) - reduced.log_weights
    return Solved(log_det, R[:, q : q + p, q : q + p], R[:, q : q + p, -1], R[:, q + p, -1] ** 2)


def log_likelihood(target: Target, reduced: Reduced, solved: Solved, log_sigma: FloatArray) -> FloatArray:
    """Log p(y | x, sigma) with beta integrated over its prior, at one log sigma (K,) for each of K points."""
    n, p, prior = reduced.n, reduced.p, target.priors.beta
    sigma = np.exp(log_sigma)
    log_2pi = np.log(2.0 * np.pi)
    if prior is None:
        fixed = 2.0 * np.log(np.abs(np.diagonal(solved.fixed, axis1=1, axis2=2))).sum(1)
        total = (n - p) * (log_2pi + 2.0 * log_sigma) + solved.log_det + fixed + solved.r2 / sigma**2
        return np.asarray(-0.5 * total)
    proper = np.isfinite(prior.sd)
    basis = np.eye(p) if prior.basis is None else prior.basis
    root = (basis / prior.sd[:, None])[proper]
    wanted = (prior.mean / prior.sd)[proper] - root @ reduced.removed
    size = sigma.size
    data = np.concatenate([solved.fixed, solved.right[..., None]], axis=2) / sigma[:, None, None]
    rows = np.broadcast_to(np.column_stack([root, wanted]), (size, root.shape[0], p + 1))
    padding = np.zeros((size, 1, p + 1))
    R = np.linalg.qr(np.concatenate([data, rows, padding], axis=1), mode="r")
    fixed = 2.0 * np.log(np.abs(np.diagonal(R[:, :p, :p], axis1=1, axis2=2))).sum(1)
    scales = 2.0 * float(np.log(prior.sd[proper]).sum())
    total = (n - p + root.shape[0]) * log_2pi + 2.0 * n * log_sigma + solved.log_det + fixed + scales
    return np.asarray(-0.5 * (total + solved.r2 / sigma**2 + R[:, p, -1] ** 2))


def log_prior(target: Target, sds: Sequence[FloatArray], log_sigma: FloatArray) -> FloatArray:
    """Log density of the relative sds (K, c) and of log sigma (K,)."""
    sigma = np.exp(log_sigma)
    total = target.priors.log_density_sigma(log_sigma)
    for own, joint, t in zip(target.priors.sds, target.priors.joints, sds, strict=True):
        if joint is not None:
            total = total + joint.log_density(t)
            continue
        for k in range(t.shape[1]):
            relative = own[k].relative
            total = total + (
                own[k].log_density(t[:, k]) if relative else own[k].log_density(t[:, k] * sigma) + log_sigma
            )
    return np.asarray(total)


def log_map(target: Target, x: FloatArray) -> FloatArray:
    """Log prior density of correlations plus log Jacobian of sds and correlations by the coordinates, (K,)."""
    d, prior = target.n_effects, laws.log_density(target.priors.residual, target.lam(x))
    if not d:
        return prior
    h = _STEP * np.maximum(1.0, np.abs(x[:, :d]))
    steps = h[:, :, None] * np.eye(d, x.shape[1])
    ends = [
        _parameters(target, (x[:, None, :] + sign * steps).reshape(-1, x.shape[1])).reshape(-1, d, d)
        for sign in (1.0, -1.0)
    ]
    J = (ends[0] - ends[1]) / (2.0 * h[:, :, None])
    values = _parameters(target, x)
    return np.asarray(np.linalg.slogdet(J)[1] + _log_correlations(target, values) + prior)


def _parameters(target: Target, x: FloatArray) -> FloatArray:
    """Relative sds and canonical partial correlations (K, d), from the factors alone."""
    parts = []
    for own, T in zip(target.coordinates, target.terms(x)[0], strict=True):
        sd = np.sqrt((T**2).sum(-1))
        parts.append(sd[:, [effects[0] for effects in own.structure.sd_effects]])
        if own.n_correlations:
            rows = T / sd[:, :, None]
            parts.append(own.structure.partial_places(rows @ np.swapaxes(rows, 1, 2)))
    return np.concatenate(parts, axis=1)


def _log_correlations(target: Target, values: FloatArray) -> FloatArray:
    total, position = np.zeros(values.shape[0]), 0
    for own in target.coordinates:
        z = values[:, position + own.size : position + own.dimension]
        position += own.dimension
        shapes = own.shapes
        total = total + (xlog1py(shapes - 1.0, -(z**2)) - betaln(0.5, shapes)).sum(1)
    return total


@dataclass(frozen=True)
class DirectDensity:
    """The log density of a target at K points, sigma not yet integrated out."""

    target: Target
    reduced: Reduced
    solved: Solved
    sds: tuple[FloatArray, ...]
    at_points: FloatArray

    @classmethod
    def at(cls, target: Target, x: FloatArray) -> DirectDensity:
        """Least squares and Jacobians at points (K, d)."""
        factors = target.terms(x)[0]
        sds = tuple(np.sqrt((T**2).sum(-1))[:, : own.size] for own, T in zip(target.coordinates, factors, strict=True))
        reduced, solved = _solved(target, factors, target.lam(x))
        return cls(target, reduced, solved, sds, log_map(target, x))

    def __call__(self, log_sigma: FloatArray, rows: IntArray) -> FloatArray:
        """Log p(x, log sigma, y) at M values of log sigma, each at one of the points."""
        s = self.solved
        own = Solved(s.log_det[rows], s.fixed[rows], s.right[rows], s.r2[rows])
        value = log_likelihood(self.target, self.reduced, own, log_sigma) + self.at_points[rows]
        return value + log_prior(self.target, [t[rows] for t in self.sds], log_sigma)

    def integrate(self) -> LineIntegral:
        """Integrate log sigma out at every point."""
        return _integrated(self, self.target, self.solved.r2, self.sds)


def _solved(target: Target, factors: Sequence[FloatArray], lam: FloatArray) -> tuple[Reduced, Solved]:
    """Least squares at K points; where residuals have parameters (K, k), of rows whitened at each of them."""
    design, n = target.cp.design, target.cp.n
    if not design.residual.names:
        reduced = reduce(design, n) if design.facts is None else reduce_sums(target.cp)
        return reduced, solve(target, reduced, factors)
    removed, parts = None, []
    for k, one in enumerate(lam):
        reduced = reduce(design, n, one, removed)
        removed = reduced.removed
        parts.append(solve(target, reduced, [T[k : k + 1] for T in factors]))
    each = ("log_det", "fixed", "right", "r2")
    return reduced, Solved(*(np.concatenate([getattr(part, name) for part in parts]) for name in each))


@dataclass(frozen=True)
class EliminatedDensity:
    """The same with the likelihood of the target's own elimination, where least squares would be dear."""

    target: Target
    factor: Factor
    sds: tuple[FloatArray, ...]
    at_points: FloatArray

    @classmethod
    def at(cls, target: Target, x: FloatArray) -> EliminatedDensity:
        """Eliminations and Jacobians at points (K, d)."""
        factors, sds, _ = target.terms(x)
        return cls(target, target.factor(x, factors), tuple(sds), log_map(target, x))

    def __call__(self, log_sigma: FloatArray, rows: IntArray) -> FloatArray:
        """Log p(x, log sigma, y) at M values of log sigma, each at one of the points."""
        target, sigma = self.target, np.exp(log_sigma)[:, None]
        own = minus_two_log_density_normal(target.cp, self.factor.take(rows), sigma, target.priors.beta)[:, 0]
        return -0.5 * own + self.at_points[rows] + log_prior(target, [t[rows] for t in self.sds], log_sigma)

    def integrate(self) -> LineIntegral:
        """Integrate log sigma out at every point."""
        return _integrated(self, self.target, self.factor.r2, self.sds)


def _integrated(density: LogDensity, target: Target, r2: FloatArray, sds: Sequence[FloatArray]) -> LineIntegral:
    known = target.priors.known_log_sigma
    with np.errstate(all="ignore"):
        if known is None:
            return integrate_panels(density, first_edges(target, r2, sds))
        place = np.full(r2.size, known)
        return LineIntegral(density(place, np.arange(r2.size)), place, np.zeros(r2.size))


def first_edges(target: Target, r2: FloatArray, sds: Sequence[FloatArray]) -> FloatArray:
    """Ends of the first panels (K, E): at the likelihood, at every prior, and where a uniform prior ends."""
    priors, size = target.priors, r2.size
    nu = max(target.cp.n - target.cp.p, 1)
    places = [0.5 * np.log(np.maximum(r2, 1e-300) / nu)]
    places += [np.full(size, np.log(at)) for at in _landmarks(priors.sigma)]
    for own, joint, t in zip(priors.sds, priors.joints, sds, strict=True):
        for k in range(t.shape[1] if joint is None else 0):
            if not own[k].relative:
                places += [np.log(at) - np.log(t[:, k]) for at in _landmarks(own[k])]
    offsets = np.concatenate([-_ENDS[:0:-1], _ENDS])
    edges = np.stack(places)[:, :, None] + offsets
    low, high = places[0][:, None] - _FARTHEST, places[0][:, None] + _FARTHEST
    edges = np.concatenate(list(edges), axis=1)
    return np.sort(np.clip(np.nan_to_num(edges, nan=0.0, posinf=1e9, neginf=-1e9), low, high), axis=1)


def _landmarks(prior: SdPrior) -> list[float]:
    """Where a prior is, and where it stops."""
    ends = [prior.upper] if isinstance(prior, Uniform) else []
    return [prior.quantile(0.5), *ends] if prior.proper else []
