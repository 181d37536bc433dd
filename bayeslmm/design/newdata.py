"""New rows through the formula of a design: the means, knots, levels and contrasts are those of its own rows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.design import data as checks
from bayeslmm.design import kinds
from bayeslmm.design.design import Design
from bayeslmm.design.dropped import DroppedRows
from bayeslmm.design.estimable import not_estimable_by
from bayeslmm.design.evaluate import Evaluator
from bayeslmm.design.factors import NO_LEVEL
from bayeslmm.design.formula import Bar, Formula, parse_formula
from bayeslmm.design.groups import group_by, level_name
from bayeslmm.design.lazy import Labels, LabelsByReason
from bayeslmm.design.looks import twins
from bayeslmm.design.new_residuals import level_codes, new_residual, residual_parts_of
from bayeslmm.design.new_weights import weight_columns, weight_values, weights_text
from bayeslmm.design.recipe import Column, Recipe, columns_in, level_positions, training_evaluator
from bayeslmm.design.residual_text import residual_columns
from bayeslmm.design.tables import open_table, to_pandas
from bayeslmm.errors import DesignError
from bayeslmm.residual import KnownVariances, Residual, make_residual
from bayeslmm.types import AnyArray, BoolArray, FloatArray, IntArray

_SHOWN = 8


@dataclass(frozen=True)
class RowLevels:
    """Levels of one grouping factor at some rows.

    Attributes
    ----------
    codes : IntArray, shape (k,)
        Level of each row in the design's `Grouping`; from its n_levels on, those that the design does not have.
    new : tuple of str
        Names of the latter.
    """

    codes: IntArray
    new: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rows:
    """Rows on which a model is asked for a prediction.

    Attributes
    ----------
    index : array or pandas.Index, shape (m,)
        Labels of all rows.
    complete : BoolArray, shape (m,)
        Rows without missing values, k of them.
    skipped : DroppedRows
        The others and why.
    X : FloatArray, shape (k, p)
    offset : FloatArray or None, shape (k,)
    Z : dict of int to FloatArray, each (k, c)
        Columns of the terms of the grouping factors asked for, by position in ``design.terms``.
    levels : dict of str to RowLevels
        By grouping factor.
    residual : Residual or None
        Of observations at the k rows, where these were asked for.
    clusters : IntArray or None, shape (k,)
        Where residuals are correlated, the group of each row in the numbering of the design's residual; from its number
        of groups on, those that the design does not have.
    """

    index: AnyArray | pd.Index
    complete: BoolArray
    skipped: DroppedRows
    X: FloatArray
    offset: FloatArray | None
    Z: dict[int, FloatArray]
    levels: dict[str, RowLevels]
    residual: Residual | None = None
    clusters: IntArray | None = None

    @property
    def n(self) -> int:
        """k, the number of complete rows."""
        return int(self.X.shape[0])

    @property
    def weights(self) -> FloatArray | None:
        """Precision weights (k,), where there are some."""
        return None if self.residual is None else self.residual.weights

    @property
    def observed(self) -> Residual:
        """The residuals of observations at these rows.

        Raises
        ------
        DesignError
            Observations were not asked for when the rows were evaluated.
        """
        if self.residual is None:
            raise DesignError(
                f"The {self.n} rows were evaluated for predictions of means, so that the residual variances of "
                "observations there are not known. Evaluate them with weighted=True."
            )
        return self.residual

    def part(self, chosen: slice | IntArray) -> Rows:
        """Some of the complete rows."""
        return replace(
            self,
            X=self.X[chosen],
            offset=None if self.offset is None else self.offset[chosen],
            Z={k: z[chosen] for k, z in self.Z.items()},
            levels={name: replace(own, codes=own.codes[chosen]) for name, own in self.levels.items()},
            residual=None if self.residual is None else self.residual.part(chosen),
            clusters=None if self.clusters is None else self.clusters[chosen],
        )

    def without(self, unwanted: BoolArray) -> Rows:
        """The rows with some of the complete ones, (k,), treated like those with missing values."""
        complete = self.complete.copy()
        complete[np.flatnonzero(complete)[unwanted]] = False
        return replace(self.part(np.flatnonzero(~unwanted)), complete=complete)

    def filled(self, values: FloatArray) -> FloatArray:
        """Values at the complete rows, (k, ...), as values at all rows, (m, ...), nan in the others."""
        if self.complete.all():
            return values
        out = np.full((self.complete.size, *values.shape[1:]), np.nan)
        out[self.complete] = values
        return out

    def without_fixed(self) -> Rows:
        """The rows with nothing that fixed effects and offset add."""
        return replace(self, X=np.zeros_like(self.X), offset=None)


def own_rows(design: Design, groups: Sequence[str]) -> Rows:
    """The rows of the design itself.

    Parameters
    ----------
    design : Design
    groups : sequence of str
        Grouping factors that the predictions use.
    """
    every = design.all_rows
    return Rows(
        design.index if every is None else every.index,
        np.ones(design.n, dtype=bool) if every is None else every.mask,
        DroppedRows(),
        design.X,
        design.offset,
        {k: term.Z for k, term in enumerate(design.terms) if term.group in groups},
        {name: RowLevels(design.groupings[name].codes) for name in groups},
        design.residual,
    )


def new_rows(
    design: Design,
    newdata: Any,
    groups: Sequence[str],
    *,
    weights: Any = None,
    weighted: bool = False,
    fixed: bool = True,
    zero_levels: bool = False,
) -> Rows:
    """Evaluate the formula of a design on other rows.

    Parameters
    ----------
    design : Design
    newdata : pandas, polars or pyarrow table
        The response is not needed, nor are columns that only other grouping factors use.
    groups : sequence of str
        Grouping factors that the predictions use.
    weights : str or array, optional
        Precision weights (or known residual standard deviations, in a model that has these) of the new rows; by
        default the expression that the model was given.
    weighted : bool
        Whether weights are needed.
    fixed : bool
        Whether fixed effects and offset are part of the predictions; else X is zero and needs no columns.
    zero_levels : bool
        Whether a level of a fixed factor that the data did not have gets zeros in its columns.

    Returns
    -------
    Rows

    Raises
    ------
    DesignError
        A missing column, a level of a fixed factor that the data did not have, a column of another kind, a design
        that does not know where it came from.

    Examples
    --------
    >>> from bayeslmm.design import build_design
    >>> frame = pd.DataFrame({"y": [1.0, 2.0, 4.0, 3.0], "x": [1.0, 2.0, 3.0, 6.0], "g": ["a", "a", "b", "b"]})
    >>> design = build_design("y ~ scale(x) + (1 | g)", frame)
    >>> rows = new_rows(design, pd.DataFrame({"x": [3.0, 3.0], "g": ["b", "z"]}), ["g"])
    >>> rows.X.tolist(), rows.levels["g"].codes.tolist(), rows.levels["g"].new
    ([[1.0, 0.0], [1.0, 0.0]], [1, 2], ('z',))
    """
    recipe = known_recipe(design)
    formula = parse_formula(design.formula)
    formula = formula if fixed else replace(formula, fixed="", offsets=())
    bars = [bar for bar in formula.bars if bar.group in groups]
    table, available = open_table(newdata)
    parts = residual_parts_of(design) if weighted else ()
    needed = list(dict.fromkeys([*_needed(formula, bars, recipe), *residual_columns(parts, available)]))
    known = isinstance(design.residual, KnownVariances)
    text = weights_text(recipe, weights, known) if weighted else None
    weight_names = [] if text is None else weight_columns(text, available, recipe)
    _check_columns([*needed, *weight_names], available, formula)
    frame = to_pandas(table, list(dict.fromkeys([*needed, *weight_names])))
    index = frame.index if isinstance(table, pd.DataFrame) else pd.RangeIndex(len(frame))
    asked = weights if text is None else text
    given = weight_values(asked, frame, weight_names, recipe, known) if weighted else None
    complete, skipped = _complete(frame, needed, given, index, "residual_sd" if known else "weights")
    columns = {name: frame[name][complete].reset_index(drop=True) for name in needed}
    checks.check_finite_columns(columns)
    rows = _evaluated(design, recipe, formula, columns, int(complete.sum()), index[complete], bars, zero_levels)
    rows = replace(rows, index=index, complete=complete, skipped=skipped)
    if not weighted:
        return rows
    own = None if given is None else given[complete]
    if parts:
        residual, clusters = new_residual(design, parts, columns, own, rows.n)
        return replace(rows, residual=residual, clusters=clusters)
    return replace(rows, residual=KnownVariances(own) if known and own is not None else make_residual(rows.n, own))


def known_recipe(design: Design) -> Recipe:
    """How the columns of a design are made.

    Raises
    ------
    DesignError
        It does not know, or not all of it.
    """
    if design.recipe is None:
        raise DesignError(
            "This design does not know how its columns were made, so it cannot be evaluated on new rows: it was put "
            "together by hand, or read from a file of an earlier version. Make the model again from formula and data."
        )
    if design.recipe.lost:
        names = ", ".join(map(repr, design.recipe.lost))
        raise DesignError(
            f"The formula uses {names} from extra_namespace, which could not be written to the file, or pickled for "
            "the process, that this model comes from (files hold no functions, and pickle only those that can be "
            "imported by name; cloudpickle sends all). Make the model again from formula and data to predict new rows."
        )
    return design.recipe


def _needed(formula: Formula, bars: Sequence[Bar], recipe: Recipe) -> list[str]:
    pieces = [formula.fixed, *formula.offsets, *(bar.left for bar in bars)]
    names = columns_in(pieces, recipe.columns)
    return list(dict.fromkeys([*names, *(factor for bar in bars for factor in bar.factors)]))


def _check_columns(names: Sequence[str], available: Sequence[str], formula: Formula) -> None:
    missing = [name for name in dict.fromkeys(names) if name not in available]
    for name in names:
        if available.count(name) > 1:
            raise DesignError(f"The new data have {available.count(name)} columns {name!r}. Rename or drop the others.")
    if not missing:
        return
    shown = ", ".join(map(str, available[:20])) + (", ..." if len(available) > 20 else "")
    groups = [bar.group for bar in formula.bars if set(bar.factors) & set(missing)]
    hint = ""
    if groups and all(any(name in bar.factors for bar in formula.bars) for name in missing):
        hint = " Without it there are predictions for the typical group: random=None."
    raise DesignError(
        f"The new data have no column {', '.join(map(repr, missing))}, which {formula.text!r} needs. Columns are: "
        f"{shown}.{hint}"
    )


def _complete(
    frame: pd.DataFrame, names: Sequence[str], weights: FloatArray | None, index: pd.Index, what: str
) -> tuple[BoolArray, DroppedRows]:
    masks = {f"missing {name}": m for name in names if (m := checks.missing_values(frame[name])) is not None}
    if weights is not None:
        masks[f"missing {what}"] = np.isnan(weights)
    masks = {reason: mask for reason, mask in masks.items() if mask.any()}
    keep = np.ones(len(frame), dtype=bool)
    for mask in masks.values():
        keep &= ~mask
    if not masks:
        return keep, DroppedRows()
    reasons = {reason: Labels(index[mask]) for reason, mask in masks.items()}
    return keep, DroppedRows(Labels(index[~keep]), LabelsByReason(reasons))


def _evaluated(
    design: Design,
    recipe: Recipe,
    formula: Formula,
    columns: Mapping[str, pd.Series],
    n: int,
    index: pd.Index,
    bars: Sequence[Bar],
    zero_levels: bool,
) -> Rows:
    if n == 0:
        return _no_rows(design, bars)
    used = [name for name in columns if name in recipe.columns]
    alike = {name: _alike(name, recipe.columns[name], columns[name], zero_levels) for name in used}
    evaluator = training_evaluator(recipe, parse_formula(design.formula)).on(alike, n, zero_levels=zero_levels)
    X = _fixed(design, recipe, evaluator, formula, index) if formula.fixed else np.zeros((n, design.p))
    offset = None
    for text in formula.offsets:
        values = np.broadcast_to(evaluator.vector(text), (n,))
        checks.check_finite_result(f"offset({text})", values, index)
        offset = values if offset is None else offset + values
    Z = {k: _term(evaluator, bar, design.terms[k].effects, index) for k, bar in enumerate(formula.bars) if bar in bars}
    levels = {bar.group: _levels(design, bar, columns) for bar in bars}
    return Rows(index, np.ones(n, dtype=bool), DroppedRows(), X, offset, Z, levels)


def _no_rows(design: Design, bars: Sequence[Bar]) -> Rows:
    Z = {k: np.empty((0, len(t.effects))) for k, t in enumerate(design.terms) if t.group in {b.group for b in bars}}
    levels = {bar.group: RowLevels(np.empty(0, dtype=np.int64)) for bar in bars}
    none = np.empty(0, dtype=bool)
    return Rows(none, none, DroppedRows(), np.empty((0, design.p)), None, Z, levels)


def _fixed(design: Design, recipe: Recipe, evaluator: Evaluator, formula: Formula, index: pd.Index) -> FloatArray:
    values, names = evaluator.columns(formula.fixed)
    for name, column in zip(names, values.T, strict=True):
        checks.check_finite_result(f"The fixed-effects column {name}", column, index)
    kept = [j for j, name in enumerate(names) if name in design.fixed_names]
    X = values[:, kept]
    if recipe.aliased.size:
        left_out = values[:, [j for j in range(len(names)) if j not in kept]]
        bad = not_estimable_by(design, recipe.aliased, X, left_out)
        if bad.any():
            raise DesignError(
                f"The fixed effects cannot predict {int(bad.sum())} row(s) ({checks.row_names(index, bad)}): the data "
                "of the model had no information on a combination that they need "
                f"({', '.join(design.aliased[:_SHOWN])} was left out of it because other columns spanned it; in these "
                "rows they do not). Leave these rows out, or use a model without these columns."
            )
    return np.asarray(X)


def _term(evaluator: Evaluator, bar: Bar, effects: tuple[str, ...], index: pd.Index) -> FloatArray:
    Z, names = evaluator.columns(bar.left)
    if names != effects:
        raise DesignError(
            f"{bar.label} has the columns {', '.join(names)} on new rows, but {', '.join(effects)} before."
        )
    for name, column in zip(names, Z.T, strict=True):
        checks.check_finite_result(f"The column {name} of {bar.label}", column, index)
    return Z


def _levels(design: Design, bar: Bar, columns: Mapping[str, pd.Series]) -> RowLevels:
    return RowLevels(*level_codes(group_by(columns, bar.factors), design.groupings[bar.group].levels))


def _alike(name: str, column: Column, series: pd.Series, zero_levels: bool) -> pd.Series:
    """A column of the new data as one of the kind that the model was made from."""
    dtype = series.dtype
    numeric = pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype)
    if column.kind == "number":
        if not pd.api.types.is_numeric_dtype(dtype):
            raise _other_kind(name, "numbers", series)
        return series.astype(float)
    if column.kind == "boolean":
        values = series.to_numpy(dtype=object)
        if not all(value in (0, 1) for value in values):
            raise _other_kind(name, "true and false", series)
        return series.astype(bool)
    if column.kind == "time":
        times = None if numeric or isinstance(dtype, pd.CategoricalDtype) else _as_times(column, series)
        if times is None:
            raise _other_kind(name, "dates or durations", series)
        return times
    return _known_levels(name, column, series, zero_levels)


def _as_times(column: Column, series: pd.Series) -> pd.Series | None:
    """Times of the new data as those of the model's data are kept, also from ISO text; None if they are none."""
    known = column.values
    try:
        if known.dtype.kind == "m":
            return pd.to_timedelta(series)
        if known.dtype.kind == "M" or isinstance(known[0], dt.date):
            text = kinds.time_kind(series) is None
            moments = pd.to_datetime(series, format="ISO8601") if text else pd.to_datetime(series)
            days = known.dtype == object and not isinstance(known[0], dt.datetime)
            return moments.dt.date.astype(object) if days else moments
    except (TypeError, ValueError):
        return None
    return series if kinds.time_kind(series) is not None else None


