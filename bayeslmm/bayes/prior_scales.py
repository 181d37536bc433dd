"""Scales of the data that default priors and presets refer to: sd, MAD and means over observations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayeslmm.design.design import Design, RandomTerm
from bayeslmm.types import BoolArray, FloatArray

# sd of a normal distribution over its median absolute deviation
_MAD_TO_SD = 1.4826


def response_sd(design: Design, ddof: int = 1) -> float:
    """Standard deviation of the response less its offset, in its own units."""
    y = design.y_less_offset
    y = y - y[0]
    if design.frequency is None:
        return float(np.std(y, ddof=ddof))
    squares = (y - observation_mean(design, y)) ** 2
    return float(np.sqrt(design.frequency @ squares / (design.n_observations - ddof)))


def response_mad(design: Design) -> float:
    """Median absolute deviation of the response less its offset, times 1.4826."""
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


def rms(design: Design, Z: FloatArray) -> FloatArray:
    """Root mean squares (c,) of columns; 1 for a column of zeros."""
    size = np.sqrt(observation_mean(design, Z**2))
    return np.where(size > 0, size, 1.0)


def term_rms(design: Design, term: RandomTerm) -> FloatArray:
    """Root mean square of every effect's column (c,), of all together where effects share an sd."""
    owners = term.structure.sd_effects
    sizes = rms(design, np.stack([np.sqrt((term.Z[:, own] ** 2).sum(1)) for own in owners], axis=1))
    return np.repeat(sizes, [len(own) for own in owners])


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


def columns(design: Design, X: FloatArray, ddof: int = 0) -> ColumnSizes:
    """Location and scale over observations of the columns of X, shape (n, k)."""
    mean = observation_mean(design, X)
    n = design.n_observations
    sd = np.sqrt(observation_mean(design, (X - mean) ** 2) * n / (n - ddof))
    constant = sd <= 1e-12 * np.maximum(np.abs(X).max(axis=0), 1e-300)
    value = np.where(constant & (X[0] != 0), X[0], 1.0)
    return ColumnSizes(mean, np.where(constant, 1.0, sd), constant, value)
