"""Averages over a reference grid: which points a mean is of, with which weights, and what it hides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from bayeslmm.equality import by_value
from bayeslmm.means.grid import GridVariable, ReferenceGrid, term_variables, weighted
from bayeslmm.means.nesting import Nesting, nested_weights, nesting_of, points_that_exist, with_nesters, words
from bayeslmm.types import FloatArray, IntArray

type Weights = Literal["equal", "proportional", "cells", "outer", "flat"]

WEIGHTS = ("equal", "proportional", "cells", "outer", "flat")


@by_value
@dataclass(frozen=True, eq=False)
class RowLabels:
    """What the rows of a table of functions are about.

    Attributes
    ----------
    columns : dict of str to tuple
        Name of a column of labels to its m values.
    by : tuple of str
        Columns whose combinations are groups of rows: contrasts stay within them.
    size : int
        m.
    """

    columns: dict[str, tuple[Any, ...]]
    by: tuple[str, ...]
    size: int

    @property
    def own(self) -> tuple[str, ...]:
        """Columns that tell the rows of a group apart."""
        return tuple(name for name in self.columns if name not in self.by)

    @property
    def groups(self) -> list[IntArray]:
        """Rows of every group, in order of appearance."""
        found: dict[tuple[Any, ...], list[int]] = {}
        for i in range(self.size):
            found.setdefault(tuple(self.columns[name][i] for name in self.by), []).append(i)
        return [np.array(rows, dtype=np.int64) for rows in found.values()]

    def name(self, i: int) -> str:
        """A row by the values of its own columns."""
        return " ".join(text_of(self.columns[name][i]) for name in self.own) or "overall"


@by_value
@dataclass(frozen=True, eq=False)
class Averages:
    """Means over a grid as weights of its points.

    Attributes
    ----------
    labels : RowLabels
    W : FloatArray, shape (k, m)
        Weights of the m points; nan in means of cells without data.
    notes : tuple of str
    """

    labels: RowLabels
    W: FloatArray
    notes: tuple[str, ...] = field(default=())


def text_of(value: Any) -> str:
    """A value of a grid as text.

    Examples
    --------
    >>> text_of("a"), text_of(40.0), text_of(8.25)
    ('a', '40', '8.25')
    """
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def averages(
    grid: ReferenceGrid,
    of: Sequence[str],
    by: Sequence[str],
    weights: Weights,
    slope: str | None = None,
    nesting: Nesting | None = None,
) -> Averages:
    """Means for all combinations of the values of some variables, over those of all others.

    Parameters
    ----------
    grid : ReferenceGrid
    of, by : sequence of str
        Variables; the first changes fastest, combinations of `by` are groups. What they are nested in stands beside
        them, and combinations of levels that a nested factor does not have are left out.
    weights : {"equal", "proportional", "cells", "outer", "flat"}
        Of the points that a mean is over: all alike; as often as the data have the combination of the factors that are
        averaged over; as often as they have the cell; products of the shares of single factors; alike where there are
        data.
    slope : str, optional
        The column whose slopes are averaged: terms without it hide nothing.
    nesting : dict, optional
        What `nesting_of` finds, where it is at hand.
    """
    nesting = nesting_of(grid.design) if nesting is None else nesting
    by = with_nesters(nesting, by, of)
    kept = [grid.position(name) for name in (*with_nesters(nesting, of, by), *by)]
    over = [k for k in range(len(grid.variables)) if k not in kept]
    sizes = [len(grid.variables[k].values) for k in kept]
    strides = np.cumprod([1, *sizes])[:-1].astype(np.int64)
    target = grid.places[:, kept] @ strides if kept else np.zeros(len(grid.places), dtype=np.int64)
    exists = points_that_exist(grid, nesting)
    raw = point_weights(grid, over, weights, nesting) * exists
    if weights == "equal" and nesting:
        raw *= nested_weights(grid, nesting, [grid.variables[k].name for k in over])
    rows = np.flatnonzero(np.bincount(target, exists, minlength=int(np.prod(sizes, dtype=int))))
    W = np.zeros((len(rows), len(grid.places)))
    for row, own in zip(rows.tolist(), W, strict=True):
        inside = target == row
        own[inside] = weighted(raw[inside])
    places = np.indices(sizes[::-1]).reshape(len(sizes), -1)[::-1] if sizes else np.empty((0, 1), dtype=int)
    columns = {
        grid.variables[k].name: tuple(grid.variables[k].labels[j] for j in own.tolist())
        for k, own in zip(kept, places[:, rows], strict=True)
    }
    return Averages(RowLabels(columns, tuple(by), len(W)), W, tuple(_notes(grid, kept, over, weights, slope, nesting)))


def point_weights(grid: ReferenceGrid, over: Sequence[int], weights: Weights, nesting: Nesting) -> FloatArray:
    """Weights (m,) of the points, up to a factor for every mean."""
    factors = [k for k in over if grid.variables[k].codes.size]
    if weights == "equal" or (not factors and weights != "cells"):
        return np.ones(len(grid.places))
    counts = grid.counts.astype(float)
    if weights in ("cells", "flat"):
        return counts if weights == "cells" else (counts > 0).astype(float)
    if weights == "outer":
        out = np.ones(len(grid.places))
        for k in factors:
            out *= np.bincount(grid.places[:, k], counts)[grid.places[:, k]]
        return out
    # Frequencies of nested factors are those within what they are nested in.
    outer = [grid.position(name) for k in factors for name in nesting.get(grid.variables[k].name, ())]
    factors = sorted({*factors, *(k for k in outer if grid.variables[k].codes.size)})
    _, place = np.unique(grid.places[:, factors], axis=0, return_inverse=True)
    place = place.ravel()
    return np.asarray(np.bincount(place, counts)[place])


def _notes(
    grid: ReferenceGrid,
    kept: Sequence[int],
    over: Sequence[int],
    weights: Weights,
    slope: str | None,
    nesting: Nesting,
) -> list[str]:
    notes = []
    averaged = [grid.variables[k] for k in over if len(grid.variables[k].values) > 1]
    if averaged:
        how = {"equal": "equal weights", "proportional": "weights proportional to their frequencies"}
        notes.append(
            f"Averaged over {', '.join(v.name for v in averaged)} ({how.get(weights, f'weights={weights!r}')})."
        )
    fixed = [v for k, v in enumerate(grid.variables) if k in over and len(v.values) == 1]
    if fixed:
        notes.append(f"At {', '.join(_held(v, grid.centre) for v in fixed)}.")
    names = {grid.variables[k].name for k in kept}
    hidden = {v.name for v in averaged}
    nested = [name for name in nesting if len(grid.variable(name).values) > 1 and name in names | hidden]
    notes += words({name: nesting[name] for name in nested})
    # A term of a nested factor is its main effect, within what it is nested in.
    alone = {frozenset({name, *nesting[name]}) for name in nested if name in hidden}
    terms = [term for term in term_variables(grid.design) if term & hidden and term & names and term not in alone]
    terms = [term for term in terms if slope is None or slope in term]
    if terms:
        order = [v.name for v in grid.variables]
        shown = ", ".join(dict.fromkeys(":".join(sorted(term, key=order.index)) for term in terms))
        among = ", ".join(name for name in order if name in hidden and any(name in term for term in terms))
        notes.append(
            f"Results may be misleading: they are averages over {among}, with which the model has an interaction "
            f"({shown}). by={among.split(', ')[0]!r} shows them apart."
        )
    return notes


def _held(variable: GridVariable, centre: str) -> str:
    how = "" if variable.given or variable.factor else f" (its {centre})"
    return f"{variable.name} = {text_of(variable.labels[0])}{how}"
