"""A design without rows, and what is known of its rows, from what the passes have found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bayeslmm.design.build import check_parts
from bayeslmm.design.design import Design, RandomTerm, Store
from bayeslmm.design.recipe import recipe_of_columns
from bayeslmm.design.reference import ReferenceData
from bayeslmm.design.row_facts import RowFacts
from bayeslmm.design.saturated import check_identified
from bayeslmm.residual import KnownVariances, Residual, make_residual
from bayeslmm.streaming.checks import dropped_rows
from bayeslmm.streaming.group_facts import GroupFacts
from bayeslmm.streaming.measures import MeasuredRows
from bayeslmm.streaming.triangle import upper
from bayeslmm.types import BoolArray, FloatArray, IntArray


def design_of(measured: MeasuredRows, kept: IntArray, combined: FloatArray, store: Store) -> Design:
    """The design with no row.

    Parameters
    ----------
    measured : MeasuredRows
    kept : IntArray
        Columns of the fixed part that are kept.
    combined : FloatArray, shape (p, a)
        The others as combinations of these.
    store : str
    """
    question, formula = measured.question, measured.question.formula
    groupings = {name: own.grouping() for name, own in measured.coders.items()}
    terms = tuple(
        RandomTerm(bar.label, bar.group, effects, np.empty((0, len(effects))), structure)
        for bar, effects, structure in zip(formula.bars, measured.effects, measured.structures, strict=True)
    )
    chosen = set(kept.tolist())
    per_row, none = question.per_row, np.empty(0)
    residual: Residual = make_residual(0, none if per_row.weights is not None else None)
    if per_row.residual_sd is not None:
        residual = KnownVariances(none)
    training = measured.training
    return Design(
        formula=formula.text,
        response=formula.response,
        y=none,
        X=np.empty((0, kept.size)),
        fixed_names=tuple(name for k, name in enumerate(measured.names) if k in chosen),
        aliased=tuple(name for k, name in enumerate(measured.names) if k not in chosen),
        terms=terms,
        groupings=groupings,
        residual=residual,
        offset=none if formula.offsets else None,
        index=np.empty(0, dtype=np.int64),
        dropped=dropped_rows(measured.survey.left_out),
        frequency=None if per_row.frequency is None else np.empty(0, dtype=np.int64),
        recipe=recipe_of_columns(
            formula,
            training.columns,
            question.contrasts,
            question.namespace,
            per_row.scale,
            combined,
            training.counts,
            ReferenceData(),
        ),
        store=store,
        sigma=None if per_row.residual_sd is None else 1.0,
    )


def facts_of(measured: MeasuredRows, kept: IntArray) -> RowFacts:
    """What is known of the rows before they are summed: nothing of single levels."""
    moments, triangle, survey = measured.moments, measured.moments.triangle, measured.survey
    p = len(measured.names)
    own = np.concatenate([kept, np.arange(p, triangle.shift.size)])
    weights = survey.weights
    ones, N = np.ones(1), triangle.observations
    return RowFacts(
        n=triangle.n,
        n_observations=triangle.observations,
        widths=(1, kept.size, *(len(effects) for effects in measured.effects), 1),
        triangle=upper(triangle.whole()[:, np.concatenate([[0], 1 + own])]),
        low=np.concatenate([ones, triangle.low[own]]),
        high=np.concatenate([ones, triangle.high[own]]),
        signs=np.append(True, triangle.signs[own]),
        response=(float(moments.response[3]), float(moments.response[4]), float(moments.response[1])),
        sizes={},
        rows={},
        varies={},
        present={},
        weights=None if weights is None else (weights.low, weights.high, weights.total / N, weights.inverse / N),
        log_weights=0.0 if weights is None else weights.logs,
    )


def with_groups(facts: RowFacts, groups: GroupFacts) -> RowFacts:
    """The same with what is known of single levels."""
    varies, present = dict[str, BoolArray](), dict[str, IntArray]()
    for name, state in groups.state.items():
        varies[name] = np.append(False, state == 1)
        # Columns that are zero in no row are there in all levels.
        present[name] = np.full(state.size + 1, groups.sizes[name].size)
        for (factor, k), found in groups.present.items():
            if factor == name:
                present[name][k + 1] = np.count_nonzero(found)
    return replace(facts, sizes=groups.sizes, rows=groups.rows, varies=varies, present=present, parents=groups.parents)


def with_reference(design: Design, reference: ReferenceData) -> Design:
    """The same with centres and cells of the columns of its fixed part."""
    if design.recipe is None:
        raise TypeError("a design without rows has a recipe")
    return replace(design, recipe=replace(design.recipe, reference=reference))


def check(design: Design, measured: MeasuredRows, saturated: str, rank_deficient: str) -> None:
    """Refuse what a design cannot be, in the words for rows in memory.

    Raises
    ------
    DesignError
    """
    check_parts(design, rank_deficient)
    if saturated == "error":
        check_identified(design, measured.question.formula, {})
