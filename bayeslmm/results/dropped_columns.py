"""Columns that were left out of the fixed part because others span them, shown where the formula has them."""

from __future__ import annotations

import pandas as pd

from bayeslmm.arguments import flag
from bayeslmm.design.design import Design
from bayeslmm.design.formula import parse_formula
from bayeslmm.design.recipe import training_evaluator
from bayeslmm.errors import DesignError


def with_dropped[Table: (pd.Series, pd.DataFrame)](design: Design, table: Table, dropped: bool) -> Table:
    """A table by coefficient with rows of nan for columns left out, in the order of the formula, if they are asked for.

    Parameters
    ----------
    design : Design
    table : pandas.Series or DataFrame
        Indexed by ``design.fixed_names``.
    dropped : bool
    """
    if not flag("dropped", dropped, DesignError) or not design.aliased:
        return table
    return table.reindex(pd.Index(_in_order(design), dtype=str))


def _in_order(design: Design) -> list[str]:
    """All columns of the fixed part; those left out come last in a design that does not know its formula's columns."""
    either = [*design.fixed_names, *design.aliased]
    if design.recipe is None or design.recipe.lost:
        return either
    formula = parse_formula(design.formula)
    names = list(training_evaluator(design.recipe, formula).columns(formula.fixed)[1])
    return names if sorted(names) == sorted(either) else either
