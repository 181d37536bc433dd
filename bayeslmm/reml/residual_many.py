"""Many responses of one model whose residuals have parameters: one search for each, in threads; what one costs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.errors import DesignError, FitError
from bayeslmm.reml.many import Optima, join_optima
from bayeslmm.reml.optimum import Optimum
from bayeslmm.reml.residual_optimum import optimum_of
from bayeslmm.reml.status import FitStatus
from bayeslmm.types import BoolArray, FloatArray

# Milliseconds of one pass over the rows, and of every row in it, on a core of 2.5 GHz.
_A_PASS, _A_ROW = 0.8, 5e-4


def optimise_residual_many(design: Design, Y: FloatArray, reml: bool = True, *, workers: int = 1) -> Optima:
    """Minimise the criterion of every column of Y, as `optimum_of` does of one.

    Whitening moves with the parameters of the residuals, so that responses have no sums in common; each is searched by
    itself, and a response without a start has the status ``non_finite`` and no estimates.

    Parameters
    ----------
    design : Design
        With a residual structure that has parameters, or without random effects.
    Y : FloatArray, shape (n, K)
        Units of y.
    reml : bool
    workers : int
        Threads.
    """
    if not Y.shape[1]:
        raise DesignError("There is no response to fit: Y has no columns.")
    # Structures keep what they have found at their last point, and threads must not share that.
    whole = np.arange(design.n)
    designs = [replace(design, y=y, residual=design.residual.part(whole)) for y in Y.T]

    def solve(own: Design) -> Optima:
        try:
            return Optima.of(optimum_of(own, reml))
        except (FitError, np.linalg.LinAlgError):
            return no_estimates(own)

    if workers == 1:
        return join_optima([solve(own) for own in designs])
    with ThreadPoolExecutor(workers) as pool:
        return join_optima(list(pool.map(solve, designs)))


def no_estimates(design: Design) -> Optima:
    """The place of a response that has no estimates."""

    def nan(*shape: int) -> FloatArray:
        return np.full((1, *shape), np.nan)

    return Optima(
        theta=nan(design.n_theta),
        terms=tuple(nan(len(term.effects), len(term.effects)) for term in design.terms),
        sigma=nan(),
        beta=nan(design.p),
        criterion=nan(),
        singular=np.zeros(1, dtype=bool),
        status=(FitStatus.non_finite,),
        evaluations=np.zeros(1, dtype=np.int64),
        lam=nan(len(design.residual.names)) if design.residual.names else None,
    )


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
    """Lowest criteria of a model for the columns of Y (n, K).

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("Reaction ~ Days", bl.load_dataset("sleepstudy"), residual="ar1(Days | Subject)")
    >>> criteria_of_many(model.design, model.design.y[:, None], True).criterion.round(3)
    array([1739.206])
    """
    found = optimise_residual_many(design, Y, reml)
    good = np.array([status.ok or status is FitStatus.not_identified for status in found.status])
    cost = _cost(float(np.mean(found.evaluations)), len(design.residual.names), design.n)
    return ManyCriteria(found.criterion, good & np.isfinite(found.criterion), cost)


def fit_cost(optimum: Optimum) -> float:
    """Rough milliseconds of such a fit."""
    return _cost(optimum.evaluations, optimum.lam.size, optimum.cp.design.n)


def _cost(evaluations: float, parameters: int, rows: int) -> float:
    """Evaluations, and Hessians by differences."""
    return evaluations * (1 + parameters) * (_A_PASS + _A_ROW * rows)
