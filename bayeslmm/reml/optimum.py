"""REML and ML estimation: minimise the profiled criterion over the relative covariance factors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Self

import numpy as np

from bayeslmm.design.covariance import canonical, factor_from_theta, smallest_bound
from bayeslmm.design.distinct import reproduces_any_response
from bayeslmm.design.screen import fill
from bayeslmm.equality import by_value
from bayeslmm.imports import later
from bayeslmm.likelihood import Factor, SummedDesign, derivatives, evaluate, profiled
from bayeslmm.likelihood import parameters as par
from bayeslmm.likelihood.criteria import residual_variance
from bayeslmm.numerics import direct
from bayeslmm.numerics.newton import Ending, NewtonResult, Step, minimise
from bayeslmm.reml.confirm import Confirmed, confirm, confirm_only
from bayeslmm.reml.criterion import Criterion, has_value
from bayeslmm.reml.elsewhere import Starts, choose_start, find_lower
from bayeslmm.reml.fixed import Held, free_entries, hold
from bayeslmm.reml.identified import Ridge, find_ridges
from bayeslmm.reml.penalty import Penalty
from bayeslmm.reml.scale import exponent, scale_shift, scaled_down, scaled_factor
from bayeslmm.reml.status import FitStatus, LogDetNoise
from bayeslmm.reml.zeros import NO_RANK, TRY_ZERO, go_on, snap
from bayeslmm.residual import NO_PARAMETERS
from bayeslmm.types import BoolArray, FloatArray

# Few fits need more than one kind of evaluation.
if TYPE_CHECKING:
    from bayeslmm.reml import anchored
else:
    (anchored,) = later("bayeslmm.reml", "anchored")

# A residual sd below this share of what the fixed effects leave, or of the rounding of y, is no variance.
_PERFECT = 1e-11
# An iteration that got stuck below this share was on its way there.
_STUCK = 1e-6
_EPSILONS = 2e-15
# Curvatures above this, absolute and after scaling to unit diagonal, leave no room for a ridge.
_FLAT_ENOUGH = 1e-2
# Evaluations after which it is tried whether small singular values are zeros: beside a zero that is no coordinate the
# way to the minimum is a narrow bent valley.
PATIENCE = 50


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

    @classmethod
    def along(cls, term: int, direction: FloatArray, slope: float) -> Self:
        """The same of a direction (c,) of any length, and the slope along its variance."""
        largest = direction[np.argmax(np.abs(direction))]
        return cls(term, direction / largest, slope * float(largest**2))


@by_value
@dataclass(frozen=True, eq=False)
class Optimum:
    """Minimum of a profiled criterion.

    Attributes
    ----------
    cp : SummedDesign
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
    ridges : tuple of Ridge
        Combinations of variances that the data do not show; empty for an identified model.
    status : FitStatus
    evaluations : int
    trace : tuple of Step
    fixed : tuple of int
        Positions in ``design.terms`` of the terms whose theta was given, not estimated.
    penalty : Penalty or None
        What the criterion was penalised by for the estimates; `criterion` is without it.
    doubt : float
        By how much the criterion may be wrong, or above its minimum, where that is more than rounding (-2 log
        likelihood); 0 for a fit that an independent evaluation has confirmed.
    lam : FloatArray, shape (k,)
        Parameters of the residual structure; empty for equal variances and for precision weights.
    estimated : LogDetNoise or None
        How far a log determinant that is not exact may have led astray.
    """

    cp: SummedDesign
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
    fixed: tuple[int, ...] = ()
    ridges: tuple[Ridge, ...] = ()
    penalty: Penalty | None = None
    doubt: float = 0.0
    lam: FloatArray = field(default_factory=lambda: NO_PARAMETERS)
    estimated: LogDetNoise | None = None

    def __repr__(self) -> str:
        name, ended = "REML" if self.reml else "ML", self.status.name.replace("_", " ")
        size = f"criterion {self.criterion:.4f}, {self.evaluations} evaluations, {ended}"
        return fill(f"<{name} optimum of {self.cp.design.formula!r}: {size}>", indent="  ")

    @property
    def objective(self) -> float:
        """What was minimised: the criterion minus twice the log penalty in theta, units of the user's columns."""
        if self.penalty is None:
            return self.criterion
        return self.criterion - 2.0 * self.penalty.log_density(self.cp.frame.structures, self.terms, self.fixed)

    @property
    def verdict(self) -> str:
        """The status in words, with what it depends on: the ridges, the size of the doubt."""
        doubt = f"; the criterion may be wrong by {self.doubt:.2g}" if self.doubt > 0 else ""
        if self.cp.design.facts is not None and self.status.ok:
            doubt += "; confirmed on the sums of the rows, which are not in memory"
        noise = "" if self.estimated is None else f"; {self.estimated}"
        return f"{self.status}{''.join(f'; {ridge}' for ridge in self.ridges)}{doubt}{noise}"

    @cached_property
    def gradient(self) -> FloatArray:
        """Gradient of what was minimised in the entries of `internal` that are not fixed, shape (f,)."""
        criterion, x = self._problem
        return criterion(x).expand().gradient

    @cached_property
    def hessian(self) -> FloatArray:
        """Hessian in these, shape (f, f); by differences of the exact gradient where that takes less."""
        criterion, x = self._problem
        return criterion.hessian(x)

    @property
    def _problem(self) -> tuple[Criterion, FloatArray]:
        held = Held(self.fixed, self.internal, free_entries(self.cp, self.fixed))
        return Criterion(self.cp, self.reml, held, self.penalty), self.internal[held.free]


