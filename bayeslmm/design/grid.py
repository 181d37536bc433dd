"""The fixed part of a design at the points of a grid, with what tells whether they can be estimated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bayeslmm.design.design import Design
from bayeslmm.design.estimable import not_estimable_by
from bayeslmm.design.formula import parse_formula
from bayeslmm.design.newdata import known_recipe
from bayeslmm.design.recipe import training_evaluator
from bayeslmm.equality import by_value
from bayeslmm.types import BoolArray, FloatArray


@by_value
@dataclass(frozen=True, eq=False)
class FixedFunctions:
    """Linear functions of the coefficients of the fixed part, those of columns left out of X beside the others.

    Attributes
    ----------
    L : FloatArray, shape (m, p)
        Of the coefficients.
    left_out : FloatArray, shape (m, a)
        Of those of the aliased columns.
    offset : FloatArray, shape (m,)
        Known part.
    """

    L: FloatArray
    left_out: FloatArray
    offset: FloatArray

    def combined(self, C: FloatArray) -> FixedFunctions:
        """Combinations (k, m) of the functions; nan where a function that is nan has a part in one."""
        lost = np.isnan(self.L).any(axis=1)
        if not lost.any():
            return FixedFunctions(C @ self.L, C @ self.left_out, C @ self.offset)
        L, left_out, offset = (np.where(np.isnan(x), 0.0, x) for x in (self.L, self.left_out, self.offset))
        found = FixedFunctions(C @ L, C @ left_out, C @ offset)
        found.L[(C[:, lost] != 0).any(axis=1)] = np.nan
        return found

    def estimable(self, design: Design) -> BoolArray:
        """Which of them (m,) the data of a design say something about."""
        if not self.left_out.size:
            return np.ones(len(self.L), dtype=bool)
        return ~not_estimable_by(design, known_recipe(design).aliased, self.L, self.left_out)

    def excess(self, design: Design) -> FloatArray:
        """What is left (m, a) of the aliased columns where functions cannot be estimated, else rounding."""
        return self.left_out - self.L @ known_recipe(design).aliased


def evaluate_fixed(design: Design, columns: Mapping[str, pd.Series], n: int) -> FixedFunctions:
    """Columns of the fixed part and offsets at some points.

    Parameters
    ----------
    design : Design
    columns : mapping of str to pandas.Series of length n
        All columns that the fixed part and the offsets use, of the kinds and with the levels that the data had.
    n : int

    Raises
    ------
    DesignError
        The formula cannot be evaluated on other rows.

    Examples
    --------
    >>> from bayeslmm.design import build_design
    >>> frame = pd.DataFrame({"y": [1.0, 2.0, 4.0, 3.0], "x": [1.0, 2.0, 3.0, 6.0], "g": ["a", "a", "b", "b"]})
    >>> design = build_design("y ~ scale(x) + (1 | g)", frame)
    >>> evaluate_fixed(design, {"x": pd.Series([3.0])}, 1).L.tolist()
    [[1.0, 0.0]]
    """
    recipe, formula = known_recipe(design), parse_formula(design.formula)
    evaluator = training_evaluator(recipe, formula).on(columns, n)
    values, names = evaluator.columns(formula.fixed)
    known = set(design.fixed_names)
    kept = [j for j, name in enumerate(names) if name in known]
    left_out = [j for j in range(len(names)) if j not in kept] if recipe.aliased.size else []
    offset = np.zeros(n)
    for text in formula.offsets:
        offset = offset + evaluator.vector(text)
    return FixedFunctions(values[:, kept], values[:, left_out], offset)
