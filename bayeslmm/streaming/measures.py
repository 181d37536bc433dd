"""The passes before the sums: which rows can be used, levels, distributions, combinations of levels, measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bayeslmm.design.build import known_contrasts
from bayeslmm.design.choice import term_structure
from bayeslmm.design.covariance import CovarianceStructure
from bayeslmm.design.design import Store
from bayeslmm.design.size import check_structure
from bayeslmm.errors import DesignError
from bayeslmm.streaming.checks import check_levels, check_measures, check_survey
from bayeslmm.streaming.columns import Columns
from bayeslmm.streaming.evaluated import Training, evaluated
from bayeslmm.streaming.framing import effects_of_groups, needs_nesting
from bayeslmm.streaming.group_facts import NestingPlan
from bayeslmm.streaming.groups import CellsPlan, GroupCoder, coder
from bayeslmm.streaming.level_sets import LevelTable
from bayeslmm.streaming.moments import ColumnMoments, MomentsPlan, shift_of
from bayeslmm.streaming.question import Question
from bayeslmm.streaming.reader import PassReader
from bayeslmm.streaming.survey import Survey, SurveyPlan
from bayeslmm.types import IntArray


@dataclass(frozen=True, eq=False)
class MeasuredRows:
    """What is known before rows are summed.

    Attributes
    ----------
    question : Question
    survey : Survey
    training : Training
    moments : ColumnMoments
    coders : dict of str to GroupCoder
    names : tuple of str
        Of all columns of the fixed part.
    effects : tuple of tuple of str
        Of the columns of each random term.
    structures : tuple of CovarianceStructure
    parents : dict
        Pairs of nested factors, where these were looked for.
    shift : tuple of float
        Level and drift of the response.
    tables : dict of str to LevelTable
    """

    question: Question
    survey: Survey
    training: Training
    moments: ColumnMoments
    coders: dict[str, GroupCoder]
    names: tuple[str, ...]
    effects: tuple[tuple[str, ...], ...]
    structures: tuple[CovarianceStructure, ...]
    parents: dict[tuple[str, str], IntArray]
    shift: tuple[float, float]
    tables: dict[str, LevelTable]


def measure(
    reader: PassReader, question: Question, structures: Sequence[CovarianceStructure], store: Store, na_action: str
) -> MeasuredRows:
    """Run the passes."""
    formula = question.formula
    chunk, text = reader.first(question, "Levels and measures")
    question = replace(question, contrasts=known_contrasts(question.contrasts or None, chunk.columns))
    columns = Columns(question, chunk, text)
    ordered = tuple(k for k, structure in enumerate(structures) if structure.ordered)
    weighted = chunk.weights is not None
    plan: MomentsPlan | None = None
    if columns.simple:
        training = columns.first_training()
        columns.evaluate(training, chunk)
        plan = MomentsPlan(training, shift_of(evaluated(training, chunk)), weighted, ordered)
    first = SurveyPlan(question, columns.leveled, columns.distributions, plan, text, *columns.references)
    survey = reader.run(first, "Levels and measures")
    check_survey(survey, question, na_action)
    tables = {name: levels.finish() for name, levels in survey.levels.items()}
    check_levels(list(tables.values()))
    if not columns.simple:
        training = columns.training(survey, tables)
    names, effects = columns.evaluate(training, chunk)
    coders = {bar.group: coder(bar.group, bar.factors, tables) for bar in formula.bars}
    coders = _with_cells(reader, question, coders)
    parents = _nesting(reader, question, coders, effects, store)
    if plan is None:
        plan = MomentsPlan(training, shift_of(evaluated(training, chunk)), weighted, ordered)
        moments = reader.run(plan, "Measures of columns")
    else:
        moments = survey.found_moments
    check_measures(formula, names, effects, moments)
    chosen = tuple(_structure(question, k, own, effects[k], moments) for k, own in enumerate(structures))
    shift = (plan.shift.level, plan.shift.drift)
    return MeasuredRows(question, survey, training, moments, coders, names, effects, chosen, parents, shift, tables)


def _structure(
    question: Question, k: int, structure: CovarianceStructure, effects: tuple[str, ...], moments: ColumnMoments
) -> CovarianceStructure:
    bar, size = question.formula.bars[k], len(effects)
    if not size:
        raise DesignError(f"The random term {bar.label} has no columns: its left side removes everything.")
    check_structure(bar.label, structure.keyword, size)
    # Whether some row has several effects was looked for in all of them.
    stands_for_all = np.ones((1, size)) if k in moments.several else np.zeros((1, size))
    return term_structure(bar, structure, effects, stands_for_all)


def _with_cells(reader: PassReader, question: Question, coders: dict[str, GroupCoder]) -> dict[str, GroupCoder]:
    combined = tuple(own for own in coders.values() if len(own.factors) > 1)
    if not combined:
        return coders
    cells = reader.run(CellsPlan(question, combined), "Combinations of levels")
    known = {own.name: replace(own, cells=cells.sets[own.name].finish()) for own in combined}
    return {name: known.get(name, own) for name, own in coders.items()}


def _nesting(
    reader: PassReader,
    question: Question,
    coders: Mapping[str, GroupCoder],
    effects: Sequence[tuple[str, ...]],
    store: Store,
) -> dict[tuple[str, str], IntArray]:
    """Which factors are nested in which, where the order of elimination depends on it."""
    groups = [bar.group for bar in question.formula.bars]
    levels = {name: own.n_levels for name, own in coders.items()}
    if not needs_nesting(effects_of_groups(groups, [len(own) for own in effects], levels), store):
        return {}
    return reader.run(NestingPlan(question, tuple(coders.values())), "Nesting").parents
