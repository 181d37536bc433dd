"""What the data look like, said beside a model: labels, dates and numbers read as text, nesting, weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.design import implicit
from bayeslmm.design.design import Design, Notes
from bayeslmm.design.formula import Formula, parse_formula
from bayeslmm.design.groups import factorize
from bayeslmm.design.lazy import Deferred, level_name
from bayeslmm.design.looks import Alike, Likeness, alike, likeness, listed, shown
from bayeslmm.design.remedies import assignment, reading, remedy
from bayeslmm.design.tokens import tokenize
from bayeslmm.types import FloatArray, IntArray

_SETS = 3
_SHOWN = 6
_EXCEPTIONS = 3
_LARGE = 2e8


@dataclass(frozen=True)
class Note:
    """Something about a column that a reader would want to know.

    Attributes
    ----------
    rule : str
        Short name.
    column : str
    text : str
        What was found.
    remedy : str
        What to do if it is not meant.
    minor : bool
        Whether it is said by the linter only.
    """

    rule: str
    column: str
    text: str
    remedy: str
    minor: bool = False

    def __str__(self) -> str:
        return f"{self.text} {self.remedy}".strip()


@dataclass(frozen=True, eq=False)
class PendingNotes(Deferred[tuple[str, ...]]):
    """Notes on a design, not yet looked for.

    Attributes
    ----------
    design : Design
    formula : Formula
    columns : mapping of str to pandas.Series
        The rows kept.
    """

    design: Design
    formula: Formula
    columns: Mapping[str, pd.Series]

    def resolve(self) -> tuple[str, ...]:
        found = [*column_notes(self.formula, self.columns), *design_notes(self.design, self.formula, self.columns)]
        return tuple(str(note) for note in found if not note.minor)


def notes_for(design: Design) -> Notes:
    """Notes of a design whose response was replaced: those that were not yet looked for will be of the new one."""
    pending = vars(design.notes)["lines"]
    return Notes(replace(pending, design=design)) if isinstance(pending, PendingNotes) else design.notes


def column_notes(formula: Formula, columns: Mapping[str, pd.Series]) -> Iterator[Note]:
    """Notes on single columns: labels that look alike, dates and numbers as text, a single level.

    Parameters
    ----------
    formula : Formula
    columns : mapping of str to pandas.Series
        Without missing values.
    """
    predictors = set(_predictors(formula, columns))
    for name, series in columns.items():
        if name == formula.response.strip("`") or not _has_labels(series):
            continue
        codes, levels = factorize(series)
        labels = levels.resolve()
        yield from _alike_notes(name, series, labels, np.bincount(codes, minlength=len(labels)))
        if name in predictors and not isinstance(series.dtype, pd.CategoricalDtype):
            yield from text_notes(name, series, labels)
        if name in _terms(formula.fixed) and len(labels) == 1:
            yield Note(
                "one level",
                name,
                f"{name} has a single level ({labels[0]!r}), so that it has no column and no effect.",
                "Leave it out, or check whether rows were lost.",
            )


def _has_labels(series: pd.Series) -> bool:
    dtype = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return not pd.api.types.is_numeric_dtype(dtype.categories.dtype)
    if pd.api.types.is_object_dtype(dtype):
        return pd.api.types.infer_dtype(series, skipna=True) in ("string", "mixed-integer", "mixed")
    return isinstance(dtype, pd.StringDtype) or pd.api.types.is_string_dtype(dtype)


def _alike_notes(name: str, series: pd.Series, labels: tuple[str, ...], counts: IntArray) -> Iterator[Note]:
    sets = alike(labels)
    if not sets:
        return
    rows = dict(zip(labels, counts.tolist(), strict=True))
    said = "; ".join(_set_in_words(found, rows) for found in sets[:_SETS])
    more = f"; and {len(sets) - _SETS} more such sets" if len(sets) > _SETS else ""
    remedies = dict.fromkeys(way for found in sets for way in found.remedies)
    same = str(dict.fromkeys(sets[0].labels[1:], sets[0].labels[0]))
    cure = ", ".join(assignment(way, name, series, same) for way in remedies)
    yield Note(
        "levels that look alike",
        name,
        f"{name} has levels that differ {said}{more}.",
        f"If they are one, before the model: {cure}.",
    )


def _set_in_words(found: Alike, rows: Mapping[str, int]) -> str:
    quoted = zip(shown(found.labels), found.labels, strict=True)
    each = [f"{text} ({rows[label]} row{'' if rows[label] == 1 else 's'})" for text, label in quoted]
    more = [f"{len(each) - _SHOWN} more"] if len(each) > _SHOWN else []
    labels = ", ".join([*each[:_SHOWN], *more])
    return f"only by {' and '.join(found.differ_by)}: {labels}"


def text_notes(name: str, series: pd.Series, labels: tuple[str, ...]) -> Iterator[Note]:
    """Notes on text that looks like dates or numbers."""
    found = likeness(labels)
    if found is None:
        return
    but = f" (but for {listed(found.exceptions, _EXCEPTIONS)})" if found.exceptions else ""
    yield Note(
        "dates as text" if found.words == "dates" else "numbers as text",
        name,
        f"{name} holds text that looks like {found.words}{but}: a factor with {len(labels)} levels, sorted as text "
        f"({listed(labels, 3)}).",
        conversion(name, series, found),
        minor=found.whole,
    )


def conversion(name: str, series: pd.Series, found: Likeness) -> str:
    """How text that looks like dates or numbers becomes a number."""
    ways = []
    for way, detail in found.remedies.items():
        first, *others = detail.split(" or ")
        file = f" (or {how})" if (how := reading(way, series)) else ""
        other = f" (or the format {' or '.join(map(repr, others))}: both fit)" if others else ""
        ways.append(f"{assignment(way, name, series, first)}{other}{file}")
    convert = ", or ".join(ways)
    if found.words == "dates":
        return f"For a slope: {convert}; then {remedy('days', name, series)} is the time in days."
    return f"For a slope: {convert}."


def design_notes(design: Design, formula: Formula, columns: Mapping[str, pd.Series]) -> Iterator[Note]:
    """Notes that need the response or the weights: implicit nesting, weights that look like known precisions."""
    yield from _nesting_notes(design, formula, columns)
    if design.sigma is None and design.weights is not None and np.ptp(design.weights) > 0:
        for term in design.terms:
            if design.groupings[term.group].n_levels == design.n:
                yield Note(
                    "weights with one row per level",
                    term.group,
                    f"{term.group} has one row per level, and there are weights: these are relative, the residual "
                    "variance is sigma^2 / weight with sigma estimated.",
                    "If they are 1 / known sampling variances, as in a meta-analysis, say residual_sd= in place of "
                    "weights=, with their square roots (standard errors): sigma is 1 then, not estimated.",
                )
                return


def _nesting_notes(design: Design, formula: Formula, columns: Mapping[str, pd.Series]) -> Iterator[Note]:
    response: FloatArray | None = None
    # Labels that start again are few: the factor with fewest levels is looked at first.
    pairs = sorted(crossings(formula, columns), key=lambda pair: len(pair[2].labels))
    for outer, inner, table in pairs:
        if not implicit.could_be_nested(table):
            continue
        if response is None:
            response = _unexplained(design)
        if response is None:
            return
        if implicit.likely_nested(table, response):
            yield nesting(outer, inner, table, minor=False)
            return


def nesting(outer: str, inner: str, table: implicit.ImplicitTable, *, minor: bool) -> Note:
    """The note on labels that may start again in every level of another factor."""
    labels = listed(table.labels, 3)
    if minor:
        text = f"Labels of {inner} ({labels}) occur in several levels of {outer}; they are read as the same ones."
    else:
        text = (
            f"Labels of {inner} ({labels}) occur in the levels of {outer} as if they started again in each: they are "
            "read as the same ones, but the response says that they have nothing in common."
            if table.full
            else f"Labels of {inner} ({labels}) count from the start in every level of {outer}; they are read as the "
            "same ones."
        )
    return Note(
        "crossed or nested",
        inner,
        text,
        f"If {inner} {table.labels[0]!r} is another one in every level of {outer}, did you mean (1 | {outer}/{inner}), "
        f"or (1 | {outer}:{inner})?"
        + ("" if minor or not table.full else " If they cross, cells still differ: add the latter."),
        minor,
    )


def crossings(formula: Formula, columns: Mapping[str, pd.Series]) -> Iterator[tuple[str, str, implicit.ImplicitTable]]:
    """Pairs of an outer factor and a grouping factor with intercepts that no term combines, and their tables."""
    combined = [set(bar.factors) for bar in formula.bars if len(bar.factors) > 1]
    inner = [bar.factors[0] for bar in formula.bars if len(bar.factors) == 1 and bar.left == "1"]
    sloped = {bar.factors[0] for bar in formula.bars if bar.left != "1"}
    outer = [*inner, *(name for name in _predictors(formula, columns) if _few_levels(columns[name]))]
    coded: dict[str, Any] = {}
    for a in dict.fromkeys(outer):
        for b in dict.fromkeys(inner):
            if a == b or {a, b} & sloped or any({a, b} <= pair for pair in combined):
                continue
            for name in (a, b):
                if name not in coded:
                    coded[name] = factorize(columns[name])
            if len(coded[a][1]) > implicit.MOST_LEVELS or len(coded[b][1]) > implicit.MOST_LEVELS:
                continue
            table = implicit.table_of(coded[a][0], coded[b][0], coded[b][1].resolve())
            if table is not None:
                yield a, b, table


def _few_levels(series: pd.Series) -> bool:
    """Whether a predictor may be a factor that groups are nested in."""
    return not pd.api.types.is_float_dtype(series.dtype)


def _unexplained(design: Design) -> FloatArray | None:
    """The response without what the fixed effects explain; None where that takes long."""
    if design.n * max(design.p, 1) ** 2 > _LARGE or design.frequency is not None:
        return None
    y = design.y_less_offset
    if not design.p:
        return y
    return np.asarray(y - design.X @ np.linalg.lstsq(design.X, y)[0])


def _predictors(formula: Formula, columns: Mapping[str, pd.Series]) -> list[str]:
    """Columns that are terms of the fixed part or left of a bar, or factors of these."""
    sides = [formula.fixed, *(bar.left for bar in formula.bars)]
    return [name for name in columns if any(name in _terms(side) for side in sides)]


def _terms(text: str) -> set[str]:
    """Columns that stand in a text outside calls."""
    return {token.text.strip("`") for token in tokenize(text) if not token.inside and token.kind in ("name", "quoted")}


def fixed_levels(design: Design) -> list[str]:
    """For every factor of the fixed part a line on its levels."""
    if design.recipe is None:
        return []
    terms = _terms(parse_formula(design.formula).fixed)
    found = []
    for name, column in design.recipe.columns.items():
        if column.kind == "factor" and name in terms:
            levels = [level_name(level) for level in column.levels]
            found.append(f"{name}: {len(levels)} level{'' if len(levels) == 1 else 's'}, {listed(levels)}")
    return found


def where(design: Design) -> list[str]:
    """A line on where the rows of a design are; nothing where they are in memory."""
    if design.facts is None:
        return []
    from bayeslmm.design.rows_elsewhere import shelf_of

    shelf = shelf_of(design)
    return [] if shelf is None else [f"rows: {shelf.rows.name}, read in chunks, not in memory"]
