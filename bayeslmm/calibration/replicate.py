"""One replicate: parameters from the prior, a response, its posterior, and where the parameters rank in it."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bayeslmm.bayes.prior_draws import PriorDraws, draw_prior, simulate_response
from bayeslmm.bayes.priors import Priors
from bayeslmm.calibration.quantities import quantity_values
from bayeslmm.calibration.samplers import Sampler
from bayeslmm.design import Design
from bayeslmm.likelihood import SummedDesign, cross_products
from bayeslmm.likelihood.residual_products import residual_products
from bayeslmm.reml.many import optimise_many
from bayeslmm.reml.residual_optimum import optimise_residual
from bayeslmm.types import FloatArray, IntArray


@dataclass(frozen=True)
class Task:
    """What every replicate of a calibration has in common.

    Attributes
    ----------
    design : Design
        Its response is not looked at.
    priors : Priors
        Parameters are drawn from it; `sampler` has its own.
    sampler : callable
    entropy : int
        Replicate k has the seed ``SeedSequence(entropy, spawn_key=(k,))``, whoever computes it.
    draws : int
        L, how many draws the sampler returns.
    """

    design: Design
    priors: Priors
    sampler: Sampler
    entropy: int
    draws: int

    def simulate(self, number: int) -> tuple[PriorDraws, FloatArray, np.random.Generator]:
        """Parameters (one draw), response (n,) and the generator that goes on to sample."""
        rng = np.random.default_rng(np.random.SeedSequence(self.entropy, spawn_key=(number,)))
        truth = draw_prior(self.design, self.priors, 1, rng)
        return truth, simulate_response(self.design, truth, rng)[0], rng


@dataclass(frozen=True)
class Replicate:
    """What became of one replicate.

    Attributes
    ----------
    number : int
    ranks : IntArray, shape (Q,), or None
        Number of draws below the true value; None if it failed.
    seconds : float
    warning : str
        What the sampler warned of, or empty.
    error : str
        Why it failed, or empty.
    """

    number: int
    ranks: IntArray | None
    seconds: float
    warning: str
    error: str


def products(design: Design) -> SummedDesign | None:
    """Cross-products that the fits of all replicates share; none where residuals have parameters."""
    return None if design.residual.names else cross_products(design)


def replicates(task: Task, cp: SummedDesign | None, numbers: Sequence[int]) -> Iterator[Replicate]:
    """Run replicates one after the other; their REML fits, where sampling starts, are computed together.

    Parameters
    ----------
    task : Task
    cp : SummedDesign or None
        Of the design, with any response; from `products`.
    numbers : sequence of int
    """
    simulated = [task.simulate(number) for number in numbers]
    Y = np.column_stack([y for _, y, _ in simulated])
    starts = _starts(task.design, Y) if cp is None else _starts_together(task.design, cp, Y)
    for number, (truth, _, rng), start in zip(numbers, simulated, starts, strict=True):
        began = time.perf_counter()
        ranks, error = None, ""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                if isinstance(start, Exception):
                    raise start
                ranks = _ranks(task, truth, start, rng)
            except Exception as problem:
                # Whatever happened belongs to this replicate; the others go on.
                error = f"{type(problem).__name__}: {problem}"
        warning = str(caught[0].message) if caught else ""
        yield Replicate(number, ranks, time.perf_counter() - began, warning, error)


def _ranks(
    task: Task, truth: PriorDraws, start: tuple[SummedDesign, Sequence[FloatArray]], rng: np.random.Generator
) -> IntArray:
    cp, terms = start
    true = quantity_values(cp, truth)
    drawn = quantity_values(cp, task.sampler(cp, terms, rng))
    if drawn.shape[0] < task.draws:
        # A sampler that is interrupted returns what it has.
        raise KeyboardInterrupt
    if not (np.isfinite(true).all() and np.isfinite(drawn).all()):
        raise FloatingPointError("a quantity is not finite")
    return np.asarray((drawn < true).sum(axis=0))


type _Start = tuple[SummedDesign, list[FloatArray]]


def _starts(design: Design, Y: FloatArray) -> Iterator[_Start | Exception]:
    """Cross-products and REML estimates for every column one by one, or what prevented them."""
    for y in Y.T:
        own = replace(design, y=y)
        try:
            optimum = optimise_residual(own)
            yield residual_products(own, optimum.lam), list(optimum.terms)
        except Exception as problem:
            yield problem


def _starts_together(design: Design, cp: SummedDesign, Y: FloatArray) -> Iterator[_Start | Exception]:
    """The same, the estimates of all columns together."""
    for y, start in zip(Y.T, _estimates(cp, Y), strict=True):
        yield start if isinstance(start, Exception) else (cross_products(replace(design, y=y)), start)


def _estimates(cp: SummedDesign, Y: FloatArray) -> list[list[FloatArray] | Exception]:
    try:
        optima = optimise_many(cp, Y)
    except Exception as problem:
        if Y.shape[1] == 1:
            return [problem]
        return [_estimates(cp, Y[:, k : k + 1])[0] for k in range(Y.shape[1])]
    return [[T[k] for T in optima.terms] for k in range(Y.shape[1])]
