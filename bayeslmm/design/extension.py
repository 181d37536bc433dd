"""A design with other numbers of groups and of rows in them: what a planned study makes of the rows at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.arguments import choice, shown, whole
from bayeslmm.design.design import Design
from bayeslmm.design.dropped import DroppedRows
from bayeslmm.design.extended_residuals import all_factors, check_parameters, correlated_within, regrouped
from bayeslmm.design.formula import parse_formula
from bayeslmm.design.grouping import Grouping, parents
from bayeslmm.design.rank import independent_columns
from bayeslmm.design.saturated import check_identified
from bayeslmm.errors import DesignError
from bayeslmm.types import FloatArray, IntArray

# Levels of a planned factor, and rows of a cell.
MOST_LEVELS = 1_000_000


@dataclass(frozen=True)
class Extension:
    """Rows of a design, used once, several times or not at all.

    Attributes
    ----------
    design : Design
        Its response is no data: numbers that stand where responses will be simulated.
    rows : IntArray, shape (m,)
        The row of the first design behind each row.
    groupings : dict of str to Grouping
        Those of the design, and the factor within whose levels residuals are correlated.
    """

    design: Design
    rows: IntArray
    groupings: dict[str, Grouping]


def extend(design: Design, groups: Mapping[str, int], replicates: int | None = None) -> Extension:
    """Give grouping factors other numbers of levels, and cells another number of rows.

    Levels are copied with all their rows: as many whole turns over all levels as fit, and of the last turn those that
    lie evenly spaced, from the first to the last, in the order of their predictors, so that treatments keep their
    shares. Factors nested in one that is copied get new levels with every copy; those crossed with it keep theirs. Rows
    that share the levels of all grouping factors are a cell, whose rows are taken by the same rule. The factor within
    whose levels residuals are correlated is one of them.

    Parameters
    ----------
    design : Design
    groups : mapping of str to int
        Grouping factor to its number of levels; others stay as they are.
    replicates : int, optional
        Rows of every cell.

    Raises
    ------
    DesignError
        So few rows that the fixed effects cannot be told apart, or the variances.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> design = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).design
    >>> wider = extend(design, {"Subject": 30}, replicates=4).design
    >>> wider.n, wider.groupings["Subject"].n_levels, wider.X[:4, 1].tolist()
    (120, 30, [0.0, 3.0, 6.0, 9.0])
    """
    rows = np.arange(design.n)
    groupings = all_factors(design)
    for name, count in groups.items():
        if count != groupings[name].n_levels:
            rows, groupings = _copied(design, rows, groupings, name, count)
    if replicates is not None:
        chosen = _of_cells(design, rows, groupings, replicates)
        rows = rows[chosen]
        groupings = {name: replace(own, codes=own.codes[chosen]) for name, own in groupings.items()}
    out = planned(design, rows, {name: groupings[name] for name in design.groupings})
    if correlated := ":".join(correlated_within(design)):
        out = replace(out, residual=regrouped(design, out.residual, groupings[correlated].codes))
    _check(design, out)
    return Extension(out, rows, groupings)


def planned(design: Design, rows: IntArray, groupings: dict[str, Grouping]) -> Design:
    """Rows of a design with other groupings, and numbers in place of the response."""
    return replace(
        design,
        y=np.random.default_rng(1).standard_normal(rows.size),
        X=design.X[rows],
        terms=tuple(replace(term, Z=term.Z[rows]) for term in design.terms),
        groupings=groupings,
        residual=design.residual.part(rows),
        offset=None if design.offset is None else design.offset[rows],
        index=np.arange(rows.size),
        dropped=DroppedRows(),
        cells=None if design.cells is None else design.cells.part(rows),
    )


def part_of(design: Design, rows: IntArray) -> Design:
    """Some rows of a design with their responses, and the levels that occur in them."""
    none = np.zeros(rows.size, dtype=np.int64)
    groupings = {name: _renumbered(name, own, own.codes[rows], none) for name, own in design.groupings.items()}
    frequency = None if design.frequency is None else design.frequency[rows]
    return replace(planned(design, rows, groupings), y=design.y[rows], index=design.index[rows], frequency=frequency)


def in_turns(kinds: IntArray, count: int) -> IntArray:
    """`count` of k items: whole turns, and an evenly spaced part of one in the order of their kinds.

    Examples
    --------
    >>> in_turns(np.array([0, 1, 0, 1]), 2).tolist(), in_turns(np.arange(10), 13).tolist()[-3:]
    ([0, 3], [0, 4, 9])
    """
    k = kinds.size
    turns, rest = divmod(count, k)
    order = np.argsort(kinds, kind="stable")
    spaced = np.round(np.linspace(0, k - 1, rest)).astype(np.int64) if rest > 1 else np.full(rest, (k - 1) // 2)
    return np.concatenate([np.tile(np.arange(k), turns), np.sort(order[spaced])])


def _copied(
    design: Design, rows: IntArray, groupings: dict[str, Grouping], name: str, count: int
) -> tuple[IntArray, dict[str, Grouping]]:
    """Rows and groupings with `count` levels of one factor."""
    own = groupings[name]
    nested = {key for key, other in groupings.items() if key != name and parents(other, own) is not None}
    crossed = [other.codes for key, other in groupings.items() if key != name and key not in nested]
    members = _members(own.codes, own.n_levels)
    chosen = in_turns(_kinds_of_levels(_kinds(design.X[rows], *crossed), members), count)
    places = np.concatenate([members[level] for level in chosen])
    sizes = [members[level].size for level in chosen]
    new, copy = np.repeat(np.arange(count), sizes), np.repeat(np.arange(count) // own.n_levels, sizes)
    out = {name: Grouping(name, new, _names(own.levels, chosen, np.arange(count) // own.n_levels))}
    for key, other in groupings.items():
        if key != name:
            out[key] = _renumbered(key, other, other.codes[places], copy if key in nested else np.zeros_like(copy))
    return rows[places], {key: out[key] for key in groupings}


def _renumbered(name: str, grouping: Grouping, codes: IntArray, copy: IntArray) -> Grouping:
    """A grouping whose levels are those that occur, apart in every copy."""
    pairs, place = np.unique(np.column_stack([copy, codes]), axis=0, return_inverse=True)
    return Grouping(name, place.reshape(-1), _names(grouping.levels, pairs[:, 1], pairs[:, 0]))


def _names(levels: tuple[str, ...], chosen: IntArray, copies: IntArray) -> tuple[str, ...]:
    """Names of levels, with the number of the copy behind all but the first."""
    taken, out = set(levels), list[str]()
    for level, copy in zip(chosen.tolist(), copies.tolist(), strict=True):
        name = levels[level] if copy == 0 else f"{levels[level]}.{copy + 1}"
        while copy and name in taken:
            name += "'"
        taken.add(name)
        out.append(name)
    return tuple(out)


def _of_cells(design: Design, rows: IntArray, groupings: dict[str, Grouping], replicates: int) -> IntArray:
    """Positions in `rows` of so many rows of every cell."""
    codes = np.column_stack([np.zeros(rows.size, dtype=np.int64), *(own.codes for own in groupings.values())])
    _, cell = np.unique(codes, axis=0, return_inverse=True)
    kinds = _kinds(design.X[rows])
    members = _members(cell.reshape(-1), int(cell.max()) + 1)
    chosen = np.concatenate([own[in_turns(kinds[own], replicates)] for own in members])
    # Cells stay in the order of their first rows.
    first = np.repeat([own[0] for own in members], replicates)
    return np.asarray(chosen[np.argsort(first, kind="stable")])


def _kinds(X: FloatArray, *codes: IntArray) -> IntArray:
    """Rows numbered by their predictors (and levels of other factors), in the order of these."""
    _, kinds = np.unique(np.column_stack([X, *codes]), axis=0, return_inverse=True)
    return kinds.reshape(-1)


def _kinds_of_levels(kinds: IntArray, members: list[IntArray]) -> IntArray:
    """Levels numbered by what rows they have."""
    found = [tuple(np.sort(kinds[own]).tolist()) for own in members]
    numbers = {pattern: i for i, pattern in enumerate(sorted(set(found)))}
    return np.array([numbers[pattern] for pattern in found], dtype=np.int64)


def _members(codes: IntArray, levels: int) -> list[IntArray]:
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.cumsum(np.bincount(codes, minlength=levels))[:-1])


def outermost(design: Design) -> list[str]:
    """Grouping factors that are nested in no other."""
    return _outer(design.groupings)


def _outer(groupings: Mapping[str, Grouping]) -> list[str]:
    known = groupings.items()
    return [a for a, inner in known if all(a == b or parents(inner, outer) is None for b, outer in known)]


def _check(design: Design, out: Design) -> None:
    """Refuse an extension in which effects can no longer be told apart."""
    kept = set(independent_columns(out.X).tolist())
    lost = [name for j, name in enumerate(design.fixed_names) if j not in kept]
    sizes = ", ".join(f"{own.n_levels} levels of {name}" for name, own in all_factors(out).items())
    if lost:
        raise DesignError(
            f"With {sizes} in {out.n} rows the fixed effects {', '.join(lost)} are combinations of the others: the "
            "rows that are left do not vary enough. Take more groups or replicates."
        )
    if out.n <= out.p:
        raise DesignError(f"{out.n} rows ({sizes}) leave nothing to estimate sigma beside {out.p} fixed effects.")
    if out.terms:
        check_identified(out, parse_formula(out.formula), {})
    check_parameters(out)


def group_sizes(design: Design, name: str, given: Any) -> dict[str, int]:
    """Numbers of levels by grouping factor, from one number for the only (or outermost) factor or a mapping.

    Parameters
    ----------
    design : Design
    name : str
        The argument's name.
    given : int, mapping or None

    Raises
    ------
    DesignError
        No such factor; a number where several factors are crossed; no number of at least 2.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        return {the_factor(design, name, given): whole(name, given, 2, MOST_LEVELS, DesignError)}
    for key in given:
        choice(f"{name}: the grouping factor", key, list(all_factors(design)), DesignError)
    return {key: whole(f"{name}[{key!r}]", value, 2, MOST_LEVELS, DesignError) for key, value in given.items()}


