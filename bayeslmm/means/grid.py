"""The reference grid of a model: all levels of its factors, its covariates at their mean or at given values."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from bayeslmm.arguments import mapping, numbers_of, shown
from bayeslmm.design.algebra import expanded
from bayeslmm.design.design import Design
from bayeslmm.design.expressions import Name, walk
from bayeslmm.design.formula import parse_formula
from bayeslmm.design.grid import FixedFunctions, evaluate_fixed
from bayeslmm.design.groups import level_name
from bayeslmm.design.newdata import known_recipe
from bayeslmm.design.recipe import Column, columns_in
from bayeslmm.equality import by_value
from bayeslmm.errors import DesignError
from bayeslmm.types import FloatArray, IntArray

type Centre = Literal["mean", "median"]

# Points of a grid beyond which means over it are no question one asks.
_MOST_POINTS = 200_000


@by_value
@dataclass(frozen=True, eq=False)
class GridVariable:
    """A column of the fixed part and the values that it takes in a grid.

    Attributes
    ----------
    name : str
    values : tuple
        Levels of a factor, numbers of a covariate.
    codes : IntArray, shape (k,)
        Positions of the values among all levels of a factor, or of a covariate that takes both of its values; empty for
        others, which have no part in counts.
    factor : bool
    given : bool
        Whether the values were chosen by the user.
    """

    name: str
    values: tuple[Any, ...]
    codes: IntArray
    factor: bool
    given: bool

    @cached_property
    def labels(self) -> tuple[Any, ...]:
        """How the values stand in tables: levels as text, numbers as they are."""
        return tuple(map(level_name, self.values)) if self.factor else self.values


@by_value
@dataclass(frozen=True, eq=False)
class ReferenceGrid:
    """Points at which the fixed part of a model is evaluated.

    Attributes
    ----------
    design : Design
    variables : tuple of GridVariable
    places : IntArray, shape (m, v)
        Value of every variable at every point; the first variable changes fastest.
    functions : FixedFunctions
        Predictions at the m points.
    counts : IntArray, shape (m,)
        Rows of the data in the cell of factors of every point.
    centre : {"mean", "median"}
        Where covariates are whose values were not given.
    """

    design: Design
    variables: tuple[GridVariable, ...]
    places: IntArray
    functions: FixedFunctions
    counts: IntArray
    centre: Centre = "mean"

    def shifted(self, name: str, distance: float) -> FixedFunctions:
        """Predictions with a covariate so far above its values."""
        columns = _columns(self.design, self.variables, self.places)
        columns[name] = columns[name] + distance
        return evaluate_fixed(self.design, columns, len(self.places))

    def variable(self, name: str) -> GridVariable:
        return self.variables[self.position(name)]

    def position(self, name: str) -> int:
        """Place of a variable by its name.

        Raises
        ------
        DesignError
            No such variable in the fixed part.
        """
        names = [variable.name for variable in self.variables]
        if name not in names:
            raise DesignError(unknown_variable(self.design, name, names))
        return names.index(name)


def variables_of(design: Design) -> list[str]:
    """Columns that the fixed part and the offsets use, in the order of the formula."""
    formula = parse_formula(design.formula)
    return columns_in([formula.fixed, *formula.offsets], known_recipe(design).columns)


def term_variables(design: Design) -> list[frozenset[str]]:
    """Columns of every term of the fixed part."""
    terms, _, nodes = expanded(parse_formula(design.formula).fixed)
    known = known_recipe(design).columns
    own = {
        key: frozenset(part.name for part in walk(node) if isinstance(part, Name) and part.name in known)
        for key, node in nodes.items()
    }
    return [frozenset[str]().union(*(own[key] for key in term)) for term in terms]


def reference_grid(
    design: Design,
    at: Mapping[str, Any] | None = None,
    centre: Centre = "mean",
    around: Mapping[str, float] | None = None,
) -> ReferenceGrid:
    """All combinations of the levels of the factors, with covariates at their centres.

    Parameters
    ----------
    design : Design
    at : mapping, optional
        Column to the values that it takes: some levels of a factor, numbers of a covariate.
    centre : {"mean", "median"}
        Where covariates are for which `at` says nothing. One that has two values in the data takes both.
    around : mapping, optional
        Covariates that take two values, as far below and above their centre.

    Raises
    ------
    DesignError
        An unknown column or level.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> design = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).design
    >>> reference_grid(design, {"Days": [0, 5]}).functions.L.tolist()
    [[1.0, 0.0], [1.0, 5.0]]
    """
    names = variables_of(design)
    chosen = given_values(at)
    for name in chosen:
        if name not in names:
            raise DesignError(f"at: {unknown_variable(design, name, names)}")
    variables = tuple(_variable(design, name, chosen, centre, (around or {}).get(name)) for name in names)
    sizes = [len(variable.values) for variable in variables]
    points = int(np.prod(sizes, dtype=float)) if sizes else 1
    if points > _MOST_POINTS:
        raise DesignError(
            f"The reference grid would have {points:,} points ({' x '.join(map(str, sizes))} levels of "
            f"{', '.join(names)}); at most {_MOST_POINTS:,} are evaluated. Fix some variables with at=."
        )
    indices = np.indices(sizes[::-1]).reshape(len(sizes), -1)[::-1].T if sizes else np.empty((1, 0), dtype=int)
    places = np.asarray(indices, dtype=np.int64)
    functions = evaluate_fixed(design, _columns(design, variables, places), points)
    return ReferenceGrid(design, variables, places, functions, _counts(design, variables, places), centre)


def given_values(at: Mapping[str, Any] | None) -> dict[str, Any]:
    """What ``at=`` says, by column."""
    if at is None:
        return {}
    return dict(mapping("at", at, "a mapping of column to values, e.g. at={'age': [20, 40]}", DesignError))


def _variable(design: Design, name: str, at: Mapping[str, Any], centre: Centre, around: float | None) -> GridVariable:
    reference = known_recipe(design).reference
    if name in reference.factors and name not in reference.covariates:
        levels = reference.levels[reference.factors.index(name)]
        codes = _chosen_levels(name, levels, at[name]) if name in at else np.arange(len(levels))
        return GridVariable(name, tuple(levels[k] for k in codes), np.asarray(codes), True, name in at)
    if name not in reference.covariates:
        raise DesignError(
            f"Nothing is known of the values of {name!r}: it holds dates or times, or the model was read from "
            "a file of an earlier version. Make the model again from formula and data, with numbers for times."
        )
    known = reference.covariates[name]
    middle = known.mean if centre == "mean" else known.median
    none = np.empty(0, dtype=np.int64)
    if name in at:
        given = np.unique(numbers_of(f"at[{name!r}]", np.atleast_1d(at[name]), shape=(None,), error=DesignError))
        if not given.size:
            raise DesignError(f"at[{name!r}] has no values. Give one or more numbers.")
        return GridVariable(name, tuple(given.tolist()), none, False, True)
    if around is not None:
        return GridVariable(name, (middle - around, middle + around), none, False, False)
    if len(known.values) == 2 and name in reference.factors:
        return GridVariable(name, tuple(known.values.tolist()), np.arange(2), False, False)
    return GridVariable(name, (middle,), none, False, False)


def _chosen_levels(name: str, levels: Sequence[Any], asked: Any) -> IntArray:
    items = [asked] if isinstance(asked, str) or not isinstance(asked, Iterable) else list(asked)
    known = {level_name(level): k for k, level in enumerate(levels)}
    places = []
    for item in items:
        text = level_name(item)
        if text not in known:
            near = difflib.get_close_matches(text, list(known), n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise DesignError(
                f"at[{name!r}] has the level {shown(item)}, which {name} does not have.{hint} Levels: "
                f"{', '.join(list(known)[:20])}{', ...' if len(known) > 20 else ''}."
            )
        places.append(known[text])
    if not places:
        raise DesignError(f"at[{name!r}] has no levels. Levels: {', '.join(list(known)[:20])}.")
    return np.array(sorted(set(places)), dtype=np.int64)


def _columns(design: Design, variables: Sequence[GridVariable], places: IntArray) -> dict[str, pd.Series]:
    return {v.name: _series(design, v, places[:, k]) for k, v in enumerate(variables)}


def _series(design: Design, variable: GridVariable, places: IntArray) -> pd.Series:
    """The column of the grid, of the kind that the data had."""
    column = known_recipe(design).columns[variable.name]
    if column.kind == "factor":
        return Column("factor", variable.codes[places], column.levels, column.ordered).series()
    values = np.array(variable.values, dtype=bool if column.kind == "boolean" else float)
    return pd.Series(values[places])


def _counts(design: Design, variables: Sequence[GridVariable], places: IntArray) -> IntArray:
    reference = known_recipe(design).reference
    factors = [(k, v) for k, v in enumerate(variables) if v.codes.size]
    if not factors:
        return np.full(len(places), int(design.n_observations), dtype=np.int64)
    own = [reference.factors.index(v.name) for _, v in factors]
    found: dict[tuple[int, ...], int] = {}
    for cell, count in zip(reference.cells[:, own].tolist(), reference.counts.tolist(), strict=True):
        found[tuple(cell)] = found.get(tuple(cell), 0) + count
    codes = np.column_stack([v.codes[places[:, k]] for k, v in factors])
    return np.array([found.get(tuple(cell), 0) for cell in codes.tolist()], dtype=np.int64)


def unknown_variable(design: Design, name: object, names: Sequence[str]) -> str:
    """What to say of a name that is no column of the fixed part."""
    if not names:
        return f"{shown(name)} cannot be asked about: the fixed part of {design.formula!r} is a constant."
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    if name in design.groupings:
        hint = " It is a grouping factor: its levels are random effects (ranef, estimable)."
    return f"{shown(name)} is not in the fixed part of {design.formula!r}.{hint} It has: {', '.join(names)}."


def weighted(values: FloatArray) -> FloatArray:
    """Weights that sum to one; nan where there is nothing to weigh."""
    total = values.sum()
    return values / total if total > 0 else np.full(values.shape, np.nan)