def optimise(
    cp: SummedDesign,
    reml: bool = True,
    start: FloatArray | None = None,
    max_evaluations: int = 200,
    fixed: Mapping[int, FloatArray] | None = None,
    penalty: Penalty | None = None,
) -> Optimum:
    """Minimise the profiled REML or ML criterion.

    Parameters
    ----------
    cp : SummedDesign
    reml : bool
    start : FloatArray, shape (k,), optional
        Internal start; by default the best of a moment estimate and, where evaluations are cheap, a few others.
    max_evaluations : int
    fixed : mapping, optional
        Position of a term in the design to its theta, which is then not estimated.
    penalty : Penalty, optional
        Its logarithm, twice, is subtracted from the criterion; see `penalised.optimise_penalised`.

    Returns
    -------
    Optimum

    References
    ----------
    Bates et al. (2015), J. Stat. Softw. 67(1), sec. 3.4; Bates & DebRoy (2004) for the derivatives. The
    boundary needs no bounds: the criterion is even in every column of the factor, so that a minimum at a
    zero variance is a smooth stationary point and a false zero is a saddle with negative curvature.
    """
    power = exponent(cp)
    if power:
        near_one = optimise(scaled_down(cp.design, power), reml, start, max_evaluations, fixed, penalty)
        return _scaled_up(cp, near_one, power)
    held = hold(cp, fixed)
    criterion = Criterion(cp, reml, held, penalty)
    starts = choose_start(criterion) if start is None else Starts(start)
    only = confirm_only(criterion, starts.best) if starts.only else None
    if only is not None:
        return _finish(criterion, only, {})

    def solve(x: FloatArray) -> NewtonResult:
        result = minimise(criterion, x, min(PATIENCE, max_evaluations))
        if result.ending is Ending.evaluation_limit:
            result = snap(criterion, result, max_evaluations)
        if result.ending is Ending.evaluation_limit and max_evaluations > PATIENCE:
            result = go_on(criterion, result, result.x, max_evaluations - PATIENCE)
        if result.ending is Ending.converged:
            result = snap(criterion, result, max_evaluations)
            result = _escape(criterion, result, max_evaluations)
        return result

    result = solve(starts.best[held.free])
    if result.ending is Ending.converged:
        result = find_lower(criterion, result, starts, solve)
    said = None
    if cp.plan.estimated:
        criterion, result, points = anchored.refine(criterion, result, max_evaluations)
        if points:
            result = snap(criterion, result, max_evaluations)
        said = anchored.estimated(criterion, result, points)
    known = np.array([one[held.free] for one in (starts.best, *starts.others)])
    found = _finish(criterion, confirm(criterion, result, known, max_evaluations), fixed or {})
    return found if said is None else replace(found, estimated=said)


