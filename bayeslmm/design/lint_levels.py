"""Rules of the linter on labels: what the notes on a model say, and a question where both readings are open."""

from __future__ import annotations

from collections.abc import Iterator

from bayeslmm.design import implicit
from bayeslmm.design.lint_data import Typed
from bayeslmm.design.lint_report import Finding
from bayeslmm.design.notes import Note, column_notes, crossings, nesting


def labels(known: Typed) -> Iterator[Finding]:
    """Levels that look alike, dates and numbers read as text, factors of a single level."""
    for note in column_notes(known.formula, known.columns):
        yield _finding(known, note)


def crossed_or_nested(known: Typed) -> Iterator[Finding]:
    """Labels that occur in several levels of another factor, where a cell has several rows."""
    asked: set[frozenset[str]] = set()
    pairs = [found for found in crossings(known.formula, known.columns) if implicit.could_be_nested(found[2])]
    # Labels that start again are few: of two factors the one with fewer levels is asked about.
    for outer, inner, table in sorted(pairs, key=lambda found: len(found[2].labels)):
        if frozenset((outer, inner)) not in asked:
            asked.add(frozenset((outer, inner)))
            yield _finding(known, nesting(outer, inner, table, minor=True))


def _finding(known: Typed, note: Note) -> Finding:
    return Finding(note.rule, *known.first(note.column), "note", note.text, {}, note.remedy)


RULES = (labels, crossed_or_nested)
