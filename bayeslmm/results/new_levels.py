"""Levels of grouping factors in new rows that the data of a model did not have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.design.design import Design
from bayeslmm.design.formula import parse_formula
from bayeslmm.design.looks import twins
from bayeslmm.design.newdata import RowLevels, Rows
from bayeslmm.design.tables import open_table, to_pandas
from bayeslmm.errors import DesignError
from bayeslmm.types import BoolArray

# Levels in a message.
_SHOWN = 8


def at_new_levels(design: Design, rows: Rows) -> BoolArray:
    """Which of the complete rows (k,) have a level that the data did not have."""
    new = [levels.codes >= design.groupings[name].n_levels for name, levels in rows.levels.items()]
    return np.asarray(np.logical_or.reduce([np.zeros(rows.n, dtype=bool), *new]))


def with_groups(design: Design, newdata: Any) -> Any:
    """The new data; where they have no column of a grouping factor, each row is one of a group of its own."""
    bars = parse_formula(design.formula).bars
    table, available = open_table(newdata)
    missing = [name for name in dict.fromkeys(f for bar in bars for f in bar.factors) if name not in available]
    used = {name for name in missing if design.recipe is not None and name not in design.recipe.columns}
    if not used:
        return newdata
    frame = to_pandas(table, available)
    index = frame.index if isinstance(table, pd.DataFrame) else pd.RangeIndex(len(frame))
    return frame.assign(**{name: pd.Series([f"new {i}" for i in range(len(frame))], index) for name in used})


def all_new(design: Design, name: str, levels: RowLevels) -> RowLevels:
    """Every level taken for one that the data did not have, whatever its name."""
    known = design.groupings[name]
    return RowLevels(levels.codes + known.n_levels, (*known.levels, *levels.new))


def refuse_new_levels(design: Design, rows: Rows) -> None:
    """Refuse levels of grouping factors that the data of the model did not have."""
    for name, levels in rows.levels.items():
        if levels.new:
            shown = ", ".join(map(repr, levels.new[:_SHOWN])) + (", ..." if len(levels.new) > _SHOWN else "")
            alike = twins(levels.new, design.groupings[name].levels)
            raise DesignError(
                f"{name} has {len(levels.new)} level(s) that the data of the model did not have: {shown}.{alike} Say "
                "what they stand for: new_levels='sample' for groups drawn from the same population, its variance in "
                "the interval; new_levels='zero' for the typical group; new_levels='missing' for nan."
            )
