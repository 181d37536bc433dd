"""Sums of all rows, with a fit taken out of the response where much would cancel: as `likelihood.reduction` does it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from bayeslmm.likelihood.columns import Response
from bayeslmm.likelihood.factor import apply_lambda
from bayeslmm.likelihood.level_sums import LevelSums
from bayeslmm.likelihood.reduction import CANCELS, EXACT, PASSES, RATIO, fit_within
from bayeslmm.likelihood.sums import Sums
from bayeslmm.streaming.sums import SumsPlan
from bayeslmm.types import FloatArray

# Sums once more, of a plan.
type Again = Callable[[SumsPlan], Any]


def settled(plan: SumsPlan, sums: Sums, response: Response, again: Again) -> tuple[Sums, Response]:
    """Sums of dense levels with a reference fit taken out, by further passes; others as they are.

    Parameters
    ----------
    plan : SumsPlan
        Of the pass that gave the sums.
    sums : Sums
    response : Response
        What was taken out of the response so far.
    again : callable
        Runs the pass of a plan.
    """
    if not sums.batched or not isinstance(sums, LevelSums):
        return sums, response
    if len(sums.blocks) == 1:
        return _within(plan, sums, response, again)
    return _reference(plan, sums, response, again)


def _within(plan: SumsPlan, sums: Any, response: Response, again: Again) -> tuple[Sums, Response]:
    for _ in range(PASSES):
        beta, left = fit_within(sums, sums.D[:-1, -1:], sums.D[-1, -1:])
        if sums.D[-1, -1] <= CANCELS * left[0]:
            break
        plan = plan.further(beta[:, 0], None)
        closer = again(plan).finish(plan.on.frame, None)
        if closer.D[-1, -1] <= EXACT * (sums.D[-1, -1] + (sums.E[..., -1] ** 2).sum()):
            # What is left is the rounding of an exact fit, better not magnified.
            break
        sums, response = closer, replace(response, coef=response.coef + beta[:, 0])
    return sums, response


def _reference(plan: SumsPlan, sums: Any, response: Response, again: Again) -> tuple[Sums, Response]:
    factors = [RATIO * np.eye(block.size)[None] for block in sums.blocks]
    for _ in range(PASSES):
        try:
            factor = sums.evaluate(factors)
        except np.linalg.LinAlgError:
            break
        if factor.total[0] <= CANCELS * factor.r2[0]:
            break
        q2 = sums.q_trailing
        fitted = apply_lambda(sums.frame, factors[1:], factor.solution[..., None], transposed=False)[0, :, 0]
        effects: FloatArray = fitted[:q2]
        plan = plan.further(fitted[q2:], effects if sums.reference is None else effects - sums.reference)
        sums = again(plan).finish(plan.on.frame, effects)
        response = replace(response, coef=response.coef + fitted[q2:])
    return sums, response