def _other_kind(name: str, kind: str, series: pd.Series) -> DesignError:
    return DesignError(
        f"Column {name!r} held {kind} in the data that the model was made from; in the new data it is of type "
        f"{series.dtype} with values such as {series.iloc[0]!r}. Convert it to what it was."
    )


def _known_levels(name: str, column: Column, series: pd.Series, zero_levels: bool) -> pd.Series:
    codes, values = pd.factorize(series)
    position = level_positions(column.levels)
    names = [level_name(value) for value in values]
    unknown = [level for level in names if level not in position]
    if unknown and not zero_levels:
        shown = ", ".join(map(repr, unknown[:_SHOWN])) + (", ..." if len(unknown) > _SHOWN else "")
        known = list(position)
        raise DesignError(
            f"Column {name!r} has {len(unknown)} level(s) that the data of the model did not have: {shown}."
            f"{twins(unknown, known)} The effect of a fixed factor is known for its own levels only: "
            f"{', '.join(known[:20])}{', ...' if len(known) > 20 else ''}. "
            "Leave these rows out, give them zeros in the columns of the factor (new_fixed_levels='zero'), or make it "
            "a grouping factor (1 | ...), which can predict new levels."
        )
    place = np.array([position.get(level, NO_LEVEL) for level in names], dtype=np.int64)
    return Column("factor", place[codes], column.levels, column.ordered).series()
