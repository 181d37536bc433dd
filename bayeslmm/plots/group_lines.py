"""Lines through the data of single groups: each group alone, the population, predictions, posteriors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.bayes.predictive import Request, predictive_draws
from bayeslmm.design.design import Design
from bayeslmm.design.formula import parse_formula
from bayeslmm.design.newdata import RowLevels, Rows, known_recipe, new_rows
from bayeslmm.design.recipe import Column
from bayeslmm.faces import Posterior, REMLResult
from bayeslmm.residual import NO_PARAMETERS
from bayeslmm.types import FloatArray, IntArray

# Points of a line: also where it bends.
_POINTS = 61
# Part of a row of the design outside what the rows of a group span, beyond which its line is not determined.
_OUTSIDE = 1e-7


@dataclass(frozen=True)
class GroupRows:
    """Some levels of a grouping factor: their rows, and rows of the design along x for their lines.

    Attributes
    ----------
    design : Design
    group : str
    levels : IntArray, shape (K,)
        Codes.
    x : FloatArray, shape (n,)
        On the rows of the design.
    grid : FloatArray, shape (G,)
    rows : Rows
        K * G of them, level by level.
    """

    design: Design
    group: str
    levels: IntArray
    x: FloatArray
    grid: FloatArray
    rows: Rows

    def own(self, k: int) -> IntArray:
        """Rows of the design in a level."""
        return np.flatnonzero(self.design.groupings[self.group].codes == self.levels[k])

    @property
    def effects(self) -> FloatArray:
        """Columns (K * G, c) of the effects of the factor."""
        return np.concatenate([Z for _, Z in sorted(self.rows.Z.items())], axis=1)

    def lines(self, values: FloatArray) -> FloatArray:
        """Values at the rows as (K, G)."""
        return values.reshape(len(self.levels), len(self.grid))

    @property
    def offset(self) -> FloatArray:
        return np.zeros(self.rows.n) if self.rows.offset is None else self.rows.offset


def group_rows(design: Design, group: str, levels: IntArray, columns: Mapping[str, pd.Series], x: str) -> GroupRows:
    """Rows along a column, others at the means (of factors at the most frequent level) of every group.

    Parameters
    ----------
    design : Design
    group : str
    levels : IntArray, shape (K,)
    columns : mapping of str to pandas.Series of length n
        All that the fixed part and the effects of the factor use.
    x : str
    """
    codes, known = design.groupings[group].codes, known_recipe(design).columns
    own = columns[x].to_numpy(dtype=float)
    grid = np.linspace(own.min(), own.max(), _POINTS)
    distinct = np.unique(own)
    grid = np.union1d(grid, distinct) if len(distinct) <= _POINTS else grid
    places = [np.flatnonzero(codes == level) for level in levels]
    frame = pd.DataFrame(index=pd.RangeIndex(len(levels) * len(grid)))
    for name, column in columns.items():
        centres = [_centre(known[name], column.iloc[rows], design.counts[rows]) for rows in places]
        frame[name] = np.tile(grid, len(levels)) if name == x else _repeated(column, centres, len(grid))
    labels = [design.groupings[group].levels[level] for level in levels]
    for bar in parse_formula(design.formula).bars:
        for factor in bar.factors if bar.group == group else ():
            if factor not in frame:
                # Which level it is is said by its code below.
                frame[factor] = np.repeat(labels, len(grid))
    rows = new_rows(design, frame, [group])
    return GroupRows(
        design, group, levels, own, grid, replace(rows, levels={group: RowLevels(np.repeat(levels, len(grid)))})
    )


def _centre(column: Column, values: pd.Series, counts: FloatArray) -> Any:
    if column.kind == "number":
        return float(np.average(values.to_numpy(dtype=float), weights=counts))
    totals = pd.Series(counts, index=values.index).groupby(values, observed=True).sum()
    return totals.idxmax()


def _repeated(column: pd.Series, values: list[Any], times: int) -> Any:
    repeated = [value for value in values for _ in range(times)]
    if isinstance(column.dtype, pd.CategoricalDtype):
        return pd.Categorical(repeated, dtype=column.dtype)
    return repeated


def population_line(fit: REMLResult, at: GroupRows) -> FloatArray:
    """Fixed effects alone (K, G)."""
    return at.lines(at.rows.X @ fit.fixef().to_numpy() + at.offset)


def predicted_line(fit: REMLResult, at: GroupRows) -> FloatArray:
    """Fixed effects and the predictions of the group (K, G)."""
    b = fit.ranef()[at.group].to_numpy(dtype=float)[at.levels]
    return population_line(fit, at) + at.lines((at.effects * np.repeat(b, len(at.grid), axis=0)).sum(axis=1))


def posterior_lines(post: Posterior, at: GroupRows, level: float, *, effects: bool = True) -> FloatArray:
    """Posterior mean and the ends of the equal-tailed interval of the mean of the group (3, K, G)."""
    out = np.empty((3, at.rows.n))
    posterior = post.data["posterior"].to_dataset()
    request = Request((at.group,) if effects else ())
    for part, mean, _ in predictive_draws(post.design, posterior, at.rows, request, np.random.default_rng(1)):
        out[0, part] = mean.mean(axis=0)
        out[1:, part] = np.quantile(mean, [0.5 - level / 2, 0.5 + level / 2], axis=0)
    return np.stack([at.lines(values) for values in out])


def separate_lines(at: GroupRows, lam: FloatArray = NO_PARAMETERS) -> FloatArray:
    """Least squares on the rows of each group alone (K, G), from the least to the largest x of it; nan elsewhere.

    Regressors are the columns of the fixed part and of the group's effects; weights and correlations those of the
    residual structure at its parameters lam (k,).
    """
    design = at.design
    Z = np.concatenate([term.Z for term in design.terms if term.group == at.group], axis=1)
    y = design.y_less_offset
    columns = np.column_stack([design.X, Z])
    size = np.sqrt((columns**2).mean(axis=0))
    size[size == 0] = 1.0
    white = design.whitened(np.column_stack([columns / size, y]), lam, within=design.groupings[at.group])
    targets = (np.column_stack([at.rows.X, at.effects]) / size).reshape(len(at.levels), len(at.grid), -1)
    lines = np.full(targets.shape[:2], np.nan)
    for k, target in enumerate(targets):
        own = at.own(k)
        lines[k] = _line(white[own, :-1], white[own, -1], target)
        lines[k, (at.grid < at.x[own].min()) | (at.grid > at.x[own].max())] = np.nan
    # A single point is no line.
    lines[np.isfinite(lines).sum(axis=1) < 2] = np.nan
    return lines + at.lines(at.offset)


def _line(A: FloatArray, y: FloatArray, target: FloatArray) -> FloatArray:
    """Least squares at some rows; nan where the rows of A say nothing about them."""
    U, d, Vt = np.linalg.svd(A, full_matrices=False)
    kept = d > 1e-10 * d.max(initial=0.0)
    V = Vt[kept].T
    outside = np.abs(target - (target @ V) @ V.T).max(axis=1) > _OUTSIDE * np.abs(target).max(axis=1)
    found = target @ (V @ ((U[:, kept].T @ y) / d[kept]))
    return np.where(outside, np.nan, found)
