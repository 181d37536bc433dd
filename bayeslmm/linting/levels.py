"""Rules of the linter on labels: what the notes on a model say, and a question where both readings are open."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from bayeslmm.design import implicit
from bayeslmm.design.build import build_design
from bayeslmm.design.notes import Note, column_notes, crossings, design_notes, nesting
from bayeslmm.errors import BayesLMMError
from bayeslmm.linting.of_data import Typed
from bayeslmm.linting.report import Finding


def labels(known: Typed) -> Iterator[Finding]:
    """Levels that look alike, dates and numbers read as text, factors of a single level."""
    for note in column_notes(known.formula, known.columns):
        yield _finding(known, note)


def crossed_or_nested(known: Typed) -> Iterator[Finding]:
    """Labels that start again in every level of another factor, by the response; else a question about two groups."""
    found = list(_evident(known))
    yield from (_finding(known, note) for note in found)
    asked = {note.column for note in found}
    groups = {bar.group for bar in known.formula.bars}
    pairs = [c for c in crossings(known.formula, known.columns) if {c[0], c[1]} <= groups and not asked]
    # Labels that start again are few: of two factors the one with fewer levels is asked about.
    for outer, inner, table in sorted(pairs, key=lambda pair: len(pair[2].labels)):
        if implicit.could_be_nested(table) and not {outer, inner} & asked:
            asked |= {outer, inner}
            yield _finding(known, nesting(outer, inner, table, minor=True))


def _evident(known: Typed) -> Iterator[Note]:
    try:
        design = build_design(known.formula.text, pd.DataFrame(known.columns), saturated="allow")
    except BayesLMMError:
        return
    yield from design_notes(design, known.formula, known.columns)


def _finding(known: Typed, note: Note) -> Finding:
    return Finding(note.rule, *known.first(note.column), "note", note.text, {}, note.remedy)


RULES = (labels, crossed_or_nested)
