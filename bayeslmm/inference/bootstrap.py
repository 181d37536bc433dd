"""Parametric bootstrap: responses simulated from a fit, and the same model fitted to each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from bayeslmm.inference.simulation import at_a_time, simulate_responses
from bayeslmm.likelihood import SummedDesign
from bayeslmm.reml.many import Optima, optimise_many
from bayeslmm.residual import NO_PARAMETERS
from bayeslmm.types import FloatArray


def bootstrap_optima(
    cp: SummedDesign,
    terms: Sequence[FloatArray],
    sigma: float,
    beta: FloatArray,
    n: int,
    rng: np.random.Generator,
    *,
    reml: bool = True,
    fixed: Mapping[int, FloatArray] | None = None,
    workers: int = 1,
    lam: FloatArray = NO_PARAMETERS,
) -> Iterator[Optima]:
    """Estimates from `n` simulated responses, some at a time.

    Parameters
    ----------
    cp : SummedDesign
    terms, sigma, beta, lam
        What is simulated from, see `simulate_responses`.
    n : int
    rng : numpy.random.Generator
    reml : bool
    fixed : mapping, optional
        Position of a term to its theta, which is not estimated.
    workers : int
        Threads.

    Yields
    ------
    Optima
        Look at ``status`` before using one.
    """
    for few in at_a_time(n, cp.design.n):
        Y = simulate_responses(cp.design, terms, sigma, beta, few, rng, lam)
        yield optimise_many(cp, Y, reml, fixed=fixed, workers=workers)
