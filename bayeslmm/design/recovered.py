"""Columns of the data again, row by row, from a design that has kept what the formula made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.design.design import Design
from bayeslmm.design.formula import parse_formula
from bayeslmm.design.grid import evaluate_fixed
from bayeslmm.design.newdata import known_recipe, new_rows
from bayeslmm.design.recipe import Column, columns_in
from bayeslmm.design.tables import open_table, to_pandas
from bayeslmm.errors import DesignError
from bayeslmm.types import AnyArray

# Cells of factors that are tried on the rows.
_MOST_CELLS = 2000
# Relative difference of a row of X from the one that is made again.
_SAME = 1e-9


def columns_of_group(design: Design, group: str) -> list[str]:
    """Columns that the fixed part, the offsets and the effects of a grouping factor use."""
    formula = parse_formula(design.formula)
    lefts = [bar.left for bar in formula.bars if bar.group == group]
    return columns_in([formula.fixed, *formula.offsets, *lefts], known_recipe(design).columns)


def recovered_columns(design: Design, names: Sequence[str], data: Any = None) -> dict[str, pd.Series]:
    """Values (n,) of columns on the rows of a design.

    Numbers are columns of X or Z themselves, or are kept where a function looks at all of them; levels of factors are
    those under which the formula gives the row of X that there is.

    Parameters
    ----------
    design : Design
    names : sequence of str
    data : table, optional
        That which the design was made of, for columns that cannot be had so.

    Raises
    ------
    DesignError
        Some cannot, and there are no data; the data are not those of the design.

    Examples
    --------
    >>> from bayeslmm.design import build_design
    >>> frame = pd.DataFrame({"y": [1.0, 2, 4, 3], "x": [1.0, 2, 3, 6], "f": list("baba"), "g": list("aabb")})
    >>> found = recovered_columns(build_design("y ~ x + f + (1 | g)", frame), ["x", "f"])
    >>> found["x"].tolist(), found["f"].tolist()
    ([1.0, 2.0, 3.0, 6.0], ['b', 'a', 'b', 'a'])
    """
    if data is not None:
        return _given(design, names, data)
    recipe = known_recipe(design)
    found: dict[str, pd.Series] = {}
    for name in names:
        column = recipe.columns[name]
        values = _kept(design, column, recipe.whole) if recipe.frequency is None else None
        if values is None and column.kind == "number":
            values = _plain(design, name)
        if values is not None:
            found[name] = values
    rest = [name for name in names if name not in found]
    if rest:
        found |= _by_cells(design, rest, found)
    return {name: found[name] for name in names}


def _kept(design: Design, column: Column, whole: bool) -> pd.Series | None:
    if whole or (column.kind == "number" and len(column.values) == design.n):
        return column.series()
    return None


def _plain(design: Design, name: str) -> pd.Series | None:
    """A column of X or of a term that is the column itself."""
    for names, columns in ((design.fixed_names, design.X), *((t.effects, t.Z) for t in design.terms)):
        for label in (name, f"`{name}`"):
            if label in names:
                return pd.Series(np.asarray(columns[:, list(names).index(label)]))
    return None


def _by_cells(design: Design, names: Sequence[str], known: Mapping[str, pd.Series]) -> dict[str, pd.Series]:
    recipe, formula = known_recipe(design), parse_formula(design.formula)
    reference = recipe.reference
    fixed = columns_in([formula.fixed, *formula.offsets], recipe.columns)
    lost = [name for name in names if name not in reference.factors or recipe.columns[name].kind == "number"]
    lost += [name for name in fixed if name not in known and name not in reference.factors]
    if lost or len(reference.cells) > _MOST_CELLS:
        raise _unknown(list(dict.fromkeys(lost)) or list(names))
    codes = np.full((design.n, len(reference.factors)), -1)
    tolerance = _SAME * np.maximum(np.abs(design.X).max(axis=0, initial=0.0), 1e-300)
    for cell in reference.cells:
        levels = zip(reference.factors, reference.levels, cell, strict=True)
        own = {name: _levels(recipe.columns[name], [level[k]] * design.n) for name, level, k in levels}
        X = evaluate_fixed(design, {name: known[name] if name in known else own[name] for name in fixed}, design.n).L
        same = (np.abs(X - design.X) <= tolerance).all(axis=1)
        codes[same & (codes[:, 0] < 0)] = cell
    if (codes < 0).any():
        raise _unknown(list(names))
    places = [reference.factors.index(name) for name in names]
    return {
        name: _levels(recipe.columns[name], [reference.levels[j][k] for k in codes[:, j]])
        for name, j in zip(names, places, strict=True)
    }


def _levels(column: Column, values: list[Any]) -> pd.Series:
    if column.kind != "factor":
        return pd.Series(values)
    position = {level: k for k, level in enumerate(column.levels)}
    codes: AnyArray = np.array([position[value] for value in values], dtype=np.int64)
    return Column("factor", codes, column.levels, column.ordered).series()


def _unknown(names: Sequence[str]) -> DesignError:
    return DesignError(
        f"The values of {', '.join(names)} on the rows are not kept with the model, only what the formula makes of "
        "them. Give the table that the model was made of: data=..."
    )


def _given(design: Design, names: Sequence[str], data: Any) -> dict[str, pd.Series]:
    table, available = open_table(data)
    missing = [name for name in names if name not in available]
    if missing:
        raise DesignError(f"data= has no column {', '.join(missing)}. Give the table that the model was made of.")
    frame = to_pandas(table, list(names))
    if not isinstance(table, pd.DataFrame):
        frame = frame.reset_index(drop=True)
    if len(frame) != design.n:
        own = pd.Index(design.index)
        if frame.index.has_duplicates or not own.isin(frame.index).all():
            raise _other_data(design, len(frame))
        frame = frame.loc[own]
    frame = frame.reset_index(drop=True)
    fixed = columns_in([parse_formula(design.formula).fixed], known_recipe(design).columns)
    if set(fixed) <= set(names) and not frame.isna().to_numpy().any():
        X = new_rows(design, frame, []).X
        if not np.allclose(X, design.X, rtol=1e-6, atol=1e-9 * float(np.abs(design.X).max(initial=0.0))):
            raise _other_data(design, len(frame))
    return {name: frame[name] for name in names}


def _other_data(design: Design, n: int) -> DesignError:
    return DesignError(
        f"data= has {n} rows, and the {design.n} rows of the model are not among them with the same values. Give the "
        "table that the model was made of."
    )