def the_factor(design: Design, name: str, given: Any) -> str:
    """The grouping factor that a number of groups without a name is about.

    Raises
    ------
    DesignError
    """
    outer = _outer(all_factors(design))
    if not outer:
        raise DesignError(
            f"{name}={shown(given)} copies levels of a grouping factor, and the model has none. Give all rows in the "
            "data of a bl.Plan."
        )
    if len(outer) != 1:
        raise DesignError(
            f"{name}={shown(given)} does not say which groups: the model has the crossed factors "
            f"{', '.join(map(repr, outer))}. Name them, {name}={{{outer[0]!r}: 20}}."
        )
    return outer[0]


def with_labels(extension: Extension, frame: pd.DataFrame, factors: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """The rows of a table behind those of an extension, with the labels of the new groups.

    Parameters
    ----------
    extension : Extension
    frame : pandas.DataFrame
        As many rows as the first design.
    factors : mapping of str to sequence of str
        Grouping factor to its columns. Where a factor has several, the last one is labelled anew, unless a copy of
        another factor tells its copies apart.
    """
    out = frame.iloc[extension.rows].reset_index(drop=True)
    for name, columns in sorted(factors.items(), key=lambda item: len(item[1])):
        grouping = extension.groupings[name]
        if len(columns) == 1 and name in extension.design.groupings:
            out[columns[0]] = np.array(grouping.levels, dtype=object)[grouping.codes]
            continue
        pairs = out[list(columns)].astype(str).agg(":".join, axis=1)
        if pairs.nunique() != grouping.n_levels:
            copies = pd.Series(grouping.codes).groupby(pairs.to_numpy()).transform(lambda c: pd.factorize(c)[0])
            last = out[columns[-1]].astype(str)
            out[columns[-1]] = last.where(copies == 0, last + "." + (copies + 1).astype(str))
    return out
