"""REML and ML estimation: minimise the profiled criterion over the relative covariance factors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from bayeslmm.design.covariance import factor_from_theta
from bayeslmm.likelihood import CrossProducts, Factor, derivatives, evaluate, profiled
from bayeslmm.likelihood import parameters as par
from bayeslmm.likelihood.criteria import degrees_of_freedom
from bayeslmm.numerics.differences import jacobian
from bayeslmm.numerics.newton import Ending, NewtonResult, Point, Step, Trial, minimise
from bayeslmm.reml.status import FitStatus
from bayeslmm.types import FloatArray

# Singular values of a relative factor (on orthogonalised columns) below this are tried at exactly zero.
_TRY_ZERO = 1e-2
# A residual sd below this share of what the fixed effects leave, or of the rounding of y, is no variance.
_PERFECT = 1e-11
_EPSILONS = 2e-15
# A criterion that rises by less than this share of itself has not risen: rounding of a sum of n terms.
_ROUNDING = 1e-13


@dataclass(frozen=True)
class Vanished:
    """A direction of a term's effects that has no variance.

    Attributes
    ----------
    term : int
        Position in ``design.terms``.
    direction : FloatArray, shape (c,)
        Combination of effects (user's columns) whose variance is zero; largest entry 1.
    slope : float
        Derivative of the criterion along the variance of that combination, at zero (KKT multiplier;
        nonnegative at a minimum).
    """

    term: int
    direction: FloatArray
    slope: float


@dataclass(frozen=True)
class Optimum:
    """Minimum of a profiled criterion.

    Attributes
    ----------
    cp : CrossProducts
    reml : bool
    internal : FloatArray, shape (k,)
        Parameters on the orthogonalised columns.
    factors : tuple of FloatArray, each (1, c, c)
        Internal relative factors of the blocks.
    terms : tuple of FloatArray, each (c, c)
        Canonical relative factors on the user's columns, terms in the order of the formula.
    theta : FloatArray, shape (k,)
        Their free entries.
    sigma : float
        Units of y.
    criterion : float
        -2 log restricted likelihood (or likelihood).
    factor : Factor
        The evaluation at the optimum.
    vanished : tuple of Vanished
        Empty for a regular fit.
    status : FitStatus
    evaluations : int
    trace : tuple of Step
    """

    cp: CrossProducts
    reml: bool
    internal: FloatArray
    factors: tuple[FloatArray, ...]
    terms: tuple[FloatArray, ...]
    theta: FloatArray
    sigma: float
    criterion: float
    factor: Factor
    vanished: tuple[Vanished, ...]
    status: FitStatus
    evaluations: int
    trace: tuple[Step, ...]

    @cached_property
    def gradient(self) -> FloatArray:
        """Gradient in `internal`, shape (k,)."""
        return Criterion(self.cp, self.reml)(self.internal).expand().gradient

    @cached_property
    def hessian(self) -> FloatArray:
        """Hessian in `internal`, shape (k, k); by differences of the exact gradient where it is not exact itself."""
        criterion = Criterion(self.cp, self.reml)
        point = criterion(self.internal).expand()
        if point.exact:
            return point.hessian
        return jacobian(lambda x: criterion(x).expand().gradient, self.internal)


@dataclass(frozen=True)
class Criterion:
    """The profiled criterion of one data set as a function of the internal vector."""

    cp: CrossProducts
    reml: bool

    def __call__(self, x: FloatArray) -> Trial:
        """Criterion at x (inf where it is not defined, -inf for a perfect fit) and its derivatives."""
        factors = par.internal_factors(self.cp, x)
        try:
            factor = evaluate(self.cp, factors)
        except np.linalg.LinAlgError:
            return self._undefined(x, float("inf"))
        if not factor.r2[0] > 0:
            return self._undefined(x, float("-inf"))
        value = float(profiled(self.cp, factor, self.reml)[0])

        def expand() -> Point:
            first = derivatives(self.cp, factors, factor, self.reml)
            gradient = par.gradient(self.cp, factors, first)
            return Point(x, value, gradient, par.hessian(self.cp, factors, first), first.exact)

        return Trial(value, expand)

    @staticmethod
    def _undefined(x: FloatArray, value: float) -> Trial:
        nan = np.full((x.size, x.size), np.nan)
        return Trial(value, lambda: Point(x, value, nan[0], nan))


def optimise(
    cp: CrossProducts,
    reml: bool = True,
    start: FloatArray | None = None,
    max_evaluations: int = 200,
) -> Optimum:
    """Minimise the profiled REML or ML criterion.

    Parameters
    ----------
    cp : CrossProducts
    reml : bool
    start : FloatArray, shape (k,), optional
        Internal start; the best of a few multiples of the identity by default.
    max_evaluations : int

    Returns
    -------
    Optimum

    References
    ----------
    Bates et al. (2015), J. Stat. Softw. 67(1), sec. 3.4; Bates & DebRoy (2004) for the derivatives. The
    boundary needs no bounds: the criterion is even in every column of the factor, so that a minimum at a
    zero variance is a smooth stationary point and a false zero is a saddle with negative curvature.
    """
    criterion = Criterion(cp, reml)
    x = _best_start(cp, reml) if start is None else start
    result = minimise(criterion, x, max_evaluations)
    if result.ending is Ending.converged:
        result = _snap(criterion, result, max_evaluations)
    return _finish(criterion, result)


def _best_start(cp: CrossProducts, reml: bool) -> FloatArray:
    candidates = par.starts(cp)
    if candidates.shape[0] == 1:
        return np.asarray(candidates[0])
    factor = evaluate(cp, par.internal_factors(cp, candidates))
    factor = replace(factor, r2=np.maximum(factor.r2, np.finfo(float).tiny))
    return np.asarray(candidates[np.argmin(profiled(cp, factor, reml))])


def _snap(criterion: Criterion, result: NewtonResult, max_evaluations: int) -> NewtonResult:
    """Set small singular values to exactly zero where the criterion does not rise, then polish."""
    x = _without_small(criterion.cp, result.x)
    if np.array_equal(x, result.x):
        return result
    value = criterion(x).value
    if not value <= result.value + _ROUNDING * (1.0 + abs(result.value)):
        return result
    polished = minimise(criterion, x, max_evaluations)
    total = result.evaluations + 1 + polished.evaluations
    return NewtonResult(polished.x, polished.value, polished.ending, total, result.steps + polished.steps)


def _without_small(cp: CrossProducts, x: FloatArray) -> FloatArray:
    """The internal vector with singular values below the threshold replaced by zeros."""
    parts, position = [], 0
    for _, _, structure in cp.term_order:
        stop = position + len(structure.rows)
        T = factor_from_theta(structure, x[position:stop])
        U, s, Vt = np.linalg.svd(T)
        if (s < _TRY_ZERO).any():
            T = par.canonical(((U * np.where(s < _TRY_ZERO, 0.0, s)) @ Vt)[None])[0]
            T[np.abs(T) < 1e-14 * max(s[0], 1e-300)] = 0.0
            if s[0] < _TRY_ZERO:
                T = np.zeros_like(T)
        parts.append(T[structure.rows, structure.cols])
        position = stop
    return np.concatenate(parts)


def _finish(criterion: Criterion, result: NewtonResult) -> Optimum:
    cp = criterion.cp
    factors = tuple(par.internal_factors(cp, result.x))
    factor = evaluate(cp, factors)
    terms = par.term_factors(cp, factors)
    vanished = _vanished(criterion, factors, factor) if np.isfinite(result.value) else ()
    nu = degrees_of_freedom(cp, criterion.reml)
    return Optimum(
        reml=criterion.reml,
        cp=cp,
        internal=result.x,
        factors=factors,
        terms=tuple(T[0] for T in terms),
        theta=par.theta_from_terms(cp, terms)[0],
        sigma=float(np.sqrt(max(factor.r2[0], 0.0) / nu)),
        criterion=result.value,
        factor=factor,
        vanished=vanished,
        status=_status(cp, float(factor.r2[0]) / nu, result.ending, vanished),
        evaluations=result.evaluations,
        trace=result.steps,
    )


def _status(cp: CrossProducts, variance: float, ending: Ending, vanished: tuple[Vanished, ...]) -> FitStatus:
    y = cp.design.y if cp.design.offset is None else cp.design.y - cp.design.offset
    spread = float(np.sqrt(np.mean(cp.response.residual**2)))
    if variance <= max(_PERFECT * spread, _EPSILONS * float(np.abs(y).max())) ** 2:
        return FitStatus.non_finite
    if ending is Ending.converged and vanished:
        return FitStatus.converged_at_boundary
    return FitStatus[ending.name]


def _vanished(criterion: Criterion, factors: Sequence[FloatArray], factor: Factor) -> tuple[Vanished, ...]:
    """Null directions of every term's covariance and the slope of the criterion along them."""
    cp = criterion.cp
    found: list[Vanished] = []
    first = None
    for b, (columns, term) in enumerate_terms(cp):
        T = factors[b][0, columns, columns]
        U, s, _ = np.linalg.svd(T)
        if (s > 0).all() and s[-1] > 1e-9 * s[0]:
            continue
        first = first or derivatives(cp, factors, factor, criterion.reml)
        slopes = first.blocks[b][columns, columns]
        inverse = cp.blocks[b].inverse_basis[columns, columns]
        for i in np.flatnonzero(s <= 1e-9 * max(s[0], 1e-300)):
            normal = inverse.T @ U[:, i]
            largest = normal[np.argmax(np.abs(normal))]
            slope = float(U[:, i] @ slopes @ U[:, i]) * float(largest**2)
            found.append(Vanished(term, normal / largest, slope))
    return tuple(found)


def enumerate_terms(cp: CrossProducts) -> list[tuple[int, tuple[slice, int]]]:
    """(block, (columns within the block, position in design.terms)) of every term."""
    return [
        (b, (columns, term))
        for b, block in enumerate(cp.blocks)
        for term, columns in zip(block.terms, block.slices, strict=True)
    ]
