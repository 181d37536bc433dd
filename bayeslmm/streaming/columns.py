"""Kinds of columns, and what the first pass has to find out about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from bayeslmm.design import data as checks
from bayeslmm.design import kinds
from bayeslmm.design.build import check_contrasts
from bayeslmm.design.evaluate import called
from bayeslmm.design.formula import Formula
from bayeslmm.design.recipe import Column, columns_in, fixed_columns
from bayeslmm.errors import DesignError
from bayeslmm.streaming.evaluated import Training
from bayeslmm.streaming.level_sets import LevelTable
from bayeslmm.streaming.question import Question, UsableRows
from bayeslmm.streaming.state import Distribution, Look, coupled, looks, together
from bayeslmm.streaming.survey import Survey
from bayeslmm.types import AnyArray, FloatArray, IntArray

# Rows kept of a column that is looked at value by value; rows on which functions of the user's own are tried; relative
# difference between a value and the one that the same row has among others.
_SAMPLE, _ALONE, _SAME = 64, 400, 1e-8


def kind_of_column(series: pd.Series) -> str:
    """``"number"``, ``"boolean"``, ``"factor"`` or ``"time"``, as `recipe.Column` has it."""
    dtype = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return "factor"
    if pd.api.types.is_bool_dtype(dtype):
        return "boolean"
    if kinds.time_kind(series) is not None:
        return "time"
    return "number" if pd.api.types.is_numeric_dtype(dtype) else "factor"


def pieces_of(formula: Formula) -> list[str]:
    """All texts that are evaluated on rows."""
    return list(dict.fromkeys([formula.response, *formula.evaluated]))


class Columns:
    """The columns of a formula, as the first chunk shows them.

    Parameters
    ----------
    question : Question
    chunk : UsableRows
        The first of which rows can be used.
    text : frozenset of str
        Columns that are text.
    """

    def __init__(self, question: Question, chunk: UsableRows, text: frozenset[str]) -> None:
        self.question, self.text = question, text
        formula = question.formula
        _check_first(formula, chunk, text)
        self.used = columns_in(pieces_of(formula), dict.fromkeys(question.names))
        self.samples = {name: chunk.columns[name].iloc[:_SAMPLE] for name in self.used}
        self.kinds = {name: kind_of_column(chunk.columns[name]) for name in self.used}
        self.factors = [name for name in self.used if self.kinds[name] == "factor"]
        grouped = dict.fromkeys(factor for bar in formula.bars for factor in bar.factors)
        # Columns whose levels are gathered.
        self.leveled = tuple(dict.fromkeys([*grouped, *self.factors]))
        self._refuse_values()
        for name in self.factors:
            checks.check_usable(name, chunk.columns[name])
        found = looks(pieces_of(formula), self.used, question.namespace)
        self.distributions = tuple(Distribution(names, calls) for names, calls in together(found, self.factors))

    @property
    def looks(self) -> tuple[Look, ...]:
        """Calls that look at whole columns."""
        return tuple(look for one in self.distributions for look in one.looks)

    @property
    def simple(self) -> bool:
        """Whether all columns of the design can be evaluated before anything is known of other rows."""
        namespace = self.question.namespace
        value_by_value = all(called(text, namespace) <= {"element", "own"} for text in pieces_of(self.question.formula))
        return value_by_value and all(kind == "number" for kind in self.kinds.values())

    @property
    def references(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Columns of the fixed part that are numbers, and those that are factors there."""
        names, coded = fixed_columns(self.question.formula, self.kinds, self.question.namespace)
        names = [name for name in names if self.kinds[name] != "time"]
        numbers = tuple(name for name in names if self.kinds[name] == "number" and name not in coded)
        return numbers, tuple(name for name in names if name not in numbers)

    def _refuse_values(self) -> None:
        for name, value in self.question.namespace.items():
            if isinstance(value, pd.Series | pd.Index | np.ndarray | pd.Categorical):
                raise DesignError(
                    f"{name!r} of extra_namespace has one value for each row, but the rows of the data are read in "
                    "chunks, to which these do not belong. Make it a column of the data."
                )

    def first_training(self) -> Training:
        """Of columns that are looked at value by value alone."""
        return Training(self.question, {name: self._few(name) for name in self.used})

    def _few(self, name: str) -> Column:
        series, kind = self.samples[name], self.kinds[name]
        if kind == "boolean":
            return Column("boolean", np.array([False, True]))
        if kind == "time":
            return Column("time", kinds.plain_times(series).to_numpy())
        return Column("number", series.to_numpy(dtype=float))

    def evaluate(self, training: Training, chunk: UsableRows) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
        """Names of the columns of the fixed part and of those of the random terms; faults of the formula are said.

        Raises
        ------
        DesignError
        """
        formula, evaluator = self.question.formula, training.evaluator
        evaluator.vector(formula.response)
        _, names = evaluator.columns(formula.fixed, training.observations)
        for text in formula.offsets:
            evaluator.vector(text)
        effects = tuple(evaluator.columns(bar.left)[1] for bar in formula.bars)
        check_contrasts(self.question.contrasts, evaluator)
        if training.observations is not None or self.simple:
            self._check_own(training, chunk)
        return names, effects

    def _check_own(self, training: Training, chunk: UsableRows) -> None:
        """Refuse functions of the user's own that give a row another value among other rows."""
        namespace, offsets = self.question.namespace, self.question.formula.offsets
        for text in pieces_of(self.question.formula):
            if "own" not in called(text, namespace):
                continue
            vector = text in offsets or text == self.question.formula.response
            rows = np.arange(min(chunk.n, _ALONE))
            whole = _values(training, chunk, rows, text, vector)
            for part in (rows[-1:], rows[::3]):
                other = _values(training, chunk, part, text, vector)
                if not np.allclose(whole[part], other, rtol=_SAME, atol=_SAME * float(np.abs(whole).max(initial=0.0))):
                    raise DesignError(
                        f"{text!r} gives a row another value when other rows are left out: a mean or another summary "
                        "in it would be that of a chunk of the rows, which is all that is read at a time. Write it "
                        "with a function that knows all rows (scale(x), center(x), mean(x)), or compute the column "
                        "beforehand."
                    )

    def training(self, survey: Survey, tables: Mapping[str, LevelTable]) -> Training:
        """What the formula's functions know of all rows, from what the first pass has found."""
        columns, counts = self._stand_ins(survey, tables, self.used)
        return Training(
            self.question, columns, {name: tables[name] for name in self.factors}, counts, survey.observations
        )

    def _stand_ins(
        self, survey: Survey, tables: Mapping[str, LevelTable], names: Sequence[str]
    ) -> tuple[dict[str, Column], IntArray | None]:
        """Columns that stand for all rows, and how often each of their rows counts."""
        plain = {name: self._level_column(tables[name]) for name in self.factors if name in names}
        plain |= {name: self._few(name) for name in names if name not in plain}
        tables_of_values = [one.table() for one in survey.distributions]
        if not tables_of_values:
            return plain, None
        values, counts = coupled(tables_of_values)
        most = max([counts.size, *(len(plain[name].values) for name in self.factors if name in names)])
        counts = np.concatenate([counts, np.zeros(most - counts.size, dtype=np.int64)])
        columns = dict[str, Column]()
        for name in names:
            column = plain[name]
            own = column.values if name not in values else self._as_column(name, values[name], tables)
            # Rows that count nothing repeat the first one.
            more = np.repeat(own[:1], most - own.size) if name in values else own[:0]
            own = np.resize(np.concatenate([own, more]), most)
            columns[name] = Column(column.kind, own, column.levels, column.ordered)
        return columns, counts

    def _level_column(self, table: LevelTable) -> Column:
        return Column("factor", np.arange(len(table)), tuple(table.levels.tolist()), table.ordered)

    def _as_column(self, name: str, values: AnyArray, tables: Mapping[str, LevelTable]) -> AnyArray:
        series = pd.Series(values)
        if self.kinds[name] == "factor":
            return tables[name].codes(series)
        if self.kinds[name] == "time":
            return kinds.plain_times(series).to_numpy()
        return series.to_numpy(dtype=bool if self.kinds[name] == "boolean" else float)


def _values(training: Training, chunk: UsableRows, rows: IntArray, text: str, vector: bool) -> FloatArray:
    columns = {name: series.iloc[rows] for name, series in chunk.columns.items()}
    own = training.on(replace(chunk, columns=columns, n=rows.size))
    return np.asarray(own.vector(text) if vector else own.columns(text)[0])


def _check_first(formula: Formula, chunk: UsableRows, text: frozenset[str]) -> None:
    name = formula.response.strip("`")
    if name in chunk.columns:
        series = chunk.columns[name]
        checks.check_response_column(name, series.astype("str") if name in text else series)