def _scaled_up(cp: SummedDesign, optimum: Optimum, power: int) -> Optimum:
    """The optimum for a response from that for the response over a power of two."""
    shift = scale_shift(cp, optimum.reml, power)
    return replace(
        optimum,
        cp=cp,
        sigma=float(np.ldexp(optimum.sigma, power)),
        criterion=optimum.criterion + shift,
        factor=scaled_factor(cp, optimum.factor, optimum.factors, power),
        trace=tuple(replace(step, value=step.value + shift) for step in optimum.trace),
    )


def _escape(criterion: Criterion, result: NewtonResult, max_evaluations: int) -> NewtonResult:
    """Leave a zero that is a minimum for the shape it was reached with, but not for all.

    At a zero covariance the shape of G has no effect, so that no derivative tells of a better one.
    """
    cp, full = criterion.cp, criterion.held.full(result.x)
    for b, columns, term, part, structure in cp.frame.terms:
        if structure.entries or term in criterion.held.terms or full[part].any():
            continue
        factors = par.internal_factors(cp, full)
        first = derivatives(cp, factors, evaluate(cp, factors), criterion.reml)
        W = par.frame(cp, b, columns, structure)
        away = structure.escape(par.slopes_in_frame(first, b, columns, W)[0])
        if away is not None:
            full[part] = away
            again = go_on(criterion, result, full[criterion.held.free], max_evaluations)
            if again.ending is Ending.converged and again.value < result.value:
                return snap(criterion, again, max_evaluations)
            full = criterion.held.full(result.x)
    return result


def _finish(criterion: Criterion, confirmed: Confirmed, fixed: Mapping[int, FloatArray]) -> Optimum:
    cp, result = criterion.cp, confirmed.result
    internal = criterion.held.full(result.x)
    factors = tuple(criterion.factors(result.x) if confirmed.factors is None else confirmed.factors)
    factor = criterion.factor(result.x, factors) if confirmed.factor is None else confirmed.factor
    terms = par.term_factors(cp, factors)
    for i, theta in fixed.items():
        # As given, without the rounding of the way to internal coordinates and back.
        terms[i] = canonical(factor_from_theta(cp.frame.structures[i], theta)[None])
    finite = math.isfinite(result.value)
    vanished = vanished_directions(criterion, internal, factors, factor) if finite else ()
    ridges = () if confirmed.told_apart else _ridges(criterion, factors, factor, result, vanished)
    variance = float(residual_variance(cp, factor.r2, criterion.reml)[0])
    penalised = criterion.penalty is not None and finite
    return Optimum(
        reml=criterion.reml,
        cp=cp,
        internal=internal,
        factors=factors,
        terms=tuple(T[0] for T in terms),
        theta=par.theta_from_terms(cp, terms)[0],
        sigma=math.sqrt(variance) if cp.sigma is None else cp.sigma,
        criterion=float(profiled(cp, factor, criterion.reml)[0]) if penalised else result.value,
        factor=factor,
        vanished=vanished,
        status=fit_status(cp, variance, result.ending, vanished, ridges, confirmed.doubt),
        evaluations=result.evaluations,
        trace=result.steps,
        fixed=criterion.held.terms,
        ridges=ridges,
        penalty=criterion.penalty,
        doubt=confirmed.doubt,
    )


