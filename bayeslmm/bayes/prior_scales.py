"""Scales of the data that default priors and presets refer to: sd, MAD and means over observations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.design.row_facts import RowFacts
from bayeslmm.types import BoolArray, FloatArray

# sd of a normal distribution over its median absolute deviation
_MAD_TO_SD = 1.4826


def response_sd(design: Design, ddof: int = 1) -> float:
    """Standard deviation of the response less its offset, in its own units."""
    if design.facts is not None:
        return float(design.facts.sds(ddof)[-1])
    y = design.y_less_offset
    y = y - y[0]
    if design.frequency is None:
        return float(np.std(y, ddof=ddof))
    squares = (y - observation_mean(design, y)) ** 2
    return float(np.sqrt(design.frequency @ squares / (design.n_observations - ddof)))


def response_mad(design: Design) -> float:
    """Median absolute deviation of the response less its offset, times 1.4826."""
    if design.facts is not None and design.facts.mad is not None:
        return _MAD_TO_SD * design.facts.mad
    y = design.y_less_offset
    return _MAD_TO_SD * _median(design, np.abs(y - _median(design, y)))


def _median(design: Design, values: FloatArray) -> float:
    if design.frequency is None:
        return float(np.median(values))
    order = np.argsort(values)
    counts, n = np.cumsum(design.frequency[order]), design.n_observations
    middle = np.searchsorted(counts, [(n - 1) // 2, n // 2], side="right")
    return float(values[order][middle].mean())


def observation_mean(design: Design, values: FloatArray) -> FloatArray:
    """Mean over observations of values (n,) or (n, k): every row counts as often as it occurs."""
    if design.frequency is None:
        return np.asarray(values.mean(axis=0))
    # np.average has no average of no columns.
    return np.asarray((design.frequency * values.T).T.sum(axis=0) / design.frequency.sum())


def response_mean(design: Design) -> float:
    """Mean over observations of the response less its offset."""
    if design.facts is not None:
        return float(design.facts.means[-1])
    return float(observation_mean(design, design.y_less_offset))


def rms(design: Design, position: int) -> FloatArray:
    """Root mean squares (c,) of the columns of a term; 1 for a column of zeros."""
    if design.facts is None:
        return _not_zero(np.sqrt(observation_mean(design, design.terms[position].Z ** 2)))
    return _not_zero(np.sqrt((design.facts.moments(position) ** 2).sum(0)))


def _not_zero(size: FloatArray) -> FloatArray:
    return np.where(size > 0, size, 1.0)


def term_rms(design: Design, position: int, change: FloatArray | None = None) -> FloatArray:
    """Root mean square of every effect's column (c,), of all together where effects share an sd.

    Parameters
    ----------
    design : Design
    position : int
        Of the term.
    change : FloatArray, shape (c, c), optional
        What its columns are multiplied by first.
    """
    term = design.terms[position]
    owners = term.structure.sd_effects
    Z = term.Z if design.facts is None else design.facts.moments(position)
    Z = Z if change is None else np.asarray(Z @ change)
    squares = np.stack([np.sqrt((Z[:, own] ** 2).sum(1)) for own in owners], axis=1) ** 2
    sizes = np.sqrt(observation_mean(design, squares) if design.facts is None else squares.sum(0))
    return np.repeat(_not_zero(sizes), [len(own) for own in owners])


@dataclass(frozen=True)
class ColumnSizes:
    """Location and scale of columns.

    Attributes
    ----------
    mean, sd : FloatArray, shape (k,)
    constant : BoolArray, shape (k,)
        Columns without variation, such as the intercept; their sd is given as 1.
    value : FloatArray, shape (k,)
        First entry of the constant ones, else 1.
    """

    mean: FloatArray
    sd: FloatArray
    constant: BoolArray
    value: FloatArray


def columns(design: Design, term: int | None = None, ddof: int = 0) -> ColumnSizes:
    """Location and scale over observations of the columns of X (n, p), or of a term (n, c)."""
    if design.facts is not None:
        return _known_columns(design.facts, term, ddof)
    X = design.X if term is None else design.terms[term].Z
    mean = observation_mean(design, X)
    n = design.n_observations
    sd = np.sqrt(observation_mean(design, (X - mean) ** 2) * n / (n - ddof))
    constant = sd <= 1e-12 * np.maximum(np.abs(X).max(axis=0), 1e-300)
    value = np.where(constant & (X[0] != 0), X[0], 1.0)
    return ColumnSizes(mean, np.where(constant, 1.0, sd), constant, value)


def _known_columns(facts: RowFacts, term: int | None, ddof: int) -> ColumnSizes:
    own = facts.X if term is None else facts.Z(term)
    low, high, sd = facts.low[own], facts.high[own], facts.sds(ddof)[own]
    constant = sd <= 1e-12 * np.maximum(np.maximum(np.abs(low), np.abs(high)), 1e-300)
    value = np.where(constant & (low != 0), low, 1.0)
    return ColumnSizes(facts.means[own], np.where(constant, 1.0, sd), constant, value)
