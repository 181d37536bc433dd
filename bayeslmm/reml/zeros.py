"""Small standard deviations at exactly zero, where the criterion does not rise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np

from bayeslmm.likelihood import SummedDesign
from bayeslmm.likelihood import parameters as par
from bayeslmm.numerics.newton import NewtonResult, Trial, minimise
from bayeslmm.reml.fixed import Held
from bayeslmm.types import FloatArray

# Singular values of a relative factor (on orthogonalised columns) below these are tried at exactly zero, all at once:
# with the smaller limits, a zero beside a small variance.
TRY_ZERO = (1e-2, 1e-3, 1e-4, 1e-6)
# Beside the largest, a singular value below this is zero.
NO_RANK = 1e-9
# A criterion that rises by less than this share of itself has not risen: rounding of a sum of n terms.
ROUNDING = 1e-13

type Minimiser = Callable[[Callable[[FloatArray], Trial], FloatArray, int], NewtonResult]


class Evaluated(Protocol):
    """A criterion as a function of the free entries of the internal vector."""

    @property
    def cp(self) -> SummedDesign: ...
    @property
    def held(self) -> Held: ...
    def __call__(self, x: FloatArray) -> Trial: ...


def snap(
    criterion: Evaluated, result: NewtonResult, max_evaluations: int, minimiser: Minimiser = minimise
) -> NewtonResult:
    """Set small singular values to exactly zero where the criterion does not rise, then polish."""
    for limit in TRY_ZERO:
        x = _without_small(criterion, result.x, limit)
        if np.array_equal(x, result.x):
            return result
        if criterion(x).value <= result.value + ROUNDING * (1.0 + abs(result.value)):
            again = go_on(criterion, result, x, max_evaluations, minimiser)
            # Rounding of the last step leaves 1e-28 where zero was set.
            return replace(again, x=_without_small(criterion, again.x, NO_RANK))
    return result


def go_on(
    criterion: Evaluated,
    result: NewtonResult,
    x: FloatArray,
    max_evaluations: int,
    minimiser: Minimiser = minimise,
) -> NewtonResult:
    """Minimise from x, with the evaluations and steps of what went before."""
    again = minimiser(criterion, x, max_evaluations)
    total = result.evaluations + 1 + again.evaluations
    return replace(again, evaluations=total, steps=result.steps + again.steps)


def _without_small(criterion: Evaluated, x: FloatArray, limit: float) -> FloatArray:
    """The free entries with singular values below the limit replaced by zeros."""
    held = criterion.held
    return np.asarray(par.without_small(criterion.cp, held.full(x)[None], limit)[0, held.free])