def _ridges(
    criterion: Criterion,
    factors: Sequence[FloatArray],
    factor: Factor,
    result: NewtonResult,
    vanished: tuple[Vanished, ...],
) -> tuple[Ridge, ...]:
    """Looked for where the curvature does not already show that there are none."""
    if criterion.held.terms or not has_value(criterion.cp, factor) or not np.isfinite(result.value):
        return ()
    # Terms of one factor span the same space more easily than an approximate Hessian shows.
    several = not criterion.cp.sums.batched and any(len(b.terms) > 1 for b in criterion.cp.blocks)
    # The curvature of a penalty is not the data's.
    curved = criterion.penalty is None and _is_curved(result.hessian)
    if not vanished and not several and curved:
        return ()
    return find_ridges(criterion.cp, factors, criterion.reml)


def _is_curved(hessian: FloatArray) -> bool:
    """Whether a Hessian is clearly positive definite once its rows are brought to one scale."""
    diagonal = np.diagonal(hessian)
    if not (diagonal > _FLAT_ENOUGH).all():
        return False
    scale = np.sqrt(diagonal)
    return bool(direct.eigenvalues(hessian / (scale * scale[:, None]))[0] > _FLAT_ENOUGH)


def fit_status(
    cp: SummedDesign,
    variance: float,
    ending: Ending,
    vanished: tuple[Vanished, ...],
    ridges: tuple[Ridge, ...],
    doubt: float,
) -> FitStatus:
    """The status of an estimate from how the iteration ended and what was found there; `variance` is sigma^2."""
    converged = np.array(ending is Ending.converged)
    spread, largest = cp.response.spread, cp.design.largest * cp.sigma_unit
    # One comparison tells nearly all fits.
    perfect = cp.sigma is None and not variance > (_STUCK * spread + _EPSILONS * largest) ** 2
    perfect = perfect and bool(is_perfect(np.array(variance), np.array(spread), np.array(largest), converged))
    if perfect and ending is Ending.converged and reproduces_any_response(cp.design):
        # Every response is reproduced, so that no residual is an estimate like any other, with a finite criterion.
        return FitStatus.converged_at_boundary if vanished else FitStatus.converged
    if ridges and not perfect and ending is Ending.converged:
        return FitStatus.not_identified
    if doubt > 0 and not perfect and ending is Ending.converged:
        return FitStatus.imprecise
    return ending_status(ending, bool(vanished), bool(perfect))


def is_perfect(variance: FloatArray, spread: FloatArray, largest: FloatArray, converged: BoolArray) -> BoolArray:
    """Whether a residual variance is none, beside what the fixed effects leave and the rounding of y."""
    share = np.where(converged, _PERFECT, _STUCK)
    return np.asarray(variance <= np.maximum(share * spread, _EPSILONS * largest) ** 2)


def ending_status(ending: Ending, singular: bool, perfect: bool) -> FitStatus:
    """How an iteration ended, for people."""
    if perfect:
        return FitStatus.non_finite
    if ending is Ending.converged and singular:
        return FitStatus.converged_at_boundary
    return FitStatus[ending.name]


def vanished_directions(
    criterion: Criterion, internal: FloatArray, factors: Sequence[FloatArray], factor: Factor
) -> tuple[Vanished, ...]:
    """Null directions of every term's covariance and the slope of the criterion along them."""
    cp = criterion.cp
    found: list[Vanished] = []
    first = None
    for b, columns, term, entries, structure in cp.frame.terms:
        if term in criterion.held.terms:
            continue
        T = factors[b][0, columns, columns]
        if structure.entries and smallest_bound(T) > TRY_ZERO[0]:
            continue
        s = np.linalg.svd(T, compute_uv=False)
        if (s > 0).all() and s[-1] > NO_RANK * s[0]:
            continue
        first = first or derivatives(cp, factors, factor, criterion.reml)
        W, inverse = par.frame(cp, b, columns, structure), cp.blocks[b].inverse_basis[columns, columns]
        slopes = par.slopes_in_frame(first, b, columns, W)[0]
        for v, slope in structure.vanished(internal[entries], slopes):
            normal = inverse.T @ v if W is None else float(np.linalg.norm(inverse)) * v
            found.append(Vanished.along(term, normal, slope))
    return tuple(found)
