"""REML and ML estimation for many responses of one design at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from bayeslmm.design.distinct import reproduces_any_response
from bayeslmm.errors import DesignError
from bayeslmm.likelihood import Factor, SummedDesign, cross_products, derivatives, evaluate, profiled
from bayeslmm.likelihood import parameters as par
from bayeslmm.likelihood.conditional import user_beta
from bayeslmm.likelihood.criteria import degrees_of_freedom, residual_variance
from bayeslmm.likelihood.factor import Replicates
from bayeslmm.likelihood.many_levels import ManyLevels
from bayeslmm.likelihood.reduction import level_sums_of, takes_responses
from bayeslmm.likelihood.replicates import Responses, reduce_responses
from bayeslmm.likelihood.starts import moment_factors_many
from bayeslmm.numerics.newton import Ending
from bayeslmm.numerics.newton_many import NewtonMany, minimise_many
from bayeslmm.reml.confirm import WIDE
from bayeslmm.reml.elsewhere import is_lower, rivals, zero_sets
from bayeslmm.reml.optimum import PATIENCE, Optimum, ending_status, is_perfect, optimise
from bayeslmm.reml.scale import exponents
from bayeslmm.reml.status import FitStatus
from bayeslmm.reml.zeros import NO_RANK, ROUNDING, TRY_ZERO
from bayeslmm.types import BoolArray, FloatArray, IntArray

# Doubles in the widest array of a batch (about 16 MB, which stays near the caches).
CHUNK = 2_000_000

# What differs between fits of one design: the response, or the rows.
type DataOfEach = Replicates | ManyLevels


@dataclass(frozen=True)
class Optima:
    """Estimates for K responses.

    Attributes
    ----------
    theta : FloatArray, shape (K, k)
        Relative covariance parameters.
    terms : tuple of FloatArray, each (K, c, c)
        Relative factors on the user's columns, terms in the order of the formula.
    sigma : FloatArray, shape (K,)
        Units of y.
    beta : FloatArray, shape (K, p)
        User's columns.
    criterion : FloatArray, shape (K,)
    singular : BoolArray, shape (K,)
        Whether some combination of effects has no variance.
    status : tuple of FitStatus
    evaluations : IntArray, shape (K,)
    lam : FloatArray, shape (K, m)
        Parameters of the residual structure; none if None.
    """

    theta: FloatArray
    terms: tuple[FloatArray, ...]
    sigma: FloatArray
    beta: FloatArray
    criterion: FloatArray
    singular: BoolArray
    status: tuple[FitStatus, ...]
    evaluations: IntArray
    lam: FloatArray | None = None

    @classmethod
    def of(cls, best: Optimum) -> Optima:
        """The estimates of a single fit."""
        return cls(
            best.theta[None],
            tuple(T[None] for T in best.terms),
            np.array([best.sigma]),
            user_beta(best.cp, best.factor.solution[:, best.cp.q_trailing :]),
            np.array([best.criterion]),
            np.array([bool(best.vanished)]),
            (best.status,),
            np.array([best.evaluations]),
            best.lam[None] if best.lam.size else None,
        )

    def part(self, which: IntArray) -> Optima:
        """The estimates for some of the responses."""
        return Optima(
            self.theta[which],
            tuple(T[which] for T in self.terms),
            self.sigma[which],
            self.beta[which],
            self.criterion[which],
            self.singular[which],
            tuple(self.status[k] for k in which),
            self.evaluations[which],
            None if self.lam is None else self.lam[which],
        )


def optimise_many(
    cp: SummedDesign,
    Y: FloatArray,
    reml: bool = True,
    *,
    fixed: Mapping[int, FloatArray] | None = None,
    workers: int = 1,
    max_evaluations: int = 200,
) -> Optima:
    """Minimise the profiled criterion for every column of Y.

    Designs with dense levels are solved together by one vectorised Newton iteration; others one response at a time.
    Every response is solved by itself in the sense that its result does not depend on the others, nor on `workers`.
    Other minima are looked for as in `optimise`, but for models with several variances at zeros only. Responses with
    relative standard deviations beyond a thousand are fitted alone.

    Parameters
    ----------
    cp : SummedDesign
    Y : FloatArray, shape (n, K)
        Units of y.
    reml : bool
    fixed : mapping, optional
        Position of a term in the design to its theta, which is then not estimated.
    workers : int
        Threads.
    max_evaluations : int

    Returns
    -------
    Optima
    """
    # Sigma does not follow the size of a response where it is known.
    powers = exponents(Y) if cp.design.offset is None and cp.sigma is None else np.zeros(Y.shape[1], dtype=np.int64)
    if powers.any():
        near_one = optimise_many(
            cp, np.ldexp(Y, -powers), reml, fixed=fixed, workers=workers, max_evaluations=max_evaluations
        )
        return _scaled_up(cp, near_one, powers, reml)
    together = fitted_together(cp, bool(fixed))
    width = cp.sums.between if together else 0
    step = max(1, CHUNK // max(width, 1)) if together else 1
    if Y.shape[1] == 0:
        raise DesignError("There is no response to fit: Y has no columns.")
    chunks = [Y[:, k : k + step] for k in range(0, Y.shape[1], step)]

    def solve(chunk: FloatArray) -> Optima:
        if together:
            return _with_all_digits(cp, chunk, reml, max_evaluations, _solve_together(cp, chunk, reml, max_evaluations))
        return _solve_one(cp, chunk[:, 0], reml, fixed, max_evaluations)

    if workers == 1:
        return join_optima([solve(chunk) for chunk in chunks])
    with ThreadPoolExecutor(workers) as pool:
        return join_optima(list(pool.map(solve, chunks)))


def _scaled_up(cp: SummedDesign, optima: Optima, powers: IntArray, reml: bool) -> Optima:
    """Estimates for responses from those for the responses over powers of two."""
    shift = 2.0 * powers * float(np.log(2.0)) * degrees_of_freedom(cp, reml)
    return replace(
        optima,
        sigma=np.ldexp(optima.sigma, powers),
        beta=np.ldexp(optima.beta, powers[:, None]),
        criterion=optima.criterion + shift,
    )


def _with_all_digits(cp: SummedDesign, Y: FloatArray, reml: bool, max_evaluations: int, optima: Optima) -> Optima:
    """Responses at whose estimate the iteration for all lost digits, fitted alone."""
    lost = loses_digits(cp, optima)
    if not lost.any():
        return optima
    rows = [
        _solve_one(cp, Y[:, k], reml, None, max_evaluations) if lost[k] else optima.part(np.array([k]))
        for k in range(lost.size)
    ]
    return join_optima(rows)


def not_identified(optima: Optima) -> Optima:
    """The same where the design cannot tell the variances apart: no response has estimates of each."""
    status = tuple(FitStatus.not_identified if status.ok else status for status in optima.status)
    return replace(optima, status=status)


def loses_digits(cp: SummedDesign, optima: Optima) -> BoolArray:
    """As for a single response (`confirm`), by the size of the relative sds alone."""
    if optima.theta.shape[1] == 1 and len(cp.blocks) == 1:
        return np.zeros(optima.sigma.size, dtype=bool)
    squares = np.zeros(optima.sigma.size)
    for block in cp.blocks:
        for term, columns in zip(block.terms, block.slices, strict=True):
            squares += ((block.inverse_basis[columns, columns] @ optima.terms[term]) ** 2).sum(axis=(1, 2))
    usable = np.array([status is not FitStatus.evaluation_limit for status in optima.status])
    return usable & ~(squares <= WIDE**2)


def fitted_together(cp: SummedDesign, held: bool = False) -> bool:
    """Whether `optimise_many` solves all responses by one iteration; `held`: some theta is not estimated."""
    return takes_responses(cp) and not held and all(s.plain for *_, s in cp.frame.terms)


def join_optima(parts: list[Optima]) -> Optima:
    """Estimates for some responses after those for others."""
    first = parts[0]
    if len(parts) == 1:
        return first
    return Optima(
        np.concatenate([part.theta for part in parts]),
        tuple(np.concatenate(terms) for terms in zip(*(part.terms for part in parts), strict=True)),
        np.concatenate([part.sigma for part in parts]),
        np.concatenate([part.beta for part in parts]),
        np.concatenate([part.criterion for part in parts]),
        np.concatenate([part.singular for part in parts]),
        tuple(status for part in parts for status in part.status),
        np.concatenate([part.evaluations for part in parts]),
        None if first.lam is None else np.concatenate([np.asarray(part.lam) for part in parts]),
    )


def _solve_one(
    cp: SummedDesign, y: FloatArray, reml: bool, fixed: Mapping[int, FloatArray] | None, max_evaluations: int
) -> Optima:
    own = cross_products(replace(cp.design, y=y))
    return Optima.of(optimise(own, reml, fixed=fixed, max_evaluations=max_evaluations))


def _solve_together(cp: SummedDesign, Y: FloatArray, reml: bool, max_evaluations: int) -> Optima:
    responses = reduce_responses(cp, Y)
    own = moment_factors_many(level_sums_of(cp), responses.replicates)
    moments = np.array([par.from_blocks(cp, [T[k] for T in own]) for k in range(Y.shape[1])])
    result = minimise_each(cp, responses.replicates, reml, moments, par.starts(cp)[1:], max_evaluations)
    return _finish(cp, responses, Y, reml, result)


def minimise_each(
    cp: SummedDesign,
    data: DataOfEach,
    reml: bool,
    own: FloatArray,
    common: FloatArray,
    max_evaluations: int = 200,
) -> NewtonMany:
    """Minimise K criteria, those of further responses or of other rows, by one vectorised iteration.

    Parameters
    ----------
    cp : SummedDesign
        With dense levels, on whose frame the data are.
    data : Replicates or ManyLevels
    reml : bool
    own : FloatArray, shape (K, k)
        A start for each.
    common : FloatArray, shape (s, k)
        Further starts, for all; those of `parameters.starts` but the first, or none.
    max_evaluations : int
    """

    def solve(x: FloatArray, which: IntArray) -> NewtonMany:
        chosen = data.part(which)
        function = _function(cp, chosen, reml)
        result = minimise_many(function, x, min(PATIENCE, max_evaluations))
        result = _snap(cp, function, chosen, reml, result, max_evaluations)
        slow = np.flatnonzero([ending is Ending.evaluation_limit for ending in result.ending])
        if slow.size == 0 or max_evaluations <= PATIENCE:
            return result
        more = max_evaluations - PATIENCE
        again = minimise_many(lambda at, which: function(at, slow[which]), result.x[slow], more)
        return _snap(cp, function, chosen, reml, _merge(result, slow, again), max_evaluations)

    start, grid_values = _starts(cp, data, reml, own, common)
    result = solve(start, np.arange(len(start)))
    return _find_lower(cp, data, reml, result, grid_values, solve)


def on_each(cp: SummedDesign, x: FloatArray, data: DataOfEach) -> tuple[SummedDesign, list[FloatArray], Factor]:
    """Cross-products to which an evaluation at points (K, k) belongs, relative factors, and the evaluation."""
    factors = par.internal_factors(cp, x)
    if isinstance(data, Replicates):
        return cp, factors, evaluate(cp, factors, replicates=data)
    own = replace(cp, sums=data)
    return own, factors, evaluate(own, factors, keep=True)


def _evaluate(cp: SummedDesign, x: FloatArray, data: DataOfEach, reml: bool) -> tuple[Factor, FloatArray]:
    """Factor and criterion (K,): inf where the matrix is not definite, -inf for a perfect fit."""
    own, _, factor = on_each(cp, x, data)
    return factor, _value(own, factor, reml)


def _value(cp: SummedDesign, factor: Factor, reml: bool) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return profiled(cp, replace(factor, r2=np.maximum(factor.r2, 0.0)), reml)


def _function(
    cp: SummedDesign, data: DataOfEach, reml: bool
) -> Callable[[FloatArray, IntArray], tuple[FloatArray, FloatArray, FloatArray]]:
    def function(x: FloatArray, which: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        own, factors, factor = on_each(cp, x, data.part(which))
        # A perfect fit has no derivatives; its value stops the iteration.
        usable = factor if own.sigma is not None else replace(factor, r2=np.where(factor.r2 > 0, factor.r2, np.nan))
        first = derivatives(own, factors, usable, reml)
        return _value(own, factor, reml), par.gradient(own, x, first), par.hessian(own, x, first)

    return function


def _starts(
    cp: SummedDesign, data: DataOfEach, reml: bool, own: FloatArray, common: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """The best start of each among its own and the common ones; criteria (K, R) on the grid, if that is among these."""
    if not len(common):
        return own, np.zeros((own.shape[0], 0))
    candidates = [own, *(np.broadcast_to(point, own.shape) for point in common)]
    values = np.array([_evaluate(cp, x, data, reml)[1] for x in candidates])
    values = np.where(np.isnan(values), np.inf, values)
    best = np.argmin(values, axis=0)
    on_grid = values[len(values) - par.ratio_grid(cp).size :].T
    return np.asarray(np.array(candidates)[best, np.arange(own.shape[0])]), on_grid


def _find_lower(
    cp: SummedDesign,
    data: DataOfEach,
    reml: bool,
    result: NewtonMany,
    grid_values: FloatArray,
    solve: Callable[[FloatArray, IntArray], NewtonMany],
) -> NewtonMany:
    """Continue from where another minimum may be lower, as for a single response but without the coarse grid."""
    converged = np.array([ending is Ending.converged for ending in result.ending])
    ratios = par.ratio_grid(cp)
    if ratios.size and grid_values.size:
        chosen = rivals(ratios, grid_values, np.abs(result.x), result.value) & converged[:, None]
        rows, which = np.nonzero(chosen)
        points = ratios[which, None]
    else:
        rows, points = _zeros_to_try(cp, data, reml, result, converged)
    return _keep_lowest(result, rows, solve(points, rows)) if rows.size else result


def _zeros_to_try(
    cp: SummedDesign, data: DataOfEach, reml: bool, result: NewtonMany, converged: BoolArray
) -> tuple[IntArray, FloatArray]:
    """Responses (M,) and points (M, k) with some entries set to zero where that is lower."""
    rows, points = [np.zeros(0, dtype=np.int64)], [np.zeros((0, result.x.shape[1]))]
    for zeros in zero_sets(cp):
        changed = np.flatnonzero(converged & (result.x[:, zeros] != 0).any(axis=1))
        if changed.size == 0:
            continue
        x = np.where(zeros, 0.0, result.x[changed])
        value, reached = _evaluate(cp, x, data.part(changed), reml)[1], result.value[changed]
        lower = is_lower(value, reached)
        rows.append(changed[lower])
        points.append(x[lower])
    return np.concatenate(rows), np.concatenate(points)


def _keep_lowest(result: NewtonMany, rows: IntArray, again: NewtonMany) -> NewtonMany:
    """Other minima of some responses in place of theirs where they are lower by more than rounding."""
    x, value, evaluations = result.x.copy(), result.value.copy(), result.evaluations.copy()
    np.add.at(evaluations, rows, again.evaluations)
    for i, k in enumerate(rows):
        if again.ending[i] is Ending.converged and is_lower(again.value[i], value[k]):
            x[k], value[k] = again.x[i], again.value[i]
    return NewtonMany(x, value, result.ending, evaluations)


def _snap(
    cp: SummedDesign,
    function: Callable[[FloatArray, IntArray], tuple[FloatArray, FloatArray, FloatArray]],
    data: DataOfEach,
    reml: bool,
    result: NewtonMany,
    max_evaluations: int,
) -> NewtonMany:
    """Small singular values set to exactly zero where the criterion does not rise, as for a single response."""
    ended = (Ending.converged, Ending.evaluation_limit)
    waiting = np.array([ending in ended for ending in result.ending])
    zeroed, found = result.x.copy(), list[IntArray]()
    for limit in TRY_ZERO:
        x = par.without_small(cp, result.x, limit)
        changed = np.flatnonzero(waiting & (x != result.x).any(axis=1))
        if changed.size == 0:
            break
        value = _evaluate(cp, x[changed], data.part(changed), reml)[1]
        kept = changed[value <= result.value[changed] + ROUNDING * (1.0 + np.abs(result.value[changed]))]
        zeroed[kept], waiting[kept] = x[kept], False
        found.append(kept)
    changed = np.concatenate(found) if found else np.zeros(0, dtype=np.int64)
    if changed.size == 0:
        return result
    again = minimise_many(lambda at, which: function(at, changed[which]), zeroed[changed], max_evaluations)
    again = replace(again, x=par.without_small(cp, again.x, NO_RANK), evaluations=again.evaluations + 1)
    return _merge(result, changed, again)


def _merge(result: NewtonMany, rows: IntArray, again: NewtonMany) -> NewtonMany:
    """Where some responses have been continued."""
    merged = NewtonMany(result.x.copy(), result.value.copy(), result.ending, result.evaluations.copy())
    merged.x[rows], merged.value[rows] = again.x, again.value
    merged.evaluations[rows] += again.evaluations
    endings = list(result.ending)
    for k, ending in zip(rows, again.ending, strict=True):
        endings[k] = ending
    return replace(merged, ending=tuple(endings))


def _finish(cp: SummedDesign, responses: Responses, Y: FloatArray, reml: bool, result: NewtonMany) -> Optima:
    _, factors, factor = on_each(cp, result.x, responses.replicates)
    terms = par.term_factors(cp, factors)
    variance = residual_variance(cp, factor.r2, reml)
    singular = without_rank(cp, factors)
    largest = np.abs(Y if cp.design.offset is None else Y - cp.design.offset[:, None]).max(axis=0)
    converged = np.array([ending is Ending.converged for ending in result.ending])
    perfect = is_perfect(variance, responses.spread * cp.sigma_unit, largest * cp.sigma_unit, converged)
    perfect &= cp.sigma is None
    if perfect.any() and reproduces_any_response(cp.design):
        perfect &= ~converged
    status = tuple(
        ending_status(ending, bool(zero), bool(exact))
        for ending, zero, exact in zip(result.ending, singular, perfect, strict=True)
    )
    beta = factor.solution[:, cp.q_trailing :] + responses.shift
    return Optima(
        theta=par.theta_from_terms(cp, terms),
        terms=tuple(terms),
        sigma=np.sqrt(variance),
        beta=beta @ cp.fixed.transform.T,
        criterion=result.value,
        singular=singular,
        status=status,
        evaluations=result.evaluations,
    )


def without_rank(cp: SummedDesign, factors: Sequence[FloatArray]) -> BoolArray:
    """At which points (K,) some combination of effects has no variance; internal factors (K, c, c) of the blocks."""
    singular = np.zeros(factors[0].shape[0], dtype=bool)
    for b, columns, _, _, _ in cp.frame.terms:
        s = np.linalg.svd(factors[b][:, columns, columns], compute_uv=False)
        singular |= (s <= NO_RANK * np.maximum(s[:, :1], 1e-300)).any(axis=1)
    return singular
