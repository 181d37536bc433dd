"""Parametric bootstrap: responses simulated from a fit, and the same model fitted to each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.errors import DesignError
from bayeslmm.likelihood import SummedDesign
from bayeslmm.reml.many import Optima, optimise_many
from bayeslmm.residual import NO_PARAMETERS
from bayeslmm.types import FloatArray

# Doubles of simulated responses held at once.
_CHUNK = 10_000_000


def simulate_responses(
    design: Design,
    terms: Sequence[FloatArray],
    sigma: float,
    beta: FloatArray,
    n: int,
    rng: np.random.Generator,
    lam: FloatArray = NO_PARAMETERS,
) -> FloatArray:
    """Responses of the rows of a design with new random effects and new residuals.

    Parameters
    ----------
    design : Design
        With its residual structure and offset.
    terms : sequence of FloatArray, each (c, c)
        Relative factors on the user's columns.
    sigma : float
        Units of y.
    beta : FloatArray, shape (p,)
    n : int
    rng : numpy.random.Generator
    lam : FloatArray, shape (k,)
        Parameters of the residual structure.

    Returns
    -------
    FloatArray, shape (rows, n)

    Raises
    ------
    DesignError
        Rows of the design stand for several observations (``frequency=``).

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()
    >>> rng = np.random.default_rng(1)
    >>> simulate_responses(fit.design, fit.optimum.terms, fit.sigma, fit.fixef().to_numpy(), 3, rng).shape
    (30, 3)
    """
    if design.frequency is not None:
        raise DesignError(
            f"The {design.n} rows of this fit stand for {design.n_observations:g} observations (frequency=): new "
            "responses of the observations behind one row differ from one another, so that a row cannot have one. "
            "Repeat the rows in the data (data.loc[data.index.repeat(frequency)]) and fit without frequency=."
        )
    mean = design.X @ beta if design.offset is None else design.X @ beta + design.offset
    noise = rng.standard_normal((design.n, n)) * sigma
    out = mean[:, None] + design.residual.color(lam, noise)
    for term, T in zip(design.terms, terms, strict=True):
        grouping = design.groupings[term.group]
        spread = term.Z @ (sigma * T)
        for a in range(spread.shape[1]):
            out += spread[:, a, None] * rng.standard_normal((grouping.n_levels, n))[grouping.codes]
    return out


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
    step = max(1, _CHUNK // cp.design.n)
    for k in range(0, n, step):
        Y = simulate_responses(cp.design, terms, sigma, beta, min(step, n - k), rng, lam)
        yield optimise_many(cp, Y, reml, fixed=fixed, workers=workers)
