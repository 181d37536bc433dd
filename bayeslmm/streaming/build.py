"""From a formula and a source of rows to sums on a design without rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from bayeslmm.arguments import choice
from bayeslmm.design.build import check_text, own_names, read_formula
from bayeslmm.design.choice import chosen_structures
from bayeslmm.design.covariance import CovarianceStructure
from bayeslmm.design.data import used_columns
from bayeslmm.design.design import STORES, Store
from bayeslmm.design.estimable import combinations
from bayeslmm.design.formula import Formula
from bayeslmm.design.padding import NaAction, check_na_action
from bayeslmm.design.per_row import PerRowArguments
from bayeslmm.design.rows_elsewhere import MEMORY, with_rows_elsewhere
from bayeslmm.errors import DesignError
from bayeslmm.likelihood.crossproducts import SummedDesign
from bayeslmm.likelihood.rowless import summed_without_rows
from bayeslmm.sources import Source, checked
from bayeslmm.streaming.assembling import check, design_of, facts_of, with_groups, with_reference
from bayeslmm.streaming.coordinates import fitted, independent
from bayeslmm.streaming.crew import Crew
from bayeslmm.streaming.framing import frame_of
from bayeslmm.streaming.group_facts import FactsPlan
from bayeslmm.streaming.measures import MeasuredRows, measure
from bayeslmm.streaming.question import ask
from bayeslmm.streaming.reader import PassReader
from bayeslmm.streaming.rows_again import RowsAgain
from bayeslmm.streaming.settling import settled
from bayeslmm.streaming.sums import OnFrame, SumsPlan


def summed(
    formula: str,
    source: Source,
    *,
    weights: Any = None,
    contrasts: Mapping[str, Any] | None = None,
    extra_namespace: Mapping[str, Any] | None = None,
    saturated: Literal["error", "allow"] = "error",
    cov: Mapping[str, CovarianceStructure] | None = None,
    frequency: Any = None,
    store: Store = "auto",
    na_action: NaAction = "drop",
    rank_deficient: Literal["drop", "error"] = "drop",
    residual_sd: Any = None,
    residual: str | None = None,
    memory: int = MEMORY,
    progress: bool = True,
    most: int | None = None,
    crew: Crew | None = None,
) -> SummedDesign:
    """Sum the rows of a source up, in passes over its chunks.

    Parameters
    ----------
    formula : str
    source : Source
    weights, residual_sd, frequency : str, optional
        Names or expressions of columns.
    contrasts, extra_namespace, saturated, cov, store, na_action, rank_deficient, residual
        As `build_design` takes them.
    memory : int
        Bytes of rows that may be read again and kept, where a result needs them.
    progress : bool
        Whether there are bars.
    most : int, optional
        Rows of a chunk at most.
    crew : Crew, optional
        Who sums pieces of the source, in place of one stream of chunks.

    Returns
    -------
    SummedDesign
        Its design has no rows in memory.

    Raises
    ------
    FormulaError, DesignError
        As for rows in memory; and what chunks cannot do.
    """
    check_text(formula)
    choice("saturated", saturated, ("error", "allow"), DesignError)
    choice("rank_deficient", rank_deficient, ("drop", "error"), DesignError)
    store = choice("store", store, STORES, DesignError)
    available = list(source.columns)
    parsed, parts, _ = read_formula(formula, residual, residual_sd, available, (weights, frequency, residual_sd))
    _refuse_unknown(parsed, bool(parts), residual, na_action)
    namespace = own_names(extra_namespace)
    if crew is not None and crew.kept is not None:
        crew.kept.check(namespace)
    names = used_columns(parsed, available, namespace)
    per_row = PerRowArguments.of(weights, residual_sd, frequency, available, namespace)
    question = ask(parsed, names, per_row, namespace, contrasts)
    structures = chosen_structures(parsed.bars, cov)
    reader = PassReader(checked(source, question.columns, most), progress, crew)
    measured = measure(reader, question, structures, store, na_action)
    return _sum_up(reader, measured, saturated, rank_deficient, store, memory)


def _refuse_unknown(formula: Formula, parts: bool, residual: str | None, na_action: str) -> None:
    if parts or not formula.bars:
        raise DesignError(
            f"residual={residual!r} needs rows that are neighbours, or several passes for every evaluation; the rows "
            "of these data are read in chunks and not kept. Models with random effects and independent residuals "
            "(weights= and residual_sd= too) are fitted to them; for residual structures read the rows into a data "
            "frame."
        )
    if check_na_action(na_action) == "exclude":
        raise DesignError(
            "na_action='exclude' has results by row for all rows, of which those of these data are read in chunks and "
            "not kept. Use 'drop': rows with missing values are left out, counted, and the first of them named."
        )


def _sum_up(
    reader: PassReader, measured: MeasuredRows, saturated: str, rank_deficient: str, store: Store, memory: int
) -> SummedDesign:
    triangle, p = measured.moments.triangle, len(measured.names)
    kept = independent(triangle, p)
    left_out = np.setdiff1d(np.arange(p), kept)
    R = triangle.whole()[:, 1 : p + 1]
    combined = combinations(R[:, kept], R[:, left_out]) if left_out.size else np.empty((kept.size, 0))
    design, facts = design_of(measured, kept, combined, store), facts_of(measured, kept)
    rows = RowsAgain(reader.source, measured.training, kept, tuple(measured.coders.values()))
    check(with_rows_elsewhere(design, rows, facts, memory), measured, saturated, rank_deficient)
    frame, fixed, terms = frame_of(triangle, design, kept, p, measured.parents)
    response = fitted(triangle, fixed, kept.tolist(), *measured.shift)
    coders = tuple(measured.coders[block.grouping.name] for block in frame.blocks)
    level, drift = measured.shift[0], response.constant - measured.shift[0]
    on = OnFrame(frame, kept, fixed, terms, coders, level, drift, (response.coef,))
    own = np.concatenate([kept, np.arange(p, triangle.shift.size)])
    levels = {name: coder.n_levels for name, coder in measured.coders.items()}
    references = measured.survey.references
    plan = SumsPlan(
        measured.training, on, FactsPlan(levels, kept, triangle.constant[own], triangle.zeros[own]), references.many
    )
    partial = reader.run(plan, "Sums")
    medians = partial.histograms.medians() if partial.histograms is not None else {}
    design = with_reference(design, references.finish(measured.tables, medians))
    groups, sums = partial.facts, partial.finish(frame, None)
    sums, response = settled(plan, sums, response, lambda further: reader.run(further, "Sums once more"))
    return summed_without_rows(with_rows_elsewhere(design, rows, with_groups(facts, groups), memory), sums, response)
