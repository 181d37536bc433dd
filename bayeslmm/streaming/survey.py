"""The first pass: which rows can be used, levels, distributions that functions look at, and sizes of weights."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from bayeslmm.design.dominant import HEAVY
from bayeslmm.streaming.evaluated import evaluated
from bayeslmm.streaming.level_sets import LevelSet
from bayeslmm.streaming.moments import ColumnMoments, MomentsPlan
from bayeslmm.streaming.question import Question, RowsLeftOut, numbered, usable
from bayeslmm.streaming.references import ReferenceCount
from bayeslmm.streaming.state import Distribution
from bayeslmm.types import FloatArray, IntArray

# Bins of the logarithm of weights (base 2): sixteen for each doubling.
_BINS, _LOWEST = 16, -1100


@dataclass
class WeightFacts:
    """Precision weights seen so far.

    Attributes
    ----------
    low, high : float
    total, inverse, logs : float
        Sums over observations, of the weights, of one over them and of their logarithms.
    bins : IntArray
        Rows by the logarithm of their weight.
    """

    low: float = np.inf
    high: float = 0.0
    total: float = 0.0
    inverse: float = 0.0
    logs: float = 0.0
    bins: IntArray = field(default_factory=lambda: np.zeros(-2 * _LOWEST * _BINS, dtype=np.int64))

    def add(self, weights: FloatArray, counts: IntArray | None) -> None:
        """More rows, at least one."""
        self.low, self.high = min(self.low, float(weights.min())), max(self.high, float(weights.max()))
        logs = np.log(weights)
        self.total += float(weights.sum() if counts is None else weights @ counts)
        self.inverse += float((1.0 / weights).sum() if counts is None else (1.0 / weights) @ counts)
        self.logs += float(logs.sum() if counts is None else logs @ counts)
        place = np.floor(np.log2(weights) * _BINS).astype(np.int64) - _LOWEST * _BINS
        self.bins += np.bincount(place, minlength=self.bins.size)

    def merge(self, other: WeightFacts) -> WeightFacts:
        """Rows of both."""
        return WeightFacts(
            min(self.low, other.low),
            max(self.high, other.high),
            self.total + other.total,
            self.inverse + other.inverse,
            self.logs + other.logs,
            self.bins + other.bins,
        )

    @property
    def surely_ordinary(self) -> bool:
        """Whether no row can outweigh the others so that sums of squares lose them."""
        if not self.high > HEAVY * self.low:
            return True
        # A tenth of the rows weighs less than the upper end of this bin.
        tenth = int(np.searchsorted(np.cumsum(self.bins), 0.1 * self.bins.sum()))
        return bool(self.high <= HEAVY * 2.0 ** ((tenth + _LOWEST * _BINS) / _BINS))


@dataclass
class Survey:
    """What the first pass has found so far.

    Attributes
    ----------
    left_out : RowsLeftOut
    n, observations : int
        Rows that can be used.
    levels : dict of str to LevelSet
    distributions : tuple of Distribution
    weights : WeightFacts or None
    moments : ColumnMoments or None
        Where columns can be measured in the same pass.
    references : ReferenceCount
    chunks : int
    """

    left_out: RowsLeftOut
    levels: dict[str, LevelSet]
    distributions: tuple[Distribution, ...]
    weights: WeightFacts | None
    moments: ColumnMoments | None
    references: ReferenceCount
    n: int = 0
    observations: int = 0
    chunks: int = 0

    @property
    def found_moments(self) -> ColumnMoments:
        """Measures of columns, where they were asked for."""
        if self.moments is None:
            raise TypeError("columns were not measured in this pass")
        return self.moments

    def merge(self, other: Survey) -> Survey:
        """Rows of both."""
        pairs = zip(self.distributions, other.distributions, strict=True)
        return Survey(
            self.left_out.merge(other.left_out),
            {name: own.merge(other.levels[name]) for name, own in self.levels.items()},
            tuple(one.merge(two) for one, two in pairs),
            self.weights.merge(other.weights) if self.weights and other.weights else None,
            self.moments.merge(other.moments) if self.moments and other.moments else None,
            self.references.merge(other.references),
            self.n + other.n,
            self.observations + other.observations,
            self.chunks + other.chunks,
        )


@dataclass(frozen=True)
class SurveyPlan:
    """What the first pass looks for.

    Attributes
    ----------
    question : Question
    leveled : tuple of str
        Columns whose levels are gathered.
    distributions : tuple of Distribution
        Empty ones, of the columns that functions look at as a whole.
    moments : MomentsPlan or None
        How columns are measured, where nothing else has to be known first.
    text : frozenset of str
        Columns that are text.
    numbers, coded : tuple of str
        Columns of the fixed part that are numbers, and those that are factors there.
    """

    question: Question
    leveled: tuple[str, ...]
    distributions: tuple[Distribution, ...]
    moments: MomentsPlan | None
    text: frozenset[str] = frozenset()
    numbers: tuple[str, ...] = ()
    coded: tuple[str, ...] = ()

    def empty(self) -> Survey:
        """Of no rows."""
        per_row = self.question.per_row
        weighted = per_row.weights is not None or per_row.residual_sd is not None
        return Survey(
            RowsLeftOut(),
            {name: LevelSet(name) for name in self.leveled},
            tuple(replace(one, parts=[], sums=one.sums.copy()) for one in self.distributions),
            WeightFacts() if weighted else None,
            None if self.moments is None else self.moments.empty(),
            ReferenceCount.start(self.numbers, self.coded),
        )

    def add(self, partial: Survey, frame: pd.DataFrame) -> Survey:
        """One more chunk."""
        start = partial.left_out.rows
        chunk = usable(numbered(frame, start), self.question, partial.left_out)
        partial.chunks += 1
        if not chunk.n:
            return partial
        partial.n += chunk.n
        partial.observations += chunk.observations
        for name, levels in partial.levels.items():
            levels.add(chunk.columns[name], name in self.text)
        for one in partial.distributions:
            one.add(chunk.columns, chunk.frequency)
        partial.references.add(chunk)
        if partial.weights is not None and chunk.weights is not None:
            partial.weights.add(chunk.weights, chunk.frequency)
        if partial.moments is not None and self.moments is not None:
            partial.moments.add(self.moments, chunk, evaluated(self.moments.training, chunk, start))
        return partial
