"""REML and ML estimation for many responses of one design at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from bayeslmm.design.distinct import reproduces_any_response
from bayeslmm.errors import DesignError
from bayeslmm.likelihood import CrossProducts, Factor, SummedDesign, cross_products, derivatives, evaluate, profiled
from bayeslmm.likelihood import parameters as par
from bayeslmm.likelihood.conditional import user_beta
from bayeslmm.likelihood.criteria import degrees_of_freedom
from bayeslmm.likelihood.factor import Replicates
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
_CHUNK = 2_000_000


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
    """

    theta: FloatArray
    terms: tuple[FloatArray, ...]
    sigma: FloatArray
    beta: FloatArray
    criterion: FloatArray
    singular: BoolArray
    status: tuple[FitStatus, ...]
    evaluations: IntArray


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
    powers = exponents(Y) if cp.design.offset is None else np.zeros(Y.shape[1], dtype=np.int64)
    if powers.any():
        near_one = optimise_many(
            cp, np.ldexp(Y, -powers), reml, fixed=fixed, workers=workers, max_evaluations=max_evaluations
        )
        return _scaled_up(cp, near_one, powers, reml)
    together = fitted_together(cp, bool(fixed))
    width = cp.sums.between if together else 0
    step = max(1, _CHUNK // max(width, 1)) if together else 1
    if Y.shape[1] == 0:
        raise DesignError("There is no response to fit: Y has no columns.")
    chunks = [Y[:, k : k + step] for k in range(0, Y.shape[1], step)]

    def solve(chunk: FloatArray) -> Optima:
        if together:
            return _with_all_digits(cp, chunk, reml, max_evaluations, _solve_together(cp, chunk, reml, max_evaluations))
        return _solve_one(cp, chunk[:, 0], reml, fixed, max_evaluations)

    if workers == 1:
        return _join([solve(chunk) for chunk in chunks])
    with ThreadPoolExecutor(workers) as pool:
        return _join(list(pool.map(solve, chunks)))


def _scaled_up(cp: CrossProducts, optima: Optima, powers: IntArray, reml: bool) -> Optima:
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
    lost = _loses_digits(cp, optima)
    if not lost.any():
        return optima
    rows = [
        _solve_one(cp, Y[:, k], reml, None, max_evaluations) if lost[k] else _row(optima, k) for k in range(lost.size)
    ]
    return _join(rows)


def _loses_digits(cp: CrossProducts, optima: Optima) -> BoolArray:
    """As for a single response (`confirm`), by the size of the relative sds alone."""
    if optima.theta.shape[1] == 1 and len(cp.blocks) == 1:
        return np.zeros(optima.sigma.size, dtype=bool)
    squares = np.zeros(optima.sigma.size)
    for block in cp.blocks:
        for term, columns in zip(block.terms, block.slices, strict=True):
            squares += ((block.inverse_basis[columns, columns] @ optima.terms[term]) ** 2).sum(axis=(1, 2))
    usable = np.array([status is not FitStatus.evaluation_limit for status in optima.status])
    return usable & ~(squares <= WIDE**2)


def _row(optima: Optima, k: int) -> Optima:
    one = slice(k, k + 1)
    return Optima(
        optima.theta[one],
        tuple(T[one] for T in optima.terms),
        optima.sigma[one],
        optima.beta[one],
        optima.criterion[one],
        optima.singular[one],
        optima.status[one],
        optima.evaluations[one],
    )


def fitted_together(cp: SummedDesign, held: bool = False) -> bool:
    """Whether `optimise_many` solves all responses by one iteration; `held`: some theta is not estimated."""
    return takes_responses(cp) and not held and all(s.plain for *_, s in cp.frame.terms)


def _join(parts: list[Optima]) -> Optima:
    if len(parts) == 1:
        return parts[0]
    return Optima(
        np.concatenate([part.theta for part in parts]),
        tuple(np.concatenate(terms) for terms in zip(*(part.terms for part in parts), strict=True)),
        np.concatenate([part.sigma for part in parts]),
        np.concatenate([part.beta for part in parts]),
        np.concatenate([part.criterion for part in parts]),
        np.concatenate([part.singular for part in parts]),
        tuple(status for part in parts for status in part.status),
        np.concatenate([part.evaluations for part in parts]),
    )


def _solve_one(
    cp: SummedDesign, y: FloatArray, reml: bool, fixed: Mapping[int, FloatArray] | None, max_evaluations: int
) -> Optima:
    own = cross_products(replace(cp.design, y=y))
    best: Optimum = optimise(own, reml, fixed=fixed, max_evaluations=max_evaluations)
    return Optima(
        best.theta[None],
        tuple(T[None] for T in best.terms),
        np.array([best.sigma]),
        user_beta(own, best.factor.solution[:, own.q_trailing :]),
        np.array([best.criterion]),
        np.array([bool(best.vanished)]),
        (best.status,),
        np.array([best.evaluations]),
    )


def _solve_together(cp: SummedDesign, Y: FloatArray, reml: bool, max_evaluations: int) -> Optima:
    responses = reduce_responses(cp, Y)

    def solve(x: FloatArray, which: IntArray) -> NewtonMany:
        replicates = responses.replicates.part(which)
        function = _function(cp, replicates, reml)
        result = minimise_many(function, x, min(PATIENCE, max_evaluations))
        result = _snap(cp, function, replicates, reml, result, max_evaluations)
        slow = np.flatnonzero([ending is Ending.evaluation_limit for ending in result.ending])
        if slow.size == 0 or max_evaluations <= PATIENCE:
            return result
        more = max_evaluations - PATIENCE
        again = minimise_many(lambda at, which: function(at, slow[which]), result.x[slow], more)
        return _snap(cp, function, replicates, reml, _merge(result, slow, again), max_evaluations)

    start, grid_values = _starts(cp, responses.replicates, reml)
    result = solve(start, np.arange(len(start)))
    result = _find_lower(cp, responses.replicates, reml, result, grid_values, solve)
    return _finish(cp, responses, Y, reml, result)


def _evaluate(cp: CrossProducts, x: FloatArray, replicates: Replicates, reml: bool) -> tuple[Factor, FloatArray]:
    """Factor and criterion (K,): inf where the matrix is not definite, -inf for a perfect fit."""
    factors = par.internal_factors(cp, x)
    factor = evaluate(cp, factors, replicates=replicates)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = profiled(cp, replace(factor, r2=np.maximum(factor.r2, 0.0)), reml)
    return factor, value


def _function(
    cp: CrossProducts, replicates: Replicates, reml: bool
) -> Callable[[FloatArray, IntArray], tuple[FloatArray, FloatArray, FloatArray]]:
    def function(x: FloatArray, which: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        factors = par.internal_factors(cp, x)
        factor, value = _evaluate(cp, x, replicates.part(which), reml)
        # A perfect fit has no derivatives; its value stops the iteration.
        usable = replace(factor, r2=np.where(factor.r2 > 0, factor.r2, np.nan))
        first = derivatives(cp, factors, usable, reml)
        return value, par.gradient(cp, x, first), par.hessian(cp, x, first)

    return function


def _starts(cp: SummedDesign, replicates: Replicates, reml: bool) -> tuple[FloatArray, FloatArray]:
    """For every response the better of its moment estimate and a few common points; criteria (K, R) on the grid."""
    own = moment_factors_many(level_sums_of(cp), replicates)
    K = replicates.E.shape[0]
    candidates = [np.array([par.from_blocks(cp, [T[k] for T in own]) for k in range(K)])]
    candidates += [np.broadcast_to(point, candidates[0].shape) for point in par.starts(cp)[1:]]
    values = np.array([_evaluate(cp, x, replicates, reml)[1] for x in candidates])
    values = np.where(np.isnan(values), np.inf, values)
    best = np.argmin(values, axis=0)
    on_grid = values[len(values) - par.ratio_grid(cp).size :].T
    return np.asarray(np.array(candidates)[best, np.arange(K)]), on_grid


def _find_lower(
    cp: CrossProducts,
    replicates: Replicates,
    reml: bool,
    result: NewtonMany,
    grid_values: FloatArray,
    solve: Callable[[FloatArray, IntArray], NewtonMany],
) -> NewtonMany:
    """Continue from where another minimum may be lower, as for a single response but without the coarse grid."""
    converged = np.array([ending is Ending.converged for ending in result.ending])
    ratios = par.ratio_grid(cp)
    if ratios.size:
        chosen = rivals(ratios, grid_values, np.abs(result.x), result.value) & converged[:, None]
        rows, which = np.nonzero(chosen)
        points = ratios[which, None]
    else:
        rows, points = _zeros_to_try(cp, replicates, reml, result, converged)
    return _keep_lowest(result, rows, solve(points, rows)) if rows.size else result


def _zeros_to_try(
    cp: CrossProducts, replicates: Replicates, reml: bool, result: NewtonMany, converged: BoolArray
) -> tuple[IntArray, FloatArray]:
    """Responses (M,) and points (M, k) with some entries set to zero where that is lower."""
    rows, points = [np.zeros(0, dtype=np.int64)], [np.zeros((0, result.x.shape[1]))]
    for zeros in zero_sets(cp):
        changed = np.flatnonzero(converged & (result.x[:, zeros] != 0).any(axis=1))
        if changed.size == 0:
            continue
        x = np.where(zeros, 0.0, result.x[changed])
        value, reached = _evaluate(cp, x, replicates.part(changed), reml)[1], result.value[changed]
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
    cp: CrossProducts,
    function: Callable[[FloatArray, IntArray], tuple[FloatArray, FloatArray, FloatArray]],
    replicates: Replicates,
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
        value = _evaluate(cp, x[changed], replicates.part(changed), reml)[1]
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
    factors = par.internal_factors(cp, result.x)
    factor, _ = _evaluate(cp, result.x, responses.replicates, reml)
    terms = par.term_factors(cp, factors)
    nu = degrees_of_freedom(cp, reml)
    variance = np.maximum(factor.r2, 0.0) / nu
    singular = np.zeros(result.value.size, dtype=bool)
    for b, columns, _, _, _ in cp.frame.terms:
        s = np.linalg.svd(factors[b][:, columns, columns], compute_uv=False)
        singular |= (s <= NO_RANK * np.maximum(s[:, :1], 1e-300)).any(axis=1)
    largest = np.abs(Y if cp.design.offset is None else Y - cp.design.offset[:, None]).max(axis=0)
    converged = np.array([ending is Ending.converged for ending in result.ending])
    perfect = is_perfect(variance, responses.spread * cp.sigma_unit, largest * cp.sigma_unit, converged)
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
