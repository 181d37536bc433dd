"""What needs single observations, of a design that knows sums over cells alone."""

from __future__ import annotations

from typing import NoReturn

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.errors import BayesLMMError, DesignError
from bayeslmm.types import FloatArray


def need_observations(design: Design, what: str, instead: str = "", error: type[BayesLMMError] = DesignError) -> None:
    """Refuse what looks at single observations where only sums over cells are known.

    Parameters
    ----------
    design : Design
    what : str
        What was asked for, the beginning of a sentence: ``"Residuals are"``.
    instead : str
        A sentence on what can be had.
    error : type

    Raises
    ------
    BayesLMMError
        Of the type `error`.
    """
    if design.cells is not None:
        refuse_sums(design, what, instead, error)


def refuse_sums(design: Design, what: str, instead: str = "", error: type[BayesLMMError] = DesignError) -> NoReturn:
    """The error itself."""
    assert design.cells is not None
    raise error(
        f"{what} of single observations, and of the {design.n_observations:,} observations of this model only number, "
        f"mean and sum of squares in {len(design.cells):,} cells are known (from_sums). "
        + (f"{instead} " if instead else "")
        + "With the observations themselves: bl.Model(formula, data)."
    )


def shown_responses(design: Design) -> FloatArray:
    """Responses (n,) of the rows as figures show them: of rows that stand for cells the means of these."""
    if design.cells is None:
        return design.y
    assert design.frequency is not None
    cell = design.cells.of(np.arange(design.n))
    counts = np.bincount(cell, weights=design.frequency)
    start = design.y[design.cells.first]
    off = np.bincount(cell, weights=design.frequency * (design.y - start[cell])) / counts
    return np.asarray((start + off)[cell])


def standard_residuals(design: Design, K: int, rng: np.random.Generator) -> FloatArray:
    """Residuals (n, K) of sd 1 of the rows, before weights; of rows that stand for cells such that sums are exact.

    The mean of n standard normal numbers is normal with variance 1 / n, and independent of their sum of squares about
    it, a chi-square with n - 1 degrees of freedom.
    """
    cells = design.cells
    if cells is None:
        return rng.standard_normal((design.n, K))
    assert design.frequency is not None
    first = cells.first
    ends = np.append(first[1:], design.n)
    upper = first[ends - first == 2]
    count = np.add.reduceat(design.frequency, first).astype(float)
    out = (rng.standard_normal((first.size, K)) / np.sqrt(count)[:, None])[cells.of(np.arange(design.n))]
    f, g = design.frequency[upper].astype(float)[:, None], design.frequency[upper + 1].astype(float)[:, None]
    about = np.sqrt(rng.chisquare(f + g - 1.0, size=(upper.size, K)) / (f + g))
    out[upper] += about * np.sqrt(g / f)
    out[upper + 1] -= about * np.sqrt(f / g)
    return np.asarray(out)
