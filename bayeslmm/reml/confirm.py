"""Whether an estimate stands up to an independent evaluation of the criterion, and what is done where it does not.

A fit is said to have converged only if the criterion at the estimate, computed once more along another way, is the
same but for rounding. Where the elimination by blocks must lose digits (standard deviations that differ by more than
three orders of magnitude, effects that others nearly span, a response that the model reproduces nearly) the
minimum is looked for again with an evaluation that does not lose them, as far as the size of the data allows; beyond
that, the doubt is stated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from bayeslmm.design.covariance import smallest_bound
from bayeslmm.imports import later
from bayeslmm.likelihood import Factor, SummedDesign, evaluate, profiled
from bayeslmm.likelihood.recheck import dense_size, recheck, recheck_minimum, recheck_residual
from bayeslmm.numerics.newton import Ending, NewtonResult
from bayeslmm.reml.criterion import Criterion, has_value
from bayeslmm.reml.zeros import TRY_ZERO
from bayeslmm.types import FloatArray

# Few fits need all digits.
if TYPE_CHECKING:
    from bayeslmm.likelihood import accurate as acc
    from bayeslmm.likelihood import recheck_sums
    from bayeslmm.reml import precise as digits
    from bayeslmm.reml.precise import Precise
else:
    acc, recheck_sums = later("bayeslmm.likelihood", "accurate", "recheck_sums")
    (digits,) = later("bayeslmm.reml", "precise")

# Relative sd beyond which the elimination loses digits of the criterion's curvature beside that of other parameters.
WIDE = 1e3
# Relative sd beyond which an iteration without all digits may have gone anywhere.
_WILD = 1e5
# Rounding of the criterion (-2 log likelihood) above which the digits of the estimates suffer, and above which a
# user should know.
_FELT = 1e-9
TOLD = 1e-6
# Doubles of the dense check, beyond which the elimination's own bound has to do.
_DENSE = 60_000
# Doubles times evaluations that a search with all digits may take.
BUDGET = 5_000_000
# Share of itself by which a criterion differs that was computed in another order.
_KEPT = 1e-12
# Slope per level and log sd that the rounding of a minimum in closed form explains: so much of an sd it may be off.
_STATIONARY = 1e-12


@dataclass(frozen=True)
class Confirmed:
    """An estimate after the check.

    Attributes
    ----------
    result : NewtonResult
    factor : Factor or None
        The evaluation there where it is at hand; with all digits if it was made so.
    doubt : float
        By how much the criterion at the estimate may be wrong, or too high, where that is more than rounding.
    told_apart : bool
        Whether the variances are known to be told apart, so that no curvature needs to show it.
    factors : list of FloatArray or None, each (1, c, c)
        Internal factors of the blocks there where they are at hand.
    """

    result: NewtonResult
    factor: Factor | None = None
    doubt: float = 0.0
    told_apart: bool = False
    factors: list[FloatArray] | None = None


def confirm(criterion: Criterion, result: NewtonResult, starts: FloatArray, max_evaluations: int) -> Confirmed:
    """Check an estimate; look for a better one with all digits where the check fails or must fail.

    Parameters
    ----------
    criterion : Criterion
    result : NewtonResult
    starts : FloatArray, shape (M, f)
        Free entries of points from which a search may start besides.
    max_evaluations : int
    """
    gap = 0.0
    if criterion.cp.rows == "mixed":
        # There are no rows to look at once more.
        return Confirmed(result, doubt=_bound(criterion, result))
    if not _loses_digits(criterion, result, starts):
        gap, bound = _gap(criterion, result)
        if gap <= bound:
            return Confirmed(result)
    allowed = BUDGET // acc.size_of(criterion.cp)
    if allowed < 2 or criterion.cp.design.facts is not None or not criterion.cp.sums.batched:
        return Confirmed(result, doubt=max(gap, _bound(criterion, result)))
    precise = digits.Precise(criterion)
    wild = float(np.abs(result.x).max(initial=0.0)) > _WILD
    if result.ending is Ending.converged and not wild and digits.confirmed(precise, result):
        return Confirmed(result, _factor(precise, result))
    return _search(precise, result, starts, allowed, max_evaluations)


def confirm_only(criterion: Criterion, x: FloatArray) -> Confirmed | None:
    """Check the only minimum, which a formula has (k,): the rows must give the same criterion there, and no slope.

    Both from one dense factorisation, so that neither derivatives nor an iteration is needed. None where that does not
    show a minimum, or cannot: variances at zero or near it, large data, digits lost. The formula exists where the
    mean squares determine the variances, and each has its degrees of freedom.
    """
    cp, factors = criterion.cp, criterion.factors(x)
    if cp.rows == "mixed" or cp.design.facts is not None or dense_size(cp) > _DENSE:
        return None
    if any(smallest_bound(T[0]) <= TRY_ZERO[0] for T in factors):
        return None
    try:
        factor = criterion.factor(x, factors)
    except np.linalg.LinAlgError:
        return None
    if not has_value(cp, factor):
        return None
    value = float(profiled(cp, factor, criterion.reml)[0])
    result = NewtonResult(x, value, Ending.converged, 1, (), _unknown(x.size))
    if _loses_digits(criterion, result, x[:0, None]):
        return None
    again, bound, slope = recheck_minimum(cp, [T[0] for T in factors], criterion.reml)
    confirmed = abs(again - value) <= bound and slope <= _STATIONARY
    return Confirmed(result, factor, told_apart=True, factors=factors) if confirmed else None


@lru_cache(maxsize=64)
def _unknown(size: int) -> FloatArray:
    """A Hessian (k, k) that was not computed."""
    hessian = np.full((size, size), np.nan)
    hessian.flags.writeable = False
    return hessian


def _loses_digits(criterion: Criterion, result: NewtonResult, starts: FloatArray) -> bool:
    several = result.x.size > 1 or bool(criterion.held.terms) or len(criterion.cp.blocks) > 1
    if result.ending is Ending.converged and not several:
        return False
    full = criterion.held.full(result.x)
    entries = [*full.tolist(), *criterion.held.full(starts).reshape(-1).tolist()] if several else []
    wide = any(abs(entry) > WIDE for entry in entries)
    # An iteration that had the derivatives it needed and still did not end is no matter of digits.
    return wide or result.ending is Ending.non_finite or criterion.rounding(full) > _FELT


def _gap(criterion: Criterion, result: NewtonResult) -> tuple[float, float]:
    """Difference of two evaluations at the estimate, and what rounding explains of it."""
    cp = criterion.cp
    if result.ending is not Ending.converged:
        return 0.0, 0.0
    factors = criterion.factors(result.x)
    if cp.design.facts is not None and recheck_sums.compressed_size(cp) > _DENSE:
        factor = criterion.factor(result.x, factors)
        gap, bound = recheck_sums.recheck_residual_of_sums(cp, factors, factor, criterion.reml)
        return gap, max(bound, TOLD)
    # A log determinant that is estimated states its own error.
    if cp.design.facts is None and (cp.plan.estimated or dense_size(cp) > _DENSE):
        gap, bound = recheck_residual(cp, factors, criterion.factor(result.x, factors), criterion.reml)
        return gap, max(bound, TOLD)
    value = float(profiled(cp, criterion.factor(result.x, factors), criterion.reml)[0])
    check = recheck if cp.design.facts is None else recheck_sums.recheck_compressed
    again, bound = check(cp, [T[0] for T in factors], criterion.reml)
    gap = abs(again - value)
    return (gap, bound) if np.isfinite(gap) else (np.inf, 0.0)


def _bound(criterion: Criterion, result: NewtonResult) -> float:
    """What may be wrong by the condition of the trailing block alone."""
    if result.ending is not Ending.converged:
        return 0.0
    doubt = 10.0 * criterion.rounding(criterion.held.full(result.x))
    return doubt if doubt > TOLD else 0.0


def with_all_digits(cp: SummedDesign) -> bool:
    """Whether an evaluation with all digits is possible: its rows are those of the sums, and few enough."""
    there = cp.rows != "mixed" and cp.design.facts is None
    return cp.sums.batched and there and acc.size_of(cp) <= BUDGET


def factor_at(cp: SummedDesign, factors: Sequence[FloatArray], reml: bool, criterion: float) -> Factor:
    """The evaluation that has a known criterion: by blocks, or with all digits where that has lost them.

    Parameters
    ----------
    cp : SummedDesign
    factors : sequence of FloatArray, each (1, c, c)
    reml : bool
    criterion : float
        What it was when the estimate was made.

    Raises
    ------
    numpy.linalg.LinAlgError
        There is no evaluation in binary64, and the data are too large for another one.
    """
    try:
        factor = evaluate(cp, factors)
        with np.errstate(all="ignore"):
            value = float(profiled(cp, factor, reml)[0])
    except np.linalg.LinAlgError:
        factor, value = None, np.nan
    lost = np.isfinite(criterion) and not abs(value - criterion) <= _KEPT * (1.0 + abs(criterion))
    if lost and with_all_digits(cp):
        point = acc.evaluate_accurately(acc.rows_of(cp), [T[0] for T in factors])
        if point is not None and point.r2 > 0:
            return acc.as_factor(point)
    if factor is None:
        raise np.linalg.LinAlgError("the matrix of the mixed model equations is not positive definite")
    return factor


def _search(
    precise: Precise, result: NewtonResult, starts: FloatArray, allowed: int, max_evaluations: int
) -> Confirmed:
    zero = result.x == 0.0
    filled = [np.where(zero, one, result.x) for one in starts] if zero.any() else []
    found = digits.lowest(precise, np.array([result.x, *filled, *starts]), allowed, max_evaluations)
    if found is None:
        return Confirmed(result, doubt=float("inf") if result.ending is Ending.converged else 0.0)
    steps, total = result.steps + found.steps, result.evaluations + found.evaluations
    return Confirmed(replace(found, steps=steps, evaluations=total), _factor(precise, found))


def _factor(precise: Precise, result: NewtonResult) -> Factor | None:
    point = precise.evaluation(result.x)
    return None if point is None or not point.r2 > 0 else acc.as_factor(point)
