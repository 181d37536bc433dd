"""Factors that are nested in others: found from the formula and the cells of the data, and averaged within them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from bayeslmm.design.algebra import expanded
from bayeslmm.design.design import Design
from bayeslmm.design.expressions import Name, walk
from bayeslmm.design.formula import parse_formula
from bayeslmm.design.newdata import known_recipe
from bayeslmm.design.reference import ReferenceData
from bayeslmm.means.grid import ReferenceGrid, variables_of
from bayeslmm.types import BoolArray, FloatArray, IntArray

type Nesting = dict[str, tuple[str, ...]]


def nesting_of(design: Design) -> Nesting:
    """Variables that are nested in others, each with all of these in the order of the formula.

    A factor is nested in another where each of its levels occurs with one level of the other, or where the formula says
    so: it stands in a term whose rest is in the model, while the term without the other is not (``f / h``).

    Examples
    --------
    >>> import pandas as pd
    >>> from bayeslmm.design import build_design
    >>> data = pd.DataFrame({"f": list("aabb") * 2, "h": list("uvwx") * 2, "k": list("mmmmnnnn"), "y": range(8)})
    >>> data["g"] = list("pqrspqrs")
    >>> nesting_of(build_design("y ~ f + h + k + (1 | g)", data)), nesting_of(build_design("y ~ f / k + (1 | g)", data))
    ({'h': ('f',)}, {'k': ('f',)})
    """
    reference = known_recipe(design).reference
    found = {name: set(outer) for name, outer in _by_cells(reference).items()}
    for name, outer in _by_terms(design, reference).items():
        # Cells come first: in y ~ f:h alone the formula is symmetric, and they are not.
        found.setdefault(name, set()).update(one for one in outer if name not in found.get(one, ()))
    for nesters in found.values():
        nesters |= set[str]().union(*(found.get(one, set[str]()) for one in nesters))
    order = variables_of(design)
    return {
        name: tuple(one for one in order if one in nesters)
        for name, nesters in found.items()
        if nesters and name not in nesters
    }


def with_nesters(nesting: Mapping[str, Sequence[str]], of: Sequence[str], by: Sequence[str]) -> tuple[str, ...]:
    """Variables and those that they are nested in, which are not in `by`."""
    nesters = [one for name in of for one in nesting.get(name, ())]
    return tuple(dict.fromkeys((*of, *(one for one in nesters if one not in by))))


def nested_weights(grid: ReferenceGrid, nesting: Mapping[str, Sequence[str]], over: Iterable[str]) -> FloatArray:
    """Equal weights (m,) of the points, where averages over nested factors are within those that they are nested in."""
    out = np.ones(len(grid.places))
    averaged = set(over)
    for name, nesters in nesting.items():
        if name in averaged:
            out /= np.maximum(_levels_within(grid, name, nesters), 1)
    return out


def points_that_exist(grid: ReferenceGrid, nesting: Mapping[str, Sequence[str]]) -> BoolArray:
    """Points (m,) at which every nested factor has a level of those that occur there."""
    out = np.ones(len(grid.places), dtype=bool)
    for name, nesters in nesting.items():
        out &= _occurs(grid, (name, *nesters))
    return out


def words(nesting: Mapping[str, Sequence[str]]) -> list[str]:
    """Notes on what is nested."""
    return [
        f"{name} is nested in {':'.join(nesters)}: its levels stand, and are averaged over, within those."
        for name, nesters in nesting.items()
    ]


def _by_cells(reference: ReferenceData) -> Nesting:
    factors = [
        k
        for k, name in enumerate(reference.factors)
        if name not in reference.covariates and len(reference.levels[k]) > 1
    ]
    found: Nesting = {}
    for k in factors:
        inside = [j for j in factors if j != k and reference.factors[k] not in found.get(reference.factors[j], ())]
        outer = [reference.factors[j] for j in inside if _one_each(reference.cells[:, k], reference.cells[:, j])]
        if outer:
            found[reference.factors[k]] = tuple(outer)
    return found


def _one_each(codes: IntArray, others: IntArray) -> bool:
    """Whether each value comes with one other value."""
    return len(np.unique(np.column_stack([codes, others]), axis=0)) == len(np.unique(codes))


def _by_terms(design: Design, reference: ReferenceData) -> Nesting:
    terms = _plain_terms(design, reference)
    found: Nesting = {}
    for name in dict.fromkeys(name for term in terms for name in sorted(term)):
        if frozenset({name}) in terms:
            continue
        sets = [
            frozenset(one for one in term if one != name and term - {one} not in terms)
            for term in terms
            if name in term and term - {name} in terms
        ]
        smallest = [one for one in sets if one and not any(other < one for other in sets if other)]
        if smallest:
            found[name] = tuple(sorted(frozenset[str]().union(*smallest)))
    return found


def _plain_terms(design: Design, reference: ReferenceData) -> list[frozenset[str]]:
    """Terms of columns that stand as they are, or of which factors are made."""
    terms, _, nodes = expanded(parse_formula(design.formula).fixed)
    known = known_recipe(design).columns
    own: dict[str, str] = {}
    for key, node in nodes.items():
        names = {part.name for part in walk(node) if isinstance(part, Name) and part.name in known}
        name = next(iter(names)) if len(names) == 1 else ""
        if name and (isinstance(node, Name) or name not in reference.covariates):
            own[key] = name
    return [frozenset(own[key] for key in term) for term in terms if all(key in own for key in term)]


def _occurs(grid: ReferenceGrid, names: Sequence[str]) -> BoolArray:
    """Points (m,) whose levels of some factors occur together in the data; covariates go with any."""
    reference = known_recipe(grid.design).reference
    chosen = [grid.variable(name) for name in names if grid.variable(name).factor]
    own = [reference.factors.index(variable.name) for variable in chosen]
    known = {tuple(cell) for cell in reference.cells[:, own].tolist()}
    codes = [variable.codes[grid.places[:, grid.position(variable.name)]] for variable in chosen]
    cells = np.column_stack(codes).tolist() if codes else [()] * len(grid.places)
    return np.array([tuple(cell) in known for cell in cells], dtype=bool) if own else np.ones(len(cells), dtype=bool)


def _levels_within(grid: ReferenceGrid, name: str, nesters: Sequence[str]) -> IntArray:
    """Levels (m,) of a variable that the grid has within the levels of others at every point."""
    outer = grid.places[:, [grid.position(one) for one in nesters]]
    occurs = _occurs(grid, (name, *nesters))
    pairs = np.unique(np.column_stack([outer, grid.places[:, grid.position(name)]])[occurs], axis=0)
    cells, counts = np.unique(pairs[:, :-1], axis=0, return_counts=True)
    size = {tuple(cell): count for cell, count in zip(cells.tolist(), counts.tolist(), strict=True)}
    return np.array([size.get(tuple(cell), 0) for cell in outer.tolist()], dtype=np.int64)
