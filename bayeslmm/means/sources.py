"""Where the numbers of linear functions come from: a fit, a posterior's draws, or numbers that others were made of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.design.grid import FixedFunctions
from bayeslmm.equality import by_value
from bayeslmm.results.draws import Draws
from bayeslmm.results.fit import Fit
from bayeslmm.results.linear import DDF, Combinations, combinations
from bayeslmm.types import BoolArray, FloatArray


@by_value
@dataclass(frozen=True, eq=False)
class Estimated(Combinations):
    """Estimates of m functions, nan where the data say nothing about one."""

    @property
    def known(self) -> BoolArray:
        """Which can be estimated."""
        return np.isfinite(self.estimate)

    @property
    def divisor(self) -> FloatArray:
        """Standard errors to divide by: nan in place of zero, where an estimate has no t."""
        error = self.std_error
        return np.where(error > 0, error, np.nan)


class FunctionSource(Protocol):
    """Functions that can be combined linearly."""

    def combined(self, C: FloatArray) -> FunctionSource: ...


@by_value
@dataclass(frozen=True, eq=False)
class FitSource:
    """Linear functions of the fixed effects of a fit."""

    fit: Fit
    functions: FixedFunctions
    ddf: DDF

    def combined(self, C: FloatArray) -> FitSource:
        return FitSource(self.fit, self.functions.combined(C), self.ddf)

    @cached_property
    def estimated(self) -> Estimated:
        m = len(self.functions.L)
        known = usable(self.fit.design, self.functions)
        estimate, covariance, df = np.full(m, np.nan), np.full((m, m), np.nan), np.full(m, np.nan)
        if known.any():
            found = combinations(self.fit, self.functions.L[known], self.ddf)
            estimate[known] = found.estimate + self.functions.offset[known]
            covariance[np.ix_(known, known)] = found.covariance
            df[known] = found.df
        return Estimated(estimate, covariance, df)


@by_value
@dataclass(frozen=True, eq=False)
class NumberSource:
    """Functions of which no more is known than estimates and their covariance, such as means on another scale."""

    estimated: Estimated

    def combined(self, C: FloatArray) -> NumberSource:
        known = self.estimated.known
        inside = np.where(known, C, 0.0)
        estimate = inside @ np.where(known, self.estimated.estimate, 0.0)
        covariance = inside @ np.where(known[:, None] & known, self.estimated.covariance, 0.0) @ inside.T
        lost = (C[:, ~known] != 0).any(axis=1)
        estimate[lost], covariance[lost], covariance[:, lost] = np.nan, np.nan, np.nan
        # No function of the fixed effects has degrees of freedom of its own here: the least of those involved.
        df = [np.min(self.estimated.df[own & known], initial=np.inf) for own in C != 0]
        return NumberSource(Estimated(estimate, covariance, np.where(lost, np.nan, df)))


@by_value
@dataclass(frozen=True, eq=False)
class DrawSource:
    """Functions of a posterior's fixed effects, draw by draw.

    Attributes
    ----------
    post : Draws
    values : FloatArray, shape (S, m)
        nan in functions that the data say nothing about.
    functions : FixedFunctions or None
        What they are of the fixed effects, if they are linear.
    """

    post: Draws
    values: FloatArray
    functions: FixedFunctions | None = None

    def combined(self, C: FloatArray) -> DrawSource:
        if self.functions is not None:
            return draw_source(self.post, self.functions.combined(C))
        known = np.isfinite(self.values).all(axis=0)
        values = self.values[:, known] @ C[:, known].T
        values[:, (C[:, ~known] != 0).any(axis=1)] = np.nan
        return DrawSource(self.post, values)


def draw_source(post: Draws, functions: FixedFunctions) -> DrawSource:
    """Draws of linear functions of the fixed effects."""
    beta = np.asarray(post.data["posterior"]["beta"])
    beta = beta.reshape(-1, beta.shape[-1])
    values = beta @ functions.L.T + functions.offset
    values[:, ~usable(post.design, functions)] = np.nan
    return DrawSource(post, values, functions)


def usable(design: Design, functions: FixedFunctions) -> BoolArray:
    """Functions (m,) that can be estimated and have weights."""
    known = np.isfinite(functions.L).all(axis=1) & np.isfinite(functions.left_out).all(axis=1)
    if known.any():
        known[known] = FixedFunctions(functions.L[known], functions.left_out[known], functions.offset[known]).estimable(
            design
        )
    return known
