"""Responses simulated from a fit or a design: at given parameters, given random effects, on new rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from bayeslmm.arguments import MOST_REFITS, affordable, choice, instance, numbers_of, shown, whole
from bayeslmm.design.data import read_weights
from bayeslmm.design.design import Design
from bayeslmm.design.known import refuse_known
from bayeslmm.design.newdata import Rows, new_rows, own_rows
from bayeslmm.design.observations import need_observations, standard_residuals
from bayeslmm.design.padding import rows_of_design
from bayeslmm.errors import BayesLMMWarning, DesignError
from bayeslmm.habits import SIMULATE_ARGUMENTS, no_argument
from bayeslmm.inference.simulation import check_rows, simulate_rows
from bayeslmm.residual import KnownVariances, make_residual
from bayeslmm.results.fit import Fit
from bayeslmm.results.new_levels import refuse_new_levels
from bayeslmm.results.predictions import NewLevels
from bayeslmm.results.random_parts import Random, random_part
from bayeslmm.results.sampling import generator
from bayeslmm.results.stated import stated_values
from bayeslmm.results.truth import truth_of_values
from bayeslmm.types import FloatArray

type Values = Mapping[str, float] | pd.Series | ArrayLike | None


@dataclass(frozen=True)
class Law:
    """What responses are drawn from.

    Attributes
    ----------
    terms : tuple of FloatArray, each (c, c)
        Relative factors on the user's columns.
    sigma : float
    beta : FloatArray, shape (p,)
    lam : FloatArray, shape (k,)
        Parameters of the residual structure.
    """

    terms: tuple[FloatArray, ...]
    sigma: float
    beta: FloatArray
    lam: FloatArray


@dataclass(frozen=True)
class Conditions:
    """On which rows responses are drawn, and what is held.

    Attributes
    ----------
    newdata : table or None
    random : "new", "all", None, or names
    new_levels : {"error", "sample", "zero"}
    weights, offset : object
        As the user gave them.
    """

    newdata: Any = None
    random: Any = "new"
    new_levels: Any = "error"
    weights: Any = None
    offset: Any = None


def simulate(
    fit: Fit,
    n: int = 1,
    random_seed: int | np.random.Generator | None = None,
    *,
    newdata: Any = None,
    random: Random = "new",
    new_levels: NewLevels = "error",
    beta: Values = None,
    sd: Values = None,
    corr: Values = None,
    sigma: float | None = None,
    theta: ArrayLike | None = None,
    residual: Values = None,
    weights: Any = None,
    offset: Any = None,
    **unknown: Any,
) -> pd.DataFrame:
    """Simulated responses: from the estimates or at any parameters, with new or given random effects, on any rows.

    Parameters
    ----------
    n : int
    random_seed : int or numpy.random.Generator, optional
    newdata : pandas, polars or pyarrow table, optional
        The rows of the fit by default. The response is not needed.
    random : "new", "all", None or sequence of str
        ``"new"``: effects of all levels are drawn anew for every response. ``"all"``: those of the fit (`ranef`) are
        kept, so that only residuals are new. A name or names of grouping factors: theirs are kept, others are drawn.
        None: all effects are zero.
    new_levels : {"error", "sample", "zero"}
        What levels are that the data of the fit did not have, where the effects of the others are kept.
    beta : mapping, Series or array, optional
        Fixed effects to simulate from, ``{"Days": 10}``; those that are not named are as estimated.
    sd, corr : mapping, Series, array or number, optional
        Standard deviations and correlations, under the labels of `estimates` with or without ``sd_`` and ``corr_``:
        ``{"Subject[Intercept]": 25}``; ``{"Subject": [25, 6]}`` gives all of a grouping factor.
    sigma : float, optional
        Residual standard deviation. Standard deviations that are not named stay what they are.
    theta : array, optional
        All relative covariance parameters, in place of `sd` and `corr`; standard deviations then go with sigma.
    residual : mapping, Series, array or number, optional
        Parameters of the residual structure, under the labels of `estimates` with or without ``residual_``:
        ``{"rho": 0.5}``.
    weights : str or array, optional
        Precision weights in place of those of the fit; a text is for columns of `newdata`.
    offset : str, number or array, optional
        In place of the offset of the model; a text is a column of `newdata`.

    Returns
    -------
    pandas.DataFrame, shape (rows, n)
        Units of y; indexed as the rows kept, or as `newdata` with nan in rows with missing values.

    Raises
    ------
    DesignError
        An unknown label, a wrong number of values, correlations that no covariance has; a column that is missing;
        rows of the fit that stand for several observations (``frequency=``); n is not positive.
    FitError
        random_seed is no seed.

    Warns
    -----
    BayesLMMWarning
        Rows of the new data with missing values.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()
    >>> fit.refit_many(fit.simulate(10, random_seed=1)).ok.all()
    np.True_
    >>> y = fit.simulate(2000, random_seed=1, beta={"Intercept": 0}, sd={"Batch": 3}, sigma=4)
    >>> round(float(y.to_numpy().std()), 1)
    5.0
    """
    no_argument("fit.simulate", simulate, unknown, SIMULATE_ARGUMENTS, DesignError)
    stated = stated_values(fit.design, beta=beta, sd=sd, corr=corr, sigma=sigma, theta=theta, residual=residual)
    where = Conditions(newdata, random, new_levels, weights, offset)
    return simulated(fit.design, law_of(fit, stated), where, lambda: fit, n, random_seed)


def law_of(fit: Fit, stated: dict[str, Any]) -> Law:
    """The estimates of a fit, but for the values that are stated."""
    optimum, beta, names = fit.optimum, np.asarray(fit._conditional.beta[0]), list(fit.design.fixed_names)
    if stated.keys() <= set(names):
        # The factors as they are, not made again from standard deviations and correlations.
        beta = np.array([stated.get(name, value) for name, value in zip(names, beta, strict=True)], dtype=float)
        return Law(tuple(optimum.terms), float(optimum.sigma), beta, optimum.lam)
    truth = truth_of_values(fit.design, stated, lambda _: fit.estimates(), lambda: optimum.lam)
    return Law(truth.terms, truth.sigma, truth.beta, truth.lam)


def simulated(
    design: Design,
    law: Law,
    where: Conditions,
    fitted: Callable[[], Fit],
    n: int,
    random_seed: int | np.random.Generator | None,
) -> pd.DataFrame:
    """Responses as a table; `fitted` gives a fit where effects of one are held."""
    if where.newdata is None:
        need_observations(design, "simulate() draws responses", "newdata= has rows to simulate for.")
    Y, rows = simulated_values(design, law, where, fitted, n, random_seed)
    return pd.DataFrame(rows.filled(Y), index=rows.index)


def simulated_values(
    design: Design,
    law: Law,
    where: Conditions,
    fitted: Callable[[], Fit],
    n: int,
    random_seed: int | np.random.Generator | None,
) -> tuple[FloatArray, Rows]:
    """Responses (k, n) of the complete rows alone, and these rows."""
    rng = generator(random_seed)
    number = whole("n", n, 1, MOST_REFITS, DesignError)
    groups, known = held_effects(design, where.random, fitted)
    choice("new_levels", where.new_levels, ("error", "sample", "zero"), DesignError)
    rows = _rows(design, where, groups)
    affordable("n", number, rows.complete.size, DesignError)
    if known and where.random is not None and where.new_levels == "error":
        held = {design.terms[k].group for k in known}
        refuse_new_levels(design, replace(rows, levels={g: own for g, own in rows.levels.items() if g in held}))
    in_use = [k for k, term in enumerate(design.terms) if term.group in groups]
    part = replace(rows, Z={i: rows.Z[k] for i, k in enumerate(in_use)})
    Y = simulate_rows(
        part,
        [design.terms[k].group for k in in_use],
        [law.terms[k] for k in in_use],
        law.sigma,
        law.beta,
        number,
        rng,
        law.lam,
        {i: known[k] for i, k in enumerate(in_use) if k in known},
        where.new_levels == "zero",
        standard_residuals(design, number, rng) if where.newdata is None else None,
    )
    return Y, rows


def held_effects(
    design: Design, random: Any, fitted: Callable[[], Fit]
) -> tuple[tuple[str, ...], dict[int, FloatArray]]:
    """Grouping factors with effects at all, and the effects of terms that are kept from a fit."""
    every = tuple(design.groupings)
    if random is None:
        return (), {}
    if isinstance(random, str) and random == "new" and "new" not in every:
        return every, {}
    chosen, fit = set(random_part(design, random).groups), fitted()
    known: dict[int, FloatArray] = {}
    for block, b in zip(fit.cp.blocks, fit._conditional.b, strict=True):
        if block.grouping.name in chosen:
            known |= {k: b[0][:, own] for k, own in zip(block.terms, block.slices, strict=True)}
    return every, known


def _rows(design: Design, where: Conditions, groups: Sequence[str]) -> Rows:
    """The rows, with weights and offset as asked for."""
    if where.weights is not None and isinstance(design.residual, KnownVariances):
        refuse_known(
            design,
            "weights= divide a residual variance that is estimated",
            "Leave weights out; the new data have the standard deviations in the column that the model was given.",
        )
    if where.newdata is None:
        check_rows(design)
        rows = own_rows(design, groups)
        if where.weights is not None:
            rows = replace(
                rows, residual=make_residual(rows.n, _own_weights(rows_of_design(design, where.weights), rows.n))
            )
    else:
        rows = new_rows(design, where.newdata, groups, weights=where.weights, weighted=True)
        if len(rows.skipped):
            text = str(rows.skipped).replace("dropped", "without responses")
            warnings.warn(f"Missing values in the new data: {text}.", BayesLMMWarning, stacklevel=4)
    return rows if where.offset is None else replace(rows, offset=_offset(where.offset, where.newdata, rows))


def _own_weights(weights: Any, n: int) -> FloatArray:
    if isinstance(weights, str):
        raise DesignError(
            f"weights={shown(weights)} names a column, and without newdata there is no table that could have it. Give "
            "an array with one weight for each row of the fit, or newdata=."
        )
    values = read_weights(weights, pd.DataFrame(index=range(n)))
    if values is None or not (values > 0).all():
        raise DesignError(
            "Some weights are 0 or missing: such a row has no finite residual variance to be simulated from. Give "
            "positive numbers."
        )
    return values


def _offset(offset: Any, newdata: Any, rows: Rows) -> FloatArray:
    """Offsets (k,) of the complete rows."""
    size = rows.complete.size
    if isinstance(offset, str):
        try:
            column = instance("newdata", newdata, pd.DataFrame, "a pandas table with that column", DesignError)[offset]
        except KeyError:
            raise DesignError(
                f"offset={shown(offset)} names no column of the new data. Name one, or give numbers."
            ) from None
        offset = column.to_numpy()
    values = numbers_of("offset", offset, finite=False, error=DesignError)
    if values.shape not in ((), (size,)):
        raise DesignError(f"offset has the shape {values.shape}; it takes one number, or one for each of {size} rows.")
    used = np.broadcast_to(values, (size,))[rows.complete]
    if not np.isfinite(used).all():
        raise DesignError("offset holds missing or infinite values in rows that are otherwise complete.")
    return used
