"""Responses simulated from a model: new or given random effects, new residuals, on any rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.design.newdata import Rows, own_rows
from bayeslmm.design.observations import standard_residuals
from bayeslmm.errors import DesignError
from bayeslmm.residual import NO_PARAMETERS
from bayeslmm.types import FloatArray, IntArray

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
    check_rows(design)
    rows = own_rows(design, tuple(design.groupings))
    noise = standard_residuals(design, n, rng)
    return simulate_rows(rows, [term.group for term in design.terms], terms, sigma, beta, n, rng, lam, noise=noise)


def at_a_time(n: int, rows: int) -> Iterator[int]:
    """Numbers of responses, n in all, of which each is few enough to be held at once."""
    step = max(1, _CHUNK // rows)
    return (min(step, n - k) for k in range(0, n, step))


def check_rows(design: Design) -> None:
    """Refuse rows that stand for several observations, unless those of cells, whose sums can be drawn.

    Raises
    ------
    DesignError
    """
    if design.frequency is not None and design.cells is None:
        raise DesignError(
            f"The {design.n} rows of this fit stand for {design.n_observations:g} observations (frequency=): new "
            "responses of the observations behind one row differ from one another, so that a row cannot have one. "
            "Repeat the rows in the data (data.loc[data.index.repeat(frequency)]) and fit without frequency=."
        )


def simulate_rows(
    rows: Rows,
    groups: Sequence[str],
    terms: Sequence[FloatArray],
    sigma: float,
    beta: FloatArray,
    n: int,
    rng: np.random.Generator,
    lam: FloatArray = NO_PARAMETERS,
    known: Mapping[int, FloatArray] | None = None,
    zero_new: bool = False,
    noise: FloatArray | None = None,
) -> FloatArray:
    """Responses (k, n) of the complete rows.

    Parameters
    ----------
    rows : Rows
        Evaluated for observations.
    groups : sequence of str
        Grouping factor of every term.
    terms : sequence of FloatArray, each (c, c)
        Relative factors on the user's columns.
    sigma, beta, n, rng, lam
        See `simulate_responses`.
    known : mapping of int to FloatArray, each (levels, c), optional
        Effects of the levels of some terms; those of other terms, and of further levels, are drawn.
    zero_new : bool
        Whether effects of levels that `known` does not have are zero instead.
    noise : FloatArray, shape (k, n), optional
        Independent residuals of sd 1; drawn by default.
    """
    mean = rows.X @ beta if rows.offset is None else rows.X @ beta + rows.offset
    noise = rng.standard_normal((rows.n, n)) if noise is None else noise
    out = mean[:, None] + rows.observed.color(lam, noise * sigma)
    for k, (group, T) in enumerate(zip(groups, terms, strict=True)):
        codes, Z = rows.levels[group].codes, rows.Z[k]
        given = (known or {}).get(k)
        if given is None:
            _add_new(out, slice(None), Z, codes, sigma * T, rng)
            continue
        have = codes < len(given)
        out[have] += (Z[have] * given[codes[have]]).sum(1)[:, None]
        if not zero_new and not have.all():
            missing = np.flatnonzero(~have)
            _add_new(out, missing, Z[missing], codes[missing], sigma * T, rng)
    return out


def _add_new(
    out: FloatArray,
    chosen: slice | IntArray,
    Z: FloatArray,
    codes: IntArray,
    factor: FloatArray,
    rng: np.random.Generator,
) -> None:
    """Add effects that are drawn for every level that occurs to some rows of `out`."""
    levels, place = np.unique(codes, return_inverse=True)
    spread = Z @ factor
    for a in range(spread.shape[1]):
        out[chosen] += spread[:, a, None] * rng.standard_normal((levels.size, out.shape[1]))[place]
