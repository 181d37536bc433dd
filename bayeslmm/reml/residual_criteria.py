"""Criteria of many responses of a model whose residuals have parameters: one fit after the other."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.errors import FitError
from bayeslmm.reml.optimum import Optimum
from bayeslmm.reml.residual_optimum import optimum_of
from bayeslmm.reml.status import FitStatus
from bayeslmm.types import BoolArray, FloatArray

# Milliseconds of one pass over the rows, and of every row in it, on a core of 2.5 GHz.
_A_PASS, _A_ROW = 0.8, 5e-4


@dataclass(frozen=True)
class ManyCriteria:
    """What was found.

    Attributes
    ----------
    criterion : FloatArray, shape (K,)
        nan where there was no fit.
    ok : BoolArray, shape (K,)
        Whether it is a minimum, be it on a ridge.
    cost : float
        Rough milliseconds of one fit, by its evaluations, so that no clock decides.
    """

    criterion: FloatArray
    ok: BoolArray
    cost: float


def criteria_of_many(design: Design, Y: FloatArray, reml: bool) -> ManyCriteria:
    """Fit a model to every column of Y (n, K).

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("Reaction ~ Days", bl.load_dataset("sleepstudy"), residual="ar1(Days | Subject)")
    >>> criteria_of_many(model.design, model.design.y[:, None], True).criterion.round(3)
    array([1739.206])
    """
    criterion, ok, cost = np.full(Y.shape[1], np.nan), np.zeros(Y.shape[1], dtype=bool), 0.0
    for k, y in enumerate(Y.T):
        try:
            one = optimum_of(replace(design, y=y), reml)
        except (FitError, np.linalg.LinAlgError):
            continue
        criterion[k], cost = one.criterion, cost + fit_cost(one)
        ok[k] = np.isfinite(one.criterion) and (one.status.ok or one.status is FitStatus.not_identified)
    return ManyCriteria(criterion, ok, cost / max(1, Y.shape[1]))


def fit_cost(optimum: Optimum) -> float:
    """Rough milliseconds of such a fit: evaluations, and Hessians by differences."""
    return optimum.evaluations * (1 + optimum.lam.size) * (_A_PASS + _A_ROW * optimum.cp.design.n)
