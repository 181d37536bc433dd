"""Many responses of one model whose residuals have parameters: one search for each, in threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.errors import DesignError, FitError
from bayeslmm.reml.many import Optima, join_optima
from bayeslmm.reml.residual_optimum import optimum_of
from bayeslmm.reml.status import FitStatus
from bayeslmm.types import FloatArray


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
        lam=nan(len(design.residual.names)),
    )
