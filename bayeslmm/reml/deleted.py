"""REML and ML estimates without some rows, for many sets of rows, the variances estimated anew each time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bayeslmm.design.covariance import canonical
from bayeslmm.design.dominant import heavy_rows
from bayeslmm.design.without import without_rows
from bayeslmm.likelihood import SummedDesign, beta_covariance, cross_products
from bayeslmm.likelihood import parameters as par
from bayeslmm.likelihood.conditional import user_beta
from bayeslmm.likelihood.criteria import residual_variance
from bayeslmm.likelihood.many_levels import LevelRows
from bayeslmm.numerics.newton import Ending
from bayeslmm.reml.many import CHUNK, Optima, join_optima, loses_digits, minimise_each, on_each, without_rank
from bayeslmm.reml.optimum import Optimum, ending_status, is_perfect, optimise
from bayeslmm.reml.residual_optimum import ResidualOptimum, optimise_residual
from bayeslmm.reml.scale import exponent
from bayeslmm.residual import estimable
from bayeslmm.residual.bounded import too_few_groups
from bayeslmm.types import FloatArray, IntArray

# Common starts are compared where that takes no more than so many doubles.
_STARTS = 4_000_000
# Share of the information on a parameter below which nothing of it is left.
_SAYS = 1e-9
# Doubles of the rows with all their columns.
_ROWS = 20_000_000


@dataclass(frozen=True)
class WithoutRows:
    """Estimates without each of K sets of rows.

    Attributes
    ----------
    optima : Optima
    covariance : FloatArray, shape (K, p, p)
        Of the fixed effects, theta taken as known, over sigma^2.
    """

    optima: Optima
    covariance: FloatArray


def solved_together(optimum: Optimum) -> bool:
    """Whether estimates without rows are found by one iteration for many sets."""
    if isinstance(optimum, ResidualOptimum):
        return False
    cp = optimum.cp
    ours = cp.sums.batched and cp.rows == "own" and heavy_rows(cp.design) is None
    plain = all(s.plain for *_, s in cp.frame.terms) and not optimum.fixed and optimum.penalty is None
    return ours and plain and cp.design.n * (cp.q_trailing + cp.p + 1) <= _ROWS and not exponent(cp)


def optimise_without(optimum: Optimum, sets: Sequence[IntArray]) -> WithoutRows:
    """Minimise the criterion without each set of rows, none of which any fixed effect rests on alone.

    Where the design allows it, all are solved together by one vectorised Newton iteration from the estimate with all
    rows; else one after the other.

    Parameters
    ----------
    optimum : Optimum
        With all rows.
    sets : sequence of IntArray
        Positions of the rows that go.
    """
    if not solved_together(optimum) or len(sets) == 1:
        return _join([_alone(optimum, rows) for rows in sets])
    cp = optimum.cp
    counts = cp.design.counts
    sizes = np.array([int(counts[rows].sum()) for rows in sets])
    rows, step = LevelRows.of(cp), max(1, CHUNK // max(cp.sums.between, 1))
    parts, order = list[WithoutRows](), list[IntArray]()
    for size in np.unique(sizes):
        own = np.flatnonzero(sizes == size)
        for start in range(0, own.size, step):
            chosen = own[start : start + step]
            parts.append(_together(optimum, rows, [sets[k] for k in chosen], cp.n - int(size)))
            order.append(chosen)
    return _take(_join(parts), np.argsort(np.concatenate(order)))


def _together(optimum: Optimum, rows: LevelRows, sets: Sequence[IntArray], n: int) -> WithoutRows:
    cp, reml, K = optimum.cp, optimum.reml, len(sets)
    data = rows.without(sets, n)
    common = par.starts(cp)[1:]
    common = common if len(common) * K * cp.sums.between <= _STARTS else common[:0]
    found = minimise_each(cp, data, reml, np.repeat(optimum.internal[None], K, axis=0), common)
    own, factors, factor = on_each(cp, found.x, data)
    variance = residual_variance(own, factor.r2, reml)
    converged = np.array([ending is Ending.converged for ending in found.ending])
    y = cp.design.y_less_offset
    spread, largest = np.array(cp.response.spread), np.array(np.abs(y).max() * cp.sigma_unit)
    perfect, singular = is_perfect(variance, spread, largest, converged), without_rank(own, factors)
    perfect &= cp.sigma is None
    terms = [canonical(T) for T in par.term_factors(own, factors)]
    optima = Optima(
        theta=par.theta_from_terms(own, terms),
        terms=tuple(terms),
        sigma=np.sqrt(variance),
        beta=user_beta(cp, factor.solution[:, cp.q_trailing :]),
        criterion=found.value + np.array([_log_weight(cp, gone) for gone in sets]),
        singular=singular,
        status=tuple(
            ending_status(ending, bool(zero), bool(exact))
            for ending, zero, exact in zip(found.ending, singular, perfect, strict=True)
        ),
        evaluations=found.evaluations,
    )
    together = WithoutRows(optima, beta_covariance(cp, factor))
    doubtful = loses_digits(cp, optima) | ~np.array([status.ok for status in optima.status])
    if not doubtful.any():
        return together
    ones = [_alone(optimum, sets[k]) if doubtful[k] else _take(together, np.array([k])) for k in range(K)]
    return _join(ones)


def _log_weight(cp: SummedDesign, rows: IntArray) -> float:
    """Log weights of the rows that go, which the criterion on the frame of all has among its constants."""
    if cp.design.weights is None:
        return 0.0
    return float((cp.design.counts[rows] * np.log(cp.design.weights[rows])).sum())


def _alone(optimum: Optimum, rows: IntArray) -> WithoutRows:
    best = refit_without(optimum, rows)
    return WithoutRows(Optima.of(best), beta_covariance(best.cp, best.factor))


def still_says_all(optimum: Optimum, rows: IntArray) -> bool:
    """Whether something is left to say of every parameter of the residuals without some rows."""
    if not isinstance(optimum, ResidualOptimum):
        return True
    design = optimum.original
    keep = np.setdiff1d(np.arange(design.n), rows)
    residual = estimable(design.residual.part(keep))
    left = np.diagonal(residual.information(optimum.lam)[1])
    if not (left > _SAYS * optimum.residual_information).all():
        return False
    return too_few_groups(residual, design.p > 0) is None


def refit_without(optimum: Optimum, rows: IntArray) -> Optimum:
    """The same criterion minimised without some rows."""
    if isinstance(optimum, ResidualOptimum):
        return optimise_residual(without_rows(optimum.original, rows), optimum.reml, near=optimum)
    terms = optimum.cp.design.terms
    fixed = {i: terms[i].structure.theta(optimum.terms[i]) for i in optimum.fixed}
    cp: SummedDesign = cross_products(without_rows(optimum.cp.design, rows))
    return optimise(cp, optimum.reml, fixed=fixed, penalty=optimum.penalty)


def _join(parts: list[WithoutRows]) -> WithoutRows:
    covariance = np.concatenate([part.covariance for part in parts])
    return WithoutRows(join_optima([part.optima for part in parts]), covariance)


def _take(all_of_them: WithoutRows, which: IntArray) -> WithoutRows:
    return WithoutRows(all_of_them.optima.part(which), all_of_them.covariance[which])
